"""Passes mail on to other hosts: the delivery agent that finds a next hop's hosts and keeps pools of connections, one
for each next hop and what is asked of the way there (``outbound.security``).

``deliver`` gives one status for each recipient and raises nothing; connections, retries on further hosts and the
choice of the connection are ``outbound.pool``'s, the dialogue is ``outbound.connection``'s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from zope.interface import implementer

from twisted_mail_node.dns.exchangers import Exchanger, NoExchanger, exchangers, named_host
from twisted_mail_node.events import Publish
from twisted_mail_node.interfaces import IDeliveryAgent, IResolver
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.net.transport import connect as connect_tcp
from twisted_mail_node.net.transport import connect_unix
from twisted_mail_node.outbound.connection import RelayConnection
from twisted_mail_node.outbound.explained import explained
from twisted_mail_node.outbound.introduction import Tls
from twisted_mail_node.outbound.job import Job
from twisted_mail_node.outbound.means import Means, Target
from twisted_mail_node.outbound.need import Demand, Found, Need, demand_of, stays_here
from twisted_mail_node.outbound.pool import SHUTTING_DOWN, Pool
from twisted_mail_node.outbound.security import Security
from twisted_mail_node.outbound.sign_ins import SignIns
from twisted_mail_node.outbound.signing_in import Plan
from twisted_mail_node.outbound.slots import Slots
from twisted_mail_node.outbound.sources import DEFAULT, Sources, is_loopback
from twisted_mail_node.outbound.wire import Times
from twisted_mail_node.queue.limits import Limit, Limits
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.reasons import Reason
from twisted_mail_node.routing import parse_next_hop
from twisted_mail_node.settings import TlsLevel
from twisted_mail_node.settings_outbound import Transport
from twisted_mail_node.waiting import DeadlineError, within

#: Addresses tried in one attempt; a domain with more is as well served by the first of them.
TARGETS_MAX = 20

#: ``connect(reactor, ip, port, protocol, timeout)``, and the address to connect from where a pool says which.
Connect = Callable[..., Deferred[IProtocol]]
ConnectSocket = Callable[[Any, str, RelayConnection, float], Deferred[IProtocol]]


class RelaySettings(Protocol):
    """What is read of ``settings.QueueSettings``; times in seconds."""

    connections_per_destination: int
    mails_per_connection: int
    retry: tuple[float, ...]
    lifetime: float
    connect_time: float
    greeting_time: float
    mail_time: float
    rcpt_time: float
    data_time: float
    block_time: float
    end_time: float


@implementer(IDeliveryAgent)
class RelayManager:
    """Takes what is due for a next hop and forwards it.

    :param hostname: what we say in EHLO, and a mail exchanger that is us.
    :param own_addresses: IP addresses, as ``ipaddress`` writes them, that are this node.
    :param allow_loopback: take mail exchangers on 127.0.0.0/8 and ::1 (tests, sites that try things on one machine).
    :param tls: gives connections their TLS (``net.tls_client.TlsClient``); ``None``: nothing goes out with TLS, and
        what must not go without it waits.
    :param handshake_time: seconds a TLS handshake may last.
    :param security: decides how connections must be protected; without one it is by routes, REQUIRETLS and DANE.
    :param connect: ``connect(reactor, ip, port, protocol, timeout, source)``, as in ``net.transport``.
    :param connect_socket: ``connect_socket(reactor, path, protocol, timeout)``, likewise.
    :param limits: of destinations; none: those of ``settings`` for each.
    :param sources: the addresses to connect from; none: the system chooses.
    :param sign_ins: names and passwords of routes; ``None``: there are none.
    """

    def __init__(
        self,
        *,
        hostname: str,
        resolver: IResolver,
        reactor: Any,
        publish: Publish,
        settings: RelaySettings,
        own_addresses: Collection[str] = (),
        allow_loopback: bool = False,
        tls: Tls | None = None,
        handshake_time: float = 30.0,
        security: Security | None = None,
        connect: Connect = connect_tcp,
        connect_socket: ConnectSocket = connect_unix,
        limits: Limits | None = None,
        sources: Sources | None = None,
        sign_ins: SignIns | None = None,
    ) -> None:
        self._resolver = resolver
        self._reactor = reactor
        self._own_names = (hostname,)
        self._own_addresses = own_addresses
        self._allow_loopback = allow_loopback
        self._pools: dict[tuple[str, TlsLevel, bool, Transport, str, str, bool], Pool] = {}  # by Demand
        self._limits = limits or Limits((), settings)
        self._sources = sources or Sources()
        self._sign_ins = sign_ins
        self._closing = False
        self._closed: Deferred[None] = Deferred()
        connect_time = settings.connect_time

        def reach(target: Target, protocol: RelayConnection, source: str) -> Deferred[IProtocol]:
            if target.path:
                return connect_socket(reactor, target.path, protocol, connect_time)
            return connect(reactor, target.ip, target.port, protocol, connect_time, *([source] if source else ()))

        self._security = security or Security(reactor.seconds, resolver)
        self._means = Means(
            hostname=hostname,
            reactor=reactor,
            publish=publish,
            connect=reach,
            limits=self._limits,
            slots=Slots(reactor),
            sources=self._sources,
            times=Times(
                greeting=settings.greeting_time,
                mail=settings.mail_time,
                rcpt=settings.rcpt_time,
                data=settings.data_time,
                block=settings.block_time,
                end=settings.end_time,
                handshake=handshake_time,
            ),
            tls=tls,
            security=self._security,
        )

    async def deliver(self, request: DeliveryRequest) -> Sequence[DeliveryStatus]:
        """Hand the mail to the next hop's best host that is ready for it (see IDeliveryAgent)."""
        if not request.recipients:
            return []
        # By a plain tuple, which is equal to a Demand and made in a fifth of the time: this is done for every mail.
        asked = (
            demand_of(request)
            if request.envelope.require_tls or request.envelope.tls_optional
            else (request.next_hop, request.tls, False, request.transport, request.credentials, request.source, False)
        )
        pool = self._pools.get(asked)
        if pool is None:
            if self._closing:
                return [SHUTTING_DOWN] * len(request.recipients)
            try:
                parse_next_hop(request.next_hop)
            except ValueError as error:
                status = DeliveryStatus(Action.DELAYED, "4.3.5", Reason.NO_ROUTE, f"{request.next_hop!r}: {error}")
                return [status] * len(request.recipients)
            pool = self._pool(Demand(*asked))
        job = Job(request, self._reactor.seconds())
        pool.submit(job)
        return await job.done

    async def exchanger_names(self, next_hop: str) -> Sequence[str] | None:
        """Names of the mail exchangers of a next hop, in lower case; ``None`` when they cannot be found out now."""
        try:
            host, _, mx, _ = parse_next_hop(next_hop)
            if not mx:
                return (host.lower(),)
            found = await self._exchangers(host)
        except ValueError:
            return ()
        except NoExchanger as problem:
            return () if problem.permanent else None
        return [exchanger.host.lower().rstrip(".") for exchanger in found]

    async def close(self, seconds: float) -> None:
        """Let transfers end within ``seconds``, QUIT everywhere; what is not done by then is broken off."""
        self._closing = True
        for pool in list(self._pools.values()):
            pool.close()
        if not self._pools:
            return
        try:
            await within(self._reactor, seconds, self._closed)
        except DeadlineError:
            for pool in list(self._pools.values()):
                pool.abort()

    def status(self) -> list[dict[str, object]]:
        """Connections, how they are protected, and waiting mails of each next hop."""
        return [pool.status() for pool in self._pools.values()]

    def renew(self) -> None:
        """The settings have changed: each connection ends after the mail it carries; new ones are as they say."""
        for pool in list(self._pools.values()):
            pool.renew()

    async def explain(
        self, next_hop: str, tls: TlsLevel = "opportunistic", *, transport: Transport = "smtp", credentials: str = "",
        source: str = "",
    ) -> dict[str, object]:  # fmt: skip
        """What would be tried for a next hop and how, as ``outbound.explained`` tells it; nothing is connected to."""
        demand = Demand(next_hop, tls, False, transport, credentials, source)
        hosts: list[tuple[Found, Need]] = []
        problem = None
        try:
            for found in await self._hosts(demand):
                hosts.append((found, await self._security.need(demand, found, "")))
        except NoExchanger as error:
            problem = error
        limit = hosts[0][0].limit if hosts else self._limits.of(next_hop)
        pool = "" if parse_next_hop(next_hop).path else self._sources.pool_for(source, limit.source)
        if pool == DEFAULT and stays_here(next_hop):
            pool = ""
        return explained(demand, hosts, limit, pool, self._sources.addresses(pool), problem)

    def _pool(self, demand: Demand) -> Pool:
        async def targets() -> list[Target]:
            return await self._targets(demand)

        pool = self._pools[demand] = Pool(demand, self._means, targets, self._forget)
        return pool

    def _forget(self, pool: Pool) -> None:
        self._pools.pop(pool.demand, None)
        if self._closing and not self._pools and not self._closed.called:
            self._closed.callback(None)

    async def _targets(self, demand: Demand) -> list[Target]:
        """Where to connect, in the order to try it (RFC 5321 section 5.1).

        :raises NoExchanger: nowhere.
        """
        next_hop = parse_next_hop(demand.next_hop)
        plan = await self._plan(demand)
        if next_hop.path:
            limit = self._limits.of(demand.next_hop)
            return [Target("localhost", "", 0, demand.next_hop, None, limit, "", next_hop.path, plan)]
        targets = []
        for found in await self._hosts(demand):
            pool = self._sources.pool_for(demand.source, found.limit.source)
            for ip, _ in found.exchanger.addresses:
                address = f"[{ip}]:{found.port}" if ":" in ip else f"{ip}:{found.port}"
                here = plan._replace(is_local=is_loopback(ip))
                targets.append(
                    Target(found.exchanger.host, ip, found.port, address, found, found.limit, pool, "", here)
                )
        return targets[:TARGETS_MAX]

    async def _hosts(self, demand: Demand) -> list[Found]:
        """The hosts of a next hop, best first, and what is known of them.

        :raises NoExchanger: there is none.
        """
        host, port, mx, path = parse_next_hop(demand.next_hop)
        if path:
            return []
        if not mx:
            exchanger = await named_host(self._resolver, host)
            return [Found(host, port, False, exchanger, self._limit(demand, [exchanger]))]
        places = await self._exchangers(host)
        limit = self._limit(demand, places)
        policy = await self._security.policy(demand, host, mx, limit)
        return [Found(host, port, True, exchanger, limit, policy) for exchanger in places]

    def _exchangers(self, domain: str) -> Awaitable[Sequence[Exchanger]]:
        """The exchangers of a domain before those that are ourselves. :raises NoExchanger: (as failure) none."""
        return exchangers(
            self._resolver,
            domain,
            own_names=self._own_names,
            own_addresses=self._own_addresses,
            allow_loopback=self._allow_loopback,
        )

    def _limit(self, demand: Demand, found: Sequence[Exchanger]) -> Limit:
        """What holds for a next hop with these hosts."""
        names: tuple[str, ...] = ()
        if self._limits.by_exchangers:
            names = tuple(sorted({exchanger.host for exchanger in found}))  # whatever order they were mixed in
        return self._limits.of(demand.next_hop, names)

    async def _plan(self, demand: Demand) -> Plan:
        """What is asked of each connection. :raises NoExchanger: with what to sign in is not known now."""
        is_local = bool(parse_next_hop(demand.next_hop).path)
        sign_in = None
        if demand.credentials:
            if self._sign_ins is None:
                raise NoExchanger(Reason.SIGN_IN_REFUSED, False, "4.7.0", f"{demand.credentials} has no password")
            sign_in = await self._sign_ins.find(demand.credentials, demand.next_hop)
        return Plan(demand.transport == "lmtp", sign_in, is_local)
