"""What pools work with: the places to connect to, and what all of them share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol

from twisted_mail_node.events import Publish
from twisted_mail_node.outbound.connection import RelayConnection
from twisted_mail_node.outbound.introduction import Tls
from twisted_mail_node.outbound.need import NO_NEED, Found, Need
from twisted_mail_node.outbound.security import Security
from twisted_mail_node.outbound.signing_in import NO_PLAN, Plan
from twisted_mail_node.outbound.slots import Slots
from twisted_mail_node.outbound.sources import Sources
from twisted_mail_node.outbound.wire import Times
from twisted_mail_node.queue.limits import Limit, Limits


class Target(NamedTuple):
    """A place to connect to.

    :ivar ip: ``""`` for a unix socket.
    :ivar address: IP address and port, or the socket, as statuses and events show them.
    :ivar found: how the host was found; ``None`` for a unix socket.
    :ivar limit: what holds for the next hop.
    :ivar pool: of ``outbound.sources``: where the connection comes from.
    :ivar path: of a unix socket.
    :ivar plan: what else is asked of the connection.
    :ivar need: how the connection must be protected; found out when it is tried.
    """

    host: str
    ip: str
    port: int
    address: str
    found: Found | None
    limit: Limit
    pool: str = ""
    path: str = ""
    plan: Plan = NO_PLAN
    need: Need = NO_NEED


class Means(NamedTuple):
    """What every pool needs.

    :ivar connect: ``connect(target, protocol, source)`` fires when the connection stands; fails when it will not.
    :ivar limits: of destinations: connections at a time, and mails over one of them.
    :ivar slots: the connections that there may be.
    :ivar sources: the addresses to connect from.
    :ivar tls: gives connections their TLS; ``None``: nothing goes out with TLS.
    """

    hostname: str
    reactor: Any
    publish: Publish
    connect: Callable[[Target, RelayConnection, str], Deferred[IProtocol]]
    limits: Limits
    slots: Slots
    sources: Sources
    times: Times
    tls: Tls | None
    security: Security
