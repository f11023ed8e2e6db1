"""XCLIENT (Postfix's XCLIENT_README): what a named peer says of the client it speaks for."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from twisted_mail_node.smtp.grammar import GrammarError, decode_xtext, parse_helo

#: The attributes that EHLO announces. LOGIN is known, but not taken.
ATTRIBUTES = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "DESTADDR", "DESTPORT")
#: What stands for an address that the peer does not know.
UNKNOWN = "unknown"
#: XCLIENT_README: so many characters has a name at most.
VALUE_MAX = 255

_UNAVAILABLE = ("[UNAVAILABLE]", "[TEMPUNAVAIL]")
_IPV6 = "IPV6:"
_NUMBER = re.compile(r"[0-9]{1,5}")
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")


class Presented(NamedTuple):
    """What XCLIENT said. NAME, PORT, DESTADDR and DESTPORT are checked and not kept: nothing here asks for them.

    :ivar client: the client's address, an IPv4-mapped one as IPv4; ``UNKNOWN``; ``None``: not said.
    :ivar helo: what the client called itself; ``""``: not said.
    :ivar extended: PROTO said that the client speaks ESMTP.
    """

    client: str | None = None
    helo: str = ""
    extended: bool = False


def parse_xclient(argument: str) -> Presented:
    """What stands behind the verb: attributes with values in xtext, in any order, each once.

    :raises GrammarError: an attribute is unknown, repeated or malformed, or there is none; or LOGIN names somebody:
        nobody signs in here on another's word.
    """
    given: dict[str, str] = {}
    for word in argument.split():
        name, equals, value = word.partition("=")
        name = name.upper()
        if not equals or name not in (*ATTRIBUTES, "LOGIN"):
            raise GrammarError(
                "write XCLIENT and attributes such as ADDR=192.0.2.1; known are " + ", ".join(ATTRIBUTES)
            )
        if name in given:
            raise GrammarError(f"XCLIENT holds {name} twice")
        value = decode_xtext(value)
        if not value or len(value) > VALUE_MAX:
            raise GrammarError(f"{name} has 1 to {VALUE_MAX} characters")
        given[name] = "" if value.upper() in _UNAVAILABLE else value
    if not given:
        raise GrammarError("XCLIENT needs an attribute, such as ADDR=192.0.2.1")
    return _presented(given)


def _presented(given: dict[str, str]) -> Presented:
    if given.get("LOGIN"):
        raise GrammarError("LOGIN is not taken here; let the client say AUTH")
    if given.get("NAME") and not _NAME.fullmatch(given["NAME"]):
        raise GrammarError("NAME is a host name")
    for name in ("PORT", "DESTPORT"):
        if given.get(name) and not (_NUMBER.fullmatch(given[name]) and int(given[name]) <= 65535):
            raise GrammarError(f"{name} is a number from 0 to 65535")
    protocol = given.get("PROTO", "").upper()
    if protocol not in ("", "SMTP", "ESMTP"):
        raise GrammarError("PROTO is SMTP or ESMTP")
    if given.get("DESTADDR"):
        _address(given["DESTADDR"], "DESTADDR")
    client = given.get("ADDR")
    if client is not None:
        client = _address(client, "ADDR") if client else UNKNOWN
    helo = given.get("HELO", "")
    return Presented(client, parse_helo(helo) if helo else "", protocol == "ESMTP")


def _address(text: str, name: str) -> str:
    """Without brackets; IPv6 behind ``IPV6:``."""
    try:
        if text[: len(_IPV6)].upper() != _IPV6:
            return str(IPv4Address(text))
        address = IPv6Address(text[len(_IPV6) :])
        if address.scope_id is None:
            return str(address.ipv4_mapped or address)
    except ValueError:
        pass
    raise GrammarError(f"{name} is an IPv4 address, or IPV6: and an IPv6 address, without brackets")
