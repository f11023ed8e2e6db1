"""Passes mail on to other hosts: the delivery agent that finds a next hop's hosts and keeps pools of connections, one
for each next hop and what is asked of the way there (``outbound.security``).

``deliver`` gives one status for each recipient and raises nothing; connections, retries on further hosts and the
choice of the connection are ``outbound.pool``'s, the dialogue is ``outbound.connection``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from zope.interface import implementer

from twisted_mail_node.dns.exchangers import NoExchanger, exchangers, host_addresses
from twisted_mail_node.events import Publish
from twisted_mail_node.interfaces import IDeliveryAgent, IResolver
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.net.transport import connect as connect_tcp
from twisted_mail_node.outbound.connection import RelayConnection
from twisted_mail_node.outbound.introduction import Tls
from twisted_mail_node.outbound.job import Job
from twisted_mail_node.outbound.pool import SHUTTING_DOWN, Means, Pool, Target
from twisted_mail_node.outbound.security import Demand, Security, demand_of
from twisted_mail_node.outbound.wire import Times
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.reasons import Reason
from twisted_mail_node.routing import parse_next_hop
from twisted_mail_node.settings import TlsLevel
from twisted_mail_node.waiting import DeadlineError, within

#: Addresses tried in one attempt; a domain with more is as well served by the first of them.
TARGETS_MAX = 20

Connect = Callable[[Any, str, int, RelayConnection, float], Deferred[IProtocol]]


class RelaySettings(Protocol):
    """What is read of ``settings.QueueSettings``; times in seconds."""

    connections_per_destination: int
    mails_per_connection: int
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
    :param connect: ``connect(reactor, ip, port, protocol, timeout)``, as in ``net.transport``.
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
        connect: Connect = connect_tcp,
    ) -> None:
        self._resolver = resolver
        self._reactor = reactor
        self._own_names = (hostname,)
        self._own_addresses = own_addresses
        self._allow_loopback = allow_loopback
        self._pools: dict[tuple[str, TlsLevel, bool], Pool] = {}  # by Demand
        self._closing = False
        self._closed: Deferred[None] = Deferred()
        connect_time = settings.connect_time
        self._security = Security(reactor.seconds)
        self._means = Means(
            hostname=hostname,
            reactor=reactor,
            publish=publish,
            connect=lambda target, protocol: connect(reactor, target.ip, target.port, protocol, connect_time),
            connections_max=settings.connections_per_destination or 1,
            mails_max=settings.mails_per_connection or 1,
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
        asked = demand_of(request) if request.envelope.require_tls else (request.next_hop, request.tls, False)
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

    async def exchanger_names(self, next_hop: str) -> Sequence[str]:
        """Names of the mail exchangers of a next hop, in lower case; ``()`` when they cannot be found out now."""
        try:
            host, _, mx, _ = parse_next_hop(next_hop)
            if not mx:
                return (host.lower(),)
            found = await exchangers(
                self._resolver, host, own_addresses=self._own_addresses, allow_loopback=self._allow_loopback
            )
        except (ValueError, NoExchanger):
            return ()
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
        """Where to connect, in the order to try it (RFC 5321 section 5.1), and what is needed there.

        :raises NoExchanger: nowhere.
        """
        host, port, mx, _ = parse_next_hop(demand.next_hop)
        self._security.check_way(demand, mx)
        if mx:
            found = await exchangers(
                self._resolver,
                host,
                own_names=self._own_names,
                own_addresses=self._own_addresses,
                allow_loopback=self._allow_loopback,
            )
            places = [(exchanger.host, address.ip) for exchanger in found for address in exchanger.addresses]
        else:
            places = [(host, address.ip) for address in await host_addresses(self._resolver, host)]
        targets = []
        for name, ip in places[:TARGETS_MAX]:
            address = f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
            targets.append(Target(name, ip, port, address, self._security.need(demand, address, mx)))
        return targets
