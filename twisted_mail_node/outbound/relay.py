"""Passes mail on to other hosts: the delivery agent that finds a next hop's hosts and keeps a pool for each next hop.

``deliver`` gives one status for each recipient and raises nothing; connections, retries on further hosts and the
choice of the connection are ``outbound.pool``'s, the dialogue is ``outbound.connection``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from zope.interface import implementer

from twisted_mail_node.dns.exchangers import exchangers, host_addresses
from twisted_mail_node.events import Publish
from twisted_mail_node.interfaces import IDeliveryAgent, IResolver
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.net.transport import connect as connect_tcp
from twisted_mail_node.outbound.connection import RelayConnection
from twisted_mail_node.outbound.job import Job
from twisted_mail_node.outbound.pool import SHUTTING_DOWN, Means, Pool, Target
from twisted_mail_node.outbound.wire import Times
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.reasons import Reason
from twisted_mail_node.routing import parse_next_hop
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
        connect: Connect = connect_tcp,
    ) -> None:
        self._resolver = resolver
        self._reactor = reactor
        self._own_names = (hostname,)
        self._own_addresses = own_addresses
        self._allow_loopback = allow_loopback
        self._pools: dict[str, Pool] = {}
        self._closing = False
        self._closed: Deferred[None] = Deferred()
        connect_time = settings.connect_time
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
            ),
        )

    async def deliver(self, request: DeliveryRequest) -> Sequence[DeliveryStatus]:
        """Hand the mail to the next hop's best host that is ready for it (see IDeliveryAgent)."""
        if not request.recipients:
            return []
        pool = self._pools.get(request.next_hop)
        if pool is None:
            if self._closing:
                return [SHUTTING_DOWN] * len(request.recipients)
            try:
                parse_next_hop(request.next_hop)
            except ValueError as error:
                status = DeliveryStatus(Action.DELAYED, "4.3.5", Reason.NO_ROUTE, f"{request.next_hop!r}: {error}")
                return [status] * len(request.recipients)
            pool = self._pool(request.next_hop)
        job = Job(request, self._reactor.seconds())
        pool.submit(job)
        return await job.done

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
        """Connections and waiting mails of each next hop."""
        return [pool.status() for pool in self._pools.values()]

    def _pool(self, next_hop: str) -> Pool:
        async def targets() -> list[Target]:
            return await self._targets(next_hop)

        pool = self._pools[next_hop] = Pool(next_hop, self._means, targets, self._forget)
        return pool

    def _forget(self, pool: Pool) -> None:
        self._pools.pop(pool.next_hop, None)
        if self._closing and not self._pools and not self._closed.called:
            self._closed.callback(None)

    async def _targets(self, next_hop: str) -> list[Target]:
        """Where to connect, in the order to try it (RFC 5321 section 5.1).

        :raises NoExchanger: nowhere.
        """
        host, port, mx = parse_next_hop(next_hop)
        if not mx:
            addresses = await host_addresses(self._resolver, host)
            return [Target(host, address.ip, port) for address in addresses]
        found = await exchangers(
            self._resolver,
            host,
            own_names=self._own_names,
            own_addresses=self._own_addresses,
            allow_loopback=self._allow_loopback,
        )
        targets = [Target(exchanger.host, address.ip, port) for exchanger in found for address in exchanger.addresses]
        return targets[:TARGETS_MAX]
