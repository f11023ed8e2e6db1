"""What must fit together in the settings of the way out: routes, destinations and source addresses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from twisted_mail_node.settings_problems import Problem, did_you_mean, shown
from twisted_mail_node.settings_routes import parse_next_hop

if TYPE_CHECKING:
    from twisted_mail_node.settings_checks import Sections


def check_outbound(sections: Sections) -> Iterator[Problem]:
    """All that does not fit together."""
    yield from _routes(sections)
    yield from _destinations(sections)
    yield from _sources(sections)


def _routes(sections: Sections) -> Iterator[Problem]:
    for path, rule in sections.routes:
        if rule.next_hop is None:
            if rule.transport == "lmtp":
                yield Problem(f"{path}.next_hop", "nothing, but LMTP needs one", '"unix:/PATH" or a host in brackets')
            if rule.username is not None:
                yield Problem(f"{path}.next_hop", "nothing, but a sign-in needs one", "the host to sign in at")
        elif parse_next_hop(rule.next_hop).mx and rule.transport == "lmtp":
            held = f"{shown(rule.next_hop)}, which is looked up by MX; LMTP is not spoken so (RFC 2033 section 5)"
            yield Problem(f"{path}.next_hop", held, '"unix:/PATH", or the host in brackets')
        elif parse_next_hop(rule.next_hop).path and rule.transport == "smtp":
            yield Problem(f"{path}.transport", '"smtp", but the next hop is a socket', '"lmtp"')
        if (rule.username is None) != (rule.password_file is None):
            missing, there = ("username", "password_file") if rule.username is None else ("password_file", "username")
            yield Problem(f"{path}.{missing}", f"nothing, though '{there}' is given", "both of them, or neither")
    for path, domain in sections.domains:
        if domain.lmtp is not None and parse_next_hop(domain.lmtp).mx:
            held = f"{shown(domain.lmtp)}, which is looked up by MX"
            yield Problem(f"{path}.lmtp", held, '"unix:/PATH", or the host in brackets')


def _destinations(sections: Sections) -> Iterator[Problem]:
    for path, rule in sections.destinations:
        if not rule.domains and not rule.exchangers:
            yield Problem(path, "neither 'domains' nor 'exchangers'", "one of them, or both")


def _sources(sections: Sections) -> Iterator[Problem]:
    pools = {source.pool for _, source in sections.sources}
    named = [(path, rule.source) for path, rule in sections.routes]
    named += [(path, rule.source) for path, rule in sections.destinations]
    for path, pool in named:
        if pool is not None and pool not in pools:
            names = ", ".join(sorted(pools)) or "none; add a [[source]] with its name in 'pool'"
            held = f"{shown(pool)}, which no [[source]] has"
            yield Problem(f"{path}.source", held, f"a pool: {names}", did_you_mean(pool, pools))
    seen: dict[tuple[str, str], str] = {}
    for path, source in sections.sources:
        first = seen.setdefault((source.pool, source.address), path)
        if first != path:
            yield Problem(f"{path}.address", f"{shown(source.address)}, which {first} has already", "each once a pool")
