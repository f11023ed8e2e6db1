"""A receiver for tests: a real ``ESMTPFactory`` with a queue in memory, a directory in a dict and a ``Clock``.

``TestReceiver().connect()`` gives the client's end of a session: ``say`` sends lines, ``said`` gives what came back.
The switches of ``MemoryQueue`` let a write or a commit wait, or fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, TypeVar, cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from tests.inbound.memory import EPOCH, DictDirectory, Kept, MemoryQueue
from tests.inbound.secured import DictAuthentication, HandshakeError, MemoryTls, ToldGuessing
from twisted_mail_node.events import Event
from twisted_mail_node.inbound.connection import Connection
from twisted_mail_node.inbound.factory import ESMTPFactory
from twisted_mail_node.inbound.refused import Refused
from twisted_mail_node.interfaces import IDirectory, IMailQueue, IPolicy, ISpool
from twisted_mail_node.policy.chain import Chain
from twisted_mail_node.policy.guessing import Guessing
from twisted_mail_node.policy.recipients import Recipients
from twisted_mail_node.policy.verdict import Asked, Policy, Verdict
from twisted_mail_node.settings import Limits

E = TypeVar("E")


#: A client whose network is nowhere named.
STRANGER = "192.0.2.9"


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
        self.handshaking = False

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
            if cut > start and not self.wire.lost and self.wire.handshaking:
                self.break_handshake()  # these are no octets of a handshake
            elif cut > start and not self.wire.lost:
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

    def secure(self, version: str = "TLSv1.3") -> None:
        """The client does its part of the TLS handshake, to its end."""
        assert isinstance(self.protocol, Connection)
        assert self.wire.handshaking, "the server has begun no handshake"
        self.wire.handshaking = False
        session: Any = self.protocol.asked.tls
        session.version = version
        self.protocol.handshakeCompleted()
        self._settle()

    def break_handshake(self) -> None:
        """The handshake comes to nothing."""
        self.wire.handshaking = False
        self.lose(HandshakeError("wrong version number"))

    def vanish(self) -> None:
        """The connection breaks."""
        self.lose(ConnectionLost())

    def stop_reading(self) -> None:
        """The client reads nothing more, and what the transport can hold is full."""
        self.wire.unread = True
        if self.wire.producer is not None:
            self.wire.producer.pauseProducing()

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
            self.lose(ConnectionAborted())
        elif self.wire.disconnecting and not self.wire.unread:
            self.lose(ConnectionDone())

    def lose(self, error: Exception) -> None:
        """The connection ends so."""
        if not self.wire.lost:
            self.wire.lost = True
            self.wire.disconnecting = True
            self.protocol.connectionLost(Failure(error))


class TestReceiver:
    """A factory with all it needs.

    :param relay_from: networks as text; ``proxy_from`` and ``xclient_from`` likewise.
    :param queue: takes the mails instead of the one in memory; a spool will do.
    :param tls_mode: with ``starttls`` or ``implicit`` there is a ``MemoryTls``, and on submission listeners a
        ``DictAuthentication``.
    :param guessing: instead of one that never slows anybody.
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
        queue: IMailQueue | ISpool | None = None,
        full: Iterable[str] = (),
        tls_mode: str = "none",
        guessing: Guessing | None = None,
        proxy_from: Sequence[str] = (),
        xclient_from: Sequence[str] = (),
        **settings: Any,
    ) -> None:
        self.clock = Clock()
        self.events: list[Event] = []
        self.queue = MemoryQueue()
        self.directory = DictDirectory()
        self.limits = Limits(**settings)
        self.peers: list[Peer] = []
        self.tls = MemoryTls()
        self.authentication = DictAuthentication()
        crowded = frozenset(full)
        networks: tuple[IPv4Network | IPv6Network, ...] = tuple(ip_network(network) for network in relay_from)
        self.factory = ESMTPFactory(
            hostname=hostname,
            queue=cast("IMailQueue", queue or self.queue),
            directory=directory or self.directory,
            chain=Chain(policies, self.clock, self.limits.policy_time),
            limits=self.limits,
            clock=self.clock,
            publish=self.events.append,
            kind=kind,
            relay_from=networks,
            gate=[Recipients(lambda address: str(address) in crowded)],
            now=lambda: EPOCH + self.clock.seconds(),
            tls=self.tls if tls_mode != "none" else None,
            tls_mode=tls_mode,
            authentication=self.authentication if kind == "submission" and tls_mode != "none" else None,
            guessing=guessing or ToldGuessing(),
            proxy_from=tuple(ip_network(network) for network in proxy_from),
            xclient_from=tuple(ip_network(network) for network in xclient_from),
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

    def secured(self, *lines: str, client: str = STRANGER) -> Peer:
        """The same under TLS."""
        peer = self.connect(client)
        if self.factory.tls_mode == "starttls":
            peer.say("EHLO client.example.net")
            peer.say("STARTTLS")
        peer.secure()
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


class Thoughtful(Policy):
    """A policy that has an opinion when it is told one.

    :param stages: where it thinks until ``decide``.
    :ivar asked_at: the stages it was asked at.
    """

    name = "thoughtful"

    def __init__(self, *stages: str) -> None:
        self._stages = stages
        self.asked_at: list[str] = []
        self.waiting: list[Deferred[Verdict | None]] = []

    async def _at(self, stage: str) -> Verdict | None:
        self.asked_at.append(stage)
        if stage not in self._stages:
            return None
        waiting: Deferred[Verdict | None] = Deferred()
        self.waiting.append(waiting)
        return await waiting

    async def connect(self, asked: Asked) -> Verdict | None:
        return await self._at("connect")

    async def helo(self, asked: Asked) -> Verdict | None:
        return await self._at("helo")

    async def mail(self, asked: Asked) -> Verdict | None:
        return await self._at("mail")

    async def rcpt(self, asked: Asked) -> Verdict | None:
        return await self._at("rcpt")

    async def content(self, asked: Asked) -> Verdict | None:
        return await self._at("content")

    def decide(self, verdict: Verdict | None = None) -> None:
        """The one it thinks about longest."""
        self.waiting.pop(0).callback(verdict)


def codes(text: str) -> Iterator[int]:
    """The codes of the replies in a text; each reply counts once."""
    for line in text.splitlines():
        if line[3:4] != "-":
            yield int(line[:3])


def every_byte(octets: bytes) -> range:
    """Cuts for one octet a packet."""
    return range(1, len(octets))


__all__ = [
    "EPOCH",
    "STRANGER",
    "DictAuthentication",
    "DictDirectory",
    "Kept",
    "MemoryQueue",
    "MemoryTls",
    "Peer",
    "TestReceiver",
    "Thoughtful",
    "Wire",
    "codes",
    "every_byte",
]
