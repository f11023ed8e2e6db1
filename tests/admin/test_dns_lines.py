"""Tests of lines of a zone file: a parser of zone files reads what was meant."""

from __future__ import annotations

import dns.rrset
import dns.zonefile
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.admin.dns_lines import Line, Remark, ZoneLine, comment, quoted, zone_text


def read(text: str) -> list[dns.rrset.RRset]:
    """The records of a zone file."""
    return dns.zonefile.read_rrsets(text, rdclass=None)


def texts_of(text: str) -> list[bytes]:
    """The strings of every TXT record in a zone file."""
    return [b"".join(one.strings) for rrset in read(text) for one in rrset]


class LinesTest(SynchronousTestCase):
    """Records and comments."""

    @given(st.text(st.characters(max_codepoint=255), max_size=1000))
    def test_any_text(self, text: str) -> None:
        """Any octets in a TXT record come back as they were."""
        self.assertEqual(texts_of(zone_text([ZoneLine("a.example", "TXT", text, "a text")])), [text.encode("latin-1")])

    def test_strings(self) -> None:
        """A long text is several strings of at most 255 octets, an escaped character counts as one."""
        self.assertEqual(quoted("x" * 255), f'"{"x" * 255}"')
        self.assertEqual(quoted("x" * 256), f'"{"x" * 255}" "x"')
        self.assertEqual(quoted('"' * 256), '"{}" "{}"'.format('\\"' * 255, '\\"'))
        self.assertEqual(quoted(""), '""')

    @given(st.text(max_size=300))
    def test_comments(self, words: str) -> None:
        """Whatever a remark says, it stays a comment."""
        lines: list[Line] = [Remark((words, f"  {words}")), ZoneLine("a.example", "A", "192.0.2.1", words)]
        rrsets = read(zone_text(lines))
        self.assertEqual([rrset.to_text() for rrset in rrsets], ["a.example. 3600 IN A 192.0.2.1"])

    def test_look(self) -> None:
        """A record stands under its comment; one that is only shown is a comment itself."""
        lines = [
            ZoneLine("example.org", "MX", "10 mx.example.org.", "Mail goes there."),
            ZoneLine("1.2.0.192.in-addr.arpa", "PTR", "mx.example.org.", "Its name.", live=False),
        ]
        self.assertEqual(
            zone_text(lines),
            "; Mail goes there.\nexample.org. 3600 IN MX 10 mx.example.org.\n\n"
            "; Its name.\n; 1.2.0.192.in-addr.arpa. 3600 IN PTR mx.example.org.\n",
        )
        self.assertTrue(all(len(line) <= 112 for line in comment("many words " * 40)))
