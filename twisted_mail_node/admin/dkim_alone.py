"""Asks the name servers for the records of keys while the node is down: a reactor for a moment."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from twisted_mail_node.admin.messages import Shape
from twisted_mail_node.service_outbound import resolver_of
from twisted_mail_node.settings import Settings
from twisted_mail_node.signing.keys import SigningKeys
from twisted_mail_node.signing.rotation import Rotation
from twisted_mail_node.signing.shown import NameServers


def checked(settings: Settings, domain: str) -> list[Shape]:
    """The keys as ``Rotation.listed`` gives them. Nothing is changed. Runs the reactor, which can be done once.

    :raises ValueError: the domain is not local, or what is known of its keys cannot be read.
    """
    from twisted.internet import reactor as installed

    reactor: Any = installed
    outcomes: list[Any] = []
    rotation = Rotation(
        settings,
        SigningKeys(settings),
        servers=NameServers.over(resolver_of(settings, reactor), reactor),
        updates=None,
        reactor=reactor,
        publish=lambda event: None,
    )

    def begin() -> None:
        asking = Deferred.fromCoroutine(rotation.listed(domain, check=True))
        asking.addBoth(outcomes.append)
        asking.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    (outcome,) = outcomes
    if not isinstance(outcome, list):
        outcome.raiseException()
    return outcome  # type: ignore[no-any-return]
