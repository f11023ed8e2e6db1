"""Where a mail goes next: forward-path to agent and next hop, by ordered rules of which the first match counts.

Rules look at the recipient's domain, the reverse-path and the account. Which rules can matter for a domain is found out
once; a mail then only compares its sender and account with those few that ask for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from zope.interface import implementer

from twisted_mail_node.interfaces import IDirectory, IRouter
from twisted_mail_node.message.address import Address, domain_key
from twisted_mail_node.message.envelope import Envelope
from twisted_mail_node.routing_conditions import Condition, condition_of
from twisted_mail_node.settings import Domain, RouteRule, TlsLevel
from twisted_mail_node.settings_outbound import Transport
from twisted_mail_node.settings_routes import NextHop, fits, parse_next_hop

__all__ = ["NextHop", "Route", "Router", "Step", "parse_next_hop"]

#: Domains whose rules are remembered, some 200 octets each; when there are more, all are found out anew.
CACHE_MAX = 10_000


class Route(NamedTuple):
    """The next step for a recipient.

    :ivar agent: which delivery agent carries it: ``maildir``, ``relay``, or one of your own that the queue was given;
        ``none`` when nobody can (``next_hop`` then tells why).
    :ivar next_hop: a local domain for ``maildir``; for ``relay`` a domain (its mail exchangers are looked up),
        ``host:port`` (likewise, at that port), ``[host]`` / ``[192.0.2.7]:25`` / ``[IPv6:2001:db8::1]:25``
        (this host, no MX lookup), or ``unix:/path``. ``parse_next_hop`` reads it.
    :ivar tls: how the way to the next hop must be protected.
    :ivar transport: what is spoken there.
    :ivar credentials: the rule whose name and password sign in there (``route[2]``); ``""``: nobody signs in.
    :ivar source: the pool to connect from; ``""``: as the destination's limits say.
    :ivar reverse_path: what is said there instead of the mail's own, ``None``: that itself; our own DSNs go to the
        mail's own.
    """

    agent: str
    next_hop: str
    tls: TlsLevel = "opportunistic"
    transport: Transport = "smtp"
    credentials: str = ""
    source: str = ""
    reverse_path: Address | None = None


class Step(NamedTuple):
    """One look at what may decide about a recipient, in the order of looking.

    :ivar rule: ``directory``, ``domain[1].lmtp``, ``route[2]``, or ``MX`` when no rule fitted.
    :ivar fits: it decided.
    :ivar why: what it wanted, and what it found.
    """

    rule: str
    fits: bool
    why: str


class _Rule(NamedTuple):
    name: str
    settings: RouteRule
    condition: Condition | None


@implementer(IRouter)
class Router:
    """Local domains go to the Maildir or to their message store; then the rules in their order; then by MX, or to the
    host of an address literal.

    Domains in routes are in their look-up spelling, so that recipients of one domain share one next hop.

    :param domains: the local domains as the settings have them: those with ``lmtp`` have a message store.
    """

    def __init__(self, rules: Sequence[RouteRule], directory: IDirectory, domains: Sequence[Domain] = ()) -> None:
        self._directory = directory
        self.reload(rules, domains)

    def reload(self, rules: Sequence[RouteRule], domains: Sequence[Domain] = ()) -> None:
        """Let other rules be in force."""
        self._rules = tuple(_Rule(f"route[{n}]", rule, condition_of(rule)) for n, rule in enumerate(rules, 1))
        self._stores = {
            domain_key(domain.name): (f"domain[{n}].lmtp", Route("relay", domain.lmtp, transport="lmtp"))
            for n, domain in enumerate(domains, 1)
            if domain.lmtp is not None
        }
        self._known: dict[str, tuple[tuple[Condition | None, Route], ...]] = {}

    async def route(self, address: Address, envelope: Envelope | None = None) -> Route:
        """The next step for a recipient. Never raises."""
        return self.find(address.domain, envelope)

    def find(self, domain: str, envelope: Envelope | None = None) -> Route:
        """The route of a domain, in any spelling.

        :param envelope: of the mail; without one, rules that ask for a sender or an account do not fit.
        """
        if self._directory.is_local(domain):
            key = domain_key(domain)
            store = self._stores.get(key) if self._stores else None
            return Route("maildir", key) if store is None else store[1]
        known = self._known.get(domain)
        if known is None:
            if len(self._known) >= CACHE_MAX:
                self._known.clear()
            known = self._known[domain] = tuple(self._remote(domain))
        for condition, route in known:
            if condition is None or (envelope is not None and condition.met_by(envelope)):
                return route
        raise AssertionError("the last one has no condition")

    def _remote(self, domain: str) -> Iterator[tuple[Condition | None, Route]]:
        """What may be the domain's route, as far as the first that is whoever writes."""
        try:
            key = domain_key(domain)
        except ValueError as error:
            yield None, Route("none", str(error))
            return
        for name, rule, condition in self._rules:
            if fits(rule.domain, key):
                yield condition, _route(name, rule, key)
                if condition is None:
                    return
        yield None, _direct(key)

    def explain(self, address: Address, envelope: Envelope | None = None) -> list[Step]:
        """Which rule decides about a recipient and why, after those that did not fit. The last step decides."""
        domain = address.domain
        if self._directory.is_local(domain):
            found = self._stores.get(domain_key(domain))
            steps = [Step("directory", True, f"{domain or 'the empty domain'} is local: to its Maildirs")]
            if found is not None:
                steps[0] = Step("directory", False, f"{domain} is local, and has a message store")
                steps.append(Step(found[0], True, f"LMTP to {found[1].next_hop}"))
            return steps
        steps = [Step("directory", False, f"{domain} is not local")]
        try:
            key = domain_key(domain)
        except ValueError as error:
            return [*steps, Step("MX", True, str(error))]
        for name, rule, condition in self._rules:
            wanted = f'domain = "{rule.domain}"'
            if not fits(rule.domain, key):
                steps.append(Step(name, False, f"{wanted} is not {key}"))
                continue
            missed = "" if condition is None else condition.why_not(envelope)
            if missed:
                steps.append(Step(name, False, missed))
                continue
            met = f"{wanted} fits" + ("" if condition is None else f", {condition}")
            way = f"next hop {rule.next_hop}" if rule.next_hop else f"the way to {key} itself, as the rule says"
            return [*steps, Step(name, True, f"{met}: {way}")]
        route = _direct(key)
        why = route.next_hop if route.agent == "none" else "no rule fits: to the domain itself, by MX"
        if key.startswith("[") and route.agent != "none":
            why = "no rule fits: to the host of the address literal"
        return [*steps, Step("MX", True, why)]


def _route(name: str, rule: RouteRule, key: str) -> Route:
    """What a rule makes of a domain; without a next hop it only says how to go there."""
    next_hop = rule.next_hop
    if next_hop is None:
        direct = _direct(key)
        if direct.agent == "none":
            return direct
        next_hop = direct.next_hop
    credentials = name if rule.username is not None else ""
    return Route("relay", next_hop, rule.tls, rule.transport, credentials, rule.source or "")


def _direct(key: str) -> Route:
    """To the domain's mail exchangers, or to the host of an address literal."""
    if key.startswith("["):
        try:
            parse_next_hop(key)
        except ValueError:
            return Route("none", f"{key!r} is not an address literal we can reach")
    return Route("relay", key)
