"""How rules of the settings spell where mail goes, and how fast: domains, next hops, source addresses, rates."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from twisted_mail_node.message.address import domain_key
from twisted_mail_node.settings_problems import Misspelt
from twisted_mail_node.settings_spelling import DURATION, domain, duration, port_number

NEXT_HOP = (
    '"example.net" (its mail exchangers are looked up), "example.net:2525", or a host without a look-up: '
    '"[mx.example.net]:25", "[192.0.2.7]", "[IPv6:2001:db8::1]:25", or a socket: "unix:/run/dovecot/lmtp"'
)
ROUTE_DOMAIN = '"example.org" (that domain), ".example.org" (its subdomains) or "*" (every domain that is not local)'

RATE = 'a number of mails and a time, such as "20/s", "600/m", "10000/h" or "100000/d"'
RETRY = f"a list: at least one, at most 1000 of: {DURATION}"
SOURCE_ADDRESS = 'an IP address such as "192.0.2.7" or "2001:db8::7"'

#: RFC 5321 section 4.5.4.2.
SMTP_PORT = 25
#: Octets of a unix socket's path (unix(7)).
UNIX_PATH_MAX = 107
#: Steps of a retry schedule.
RETRY_MAX = 1000

# Underscores are borne with: container networks use them.
_RATE = re.compile(r"(\d{1,9})/([smhd])\Z", re.ASCII)
_PERIODS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?\Z", re.ASCII)


class NextHop(NamedTuple):
    """Where a connection goes.

    :ivar host: a domain name, or an IP address without brackets and without ``IPv6:``.
    :ivar mx: True when the host's mail exchangers are to be looked up.
    :ivar path: of a unix socket; ``host`` is ``"localhost"`` and ``port`` 0 then. ``""`` for all others.
    """

    host: str
    port: int
    mx: bool
    path: str = ""


class Rate(NamedTuple):
    """So many mails in a time.

    :ivar seconds: the time.
    """

    mails: int
    seconds: int

    def __str__(self) -> str:
        unit = next((unit for unit, seconds in _PERIODS.items() if seconds == self.seconds), "")
        return f"{self.mails}/{unit or f'{self.seconds} s'}"


@lru_cache(maxsize=4096)
def parse_next_hop(text: str) -> NextHop:
    """A next hop as a ``Route`` has it: ``example.net``, ``example.net:2525``, ``[192.0.2.7]:25``,
    ``[IPv6:2001:db8::1]``, ``unix:/run/dovecot/lmtp``.

    :raises ValueError: it is none; the sentence says what is allowed.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or "\0" in path or len(path.encode("utf-8", "surrogatepass")) > UNIX_PATH_MAX:
            raise Misspelt(NEXT_HOP)
        return NextHop("localhost", 0, False, path)
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


def rate(value: object) -> Rate:
    """Mails in a time: ``20/s``.

    :raises Misspelt: it is none.
    """
    if isinstance(value, Rate):
        return value
    match = _RATE.match(value) if isinstance(value, str) else None
    if match is None or not int(match[1]):
        raise Misspelt(RATE)
    return Rate(int(match[1]), _PERIODS[match[2]])


def retry(value: object) -> tuple[float, ...]:
    """A retry schedule, seconds.

    :raises Misspelt: it is none.
    """
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= RETRY_MAX:
        raise Misspelt(RETRY)
    try:
        return tuple([duration(one) for one in value])
    except Misspelt as error:
        raise Misspelt(RETRY, error.hint) from None


def source_address(value: object) -> str:
    """An IP address to connect from, as ``ipaddress`` writes it.

    :raises Misspelt: it is none, or one that no connection can come from.
    """
    try:
        address = ip_address(value if isinstance(value, str) else "")
    except ValueError:
        raise Misspelt(SOURCE_ADDRESS) from None
    if address.is_unspecified or address.is_multicast:
        raise Misspelt(SOURCE_ADDRESS)
    return str(address)


def fits(pattern: str, key: str) -> bool:
    """Whether a domain of the settings means this one. An address literal is nobody's subdomain.

    :param pattern: ``example.org``, ``.example.org`` (its subdomains) or ``*``.
    :param key: a domain in its look-up spelling.
    """
    if pattern == "*":
        return True
    if pattern.startswith("."):
        return key.endswith(pattern) and not key.startswith("[")
    return key == domain_key(pattern)
