"""Whether others know how to reach the node safely, and mail programs where: MTA-STS, TLSRPT, SRV."""

from __future__ import annotations

import re
from collections.abc import Iterator

from twisted_mail_node.admin.dns_answers import SERVICES, Answers
from twisted_mail_node.admin.dns_check import Check, Finding, Severity, joined, missing, records, shown
from twisted_mail_node.admin.dns_check_host import address, mx, ptr, tlsa
from twisted_mail_node.admin.dns_check_sender import dkim, dmarc, spf
from twisted_mail_node.admin.dns_node import Facts
from twisted_mail_node.admin.dns_publish import mta_sts as wanted_mta_sts
from twisted_mail_node.admin.dns_publish import service_fits, service_record
from twisted_mail_node.admin.dns_publish import services as wanted_services
from twisted_mail_node.admin.dns_publish import tls_reports as wanted_tls_reports
from twisted_mail_node.dns.answer import SRV
from twisted_mail_node.outbound.mtasts import StsPolicy, id_of
from twisted_mail_node.report.tls_record import places_of

ERROR, WARNING, NOTE, OK = Severity.ERROR, Severity.WARNING, Severity.NOTE, Severity.OK
_STS = re.compile(rb"v=STSv1\b")
_TLSRPT = re.compile(rb"v=TLSRPTv1\b")


def mta_sts(facts: Facts, answers: Answers) -> Iterator[Finding]:
    """RFC 8461: the record announces a policy that can be fetched, allows our exchangers, and that they fulfil."""
    owner = f"_mta-sts.{facts.domain}"
    texts = answers.texts(owner)
    announced = [text for text in texts if _STS.match(text)]
    if not announced:
        yield Finding(NOTE, "MTA-STS", f"{facts.domain} has no MTA-STS policy (mailnode dns show {facts.domain}).")
        return
    if id_of(texts) is None:
        words = f"{owner} has {_many('MTA-STS', announced)}, which senders take for none (RFC 8461 section 3.1)"
        yield missing(WARNING, "MTA-STS", words, [records(wanted_mta_sts(facts, answers))[0]])
        return
    policy = answers.policy
    if isinstance(policy, str):
        if policy:
            words = f"{owner} announces an MTA-STS policy, but it cannot be had: {policy.rstrip('.')}"
            yield Finding(WARNING, "MTA-STS", f"{words}. Serve it, or take the record away.")
        return
    yield from _policy(facts, answers, policy)


def _policy(facts: Facts, answers: Answers, policy: StsPolicy) -> Iterator[Finding]:
    """What senders make of it. With ``enforce`` what does not fit gets no mail."""
    if policy.mode == "none":
        yield Finding(NOTE, "MTA-STS", f"The MTA-STS policy of {facts.domain} says mode: none, which is none.")
        return
    lost = ERROR if policy.mode == "enforce" else WARNING
    strange = [one.host for one in answers.exchangers(facts.domain) if one.host and not policy.allows(one.host)]
    if strange:
        words = f"The MTA-STS policy of {facts.domain} (mode: {policy.mode}) does not allow its exchanger "
        yield Finding(lost, "MTA-STS", f"{words}{joined(strange)}: add mx: {strange[0]} to it, and change the id.")
    if not facts.verifiable:
        words = (
            f"The MTA-STS policy of {facts.domain} (mode: {policy.mode}) has others verify the certificate of "
            f"{facts.hostname}, which they cannot: get one for that name from an authority that everybody trusts."
        )
        yield Finding(lost, "MTA-STS", words)
    elif not strange:
        yield Finding(OK, "MTA-STS", f"The MTA-STS policy of {facts.domain} fits its exchangers (mode: {policy.mode}).")


def tls_reports(facts: Facts, answers: Answers) -> Iterator[Finding]:
    """RFC 8460 section 3."""
    owner = f"_smtp._tls.{facts.domain}"
    texts = answers.texts(owner)
    ours = [text for text in texts if _TLSRPT.match(text)]
    places = places_of(texts)
    if not ours:
        words = f"{facts.domain} asks for no reports about TLS"
        yield missing(NOTE, "TLSRPT", words, wanted_tls_reports(facts, answers))
    elif not places:
        words = f"{owner} has {_many('TLSRPT', ours)}, which senders take for none (RFC 8460 section 3)"
        yield missing(WARNING, "TLSRPT", words, wanted_tls_reports(facts, answers))
    else:
        yield Finding(OK, "TLSRPT", f"Reports about TLS go to {joined(place.uri for place in places)}.")


def services(facts: Facts, answers: Answers) -> Iterator[Finding]:
    """RFC 6186 section 3, RFC 8314: what is offered here is found; what is not may be another server's."""
    lacking: list[str] = []
    for service in SERVICES:
        owner = f"_{service}._tcp.{facts.domain}"
        wanted, published = service_record(facts, service), answers.services(owner)
        if not published:
            lacking.append(service)
            continue
        there = joined(map(_place, published))
        looks = f"Mail programs look for {service} of {facts.domain} at {there}"
        if service_fits(facts, service, published):
            if any(one.host for one in published):
                yield Finding(OK, "SRV", f"{looks}.")
            continue
        lines = [line for line in records(wanted_services(facts, answers)) if line.owner == owner]
        here = f"but it is at {_place(wanted)}" if wanted.host else "where no listener offers it"
        yield missing(WARNING, "SRV", f"{looks}, {here}", lines)
    if lacking:
        words = (
            f"{facts.domain} has no SRV records for {joined(lacking)}, by which mail programs learn where that is, or "
            f"that it is not to be had (mailnode dns show {facts.domain})."
        )
        owners = [f"_{service}._tcp.{facts.domain}" for service in lacking]
        lines = [line for line in records(wanted_services(facts, answers)) if line.owner in owners]
        yield Finding(NOTE, "SRV", words, tuple(lines))


def _many(kind: str, texts: list[bytes]) -> str:
    """Several records where one is allowed, or the one that is wrong."""
    return f"{len(texts)} {kind} records" if len(texts) > 1 else f"the {kind} record {shown(texts[0])}"


def _place(one: SRV) -> str:
    return f"{one.host}:{one.port}" if one.host else "no host"


#: All checks of a domain, in their order, each with what it is about.
CHECKS: tuple[tuple[str, Check], ...] = (
    ("MX", mx),
    ("A", address),
    ("PTR", ptr),
    ("SPF", spf),
    ("DKIM", dkim),
    ("DMARC", dmarc),
    ("MTA-STS", mta_sts),
    ("TLSRPT", tls_reports),
    ("TLSA", tlsa),
    ("SRV", services),
)
