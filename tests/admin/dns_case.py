"""A domain of ours and what the DNS says of it, in memory, for the tests of ``mailnode dns``."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Collection, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from tests.dns.fake import FakeResolver
from twisted_mail_node.admin.dns_alone import evaluate_of
from twisted_mail_node.admin.dns_answers import Answers, Fetch, Show, ask
from twisted_mail_node.admin.dns_check import Finding, findings
from twisted_mail_node.admin.dns_check_services import CHECKS
from twisted_mail_node.admin.dns_node import Facts, Host, Key, Service
from twisted_mail_node.dns.answer import MX, SRV, DNSError

#: Records by name and type; a ``DNSError`` stands for no answer. Tests change a copy.
Names = dict[str, Any]
DOMAIN, HOST, IP = "example.org", "mx.example.org", "192.0.2.1"
PTR = "1.2.0.192.in-addr.arpa"
P = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="
KEY = Key(DOMAIN, "20261128e", "active", f"v=DKIM1; k=ed25519; p={P}", "ed25519-sha256")
FACTS = Facts(
    domain=DOMAIN,
    hostname=HOST,
    local=frozenset((DOMAIN,)),
    receives=(IP,),
    hosts=(Host(HOST, (IP,)),),
    services=(Service("submission", 587), Service("submissions", 465)),
    keys=(KEY,),
)


def good() -> Names:
    """A zone in which all is well."""
    nowhere = {f"_{name}._tcp.{DOMAIN}": {"SRV": [SRV(0, 0, 0, "")]} for name in ("imap", "imaps", "pop3", "pop3s")}
    return {
        DOMAIN: {"MX": [MX(10, HOST)], "TXT": [b"v=spf1 mx -all", b"another text"]},
        HOST: {"A": [IP], "TXT": [b"v=spf1 a -all"]},
        PTR: {"PTR": [HOST]},
        KEY.owner: {"TXT": [KEY.text.encode()]},
        f"_dmarc.{DOMAIN}": {"TXT": [b"v=DMARC1; p=reject; rua=mailto:postmaster@example.org"]},
        f"_smtp._tls.{DOMAIN}": {"TXT": [b"v=TLSRPTv1; rua=mailto:postmaster@example.org"]},
        f"_submission._tcp.{DOMAIN}": {"SRV": [SRV(0, 1, 587, HOST)]},
        f"_submissions._tcp.{DOMAIN}": {"SRV": [SRV(0, 1, 465, HOST)]},
        **nowhere,
    }


def result_of(awaited: Awaitable[Any]) -> Any:
    """What a coroutine that waits for nothing gives."""

    async def wait() -> Any:
        return await awaited

    results: list[Any] = []
    Deferred.fromCoroutine(wait()).addCallbacks(results.append, lambda failure: failure.raiseException())
    return results[0]


def asked(
    names: Mapping[str, Any],
    facts: Facts = FACTS,
    signed: Collection[str] = (),
    fetch: Fetch | None = None,
    show: Show | None = None,
) -> Answers:
    """What the command learns of these names."""
    resolver = FakeResolver(names, signed)
    answers: Answers = result_of(ask(resolver, facts, time.time(), fetch, evaluate_of(resolver, HOST), show))
    return answers


def found(
    names: Mapping[str, Any],
    facts: Facts = FACTS,
    signed: Collection[str] = (),
    fetch: Fetch | None = None,
    show: Show | None = None,
) -> list[Finding]:
    """What is found out about them."""
    return findings(facts, asked(names, facts, signed, fetch, show), CHECKS)


def about(kind: str, names: Mapping[str, Any], facts: Facts = FACTS, **more: Any) -> list[tuple[str, str]]:
    """What is found out about one kind of record: severities and sentences."""
    return [(str(one.severity), one.words) for one in found(names, facts, **more) if one.about == kind]


def silent(name: str) -> DNSError:
    """No answer for now."""
    return DNSError(f"192.0.2.53 did not answer within 5 s when asked for {name}")
