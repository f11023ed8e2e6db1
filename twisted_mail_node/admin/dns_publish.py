"""Every record a local domain should publish, out of what the node knows and what the DNS says now.

Pure. What is published already and does its work is kept as it is: a backup exchanger, an SPF record that allows others
as well, a stricter DMARC policy, the services of another server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from ipaddress import ip_address

from twisted_mail_node.admin.dns_answers import SERVICES, Answers, above, ours, quiet, reverse
from twisted_mail_node.admin.dns_lines import Line, Remark, ZoneLine
from twisted_mail_node.admin.dns_node import PORTS, Facts
from twisted_mail_node.dns.answer import MX, SRV
from twisted_mail_node.mailauth import dmarc_record
from twisted_mail_node.mailauth.dmarc_record import Record
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.mailauth.spf_record import select
from twisted_mail_node.outbound.mtasts import Mode, StsPolicy, id_of
from twisted_mail_node.report.tls_record import places_of

#: Where no record says otherwise: seconds that senders keep the MTA-STS policy (RFC 8461 section 3.2).
STS_AGE = 604800
#: Characters of the id of an MTA-STS policy; 32 are allowed (RFC 8461 section 3.1).
STS_ID = 20
_STATES = {
    "new": "publish it now: it signs nothing until it is found in the DNS",
    "active": "it signs now",
    "retiring": "it signs no more, but mail that it signed is still on its way: keep it",
}


def everything(facts: Facts, answers: Answers) -> list[Line]:
    """All records of a domain, in the order in which a person thinks of them."""
    lines: list[Line] = []
    trouble = answers.trouble()
    if trouble:
        words = "Not all that is published now could be asked, and of what could not be nothing is kept: "
        lines.append(Remark((words + trouble[0],)))
    if facts.problems:
        lines.append(Remark(tuple(facts.problems)))
    for part in PARTS:
        lines += part(facts, answers)
    return lines


def mx(facts: Facts, answers: Answers) -> Iterator[Line]:
    """RFC 5321 section 5.1."""
    published = quiet(answers.exchangers, facts.domain)
    kept = published if any(one.host == facts.hostname for one in published) else [MX(10, facts.hostname)]
    for one in kept:
        yield ZoneLine(facts.domain, "MX", f"{one.preference} {one.host}.", f"Mail for {facts.domain} goes there.")


def addresses(facts: Facts, answers: Answers) -> Iterator[Line]:
    """A and AAAA of every name that EHLO says."""
    found = ours(facts, answers)
    source = "this machine's" if facts.receives else "as published now: this machine has none that is public"
    if not found:
        yield Remark(
            (
                f"A, AAAA: {facts.hostname} must lead to the public address of this node, which is not known here. "
                "Publish it, then ask again.",
            )
        )
    for address in found:
        yield _elsewhere(facts, facts.hostname, _family(address), address, f"The address of the node ({source}).")
    for host in facts.hosts:
        if host.name != facts.hostname:
            for address in host.addresses:
                purpose = f"What EHLO says when mail leaves from {address}."
                yield _elsewhere(facts, host.name, _family(address), address, purpose)


def reverses(facts: Facts, answers: Answers) -> Iterator[Line]:
    """PTR records, which are never in the domain's own zone (RFC 8601 section 3: both ways must agree)."""
    pairs = [(address, facts.hostname) for address in ours(facts, answers)]
    pairs += [(address, host.name) for host in facts.hosts for address in host.addresses]
    names = dict(pairs)
    for address, name in names.items():
        purpose = f"The name of {address}; who gave you the address sets it. Many refuse mail from addresses without."
        yield ZoneLine(reverse(address), "PTR", f"{name}.", purpose, live=False)


def spf(facts: Facts, answers: Answers) -> Iterator[Line]:
    """RFC 7208: of the domain, and of what EHLO says, by which bounces are judged (RFC 7208 section 10.1.3)."""
    if facts.relayhost:
        yield Remark(
            (
                f"Mail leaves through {facts.relayhost}: add to the SPF record what its operator asks for, such as "
                "include:spf.provider.example.",
            )
        )
    purpose = "SPF: hosts that mail from the domain may come from; all others fail."
    yield ZoneLine(facts.domain, "TXT", spf_text(facts, answers, facts.domain), purpose)
    for host in facts.hosts:
        if host.name not in facts.local and host.name != facts.domain:
            purpose = f"SPF of what EHLO says: bounces have no other sender than {host.name}."
            yield _elsewhere(facts, host.name, "TXT", spf_text(facts, answers, host.name), purpose)


