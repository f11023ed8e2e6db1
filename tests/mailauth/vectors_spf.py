"""Runs the conformance suite of RFC 7208: zones, questions of check_host(), and which results are allowed."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, NamedTuple

import yaml

from tests.dns.fake import FakeResolver
from tests.mailauth.counts import Counts
from tests.smtp.vectors import vector
from twisted_mail_node.dns.answer import MX, DNSError, Record
from twisted_mail_node.mailauth.spf import Spf, check_mail

#: What a name that does not answer does not answer to.
TYPES = ("A", "AAAA", "MX", "PTR", "TXT")
#: What stands for "no explanation of the domain's own".
DEFAULT = "DEFAULT"


class Case(NamedTuple):
    """A question to check_host() and what may come of it.

    :ivar explanation: ``None`` when the suite does not say.
    """

    name: str
    zone: Mapping[str, Mapping[str, Any]]
    ip: str
    helo: str
    reverse_path: str
    results: tuple[str, ...]
    explanation: str | None


def cases() -> Iterator[Case]:
    """Every case of the suite."""
    for part in yaml.safe_load_all(vector("spf/rfc7208-tests.yml").read_text("utf-8")):
        zone = read_zone(part["zonedata"])
        for name, test in part["tests"].items():
            results = test["result"] if isinstance(test["result"], list) else [test["result"]]
            explanation = test.get("explanation")
            yield Case(
                f"{part['description']}: {name}",
                zone,
                test["host"],
                test["helo"],
                test["mailfrom"],
                tuple(results),
                "" if explanation == DEFAULT else explanation,
            )


def read_zone(source: Mapping[str, list[Any]]) -> dict[str, dict[str, list[Record] | DNSError]]:
    """The suite's zone data for a ``FakeResolver``: SPF entries are TXT records, unless TXT says otherwise."""
    zone: dict[str, dict[str, list[Record] | DNSError]] = {}
    for name, entries in source.items():
        node: dict[str, list[Record] | DNSError] = {}
        found: dict[str, list[Record]] = {}
        late = False
        for entry in entries:
            if entry == "TIMEOUT":
                late = True
                continue
            ((rdtype, value),) = entry.items()
            if value == "NONE":
                found[rdtype] = []
            else:
                found.setdefault(rdtype, []).append(record(rdtype, value))
        spf = found.pop("SPF", None)
        if spf is not None and "TXT" not in found:
            found["TXT"] = spf
        node.update({rdtype: records for rdtype, records in found.items() if records or not late})
        if late:
            node.update({rdtype: DNSError("no answer in time") for rdtype in TYPES if rdtype not in node})
        zone[name.lower()] = node
    return zone


def record(rdtype: str, value: Any) -> Record:
    """A record of the suite as the resolver gives it."""
    if rdtype in ("TXT", "SPF"):
        return "".join(value).encode("latin-1")
    if rdtype == "MX":
        return MX(int(value[0]), value[1].rstrip("."))
    text: str = value
    return text.rstrip(".")


def finished(work: Coroutine[Any, Any, Spf]) -> Spf:
    """What a coroutine gives that never waits."""
    try:
        work.send(None)
    except StopIteration as end:
        found: Spf = end.value
        return found
    raise AssertionError("it waits")


def check(case: Case) -> Spf:
    """What we say to a case."""
    resolver = FakeResolver(case.zone)
    return finished(
        check_mail(
            resolver, ip=case.ip, helo=case.helo, reverse_path=case.reverse_path, receiver="receiver.example", now=0.0
        )
    )


def run() -> Counts:
    """Check every case: its result, and its explanation where there is one."""
    failed = []
    total = 0
    for case in cases():
        total += 1
        found = check(case)
        good = found.result in case.results and case.explanation in (None, found.explanation)
        if not good:
            failed.append(f"{case.name}: {found}, not {case.results} {case.explanation!r}")
    return Counts(total - len(failed), total, 0, tuple(failed))
