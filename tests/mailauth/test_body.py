"""Hashes of the body (RFC 6376 sections 3.4.3, 3.4.4, 3.7), at every cut of their input."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from codecs import utf_16_le_decode
from itertools import pairwise
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.mailauth.bodies import canonical_body
from twisted_mail_node.mailauth import body as module
from twisted_mail_node.mailauth.body import PIECE, BodyHash, BodyHashes

#: What makes the difference: CRLF whole and in halves, white space, text, octets outside ASCII.
PARTS = st.sampled_from(
    [b"\r\n", b"\r", b"\n", b" ", b"\t", b"  ", b"a", b"bc", b"\xd8\xdf", b" \r\n", b"\x0b", b"\x02"]
)
BODIES = st.lists(PARTS, max_size=24).map(b"".join)
KINDS = ("simple", "relaxed")


def hashed(pieces: list[bytes], canonicalization: str, length: int | None = None) -> BodyHash:
    """The hash of a body in these pieces."""
    hashes = BodyHashes()
    wanted = hashes.want(canonicalization, "sha256", length)
    for piece in pieces:
        hashes.feed(piece)
    hashes.finish()
    return wanted


class CanonicalTest(SynchronousTestCase):
    """What is hashed."""

    def test_empty(self) -> None:
        """A body of nothing is a CRLF or nothing: the digests of RFC 6376 sections 3.4.3 and 3.4.4."""
        for kind, digest in (
            ("simple", b"frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY="),
            ("relaxed", b"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
        ):
            for pieces in ([], [b""], [b"\r\n"], [b"\r\n\r\n", b"\r", b"\n"]):
                self.assertEqual(b64encode(hashed(pieces, kind).digest), digest)

    def test_example(self) -> None:
        """The example of RFC 6376 section 3.4.5."""
        body = b" C \r\nD \t E\r\n\r\n\r\n"
        self.assertEqual(hashed([body], "relaxed").digest, hashlib.sha256(b" C\r\nD E\r\n").digest())
        self.assertEqual(hashed([body], "simple").digest, hashlib.sha256(b" C \r\nD \t E\r\n").digest())

    @given(BODIES, st.lists(st.integers(0, 60), max_size=6), st.sampled_from(KINDS))
    def test_any_cuts(self, body: bytes, cuts: list[int], kind: str) -> None:
        """The digest and the length are those of the whole canonical body, however its octets are cut."""
        marks = [0, *sorted(cuts), len(body)]
        pieces = [body[start:end] for start, end in pairwise(marks)]
        found = hashed(pieces, kind)
        canonical = canonical_body(body, kind)
        self.assertEqual(found.digest, hashlib.sha256(canonical).digest())
        self.assertEqual(found.length, len(canonical))

    @given(BODIES, st.sampled_from(KINDS), st.lists(st.integers(0, 40), min_size=1, max_size=4))
    def test_limits(self, body: bytes, kind: str, limits: list[int]) -> None:
        """With l= the first octets of the canonical body are hashed; how many are left out, or missing, is told."""
        hashes = BodyHashes()
        wanted = [hashes.want(kind, "sha256", limit) for limit in limits]
        for place in range(len(body)):
            hashes.feed(body[place : place + 1])
        hashes.finish()
        canonical = canonical_body(body, kind)
        for limit, one in zip(limits, wanted, strict=True):
            self.assertEqual(one.unsigned, len(canonical) - limit)
            if one.unsigned >= 0:
                self.assertEqual(one.digest, hashlib.sha256(canonical[:limit]).digest())

    def test_large(self) -> None:
        """Pieces larger than those that are worked on at once, and runs across their borders."""
        body = b"x" * (PIECE - 2) + b" " * 70_000 + b"y \t\r\n" + b"\r\n" * PIECE + b"z\xff" + b" \r\n" * 40_000
        for kind in KINDS:
            canonical = canonical_body(body, kind)
            for size in (len(body), PIECE, 4099):
                pieces = [body[start : start + size] for start in range(0, len(body), size)]
                self.assertEqual(hashed(pieces, kind).digest, hashlib.sha256(canonical).digest())


class WantTest(SynchronousTestCase):
    """What can be wanted."""

    def test_same(self) -> None:
        """The same wish is the same object: ten signatures of a kind cost one hash."""
        hashes = BodyHashes()
        self.assertIs(hashes.want("relaxed"), hashes.want("relaxed"))
        self.assertIs(hashes.want("simple", "sha256", 5), hashes.want("simple", "sha256", 5))
        self.assertIsNot(hashes.want("simple"), hashes.want("relaxed"))

    def test_unknown(self) -> None:
        """What does not exist, and what is wanted too late, is refused."""
        hashes = BodyHashes()
        self.assertRaises(ValueError, hashes.want, "nofws")
        self.assertRaises(ValueError, hashes.want, "relaxed", "sha1")
        hashes.feed(b"x")
        self.assertRaises(RuntimeError, hashes.want, "relaxed")


class BoundTest(SynchronousTestCase):
    """No content is dear."""

    def test_passes(self) -> None:
        """Whatever the piece, it is looked at three times in pairs, and never again."""
        calls: list[int] = []

        def counted(octets: bytes, errors: str, final: bool) -> tuple[str, int]:
            calls.append(len(octets))
            return utf_16_le_decode(octets, errors, final)

        for unit in (b" ", b"a ", b"a  ", b"a" + b" " * 63, b" \r\n", b"\t", b"\xd8 ", b"\xdf\xdf  "):
            calls.clear()
            body = (unit * PIECE)[: 4 * PIECE]
            with patch.object(module, "utf_16_le_decode", counted):
                found = hashed([body], "relaxed")
            self.assertEqual(found.digest, hashlib.sha256(canonical_body(body, "relaxed")).digest())
            self.assertLessEqual(sum(calls), 3 * len(body) + 100)

    def test_no_text(self) -> None:
        """Octets that serve as marks elsewhere, and halves of surrogate pairs, are octets like others here."""
        for unit in (
            b"\x01  ",
            b"\x02  \x0e\x0e",
            b"\xd8 \x02  ",
            b"\x20\xd8\x20\xdc  \x08\xdf",
            bytes(range(256)) + b"  ",
        ):
            for offset in range(3):
                body = b"x" * offset + unit * 50
                found = hashed([body], "relaxed")
                self.assertEqual(found.digest, hashlib.sha256(canonical_body(body, "relaxed")).digest())

    def test_empty_lines(self) -> None:
        """Empty lines are hashed as they come: none are kept back to be hashed at once when text follows."""
        hashed_octets: list[int] = []
        stream = module._Relaxed()
        stream.want(None)
        update = stream._hash.update

        class Counting:
            def update(self, octets: bytes) -> None:
                hashed_octets.append(len(octets))
                update(octets)

            def copy(self) -> Counting:
                return self

        stream._hash = Counting()  # type: ignore[assignment]
        for _ in range(100):
            stream.feed(b"\r\n" * 1000)
        stream.feed(b"text")
        self.assertEqual(sum(hashed_octets), 200_004)
        self.assertLess(max(hashed_octets), 2001)
        self.assertLess(len(stream._carry), 3)
