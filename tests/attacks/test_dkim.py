"""DKIM under attack: T26, and tricks with lines and canonicalization (T04, T07, T24). Work is counted, not timed."""

from __future__ import annotations

from codecs import utf_16_le_decode
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from tests.mailauth.dkim import NOW, ed25519_key, keys_of, now, published, rsa_key, signed, verified
from tests.mailauth.test_dkim_verify import made
from twisted_mail_node.mailauth import body as body_module
from twisted_mail_node.mailauth.body import PIECE, BodyHashes
from twisted_mail_node.mailauth.canonical import HeaderFields, single_spaces
from twisted_mail_node.mailauth.dkim_verify import SIGNATURES_MAX, Verifier
from twisted_mail_node.mailauth.keys import PublicKey
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.mailauth.tags import read
from twisted_mail_node.message.header import border, fields
from twisted_mail_node.smtp.stuffing import stuffed
from twisted_mail_node.smtp.transparency import Unstuffer

KEY = ed25519_key()
ZONE = published(KEY, rsa_key(1024))
MAIL = b"From: Joe <joe@example.org>\r\nTo: suzie@example.net\r\nSubject: dinner\r\n\r\nHi.\r\n.\r\n..\r\nJoe\r\n"


def results(mail: bytes) -> list[Result]:
    """What comes of the signatures."""
    return [one.result for one in verified(mail, ZONE)]


def sent_and_received(mail: bytes, size: int) -> bytes:
    """A mail after DATA, in pieces of this size."""
    wire = stuffed(mail)
    unstuffer = Unstuffer()
    got = left = b""
    for start in range(0, len(wire), size):
        left += wire[start : start + size]
        content, after, _ = unstuffer.take(left, 0)
        got, left = got + content, left[after:]
    return got


class SignatureTest(SynchronousTestCase):
    """T26."""

    def test_length(self) -> None:
        """T26: a signature with l= below the body's length never passes, and ours have none."""
        self.assertEqual(results(made(l="0")), [Result.POLICY])
        self.assertEqual(results(made(l="3") + b"--x\r\nContent-Type: text/html\r\n\r\n<b>buy</b>"), [Result.POLICY])
        self.assertNotIn("l", read(fields(signed(MAIL, KEY))[0].value))

    def test_added(self) -> None:
        """T26: a From or Subject that is added after we signed, above, below, in any spelling, fails."""
        mail = signed(MAIL, KEY)
        for name in (b"From", b"FROM", b"From ", b"from\t", b"Subject", b"subject "):
            for changed in (
                name + b": Eve <eve@example.net>\r\n" + mail,
                mail.replace(b"To: ", name + b": eve\r\nTo: "),
                mail.replace(b"\r\n\r\n", b"\r\n" + name + b": eve\r\n\r\n", 1),
            ):
                self.assertEqual(results(changed), [Result.FAIL], changed)

    def test_expired(self) -> None:
        """T26: x= past."""
        self.assertEqual(results(signed(MAIL, KEY, when=NOW - 9000, expires=NOW - 1000)), [Result.PERMERROR])

    def test_weak(self) -> None:
        """T26: RSA under 1024 bits, an Ed25519 key of the wrong length, two keys of which none fits."""
        key = rsa_key(1024)
        mail = signed(MAIL, key)
        with patch("twisted_mail_node.mailauth.keys.RSA_BITS_MIN", 1025):
            (found,) = verified(mail, ZONE)
        self.assertEqual((found.result, found.bits), (Result.PERMERROR, 1024))
        for record in (b"k=ed25519; p=AAAA", b"k=ed25519; p=" + b"A" * 44):
            (found,) = verified(signed(MAIL, KEY), {KEY.name: [record]})
            self.assertIs(found.result, Result.PERMERROR)
        (found,) = verified(mail, {key.name: [b"k=ed25519; p=AAAA", ed25519_key().public_record().encode()]})
        self.assertIs(found.result, Result.PERMERROR)

    def test_fifty(self) -> None:
        """T26: of 50 signatures ten are looked at: ten checks with keys, one hash of the body."""
        field = signed(MAIL, KEY).removesuffix(MAIL)
        calls: list[int] = []
        verify = PublicKey.verify

        def counted(self: PublicKey, signature: bytes, hash_name: str, octets: bytes) -> bool:
            calls.append(1)
            return verify(self, signature, hash_name, octets)

        with patch.object(PublicKey, "verify", counted):
            found = verified(field * 50 + MAIL, ZONE)
        self.assertEqual(len(calls), SIGNATURES_MAX)
        self.assertEqual([one.result for one in found], [Result.PASS] * SIGNATURES_MAX + [Result.NEUTRAL])

    def test_different_lengths(self) -> None:
        """Ten signatures with ten different l= and both canonicalizations cost two hashes of the body, not twenty."""
        header = b""
        for number in range(SIGNATURES_MAX):
            kind = ("simple", "relaxed")[number % 2]
            mail = made(c=f"relaxed/{kind}", l=str(number))
            header += mail[: mail.index(b"Received:")]
        hashes = BodyHashes()
        Verifier(header + b"From: x\r\n\r\n", hashes, now=NOW)
        counted: list[int] = []
        for stream in (hashes._simple, hashes._relaxed):
            assert stream is not None
            stream._hash = Counting(stream._hash, counted)  # type: ignore[assignment]
        hashes.feed(b"x" * PIECE)
        self.assertEqual(sum(counted), 2 * PIECE)


