"""The header section: where it ends, however it is cut, what is in it, and fields of our own."""

from __future__ import annotations

import email
import email.policy
import os
import random
import time
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from twisted_mail_node.message import header
from twisted_mail_node.message.encoding import encoded_words, phrase, quoted_printable, transfer, unitext
from twisted_mail_node.message.header import HeaderReader

_BESIDE = Path(__file__).resolve().parents[2].parent / "shared" / "vectors"
VECTORS = Path(os.environ.get("MAILNODE_VECTORS", str(_BESIDE))) / "mime"

#: Content, and where its body starts.
BORDERS = (
    (b"", 0),
    (b"\r\n", 2),
    (b"\r\nbody\r\n", 2),
    (b"A: b\r\n", 6),
    (b"A: b", 4),
    (b"A: b\r\n\r\n", 8),
    (b"A: b\r\n\r\nbody\r\n", 8),
    (b"A: b\r\n\r\n\r\nbody", 8),
    (b"A: b\r\n c\r\n\td\r\n\r\nE: f\r\n", 16),
    (b"A: b\r\n \r\nC: d\r\n\r\nx", 17),  # a line of spaces is a continuation
    (b"A: b\r\nno field\r\nC: d\r\n\r\n", 6),
    (b"A: b\r\nnofield", 6),
    (b"A: b\r\nFrom x Mon\r\n\r\n", 6),
    (b"From joe Mon Jan  1 00:00:00 2024\r\nA: b\r\n\r\n", 0),
    (b" A: b\r\n\r\n", 0),  # nothing to continue
    (b"body only\r\n", 0),
    (b": no name\r\n", 0),
    (b"A: b\r\n: no name\r\n\r\n", 6),
    (b"A \t: b\r\n\r\nx", 10),
    (b"A:\r\nB:\r\n\r\nx", 10),
    (b"A: b\rc\nd\n\ne\r\n\r\nx", 15),  # only CRLF ends a line
    (b"A: b\r\n\rC: d\r\n", 6),
    (b"A: b\r\n\r", 6),
    (b"A: b\r\n\nC: d\r\n", 6),
    (b"A: b\r\nC\xc3\xa4: d\r\n", 6),
    (b"A: b\r\n" + b"n" * 998 + b": d\r\n\r\nx", 6 + 998 + 7),
    (b"A: b\r\n" + b"n" * 999 + b": d\r\n\r\n", 6),
)
PIECES = [
    b"A: b",
    b"\r\n",
    b"\r",
    b"\n",
    b" ",
    b"\t",
    b"Received: x",
    b"no field",
    b":",
    b"x",
    b"\r\n\r\n",
    b"\xff",
    b"B : c",
]


def read(octets: bytes, cuts: list[int], limit: int = 1_000_000) -> HeaderReader:
    """A reader that got ``octets`` cut at ``cuts``."""
    reader = HeaderReader(limit)
    for start, end in zip([0, *cuts], [*cuts, len(octets)], strict=True):
        if reader.feed(octets[start:end]):
            break
    reader.finish()
    return reader


