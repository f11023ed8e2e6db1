"""What the DNS says now of a domain of ours: every question that ``mailnode dns`` has, asked at once.

A question that got no answer is kept as the sentence why, and never taken for "there is none". The records of keys are
asked for at the name servers of their zone: a resolver that is asked before they are there remembers that they are not,
and whoever else asks it then finds no key, when mail is signed already (RFC 2308 section 5).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from ipaddress import ip_address
from typing import NamedTuple, TypeVar

from twisted.internet.defer import Deferred, gatherResults

from twisted_mail_node.admin.dns_node import Facts, Key
from twisted_mail_node.dns.answer import MX, SRV, TLSA, Answer, DNSError
from twisted_mail_node.interfaces import IResolver
from twisted_mail_node.mailauth.resolving import NoAnswerError
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.outbound.mtasts import PolicyError, StsPolicy, id_of, read_policy
from twisted_mail_node.outbound.mtasts_fetch import FetchError
from twisted_mail_node.signing.shown import Shown

#: Services of mail programs (RFC 6186 section 3, RFC 8314).
SERVICES = ("submission", "submissions", "imap", "imaps", "pop3", "pop3s")
#: Other mail exchangers whose addresses are asked for.
EXCHANGERS_MAX = 10
#: Labels of the longest name that receivers look for DMARC records at, but for the domain itself (RFC 9989
#: section 4.10).
WALK_LABELS = 7

T = TypeVar("T")
Question = tuple[str, str]
#: ``await fetch(domain)`` gives the policy file of MTA-STS. :raises FetchError: there is none.
Fetch = Callable[[str], Awaitable[bytes]]


class SpfSaid(NamedTuple):
    """What SPF makes of one of our addresses. ``mechanism``: what decided; ``problem``: a sentence."""

    result: Result
    mechanism: str = ""
    problem: str = ""


#: ``await evaluate(ip, domain, helo)`` says what SPF makes of mail from ``domain``.
Evaluate = Callable[[str, str, str], Awaitable[SpfSaid]]


#: ``await show(key)`` says which name servers show its record.
Show = Callable[[Key], Awaitable[Shown]]


class Answers(NamedTuple):
    """All of it.

    :ivar known: answers, or why there is none.
    :ivar spf: what SPF says, by address and domain.
    :ivar policy: the MTA-STS policy, why there is none, or ``""`` when it was not asked for.
    :ivar asked: when, in seconds since the epoch.
    :ivar keys: which name servers show the records of keys, by the records' names.
    """

    known: Mapping[Question, Answer | str]
    spf: Mapping[Question, SpfSaid] = {}
    policy: StsPolicy | str = ""
    asked: float = 0.0
    keys: Mapping[str, Shown] = {}

    def answer(self, name: str, rdtype: str) -> Answer:
        """:raises DNSError: there is none for now."""
        found = self.known.get((name, rdtype), f"{rdtype} of {name} was not asked for")
        if isinstance(found, str):
            raise DNSError(found)
        return found

    def texts(self, name: str) -> list[bytes]:
        """TXT records. :raises DNSError: see ``answer``."""
        return [record for record in self.answer(name, "TXT").records if isinstance(record, bytes)]

    def exchangers(self, name: str) -> list[MX]:
        """MX records, the best first. :raises DNSError: see ``answer``."""
        return sorted(record for record in self.answer(name, "MX").records if isinstance(record, MX))

    def services(self, name: str) -> list[SRV]:
        """SRV records. :raises DNSError: see ``answer``."""
        return [record for record in self.answer(name, "SRV").records if isinstance(record, SRV)]

    def tlsa(self, name: str) -> list[TLSA]:
        """TLSA records. :raises DNSError: see ``answer``."""
        return [record for record in self.answer(name, "TLSA").records if isinstance(record, TLSA)]

    def addresses(self, name: str) -> list[str]:
        """A and AAAA records. :raises DNSError: see ``answer``."""
        both = (*self.answer(name, "A").records, *self.answer(name, "AAAA").records)
        return [str(ip_address(record)) for record in both if isinstance(record, str)]

    def names(self, address: str) -> list[str]:
        """PTR records. :raises DNSError: see ``answer``."""
        return [str(record) for record in self.answer(reverse(address), "PTR").records]

    def trouble(self) -> list[str]:
        """Why questions were not answered, each reason once."""
        return list(dict.fromkeys(one for one in self.known.values() if isinstance(one, str)))


def quiet(ask: Callable[[str], list[T]], name: str) -> list[T]:
    """What an answer holds; nothing where there is no answer: for what is only a suggestion."""
    try:
        return ask(name)
    except DNSError:
        return []


def reverse(address: str) -> str:
    """The name that the PTR record of an address stands at (RFC 1035 section 3.5)."""
    return ip_address(address).reverse_pointer


def above(domain: str) -> list[str]:
    """The domains above, down to those with two labels, where receivers look for a DMARC record when the domain has
    none (RFC 9989 section 4.10)."""
    labels = domain.split(".")
    names = [".".join(labels[at:]) for at in range(1, len(labels) - 1)]
    return [name for name in names if name.count(".") < WALK_LABELS]


def questions(facts: Facts) -> list[Question]:
    """What can be asked at once."""
    domain, host = facts.domain, facts.hostname
    asked = [(domain, "MX"), (domain, "A"), (domain, "AAAA"), (host, "CNAME"), (f"_25._tcp.{host}", "TLSA")]
    asked += [(one.name, rdtype) for one in facts.hosts for rdtype in ("A", "AAAA", "TXT")]
    texts = [domain, f"_dmarc.{domain}", f"_mta-sts.{domain}", f"_smtp._tls.{domain}"]
    texts += [f"_dmarc.{name}" for name in above(domain)]
    asked += [(name, "TXT") for name in texts]
    asked += [(f"_{service}._tcp.{domain}", "SRV") for service in SERVICES]
    return list(dict.fromkeys(asked))


def key_questions(facts: Facts, keys: Mapping[str, Shown]) -> list[Question]:
    """The records of keys that a resolver may be asked for: not those that may not be there yet.

    :param keys: see ``Answers``.
    """
    return [
        (key.owner, "TXT")
        for key in facts.keys
        if key.owner not in keys or not keys[key.owner].zone or keys[key.owner].everywhere
    ]


async def ask(
    resolver: IResolver,
    facts: Facts,
    now: float,
    fetch: Fetch | None = None,
    evaluate: Evaluate | None = None,
    show: Show | None = None,
) -> Answers:
    """Ask everything: first what is known to be needed, then what the answers lead to.

    :param now: seconds since the epoch. :param fetch: gets MTA-STS policies; None: they are not looked at.
    :param evaluate: SPF; None: it is not evaluated. :param show: asks name servers; None: nobody does.
    """
    keys: dict[str, Shown] = {}
    if show is not None:
        said_of_keys = await gather(show(key) for key in facts.keys)
        keys = {key.owner: said for key, said in zip(facts.keys, said_of_keys, strict=True)}
    known = await _ask_all(resolver, [*questions(facts), *key_questions(facts, keys)])
    answers = Answers(known)
    known |= await _ask_all(resolver, [question for question in _further(facts, answers) if question not in known])
    spf: dict[Question, SpfSaid] = {}
    if evaluate is not None:
        wanted = spf_questions(facts, answers)
        said = await gather(evaluate(address, domain, facts.hostname) for address, domain in wanted)
        spf = dict(zip(wanted, said, strict=True))
    policy: StsPolicy | str = ""
    texts: list[bytes] = quiet(answers.texts, f"_mta-sts.{facts.domain}")
    policy_id = id_of(texts)
    if fetch is not None and policy_id is not None:
        policy = await _policy(fetch, facts.domain, policy_id, now)
    return Answers(known, spf, policy, now, keys)


def ours(facts: Facts, answers: Answers) -> list[str]:
    """The addresses the host name should lead to: this machine's public ones, or else, as behind NAT, those that it
    leads to."""
    return list(facts.receives) or quiet(answers.addresses, facts.hostname)


def sending(facts: Facts, answers: Answers) -> list[tuple[str, str]]:
    """The addresses mail leaves from, each with what EHLO says there; behind NAT those that the host name leads to."""
    found = [(address, host.name) for host in facts.hosts for address in host.addresses]
    if any(name == facts.hostname for _, name in found):
        return found
    return [*((address, facts.hostname) for address in ours(facts, answers)), *found]


def spf_questions(facts: Facts, answers: Answers) -> list[Question]:
    """Which addresses must be allowed by which domains: by the domain itself, and by what EHLO says (RFC 7208
    section 2.3)."""
    if facts.relayhost:
        return []
    pairs = [(address, name) for address, helo in sending(facts, answers) for name in (facts.domain, helo)]
    return [pair for pair in dict.fromkeys(pairs) if pair[1] == facts.domain or pair[1] not in facts.local]


def _further(facts: Facts, answers: Answers) -> list[Question]:
    addresses = [*ours(facts, answers), *(address for address, _ in sending(facts, answers))]
    others = [mx.host for mx in quiet(answers.exchangers, facts.domain) if mx.host and mx.host != facts.hostname]
    asked = [(reverse(address), "PTR") for address in addresses]
    asked += [(host, rdtype) for host in others[:EXCHANGERS_MAX] for rdtype in ("A", "AAAA")]
    return list(dict.fromkeys(asked))


async def _ask_all(resolver: IResolver, asked: Iterable[Question]) -> dict[Question, Answer | str]:
    asked = list(asked)
    return dict(zip(asked, await gather(_one(resolver, *question) for question in asked), strict=True))


async def _one(resolver: IResolver, name: str, rdtype: str) -> Answer | str:
    try:
        return await resolver.query(name, rdtype)
    except NoAnswerError as error:
        return str(error)


async def gather(awaited: Iterable[Awaitable[T]]) -> list[T]:
    """All results, in their order."""

    async def result(one: Awaitable[T]) -> T:
        return await one

    found: list[T] = await gatherResults([Deferred.fromCoroutine(result(one)) for one in awaited], consumeErrors=True)
    return found


async def _policy(fetch: Fetch, domain: str, policy_id: str, now: float) -> StsPolicy | str:
    try:
        return read_policy(await fetch(domain), policy_id, now)
    except FetchError as error:
        return error.words
    except PolicyError as error:
        return f"the policy file of {domain} cannot be read: {error}"
