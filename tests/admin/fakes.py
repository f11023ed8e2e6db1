"""Mails, a queue and a node in memory, for the tests of the operator's side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.testing import StringTransport

from tests.threads import ThreadsAtOnce
from twisted_mail_node.admin.control import ControlFactory
from twisted_mail_node.admin.orders import Orders
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.cause import understand
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.reasons import Reason
from twisted_mail_node.spool.mail import Attempt, Entry, Filter, Mail, State, Tally

JOE = Address("joe", "here.example")
CONTENT = b"From: joe@here.example\r\nSubject: greetings\r\n\r\nbody\r\n"


class Content:
    """IContent in memory."""

    eight_bit = False
    path = None

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


def fits(mail: Mail, wanted: Filter) -> bool:
    """Whether a filter means the mail, as ISpool says."""
    path = mail.envelope.reverse_path
    if wanted.queue_ids and mail.queue_id not in wanted.queue_ids:
        return False
    if wanted.sender and not (wanted.sender == "<>" if path is None else wanted.sender in str(path)):
        return False
    if (wanted.after and mail.received < wanted.after) or (wanted.before and mail.received >= wanted.before):
        return False
    return any(
        wanted.state in (None, entry.state)
        and wanted.destination in ("", entry.destination)
        and wanted.recipient in str(entry.recipient.address)
        and (not wanted.causes or code(entry) in wanted.causes)
        for entry in mail.entries
    )


def code(entry: Entry) -> str:
    """The cause a spool would have noted."""
    return understand(entry.last).code if entry.last is not None else ""


class FakeQueue:
    """Remembers what was ordered.

    :ivar tried: the attempts of each mail.
    :ivar stopped: destinations that are frozen, and why.
    """

    def __init__(self, mails: Sequence[Mail] = ()) -> None:
        self.mails = list(mails)
        self.tried: dict[str, list[Attempt]] = {}
        self.stopped: dict[str, str] = {}
        self.tallies = 0
        self.given: list[object] = []
        self.destinations: list[dict[str, Any]] = []
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
        return succeed([one for one in self.mails if fits(one, wanted)][: wanted.limit])

    def select(self, wanted: Filter, limit: int, after: str = "") -> Deferred[list[str]]:
        self.wanted.append(wanted)
        ids = [one.queue_id for one in self.mails if fits(one, wanted) and one.queue_id > after]
        return succeed(sorted(ids)[:limit])

    def tally(self, wanted: Filter, by: str = "destination") -> Deferred[list[Tally]]:
        self.tallies += 1
        if self.error is not None:
            raise self.error
        return succeed(
            [
                Tally(
                    str(one.envelope.reverse_path or "") if by == "sender" else entry.destination,
                    code(entry),
                    1,
                    one.received,
                )
                for one in self.mails
                for entry in one.entries
                if fits(one, wanted._replace(state=None)) and wanted.state in (None, entry.state)
            ]
        )

    def attempts(self, queue_id: str) -> Deferred[list[Attempt]]:
        return succeed(self.tried.get(queue_id, []))

    def count(self) -> Deferred[dict[str, int]]:
        states = [entry.state for one in self.mails for entry in one.entries]
        return succeed({"mails": len(self.mails)} | {state.name.lower(): states.count(state) for state in State})

    def status(self) -> dict[str, Any]:
        return {"hostname": "here.example", "mails": 0, "destinations": self.destinations}

    def freeze(self, destination: str, words: str) -> Deferred[None]:
        self.stopped[destination] = words
        return succeed(None)

    def thaw(self, destination: str) -> Deferred[bool]:
        return succeed(self.stopped.pop(destination, None) is not None)

    def frozen(self) -> list[dict[str, Any]]:
        return [{"destination": name, "words": words, "since": 500.0} for name, words in self.stopped.items()]

    def _order(self, name: str, queue_ids: Sequence[str]) -> Deferred[list[str]]:
        self.ordered.append((name, list(queue_ids)))
        known = {one.queue_id for one in self.mails}
        return succeed([one for one in queue_ids if one in known])

    def hold(self, queue_ids: Sequence[str]) -> Deferred[list[str]]:
        return self._order("hold", queue_ids)

    def release(self, queue_ids: Sequence[str]) -> Deferred[list[str]]:
        return self._order("release", queue_ids)

    def retry(self, queue_ids: Sequence[str], probe: bool = True) -> Deferred[list[str]]:
        self.given.append(probe)
        return self._order("retry", queue_ids)

    def reroute(self, queue_ids: Sequence[str], next_hop: str) -> Deferred[list[str]]:
        self.given.append(next_hop)
        return self._order("reroute", queue_ids)

    def fail(self, queue_ids: Sequence[str], words: str) -> Deferred[list[str]]:
        self.given.append(words)
        return self._order("fail", queue_ids)

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
        self.tls_results: Any = None
        self.dmarc_results: Any = None

    def status(self) -> dict[str, Any]:
        return {"hostname": "here.example", "listeners": ["tcp:2525"]}

    def rates(self) -> tuple[float, float]:
        return 2.5, 1.0

    def reload(self) -> Deferred[None]:
        self.reloads += 1
        if self.reload_error is not None:
            raise self.reload_error
        return succeed(None)


class Bridge:
    """A socket as ``ControlClient`` uses it, whose other end is the real control protocol of a fake node.

    :param now: what its clock says.
    """

    def __init__(self, node: FakeNode, now: float = 0.0) -> None:
        clock = ThreadsAtOnce()
        clock.advance(now)
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