class BorderTests(SynchronousTestCase):
    """``border`` and ``HeaderReader`` mean the same."""

    def test_cases(self) -> None:
        """The header ends after the first empty line or before the first line that cannot stand in a header."""
        for octets, offset in BORDERS:
            self.assertEqual(header.border(octets), offset, octets)

    def test_every_cut(self) -> None:
        """The reader finds the border wherever its input is cut, and octet by octet."""
        for octets, offset in BORDERS:
            for cut in range(len(octets) + 1):
                self.assertEqual(read(octets, [cut]).header, octets[:offset], (octets, cut))
            self.assertEqual(read(octets, list(range(1, len(octets)))).header, octets[:offset], octets)

    @settings(deadline=None, max_examples=300)
    @given(st.lists(st.sampled_from(PIECES), max_size=14), st.lists(st.integers(0, 60), max_size=6))
    def test_any_cut(self, pieces: list[bytes], cuts: list[int]) -> None:
        """Whatever the octets and the cuts: the reader and ``border`` agree, and so do the fields."""
        octets = b"".join(pieces)
        places = sorted(min(cut, len(octets)) for cut in cuts)
        end = header.border(octets)
        self.assertEqual(read(octets, places).header, octets[:end])
        section = octets[:end]
        self.assertEqual(header.border(section), end)
        raws = [found.raw for found in header.fields(section)]
        self.assertTrue(section.startswith(b"\r\n".join(raws)))
        for name in (b"a", b"received", b"B"):
            values = [f.unfolded for f in header.fields(section) if f.name.lower() == name.lower()]
            self.assertEqual(header.count(section, name), len(values))
            self.assertEqual(header.has(section, name), bool(values))
            self.assertEqual(header.first(section, name), values[0] if values else None)

    @settings(deadline=None, max_examples=200)
    @given(st.lists(st.sampled_from(PIECES), max_size=14), st.lists(st.integers(0, 60), max_size=6), st.integers(1, 40))
    def test_limit(self, pieces: list[bytes], cuts: list[int], limit: int) -> None:
        """What the reader finds under a limit does not depend on the cuts; it never keeps more than the limit."""
        octets = b"".join(pieces)
        whole = read(octets, [], limit)
        cut = read(octets, sorted(min(cut, len(octets)) for cut in cuts), limit)
        self.assertEqual((whole.header, whole.too_large), (cut.header, cut.too_large))
        self.assertLessEqual(len(whole.header), limit)
        if whole.too_large:
            self.assertEqual(whole.header, octets[:limit])
        else:
            self.assertEqual(whole.header, octets[: header.border(octets)])

    def test_too_large(self) -> None:
        """Without an end within the limit the reader is done and says so."""
        reader = HeaderReader(100)
        self.assertFalse(reader.feed(b"A: b\r\n" * 10))
        self.assertTrue(reader.feed(b"A: b\r\n" * 10))
        self.assertTrue(reader.too_large)
        self.assertEqual(len(reader.header), 100)
        self.assertTrue(reader.feed(b"more"))
        self.assertEqual(len(reader.finish()), 100)

    def test_vectors(self) -> None:
        """Real and broken messages: the same border at random cuts, and the field names the standard parser sees."""
        if not VECTORS.exists():
            raise SkipTest(f"no test vectors at {VECTORS}")
        chance = random.Random(5322)
        compared = 0
        for path in sorted(path for path in VECTORS.rglob("*") if path.suffix in (".txt", ".eml")):
            octets = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\r", b"").replace(b"\n", b"\r\n")
            end = header.border(octets)
            for _ in range(5):
                cuts = sorted(chance.randrange(len(octets) + 1) for _ in range(4))
                self.assertEqual(read(octets, cuts).header, octets[:end], path)
            if not octets[:end].endswith(b"\r\n\r\n") or not octets[:end].isascii():
                continue
            theirs = email.message_from_bytes(octets[:end], policy=email.policy.compat32).keys()
            ours = [found.name.decode() for found in header.fields(octets[:end])]
            if " " not in "".join(theirs):
                self.assertEqual(ours, list(theirs), path)
                compared += 1
        self.assertGreater(compared, 20)


