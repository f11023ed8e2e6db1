"""What the outbound tests put in place of the network: remote hosts whose words the test speaks, and a clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cryptography.x509 import Certificate
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectBindError, ConnectionRefusedError
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import connectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.threads import ThreadsAtOnce
from twisted_mail_node.dns.answer import MX, Answer
from twisted_mail_node.events import AttemptFailed, Event
from twisted_mail_node.interfaces import IContent, IResolver, ITlsSession
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.message.status import DeliveryStatus
from twisted_mail_node.outbound.connection import RelayConnection
from twisted_mail_node.outbound.relay import RelayManager
from twisted_mail_node.outbound.security import Security
from twisted_mail_node.outbound.tls_outcome import TlsOutcome
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.settings import QueueSettings, TlsLevel

HEADER = b"Received: from a by b\r\n"
SENDER = Address("ann", "example.org")


@implementer(IContent)
class Content:
    """Content in memory, or as if it were on the disk."""

    path = None

    def __init__(self, octets: bytes, on_disk: bool = False, block: int = 262144) -> None:
        self.size = len(octets)
        self.octets = None if on_disk else octets
        self.eight_bit = not octets.isascii()
        self._octets = octets
        self._block = block
        self.read = 0

    def blocks(self, size: int = 262144) -> Iterator[bytes]:
        for at in range(0, len(self._octets), self._block):
            self.read += 1
            yield self._octets[at : at + self._block]


@implementer(ITlsSession)
class TlsSession:
    """A session whose handshake the test completes."""

    version = cipher = server_name = ""
    resumed = verified = False
    why = "the handshake is not completed"
    fault = "untrusted"
    peer = None
    chain: tuple[Certificate, ...] = ()

    def __init__(self, host: str, fresh: bool) -> None:
        self.host = host
        self.fresh = fresh

    def __str__(self) -> str:
        return f"{self.version} with {self.cipher}"

    def channel_binding(self) -> bytes | None:
        return None


class FakeTls:
    """Begins handshakes, which do nothing until the test completes or breaks them.

    :ivar fails: what ``secure`` raises, if anything.
    """

    fails: Exception | None = None

    def secure(self, transport: Any, host: str, fresh: bool = False) -> TlsSession:
        if self.fails is not None:
            raise self.fails
        assert transport.session is None, "TLS in TLS"
        assert not transport.value(), "not heard before the handshake"
        transport.session = TlsSession(host, fresh)
        return transport.session  # type: ignore[no-any-return]


class Transport(StringTransport):
    """What the connection wrote, and whether it closed.

    :ivar in_clear: what of it was written before a handshake began.
    :ivar session: the TLS session, from the beginning of its handshake.
    """

    aborted = False
    in_clear = b""
    session: TlsSession | None = None
    all_written = b""

    def write(self, data: bytes) -> None:
        if not self.disconnected:
            self.all_written += data
            if self.session is None:
                self.in_clear += data
            super().write(data)  # type: ignore[no-untyped-call]

    def abortConnection(self) -> None:
        self.aborted = True
        self.disconnected = True

    def loseConnection(self) -> None:
        self.disconnecting = True


class Host:
    """One connection, seen from the remote host."""

    def __init__(self, ip: str, port: int, protocol: RelayConnection) -> None:
        self.ip = ip
        self.port = port
        self.protocol = protocol
        self.transport = Transport()

    def says(self, *lines: str) -> bytes:
        """Speak; gives what the client has written since it was last asked."""
        self.protocol.dataReceived("".join(f"{line}\r\n" for line in lines).encode())
        return self.heard()

    def heard(self) -> bytes:
        """What the client has written since it was last asked."""
        octets: bytes = self.transport.value()
        self.transport.clear()
        return octets

    def greets(self, *extensions: str) -> bytes:
        """Greeting and EHLO; gives what the client wrote after them."""
        assert self.heard() == b""
        assert self.says("220 mx ready") == b"EHLO mx.example.org\r\n"
        return self.offers(*extensions)

    def offers_tls(self, *extensions: str) -> None:
        """Greeting and EHLO with STARTTLS, and a 220 to STARTTLS: the handshake has begun."""
        assert self.greets("STARTTLS", *extensions) == b"STARTTLS\r\n"
        assert self.says("220 2.0.0 begin") == b""
        assert self.transport.session is not None

    def completes(self, why: str = "", chain: tuple[Certificate, ...] = (), fault: str = "untrusted") -> bytes:
        """The handshake's end; gives what the client writes then.

        :param why: why the certificate is not good, ``""``: it is.
        :param chain: the certificates it shows.
        """
        session = self.transport.session
        assert session is not None
        session.version, session.cipher = "TLSv1.3", "TLS_AES_256_GCM_SHA384"
        session.verified, session.why, session.chain = not why, why, chain
        session.fault = fault if why else ""
        self.protocol.handshakeCompleted()
        return self.heard()

    def offers(self, *extensions: str) -> bytes:
        """The reply to EHLO; gives what the client writes then."""
        lines = ["mx.example.net", *extensions]
        return self.says(*[f"250{'-' if n < len(lines) else ' '}{line}" for n, line in enumerate(lines, 1)])

    def secures(self, *extensions: str, why: str = "", chain: tuple[Certificate, ...] = ()) -> bytes:
        """Everything from the greeting to the second EHLO; gives what the client writes after that."""
        self.offers_tls()
        assert self.completes(why, chain) == b"EHLO mx.example.org\r\n"
        return self.offers(*extensions)

    def closes(self, why: BaseException | None = None) -> None:
        self.transport.disconnected = True
        self.protocol.connectionLost(connectionDone if why is None else Failure(why))

    @property
    def is_closed(self) -> bool:
        """Our side has closed it, in order or not."""
        return self.transport.disconnecting or self.transport.aborted


@implementer(IResolver)
class Resolver:
    """Records from a table; an exception in place of them is raised.

    :param signed: all of it is (DNSSEC).
    """

    def __init__(self, table: Mapping[tuple[str, str], Sequence[Any] | Exception], signed: bool = False) -> None:
        self.table = table
        self.signed = signed

    async def query(self, name: str, rdtype: str) -> Answer:
        exists = any(known == name for known, _ in self.table)
        records = self.table.get((name, rdtype), ())
        if isinstance(records, Exception):
            raise records
        return Answer(tuple(records), exists, self.signed, name, 60)


TWO_HOSTS = Resolver(
    {
        ("example.net", "MX"): (MX(10, "mx1.example.net"), MX(20, "mx2.example.net")),
        ("mx1.example.net", "A"): ("192.0.2.1",),
        ("mx2.example.net", "A"): ("192.0.2.2",),
    }
)


class Node:
    """A RelayManager among hosts that the test plays.

    :param outbound: what its ``Security`` knows.
    :ivar hosts: the connections made, in their order.
    :ivar down: addresses that refuse connections.
    :ivar foreign: addresses that are not this machine's, so that no connection comes from them.
    :ivar used: where each connection came from, ``""``: the system's choice.
    """

    def __init__(
        self,
        resolver: Resolver = TWO_HOSTS,
        parts: Mapping[str, Any] = {},
        outbound: Mapping[str, Any] = {},
        **settings: Any,
    ) -> None:
        self.reactor = ThreadsAtOnce()
        self.hosts: list[Host] = []
        self.down: set[str] = set()
        self.foreign: set[str] = set()
        self.used: list[str] = []
        self.events: list[Event] = []
        self.tls = FakeTls()
        self.relay = RelayManager(
            hostname="mx.example.org",
            resolver=resolver,
            reactor=self.reactor,
            publish=self.events.append,
            settings=QueueSettings(**settings),
            tls=self.tls,
            handshake_time=20.0,
            security=Security(self.reactor.seconds, resolver, **outbound),
            connect=self._connect,
            connect_socket=lambda reactor, path, protocol, time: self._connect(reactor, path, 0, protocol, time),
            **parts,
        )

    def _connect(
        self, reactor: object, ip: str, port: int, protocol: RelayConnection, timeout: float, source: str = ""
    ) -> Deferred[IProtocol]:
        if source in self.foreign:
            return fail(ConnectBindError(99, "Cannot assign requested address"))
        self.used.append(source)
        if ip in self.down:
            return fail(ConnectionRefusedError())
        host = Host(ip, port, protocol)
        self.hosts.append(host)
        connected: Deferred[IProtocol] = Deferred()
        # As net.transport does it: the connection stands before the protocol hears of it.
        connected.callback(protocol)
        protocol.makeConnection(host.transport)  # type: ignore[no-untyped-call]
        return connected

    def send(
        self,
        *recipients: Address | Recipient,
        content: bytes | Content = b"Subject: hi\r\n\r\nhello\r\n",
        header: bytes = HEADER,
        next_hop: str = "example.net",
        deadline: float = 3600.0,
        sender: Address | None = SENDER,
        level: TlsLevel = "opportunistic",
        way: Mapping[str, Any] = {},
        **envelope: Any,
    ) -> Deferred[Sequence[DeliveryStatus]]:
        """Have a mail delivered."""
        if not recipients:
            recipients = (Address("joe", "example.net"),)
        given = tuple(one if isinstance(one, Recipient) else Recipient(one, one) for one in recipients)
        request = DeliveryRequest(
            "q1",
            Envelope(sender, given, **envelope),
            given,
            header,
            content if isinstance(content, Content) else Content(content),
            next_hop,
            deadline,
            level,
            **way,
        )
        return Deferred.fromCoroutine(self.relay.deliver(request))

    @property
    def failed(self) -> list[AttemptFailed]:
        return [event for event in self.events if isinstance(event, AttemptFailed)]


def joes(count: int) -> list[Address]:
    return [Address(f"joe{n}", "example.net") for n in range(count)]


def takes(host: Host, mails: int = 1) -> None:
    """The host takes so many mails that are on their way to it."""
    for _ in range(mails):
        host.says("250 ok", "250 ok", "354 go")
        host.says("250 2.0.0 taken")


class Notes(list[TlsOutcome]):
    """Every outcome of TLS."""

    def note(self, outcome: TlsOutcome) -> None:
        self.append(outcome)