def spf_text(facts: Facts, answers: Answers, name: str) -> str:
    """The record that a domain, or a name of EHLO, should have: the one it has with what it lacks, or a new one."""
    published = select(quiet(answers.texts, name))
    if len(published) == 1:
        verdicts = [(address, said) for (address, domain), said in answers.spf.items() if domain == name]
        passes = (Result.PASS, Result.TEMPERROR)
        wanting = [_mechanism(address) for address, said in verdicts if said.result not in passes]
        if not any(said.result is Result.PERMERROR for _, said in verdicts):
            version, _, rest = published[0].decode("latin-1").partition(" ")
            return " ".join(filter(None, (version, *wanting, rest)))
    covered = set(ours(facts, answers))
    if name == facts.domain:
        extra = [address for host in facts.hosts for address in host.addresses if address not in covered]
        there = [one.host for one in quiet(answers.exchangers, name)]
        first = "mx" if not there or facts.hostname in there else f"a:{facts.hostname}"
    else:
        own = next((host.addresses for host in facts.hosts if host.name == name), ())
        extra = [address for address in own if name == facts.hostname and address not in covered]
        first = "a"
    return " ".join(("v=spf1", first, *map(_mechanism, dict.fromkeys(extra)), "-all"))


def _mechanism(address: str) -> str:
    return f"ip{ip_address(address).version}:{address}"


def dkim(facts: Facts, answers: Answers) -> Iterator[Line]:
    """RFC 6376 section 3.6: public keys, each at a name below the domain it signs for."""
    words = unsigned(facts)
    if words:
        yield Remark((f"DKIM: {words}.",))
    for key in facts.keys:
        purpose = f"DKIM: a public key of {key.domain}; {_STATES.get(key.state, key.state)}."
        yield _elsewhere(facts, key.owner, "TXT", key.text, purpose)


def unsigned(facts: Facts) -> str:
    """Whose keys sign, where they are not the domain's; ``""`` where they are."""
    if any(key.domain == facts.domain and key.state == "active" for key in facts.keys):
        return ""
    if facts.signer:
        return f"mail of {facts.domain} is signed with the keys of {facts.signer}"
    if any(key.domain == facts.domain and key.state == "new" for key in facts.keys):
        return f"no key signs mail of {facts.domain} yet; a new one does once every name server shows its record"
    return f"no key signs mail of {facts.domain}; to have some: mailnode dkim create {facts.domain}"


def dmarc(facts: Facts, answers: Answers) -> Iterator[Line]:
    """RFC 9989 section 4.7. A published record is kept: its policy is as strict as ours, or stricter."""
    owner = f"_dmarc.{facts.domain}"
    published = dmarc_records(quiet(answers.texts, owner))
    if len(published) == 1 and published[0].p:
        purpose = "DMARC, as it is published now."
        if published[0].p == "none":
            purpose += " When the reports show that all mail of the domain passes: p=quarantine, then p=reject."
        yield ZoneLine(owner, "TXT", published[0].text, purpose)
        return
    inherited = dmarc_above(facts, answers)
    if inherited is not None and not published:
        yield Remark((f"DMARC: the record of {inherited[0]} counts for {facts.domain}, too: {inherited[1]}",))
        return
    purpose = (
        "DMARC: what others do with mail from the domain that neither SPF nor DKIM speaks for. p=none only asks for "
        "reports; when they show that all your mail passes: p=quarantine, then p=reject."
    )
    yield ZoneLine(owner, "TXT", f"v=DMARC1; p=none; rua=mailto:postmaster@{facts.domain}", purpose)


def dmarc_above(facts: Facts, answers: Answers) -> tuple[str, str] | None:
    """The nearest domain above with a DMARC record, and that record: it counts where the domain has none (RFC 9989
    section 4.10)."""
    for name in above(facts.domain):
        published = dmarc_records(quiet(answers.texts, f"_dmarc.{name}"))
        if len(published) == 1:
            return name, published[0].text
    return None


def dmarc_records(texts: Iterable[bytes]) -> list[Record]:
    """DMARC records among TXT records, with one character of text an octet; of several none counts."""
    found = [(text, dmarc_record.parse(text)) for text in texts]
    return [record._replace(text=text.decode("latin-1")) for text, record in found if record is not None]


def mta_sts(facts: Facts, answers: Answers) -> Iterator[Line]:
    """RFC 8461: the record that announces the policy, and the policy, which a web server serves."""
    owner = f"_mta-sts.{facts.domain}"
    web = f"mta-sts.{facts.domain}"
    texts: list[bytes] = quiet(answers.texts, owner)
    published = id_of(texts)
    policy = answers.policy
    if published is not None and isinstance(policy, StsPolicy) and policy.allows(facts.hostname):
        purpose = f"MTA-STS: announces the policy of {web}, as it is published now (mode: {policy.mode})."
        yield ZoneLine(owner, "TXT", f"v=STSv1; id={published}", purpose)
        return
    hosts = [one.host for one in quiet(answers.exchangers, facts.domain) if one.host and one.host != facts.hostname]
    testing = policy_text("testing", [facts.hostname, *hosts])
    enforce = policy_text("enforce", [facts.hostname, *hosts])
    purpose = "MTA-STS: announces the policy below. Its id must change whenever the policy does."
    if not facts.verifiable:
        purpose = (
            f"MTA-STS: not to be published yet, for others cannot verify the certificate of {facts.hostname}: it needs "
            "one for that name from an authority that everybody trusts."
        )
    yield ZoneLine(owner, "TXT", f"v=STSv1; id={policy_id(testing)}", purpose, live=facts.verifiable)
    yield Remark(
        (
            f"The policy, text/plain at https://{web}/.well-known/mta-sts.txt (CRLF or LF at the ends of lines):",
            *(f"    {line}" for line in testing.splitlines()),
            f"{web} may be an A, AAAA or CNAME record that leads to any web server with a certificate for that name. "
            f"When reports about TLS show no failures, write mode: enforce in it and publish id={policy_id(enforce)}.",
        )
    )


