"""Whether mail finds the node, and others believe its addresses and certificates: MX, A, AAAA, PTR, TLSA."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from twisted_mail_node.admin.dns_answers import Answers, ours, reverse, sending
from twisted_mail_node.admin.dns_check import Finding, Severity, joined, missing, records
from twisted_mail_node.admin.dns_node import Facts
from twisted_mail_node.admin.dns_publish import addresses as wanted_addresses
from twisted_mail_node.admin.dns_publish import mx as wanted_mx
from twisted_mail_node.admin.dns_publish import reverses
from twisted_mail_node.admin.dns_publish import tlsa as wanted_tlsa
from twisted_mail_node.outbound.dane import Tlsa, match, usable

ERROR, WARNING, NOTE, OK = Severity.ERROR, Severity.WARNING, Severity.NOTE, Severity.OK


def mx(facts: Facts, answers: Answers) -> Iterator[Finding]:
    """RFC 5321 section 5.1: the exchangers lead here."""
    domain, host = facts.domain, facts.hostname
    published = answers.exchangers(domain)
    if not published:
        if set(answers.addresses(domain)) & set(ours(facts, answers)):
            words = f"{domain} has no MX record, so mail goes to its address, which is this node's"
            yield missing(WARNING, "MX", words, wanted_mx(facts, answers))
        else:
            yield missing(ERROR, "MX", f"{domain} has no MX record: no mail comes here", wanted_mx(facts, answers))
        return
    hosts = [one.host for one in published]
    if hosts == [""]:
        words = f"The MX record of {domain} says that it takes no mail at all (a null MX, RFC 7505)"
        yield missing(ERROR, "MX", words, wanted_mx(facts, answers))
        return
    if host not in hosts:
        yield _other_exchangers(facts, answers, hosts)
        return
    others = [one for one in hosts if one != host]
    if published[0].host != host:
        words = f"MX of {domain} leads to {joined(others)} as well, of which {published[0].host} comes before {host}."
        yield Finding(NOTE, "MX", words)
    else:
        also = f" (and to {joined(others)})" if others else ""
        yield Finding(OK, "MX", f"MX of {domain} leads to {host}{also}.")


def _other_exchangers(facts: Facts, answers: Answers, hosts: list[str]) -> Finding:
    """Another name in MX: of this node, or of another one, which may be meant."""
    domain, host = facts.domain, facts.hostname
    here = set(ours(facts, answers))
    for other in hosts:
        # of exchangers beyond the bound no addresses were asked for
        if (other, "A") in answers.known and set(answers.addresses(other)) & here:
            words = (
                f"MX of {domain} leads to {other}, which is another name of this node; it calls itself {host}, and its "
                "certificate must be for the name in MX."
            )
            return Finding(NOTE, "MX", words)
    words = (
        f"MX of {domain} leads to {joined(hosts)}, not to {host}; that is right if mail passes there first. Otherwise "
        f"publish: {domain}. MX 10 {host}."
    )
    return Finding(NOTE, "MX", words)


def address(facts: Facts, answers: Answers) -> Iterator[Finding]:
    """Every name that we give leads to our address."""
    host = facts.hostname
    published = answers.addresses(host)
    if answers.answer(host, "CNAME").records:
        words = f"{host} is a CNAME, which the host of an MX record must not be (RFC 2181 section 10.3); "
        yield Finding(WARNING, "A", f"{words}give it A and AAAA records.")
    wanted = records(wanted_addresses(facts, answers))
    if not published:
        if facts.receives:
            lines = [line for line in wanted if line.owner == host]
            yield missing(ERROR, "A", f"{host} has neither an A nor an AAAA record: nobody finds it", lines)
        else:
            words = f"{host} has neither an A nor an AAAA record: publish the address at which others reach this node."
            yield Finding(ERROR, "A", words)
    elif not facts.receives:
        words = f"{host} leads to {joined(published)} (there is no public address here to compare with)."
        yield Finding(OK, "A", words)
    else:
        yield from _compared(host, published, facts.receives)
    for other in facts.hosts:
        if other.name == host:
            continue
        found = answers.addresses(other.name)
        for one in other.addresses:
            if one not in found:
                lines = [line for line in wanted if (line.owner, line.value) == (other.name, one)]
                words = f"Mail from {one} says EHLO {other.name}, but that name does not lead to {one}"
                yield missing(ERROR, "A", words, lines)


def _compared(host: str, published: list[str], here: tuple[str, ...]) -> Iterator[Finding]:
    strange = [one for one in published if one not in here]
    lacking = [one for one in here if one not in published]
    if strange:
        severity = ERROR if len(strange) == len(published) else WARNING
        words = f"{host} leads to {joined(strange)}, which is no address of this machine; its public ones are "
        yield Finding(severity, "A", f"{words}{joined(here)}. Right only if what stands there passes mail on.")
    if lacking and not (strange and len(strange) == len(published)):
        words = f"{host} does not lead to {joined(lacking)}, where this node takes mail, too; publish it if it should."
        yield Finding(NOTE, "A", words)
    if not strange and not lacking:
        yield Finding(OK, "A", f"{host} leads to {joined(published)}.")


def ptr(facts: Facts, answers: Answers) -> Iterator[Finding]:
    """RFC 8601 section 3 (iprev): the address has a name, and that name leads back to it."""
    wanted = {line.owner: line for line in records(reverses(facts, answers))}
    pairs = dict([*((one, facts.hostname) for one in ours(facts, answers)), *sending(facts, answers)])
    if not pairs:
        answers.addresses(facts.hostname)  # raises where that is why none is known
    for one, name in pairs.items():
        found = answers.names(one)
        lines = [wanted[reverse(one)]]
        tell = "tell who gave you the address to set it"
        if not found:
            words = f"The address {one} has no PTR record, for which many refuse its mail; {tell}"
            yield missing(ERROR, "PTR", words, lines)
        elif name in found:
            if one in answers.addresses(name):
                more = f", among {len(found)} names" if len(found) > 1 else ""
                yield Finding(OK, "PTR", f"The address {one} has the name {name}{more}.")
            else:
                words = f"The address {one} has the name {name}, which does not lead back to {one}."
                yield Finding(ERROR, "PTR", f"{words} Publish: {name}. {'AAAA' if ':' in one else 'A'} {one}.")
        else:
            words = f"The address {one} has the name {joined(found)}, but mail from there says EHLO {name}; {tell}"
            yield missing(WARNING, "PTR", words, lines)


def tlsa(facts: Facts, answers: Answers) -> Iterator[Finding]:
    """RFC 7672: each certificate that the host may show fits a record. Without DNSSEC nobody looks at them."""
    host = facts.hostname
    owner = f"_25._tcp.{host}"
    answer = answers.answer(owner, "TLSA")
    published = answers.tlsa(owner)
    if not facts.served:
        if published:
            yield Finding(WARNING, "TLSA", f"{owner} has TLSA records, but the node has no certificate yet: start it.")
        return
    if not published:
        words = f"{owner} has no TLSA record: senders cannot use DANE, which needs a signed zone (DNSSEC)"
        yield missing(NOTE, "TLSA", words, wanted_tlsa(facts, answers))
        return
    wanted = Tlsa(host, owner, usable(published), (host, facts.domain))
    now = datetime.fromtimestamp(answers.asked, UTC)
    wrong = [one for one in facts.served if match(wanted, one.chain, now).result]
    if wrong:
        kinds = joined(f"{one.kind} certificate" for one in wrong)
        lost = "senders that obey DANE deliver no mail" if answer.authentic else "with DNSSEC that would cost mail"
        words = f"The TLSA records of {owner} do not fit the {kinds} that the node shows ({lost})"
        lines = [
            line
            for line in records(wanted_tlsa(facts, answers))
            if any(one.digest.hex() in line.value for one in wrong)
        ]
        yield missing(ERROR if answer.authentic else WARNING, "TLSA", words, lines)
    if not answer.authentic:
        words = (
            f"The TLSA records of {owner} count for nobody unless the zone is signed (DNSSEC), which the resolver does "
            "not say (believed only with resolver.trusted)."
        )
        yield Finding(NOTE, "TLSA", words)
    elif not wrong:
        yield Finding(OK, "TLSA", f"The TLSA records of {owner} fit the certificates of the node.")
