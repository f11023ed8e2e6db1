"""What must fit together in the settings of the way out: routes, destinations and source addresses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from twisted_mail_node.message.address import domain_key
from twisted_mail_node.message.srs import DAY, LIFETIME_MAX, LOCAL_PART_MAX
from twisted_mail_node.settings_problems import Problem, did_you_mean, shown
from twisted_mail_node.settings_routes import parse_next_hop
from twisted_mail_node.settings_spelling import spell_duration
from twisted_mail_node.smtp.grammar import LOCAL_PART_MAX as OURS_MAX

if TYPE_CHECKING:
    from twisted_mail_node.settings_checks import Sections


def check_outbound(sections: Sections) -> Iterator[Problem]:
    """All that does not fit together."""
    yield from _routes(sections)
    yield from _destinations(sections)
    yield from _sources(sections)
    yield from _srs(sections)


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


def _srs(sections: Sections) -> Iterator[Problem]:
    srs = sections.srs
    if srs is None:
        return
    if srs.domain is not None and sections.domains_complete and sections.domains:
        local = {domain_key(domain.name) for _, domain in sections.domains}
        if domain_key(srs.domain) not in local:
            held = f"{shown(srs.domain)}, which is not local"
            names = f"one of the local domains: {', '.join(sorted(local)[:10])}"
            yield Problem("srs.domain", held, names, did_you_mean(srs.domain, local))
    if not DAY <= srs.lifetime <= LIFETIME_MAX * DAY:
        yield Problem("srs.lifetime", spell_duration(srs.lifetime), f"1d to {LIFETIME_MAX}d")
    if not LOCAL_PART_MAX <= srs.longest <= OURS_MAX:
        yield Problem("srs.longest", str(srs.longest), f"{LOCAL_PART_MAX} to {OURS_MAX}")


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
