"""Whether others believe that mail is the domain's: SPF, DKIM, DMARC."""

from __future__ import annotations

from collections.abc import Iterator

from twisted_mail_node.admin.dns_answers import Answers, spf_questions
from twisted_mail_node.admin.dns_check import Finding, Severity, missing, records, shown
from twisted_mail_node.admin.dns_node import Facts, Key
from twisted_mail_node.admin.dns_publish import dkim as wanted_dkim
from twisted_mail_node.admin.dns_publish import dmarc as wanted_dmarc
from twisted_mail_node.admin.dns_publish import dmarc_above, dmarc_records, unsigned
from twisted_mail_node.admin.dns_publish import spf as wanted_spf
from twisted_mail_node.mailauth.keys import read_key
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.mailauth.spf_record import select
from twisted_mail_node.mailauth.tags import TagError, read, without_white
from twisted_mail_node.signing.record import NOT_SHOWN
from twisted_mail_node.signing.shown import Shown

ERROR, WARNING, NOTE, OK = Severity.ERROR, Severity.WARNING, Severity.NOTE, Severity.OK


def spf(facts: Facts, answers: Answers) -> Iterator[Finding]:
    """RFC 7208: the domain, and what EHLO says (RFC 7208 section 2.3), allow every address that mail leaves from."""
    wanted = {line.owner: line for line in records(wanted_spf(facts, answers))}
    for name, line in wanted.items():
        published = select(answers.texts(name))
        own = name == facts.domain
        if not published:
            if own:
                yield missing(ERROR, "SPF", f"{name} has no SPF record", [line])
            else:
                words = f"{name} has no SPF record, by which bounces are judged, for they have no other sender"
                yield missing(NOTE, "SPF", words, [line])
        elif len(published) > 1:
            words = (
                f"{name} has {len(published)} SPF records ({', '.join(map(shown, published))}), which is an error to "
                "everybody (RFC 7208 section 4.5); leave one of them"
            )
            yield missing(ERROR, "SPF", words, [line])
        else:
            yield from _allowed(facts, answers, name, published[0])


def _allowed(facts: Facts, answers: Answers, name: str, text: bytes) -> Iterator[Finding]:
    severity = ERROR if name == facts.domain else WARNING
    if any(term.lower() in (b"all", b"+all") for term in text.split()):
        yield Finding(severity, "SPF", f"The SPF record of {name} allows every host of the world: end it with -all.")
    passed = []
    for address, domain in spf_questions(facts, answers):
        if domain != name:
            continue
        said = answers.spf.get((address, domain))
        if said is None:
            continue
        if said.result is Result.PASS:
            passed.append(address)
        elif said.result is Result.TEMPERROR:
            words = f"What the SPF record of {name} says of {address} could not be asked: {said.problem}"
            yield Finding(ERROR, "SPF", f"{words.rstrip('.')}. Ask again later.")
        elif said.result is Result.PERMERROR:
            words = f"The SPF record of {name}, {shown(text)}, is an error to everybody: {said.problem}"
            yield Finding(severity, "SPF", f"{words.rstrip('.')}. Correct it.")
            return
        else:
            by = f" ({said.mechanism})" if said.mechanism else ""
            version = 6 if ":" in address else 4
            words = (
                f"The SPF record of {name} does not allow this node's address {address}: mail from here gets "
                f"{said.result}{by}. Add ip{version}:{address} to it."
            )
            yield Finding(severity, "SPF", words)
    if facts.relayhost:
        words = f"{name} has an SPF record; it must allow {facts.relayhost}, through which mail leaves."
        yield Finding(NOTE, "SPF", words)
    elif passed:
        yield Finding(OK, "SPF", f"The SPF record of {name} allows {', '.join(passed)}.")
    elif not any(domain == name for _, domain in spf_questions(facts, answers)):
        words = f"{name} has the SPF record {shown(text)}; from which address mail leaves is not known here."
        yield Finding(NOTE, "SPF", words)


