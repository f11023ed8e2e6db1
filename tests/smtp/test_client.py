"""Tests of twisted_mail_node.smtp.client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Recipient
from twisted_mail_node.smtp import client
from twisted_mail_node.smtp.client import Offered, parse_ehlo
from twisted_mail_node.smtp.extensions import (
    By,
    MailParameters,
    Offers,
    RcptParameters,
    mail_parameters,
    rcpt_parameters,
)
from twisted_mail_node.smtp.grammar import parse_path
from twisted_mail_node.smtp.reply import Reply

JOE = Address("joe", "example.org")


def offered(*lines: str) -> Offered:
    return parse_ehlo(Reply(250, "", ("mx.example.net", *lines)))


def to(address: Address, **fields: Any) -> Recipient:
    return Recipient(address, address, **fields)


class ParseEhloTests(SynchronousTestCase):
    def test_all(self) -> None:
        """Every extension we know is read, with its parameters, in any case."""
        found = offered(
            "PIPELINING", "size 1000", "8bitmime", "SMTPUTF8", "CHUNKING", "BINARYMIME", "DSN", "ENHANCEDSTATUSCODES",
            "LIMITS MAILMAX=5 rcptmax=20 OTHER=x", "STARTTLS", "AUTH PLAIN login", "X-NEW one two",
        )  # fmt: skip
        self.assertEqual(found[:9], (True, 1000, True, True, True, True, True, True, True))
        self.assertEqual((found.mail_max, found.rcpt_max), (5, 20))
        self.assertEqual(found.auth, ("PLAIN", "LOGIN"))
        self.assertEqual(found.keywords["X-NEW"], ("one", "two"))

    def test_sending_options(self) -> None:
        """REQUIRETLS, MT-PRIORITY with or without a profile, DELIVERBY with or without its least time."""
        found = offered("requiretls", "MT-PRIORITY MIXER", "DELIVERBY 240")
        self.assertEqual((found.require_tls, found.priorities, found.deliver_by), (True, True, 240))
        self.assertEqual((offered().require_tls, offered().priorities, offered().deliver_by), (False, False, None))
        for line in ("DELIVERBY", "DELIVERBY x", "DELIVERBY -5", "DELIVERBY " + "9" * 21):
            self.assertEqual(offered(line).deliver_by, 0)

    def test_nothing(self) -> None:
        """The first line is the host's name, whatever it says; blank lines do no harm."""
        self.assertEqual(parse_ehlo(Reply(250, "", ("PIPELINING", "", " "))), Offered())

    def test_size(self) -> None:
        """SIZE without a number, or with nonsense, bounds nothing; without SIZE it is None."""
        self.assertEqual([offered("SIZE").size, offered("SIZE 0").size, offered("SIZE -1").size], [0, 0, 0])
        self.assertEqual([offered("SIZE " + "9" * 400).size, offered("SIZE ٣").size, offered().size], [0, 0, None])

    def test_limits_nonsense(self) -> None:
        """Limits that are no numbers bound nothing."""
        found = offered("LIMITS MAILMAX=x RCPTMAX= MAILMAX RCPTMAX=-1")
        self.assertEqual((found.mail_max, found.rcpt_max), (0, 0))

    def test_binary_needs_chunking(self) -> None:
        """BINARYMIME without CHUNKING is of no use."""
        self.assertFalse(offered("BINARYMIME").binary)

    def test_old_auth(self) -> None:
        """AUTH= of old servers is AUTH."""
        self.assertEqual(offered("AUTH=PLAIN LOGIN").auth, ("PLAIN", "LOGIN"))

    @given(st.lists(st.text(max_size=30)))
    def test_anything(self, lines: list[str]) -> None:
        """No line of an EHLO reply raises anything."""
        self.assertIsInstance(offered(*lines), Offered)


