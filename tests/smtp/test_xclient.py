"""Tests of twisted_mail_node.smtp.xclient."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.smtp.extensions import Offers, ehlo_lines
from twisted_mail_node.smtp.grammar import GrammarError
from twisted_mail_node.smtp.xclient import ATTRIBUTES, UNKNOWN, Presented, parse_xclient


class XClientTests(SynchronousTestCase):
    """The argument of XCLIENT."""

    def test_whole(self) -> None:
        """Every attribute, in any case and order; names of attributes and what stands for nothing likewise."""
        text = (
            "NAME=spike.example.org addr=192.0.2.9 PORT=40000 Proto=esmtp HELO=spike DESTADDR=IPV6:2001:db8::1 "
            "DESTPORT=25 LOGIN=[UNAVAILABLE]"
        )
        self.assertEqual(parse_xclient(text), Presented("192.0.2.9", "spike", True))
        self.assertEqual(parse_xclient("PROTO=SMTP"), Presented(None, "", False))
        self.assertEqual(parse_xclient("NAME=[TEMPUNAVAIL] HELO=[unavailable] PORT=[UNAVAILABLE]"), Presented())

    def test_address(self) -> None:
        """IPv4, IPv6 behind its mark, IPv4-mapped as IPv4, unknown."""
        for text, client in {
            "192.0.2.9": "192.0.2.9",
            "IPV6:2001:DB8::9": "2001:db8::9",
            "ipv6:::ffff:192.0.2.9": "192.0.2.9",
            "[UNAVAILABLE]": UNKNOWN,
            "[tempunavail]": UNKNOWN,
        }.items():
            self.assertEqual(parse_xclient(f"ADDR={text}").client, client)

    def test_xtext(self) -> None:
        """Values are xtext: a plus sign and two digits for what else could not stand there."""
        self.assertEqual(parse_xclient("HELO=a+2Bb+3Dc").helo, "a+b=c")
        self.assertEqual(parse_xclient("HELO=+5Bx+5D").helo, "[x]")

    def test_wrong(self) -> None:
        """A sentence for each thing that is wrong."""
        for text, words in {
            "": "needs an attribute",
            "   ": "needs an attribute",
            "ADDR": "write XCLIENT",
            "COLOUR=red": "known are NAME, ADDR",
            "=x": "write XCLIENT",
            "ADDR=": "1 to 255",
            "ADDR=192.0.2.9 addr=192.0.2.8": "ADDR twice",
            "ADDR=[192.0.2.9]": "without brackets",
            "ADDR=192.0.2": "ADDR is",
            "ADDR=2001:db8::1": "ADDR is",
            "ADDR=IPV6:192.0.2.9": "ADDR is",
            "ADDR=IPV6:fe80::1%25eth0": "ADDR is",
            "ADDR=IPV6:fe80::1%eth0": "ADDR is",
            "DESTADDR=x": "DESTADDR is",
            "PORT=70000": "PORT is",
            "PORT=-1": "PORT is",
            "DESTPORT=smtp": "DESTPORT is",
            "PROTO=LMTP": "PROTO is",
            "NAME=a+20b": "NAME is",
            "NAME=[192.0.2.9]": "NAME is",
            "HELO=a+20b": "say who you are",
            "HELO=a+0D+0AMAIL": "control character",
            "HELO=a+00": "control character",
            "HELO=a+zz": "not xtext",
            "HELO=" + "x" * 256: "1 to 255",
            "LOGIN=joe@example.org": "LOGIN is not taken here",
        }.items():
            with self.subTest(text=text):
                self.assertRaisesRegex(GrammarError, words, parse_xclient, text)

    def test_announced(self) -> None:
        """EHLO announces what is taken."""
        (line,) = [line for line in ehlo_lines(message_size=0, recipients=1, offers=Offers(xclient=True))
                   if line.startswith("XCLIENT")]  # fmt: skip
        self.assertEqual(line, "XCLIENT " + " ".join(ATTRIBUTES))

    @given(st.text(alphabet="ADRHELOPTN=[]+0123456789:. \x00\r\néx"))
    def test_any(self, text: str) -> None:
        """Whatever is said: values, or GrammarError."""
        try:
            said = parse_xclient(text)
        except GrammarError as error:
            self.assertTrue(str(error))
        else:
            self.assertTrue(all(character.isprintable() for character in said.helo + (said.client or "")))
