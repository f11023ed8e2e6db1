"""Tests of twisted_mail_node.smtp.stuffing."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.smtp.stuffing import BareNewlineError, Stuffer, refuse_bare_newlines, stuffed

END = b"\r\n.\r\n"

# Content with many line ends and dots in odd places.
ANY = st.lists(st.sampled_from((b"\r\n", b".", b"\r", b"\n", b"a", b"\0", b"\xff"))).map(b"".join)
GOOD = st.lists(st.sampled_from((b"\r\n", b".", b"..", b"a", b"\0", b"\xff"))).map(b"".join)


def unstuffed(wire: bytes) -> bytes:
    """What a server makes of it (RFC 5321 section 4.5.2), told line by line: the reference for the tests."""
    content: list[bytes] = []
    lines = wire.split(b"\r\n")
    while True:
        line = lines.pop(0)
        if line == b".":
            assert lines == [b""], "something follows the end"
            return b"".join(content)
        content.append((line[1:] if line.startswith(b".") else line) + b"\r\n")


def in_pieces(pieces: list[bytes], dots: bool = True) -> bytes:
    stuffer = Stuffer(dots)
    return b"".join([stuffer.feed(piece) for piece in pieces]) + stuffer.finish()


def cut(content: bytes, places: list[int]) -> list[bytes]:
    borders = [0, *sorted(place % (len(content) + 1) for place in places), len(content)]
    return [content[a:b] for a, b in pairwise(borders)]


class StuffingTests(SynchronousTestCase):
    def test_dot_at_offset_zero(self) -> None:
        """A dot that begins the content is doubled."""
        self.assertEqual(stuffed(b".a\r\n"), b"..a" + END)
        self.assertEqual(stuffed(b".\r\n"), b".." + END)

    def test_empty(self) -> None:
        """No content is its end alone."""
        self.assertEqual(stuffed(b""), b".\r\n")
        self.assertEqual(in_pieces([]), b".\r\n")

    def test_last_line_without_end(self) -> None:
        """A last line without CRLF gets one, and a CR at the end is bare."""
        self.assertEqual(stuffed(b"a"), b"a" + END)
        self.assertRaises(BareNewlineError, refuse_bare_newlines, b"a\r")
        self.assertRaises(BareNewlineError, in_pieces, [b"a\r"])

    def test_every_border(self) -> None:
        """Cutting the content at any two places gives the same octets."""
        content = b".a\r\n.\r\n..b\r\n\r\n.c.\r\n"
        whole = stuffed(content)
        for first in range(len(content) + 1):
            for second in range(first, len(content) + 1):
                pieces = [content[:first], content[first:second], content[second:]]
                self.assertEqual(in_pieces(pieces), whole, (first, second))

    def test_bare_newlines_never_pass(self) -> None:
        """No bare CR or LF is written, whichever smuggling sequence holds it and wherever it is cut."""
        for sequence in (
            b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\n.\r", b"\r.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r",
            b"\r\r\n.\r\r\n", b"\r\n\r.\r\n",
        ):  # fmt: skip
            content = b"a" + sequence + b"MAIL FROM:<joe@example.org>\r\n"
            self.assertRaises(BareNewlineError, refuse_bare_newlines, content)
            for place in range(len(content) + 1):
                self.assertRaises(BareNewlineError, in_pieces, [content[:place], content[place:]])

    @given(GOOD, st.lists(st.integers(0, 1000), max_size=6))
    def test_unstuffing_gives_the_content(self, content: bytes, places: list[int]) -> None:
        """parse(emit(x)) is x, but for a CRLF at the end where there was none; whole and in pieces."""
        refuse_bare_newlines(content)
        wire = stuffed(content)
        expected = content if not content or content.endswith(b"\r\n") else content + b"\r\n"
        self.assertEqual(unstuffed(wire), expected)
        self.assertEqual(in_pieces(cut(content, places)), wire)

    @given(ANY, st.lists(st.integers(0, 1000), max_size=6), st.booleans())
    def test_nothing_bare_is_written(self, content: bytes, places: list[int], dots: bool) -> None:
        """Whatever is stored: what is written has no bare CR or LF, and one end only."""
        stuffer = Stuffer(dots)
        wire = b""
        try:
            for piece in cut(content, places):
                wire += stuffer.feed(piece)
            wire += stuffer.finish()
        except BareNewlineError:
            self.assertRaises(BareNewlineError, refuse_bare_newlines, content)
            self.assertNotIn(END, wire if dots else b"")
        else:
            refuse_bare_newlines(content)
            if dots:
                self.assertEqual((b"\r\n" + wire).find(END), len(wire) - 3)
            else:
                self.assertEqual(wire, content)
        self.assertIsNone(re.search(rb"(?<!\r)\n|\r(?!\n)", wire))