class CommandTests(SynchronousTestCase):
    def test_plain(self) -> None:
        """Commands without parameters."""
        self.assertEqual(client.ehlo("mx.example.org"), b"EHLO mx.example.org\r\n")
        self.assertEqual(client.ehlo("[IPv6:2001:db8::1]", "HELO"), b"HELO [IPv6:2001:db8::1]\r\n")
        self.assertEqual(client.mail(None), b"MAIL FROM:<>\r\n")
        self.assertEqual(client.mail(JOE), b"MAIL FROM:<joe@example.org>\r\n")
        self.assertEqual(client.rcpt(to(JOE)), b"RCPT TO:<joe@example.org>\r\n")
        self.assertEqual(client.rcpt(to(Address("postmaster", ""))), b"RCPT TO:<postmaster>\r\n")
        self.assertEqual(client.bdat(12), b"BDAT 12 LAST\r\n")
        self.assertEqual(client.bdat(0, False), b"BDAT 0\r\n")

    def test_mail_parameters(self) -> None:
        """SIZE, BODY, SMTPUTF8, RET and ENVID; ENVID as xtext."""
        command = client.mail(JOE, size=10, body="8BITMIME", smtputf8=True, ret="HDRS", envid="a+b=c d")
        self.assertEqual(
            command,
            b"MAIL FROM:<joe@example.org> SIZE=10 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+2Bb+3Dc+20d\r\n",
        )
        _, parameters = parse_path(command.decode().strip()[5:], "MAIL")
        self.assertEqual(mail_parameters(parameters), MailParameters(10, "8BITMIME", True, "HDRS", "a+b=c d"))

    def test_sending_options(self) -> None:
        """REQUIRETLS, BY and MT-PRIORITY, as our own server reads them."""
        command = client.mail(JOE, require_tls=True, by=By(120, "R", True), priority=-3)
        self.assertEqual(command, b"MAIL FROM:<joe@example.org> REQUIRETLS BY=120;RT MT-PRIORITY=-3\r\n")
        _, parameters = parse_path(command.decode().strip()[5:], "MAIL")
        found = mail_parameters(parameters, Offers(require_tls=True, deliver_by=True, priorities=True))
        self.assertEqual((found.require_tls, found.by, found.priority), (True, By(120, "R", True), -3))
        self.assertEqual(client.mail(None, by=By(-5, "N")), b"MAIL FROM:<> BY=-5;N\r\n")

    def test_unsafe_sending_options(self) -> None:
        """BY with R needs time, no number is longer than nine digits, a priority is from -9 to 9."""
        mode: Any = "R\r\n"
        for by in (By(0, "R"), By(-1, "R"), By(10**9, "N"), By(-(10**9), "N"), By(5, mode), By(5, "")):
            self.assertRaises(ValueError, client.mail, JOE, by=by)
        for priority in (-10, 10):
            self.assertRaises(ValueError, client.mail, JOE, priority=priority)

    def test_rcpt_parameters(self) -> None:
        """NOTIFY and ORCPT only when DSN is offered."""
        recipient = to(JOE, notify=("SUCCESS", "DELAY"), orcpt="rfc822;a+b@example.org")
        self.assertEqual(client.rcpt(recipient), b"RCPT TO:<joe@example.org>\r\n")
        command = client.rcpt(recipient, dsn=True)
        self.assertEqual(command, b"RCPT TO:<joe@example.org> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2Bb@example.org\r\n")
        _, parameters = parse_path(command.decode().strip()[5:], "RCPT")
        wanted = RcptParameters(("SUCCESS", "DELAY"), "rfc822;a+b@example.org")
        self.assertEqual(rcpt_parameters(parameters), wanted)

    def test_orcpt_utf8(self) -> None:
        """An original recipient outside ASCII stands as UTF-8 where SMTPUTF8 is used, else as \\x{…}."""
        self.assertEqual(client.orcpt("utf-8;jö=e@example.org", True), "utf-8;jö\\x{3D}e@example.org")
        self.assertEqual(client.orcpt("utf-8;jö=e@example.org", False), "utf-8;j\\x{F6}\\x{3D}e@example.org")
        self.assertEqual(client.orcpt("rfc822;jö@example.org", False), "utf-8;j\\x{F6}@example.org")

    def test_unsafe_addresses(self) -> None:
        """CR, LF, NUL, space, angle brackets and other controls in an address are an error before any octet."""
        for evil in "\r\n\0 <>\t\x1b\x7f\x85\u2028":
            for address in (
                Address(f"jo{evil}e", "example.org"),
                Address("joe", f"example{evil}org"),
                Address("joe", f"example.org{evil}"),
            ):
                self.assertRaises(ValueError, client.mail, address, smtputf8=True)
                self.assertRaises(ValueError, client.rcpt, to(address), smtputf8=True)

    def test_unsafe_names(self) -> None:
        """What is no host name is not said in EHLO."""
        for name in ("", "mx\r\nMAIL", "mx example", "mx\0", "mx>", "mx\n", "é.example", "x" * 300):
            self.assertRaises(ValueError, client.ehlo, name)

    def test_unsafe_parameters(self) -> None:
        """Nor does a parameter with a control character, or one of our own that is no word, get out."""
        evil: Any = "HDRS\r\nRSET"
        for fields in ({"ret": evil}, {"body": evil}, {"envid": evil}, {"envid": "a\0"}):
            self.assertRaises(ValueError, client.mail, JOE, **fields)
        for orcpt in ("rfc822;a\r\n", "rfc822", "rfc822;", "a b;c", "rf\r\nc;a", ";a", "utf-8;\x85"):
            self.assertRaises(ValueError, client.rcpt, to(JOE, orcpt=orcpt), dsn=True)
        for notify in (("SUCCESS\r\n",), ("NEVER", "SUCCESS"), ("success",)):
            self.assertRaises(ValueError, client.rcpt, to(JOE, notify=notify), dsn=True)
        self.assertRaises(ValueError, client.bdat, -1)

    def test_not_ascii(self) -> None:
        """An address outside ASCII needs SMTPUTF8, and is UTF-8 then."""
        address = Address("jö", "example.org")
        self.assertRaises(ValueError, client.mail, address)
        self.assertRaises(ValueError, client.rcpt, to(address))
        self.assertEqual(client.rcpt(to(address), smtputf8=True), "RCPT TO:<jö@example.org>\r\n".encode())
        self.assertRaises(ValueError, client.rcpt, to(Address("\ud800", "example.org")), smtputf8=True)

    @given(st.text(), st.text(), st.text(), st.text())
    def test_one_line(self, local: str, domain: str, envid: str, orcpt: str) -> None:
        """Whatever the values: a command is one line, or a ValueError."""
        address = Address(local, domain)
        recipient = to(address, orcpt=f"rfc822;{orcpt}")
        makers: list[Callable[[], bytes]] = [
            lambda: client.mail(address, smtputf8=True, envid=envid),
            lambda: client.rcpt(recipient, dsn=True, smtputf8=True),
            lambda: client.ehlo(domain),
        ]
        for make in makers:
            try:
                command = make()
            except ValueError:
                continue
            self.assertEqual(command.splitlines(keepends=True), [command])
            self.assertTrue(command.endswith(b"\r\n"))
            self.assertNotIn(b"\0", command)
