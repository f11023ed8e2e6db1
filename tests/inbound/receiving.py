"""A receiver for tests: a real ``ESMTPFactory`` with a queue in memory, a directory in a dict and a ``Clock``.

``TestReceiver().connect()`` gives the client's end of a session: ``say`` sends lines, ``said`` gives what came back.
The switches of ``MemoryQueue`` let a write or a commit wait, or fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, TypeVar

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_mail_node.directory.names import folded
from twisted_mail_node.directory.resolution import Resolution
from twisted_mail_node.events import Event
from twisted_mail_node.inbound.connection import Connection, Refused
from twisted_mail_node.inbound.factory import ESMTPFactory
from twisted_mail_node.interfaces import IDirectory, IIncoming, IMailQueue, IPolicy
from twisted_mail_node.message.address import Address, domain_key
from twisted_mail_node.message.envelope import Envelope
from twisted_mail_node.policy.chain import Chain
from twisted_mail_node.policy.recipients import Recipients
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import Limits
from twisted_mail_node.spool.content import InlineContent
from twisted_mail_node.spool.mail import Entry, Mail, State

E = TypeVar("E")

#: What the receiver's wall clock shows: 14 November 2023.
EPOCH = 1_700_000_000.0
#: A client whose network is nowhere named.
STRANGER = "192.0.2.9"


@dataclass
class Kept:
    """A mail that was accepted."""

    queue_id: str
    envelope: Envelope
    header: bytes
    content: bytes
    held: str

    @property
    def recipients(self) -> list[str]:
        """Where it goes."""
        return [str(recipient.address) for recipient in self.envelope.recipients]


@implementer(IIncoming)
class MemoryIncoming:
    """A mail on its way into the MemoryQueue."""

    def __init__(self, queue: MemoryQueue, queue_id: str) -> None:
        self._queue = queue
        self._pieces: list[bytes] = []
        self._held = ""
        self.queue_id = queue_id
        self.size = 0
        self.state = "open"

    async def write(self, octets: bytes) -> None:
        assert self.state == "open", self.state
        queue = self._queue
        if queue.write_error is not None:
            raise queue.write_error
        self._pieces.append(octets)
        self.size += len(octets)
        if queue.writes_wait:
            await queue.wait()

    def hold(self, why: str) -> None:
        self._held = why

    async def commit(self, envelope: Envelope, header: bytes) -> Mail:
        assert self.state == "open", self.state
        queue = self._queue
        self.state = "committing"
        if queue.commits_wait:
            await queue.wait()
        if queue.commit_error is not None:
            self.state = "failed"
            raise queue.commit_error
        self.state = "kept"
        content = b"".join(self._pieces)
        queue.mails.append(Kept(self.queue_id, envelope, header, content, self._held))
        state = State.HELD if self._held else State.ACTIVE
        entries = tuple(Entry(number, recipient, state) for number, recipient in enumerate(envelope.recipients))
        return Mail(self.queue_id, envelope, header, InlineContent(content), EPOCH, entries)

    def abort(self) -> None:
        if self.state == "open":
            self.state = "aborted"


@implementer(IMailQueue)
class MemoryQueue:
    """Keeps mails in a list.

    :ivar mails: what was accepted, in order.
    :ivar begun: every incoming mail, with its ``state``: open, committing, kept, failed, aborted.
    :ivar writes_wait: each write waits until ``go_on``.
    :ivar commits_wait: each commit waits until ``go_on``.
    :ivar write_error: each write raises it.
    :ivar commit_error: each commit raises it (when it has waited).
    """

    def __init__(self) -> None:
        self.mails: list[Kept] = []
        self.begun: list[MemoryIncoming] = []
        self.writes_wait = False
        self.commits_wait = False
        self.write_error: Exception | None = None
        self.commit_error: Exception | None = None
        self.waiting: list[Deferred[None]] = []

    def begin(self) -> MemoryIncoming:
        incoming = MemoryIncoming(self, f"Q{len(self.begun) + 1}")
        self.begun.append(incoming)
        return incoming

    def wait(self) -> Deferred[None]:
        """Something that lasts until ``go_on``."""
        waiting: Deferred[None] = Deferred()
        self.waiting.append(waiting)
        return waiting

    def go_on(self) -> None:
        """Let everything that waits now go on."""
        waiting, self.waiting = self.waiting, []
        for one in waiting:
            one.callback(None)


#: Addresses of the DictDirectory and where their mail goes; the empty tuple leads in a circle.
PEOPLE: dict[str, tuple[str, ...]] = {
    "joe@example.org": ("joe@example.org",),
    "ann@example.org": ("ann@example.org",),
    "demo@example.org": ("demo@example.org",),
    "joe smith@example.org": ("joe smith@example.org",),
    "jürgen@example.org": ("jürgen@example.org",),
    "postmaster@example.org": ("joe@example.org",),
    "sales@example.org": ("joe@example.org", "ann@example.org"),
    "far@example.org": ("far@elsewhere.example",),
    "circle@example.org": (),
    "joe@[192.0.2.1]": ("joe@example.org",),
    "joe@xn--bcher-kva.example": ("joe@xn--bcher-kva.example",),
}


@implementer(IDirectory)
class DictDirectory:
    """Who lives here, as a dict says it.

    :ivar error: raised for every question.
    :ivar waiting: set a list here, and every question waits for a Deferred that is put into it.
    """

    def __init__(self, people: dict[str, tuple[str, ...]] | None = None) -> None:
        self._people: dict[tuple[str, str], tuple[Address, ...]] = {}
        for name, targets in (PEOPLE if people is None else people).items():
            local, _, domain = name.rpartition("@")
            to = tuple(Address(*target.rpartition("@")[::2]) for target in targets)
            self._people[folded(local), domain] = to
        self._domains = {domain for _, domain in self._people}
        self.error: Exception | None = None
        self.waiting: list[Deferred[None]] | None = None

    async def resolve(self, address: Address) -> Resolution:
        if self.error is not None:
            raise self.error
        if self.waiting is not None:
            waiting: Deferred[None] = Deferred()
            self.waiting.append(waiting)
            await waiting
        if not self.is_local(address.domain):
            return Resolution(False, (address,))
        key = (folded(address.local_part), domain_key(address.domain) or "example.org")
        if key not in self._people:
            return Resolution(True, (), False, Reason.UNKNOWN_RECIPIENT)
        targets = self._people[key]
        if not targets:
            return Resolution(True, (), False, Reason.ALIAS_LOOP)
        return Resolution(True, targets, targets != (address,))

    def is_local(self, domain: str) -> bool:
        return not domain or domain_key(domain) in self._domains


class Wire(StringTransport):
    """The transport below a connection.

    :ivar writes: each write by itself.
    :ivar unread: the client reads nothing: what is written stays, and closing waits for it.
    """

    def __init__(self, client: str) -> None:
        kind = IPv6Address if ":" in client else IPv4Address
        super().__init__(peerAddress=kind("TCP", client, 40000), lenient=True)  # type: ignore[no-untyped-call]
        self.writes: list[bytes] = []
        self.unread = False
        self.lost = False
        self.no_delay = False

    def write(self, data: bytes) -> None:
        if not self.lost and not self.disconnecting:
            self.writes.append(data)
            super().write(data)  # type: ignore[no-untyped-call]

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled


class Peer:
    """The client's end of one connection."""

    def __init__(self, protocol: Any, client: str) -> None:
        self.protocol: Connection | Refused = protocol
        self.wire = Wire(client)
        protocol.makeConnection(self.wire)
        self._settle()

    @property
    def closed(self) -> bool:
        """The server has closed the connection."""
        return self.wire.disconnecting

    def send(self, octets: bytes, cuts: Iterable[int] = ()) -> None:
        """Send octets, in one packet or cut at these places; what comes after the end of the connection is lost."""
        start = 0
        for cut in [*cuts, len(octets)]:
            if cut > start and not self.wire.lost:
                self.protocol.dataReceived(octets[start:cut])
                self._settle()
            start = max(start, cut)

    def say(self, *lines: str) -> str:
        """Send lines in one packet; gives the answer."""
        self.send("".join(line + "\r\n" for line in lines).encode())
        return self.said()

    def said(self) -> str:
        """What the server said since it was last asked."""
        octets: bytes = self.wire.value()
        self.wire.clear()
        return octets.decode()

    def codes(self) -> list[int]:
        """The codes of the replies since it was last asked."""
        return list(codes(self.said()))

    def vanish(self) -> None:
        """The connection breaks."""
        self._lose(ConnectionLost())

    def read_all(self) -> None:
        """The client reads again."""
        self.wire.unread = False
        if self.wire.producer is not None:
            self.wire.producer.resumeProducing()
        self._settle()

    def settle(self) -> None:
        """Let the transport notice that it was closed."""
        self._settle()

    def _settle(self) -> None:
        if self.wire.disconnected:
            self._lose(ConnectionAborted())
        elif self.wire.disconnecting and not self.wire.unread:
            self._lose(ConnectionDone())

    def _lose(self, error: Exception) -> None:
        if not self.wire.lost:
            self.wire.lost = True
            self.wire.disconnecting = True
            self.protocol.connectionLost(Failure(error))


