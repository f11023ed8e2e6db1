"""What holds for a destination: connections, pace, schedule, lifetime, source; by ``[[destination]]`` rules.

The first rule that fits counts. A rule by domains gives each next hop limits of its own; a rule by exchangers is shared
by every next hop whose mail exchangers it names, for it is their hosts that count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from twisted_mail_node.settings import DestinationRule, TlsLevel
from twisted_mail_node.settings_routes import Rate, fits, parse_next_hop

#: Next hops whose limit is remembered; when there are more, all are found anew.
KNOWN_MAX = 20_000


class Limit(NamedTuple):
    """What holds for one next hop.

    :ivar key: whoever has the same key shares connections and pace: the next hop, or a rule by exchangers.
    :ivar why: the rule in a few words, ``"[queue]"`` when there is none.
    :ivar rates: mails in a time; all are kept to.
    :ivar retry: the retry schedule, seconds.
    :ivar lifetime: seconds after which a mail is given up.
    :ivar tls: the least protection, ``None`` when the rule asks for none.
    :ivar source: the pool to connect from, ``""`` when the rule names none.
    """

    key: str
    why: str
    connections: int
    mails_per_connection: int
    rates: tuple[Rate, ...]
    retry: tuple[float, ...]
    lifetime: float
    tls: TlsLevel | None = None
    source: str = ""


class Defaults(Protocol):
    """What is read of ``settings.QueueSettings``."""

    connections_per_destination: int
    mails_per_connection: int
    retry: tuple[float, ...]
    lifetime: float


class Limits:
    """Finds the limit of a next hop.

    :param rules: in the settings' order.
    :param defaults: what a rule does not say.
    """

    def __init__(self, rules: Sequence[DestinationRule], defaults: Defaults) -> None:
        self._defaults = defaults
        self.reload(rules)

    def reload(self, rules: Sequence[DestinationRule]) -> None:
        """Let other rules be in force."""
        self._rules = tuple(enumerate(rules, 1))
        self._known: dict[tuple[str, tuple[str, ...] | None], Limit] = {}
        #: True when some rule depends on the names of a domain's mail exchangers.
        self.by_exchangers = any(rule.exchangers for rule in rules)
        longest = max([self._defaults.lifetime, *[rule.lifetime or 0.0 for rule in rules]])
        #: What holds while nobody knows where a mail goes: it is not given up before it would be anywhere.
        self.anywhere = self._default("")._replace(lifetime=longest)

    def of(self, next_hop: str, exchangers: Sequence[str] | None = ()) -> Limit:
        """The limit of a next hop.

        :param exchangers: names of its mail exchangers (lower case, no trailing dot). ``None``: they cannot be found
            out now; then rules by exchangers do not hold, but for the longest of the lifetimes that may do.
        """
        asked = next_hop, None if exchangers is None else tuple(exchangers)
        known = self._known.get(asked)
        if known is None:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            known = self._known[asked] = self._find(next_hop, asked[1])
        return known

    def _find(self, next_hop: str, exchangers: tuple[str, ...] | None) -> Limit:
        host = _host(next_hop)
        possible = 0.0
        for number, rule in self._rules:
            if any(fits(pattern, host) for pattern in rule.domains):
                limit = self._limit(next_hop, f"destination[{number}]", rule)
                break
            if exchangers is None:
                possible = max(possible, (rule.lifetime or self._defaults.lifetime) if rule.exchangers else 0.0)
            elif any(fits(pattern, name) for pattern in rule.exchangers for name in exchangers):
                why = f"destination[{number}], by its exchangers"
                return self._limit(f"destination[{number}]", why, rule)
        else:
            limit = self._default(next_hop)
        return limit._replace(lifetime=max(limit.lifetime, possible))

    def _default(self, next_hop: str) -> Limit:
        defaults = self._defaults
        return Limit(
            next_hop, "[queue]", defaults.connections_per_destination, defaults.mails_per_connection, (),
            defaults.retry, defaults.lifetime,
        )  # fmt: skip

    def _limit(self, key: str, why: str, rule: DestinationRule) -> Limit:
        defaults = self._defaults
        return Limit(
            key,
            why,
            rule.connections or defaults.connections_per_destination,
            rule.mails_per_connection or defaults.mails_per_connection,
            rule.rates,
            rule.retry or defaults.retry,
            rule.lifetime or defaults.lifetime,
            rule.tls,
            rule.source or "",
        )


def _host(next_hop: str) -> str:
    """The name that rules speak of: without brackets and port."""
    try:
        return parse_next_hop(next_hop).host
    except ValueError:
        return next_hop
