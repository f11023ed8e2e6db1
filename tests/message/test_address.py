"""Addresses: their wire form, and the one spelling of a domain."""

from __future__ import annotations

import os
import re
from pathlib import Path
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from twisted_mail_node.message.address import Address, domain_key

_BESIDE = Path(__file__).resolve().parents[2].parent / "shared" / "vectors"
VECTORS = Path(os.environ.get("MAILNODE_VECTORS", str(_BESIDE))) / "addresses"
#: Addresses of these categories may stand in an SMTP path; the others need comments, folding or are wrong.
WIRE = {"ISEMAIL_VALID_CATEGORY", "ISEMAIL_DNSWARN", "ISEMAIL_RFC5321"}
QTEXT = st.characters(min_codepoint=32, max_codepoint=126)


def unquoted(local: str) -> str:
    """What a local-part means: without quotes and backslashes."""
    if local.startswith('"'):
        return re.sub(r"\\(.)", r"\1", local[1:-1])
    return local


class WireFormTests(SynchronousTestCase):
    """``str`` of an address."""

    def test_dot_string(self) -> None:
        """A dot-string stands as it is."""
        for text in ("joe@example.org", "joe+tag@example.org", "a.b.c@[192.0.2.1]", "!#$%&'*+/=?^_`{|}~-@x"):
            local, domain = text.split("@")
            self.assertEqual(str(Address(local, domain)), text)

    def test_quoted(self) -> None:
        """A local-part that is no dot-string is quoted; quotes and backslashes in it get a backslash."""
        for local, quoted in (
            ("", '""'),
            ("a b", '"a b"'),
            ("a@b", '"a@b"'),
            (".a", '".a"'),
            ("a..b", '"a..b"'),
            ("a.", '"a."'),
            ('a"b', '"a\\"b"'),
            ("a\\b", '"a\\\\b"'),
            ("a>b", '"a>b"'),
            ("a\n", '"a\n"'),
        ):
            self.assertEqual(str(Address(local, "example.org")), f"{quoted}@example.org")

    def test_postmaster(self) -> None:
        """The bare postmaster of RFC 5321 section 4.5.1 has no domain."""
        self.assertEqual(str(Address("postmaster", "")), "postmaster")

    def test_ascii(self) -> None:
        """Either part outside ASCII needs SMTPUTF8; neither is quoted for that."""
        self.assertTrue(Address("joe", "example.org").is_ascii)
        self.assertFalse(Address("jöe", "example.org").is_ascii)
        self.assertFalse(Address("joe", "exämple.org").is_ascii)
        self.assertEqual(str(Address("jöe", "exämple.org")), "jöe@exämple.org")

    @settings(deadline=None)
    @given(st.text(QTEXT, max_size=40))
    def test_round_trip(self, local: str) -> None:
        """The wire form means the local-part it was made of, and is a dot-string or one quoted string."""
        text = str(Address(local, "example.org"))
        written = text[: -len("@example.org")]
        self.assertEqual(unquoted(written), local)
        self.assertRegex(written, r'\A(?:[^"\\@ <>()]+|"(?:[^"\\]|\\["\\])*")\Z')

    def test_vectors(self) -> None:
        """Every address of the is-email cases that fits a path is written so that it means the same."""
        path = VECTORS / "isemail-tests.xml"
        if not path.exists():
            raise SkipTest(f"no test vectors at {path}")
        seen = 0
        for test in ElementTree.parse(path).getroot().iter("test"):
            text = test.findtext("address") or ""
            if test.findtext("category") not in WIRE or "@" not in text:
                continue
            local, _, domain = text.rpartition("@")
            written = str(Address(unquoted(local), domain)).rpartition("@")
            self.assertEqual((unquoted(written[0]), written[2]), (unquoted(local), domain), text)
            if not local.startswith('"'):
                self.assertEqual(written[0], local)
            seen += 1
        self.assertGreater(seen, 20)


class DomainKeyTests(SynchronousTestCase):
    """``domain_key``: one spelling."""

    def test_spellings(self) -> None:
        """Case, a trailing dot and U-labels make no difference."""
        for spelling in ("bücher.example", "BÜCHER.example.", "xn--bcher-kva.example", "XN--BCHER-KVA.EXAMPLE"):
            self.assertEqual(domain_key(spelling), "xn--bcher-kva.example")

    def test_impossible(self) -> None:
        """A domain that has no A-labels is an error."""
        self.assertRaises(ValueError, domain_key, "ä" * 100 + ".example")
