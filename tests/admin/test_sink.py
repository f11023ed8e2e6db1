"""The sink takes every mail, keeps none, and counts right."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.admin.sink import Counter, Everybody, SinkQueue, sink_factory
from twisted_mail_node.directory.resolution import Resolution
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient


class SinkTest(SynchronousTestCase):
    """Queue, directory and counts."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.queue = SinkQueue(self.clock)
        self.said: list[str] = []

    def put(self, *pieces: bytes) -> None:
        ann = Address("ann", "b.example")
        incoming = self.queue.begin()
        for piece in pieces:
            _run(incoming.write(piece))
        mail = _run(incoming.commit(Envelope(None, (Recipient(ann, ann), Recipient(ann, ann))), b"header"))
        self.assertEqual(list(mail.content.blocks()), [])

    def test_counts(self) -> None:
        """Mails, recipients and octets are counted when the mail is committed, and not when it is aborted."""
        self.put(b"12345", b"678")
        self.put(b"9")
        incoming = self.queue.begin()
        _run(incoming.write(b"x"))
        incoming.abort()
        self.assertEqual((self.queue.mails, self.queue.recipients, self.queue.octets), (2, 4, 9))

    def test_report(self) -> None:
        """A line comes only when something came; the last line has the rate while mails came."""
        counter = Counter(self.queue, self.said.append)
        self.clock.advance(1)
        counter.report()
        self.assertEqual(self.said, [])
        for _ in range(10):
            self.put(b"x")
        self.clock.advance(1)
        counter.report()
        self.clock.advance(60)
        counter.total()
        self.assertEqual(
            self.said,
            [
                "10 mails, 20 recipients, 10 octets (10 mails/s)",
                "In all: 10 mails, 20 recipients, 10 octets, 10 mails/s while they came.",
            ],
        )

    def test_nothing(self) -> None:
        """A sink nobody wrote to says so."""
        Counter(self.queue, self.said.append).total()
        self.assertEqual(self.said, ["In all: 0 mails, 0 recipients, 0 octets."])

    def test_everybody(self) -> None:
        """Everybody lives here."""
        address = Address("who", "ever.example")
        resolution = _run(Everybody().resolve(address))
        self.assertEqual(resolution, Resolution(True, (address,)))

    def test_by_smtp(self) -> None:
        """A whole session for a domain nobody heard of ends with 250 and one mail counted."""
        factory = sink_factory(self.queue, self.clock)
        protocol, transport = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 4000)), StringTransport()
        protocol.makeConnection(transport)
        for line in (b"EHLO x.example\r\n", b"MAIL FROM:<a@b.example>\r\n", b"RCPT TO:<c@d.example>\r\n", b"DATA\r\n"):
            protocol.dataReceived(line)
        protocol.dataReceived(b"Subject: x\r\n\r\nbody\r\n.\r\n")
        self.assertIn(b"\r\n354 ", transport.value())
        self.assertIn(b"250 2.0.0 ", transport.value())
        self.assertEqual((self.queue.mails, self.queue.recipients), (1, 1))


def _run(coroutine: Any) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")
