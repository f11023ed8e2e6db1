"""Answers what would become of a mail while the node is down: parts of its own, a reactor for a moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from twisted_mail_node.admin.messages import Shape
from twisted_mail_node.admin.route_orders import route
from twisted_mail_node.admin.route_told import RouteInquiry
from twisted_mail_node.admin.state_alone import state_of
from twisted_mail_node.message.address import Address
from twisted_mail_node.settings import Settings

if TYPE_CHECKING:
    from twisted_mail_node.state.suppressions import Suppressed


class _Alone:
    """As much of a node as the order needs."""

    def __init__(self, inquiry: RouteInquiry) -> None:
        self.inquiry = inquiry


def inquiry_of(settings: Settings, reactor: Any) -> RouteInquiry:
    """The parts that answer.

    :raises ValueError: the account file is damaged.
    """
    from twisted_mail_node.directory.directory import Directory
    from twisted_mail_node.net.own import own_addresses
    from twisted_mail_node.outbound.relay import RelayManager
    from twisted_mail_node.outbound.security import Security
    from twisted_mail_node.outbound.sources import Sources
    from twisted_mail_node.queue.limits import Limits
    from twisted_mail_node.routing import Router
    from twisted_mail_node.service_outbound import resolver_of

    directory = Directory(settings)
    resolver = resolver_of(settings, reactor)
    relay = RelayManager(
        hostname=settings.hostname,
        resolver=resolver,
        reactor=reactor,
        publish=lambda event: None,
        settings=settings.queue,
        own_addresses=own_addresses(),
        allow_loopback=settings.queue.loopback_exchangers,
        security=Security(reactor.seconds, resolver, settings=settings.outbound),
        limits=Limits(settings.destinations, settings.queue),
        sources=Sources(settings.sources),
    )
    router = Router(settings.routes, directory, settings.domains)

    def suppressed(address: Address) -> Suppressed | None:
        return _suppressed(settings, directory.is_local, address)

    return RouteInquiry(directory, router, relay, reactor, suppressed=suppressed)


def _suppressed(settings: Settings, is_local: Callable[[str], bool], address: Address) -> Suppressed | None:
    """What the list says of an address. Opened for each: a node that starts meanwhile finds it free.

    :raises StateError: it cannot be read.
    """
    from twisted_mail_node.state.suppressions import Suppressions

    with state_of(settings.state_dir) as database:
        if database is None:
            return None
        return Suppressions(database, settings.suppression, time.time, lambda event: None, is_local).find(address)


def ask_alone(settings: Settings, message: Shape) -> Shape:
    """The answer to a request as ``route_orders.route`` takes it. Runs the reactor, which can be done once.

    :raises RequestError: the request cannot be understood.
    :raises ValueError: the parts cannot be made.
    """
    from twisted.internet import reactor as installed

    reactor: Any = installed
    answers: list[Any] = []

    def begin() -> None:
        answering = Deferred.fromCoroutine(route(_Alone(inquiry_of(settings, reactor)), message))
        answering.addBoth(answers.append)
        answering.addBoth(lambda _: reactor.stop())

    inquiry_of(settings, reactor)  # raises before the reactor runs what it would raise then
    reactor.callWhenRunning(begin)
    reactor.run()
    (answer,) = answers
    if not isinstance(answer, dict):
        answer.raiseException()
    return answer  # type: ignore[no-any-return]