def dkim(facts: Facts, answers: Answers) -> Iterator[Finding]:
    """RFC 6376 section 3.6.1: the public keys in the DNS are those of the private ones here."""
    words = unsigned(facts)
    if words:
        yield Finding(NOTE, "DKIM", f"{words[0].upper()}{words[1:]}.")
    for key, line in zip(facts.keys, records(wanted_dkim(facts, answers)), strict=True):
        lost = ERROR if key.state == "active" else WARNING
        name = f"The key {key.owner} ({key.state})"
        shown_by = answers.keys.get(key.owner)
        if shown_by is not None and shown_by.zone and not shown_by.everywhere:
            yield missing(lost, "DKIM", f"{name} {_shown_by_some(shown_by)}", [line])
            continue
        found = answers.texts(key.owner)
        if shown_by is not None and shown_by.everywhere and not found:
            words = (
                f"{name} is published, but the resolver that was asked here remembers that it was not, as others may "
                "that asked too early: mail fails DKIM there until they forget (the last number of SOA)."
            )
            yield Finding(WARNING, "DKIM", words)
            continue
        problem = _key_problem(key, found)
        if not found:
            yield missing(lost, "DKIM", f"{name} is not published", [line])
        elif len(found) > 1:
            yield missing(lost, "DKIM", f"{name} has {len(found)} TXT records at its name; leave one of them", [line])
        elif problem:
            yield missing(lost, "DKIM", f"{name} is published, but {problem}", [line])
        elif read_key(found[0]).testing:
            yield Finding(NOTE, "DKIM", f"{name} is published as a test (t=y), which some ignore.")
        else:
            yield Finding(OK, "DKIM", f"{name} is published.")


def _shown_by_some(shown_by: Shown) -> str:
    """What of its name servers do not show a key, after its name."""
    if len(shown_by.missing) >= shown_by.asked and all(one.words == NOT_SHOWN for one in shown_by.missing):
        return "is not published"
    return f"is not published everywhere: {shown_by.words}"


def _key_problem(key: Key, texts: list[bytes]) -> str:
    """Why verifiers that find this record do not take our signatures for good."""
    try:
        published = read_key(b"".join(texts))
    except TagError as problem:
        return f"verifiers cannot use it: {problem}".rstrip(".")
    if without_white(read(texts[0])["p"]) != without_white(read(key.text.encode("ascii"))["p"]):
        return "with another public key"
    kind, _, digest = key.algorithm.partition("-")
    return published.unfit(kind, digest)


def dmarc(facts: Facts, answers: Answers) -> Iterator[Finding]:
    """RFC 9989 section 4.7: one record, with a policy, that asks for reports."""
    owner = f"_dmarc.{facts.domain}"
    published = dmarc_records(answers.texts(owner))
    if not published:
        yield _inherited(facts, answers)
        return
    if len(published) > 1:
        words = f"{owner} has {len(published)} DMARC records, so none of them counts (RFC 9989 section 4.10); leave one"
        yield missing(ERROR, "DMARC", words, wanted_dmarc(facts, answers))
        return
    (record,) = published
    if not record.p:
        words = f"The DMARC record {shown(record.text)} of {owner} has no policy that counts"
        yield missing(ERROR, "DMARC", words, wanted_dmarc(facts, answers))
        return
    if not record.rua:
        words = f"The DMARC record of {facts.domain} asks for no reports (rua), so nobody tells you what fails; add "
        yield Finding(NOTE, "DMARC", f"{words}rua=mailto:postmaster@{facts.domain}.")
    if record.p == "none":
        words = (
            f"The DMARC record of {facts.domain} says p=none: mail that forges the domain is taken as before. When the "
            "reports show that all your mail passes, say p=quarantine, then p=reject."
        )
        yield Finding(NOTE, "DMARC", words)
    else:
        trial = " (with t=y: one step less)" if record.testing else ""
        yield Finding(OK, "DMARC", f"The DMARC record of {facts.domain} says p={record.p}{trial}.")


def _inherited(facts: Facts, answers: Answers) -> Finding:
    """No record of its own: one of a domain above counts (RFC 9989 section 4.10)."""
    inherited = dmarc_above(facts, answers)
    if inherited is not None:
        words = f"{facts.domain} has no DMARC record of its own; that of {inherited[0]} counts: {shown(inherited[1])}."
        return Finding(NOTE, "DMARC", words)
    words = f"{facts.domain} has no DMARC record: nobody is told what forges it"
    return missing(WARNING, "DMARC", words, wanted_dmarc(facts, answers))
