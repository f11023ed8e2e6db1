"""Runs the DMARC cases of ``mailauth`` against ours.

Names of results are theirs; ``_found`` says which of our values stands for each. Where a case of theirs is about the
shape of their objects only, or where the RFC's text says otherwise, it stands in ``CONTESTED``, with the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Coroutine
from typing import Any, NamedTuple

from tests.dns.fake import FakeResolver
from tests.mailauth.counts import Counts
from tests.smtp.vectors import vector
from twisted_mail_node.dns.answer import DNSError
from twisted_mail_node.mailauth.author import author
from twisted_mail_node.mailauth.dmarc import Dmarc, check
from twisted_mail_node.mailauth.results import Result

CONTESTED = {
    "mailauth-024": "Two mailboxes of one domain are to give nothing. RFC 9989 section 5.3.1: 'If zero or more than "
    "one domain is extracted from the RFC5322.From header field, then DMARC validation is not possible': one is.",
    "mailauth-027": "Their comment names ARC. RFC 9989 section 4.3 has 'authentication mechanisms': DKIM and SPF only.",
    "mailauth-028": "Their objects count what l= leaves unsigned; we verify no signature that leaves anything.",
    "mailauth-030": "A string of theirs for a header field; RFC 9989 section 9.1 has header.from and policy.dmarc, and "
    "writing is not DMARC's part here.",
    "mailauth-033": "As 028.",
    "mailauth-044": "A malformed pct is to be 0. RFC 9989 section 4.8: 'Syntax errors in the remainder of the record "
    "MUST be discarded in favor of default values', and RFC 7489 section 6.3 has 'default is \"100\"'.",
    "mailauth-046": "A tag without = is to be shown. RFC 9989 section 4.7: 'unknown tags MUST be ignored'.",
    "mailauth-047": "A tag without a name is to be shown: as 046.",
    "mailauth-063": "Two records at the author domain are to end everything. RFC 9989 section 4.10 step 2: 'If "
    "multiple DMARC Policy Records are returned for a single target, they are all discarded'; the walk goes on.",
}


class Outcome(NamedTuple):
    """What one call came to."""

    dmarc: Dmarc
    asked: list[str]


def ran(coroutine: Coroutine[Any, Any, Dmarc]) -> Dmarc:
    """The value of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    raise AssertionError("it waits")


def _zone(case: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The case's DNS, in the form of ``FakeResolver``."""
    zone: dict[str, dict[str, Any]] = {}
    for name, types in (case["zone"] or {}).items():
        zone[name] = {kind: [_joined(record) for record in records] for kind, records in types.items()}
    for key, answer in (case["dns_seen"] or {}).items():
        name, _, kind = key.rpartition("/")
        if not isinstance(answer, dict):
            zone[name] = {kind: [_joined(record) for record in answer]}
        elif answer["error"] == "ENODATA":
            zone[name] = {kind: []}
        elif answer["error"] != "ENOTFOUND":
            zone[name] = {kind: DNSError(answer["error"])}
    return zone


def _joined(record: Any) -> Any:
    return "".join(record).encode() if isinstance(record, list) else record


def _call(case: dict[str, Any], call: dict[str, Any]) -> Outcome:
    resolver = FakeResolver(_zone(case))
    if call["fn"] == "getrecord":
        domain, spf, dkim = call["domain"], [], []
    else:
        given = call["headerFrom"]
        value = ", ".join(given) if isinstance(given, list) else given
        domain = author(f"From: {value}\r\n\r\n".encode()).domain if "@" in value else value
        spf, dkim = ([(Result.PASS, one if isinstance(one, str) else one["domain"]) for one in call[name]]
                     for name in ("spf", "dkim"))  # fmt: skip
    return Outcome(ran(check(resolver, domain, spf=spf, dkim=dkim)), [name for name, _ in resolver.asked])


def _found(what: str, outcome: Outcome, call: dict[str, Any]) -> Any:
    """Our value for a name of theirs."""
    dmarc, record = outcome.dmarc, outcome.dmarc.published
    if what == "dmarcQueries":
        return outcome.asked
    _, _, name = what.partition(".")
    if what == "err.code":
        return "ETIMEOUT" if dmarc.result is Result.TEMPERROR else None
    if not name:
        return record is not None
    if name == "error":
        return "DNS timeout" if dmarc.result is Result.TEMPERROR else None
    if name in ("status.result", "status.header.from"):
        return str(dmarc.result) if name == "status.result" else dmarc.domain
    if name in ("domain", "status.header.d"):
        return dmarc.policy_domain
    if name == "policy":
        return dmarc.asked or dmarc.policy
    if name == "isOrgRecord":
        return dmarc.policy_domain != dmarc.domain
    if name.startswith("alignment."):
        _, mechanism, detail = name.split(".")
        if detail == "strict":
            return (dmarc.adkim if mechanism == "dkim" else dmarc.aspf) == "s"
        return (dmarc.dkim_aligned if mechanism == "dkim" else dmarc.spf_aligned) or None
    assert record is not None
    if name == "rr":
        return record.text
    if name == "v":
        return "DMARC1"
    value = getattr(record, name)
    return ",".join(value) if isinstance(value, tuple) else value


def _holds(expect: dict[str, Any], outcome: Outcome, call: dict[str, Any]) -> bool:
    op, value = expect["op"], expect["value"]
    if op == "to.not.have.property":
        return not hasattr(outcome.dmarc, value)
    found = _found(expect["what"], outcome, call)
    if isinstance(value, dict):
        value = re.findall(r"'([^']+)'", value["js"])
    if op in ("to.include", "to.contain"):
        return value in found
    if expect["what"].startswith("result.alignment.") and isinstance(value, str):
        return found is True  # theirs is a domain, of one kind or another
    if op in ("to.be.a", "to.be.an"):
        return bool(found)
    wanted = {"to.be.true": True, "to.be.false": False}
    if op in wanted:
        return bool(found) is wanted[op]
    if op in ("to.not.be.ok", "to.be.undefined"):
        return not found
    assert op in ("to.equal", "to.deep.equal"), op
    return bool(found == value)


def run() -> Counts:
    """Every case."""
    cases = json.loads(vector("dmarc/dmarc_mailauth_vectors.json").read_text("utf-8"))
    passed = 0
    failed: list[str] = []
    for case in cases:
        if case["id"] in CONTESTED:
            continue
        outcomes = [(call, _call(case, call)) for call in case["calls"]]
        names = {"aligned": 0, "unaligned": 1}
        wrong = [
            expect
            for expect in case["expect"]
            for call, outcome in [outcomes[names.get(expect["what"].partition(".")[0], 0)]]
            if not _holds(expect, outcome, call)
        ]
        passed += not wrong
        if wrong:
            failed.append(f"{case['id']} {case['title']}: {wrong} {outcomes}")
    return Counts(passed, len(cases), len(CONTESTED), tuple(failed))
