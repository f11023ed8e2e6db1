"""How rules of the settings spell where mail goes: the domains a rule is for, and its next hop."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from twisted_mail_node.message.address import domain_key
from twisted_mail_node.settings_problems import Misspelt
from twisted_mail_node.settings_spelling import domain, port_number

NEXT_HOP = (
    '"example.net" (its mail exchangers are looked up), "example.net:2525", or a host without a look-up: '
    '"[mx.example.net]:25", "[192.0.2.7]", "[IPv6:2001:db8::1]:25"'
)
ROUTE_DOMAIN = '"example.org" (that domain), ".example.org" (its subdomains) or "*" (every domain that is not local)'

#: RFC 5321 section 4.5.4.2.
SMTP_PORT = 25

# Underscores are borne with: container networks use them.
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?\Z", re.ASCII)


class NextHop(NamedTuple):
    """Where a connection goes.

    :ivar host: a domain name, or an IP address without brackets and without ``IPv6:``.
    :ivar mx: True when the host's mail exchangers are to be looked up.
    """

    host: str
    port: int
    mx: bool


@lru_cache(maxsize=4096)
def parse_next_hop(text: str) -> NextHop:
    """A next hop as a ``Route`` has it: ``example.net``, ``example.net:2525``, ``[192.0.2.7]:25``,
    ``[IPv6:2001:db8::1]``.

    :raises ValueError: it is none; the sentence says what is allowed.
    """
    mx = not text.startswith("[")
    if mx:
        if _is_ip(text):
            raise Misspelt(NEXT_HOP, f"did you mean '{_bracketed(text)}'?")
        inner, colon, port = text.partition(":")
        if _is_ip(inner):
            raise Misspelt(NEXT_HOP, f"did you mean '{_bracketed(inner)}:{port}'?")
        host = _name(inner)
    else:
        inner, bracket, rest = text[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        if not bracket or colon not in ("", ":"):
            raise Misspelt(NEXT_HOP)
        host = _bracketed_host(inner)
    if not colon:
        return NextHop(host, SMTP_PORT, mx)
    try:
        return NextHop(host, port_number(port), mx)
    except ValueError:
        raise Misspelt(NEXT_HOP) from None


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _bracketed(ip: str) -> str:
    return f"[IPv6:{ip}]" if ":" in ip else f"[{ip}]"


def _bracketed_host(inner: str) -> str:
    """What stands between brackets: an IP address or the name of one host."""
    if inner[:5].lower() == "ipv6:":
        try:
            return str(IPv6Address(inner[5:]))
        except ValueError:
            raise Misspelt(NEXT_HOP) from None
    return str(ip_address(inner)) if _is_ip(inner) else _name(inner)


def _name(text: str) -> str:
    try:
        name = domain_key(text)
    except ValueError:
        raise Misspelt(NEXT_HOP) from None
    if not _HOST.match(name) or ".." in name:
        raise Misspelt(NEXT_HOP)
    return name


def next_hop(value: object) -> str:
    """A next hop, kept as text once it is known to be one.

    :raises Misspelt: it is none.
    """
    if not isinstance(value, str):
        raise Misspelt(NEXT_HOP)
    parse_next_hop(value)
    return value


def route_domain(value: object) -> str:
    """The domains of a rule.

    :raises Misspelt: it is none.
    """
    if value == "*":
        return "*"
    if not isinstance(value, str):
        raise Misspelt(ROUTE_DOMAIN)
    try:
        return "." + domain(value[1:]) if value.startswith(".") else domain(value)
    except Misspelt as error:
        hint = f"did you mean '{value[1:]}'?" if value.startswith("*.") else error.hint
        raise Misspelt(ROUTE_DOMAIN, hint) from None
