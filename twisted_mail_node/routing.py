"""Where a mail goes next: forward-path to agent and next hop, by ordered rules of which the first match counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from zope.interface import implementer

from twisted_mail_node.interfaces import IDirectory, IRouter
from twisted_mail_node.message.address import Address, domain_key
from twisted_mail_node.message.envelope import Envelope
from twisted_mail_node.settings import RouteRule, TlsLevel
from twisted_mail_node.settings_outbound import Transport
from twisted_mail_node.settings_routes import NextHop, fits, parse_next_hop

__all__ = ["NextHop", "Route", "Router", "parse_next_hop"]

#: Routes kept by domain, some 200 octets each; a node that meets more domains forgets them all and begins anew.
CACHE_MAX = 10_000


class Route(NamedTuple):
    """The next step for a recipient.

    :ivar agent: which delivery agent carries it: ``maildir``, ``relay``, or one of your own that the queue was given;
        ``none`` when nobody can (``next_hop`` then tells why).
    :ivar next_hop: a local domain for ``maildir``; for ``relay`` a domain (its mail exchangers are looked up),
        ``host:port`` (likewise, at that port), or ``[host]`` / ``[192.0.2.7]:25`` / ``[IPv6:2001:db8::1]:25``
        (this host, no MX lookup). ``parse_next_hop`` reads it.
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


@implementer(IRouter)
class Router:
    """Local domains go to the Maildir; then the rules in their order; then by MX, or to the host of an address literal.

    Domains in routes are in their look-up spelling, so that recipients of one domain share one next hop.
    """

    def __init__(self, rules: Sequence[RouteRule], directory: IDirectory) -> None:
        self._directory = directory
        self.reload(rules)

    def reload(self, rules: Sequence[RouteRule]) -> None:
        """Let other rules be in force."""
        self._rules = tuple(rules)
        self._known: dict[str, Route] = {}

    async def route(self, address: Address, envelope: Envelope | None = None) -> Route:
        """The next step for a recipient. Never raises."""
        return self.find(address.domain)

    def find(self, domain: str) -> Route:
        """The route of a domain, in any spelling."""
        if self._directory.is_local(domain):
            return Route("maildir", domain_key(domain))
        known = self._known.get(domain)
        if known is None:
            if len(self._known) >= CACHE_MAX:
                self._known.clear()
            known = self._known[domain] = self._remote(domain)
        return known

    def _remote(self, domain: str) -> Route:
        try:
            key = domain_key(domain)
        except ValueError as error:
            return Route("none", str(error))
        for rule in self._rules:
            if fits(rule.domain, key):
                return Route("relay", rule.next_hop or key, rule.tls)
        if key.startswith("["):
            try:
                parse_next_hop(key)
            except ValueError:
                return Route("none", f"{key!r} is not an address literal we can reach")
        return Route("relay", key)