class LookingTests(SynchronousTestCase):
    """``fields``, ``count``, ``has``, ``first``, ``without``."""

    section = (
        b"received: a\r\nReceived-SPF: pass\r\nRECEIVED: b\r\n\tfor c\r\nReceived : d\r\n"
        b"Subject:  two\r\n words \r\nX: Received: no\r\n Received: no\r\n\r\n"
    )

    def test_fields(self) -> None:
        """Fields come in their order, with their folding; ``unfolded`` takes it away."""
        found = header.fields(self.section)
        self.assertEqual(
            [one.name for one in found],
            [b"received", b"Received-SPF", b"RECEIVED", b"Received", b"Subject", b"X"],
        )
        self.assertEqual(found[4].value, b"  two\r\n words ")
        self.assertEqual(found[4].unfolded, b"two words")
        self.assertEqual(b"\r\n".join(one.raw for one in found) + b"\r\n\r\n", self.section)

    def test_count(self) -> None:
        """Names are counted in any case, at the start of fields only, whole."""
        self.assertEqual(header.count(self.section, b"Received"), 3)
        self.assertEqual(header.count(self.section, b"received-spf"), 1)
        self.assertEqual(header.count(self.section, b"X"), 1)
        self.assertEqual(header.count(self.section, b"Receive"), 0)
        self.assertEqual(header.count(b"", b"Received"), 0)

    def test_first(self) -> None:
        """The topmost field's value, unfolded; ``None`` without one."""
        self.assertEqual(header.first(self.section, b"RECEIVED"), b"a")
        self.assertEqual(header.first(self.section, b"subject"), b"two words")
        self.assertEqual(header.first(self.section, b"X"), b"Received: no Received: no")
        self.assertIsNone(header.first(self.section, b"To"))
        self.assertEqual(header.first(b"A:", b"a"), b"")

    def test_has(self) -> None:
        """True at any place, first and last too."""
        for name in (b"Received", b"x", b"Subject"):
            self.assertTrue(header.has(self.section, name))
        self.assertFalse(header.has(self.section, b"for"))

    def test_without(self) -> None:
        """All fields of the name go, folding and all; nothing else changes, and without one nothing is copied."""
        self.assertEqual(
            header.without(self.section, b"RECEIVED"),
            b"Received-SPF: pass\r\nSubject:  two\r\n words \r\nX: Received: no\r\n Received: no\r\n\r\n",
        )
        self.assertIs(header.without(self.section, b"To"), self.section)
        self.assertEqual(header.without(b"A: b\r\n\r\n", b"a"), b"\r\n")
        self.assertEqual(header.without(b"A: b\r\n", b"a"), b"")

    def test_half_a_million_lines(self) -> None:
        """A header of 500 000 lines is looked through in bounded CPU time, in one piece or in packets."""
        octets = b"a:\r\n" * 500_000
        start = time.process_time()
        self.assertEqual(header.border(octets), len(octets))
        self.assertEqual(header.count(octets, b"A"), 500_000)
        self.assertEqual(header.first(octets, b"b"), None)
        reader = HeaderReader(len(octets))
        for at in range(0, len(octets), 1000):
            reader.feed(octets[at : at + 1000])
        self.assertEqual(len(reader.finish()), len(octets))
        self.assertLess(time.process_time() - start, 2.0)  # about 0.06 s; quadratic would be minutes

    def test_long_lines_octet_by_octet(self) -> None:
        """A line without end that comes one octet at a time costs no more than its length."""
        start = time.process_time()
        for opening, octet in ((b"A: ", b"x"), (b"A: b\r\n", b" "), (b"A: b\r\nC", b"c"), (b"", b"n"), (b"A", b" ")):
            reader = HeaderReader(50_000)
            reader.feed(opening)
            while not reader.feed(octet):
                pass
            self.assertLessEqual(len(reader.header), 50_000)
        self.assertLess(time.process_time() - start, 5.0)


