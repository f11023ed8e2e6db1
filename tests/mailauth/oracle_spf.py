"""Asks pyspf, another implementation of RFC 7208, with zones of ours in place of the DNS."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from twisted_mail_node.dns.answer import DNSError

pyspf: Any = import_module("spf")

#: What pyspf says of a fail whose domain does not explain itself.
NO_EXPLANATION = "SPF fail - not authorized"
TOO_MANY = "Too many DNS lookups"


def look_up(zone: Mapping[str, Mapping[str, Any]], name: str, rdtype: str) -> list[Any]:
    """A zone's records as pyspf wants them."""
    node = zone.get(name.lower(), {})
    records = node.get(rdtype, ())
    if isinstance(records, DNSError):
        raise pyspf.TempError(str(records))
    if rdtype == "TXT":
        records = [(record,) for record in records]
    elif rdtype == "MX":
        records = [tuple(record) for record in records]
    return [((name, rdtype), record) for record in records]


def check(
    zone: Mapping[str, Mapping[str, Any]], ip: str, helo: str, sender: str, receiver: str, voids: int
) -> tuple[str, str, str]:
    """Result, explanation of a fail, and the problem that pyspf names.

    :param voids: the limit of void look-ups.
    """
    before = pyspf.DNSLookup, pyspf.MAX_VOID_LOOKUPS
    pyspf.DNSLookup = lambda name, rdtype, *_: look_up(zone, name, rdtype)
    pyspf.MAX_VOID_LOOKUPS = voids
    try:
        result, _, words = pyspf.query(i=ip, s=sender, h=helo, receiver=receiver).check()
    finally:
        pyspf.DNSLookup, pyspf.MAX_VOID_LOOKUPS = before
    explanation = words if result == "fail" and words != NO_EXPLANATION else ""
    return result, explanation, "" if result == "fail" else words
