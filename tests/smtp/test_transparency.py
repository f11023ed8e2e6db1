"""Tests of twisted_mail_node.smtp.transparency."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.smtp.stuffing import stuffed
from twisted_mail_node.smtp.transparency import NewlineCheck, Unstuffer, has_bare_newline

#: Content made of what matters to the reader: line ends, dots, halves of both.
CONTENT = st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"..", b"a", b"\x00", b"\r\n."]), max_size=12).map(
    b"".join
)
LINES = st.lists(st.sampled_from([b"", b".", b"..", b"a", b".a", b"\xff\x00"]), max_size=8).map(
    lambda lines: b"".join(line + b"\r\n" for line in lines)
)
FOLLOWING = b"MAIL FROM:<>\r\n"


def unstuff(octets: bytes, cuts: list[int]) -> tuple[bytes, bytes, bool, bool]:
    """Read ``octets`` in pieces as the session does: content, what is left, whether it ended, whether it was bare."""
    reader = Unstuffer()
    buffer, at, found, ended = b"", 0, b"", False
    edges = [*sorted({cut for cut in cuts if 0 < cut < len(octets)}), len(octets)]
    start = 0
    for edge in edges:
        buffer = buffer[at:] + octets[start:edge]
        at, start = 0, edge
        if ended or not buffer:
            continue
        piece, at, ended = reader.take(buffer, at)
        found += piece
    return found, buffer[at:], ended, reader.bare


class UnstufferTests(SynchronousTestCase):
    """The content of DATA."""

    def test_table(self) -> None:
        """What octets after the 354 stand for, in one piece and at every cut."""
        table = [
            (b".\r\n", b""),
            (b"\r\n.\r\n", b"\r\n"),
            (b"a\r\n.\r\n", b"a\r\n"),
            (b"..\r\n.\r\n", b".\r\n"),
            (b".a\r\n.\r\n", b"a\r\n"),
            (b"a\r\n..\r\n..b\r\n.\r\n", b"a\r\n.\r\n.b\r\n"),
            (b"\r\n..\r\n.\r\n", b"\r\n.\r\n"),
            (b"a\r\n...\r\n.\r\n", b"a\r\n..\r\n"),
        ]
        for octets, content in table:
            whole = octets + FOLLOWING
            for cut in range(len(whole)):
                with self.subTest(octets=octets, cut=cut):
                    found, rest, ended, bare = unstuff(whole, [cut])
                    self.assertEqual((found, rest, ended, bare), (content, FOLLOWING, True, False))
            self.assertEqual(unstuff(whole, list(range(len(whole))))[:3], (content, FOLLOWING, True))

    def test_no_end(self) -> None:
        """Nothing but CRLF dot CRLF is the end."""
        for octets in (b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\r\n.\rx", b"\r\n. \r\n",
                       b"\r\n\x00.\r\n", b"\r\n.\x00\r\n", b"\n.\r", b"\r.\n", b"\r\n..\r\n",
                       b"\r\n.\r\r\n"):  # fmt: skip
            for cuts in ([], list(range(20))):
                self.assertFalse(unstuff(b"a" + octets + b"b", cuts)[2], octets)

    def test_bare(self) -> None:
        """A bare CR or LF is noticed, wherever the pieces are cut."""
        for octets, bare in ((b"a\nb\r\n.\r\n", True), (b"a\rb\r\n.\r\n", True), (b"\r\r\n\r\n.\r\n", True),
                             (b"a\r\n\n.\r\n\r\n.\r\n", True), (b"a\r\n\r\n.\r\n", False)):  # fmt: skip
            for cut in range(len(octets)):
                self.assertEqual(unstuff(octets, [cut])[2:], (True, bare), (octets, cut))

    @given(LINES, st.lists(st.integers(0, 60), max_size=6))
    def test_round(self, content: bytes, cuts: list[int]) -> None:
        """Stuffed content is unstuffed to itself, octet for octet, however it is cut, and nothing is eaten after it."""
        found = unstuff(stuffed(content) + FOLLOWING, cuts)
        self.assertEqual(found, (content, FOLLOWING, True, False))

    @given(CONTENT, st.lists(st.integers(0, 40), max_size=6))
    @settings(max_examples=300)
    def test_cuts_do_not_matter(self, octets: bytes, cuts: list[int]) -> None:
        """Any octets mean the same in one piece and in many."""
        whole, cut = unstuff(octets + b"\r\n.\r\nQUIT", []), unstuff(octets + b"\r\n.\r\nQUIT", cuts)
        self.assertTrue(cut[2])
        self.assertEqual(whole, cut)


class NewlineTests(SynchronousTestCase):
    """Bare line ends."""

    @given(CONTENT, st.lists(st.integers(0, 40), max_size=6))
    @settings(max_examples=300)
    def test_pieces(self, octets: bytes, cuts: list[int]) -> None:
        """Pieces, cut anywhere, give the answer of the whole."""
        check = NewlineCheck()
        start = 0
        for edge in [*sorted({cut for cut in cuts if cut < len(octets)}), len(octets)]:
            check.take(octets[start:edge])
            start = edge
        check.end()
        self.assertEqual(check.bare, has_bare_newline(octets))

    def test_whole(self) -> None:
        """A CR without LF, an LF without CR."""
        for octets, bare in ((b"", False), (b"a\r\nb", False), (b"\r\n\r\n", False), (b"\n", True), (b"\r", True),
                             (b"\n\r", True), (b"\r\r\n", True), (b"\r\n\n", True)):  # fmt: skip
            self.assertIs(has_bare_newline(octets), bare, octets)

    def test_half_is_no_answer(self) -> None:
        """A CR at the end of a piece waits for what follows; at the very end it is bare."""
        check = NewlineCheck()
        check.take(b"a\r")
        self.assertFalse(check.bare)
        check.take(b"\nb\r")
        self.assertFalse(check.bare)
        check.end()
        self.assertTrue(check.bare)