def policy_text(mode: Mode, hosts: Sequence[str]) -> str:
    """A policy file (RFC 8461 section 3.2)."""
    lines = ["version: STSv1", f"mode: {mode}", *(f"mx: {host}" for host in dict.fromkeys(hosts))]
    return "".join(f"{line}\r\n" for line in (*lines, f"max_age: {STS_AGE}"))


def policy_id(text: str) -> str:
    """An id that changes whenever the policy does, and only then."""
    return sha256(text.encode()).hexdigest()[:STS_ID]


def tls_reports(facts: Facts, answers: Answers) -> Iterator[Line]:
    """RFC 8460 section 3."""
    owner = f"_smtp._tls.{facts.domain}"
    texts = quiet(answers.texts, owner)
    text = f"v=TLSRPTv1; rua=mailto:postmaster@{facts.domain}"
    if places_of(texts):
        text = next(one for one in texts if one.startswith(b"v=TLSRPTv1")).decode("latin-1")
    yield ZoneLine(owner, "TXT", text, "TLSRPT: where others report how TLS with the exchangers went.")


def tlsa(facts: Facts, answers: Answers) -> Iterator[Line]:
    """RFC 7672 section 3.1.1: DANE-EE, the public key, SHA-256; one for each kind of key."""
    if not facts.served:
        yield Remark(("TLSA: the node has no certificate yet; start it, or give it one, and ask again.",))
        return
    for one in facts.served:
        purpose = f"DANE: the {one.kind} key that {facts.hostname} shows. Only where the zone is signed (DNSSEC)."
        yield _elsewhere(facts, f"_25._tcp.{facts.hostname}", "TLSA", f"3 1 1 {one.digest.hex()}", purpose)
    yield Remark(
        (
            "Before another key is used, publish its record beside this one and wait for two TTLs; take the old one "
            "away afterwards. A renewal that keeps the key changes nothing.",
        )
    )


def services(facts: Facts, answers: Answers) -> Iterator[Line]:
    """RFC 6186 section 3 and RFC 8314: where mail programs find what they need. The root means: not to be had."""
    for service in SERVICES:
        owner = f"_{service}._tcp.{facts.domain}"
        wanted = service_record(facts, service)
        published = quiet(answers.services, owner)
        for one in published if service_fits(facts, service, published) else [wanted]:
            purpose = f"Mail programs: where {service} is."
            if not one.host:
                purpose = f"Mail programs: {service} is not to be had; where another server offers it, name that."
            elif any(offered.name == service and not offered.outside for offered in facts.services):
                purpose += " The listener is on loopback: others reach it only where something leads there."
            yield ZoneLine(owner, "SRV", f"{one.priority} {one.weight} {one.port} {one.host}.", purpose)


def service_fits(facts: Facts, service: str, published: Sequence[SRV]) -> bool:
    """Whether SRV records lead here, or, where nothing is offered here, to somebody else or nowhere."""
    wanted = service_record(facts, service)
    if wanted.host:
        return any((one.host, one.port) == (wanted.host, wanted.port) for one in published)
    submits = service in PORTS
    return bool(published) and not any(submits and one.host == facts.hostname for one in published)


def service_record(facts: Facts, service: str) -> SRV:
    """Where this node offers a service; the root where it does not (RFC 2782)."""
    for offered in facts.services:
        if offered.name == service:
            return SRV(0, 1, offered.port, facts.hostname)
    return SRV(0, 0, 0, "")


def _family(address: str) -> str:
    return "AAAA" if ":" in address else "A"


def _elsewhere(facts: Facts, owner: str, rdtype: str, value: str, purpose: str) -> ZoneLine:
    """A record of a host: a comment only, where the host lies in another domain."""
    if facts.holds(owner):
        return ZoneLine(owner, rdtype, value, purpose)
    return ZoneLine(owner, rdtype, value, f"{purpose} It belongs in the zone of that name.", live=False)


Part = Callable[[Facts, Answers], Iterator[Line]]
#: In their order.
PARTS: tuple[Part, ...] = (mx, addresses, reverses, spf, dkim, dmarc, mta_sts, tls_reports, tlsa, services)
