"""Trace fields: their syntax, and that nobody else's words bend it."""

from __future__ import annotations

import email.utils
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.message import header, trace
from twisted_mail_node.message.address import Address

WHEN = 1_709_633_472.75  # Tue, 05 Mar 2024 10:11:12 UTC
DATE = "Tue, 05 Mar 2024 10:11:12 +0000"
JOE = Address("joe", "example.org")
#: RFC 5321 section 4.4's Time-stamp-line as we write it, unfolded.
STAMP = re.compile(
    rb"(?:from [A-Za-z0-9.:_\[\]?-]+ \(\[[A-Za-z0-9.:_\[\]?-]*\]\) )?by mx\.example\.org"
    rb"(?: with [A-Z0-9]+)?(?: \([ -'*-\[\]-~]*\))? id Q1(?: for <[^\r\n]+@[^\r\n]+>)?; "
    + DATE.encode().replace(b"+", rb"\+")
)


def stamp(
    helo: str = "client.example.net",
    client: str = "192.0.2.1",
    protocol: str = "ESMTP",
    recipient: Address | None = JOE,
    extra: str = "",
    priority: int = 0,
) -> bytes:
    """A time-stamp line with defaults."""
    return trace.received(
        hostname="mx.example.org",
        helo=helo,
        client=client,
        protocol=protocol,
        queue_id="Q1",
        recipient=recipient,
        when=WHEN,
        extra=extra,
        priority=priority,
    )


class ReceivedTests(SynchronousTestCase):
    """``received``."""

    def test_whole(self) -> None:
        """All clauses in the order of RFC 5321 section 4.4."""
        self.assertEqual(
            stamp(),
            b"Received: from client.example.net ([192.0.2.1])\r\n\tby mx.example.org with ESMTP id Q1"
            b"\r\n\tfor <joe@example.org>; Tue, 05 Mar 2024 10:11:12 +0000\r\n",
        )

    def test_ipv6(self) -> None:
        """An IPv6 client is an IPv6 literal."""
        self.assertIn(b"([IPv6:2001:db8::1])", stamp(client="2001:db8::1"))
        self.assertIn(b"from [IPv6:2001:db8::1] ([IPv6:2001:db8::1])", stamp("[IPv6:2001:db8::1]", "2001:db8::1"))

    def test_no_recipient(self) -> None:
        """Without a recipient there is no for-clause, which would tell one recipient of another."""
        self.assertNotIn(b"for <", stamp(recipient=None))

    def test_own(self) -> None:
        """Mail we made ourselves has no from-clause and no with-clause."""
        self.assertEqual(stamp("", "", "", None), f"Received: by mx.example.org id Q1; {DATE}\r\n".encode())

    def test_comment(self) -> None:
        """A comment stands behind the with-clause and cannot be closed by its text."""
        self.assertIn(b"with ESMTPS (TLS1.3 x) id Q1", stamp(protocol="ESMTPS", extra="TLS1.3 x"))
        self.assertIn(b"(a??b?c?) id", stamp(extra="a)(b\\c\n"))

    def test_priority(self) -> None:
        """A priority other than 0 has the clause of RFC 6710, behind all others."""
        self.assertIn(b"for <joe@example.org>\r\n\tPRIORITY -3; ", stamp(priority=-3))
        self.assertNotIn(b"PRIORITY", stamp(priority=0))

    def test_no_helo(self) -> None:
        """An empty HELO gives the address its place."""
        self.assertIn(b"from [192.0.2.1] ([192.0.2.1])", stamp(""))

    def test_international(self) -> None:
        """A recipient outside ASCII is named in UTF8SMTP mail only."""
        address = Address("jöe", "example.org")
        self.assertIn("for <jöe@example.org>".encode(), stamp(protocol="UTF8SMTP", recipient=address))
        self.assertTrue(stamp(recipient=address).isascii())
        self.assertNotIn(b"for <", stamp(recipient=address))

    def test_injection(self) -> None:
        """CR, LF, brackets, semicolons and escapes in a HELO become question marks."""
        made = stamp("a\r\nX-Evil: (b); c\x1b[31m\u202e")
        self.assertIn(b"from a??X-Evil:??b???c?[31m? ([192.0.2.1])", made)

    @settings(deadline=None, max_examples=300)
    @given(st.text(max_size=600), st.text(max_size=60), st.text(max_size=600), st.text(max_size=300))
    def test_hostile(self, helo: str, client: str, extra: str, local: str) -> None:
        """Whatever the HELO, comment and recipient are, it is one field of this syntax in lines below 999 octets."""
        for protocol in ("ESMTP", "UTF8SMTPS"):
            made = stamp(helo, client, protocol, Address(local, "example.org"), extra)
            found = header.fields(made)
            self.assertEqual(len(found), 1)
            self.assertEqual(header.border(made), len(made))
            self.assertTrue(STAMP.fullmatch(found[0].unfolded.replace(b"\t", b" ")), made)
            self.assertTrue(all(len(line) <= 998 for line in made.split(b"\r\n")))


