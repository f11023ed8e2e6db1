"""SPF records, read (RFC 7208 sections 4.5, 4.6.1, 5, 6 and 12)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.mailauth.spf_record import RECORD_TERMS_MAX, TERM_MAX, read_record, select

#: Pieces that records are made of.
pieces = st.sampled_from(
    ["v=spf1", " ", " ", "-", "~", "?", "+", "all", "include", "a", "mx", "ptr", "ip4", "ip6", "exists", "redirect",
     "exp", ":", "=", "/", "//", "24", "0", "129", "x.example", "%{d}", "%{i", "192.0.2.1", "2001:db8::", "::", ".",
     "\x00", "\r\n", "é", "%"],
)  # fmt: skip


class SelectTest(SynchronousTestCase):
    """RFC 7208 section 4.5."""

    def test_version(self) -> None:
        """The version ends with a space or with the record, and is what it is in any case of its letters."""
        good = [b"v=spf1", b"v=spf1 ", b"V=SPF1 -all", b"v=spf1  mx", b"v=spf1 \xff"]
        other = [
            b"",
            b"v=spf",
            b"v=spf10",
            b"v=spf1\t-all",
            b" v=spf1",
            b"v=spf1-all",
            b"v=spf2.0/pra ",
            b"\xff",
            b"v=spf1\0",
        ]
        self.assertEqual(select([*other, *good, *other]), good)


class RecordTest(SynchronousTestCase):
    """What a record says, and what is wrong with one."""

    def test_families(self) -> None:
        """Each family has the terms that can match it, in order, up to the first ``all``."""
        record = read_record(b"v=spf1 ip4:192.0.2.0/24 IP6:2001:DB8::/32 -A/24//64 ?all mx redirect=x.y exp=%{d}.z")
        self.assertEqual([each.text for each in record.ip4], ["ip4:192.0.2.0/24", "-A/24//64", "?all"])
        self.assertEqual([each.text for each in record.ip6], ["IP6:2001:DB8::/32", "-A/24//64", "?all"])
        self.assertEqual([each.kind for each in record.ip6], ["ip", "a", "all"])
        network, address, last = record.ip4
        self.assertEqual((network.network, network.shift4), (0xC00002, 8))
        self.assertEqual((address.result, address.shift4, address.shift6), (Result.FAIL, 8, 64))
        self.assertEqual(last.result, Result.NEUTRAL)
        self.assertIsNone(record.redirect)  # RFC 7208 section 6.1: there is an "all"
        self.assertEqual(record.explanation and record.explanation.text, "exp=%{d}.z")

    def test_modifiers(self) -> None:
        """Modifiers stand anywhere; those we do not know are passed over, however often they are there."""
        record = read_record(
            b"v=spf1 REDIRECT=x.y a=b a=b exp.x=%{c} -ip4:192.0.2.1 Exp=x.z =-x=".replace(b" =-x=", b"")
        )
        self.assertEqual(record.problem, "")
        self.assertEqual(record.redirect and record.redirect.spec and record.redirect.spec.name, "x.y")
        self.assertEqual([each.text for each in record.ip4], ["-ip4:192.0.2.1"])
        self.assertEqual(record.ip6, ())

    def test_problems(self) -> None:
        """What is wrong is said so that its owner can find it."""
        for term, words in (
            ("foo", "foo is neither a mechanism nor a modifier"),
            ("ipv4:192.0.2.1", "ipv4:192.0.2.1 is neither a mechanism nor a modifier (ip4 is meant?)"),
            ("-all,", "-all, is neither a mechanism nor a modifier (terms are parted by spaces, not by commas)"),
            (
                "redirect:x.y",
                "redirect:x.y is no mechanism: redirect is written with an equals sign, and without a qualifier",
            ),
            ("ip4:192.0.2.0/33", "in 'ip4:192.0.2.0/33': a prefix length is at most 32, not 33"),
            ("ip4:192.0.2", "in 'ip4:192.0.2': '192.0.2' is no IPv4 network"),
            ("ip4:192.0.02.1", "in 'ip4:192.0.02.1': '192.0.02.1' is no IPv4 network"),
            ("ip6:192.0.2.1", "in 'ip6:192.0.2.1': '192.0.2.1' is no IPv6 network"),
            ("ip6:1::2::3", "in 'ip6:1::2::3': '1::2::3' is no IPv6 network"),
            ("mx//129", "in 'mx//129': a prefix length is at most 128, not 129"),
            ("a:192.0.2.1", "in 'a:192.0.2.1': 192.0.2.1 is an address, not a domain: addresses stand behind ip4:"),
            ("include", "in 'include': a domain is missing"),
            ("include:", "in 'include:': a domain is missing"),
            ("include:_spf", "in 'include:_spf': _spf does not end as the name of a domain does"),
            ("exists:%{z}.x", "in 'exists:%{z}.x': %{z} is no macro"),
            ("exp=%{c}.x", "in 'exp=%{c}.x': %{c} is for explanations only"),
            ("exp=a.b exp=a.b", "in 'exp=a.b': it is there twice"),
            ("x=%", "in 'x=%': % is no macro"),
            ("all:x", "in 'all:x': nothing may follow all"),
            ("ptr/24", "in 'ptr/24': /24 is no prefix length"),
            ("é", "it holds octets that are not ASCII"),
            ("a\tb", "it holds a control character"),
            ("\x7f", "it holds a control character"),
            (" a" * (RECORD_TERMS_MAX + 1), f"it has more than {RECORD_TERMS_MAX} terms"),
        ):
            for record in (f"v=spf1 {term}", f"v=spf1 -all {term} x=y"):
                self.assertEqual(read_record(record.encode()).problem, words)

    def test_spaces(self) -> None:
        """Terms are parted by one space or more; they may stand at the end, too."""
        self.assertEqual(read_record(b"v=spf1   a    mx  "), read_record(b"v=spf1 a mx"))
        self.assertEqual(read_record(b"v=spf1"), read_record(b"v=spf1   "))

    def test_kept(self) -> None:
        """A record that was read is not read again."""
        for length in (10, 2000):
            text = b"v=spf1 x=" + b"y" * length
            self.assertIs(read_record(text), read_record(bytes(bytearray(text))))

    @given(st.lists(pieces, max_size=12).map("".join) | st.text(max_size=60))
    def test_anything(self, text: str) -> None:
        """Anything can be read, and what is said about it is one short line."""
        record = read_record(("v=spf1 " + text).encode("utf-8", "surrogatepass"))
        if record.problem:
            self.assertEqual((record.ip4, record.ip6, record.redirect), ((), (), None))
            self.assertLess(len(record.problem), 400)
            self.assertTrue(record.problem.isascii() and record.problem.isprintable())
        for directive in record.ip4 + record.ip6:
            self.assertLessEqual(len(directive.text), TERM_MAX)
            self.assertIn(directive.text.removesuffix("..."), text)
