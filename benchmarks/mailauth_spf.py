"""The rows about SPF: the same records, the same answers of the DNS, asked by us and by pyspf.

pyspf gets the dictionary instead of its ``DNSLookup``; its cache of a check is its own, and ends with the check, as
ours does.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

from benchmarks.mailauth import Row
from benchmarks.mailauth_dkim import Names, at_once
from benchmarks.signing import Zone
from twisted_mail_node.mailauth.spf import check_mail

#: How many times as fast as pyspf we mean to be.
WANTED = 8.0

ZONE: Zone = {
    "list.example": {
        "TXT": [
            "v=spf1 ip4:192.0.2.0/28 ip4:192.0.2.32/28 ip4:192.0.2.64/27 ip4:198.51.100.0/25 ip4:198.51.100.192/26"
            " ip4:203.0.113.5 ip4:203.0.113.64/26 ip6:2001:db8:1::/48 ip6:2001:db8:2::/48 ip4:203.0.113.200 -all"
        ]
    },
    "chain.example": {"TXT": ["verification=3f29c7a8", "v=spf1 include:_spf.chain.example include:two.example ~all"]},
    "_spf.chain.example": {"TXT": ["v=spf1 include:_a.chain.example include:_b.chain.example ~all"]},
    "_a.chain.example": {"TXT": ["v=spf1 ip4:192.0.2.0/26 ip4:192.0.2.128/26 ip6:2001:db8:a::/48 ~all"]},
    "_b.chain.example": {"TXT": ["v=spf1 ip4:198.51.100.0/26 ip4:198.51.100.64/26 ip6:2001:db8:b::/48 ~all"]},
    "two.example": {"TXT": ["v=spf1 include:_c.two.example -all"]},
    "_c.two.example": {"TXT": ["v=spf1 ip4:203.0.113.0/25 ip4:203.0.113.128/26 ip4:203.0.113.200 -all"]},
    "hosts.example": {"TXT": ["v=spf1 a mx a:out.hosts.example/28 -all"], "A": ["192.0.2.1"], "MX": [
        "10 mx1.hosts.example", "20 mx2.hosts.example", "30 mx3.hosts.example"]},
    "mx1.hosts.example": {"A": ["192.0.2.11"]},
    "mx2.hosts.example": {"A": ["192.0.2.12", "192.0.2.13"]},
    "mx3.hosts.example": {"A": ["192.0.2.14"]},
    "out.hosts.example": {"A": ["203.0.113.193"]},
    "macros.example": {"TXT": ["v=spf1 exists:%{ir}.%{v}._spf.%{d2} exists:%{l1r-}.%{d}._user.%{d2} -all"]},
    "bounces.macros.example._user.macros.example": {"A": ["127.0.0.2"]},
    "short.example": {"TXT": ["v=spf1 -all"]},
}  # fmt: skip


class Case(NamedTuple):
    """A check and what it must say."""

    what: str
    ip: str
    sender: str
    result: str
    wanted: float = WANTED


CASES = (
    Case("SPF ip4 list, the last one", "203.0.113.200", "office@list.example", "pass"),
    Case("SPF ip4 list, none of them", "192.0.2.200", "office@list.example", "fail"),
    Case("SPF include, seven records", "203.0.113.200", "office@chain.example", "pass"),
    Case("SPF include, none of them", "192.0.2.99", "office@chain.example", "softfail"),
    Case("SPF a and mx", "203.0.113.200", "office@hosts.example", "pass"),
    Case("SPF macros", "203.0.113.200", "bounces@macros.example", "pass"),
    Case("SPF -all", "203.0.113.200", "office@short.example", "fail"),
)


def pyspf() -> ModuleType:
    """:raises SystemExit: it is not there."""
    try:
        return importlib.import_module("spf")
    except ImportError:
        raise SystemExit("pyspf is not installed; the extra test has it") from None


def lookup_of(zone: Zone) -> Any:
    """What stands in place of ``spf.DNSLookup``."""
    answers: dict[tuple[str, str], list[Any]] = {}
    for name, node in zone.items():
        for rdtype, texts in node.items():
            found: list[Any] = list(texts)
            if rdtype == "TXT":
                found = [(text.encode(),) for text in texts]
            elif rdtype == "MX":
                found = [(int(text.split()[0]), text.split()[1]) for text in texts]
            answers[name, rdtype] = [((name, rdtype), one) for one in found]
    nothing: list[Any] = []

    def lookup(name: str, rdtype: str, strict: object = True, timeout: float = 20) -> list[Any]:
        return answers.get((name.lower(), rdtype), nothing)

    return lookup


def rows() -> Iterator[Row]:
    """The part of ``mailauth.py``."""
    other = pyspf()
    other.DNSLookup = lookup_of(ZONE)  # type: ignore[attr-defined]
    names = Names(ZONE)

    def row(case: Case) -> Row:
        def ours() -> None:
            found = at_once(
                check_mail(
                    names,
                    ip=case.ip,
                    helo="client.example",
                    reverse_path=case.sender,
                    receiver="mx.local.test",
                    now=time.time(),
                )
            )
            if str(found.result) != case.result:
                raise SystemExit(f"{case.what}: ours says {found}")

        def beside() -> None:
            found = other.check2(i=case.ip, s=case.sender, h="client.example")
            if found[0] != case.result:
                raise SystemExit(f"{case.what}: pyspf says {found}")

        return Row(case.what, ours, beside, case.wanted)

    each = [row(case) for case in CASES]
    yield from each

    def all_ours() -> None:
        for one in each:
            one.ours()

    def all_beside() -> None:
        for one in each:
            assert one.other is not None
            one.other()

    yield Row("SPF all of these, one after the other", all_ours, all_beside, WANTED)
