"""Asks the DNS for ``mailnode dns``: a resolver of its own, whether or not the node runs, and a reactor for a moment.

The resolver is that of the settings but for two things: nothing that the node remembers is used, so that a change just
made is seen, and ``/etc/hosts`` is not read, where a machine is wont to call itself 127.0.1.1.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_mail_node.admin.dns_answers import Answers, Evaluate, Fetch, Show, SpfSaid, ask, gather
from twisted_mail_node.admin.dns_node import Facts, Key
from twisted_mail_node.dns.resolver import StubResolver
from twisted_mail_node.interfaces import IResolver
from twisted_mail_node.settings import Settings
from twisted_mail_node.signing.shown import NameServers, Shown


def fetch_of(settings: Settings, resolver: IResolver, reactor: Any) -> Fetch:
    """Fetches MTA-STS policies as senders do.

    :raises ValueError: ``tls.trusted`` cannot be read.
    """
    from twisted_mail_node.net.https import Https
    from twisted_mail_node.net.tls_client import TlsClient
    from twisted_mail_node.outbound.mtasts_fetch import PolicyFetch

    trusted = settings.state_dir / settings.tls.trusted if settings.tls.trusted else None
    local = settings.queue.loopback_exchangers
    return PolicyFetch(Https(tls=TlsClient(trusted), resolver=resolver, reactor=reactor, allow_local=local))


def evaluate_of(resolver: IResolver, hostname: str) -> Evaluate:
    """Evaluates SPF as receivers do (RFC 7208 section 4.1)."""
    from twisted_mail_node.mailauth.spf import check_host

    async def evaluate(ip: str, domain: str, helo: str) -> SpfSaid:
        found = await check_host(
            resolver,
            ip=ip,
            domain=domain,
            sender=f"postmaster@{domain}",
            helo=helo,
            receiver=hostname,
            now=time.time(),
            explain=False,
        )
        return SpfSaid(found.result, found.mechanism, found.problem)

    return evaluate


def show_of(resolver: IResolver, reactor: Any) -> Show:
    """Asks the name servers themselves for the records of keys."""
    servers = NameServers.over(resolver, reactor)

    async def show(key: Key) -> Shown:
        return await servers.shown(key.selector, key.domain, key.text)

    return show


def resolver_of(settings: Settings, reactor: Any) -> StubResolver:
    """See above."""
    asked = settings.resolver
    return StubResolver(
        servers=asked.servers,
        reactor=reactor,
        timeout=asked.timeout,
        attempts=asked.attempts,
        trusted=asked.trusted,
        hosts=os.devnull,
    )


async def ask_for(settings: Settings, domains: Sequence[Facts], reactor: Any, policies: bool) -> list[Answers]:
    """Ask for each domain, all at the same time; what two of them need is asked once.

    :param policies: whether MTA-STS policies are fetched.
    """
    resolver = resolver_of(settings, reactor)
    fetch = fetch_of(settings, resolver, reactor) if policies else None
    evaluate = evaluate_of(resolver, settings.hostname)
    show = show_of(resolver, reactor)
    return await gather(ask(resolver, facts, time.time(), fetch, evaluate, show) for facts in domains)


def answers_alone(settings: Settings, domains: Sequence[Facts], policies: bool = True) -> list[Answers]:
    """What the DNS says of each domain. Runs the reactor, which can be done once.

    :raises ValueError: what the settings name cannot be used.
    """
    from twisted.internet import reactor as installed

    reactor: Any = installed
    found: list[list[Answers] | Failure] = []

    def begin() -> None:
        asking = Deferred.fromCoroutine(ask_for(settings, domains, reactor, policies))
        asking.addBoth(found.append)
        asking.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    (answers,) = found
    if isinstance(answers, Failure):
        answers.raiseException()
    return answers
