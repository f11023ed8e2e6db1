"""Content reads the same wherever it lies, in pieces of any size, and says so when it cannot be read."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from twisted_mail_node.interfaces import IContent
from twisted_mail_node.spool.content import FileContent, InlineContent, RowContent


class BlocksTests(SynchronousTestCase):
    @given(st.binary(max_size=200), st.integers(1, 250))
    def test_pieces(self, octets: bytes, size: int) -> None:
        """The pieces are the content, each at most as large as was asked for."""
        path = Path(self.mktemp())
        path.write_bytes(octets)
        for content in (
            InlineContent(octets),
            FileContent(path, len(octets), False),
            RowContent(lambda: octets, len(octets), False),
        ):
            blocks = list(content.blocks(size))
            self.assertEqual(b"".join(blocks), octets)
            self.assertTrue(all(0 < len(block) <= size for block in blocks))
            self.assertEqual(content.size, len(octets))

    def test_interface(self) -> None:
        """All three are IContent; only what lies in memory has octets."""
        contents = (
            InlineContent(b"x"),
            FileContent(Path("x"), 1, False),
            RowContent(lambda: b"x", 1, False),
        )
        for content in contents:
            verifyObject(IContent, content)
        self.assertEqual([content.octets for content in contents], [b"x", None, None])

    def test_twice(self) -> None:
        """Content may be read more than once: each recipient's attempt does."""
        path = Path(self.mktemp())
        path.write_bytes(b"xyz")
        content = FileContent(path, 3, False)
        self.assertEqual(list(content.blocks()), list(content.blocks()))


class EightBitTests(SynchronousTestCase):
    def test_seen(self) -> None:
        """Content in memory is looked at when nobody has done so."""
        self.assertFalse(InlineContent(b"plain\r\n").eight_bit)
        self.assertTrue(InlineContent("grün\r\n".encode()).eight_bit)
        self.assertTrue(InlineContent(b"plain", True).eight_bit)


class UnreadableTests(SynchronousTestCase):
    def test_truncated(self) -> None:
        """A file that is shorter than it was is an OSError, after what there is."""
        path = Path(self.mktemp())
        path.write_bytes(b"x" * 99)
        blocks = FileContent(path, 100, False).blocks(50)
        self.assertEqual([len(next(blocks)), len(next(blocks))], [50, 49])
        self.assertRaises(OSError, next, blocks)

    def test_file_gone(self) -> None:
        """A file that is not there is an OSError."""
        self.assertRaises(OSError, list, FileContent(Path(self.mktemp()), 1, False).blocks())

    def test_row_gone(self) -> None:
        """A row that is not there any more is an OSError."""
        self.assertRaises(OSError, list, RowContent(lambda: None, 1, False).blocks())