class DateTests(SynchronousTestCase):
    """``date`` and ``date_field``."""

    def test_cached(self) -> None:
        """The same second gives the same text, another second another."""
        self.assertEqual(trace.date(WHEN), DATE)
        self.assertEqual(trace.date(WHEN + 0.2), DATE)
        self.assertEqual(trace.date(WHEN + 1), DATE.replace(":12", ":13"))
        self.assertEqual(trace.date(0), "Thu, 01 Jan 1970 00:00:00 +0000")
        self.assertEqual(trace.date_field(WHEN), f"Date: {DATE}\r\n".encode())

    @given(st.integers(0, 4_102_444_800))
    def test_read_back(self, when: int) -> None:
        """What is written is what is meant."""
        self.assertEqual(email.utils.parsedate_to_datetime(trace.date(when)).timestamp(), when)


class PathTests(SynchronousTestCase):
    """Return-Path, Delivered-To, Message-ID."""

    def test_return_path(self) -> None:
        """The reverse-path, null or not."""
        self.assertEqual(trace.return_path(None), b"Return-Path: <>\r\n")
        self.assertEqual(trace.return_path(JOE), b"Return-Path: <joe@example.org>\r\n")
        self.assertEqual(trace.return_path(Address("a b", "x")), b'Return-Path: <"a b"@x>\r\n')
        self.assertEqual(trace.return_path(Address("ö", "x")), "Return-Path: <ö@x>\r\n".encode())

    def test_delivered_to(self) -> None:
        """The recipient as it is."""
        self.assertEqual(trace.delivered_to(JOE), b"Delivered-To: joe@example.org\r\n")

    @settings(deadline=None)
    @given(st.text(max_size=80))
    def test_hostile(self, text: str) -> None:
        """No address, host name or id makes a second field."""
        address = Address(text, text)
        for made in (trace.return_path(address), trace.delivered_to(address), trace.message_id(text, text)):
            self.assertEqual(len(header.fields(made)), 1)
            self.assertEqual(made.count(b"\r\n"), 1)
            self.assertTrue(made.endswith(b"\r\n"))

    def test_message_id(self) -> None:
        """An id of ours at our host."""
        self.assertEqual(trace.message_id("mx.example.org", "Q1.2"), b"Message-ID: <Q1.2@mx.example.org>\r\n")

    def test_without_return_path(self) -> None:
        """What others wrote as Return-Path goes, in any spelling; without one nothing is copied."""
        section = b"return-PATH: <a@b>\r\nFrom: x\r\nReturn-Path : <c@d>\r\n e\r\nX: Return-Path: no\r\n\r\n"
        self.assertEqual(trace.without_return_path(section), b"From: x\r\nX: Return-Path: no\r\n\r\n")
        clean = b"From: x\r\n\r\n"
        self.assertIs(trace.without_return_path(clean), clean)