class Counting:
    """A hash that counts its octets."""

    def __init__(self, inner, counted: list[int]) -> None:  # type: ignore[no-untyped-def]
        self.inner = inner
        self.counted = counted

    def update(self, octets: bytes | memoryview) -> None:
        """One more piece."""
        self.counted.append(len(octets))
        self.inner.update(octets)

    def copy(self) -> Counting:
        """Its copy counts, too."""
        return Counting(self.inner.copy(), self.counted)

    def digest(self) -> bytes:
        """So far."""
        found: bytes = self.inner.digest()
        return found


class CostTest(SynchronousTestCase):
    """T32: what costs time."""

    def test_many_fields(self) -> None:
        """A header with 9000 fields and h= with 1000 names: each field that is covered is canonicalized once a
        signature, no other is, and no name is looked for in the whole header."""
        names = b":".join([b"from"] + [b"x-%d" % number for number in range(999)])
        header = b"".join(b"X-%d: %d\r\n" % (number, number) for number in range(9_000)) + b"From: x\r\n\r\n"
        found = HeaderFields(header)
        calls: list[int] = []
        canonical = HeaderFields.canonical

        def counted(self: HeaderFields, place: int) -> bytes:
            calls.append(place)
            return canonical(self, place)

        field = b"DKIM-Signature: v=1; a=ed25519-sha256; d=example.org; s=ed; h=" + names + b"; bh="
        field += b"frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY=; c=relaxed; b=YWFh\r\n"
        with patch.object(HeaderFields, "canonical", counted):
            (one,) = verified(field + header, ZONE)
        self.assertIs(one.result, Result.FAIL)
        self.assertEqual((len(calls), len(set(calls))), (1000, 1000))  # its own field goes another way
        self.assertEqual(len(found.choose_places([b"x-5"] * 1000)), 1)

    def test_own_name(self) -> None:
        """h= with DKIM-Signature a thousand times in a header full of them: each is taken once."""
        header = b"DKIM-Signature: x\r\n" * 10_000
        found = HeaderFields(header)
        names = [b"dkim-signature"] * 1000
        self.assertEqual(found.choose_places(names, 9_999), list(range(9_998, 8_998, -1)))

    def test_too_many_names(self) -> None:
        """More names than that are void."""
        mail = made(h="From:" + ":".join(["x"] * 1000))
        self.assertIn("names more than 1000 header fields", verified(mail, ZONE)[0].problem)

    def test_bodies(self) -> None:
        """256 KiB of any one thing are a bounded number of passes: spaces, tabs, empty lines, lines of white space, one
        run of spaces of any length in prose; the same with an octet in each piece that makes it no text."""
        size = 256 << 10
        bodies = [
            *(
                unit * (size // len(unit))
                for unit in (b" ", b"\t", b"\r\n", b" \r\n", b"\r", b"\n", b" \t", b"a  ", b" \r")
            ),
            *(b"a b" * 10_000 + b" " * (1 << power) + b"\tc d" * 10_000 for power in range(2, 17)),
        ]
        for body in bodies:
            for odd in (b"", b"\x01"):
                passes: list[int] = []

                def counted(octets: bytes, passes: list[int] = passes) -> bytes:
                    piece = Piece(octets)
                    piece.passes = passes
                    return bytes(single_spaces(piece))

                def decoded(octets: bytes, *how: object, passes: list[int] = passes) -> tuple[str, int]:
                    passes.append(len(octets))
                    return utf_16_le_decode(octets, "strict", False)

                hashes = BodyHashes()
                hashes.want("relaxed")
                with (
                    patch.object(body_module, "single_spaces", counted),
                    patch.object(body_module, "utf_16_le_decode", decoded),
                ):
                    for start in range(0, len(body), PIECE - 1):
                        hashes.feed(odd + body[start : start + PIECE - 1])
                hashes.finish()
                self.assertLessEqual(sum(passes), (10 if odd else 3) * (len(body) + 8 * PIECE), body[:20])


class Piece(bytes):
    """Octets that count those that ``replace`` goes over."""

    passes: list[int]

    def replace(self, old: bytes, new: bytes, count: int = -1) -> Piece:  # type: ignore[override]
        """One pass."""
        self.passes.append(len(self))
        found = Piece(super().replace(old, new, count))
        found.passes = self.passes
        return found


class LinesTest(SynchronousTestCase):
    """T04, T07, T24: lines, and where the header ends."""

    def test_dots(self) -> None:
        """T04: what SMTP does to dots is undone before a signature is checked: also lines of one dot, at the start, and
        wherever the octets are cut."""
        mail = signed(MAIL, KEY)
        for size in (1, 2, 3, 7, 1 << 16):
            self.assertEqual(results(sent_and_received(mail, size)), [Result.PASS])

    def test_one_dot_less(self) -> None:
        """T04: a dot more or less at the beginning of a line is a change."""
        mail = signed(MAIL, KEY)
        for old, new in ((b"\r\n.\r\n", b"\r\n\r\n"), (b"\r\n..\r\n", b"\r\n.\r\n"), (b"\r\n.\r\n", b"\r\n..\r\n")):
            self.assertEqual(results(mail.replace(old, new, 1)), [Result.FAIL])

    def test_border(self) -> None:
        """T07: a signed body cannot become part of the header, nor a header part of the body: both are covered, and
        both end where ``message.header`` says."""
        mail = signed(b"From: x\r\nSubject: y\r\n\r\nTo: z\r\n\r\nbody\r\n", KEY)
        self.assertEqual(results(mail), [Result.PASS])
        moved = mail.replace(b"Subject: y\r\n\r\nTo: z\r\n", b"Subject: y\r\nTo: z\r\n")
        self.assertEqual(results(moved), [Result.FAIL])
        self.assertEqual(results(mail.replace(b"Subject: y\r\n", b"Subject: y\r\nno field\r\n")), [Result.FAIL])
        self.assertEqual(results(mail.replace(b"Subject: y\r\n", b"Subject: y\r\n \r\n")), [Result.PASS])  # a fold

    def test_bare_newlines(self) -> None:
        """A bare CR or LF, a form feed or a NUL is no white space and no end of a line: it changes what is signed."""
        mail = signed(MAIL, KEY)
        for octet in (b"\r", b"\n", b"\x0b", b"\x0c", b"\x00", b"\xa0", b"\xc2\xa0"):
            self.assertEqual(results(mail.replace(b"Subject: dinner", b"Subject: " + octet + b"dinner")), [Result.FAIL])
            self.assertEqual(results(mail.replace(b"Hi.", b"Hi." + octet)), [Result.FAIL])

    def test_comment_in_domain(self) -> None:
        """A domain that DNS would be asked for as another: ``legitimate.example(.attacker.example`` is none."""
        for domain in ("example.org(.attacker.example", "example.org\x00.attacker.example", "example.org;.x.example"):
            found = verified(made(d=domain), ZONE)[0]
            self.assertEqual((found.result, found.domain), (Result.PERMERROR, ""))

    def test_signature_in_the_body(self) -> None:
        """T07: a DKIM-Signature below the header is none."""
        place = border(MAIL)
        self.assertEqual(results(MAIL[:place] + signed(MAIL, KEY)), [])

    def test_keys_of_others(self) -> None:
        """d= decides whose key is asked for; a key of another domain is never used."""
        other = ed25519_key("ed", "example.net")
        (found,) = verified(signed(MAIL, other), ZONE)
        self.assertEqual((found.result, found.domain), (Result.PERMERROR, "example.net"))
        self.assertIsNotNone(now(keys_of(ZONE).get("ed", "example.org")))
