"""Tests of twisted_mail_node.inbound.content."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.inbound.memory import MemoryQueue
from twisted_mail_node.inbound.content import (
    BARE_NEWLINE,
    DISK_FULL,
    HEADER_TOO_LARGE,
    SPOOL_FAILED,
    TOO_LARGE,
    TOO_MANY_HOPS,
    ContentReader,
    spool_refusal,
)
from twisted_mail_node.settings import Limits
from twisted_mail_node.spool.mail import SpoolError


class ContentReaderTests(SynchronousTestCase):
    """The content of one mail."""

    def setUp(self) -> None:
        self.queue = MemoryQueue()

    def reader(self, **limits: int) -> ContentReader:
        """A reader with these limits."""
        return ContentReader(self.queue.begin(), Limits(**limits))

    def take(self, reader: ContentReader, *pieces: bytes) -> None:
        """Bring pieces; none may wait here."""
        for piece in pieces:
            taking = reader.take(piece)
            self.assertRaises(StopIteration, taking.send, None)

    def finish(self, reader: ContentReader, bare: bool = False) -> bytes:
        """The end of the content; it may not wait either."""
        with self.assertRaises(StopIteration) as caught:
            reader.finish(bare).send(None)
        header: bytes = caught.exception.value
        return header

    def test_good(self) -> None:
        """Pieces go to the spool as they are; the header section is known at the end."""
        reader = self.reader()
        self.take(reader, b"Subject: ", b"x\r\n", b"\r", b"\nbody\r\n")
        self.assertEqual(self.finish(reader), b"Subject: x\r\n\r\n")
        self.assertEqual((reader.refusal, reader.size, self.queue.begun[0].size), (None, 20, 20))

    def test_size_while_it_arrives(self) -> None:
        """The bound holds while octets arrive: the first one above it gives the mail up, the rest is forgotten."""
        reader = self.reader(message_size=10)
        self.take(reader, b"Subj: x\r\n\r")
        self.assertIsNone(reader.refusal)
        self.take(reader, b"\n")
        self.assertEqual(reader.refusal, TOO_LARGE)
        self.assertEqual(self.queue.begun[0].state, "aborted")
        self.take(reader, b"x" * 1000)
        self.assertEqual(self.queue.begun[0].size, 0, "a header that is not complete was not kept")
        self.finish(reader, bare=True)
        self.assertEqual(reader.refusal, TOO_LARGE, "the first refusal is told")

    def test_header_size(self) -> None:
        """A header section without an end is given up at its bound, cut anywhere."""
        for size in (1, 7, 100):
            reader = self.reader(header_size=50)
            line = b"X: yyyyyyyyy\r\n" * 10
            self.take(reader, *(line[at : at + size] for at in range(0, len(line), size)))
            self.assertEqual(reader.refusal, HEADER_TOO_LARGE)
        reader = self.reader(header_size=50)
        self.take(reader, b"X: y\r\n\r\n" + b"body\r\n" * 100)
        self.assertIsNone(reader.refusal)

    def test_hops(self) -> None:
        """A hundred Received fields are taken, one more is a loop; what only looks like one does not count."""
        for fields, refusal in ((100, None), (101, TOO_MANY_HOPS)):
            reader = self.reader()
            self.take(reader, b"received: x\r\n" * fields + b"X-Received: y\r\nSubject: x\r\n Received: z\r\n\r\n")
            self.take(reader, b"Received: body\r\n")
            self.finish(reader)
            self.assertEqual(reader.refusal, refusal)

    def test_bare(self) -> None:
        """A bare CR or LF refuses the mail at its end."""
        reader = self.reader()
        self.take(reader, b"Subject: x\n\n")
        self.finish(reader, bare=True)
        self.assertEqual(reader.refusal, BARE_NEWLINE)
        self.assertEqual(BARE_NEWLINE.enhanced, "5.6.0")

    def test_spool_fails(self) -> None:
        """A spool that fails is remembered; what still comes is forgotten and nothing is raised."""
        for error, reply in ((SpoolError("x"), SPOOL_FAILED), (SpoolError("x", full=True), DISK_FULL)):
            self.queue.write_error = error
            reader = self.reader()
            self.take(reader, b"Subject: x\r\n", b"\r\n")
            self.assertEqual(reader.refusal, reply)
            self.assertEqual(spool_refusal(error), reply)
            self.assertTrue(reply.is_temporary)

    def test_empty(self) -> None:
        """A mail without a single octet is a mail."""
        reader = self.reader()
        self.assertEqual((self.finish(reader), reader.refusal, reader.size), (b"", None, 0))
