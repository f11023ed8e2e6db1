"""Mails, a queue and a node in memory, for the tests of the operator's side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from twisted_mail_node.admin.control import ControlFactory
from twisted_mail_node.admin.orders import Orders
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.reasons import Reason
from twisted_mail_node.spool.mail import Entry, Filter, Mail, State

JOE = Address("joe", "here.example")
CONTENT = b"From: joe@here.example\r\nSubject: greetings\r\n\r\nbody\r\n"


class Content:
    """IContent in memory."""

    eight_bit = False

    def __init__(self, octets: bytes = CONTENT) -> None:
        self.octets = octets
        self.size = len(octets)

    def blocks(self, size: int = 262144) -> Iterator[bytes]:
        for start in range(0, self.size, size):
            yield self.octets[start : start + size]


def mail(queue_id: str, *entries: Entry, sender: Address | None = JOE, **fields: Any) -> Mail:
    """A mail with a delayed recipient, unless ``entries`` say otherwise; ``fields`` are the envelope's."""
    if not entries:
        address = Address("ann", "there.example")
        status = DeliveryStatus(
            Action.DELAYED, "4.4.1", Reason.CONNECT_FAILED, "connection refused", "mx.there.example", "192.0.2.7:25"
        )
        entries = (Entry(0, Recipient(address, address), State.DELAYED, 2000.0, 3, "there.example", status),)
    recipients = tuple(entry.recipient for entry in entries)
    came: dict[str, Any] = {"client": "192.0.2.1", "helo": "client.example", "protocol": "ESMTP", "session": "s1"}
    envelope = Envelope(sender, recipients, **came | fields)
    return Mail(queue_id, envelope, b"Received: by here.example\r\n", Content(), 1000.0, entries)  # type: ignore[arg-type]


class FakeQueue:
    """Remembers what was ordered."""

    def __init__(self, mails: Sequence[Mail] = ()) -> None:
        self.mails = list(mails)
        self.ordered: list[tuple[str, list[str]]] = []
        self.wanted: list[Filter] = []
        self.error: Exception | None = None
        self.waiting: Deferred[list[Mail]] | None = None

    def find(self, wanted: Filter) -> Deferred[list[Mail]]:
        self.wanted.append(wanted)
        if self.error is not None:
            raise self.error
        if self.waiting is not None:
            return self.waiting
        ids = wanted.queue_ids
        return succeed([one for one in self.mails if not ids or one.queue_id in ids][: wanted.limit])

    def _order(self, name: str, queue_ids: Sequence[str]) -> Deferred[list[str]]:
        self.ordered.append((name, list(queue_ids)))
        known = {one.queue_id for one in self.mails}
        return succeed([one for one in queue_ids if one in known])

    def hold(self, queue_ids: Sequence[str]) -> Deferred[list[str]]:
        return self._order("hold", queue_ids)

    def release(self, queue_ids: Sequence[str]) -> Deferred[list[str]]:
        return self._order("release", queue_ids)

    def retry(self, queue_ids: Sequence[str]) -> Deferred[list[str]]:
        return self._order("retry", queue_ids)

    def remove(self, queue_ids: Sequence[str]) -> Deferred[list[str]]:
        return self._order("remove", queue_ids)


class FakeLevels:
    """What was reached with two domains."""

    def __init__(self) -> None:
        self.known = {"b.example": "dane", "a.example": "encrypted"}

    def all(self) -> dict[str, str]:
        return dict(self.known)

    def forget(self, domain: str) -> str:
        return self.known.pop(domain, "")


class FakeNode:
    """A node that is well."""

    def __init__(self, mails: Sequence[Mail] = ()) -> None:
        self.queue = FakeQueue(mails)
        self.tls_levels = FakeLevels()
        self.reloads = 0
        self.reload_error: Exception | None = None
        self.inquiry: Any = None

    def status(self) -> dict[str, Any]:
        return {"hostname": "here.example", "listeners": ["tcp:2525"]}

    def reload(self) -> Deferred[None]:
        self.reloads += 1
        if self.reload_error is not None:
            raise self.reload_error
        return succeed(None)


class Bridge:
    """A socket as ``ControlClient`` uses it, whose other end is the real control protocol of a fake node."""

    def __init__(self, node: FakeNode) -> None:
        clock = Clock()
        orders = Orders(node, clock, lambda: None)
        self._protocol = ControlFactory(orders, clock).buildProtocol(None)
        self._transport = EagerTransport()
        self._protocol.makeConnection(self._transport)

    def __enter__(self) -> Bridge:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def settimeout(self, seconds: float) -> None:
        """Nothing here waits."""

    def sendall(self, octets: bytes) -> None:
        self._protocol.dataReceived(octets)

    def recv(self, size: int) -> bytes:
        octets = self._transport.value()[:size]
        rest = self._transport.value()[size:]
        self._transport.clear()
        self._transport.write(rest)
        return bytes(octets)

    def close(self) -> None:
        """Nothing is open."""


class EagerTransport(StringTransport):
    """Asks a pull producer for more until it has no more, as a reader that never sleeps makes the reactor do."""

    reading = True
    aborted = False

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        super().registerProducer(producer, streaming)  # type: ignore[no-untyped-call]
        while self.reading and self.producer is not None:
            producer.resumeProducing()

    def abortConnection(self) -> None:
        self.aborted = True
        self.loseConnection()
