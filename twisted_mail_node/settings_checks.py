"""What must fit together between the tables of the settings: domains, accounts, aliases, listeners.

``settings_checks_security`` does the same for what has to do with TLS and signing in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from twisted_mail_node.message.address import Address, domain_key
from twisted_mail_node.settings_checks_outbound import check_outbound
from twisted_mail_node.settings_checks_security import check_security
from twisted_mail_node.settings_endpoint import parts
from twisted_mail_node.settings_problems import Problem, did_you_mean, shown
from twisted_mail_node.settings_signing import check_signing
from twisted_mail_node.settings_verification import RESULTS_OF

if TYPE_CHECKING:
    from twisted_mail_node.settings import Account, Alias, DestinationRule, Domain, Listener, RouteRule, Source
    from twisted_mail_node.settings_outbound import SrsSettings
    from twisted_mail_node.settings_security import AuthenticationSettings, Certificate, OAuthSettings, TlsSettings
    from twisted_mail_node.settings_signing import DkimSettings
    from twisted_mail_node.settings_verification import CheckRule

#: How many aliases may lead one to the other. People need two or three; more is a slip.
ALIAS_DEPTH = 10


@dataclass
class Sections:
    """The tables that are right by themselves, each with its path (``domain[1]``); of those that stand once ``None``
    where they are not."""

    listeners: list[tuple[str, Listener]] = field(default_factory=list)
    domains: list[tuple[str, Domain]] = field(default_factory=list)
    accounts: list[tuple[str, Account]] = field(default_factory=list)
    aliases: list[tuple[str, Alias]] = field(default_factory=list)
    routes: list[tuple[str, RouteRule]] = field(default_factory=list)
    destinations: list[tuple[str, DestinationRule]] = field(default_factory=list)
    sources: list[tuple[str, Source]] = field(default_factory=list)
    certificates: list[tuple[str, Certificate]] = field(default_factory=list)
    tls: TlsSettings | None = None
    authentication: AuthenticationSettings | None = None
    oauth: OAuthSettings | None = None
    srs: SrsSettings | None = None
    dkim: DkimSettings | None = None
    checks: list[tuple[str, CheckRule]] = field(default_factory=list)
    domains_complete: bool = True
    without_listener: bool = False


def cross_check(sections: Sections) -> list[Problem]:
    """All that does not fit together."""
    return [
        *_listeners(sections),
        *_repeated(sections),
        *_not_local(sections),
        *_shared_maildirs(sections),
        *_alias_loops(sections),
        *check_outbound(sections),
        *check_security(sections),
        *check_signing(sections.dkim),
        *_check_results(sections),
    ]


def _listeners(sections: Sections) -> Iterator[Problem]:
    if sections.without_listener:
        yield Problem(
            "listener", "nothing, but is needed", "at least one [[listener]] table with 'kind' and 'endpoint'"
        )
    seen: dict[str, str] = {}
    for path, listener in sections.listeners:
        if parts(listener.endpoint)[1].get("port") == "0":
            continue  # any free port: each time another
        first = seen.setdefault(listener.endpoint, path)
        if first != path:
            yield Problem(f"{path}.endpoint", f"{shown(listener.endpoint)}, which {first} has already", "another port")


def _repeated(sections: Sections) -> Iterator[Problem]:
    named = {
        "name": [(path, one.name, "each domain once") for path, one in sections.domains],
        "domain": [
            (path, one.domain, "each domain once, where senders and accounts do not differ; the first rule counts")
            for path, one in sections.routes
            if not one.senders and not one.accounts
        ],
    }
    addressed = (
        [(path, one.address, "each account once") for path, one in sections.accounts],
        [(path, one.address, "each alias once, with all its addresses in 'to'") for path, one in sections.aliases],
    )
    for key, names in named.items():
        yield from _twice(key, [(path, name, name, allowed) for path, name, allowed in names])
    for addresses in addressed:
        yield from _twice("address", [(path, str(one), _name(one), allowed) for path, one, allowed in addresses])


def _check_results(sections: Sections) -> Iterator[Problem]:
    """A rule about what its method never comes to is a mistake."""
    for path, rule in sections.checks:
        possible = RESULTS_OF[rule.method]
        for number, word in enumerate(rule.results, 1):
            if word not in possible:
                only = ", a word of dmarc only" if word in RESULTS_OF["dmarc"][3:5] else ""
                held = f"{shown(word)}, which {rule.method} never comes to{only}"
                yield Problem(f"{path}.results[{number}]", held, f"one of {', '.join(map(shown, possible))}")


def _twice(key: str, entries: list[tuple[str, str, object, str]]) -> Iterator[Problem]:
    seen: dict[object, str] = {}
    for path, text, name, allowed in entries:
        first = seen.setdefault(name, path)
        if first != path:
            yield Problem(f"{path}.{key}", f"{shown(text)}, which {first} has already", allowed)


def _not_local(sections: Sections) -> Iterator[Problem]:
    """Addresses that must be in a local domain. Says nothing while some [[domain]] is itself wrong."""
    if not sections.domains_complete:
        return
    local = {domain_key(domain.name) for _, domain in sections.domains}
    entries = [(f"{path}.address", account.address) for path, account in sections.accounts]
    entries += [(f"{path}.address", alias.address) for path, alias in sections.aliases]
    entries += [(f"{path}.catch_all", one.catch_all) for path, one in sections.domains if one.catch_all is not None]
    for path, address in entries:
        if domain_key(address.domain) not in local:
            names = ", ".join(sorted(local)[:10]) or "none; add a [[domain]] with its name"
            hint = did_you_mean(address.domain, local)
            yield Problem(
                path, f"{shown(str(address))}, whose domain is not local", f"the local domains: {names}", hint
            )


def _shared_maildirs(sections: Sections) -> Iterator[Problem]:
    """Two domains whose mailboxes would be the same directories: joe of one would read joe of the other."""
    seen: dict[str, tuple[str, str]] = {}
    for path, domain in sections.domains:
        name = domain_key(domain.name)
        first, other = seen.setdefault(domain.maildir.replace("{domain}", name), (path, name))
        if other != name:
            held = f"{shown(domain.maildir)}, which {first} has already"
            yield Problem(f"{path}.maildir", held, "a path of its own, or one with {domain} in it")


def _name(address: Address) -> tuple[str, str]:
    return domain_key(address.domain), address.local_part


def _alias_loops(sections: Sections) -> Iterator[Problem]:
    """Aliases that lead back to themselves through others, and chains that are too long.

    An alias that names itself keeps a copy in the account of the same address, which ``accounts.json`` may hold:
    that is no loop.
    """
    aliases = {_folded(alias.address): alias for _, alias in sections.aliases}
    accounts = {_folded(account.address) for _, account in sections.accounts}
    depths: dict[tuple[str, str], int] = {}
    told: set[tuple[str, str]] = set()
    for path, alias in sections.aliases:
        if (circle := _walk(_folded(alias.address), aliases, accounts, depths)) and not told.issuperset(circle):
            told.update(circle)
            words = " to ".join(str(aliases[name].address) for name in [*circle, circle[0]])
            yield Problem(f"{path}.to", f"an alias loop: {words}", "aliases that end in accounts or remote addresses")
        elif not circle and depths[_folded(alias.address)] == ALIAS_DEPTH + 1:
            held = f"the start of {ALIAS_DEPTH + 1} aliases, one behind the other"
            yield Problem(f"{path}.to", held, f"at most {ALIAS_DEPTH}, one behind the other")


def _folded(address: Address) -> tuple[str, str]:
    return domain_key(address.domain), address.local_part.lower()


def _walk(
    start: tuple[str, str],
    aliases: dict[tuple[str, str], Alias],
    accounts: set[tuple[str, str]],
    depths: dict[tuple[str, str], int],
) -> list[tuple[str, str]]:
    """The first loop that ``start`` leads into, else nothing. Fills ``depths`` of all it finished."""
    if start in depths:
        return []
    trail: dict[tuple[str, str], Iterator[Address]] = {start: iter(aliases[start].to)}
    while trail:
        here = next(reversed(trail))
        for address in trail[here]:
            name = _folded(address)
            if name in trail:
                if name == here or name in accounts:
                    continue
                names = list(trail)
                return names[names.index(name) :]
            if name in aliases and name not in depths:
                trail[name] = iter(aliases[name].to)
                break
        else:
            del trail[here]
            depths[here] = 1 + max((depths.get(_folded(one), 0) for one in aliases[here].to), default=0)
    return []
