"""What must fit together in the settings of TLS, signing in and listeners, and what is odd but possible."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING

from twisted_mail_node.settings_endpoint import parts
from twisted_mail_node.settings_problems import Problem, shown
from twisted_mail_node.settings_signing import notes_on_signing

if TYPE_CHECKING:
    from twisted_mail_node.settings import Settings
    from twisted_mail_node.settings_checks import Sections
    from twisted_mail_node.settings_security import OAuthSettings

_OAUTH = frozenset(("OAUTHBEARER", "XOAUTH2"))


def check_security(sections: Sections) -> Iterator[Problem]:
    """All that does not fit together."""
    yield from _peers(sections)
    yield from _certificates(sections)
    if sections.oauth is not None:
        yield from _oauth(sections.oauth)
    yield from _mechanisms(sections)


def notes(settings: Settings) -> Iterator[str]:
    """What may be meant so, but seldom is: a sentence each, for ``mailnode check-config`` and the log."""
    for number, listener in enumerate(settings.listeners, 1):
        path = f"listener[{number}]"
        if listener.kind == "submission" and listener.tls == "none":
            who = "only clients in relay_from may send" if settings.relay_from else "and relay_from is empty: no mail"
            yield f"{path} is a submission listener without TLS: nobody can sign in there, {who}"
        if listener.kind == "mx" and listener.tls == "implicit":
            yield f"{path} takes mail from other servers with TLS from the first octet, which none of them begins with"
    resolver = settings.resolver
    if resolver.servers and not resolver.trusted and all(ip_address(host).is_loopback for host, _ in resolver.servers):
        yield (
            "resolver.trusted is false: TLSA records (DANE) are not obeyed. Where the resolver on this machine checks "
            "signatures (unbound does), say trusted = true"
        )
    if settings.authentication.mechanisms == () and any(one.kind == "submission" for one in settings.listeners):
        yield "authentication.mechanisms is empty: nobody can sign in on the submission listeners"
    yield from notes_on_signing(settings)


def _peers(sections: Sections) -> Iterator[Problem]:
    """Peers on a unix socket have no address that a network could hold."""
    for path, listener in sections.listeners:
        kind, given = parts(listener.endpoint)
        if kind == "unix" or given.get("domain") == "UNIX":
            for key in ("proxy_from", "xclient_from"):
                if getattr(listener, key):
                    held = "networks, but who comes by a unix socket has no address"
                    yield Problem(f"{path}.{key}", held, "nothing; or another endpoint, such as one on loopback")


def _certificates(sections: Sections) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for path, certificate in sections.certificates:
        first = seen.setdefault(certificate.chain, path)
        if first != path:
            held = f"{shown(certificate.chain)}, which {first} has already"
            yield Problem(f"{path}.chain", held, "each certificate once")


def _oauth(oauth: OAuthSettings) -> Iterator[Problem]:
    given = oauth.model_fields_set
    if given and oauth.jwks is None and oauth.introspection is None:
        yield Problem("oauth", "neither jwks nor introspection", "one of them: without it no token can be checked")
    if oauth.jwks is not None and oauth.audience is None:
        yield Problem(
            "oauth.audience", "nothing, but is needed", "what tokens for this node have in 'aud'; with jwks it must be"
        )
    if oauth.introspection is None:
        for key in ("client_id", "client_secret_file"):
            if getattr(oauth, key) is not None:
                yield Problem(f"oauth.{key}", "a value, while there is no introspection", "nothing without it")
    elif (oauth.client_id is None) != (oauth.client_secret_file is None):
        missing = "client_secret_file" if oauth.client_secret_file is None else "client_id"
        yield Problem(f"oauth.{missing}", "nothing, but is needed", "client_id and client_secret_file go together")


def _mechanisms(sections: Sections) -> Iterator[Problem]:
    """Mechanisms must be such that somebody can sign in. Says nothing while a table it asks is itself wrong."""
    authentication, oauth, tls = sections.authentication, sections.oauth, sections.tls
    if authentication is None or oauth is None or tls is None:
        return
    named = authentication.mechanisms
    if len(set(named)) < len(named):
        twice = next(name for at, name in enumerate(named) if name in named[:at])
        yield Problem("authentication.mechanisms", f"{twice} twice", "each mechanism once")
    wanting: dict[str, str] = {}
    if tls.client_ca is None:
        wanting["EXTERNAL"] = "client_ca in [tls]"
    if oauth.jwks is None and oauth.introspection is None:
        wanting |= dict.fromkeys(_OAUTH, "jwks or introspection in [oauth]")
    if named and wanting.keys() >= set(named):
        needs = dict.fromkeys(wanting[name] for name in named)
        yield Problem(
            "authentication.mechanisms",
            f"only what cannot be offered ({', '.join(named)})",
            f"these with {' and '.join(needs)}, or others as well",
        )
