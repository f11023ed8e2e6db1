"""Tests of names: how local-parts compare, and what mailboxes are called on the disk."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.directory.names import NAME_MAX, ByAddress, file_name
from twisted_mail_node.message.address import Address, folded


class FoldedTests(SynchronousTestCase):
    """Case of local-parts."""

    def test_ascii(self) -> None:
        """Case does not count."""
        self.assertEqual(folded("Joe.Ann"), "joe.ann")

    def test_unicode(self) -> None:
        """Nor does it outside of ASCII, nor does how an accent is composed."""
        self.assertEqual(folded("ÄNN"), folded("a\u0308nn"))

    def test_never_becomes_ascii(self) -> None:
        """KELVIN SIGN is not k: a letter outside ASCII never makes an address of another."""
        self.assertEqual(folded("\u212a"), "\u212a")
        self.assertNotEqual(folded("joe\u212a"), folded("joek"))


class ByAddressTests(SynchronousTestCase):
    """Values by address."""

    def test_exact_first(self) -> None:
        """The exact spelling wins; any other case finds the first."""
        values: ByAddress[int] = ByAddress()
        for number, local in enumerate(("Joe", "joe"), 1):
            values.add(Address(local, "Example.org"), number)
        found = [values.find("example.org", local) for local in ("Joe", "joe", "JOE", "ann")]
        self.assertEqual(found, [1, 2, 1, None])
        self.assertEqual(values.find("example.net", "joe"), None)
        self.assertEqual((len(values), sorted(values)), (2, [1, 2]))


class FileNameTests(SynchronousTestCase):
    """T19: no local-part leaves its directory."""

    def test_plain(self) -> None:
        """Usual local-parts are their own names."""
        for text in ("joe", "Joe.Ann", "joe+tag", "a_b-c=d", "example.org"):
            self.assertEqual(file_name(text), text)

    def test_unsafe(self) -> None:
        """Everything else is percent-encoded."""
        names = {
            "../../etc/passwd": "%2E.%2F..%2Fetc%2Fpasswd",
            "..": "%2E.",
            ".": "%2E",
            ".hidden": "%2Ehidden",
            "a/b": "a%2Fb",
            "a\0b": "a%00b",
            "100%": "100%25",
            "ä": "%C3%A4",
            "a b\r\n": "a%20b%0D%0A",
            "|id;`$(x)": "%7Cid%3B%60%24%28x%29",
            "": "%=",
            "\ud800": "%ED%A0%80",
        }
        for text, wanted in names.items():
            self.assertEqual(file_name(text), wanted)

    def test_long(self) -> None:
        """Names that would be too long are cut, and still differ."""
        names = {file_name("a" * length) for length in (255, 256, 257, 300)} | {
            file_name("ä" * 100 + "x"),
            file_name("ä" * 100),
        }
        self.assertEqual(len(names), 6)
        self.assertTrue(all(len(name) <= NAME_MAX for name in names))

    @given(st.text(max_size=400), st.text(max_size=400))
    @example("%2E", ".")
    @example("%=", "")
    def test_safe_and_different(self, one: str, other: str) -> None:
        """Whatever the text: the name is one safe path segment, and differs for different texts."""
        name = file_name(one)
        self.assertTrue(name and name[0] != "." and len(name) <= NAME_MAX and name.isascii())
        self.assertFalse(set(name) & set("/\0\\ \n"))
        self.assertEqual(name == file_name(other), one == other)
