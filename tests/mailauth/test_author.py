"""The author's domain (RFC 9989 section 5.3.1): one for everybody who reads the mail, or none."""

from __future__ import annotations

import encodings
import time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.mailauth.author import Author, author


def of(value: str | bytes, name: str = "From") -> Author:
    """The author by a From field's value, among other fields."""
    octets = value if isinstance(value, bytes) else value.encode()
    return author(
        b"Received: from a.example by b.example\r\n" + name.encode() + b": " + octets + b"\r\nTo: c@d.example\r\n\r\n"
    )


class AuthorTest(SynchronousTestCase):
    """``author``."""

    def test_plain(self) -> None:
        """What people and programs write gives its domain."""
        for value in (
            "joe@example.org",
            "<joe@example.org>",
            "Joe <joe@Example.ORG>",
            '"Smith, Joe" <joe@example.org>',
            '"joe@example.org" <joe@example.org>',
            "joe@example.org (Joe)",
            "Joe (at home) <joe@example.org>",
            "\r\n Joe\r\n\t<joe@example.org>",
            '"joe smith"@example.org',
            "joe+tag=x@example.org",
            "=?utf-8?q?J=C3=B6rg?= <joe@example.org>",
            "=?utf-8?b?TcO8bGxlciwgSsO2cmc=?= <joe@example.org>",
            "=?unknown-8bit?q?J=F6rg?= <joe@example.org>",
            "=?utf-8?q?J=C3=B6rg_=40_Home?= <joe@example.org>",
            "=?utf-8?q?joe=40example=2Eorg?= <joe@example.org>",
            "J\u00f6rg <j\u00f6rg@example.org>",
            "joe@example.org, jane@EXAMPLE.org",
        ):
            self.assertEqual(of(value), Author("example.org", ""), value)
            self.assertEqual(of(value, "FROM").domain, "example.org")

    def test_idn(self) -> None:
        """U-labels become A-labels (RFC 9989 section 5.3.1); what cannot be is no domain."""
        for value in ("a@b\u00fccher.example", "a@XN--BCHER-KVA.example", "a@b\u00fccher\u3002example"):
            self.assertEqual(of(value), Author("xn--bcher-kva.example", ""), value)
        for value in ("a@\u202eexample.org", "a@-\u00fc.example", "a@\u2488com.example"):
            self.assertEqual(of(value).domain, "", value)

    def test_first_field(self) -> None:
        """From may be the first field, and other names that begin so are other fields."""
        header = b"From: joe@example.org\r\nFrom-Line: x@example.net\r\nX-From: y@example.net\r\n\r\n"
        self.assertEqual(author(header), Author("example.org", ""))
        self.assertEqual(author(b"From-Line: x@example.net\r\n" + header), Author("example.org", ""))

    def test_no_author(self) -> None:
        """Without a From field, or with one that has no address with a domain, there is none."""
        for header in (b"", b"\r\n", b"To: a@b.example\r\n\r\n", b"X-From: a@b.example\r\n\r\n"):
            self.assertEqual(author(header).domain, "")
        self.assertEqual(author(b"\r\n").problem, "There is no From field.")
        for value in (
            "",
            " ",
            "<>",
            "joe",
            "Joe <joe>",
            "undisclosed:;",
            "a@[192.0.2.1]",
            "a@192.0.2.1",
            "a@0x7f000001",
        ):
            found = of(value)
            self.assertEqual(found.domain, "", value)
            self.assertTrue(found.problem.endswith("."), found)

    def test_unended(self) -> None:
        """A header section that does not end with an empty line was ended by something else: no author."""
        self.assertEqual(author(b"From: joe@example.org\r\n").domain, "")

    def test_many(self) -> None:
        """A thousand mailboxes, or a field as large as a mail, are refused in no time."""
        for value in (", ".join(f"a{n}@example.org" for n in range(1000)), "(" * 10**6, '"' + "a" * 10**6, " " * 10**6):
            begun = time.thread_time()
            self.assertEqual(of(value).domain, "")
            self.assertLess(time.thread_time() - begun, 0.2)
        self.assertEqual(of(", ".join(f"a{n}@example.org" for n in range(100))).domain, "example.org")

    def test_unknown_charsets(self) -> None:
        """Names of charsets that nobody knows are not looked for, nor remembered: strangers have many."""
        before = len(encodings._cache)
        for number in range(3):
            words = " ".join(f"=?x-{number}-{n}?q?a?=" for n in range(400))
            self.assertEqual(of(f"{words} <joe@example.org>").domain, "example.org")
            words = " ".join(f"=?utf--{'-' * n}8?q?a?=" for n in range(90))
            self.assertEqual(of(f"{words} <joe@example.org>").domain, "example.org")
        self.assertLess(len(encodings._cache) - before, 5)

    def test_mentioned_of_much(self) -> None:
        """From of a mebibyte is no honest one, and costs little."""
        for piece in (b"=?x%d?q?a?= ", "a@\u00e4\u05d0%d.de ".encode(), b"a@b%d.example,"):
            value = b"".join(piece % n for n in range(50_000))
            begun = time.thread_time()
            found = of(value)
            self.assertTrue(found.grave)
            self.assertLess(time.thread_time() - begun, 0.05)

    @given(
        st.one_of(
            st.binary(),
            st.text(alphabet='joe@example.org <>,:;"()\\[]=?\r\n\t\x00\u00e4q', max_size=60).map(str.encode),
        )
    )
    def test_any(self, value: bytes) -> None:
        """Any octets have a domain or a problem, never both and never neither."""
        for header in (value, b"From: " + value + b"\r\n\r\n", b"From: a@b.example\r\n" + value + b"\r\n\r\n"):
            found = author(header)
            self.assertNotEqual(bool(found.domain), bool(found.problem))
            self.assertTrue(found.domain.isascii())
            self.assertEqual(found.domain, found.domain.lower())