class MakingTests(SynchronousTestCase):
    """``field`` and the encodings below it."""

    def test_plain(self) -> None:
        """A short field is one line."""
        self.assertEqual(header.field("Subject", "Hello there"), b"Subject: Hello there\r\n")
        self.assertEqual(header.field("Subject", ""), b"Subject:\r\n")

    def test_folded(self) -> None:
        """A long field is folded at spaces, at 78 octets, and unfolds to what it was."""
        value = "word " * 60 + "end"
        made = header.field("References", value)
        self.assertTrue(all(len(line) <= 78 for line in made.split(b"\r\n")))
        self.assertEqual(header.first(made, b"References"), value.encode())

    def test_encoded(self) -> None:
        """Text outside ASCII becomes encoded-words a mail reader decodes; with SMTPUTF8 it stays."""
        value = "Grüße aus Köln und " + "ü" * 200
        made = header.field("Subject", value)
        self.assertTrue(made.isascii())
        self.assertEqual(email.message_from_bytes(made, policy=email.policy.default)["Subject"], value)
        kept = header.field("Subject", value, smtputf8=True)
        self.assertEqual(kept.replace(b"\r\n", b""), f"Subject: {value}".encode())

    def test_looks_encoded(self) -> None:
        """Text that only looks like an encoded-word is not decoded by its reader."""
        value = "=?utf-8?b?SGE=?= really"
        read_back = email.message_from_bytes(header.field("Subject", value), policy=email.policy.default)["Subject"]
        self.assertEqual(read_back, value)

    def test_name(self) -> None:
        """What is no field name is an error."""
        for name in ("", "A B", "A:", "A\r\nB", "Ä"):
            self.assertRaises(ValueError, header.field, name, "x")

    @settings(deadline=None, max_examples=300)
    @given(st.text(max_size=300), st.integers(1, 30), st.booleans())
    def test_hostile(self, value: str, times: int, smtputf8: bool) -> None:
        """No value makes a second field, ends the header, or makes a line above 998 octets."""
        made = header.field("X-Words", value * times, smtputf8=smtputf8)
        self.assertEqual(header.border(made + b"\r\nbody"), len(made) + 2)
        self.assertEqual(len(header.fields(made)), 1)
        self.assertNotIn(transfer(made), ("binary",))
        self.assertTrue(all(line.strip() for line in made.split(b"\r\n")[:-1]))

    def test_one_endless_word(self) -> None:
        """A word that fits no line is cut, between characters."""
        for value in ("x" * 5000, "ü" * 5000, " " * 3000 + "y" * 1200, "a" + " " * 3000 + "b"):
            made = header.field("X", value, smtputf8=True)
            self.assertTrue(all(0 < len(line) <= 998 for line in made.split(b"\r\n")[:-1]))
            for line in made.split(b"\r\n"):
                line.decode("utf-8")

    def test_phrase(self) -> None:
        """A display-name is atoms, a quoted string or encoded-words."""
        self.assertEqual(phrase("Mail Delivery System"), "Mail Delivery System")
        self.assertEqual(phrase('a "b" \\ <c@d>'), '"a \\"b\\" \\\\ <c@d>"')
        self.assertEqual(phrase("Grüße"), encoded_words("Grüße"))
        self.assertEqual(phrase("Grüße", smtputf8=True), '"Grüße"')

    def test_unitext(self) -> None:
        """The 7-bit form of RFC 6533 section 3."""
        self.assertEqual(unitext("jöe+a b@x"), "j\\x{F6}e\\x{2B}a\\x{20}b@x")

    def test_transfer(self) -> None:
        """What octets need: 7bit, 8bit or binary."""
        for octets, wanted in (
            (b"", "7bit"),
            (b"a\r\n", "7bit"),
            (b"\xff\r\n", "8bit"),
            (b"a\n", "binary"),
            (b"a\r", "binary"),
            (b"a\0", "binary"),
            (b"x" * 998 + b"\r\n", "7bit"),
            (b"x" * 998, "7bit"),
            (b"x" * 999 + b"\r\n", "binary"),
            (b"x" * 999, "binary"),
        ):
            self.assertEqual(transfer(octets), wanted, octets[:5])

    @settings(deadline=None, max_examples=200)
    @given(st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b" ", b"\t", b"=", b"x" * 90, b"\xff", b"\0", b".", b"a"])))
    @example([b"\t.\xff.\n\r.=\r \r\x00\r\t\r\x00\x00a\xffa\r\xff\xff \x00\n\na\x00\x00..=a\n=\xff="])
    @example([b"x" * 75 + b"\n"])
    @example([b"x" * 76 + b"\n"])
    @example([b"x" * 72 + b"=\n="])
    def test_quoted_printable(self, pieces: list[bytes]) -> None:
        """Anything goes through quoted-printable unharmed, in lines of at most 76 octets."""
        octets = b"".join(pieces)
        made = quoted_printable(octets)
        self.assertEqual(transfer(made), "7bit")
        self.assertTrue(all(len(line) <= 76 for line in made.split(b"\r\n")))
        self.assertFalse(any(line.endswith((b" ", b"\t")) for line in made.split(b"\r\n")))
        back = email.message_from_bytes(b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + made)
        self.assertEqual(back.get_payload(decode=True), octets)
