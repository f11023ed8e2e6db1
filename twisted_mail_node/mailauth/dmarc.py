"""DMARC: whether a mail's author domain has vouched for it, and what it asks for when it has not (RFC 9989).

Policies and Organizational Domains are found by the DNS Tree Walk (RFC 9989 section 4.10), not by a list of public
suffixes. As few questions as possible are asked. When the author domain has a record, and what was authenticated is the
same domain, that is one. A domain that was authenticated can only be aligned when it lies at or below the author's
Organizational Domain: for all others nothing is asked, so nobody makes a check fail for want of answers about domains
of their own.

``pct`` of RFC 7489 is gone (RFC 9989 appendix A.6; "historic" in section 9.3). What it left behind is ``t``, whose
``y`` and ``n`` mean what ``pct=0`` and ``pct=100`` meant. So ``pct=0`` is read as ``t=y``, and every other ``pct`` as
nothing at all; unless the caller draws a ``sample``, and thereby wants what RFC 7489 section 6.6.4 had.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from twisted_mail_node.mailauth.dmarc_record import POLICIES, Record, find
from twisted_mail_node.mailauth.resolving import NoAnswerError, Resolver
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.message.address import domain_key

#: Labels with which the Tree Walk goes on above a longer name: it has eight queries at most (RFC 9989 section 4.10).
LABELS_MAX = 7
#: Names asked about for one mail. One walk has eight; beyond this many, further signatures count as not aligned.
NAMES_MAX = 32
#: RFC 1035 section 2.3.4: octets of a name, without the last dot, and of a label. No longer one has records.
NAME_MAX = 253
LABEL_MAX = 63

Identifiers = Sequence[tuple[Result, str]]


class Dmarc(NamedTuple):
    """What DMARC says.

    :ivar result: ``none`` when no policy applies; ``temperror`` when the DNS did not answer where it mattered.
    :ivar domain: the author domain.
    :ivar policy_domain: where the record was found.
    :ivar organizational: the author's Organizational Domain, where it had to be known.
    :ivar policy: ``none``, ``quarantine`` or ``reject``, by ``p``, ``sp`` or ``np``; ``""`` without a record. Whether
        a subdomain exists is asked only when the mail fails, so ``np`` never shows otherwise.
    :ivar asked: of a mail that fails, what its author domain asks for: the policy, or one below it (``testing``).
    :ivar record: the record's text.
    :ivar problem: a sentence for temperror, permerror and none.
    :ivar adkim: and the following: as in ``Record``; :ivar published: the whole of it, also when it is wrong.
    """

    result: Result
    domain: str
    policy_domain: str = ""
    organizational: str = ""
    policy: str = ""
    asked: str = ""
    record: str = ""
    spf_aligned: bool = False
    dkim_aligned: bool = False
    problem: str = ""
    adkim: str = ""
    aspf: str = ""
    p: str = ""
    sp: str = ""
    np: str = ""
    testing: bool = False
    rua: tuple[str, ...] = ()
    ruf: tuple[str, ...] = ()
    published: Record | None = None


async def check(
    resolver: Resolver, author_domain: str, *, spf: Identifiers, dkim: Identifiers, sample: float = 0.0
) -> Dmarc:
    """DMARC of one mail.

    :param author_domain: from ``author.author``.
    :param spf: result and domain of MAIL FROM; of HELO where the reverse-path is null (RFC 7208 section 2.4), only
        then: RFC 9989 section 4.4.2 knows no HELO otherwise.
    :param dkim: result and ``d=`` of each signature.
    :param sample: a random number in [0, 1), for who honours ``pct`` as RFC 7489 section 6.6.4 has it. 0 honours
        ``pct=0`` only.
    """
    domain = _key(author_domain)
    if not domain:
        return Dmarc(Result.NONE, "", problem="There is no author domain.")
    tree = _Tree(resolver, domain)
    try:
        await tree.discover()
    except NoAnswerError as error:
        return Dmarc(Result.TEMPERROR, domain, problem=f"The DNS does not answer for the DMARC record: {error}")
    record = tree.policy
    if record is None:
        return Dmarc(Result.NONE, domain, organizational=tree.organizational, problem="There is no DMARC record.")
    if record.wrong:
        return Dmarc(
            record.result, domain, tree.policy_domain, tree.organizational, record=record.text, problem=record.wrong,
            published=record,
        )  # fmt: skip
    by_spf, by_dkim = _Aligning(tree, record.aspf, spf), _Aligning(tree, record.adkim, dkim)
    for mechanism in (by_spf, by_dkim):
        if not mechanism.is_author_itself():
            await mechanism.passes()
    result, problem = Result.FAIL, ""
    policy = record.p if tree.policy_domain == domain else record.sp or record.p
    if by_spf.aligned or by_dkim.aligned:
        result = Result.PASS
    else:
        await by_spf.may_pass()
        await by_dkim.may_pass()
        problem = by_spf.problem or by_dkim.problem
        if not problem and tree.policy_domain != domain and record.np and record.np != policy:
            try:
                if not await tree.exists():
                    policy = record.np
            except NoAnswerError as error:
                problem = f"The DNS does not say whether the author domain exists: {error}"
        if problem:
            result = Result.TEMPERROR
    return Dmarc(
        result,
        domain,
        tree.policy_domain,
        tree.organizational,
        policy,
        _asked(record, policy, sample) if result is Result.FAIL else "",
        record.text,
        by_spf.aligned,
        by_dkim.aligned,
        problem,
        record.adkim,
        record.aspf,
        record.p,
        record.sp,
        record.np,
        record.testing,
        record.rua,
        record.ruf,
        record,
    )


def _asked(record: Record, policy: str, sample: float) -> str:
    """What is to be done with a mail that fails: the policy, or one below it (RFC 9989 section 4.7, "t")."""
    if policy != "none" and (record.testing or sample * 100 >= record.pct):
        return POLICIES[POLICIES.index(policy) - 1]
    return policy


def _key(domain: str) -> str:
    try:
        return domain_key(domain)
    except ValueError:
        return ""


class _Aligning:
    """Which of the identifiers of one mechanism are aligned with the author domain (RFC 9989 section 4.10.2).

    :ivar aligned: one that passed is.
    :ivar problem: ``""``, or why one might be, for all we know.
    """

    def __init__(self, tree: _Tree, mode: str, identifiers: Identifiers) -> None:
        self._tree = tree
        self._strict = mode == "s"
        self._identifiers = identifiers
        self.aligned = False
        self.problem = ""

    def is_author_itself(self) -> bool:
        """Whether the author domain itself passed, or nothing did: then nobody else needs to be looked at."""
        passed = [domain for result, domain in self._identifiers if result is Result.PASS]
        self.aligned = self._tree.domain in passed
        return self.aligned or not passed

    async def passes(self) -> None:
        """Look at those that passed."""
        try:
            self.aligned = await self._any(Result.PASS)
        except NoAnswerError as error:
            self.problem = f"The DNS does not tell Organizational Domains: {error}"

    async def may_pass(self) -> None:
        """Look at those that may yet pass (RFC 9989 section 5.3.6)."""
        try:
            if not self.problem and await self._any(Result.TEMPERROR):
                self.problem = "What would be aligned could not be checked for now."
        except NoAnswerError as error:
            self.problem = f"The DNS does not tell Organizational Domains: {error}"

    async def _any(self, wanted: Result) -> bool:
        domains = {_key(domain) for result, domain in self._identifiers if result is wanted}
        if self._tree.domain in domains:
            return True
        unknown: NoAnswerError | None = None
        for domain in () if self._strict else sorted(domains, key=lambda domain: (domain.count("."), domain)):
            try:
                if await self._tree.related(domain):
                    return True
            except NoAnswerError as error:
                unknown = error
        if unknown is not None:
            raise unknown
        return False


class _TooManyError(Exception):
    """``NAMES_MAX`` names have been asked about."""


class _Tree:
    """The Tree Walk from the author domain, and from others; each name is asked about once.

    :ivar domain: the author domain.
    :ivar organizational: its Organizational Domain, once known.
    :ivar policy: the record that applies, and :ivar policy_domain: where it stands.
    """

    def __init__(self, resolver: Resolver, domain: str) -> None:
        self._resolver = resolver
        self._known: dict[str, Record | NoAnswerError | None] = {}
        self.domain = domain
        self.organizational = ""
        self.policy: Record | None = None
        self.policy_domain = ""

    async def discover(self) -> None:
        """Find the policy (RFC 9989 section 4.10.1): that of the author domain, of its Organizational Domain, or of its
        public suffix.

        :raises NoAnswerError: it cannot be told.
        """
        self.policy = await self._record(self.domain)
        if self.policy is not None:
            self.policy_domain = self.domain
            if self.policy.psd != "u":
                self.organizational = self.domain
            return
        found = await self._walk(self.domain)
        self.organizational = _organizational(self.domain, found)
        for name, record in found:
            if name == self.organizational or (record.psd == "y" and name == found[-1][0]):
                self.policy, self.policy_domain = record, name
                break

    async def related(self, domain: str) -> bool:
        """Whether a domain has the same Organizational Domain as the author domain.

        :raises NoAnswerError: it cannot be told.
        """
        if not domain or domain.rpartition(".")[2] != self.domain.rpartition(".")[2]:
            return False
        if not self.organizational:
            self.organizational = _organizational(self.domain, await self._walk(self.domain))
        if not f".{domain}".endswith(f".{self.organizational}"):
            return False
        try:
            return _organizational(domain, await self._walk(domain)) == self.organizational
        except _TooManyError:
            return False

    async def exists(self) -> bool:
        """Whether the author domain exists: anything but NXDOMAIN (RFC 9989 section 3.2.13). SPF records stand in TXT
        records of the same name, so this answer is often known already.

        :raises NoAnswerError: it cannot be told.
        """
        return not _is_name(self.domain) or (await self._resolver.query(self.domain, "TXT")).exists

    async def _walk(self, domain: str) -> list[tuple[str, Record]]:
        """The records from a domain upwards (RFC 9989 section 4.10), to the first that says where it stands."""
        found: list[tuple[str, Record]] = []
        for name in _targets(domain):
            record = await self._record(name)
            if record is not None:
                found.append((name, record))
                if record.psd != "u":
                    break
        return found

    async def _record(self, domain: str) -> Record | None:
        if domain not in self._known:
            name = f"_dmarc.{domain}"
            if not _is_name(name):
                return None
            if len(self._known) >= NAMES_MAX:
                raise _TooManyError
            try:
                self._known[domain] = find((await self._resolver.query(name, "TXT")).records)
            except NoAnswerError as error:
                self._known[domain] = error
        known = self._known[domain]
        if isinstance(known, NoAnswerError):
            raise known
        return known


def _targets(domain: str) -> Iterator[str]:
    """The names of a Tree Walk: the domain, and what is above it; of many labels, the last seven and what is above."""
    yield domain
    labels = domain.split(".")
    for left in range(min(len(labels) - 1, LABELS_MAX), 0, -1):
        yield ".".join(labels[-left:])


def _organizational(domain: str, found: list[tuple[str, Record]]) -> str:
    """The Organizational Domain by the records of a walk (RFC 9989 section 4.10.2)."""
    for name, record in found:
        if record.psd == "n":
            return name
        if record.psd == "y" and name != domain:
            return ".".join(domain.split(".")[-name.count(".") - 2 :])
    return found[-1][0] if found else domain


def _is_name(name: str) -> bool:
    """Whether a name can be asked about at all."""
    return len(name) <= NAME_MAX and all(0 < len(label) <= LABEL_MAX for label in name.split("."))