class TestReceiver:
    """A factory with all it needs.

    :param relay_from: networks as text.
    :param settings: fields of Limits.
    """

    __test__ = False

    def __init__(
        self,
        *,
        kind: str = "mx",
        hostname: str = "mx.example.org",
        relay_from: Sequence[str] = (),
        policies: Sequence[IPolicy] = (),
        directory: IDirectory | None = None,
        queue: IMailQueue | None = None,
        full: Iterable[str] = (),
        **settings: Any,
    ) -> None:
        self.clock = Clock()
        self.events: list[Event] = []
        self.queue = MemoryQueue()
        self.directory = DictDirectory()
        self.limits = Limits(**settings)
        self.peers: list[Peer] = []
        crowded = frozenset(full)
        networks: tuple[IPv4Network | IPv6Network, ...] = tuple(ip_network(network) for network in relay_from)
        self.factory = ESMTPFactory(
            hostname=hostname,
            queue=queue or self.queue,
            directory=directory or self.directory,
            chain=Chain(policies, self.clock, self.limits.policy_time),
            limits=self.limits,
            clock=self.clock,
            publish=self.events.append,
            kind=kind,
            relay_from=networks,
            gate=[Recipients(lambda address: str(address) in crowded)],
            now=lambda: EPOCH + self.clock.seconds(),
        )

    def connect(self, client: str = STRANGER) -> Peer:
        """A client connects."""
        kind = IPv6Address if ":" in client else IPv4Address
        peer = Peer(self.factory.buildProtocol(kind("TCP", client, 40000)), client)
        self.peers.append(peer)
        return peer

    def session(self, *lines: str, client: str = STRANGER) -> Peer:
        """A client connects, says EHLO and these lines; what was answered is forgotten."""
        peer = self.connect(client)
        peer.say("EHLO client.example.net", *lines)
        return peer

    def wait(self, seconds: float) -> None:
        """Time passes, a second at a time."""
        whole, rest = divmod(seconds, 1)
        for _ in range(int(whole)):
            self.clock.advance(1)
            for peer in self.peers:
                peer.settle()
        self.clock.advance(rest)

    def of(self, kind: type[E]) -> list[E]:
        """The events of one class."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def connections(self) -> int:
        """Connections that are counted; the factory and the admission must agree."""
        admitted = self.factory.admission.connections
        assert admitted == len(self.factory.connections)
        return admitted


def codes(text: str) -> Iterator[int]:
    """The codes of the replies in a text; each reply counts once."""
    for line in text.splitlines():
        if line[3:4] != "-":
            yield int(line[:3])


def every_byte(octets: bytes) -> range:
    """Cuts for one octet a packet."""
    return range(1, len(octets))
