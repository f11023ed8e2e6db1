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
from twisted_mail_node.inbound.connection import Connection
from twisted_mail_node.inbound.refused import Refused
from twisted_mail_node.inbound.replies import REFUSALS, SHUTTING_DOWN
from twisted_mail_node.interfaces import IAuthentication, IDirectory, IMailQueue, IPolicy, ITlsServer, ITlsSession
from twisted_mail_node.net.limits import Admission, is_in
from twisted_mail_node.policy.chain import Chain, by_stage
from twisted_mail_node.policy.guessing import Guessing
from twisted_mail_node.policy.relaying import Relaying
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import SubmissionSettings
from twisted_mail_node.smtp.extensions import NO_OFFERS, Offers, ehlo_lines
from twisted_mail_node.smtp.reply import Reply

if TYPE_CHECKING:
    from twisted_mail_node.inbound.judging import Judge
    from twisted_mail_node.mailauth.dkim_key import SigningKey
    from twisted_mail_node.settings import Limits

#: Seconds a client waits when mail comes in faster than it goes out, and how often that is looked at anew: what is
#: kept for later must be written and read once more, so a short pause lets everybody's mail arrive sooner.
BREATH = 0.02
BREATHS = 15
#: Seconds from a wrong password's arrival to the answer.
ANSWER_TIME = 1.0
#: Seconds a handshake may last.
HANDSHAKE_TIME = 30.0
#: Seconds for which an answer to EHLO is kept ready made.
EHLO_TIME = 60.0
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
    :param tls: gives connections their TLS; without it there is none.
    :param tls_mode: ``starttls``, ``implicit`` or ``none``.
    :param authentication: finds out who a client is, on submission listeners.
    :param guessing: slows wrong passwords down; counts for all listeners together.
    :param answer_time: seconds from a wrong password's arrival to the answer, always the same.
    :param admission: counts the connections of all listeners; its own when not given.
    :param handshake_time: seconds a TLS handshake may last.
    :param proxy_from: networks whose connections begin with a PROXY header.
    :param xclient_from: networks whose clients may say XCLIENT.
    :param judge: checks who sent the mails of ``mx`` listeners; ``None``: nobody does.
    :param signed: takes mails of our own people instead of ``queue``, and signs them (DKIM).
    :param sealing_key: gives the key of a domain for seals (ARC).
    :param authserv_id: our name in Authentication-Results; ``hostname`` when not given.
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
        tls: ITlsServer | None = None,
        tls_mode: str = "none",
        authentication: IAuthentication | None = None,
        guessing: Guessing | None = None,
        submission: SubmissionSettings | None = None,
        handshake_time: float = HANDSHAKE_TIME,
        answer_time: float = ANSWER_TIME,
        proxy_from: tuple[IPv4Network | IPv6Network, ...] = (),
        xclient_from: tuple[IPv4Network | IPv6Network, ...] = (),
        signed: IMailQueue | None = None,
        sealing_key: Callable[[str], SigningKey | None] = lambda domain: None,
        judge: Judge | None = None,
        authserv_id: str = "",
    ) -> None:
        self.queue = queue
        self.signed = signed or queue
        self.sealing_key = sealing_key
        self.clock = clock
        self.publish = publish
        self.kind = kind
        self.relaying = Relaying()
        self.now = now or clock.seconds
        self.has_room = has_room
        self.tls = tls
        self.tls_mode = tls_mode if tls is not None else "none"
        self.authentication = authentication
        self.guessing = guessing or Guessing(clock=clock, publish=publish)
        self._proxy_from = proxy_from
        self._xclient_from = xclient_from
        self.admission = admission or Admission(limits.connections, limits.connections_per_address)
        self.connections: set[Connection] = set()
        self.admission.sessions = max(self.admission.sessions, int(self.now() * 1000) << 20)
        self._sweep: IDelayedCall | None = None
        self._stopping: Deferred[None] | None = None
        self.configure(
            hostname=hostname, directory=directory, chain=chain, limits=limits, relay_from=relay_from, gate=gate,
            submission=submission, handshake_time=handshake_time, answer_time=answer_time, judge=judge,
            authserv_id=authserv_id,
        )  # fmt: skip

    def configure(
        self,
        *,
        hostname: str,
        directory: IDirectory,
        chain: Chain,
        limits: Limits,
        relay_from: tuple[IPv4Network | IPv6Network, ...],
        gate: Sequence[IPolicy],
        submission: SubmissionSettings | None = None,
        handshake_time: float = HANDSHAKE_TIME,
        answer_time: float = ANSWER_TIME,
        judge: Judge | None = None,
        authserv_id: str = "",
    ) -> None:
        """Take these from now on, in running sessions too (the settings were read again)."""
        self.hostname = hostname
        self.directory = directory
        self.chain = chain
        self.limits = limits
        self.gate = by_stage((self.relaying, *gate))
        self._relay_from = relay_from
        self.admission.total, self.admission.per_address = limits.connections, limits.connections_per_address
        self.greeting = Reply(220, "", (f"{hostname} ESMTP",)).octets()
        self.helo = Reply(250, "", (hostname,)).octets()
        self.submission = submission or SubmissionSettings()
        self.handshake_time = handshake_time
        self.answer_time = answer_time
        self.judge = judge
        self.authserv_id = authserv_id or hostname
        self._ehlo: dict[Offers, bytes] = {}
        self._ehlo_until = 0.0

    # ---- IProtocolFactory ------------------------------------------------------------------------------------

    def doStart(self) -> None:
        """A port begins to listen."""

    def doStop(self) -> None:
        """A port has stopped listening."""

    def buildProtocol(self, addr: Any) -> Any:
        client = getattr(addr, "host", "") or "unix"
        # A named peer is counted for the clients it brings, and not for itself.
        named = is_in(client, self._proxy_from) or is_in(client, self._xclient_from)
        counted = None if named else client
        reason = Reason.SHUTTING_DOWN if self._stopping is not None else self.admission.enter(counted)
        if reason is not None:
            reply = REFUSALS[reason]
            self.publish(SessionRefused(self.next_session(), self.kind, client, reason, str(reply)))
            return Refused(reply)
        connection = Connection(self, client)
        connection.counted = counted
        return connection

    # ---- what connections call -------------------------------------------------------------------------------

    def next_session(self) -> str:
        """An id for a session, unique over all listeners, and over restarts."""
        self.admission.sessions += 1
        return f"{self.admission.sessions:x}"

    def may_relay(self, client: str) -> bool:
        """The client's network is in ``relay_from``."""
        return is_in(client, self._relay_from)

    def is_proxy(self, client: str) -> bool:
        """The connection begins with a PROXY header."""
        return bool(self._proxy_from) and is_in(client, self._proxy_from)

    def recount(self, connection: Connection, client: str | None) -> Reason | None:
        """The connection is this client's from now on (``None``: nobody knows whose); gives why it is one too many."""
        reason = self.admission.move(connection.counted, client)
        if reason is None:
            connection.counted = client
        return reason

    def offers(self, client: str, tls: ITlsSession | None = None) -> Offers:
        """What a session is offered beside what always is.

        :param client: who speaks: XCLIENT is for some. Whom it says it of does not count.
        """
        starttls = self.tls_mode == "starttls" and tls is None
        xclient = bool(self._xclient_from) and is_in(client, self._xclient_from)
        if self.kind != "submission":
            return Offers(starttls=starttls, require_tls=tls is not None, xclient=xclient)
        authentication = self.authentication
        return Offers(
            starttls=starttls,
            mechanisms=authentication.mechanisms(tls) if authentication is not None and tls is not None else (),
            after_tls=starttls and authentication is not None,
            require_tls=tls is not None,
            future_release=int(self.submission.future_release),
            deliver_by=True,
            priorities=True,
            xclient=xclient,
        )

    def ehlo(self, offers: Offers = NO_OFFERS) -> bytes:
        """The answer to EHLO (RFC 5321 section 4.1.1.1)."""
        now = self.now()
        if now > self._ehlo_until:  # FUTURERELEASE names the last day it takes
            self._ehlo.clear()
            self._ehlo_until = now + EHLO_TIME
        octets = self._ehlo.get(offers)
        if octets is None:
            limits = self.limits
            lines = ehlo_lines(
                message_size=limits.message_size, recipients=limits.recipients, mails=limits.mails_per_session,
                offers=offers, now=now,
            )  # fmt: skip
            octets = self._ehlo[offers] = Reply(250, "", (self.hostname, *lines)).octets()
        return octets

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

    def closed(self, connection: Connection) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        self.admission.leave(connection.counted)
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
