"""The protocol factory of a listener: ``ESMTPFactory`` makes a Connection for each client, and knows them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IProtocolFactory, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from twisted_mail_node.events import Publish, SessionRefused
from twisted_mail_node.inbound.connection import REFUSALS, SHUTTING_DOWN, Connection, Refused, capabilities
from twisted_mail_node.interfaces import IDirectory, IMailQueue, IPolicy
from twisted_mail_node.net.limits import Admission, is_in
from twisted_mail_node.policy.chain import Chain
from twisted_mail_node.policy.relaying import Relaying
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.reply import Reply

if TYPE_CHECKING:
    from twisted_mail_node.settings import Limits

#: Seconds a client waits when mail comes in faster than it goes out, and how often that is looked at anew: what is
#: kept for later must be written and read once more, so a short pause lets everybody's mail arrive sooner.
BREATH = 0.02
BREATHS = 15
#: Seconds between two looks at all sessions for those whose time is over.
SWEEP = 1.0


@implementer(IProtocolFactory)
class ESMTPFactory:
    """Receives mail by ESMTP (RFC 5321): the protocol factory for any Twisted endpoint.

    :param hostname: our name, in the greeting and in Received.
    :param queue: where accepted mails go.
    :param directory: who lives here.
    :param chain: the policies of this listener.
    :param gate: policies that stand before the chain at RCPT and cannot be overruled; relaying is the first of them.
    :param limits: see the settings.
    :param clock: ``IReactorTime``; its seconds need not be those of the wall clock.
    :param publish: takes events.
    :param kind: ``mx`` or ``submission``.
    :param relay_from: networks whose clients may send to any domain.
    :param now: seconds since the epoch, for Received.
    :param has_room: tells whether the disk has room for a mail of so many octets.
    :param admission: counts the connections of all listeners; its own when not given.
    """

    log = Logger()

    def __init__(
        self,
        *,
        hostname: str,
        queue: IMailQueue,
        directory: IDirectory,
        chain: Chain,
        limits: Limits,
        clock: IReactorTime,
        publish: Publish,
        kind: str = "mx",
        relay_from: tuple[IPv4Network | IPv6Network, ...] = (),
        gate: Sequence[IPolicy] = (),
        now: Callable[[], float] | None = None,
        has_room: Callable[[int], bool] = lambda size: True,
        admission: Admission | None = None,
    ) -> None:
        self.queue = queue
        self.clock = clock
        self.publish = publish
        self.kind = kind
        self.relaying = Relaying()
        self.now = now or clock.seconds
        self.has_room = has_room
        self.admission = admission or Admission(limits.connections, limits.connections_per_address)
        self.connections: set[Connection] = set()
        self._sessions = int(self.now() * 1000) << 20
        self._sweep: IDelayedCall | None = None
        self._stopping: Deferred[None] | None = None
        self.configure(
            hostname=hostname, directory=directory, chain=chain, limits=limits, relay_from=relay_from, gate=gate
        )

    def configure(
        self,
        *,
        hostname: str,
        directory: IDirectory,
        chain: Chain,
        limits: Limits,
        relay_from: tuple[IPv4Network | IPv6Network, ...],
        gate: Sequence[IPolicy],
    ) -> None:
        """Take these from now on, in running sessions too (the settings were read again)."""
        self.hostname = hostname
        self.directory = directory
        self.chain = chain
        self.limits = limits
        self.gate: tuple[IPolicy, ...] = (self.relaying, *gate)
        self._relay_from = relay_from
        self.admission.total, self.admission.per_address = limits.connections, limits.connections_per_address
        self.greeting = Reply(220, "", (f"{hostname} ESMTP",)).octets()
        self.helo = Reply(250, "", (hostname,)).octets()
        self.ehlo = capabilities(hostname, limits.message_size, limits.recipients, limits.mails_per_session)

    # ---- IProtocolFactory ------------------------------------------------------------------------------------

    def doStart(self) -> None:
        """A port begins to listen."""

    def doStop(self) -> None:
        """A port has stopped listening."""

    def buildProtocol(self, addr: Any) -> Any:
        client = getattr(addr, "host", "") or "unix"
        reason = Reason.SHUTTING_DOWN if self._stopping is not None else self.admission.enter(client)
        if reason is not None:
            reply = REFUSALS[reason]
            self.publish(SessionRefused(self.next_session(), self.kind, client, reason, str(reply)))
            return Refused(reply)
        return Connection(self, client)

    # ---- what connections call -------------------------------------------------------------------------------

    def next_session(self) -> str:
        """An id for a session, unique over restarts."""
        self._sessions += 1
        return f"{self._sessions:x}"

    def may_relay(self, client: str) -> bool:
        """The client's network is in ``relay_from``."""
        return is_in(client, self._relay_from)

    async def breathe(self) -> None:
        """Let mail go out before more comes in: a pause of a third of a second at most."""
        for _ in range(BREATHS):
            if not self.queue.crowded:
                return
            await deferLater(self.clock, BREATH)

    def opened(self, connection: Connection) -> None:
        """A connection stands."""
        self.connections.add(connection)
        if self._sweep is None:
            self._sweep = self.clock.callLater(SWEEP, self._look)

    def closed(self, connection: Connection, client: str) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        self.admission.leave(client)
        if self._stopping is not None and not self.connections:
            self._stopped()

    def _look(self) -> None:
        self._sweep = None
        now = self.clock.seconds()
        for connection in list(self.connections):
            connection.late(now)
        if self.connections:
            self._sweep = self.clock.callLater(SWEEP, self._look)

    # ---- the end ---------------------------------------------------------------------------------------------

    def stop(self, seconds: float) -> Deferred[None]:
        """Take no new connections, send idle sessions away with 421, let mail in transfer finish.

        :param seconds: how long to wait for it; then the connections are cut.
        """
        if self._stopping is not None:
            again = Deferred[None]()
            self._stopping.addCallback(again.callback)
            return again
        stopping = self._stopping = Deferred[None]()
        deadline = self.clock.callLater(seconds, self._cut)

        def done(result: None) -> None:
            if deadline.active():
                deadline.cancel()
            if self._sweep is not None and self._sweep.active():
                self._sweep.cancel()
                self._sweep = None

        stopping.addCallback(done)
        for connection in list(self.connections):
            if connection.in_transfer:
                connection.ending = Reason.SHUTTING_DOWN
            else:
                connection.end(SHUTTING_DOWN, Reason.SHUTTING_DOWN)
        if not self.connections:
            self._stopped()
        return stopping

    def _cut(self) -> None:
        for connection in list(self.connections):
            connection.transport.abortConnection()

    def _stopped(self) -> None:
        stopping = self._stopping
        if stopping is not None and not stopping.called:
            stopping.callback(None)
