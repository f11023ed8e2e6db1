"""Tests of twisted_mail_node.inbound.submitted."""

from __future__ import annotations

import time
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.inbound.memory import MemoryQueue
from twisted_mail_node.inbound.content import (
    BARE_NEWLINE,
    DISK_FULL,
    HEADER_TOO_LARGE,
    TOO_LARGE,
    TOO_MANY_HOPS,
)
from twisted_mail_node.inbound.repair import LINES_MAX
from twisted_mail_node.inbound.submitted import NO_BORDER, SubmittedReader
from twisted_mail_node.settings import Limits
from twisted_mail_node.spool.mail import SpoolError

HEADER = b"From: joe@example.org\r\nSubject: x\r\n\r\n"


class SubmittedReaderTests(SynchronousTestCase):
    """The content of one submitted mail."""

    def setUp(self) -> None:
        self.queue = MemoryQueue()

    def read(
        self, *pieces: bytes, repair: bool = True, binary: bool = False, smtputf8: bool = False, strict: bool = True,
        bare: bool = False, **limits: int,
    ) -> SubmittedReader:  # fmt: skip
        """A reader that has read these pieces to the end."""
        reader = SubmittedReader(
            self.queue.begin(), Limits(**limits), repair=repair, binary=binary, smtputf8=smtputf8, strict=strict
        )
        for step in (*(reader.take(piece) for piece in pieces), reader.finish(bare)):
            self.assertRaises(StopIteration, step.send, None)
        return reader

    def kept(self) -> bytes:
        """What the spool got of the last mail."""
        return b"".join(self.queue.begun[-1]._pieces)

    def test_good(self) -> None:
        """What has no fault goes to the spool as it is; its size is what came."""
        reader = self.read(HEADER + b"body\r\n", b"more\r\n")
        self.assertEqual((reader.refusal, reader.header, reader.size), (None, HEADER, len(HEADER) + 12))
        self.assertEqual((self.kept(), reader.charset, reader.body("7BIT")), (HEADER + b"body\r\nmore\r\n", "", "7BIT"))

    def test_streams(self) -> None:
        """The header is held back until it is complete; from then on each piece goes on at once."""
        reader = SubmittedReader(self.queue.begin(), Limits(), repair=True, binary=False, smtputf8=False, strict=True)
        sizes = []
        for piece in (b"From: joe@example.org\r\n", b"Bcc: x@y\r\n", b"\r\nbo", b"dy"):
            self.assertRaises(StopIteration, reader.take(piece).send, None)
            sizes.append(self.queue.begun[-1].size)
        self.assertEqual(sizes, [0, 0, 27, 29])

    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.integers(0, 200), max_size=10), st.booleans())
    def test_cut_anywhere(self, cuts: list[int], ends: bool) -> None:
        """However the content is cut, the same is kept and known of it."""
        content = (
            "From: Jürgen <joe@example.org>\nBcc: a@b\n c@d\r\nSubject: x\r\rGrüße\n.\r\nTo: nobody".encode()
            + (b"\r\n" if ends else b"\r")
        )  # fmt: skip
        places = sorted({min(cut, len(content)) for cut in cuts} | {0, len(content)})
        reader = self.read(*(content[start:end] for start, end in pairwise(places)), bare=True)
        self.assertIsNone(reader.refusal)
        header = b"From: =?utf-8?b?SsO8cmdlbg==?= <joe@example.org>\r\nSubject: x\r\n\r\n"
        self.assertEqual(reader.header, header)
        self.assertEqual(self.kept(), header + "Grüße\r\n.\r\nTo: nobody\r\n".encode())
        self.assertEqual((reader.charset, reader.body("7BIT"), reader.size), ("utf-8", "8BITMIME", len(content)))

    def test_charset(self) -> None:
        """A body above ASCII of which nothing is said: utf-8 if it is, else honestly unknown."""
        for pieces, charset in (
            ((b"ascii",), ""),
            (("ü".encode(),), "utf-8"),
            ((b"a\xc3", b"\xbcb"), "utf-8"),
            ((b"a\xc3", b"b"), "unknown-8bit"),
            ((b"a\xc3",), "unknown-8bit"),
            ((b"\xff", "ü".encode()), "unknown-8bit"),
        ):
            reader = self.read(HEADER, *pieces)
            self.assertEqual((reader.charset, reader.eight_bit), (charset, charset != ""), pieces)
            mime = b"Content-Type: text/plain; charset=iso-8859-1\r\n" + HEADER
            self.assertEqual(self.read(mime, *pieces).charset, "")
            self.assertEqual(self.read(mime, *pieces).body("7BIT"), "8BITMIME" if charset else "7BIT")
            self.assertEqual(self.read(mime, *pieces).body("8BITMIME"), "8BITMIME")

    def test_binary(self) -> None:
        """BINARYMIME: the body's octets stay, nothing is said of it; its header is text all the same."""
        body = b"\xff\r\n\n\r\0"
        reader = self.read(HEADER + body, binary=True)
        self.assertEqual((reader.refusal, self.kept()), (None, HEADER + body))
        self.assertEqual((reader.charset, reader.body("BINARYMIME")), ("", "BINARYMIME"))
        self.assertEqual(self.read(b"X: a\nFrom: b\r\n" + HEADER, binary=True).refusal, BARE_NEWLINE)

    def test_refuse_newlines(self) -> None:
        """Where the settings say so, a bare CR or LF refuses the mail."""
        self.assertEqual(self.read(HEADER + b"a\nb", repair=False, bare=True).refusal, BARE_NEWLINE)

    def test_border(self) -> None:
        """Who has signed in has no line in the header that is no field: others may see the header go on below it."""
        for content in (
            b"From: a@b\r\njunk\r\nFrom: c@d\r\n\r\n",
            b"From: a@b\r\njunk",
            b"From: a@b\r\n\xa0From: c@d\r\n",
        ):
            self.assertEqual(self.read(content).refusal, NO_BORDER, content)
            self.assertIsNone(self.read(content, strict=False).refusal)
        for content in (b"From: a@b\r\n", b"From: a@b", b"From: a@b\r\n\r\n", b"", b"\r\n", b"\r\nbody", b"body"):
            self.assertIsNone(self.read(content).refusal, content)

    def test_limits(self) -> None:
        """Sizes are bounded as they are elsewhere; a header of very many lines is none; hops are counted."""
        self.assertEqual(self.read(HEADER, b"x" * 100, message_size=50).refusal, TOO_LARGE)
        self.assertEqual(self.read(b"X: y\r\n" * 20, header_size=50).refusal, HEADER_TOO_LARGE)
        self.assertEqual(self.read(b"X:\r\n" * (LINES_MAX + 1)).refusal, HEADER_TOO_LARGE)
        self.assertEqual(self.read(b"Received: x\r\n" * 101 + HEADER).refusal, TOO_MANY_HOPS)
        self.assertIsNone(self.read(b"\n" * 40, message_size=50).refusal, "the size is that of what came")

    def test_spool_fails(self) -> None:
        """A spool that fails is remembered, and nothing is raised."""
        self.queue.write_error = SpoolError("full", full=True)
        self.assertEqual(self.read(HEADER, b"body").refusal, DISK_FULL)
        self.assertEqual(self.read(HEADER[:9]).refusal, DISK_FULL)

    def test_time(self) -> None:
        """T32: the worst headers that are looked at take less than a turn of 50 ms should (here with a margin)."""
        names = "To: " + ", ".join(f"Jürgen <a{number}@b.example>" for number in range(2500))
        for header in (
            b"bcc:\r\n" * LINES_MAX, b"X:\xc3\xbc\r\n" * LINES_MAX, b"Bcc:" + b"\r\n " * LINES_MAX, names.encode(),
            b"To: " + b"\xc3\xbc," * 20000, b"X:" * 300_000, b"Received:\r\n" * LINES_MAX,
        ):  # fmt: skip
            began = time.process_time()
            self.read(header + b"\r\n\r\n")
            self.assertLess(time.process_time() - began, 0.5, header[:20])
