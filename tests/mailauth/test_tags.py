"""Tag=value lists (RFC 6376 section 3.2)."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.mailauth import tags
from twisted_mail_node.mailauth.tags import TagError


class ReadTest(SynchronousTestCase):
    """``read``."""

    def test_values(self) -> None:
        """White space and folding around names and values are no part of them; what is within a value is."""
        found = tags.read(b" v = 1;\r\n\ta=rsa-sha256 ; n=two  words\r\n here;b==;e=;\r\n ")
        self.assertEqual(found, {"v": "1", "a": "rsa-sha256", "n": "two  words here", "b": "=", "e": ""})

    def test_utf8(self) -> None:
        """UTF-8 is borne with (section 3.2: do not preclude it)."""
        self.assertEqual(tags.read("n=größe".encode()), {"n": "größe"})

    def test_void(self) -> None:
        """What is no such list is refused as a whole: a tag that stands twice, an empty part, a wrong name, control
        characters, octets that are no text."""
        for octets in (
            b"", b" ", b";", b"v=1;;a=2", b";v=1", b"v=1;v=1", b"v", b"=1", b"1v=1", b"_v=1", b"v-w=1", b"v w=1",
            b"v=1\n", b"v=1\r", b"v=\x00", b"v=\x7f", b"v=\xff", b"v=\xc2\x85", "ä=1".encode(), b"v=1\x0b;",
        ):  # fmt: skip
            with self.subTest(octets=octets):
                self.assertRaises(TagError, tags.read, octets)

    def test_case(self) -> None:
        """Names differ in case (section 3.2)."""
        self.assertEqual(tags.read(b"b=1; B=2"), {"b": "1", "B": "2"})

    def test_bounds(self) -> None:
        """Lists have bounds."""
        many = b";".join(b"t%d=" % number for number in range(tags.TAGS_MAX))
        self.assertEqual(len(tags.read(many + b";")), tags.TAGS_MAX)
        self.assertRaises(TagError, tags.read, many + b";x=")
        self.assertRaises(TagError, tags.read, b";" * 60_000)
        self.assertRaises(TagError, tags.read, b"a=" + b"x" * tags.LIST_MAX)

    @given(st.binary(max_size=60))
    def test_anything(self, octets: bytes) -> None:
        """Any octets are a list, or are refused; what is read has no control characters."""
        try:
            found = tags.read(octets)
        except TagError as error:
            self.assertTrue(str(error).isprintable())
        else:
            self.assertTrue(
                all(value.replace("\u00ad", "").isprintable() for value in found.values() if value.isascii())
            )


class ValueTest(SynchronousTestCase):
    """Kinds of values."""

    def test_base64(self) -> None:
        """White space counts for nothing; all else must be right: alphabet, padding, nothing behind it."""
        self.assertEqual(tags.base64_of("aGk g\tPw =="), b"hi ?")
        for text in ("a", "aGk", "aGk==", "aGk=x", "=", "aG-_", "aGk\xa0=", "aGkgPw==aGkg"):
            with self.subTest(text=text):
                self.assertRaises(TagError, tags.base64_of, text)

    def test_domains(self) -> None:
        """Domains have two labels at least, and come in look-up spelling."""
        self.assertEqual(tags.domain_of("EXAMPLE.Org"), "example.org")
        self.assertEqual(tags.domain_of("bücher.example"), "xn--bcher-kva.example")
        for text in (
            "", "org", "example.org.", ".example.org", "a..b", "-a.org", "a-.org", "a b.org", "[192.0.2.1]", "a.org\n",
            "legitimate.com(.attacker.com", "x" * 64 + ".org", ".".join(["x" * 60] * 5), "a\u202e.org", "a/b.org",
        ):  # fmt: skip
            with self.subTest(text=text):
                self.assertRaises(TagError, tags.domain_of, text)

    def test_selectors(self) -> None:
        """Selectors may have one label, dots and underscores."""
        for text in ("s", "March2005.Reykjavik", "a_b", "20230601"):
            self.assertEqual(tags.selector_of(text), text.lower())
        for text in ("", ".", "a.", "a b", "*", "a=b", "\xa0"):
            with self.subTest(text=text):
                self.assertRaises(TagError, tags.selector_of, text)

    def test_numbers(self) -> None:
        """Numbers are digits of ASCII; long times are infinity."""
        self.assertEqual(tags.number_of("007"), 7)
        self.assertEqual(tags.time_of("1" * 12), float("1" * 12))
        self.assertEqual(tags.time_of("1" * 13), inf)
        for text in ("", "-1", "+1", "1.5", "1e3", "٣", "1_0", "1" * 77):
            with self.subTest(text=text):
                self.assertRaises(TagError, tags.number_of, text)
                self.assertRaises(TagError, tags.time_of, text)
