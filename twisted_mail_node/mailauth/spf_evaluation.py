"""Evaluates SPF records for a client: the mechanisms and modifiers that ask the DNS (RFC 7208 sections 4.4 to 6).

Records are published by anybody, and the client's names by the owner of its address. What they can make us ask is
bounded, and so is the time it takes us; a loop is found where it closes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from socket import AF_INET, AF_INET6, inet_pton

from twisted_mail_node.mailauth.resolving import NoAnswerError, Records, Resolver
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.mailauth.spf_macros import (
    Client,
    MacroValues,
    Spec,
    SpfSyntaxError,
    expand_explanation,
    expand_name,
    explain_string,
    is_domain,
    letters_of,
)
from twisted_mail_node.mailauth.spf_record import Directive, SpfRecord, read_record, select

#: Terms that ask the DNS, in all records of a check together (RFC 7208 section 4.6.4).
TERMS_MAX = 10
#: Those of them for whose names there are no records (RFC 7208 section 4.6.4).
VOIDS_MAX = 2
#: Exchangers of one ``mx``, and names of the client, whose addresses are asked for (RFC 7208 section 4.6.4).
NAMES_MAX = 10
#: Questions of a check. By the limits above ten ``mx`` could ask 110 times, of a victim's choice; nobody's record does.
QUESTIONS_MAX = 64


_PASS = Result.PASS


class EvaluationError(Exception):
    """The record, or one that it leads to, is in error: the result is permerror (RFC 7208 section 2.6.7)."""


#: The first directive that matches, the record it stands in, and whose that is: another domain's behind a redirect.
Found = tuple[Directive | None, SpfRecord, str]


class Evaluation:
    """One check, over all the records it leads to.

    Nothing catches the resolver's ``NoAnswerError`` but what says so: it makes the result temperror.

    :ivar term: the term of the first domain's record that is looked at: where an error comes from.
    :ivar _path: the domains whose records are being evaluated, each because of the one before.
    :ivar _void: the term that is looked at has been counted as one that leads to a name without records.
    :ivar _names: the client's names, once they were asked for; ``_back`` tells which of them lead back to it.
    """

    term = ""
    _terms = _voids = _questions = 0
    _void = False
    _names: list[str] | None = None
    _back: dict[str, bool] | None = None

    def __init__(self, resolver: Resolver, client: Client, values: MacroValues) -> None:
        self._query = resolver.query
        self._number, self._is_ip6, self._text = client
        self._rdtype = "AAAA" if self._is_ip6 else "A"
        self._values = values
        self._path: list[str] = []

    async def check_host(self, domain: str) -> Found | None:
        """Evaluate the record of a well-formed domain, and those it redirects to; ``None`` when it has none.

        :raises EvaluationError: permerror, of this record or of one that it leads to.
        :raises NoAnswerError: temperror, likewise.
        """
        number, path = self._number, self._path
        depth = len(path)
        while True:
            record = self._read(domain, (await self._ask(domain, "TXT")).records)
            if record is None:
                return None
            path.append(domain)
            # RFC 7208 section 4.6.2: from left to right, until one matches.
            for directive in record.ip6 if self._is_ip6 else record.ip4:
                kind = directive.kind
                if kind == "ip":
                    if number >> directive.shift4 != directive.network:  # of the client's family: both shifts are one
                        continue
                elif kind != "all":
                    if depth == 0:
                        self.term = directive.text
                    if not await self._matches(directive, domain):
                        continue
                del path[depth:]
                return directive, record, domain
            redirect = record.redirect
            if redirect is None:
                del path[depth:]
                return None, record, domain
            if depth == 0:
                self.term = redirect.text
            self._count_term(redirect, domain)
            domain = self._next_domain(redirect, await self._target(redirect, domain), domain)

    def _read(self, domain: str, records: Sequence[bytes]) -> SpfRecord | None:
        """The domain's SPF record among its TXT records (RFC 7208 sections 4.4 to 4.6)."""
        texts = select(records)
        if not texts:
            if not self._path:
                return None
            # RFC 7208 sections 5.2 and 6.1: from here on it is an error that there is none.
            raise EvaluationError(f"the record of {self._path[-1]} leads to {domain}, which has no SPF record")
        if len(texts) > 1:
            raise EvaluationError(f"{domain} has {len(texts)} SPF records, and only one is allowed")
        record = read_record(texts[0])
        if record.problem:
            raise EvaluationError(f"the SPF record of {domain} is malformed: {record.problem}")
        return record

    async def _matches(self, directive: Directive, domain: str) -> bool:
        """Evaluate a mechanism that asks the DNS (RFC 7208 sections 5.2 to 5.7)."""
        self._count_term(directive, domain)
        kind, _, _, _, shift, shift6, spec = directive
        name = domain if spec is None else spec.name
        if spec is not None and name is None:
            if self._is_unmatchable(spec):
                return False
            if spec.client:
                await self._find_name(domain)
            self._values["d"] = domain
            name = expand_name(spec, self._values)
        if kind == "include":
            matched = await self.check_host(self._next_domain(directive, name, domain))
            return matched is not None and matched[0] is not None and matched[0].result is _PASS
        if not name:  # RFC 7208 section 4.8 leaves it to us: there is nothing of this name
            return False
        if kind == "ptr":
            return await self._matches_ptr(name)
        if self._is_ip6:
            shift = shift6
        rdtype = "MX" if kind == "mx" else "A" if kind == "exists" else self._rdtype
        records = (await self._ask(name, rdtype)).records
        if not records:
            self._count_void()
            return False
        if kind != "mx":
            return kind == "exists" or self._is_among(shift, records)
        # RFC 7208 section 5.4: there is no match without exchangers, whatever addresses the name has.
        if len(records) > NAMES_MAX:
            raise EvaluationError(f"{name} has more than {NAMES_MAX} mail exchangers, too many for {directive.text}")
        for host in dict.fromkeys([record.host for record in records]):
            if host:  # a null MX is none (RFC 7505)
                found = (await self._ask(host, self._rdtype)).records
                if not found:
                    self._count_void()
                elif self._is_among(shift, found):
                    return True
        return False

    def _next_domain(self, term: Directive, name: str | None, domain: str) -> str:
        """Whose record is evaluated next, by an include or a redirect in the record of ``domain``."""
        if not name or not is_domain(name):
            raise EvaluationError(f"the record of {domain} leads to what is not a domain, by {term.text}")
        if name in self._path:
            # It would lead here again, until there are too many terms. It is told sooner, and in better words.
            verb = "includes" if term.kind == "include" else "redirects to"
            whom = "itself" if name == domain else f"{name}, whose record leads to it"
            raise EvaluationError(f"the record of {domain} {verb} {whom}")
        return name

    async def _matches_ptr(self, name: str) -> bool:
        """RFC 7208 section 5.5: a name of the client is the target-name or below it, and leads back to the client."""
        below = f".{name}"
        for each in await self._client_names():
            if (each == name or each.endswith(below)) and await self._leads_back(each):
                return True
        return False

    def _is_among(self, shift: int, addresses: Sequence[str]) -> bool:
        """Whether the client's address is one of these, but for so many low-order bits."""
        if not shift and not self._is_ip6:
            return self._text in addresses  # of IPv4: it has one spelling
        family = AF_INET6 if self._is_ip6 else AF_INET
        wanted = self._number >> shift
        return wanted in [int.from_bytes(inet_pton(family, text), "big") >> shift for text in addresses]

    async def _client_names(self) -> list[str]:
        """The client's names, not yet checked; asked for once in a check. An error is the same as none (RFC 7208
        section 5.5), and none is no look-up in vain: the owner of the address could end any check by it."""
        if self._names is None:
            self._names = []
            try:
                records = (await self._ask(f"{_reversed(self._number, self._is_ip6)}.arpa", "PTR")).records
            except NoAnswerError:
                return []
            # RFC 7208 section 4.6.4: "all records other than the first 10 MUST be ignored". They are the client's.
            names = [str(record).rstrip(".").lower() for record in records[:NAMES_MAX]]
            self._names = [name for name in dict.fromkeys(names) if is_domain(name)]
        return self._names

    async def _leads_back(self, name: str) -> bool:
        """Whether a name of the client has the client's address: then it is validated (RFC 7208 section 5.5)."""
        if self._back is None:
            self._back = {}
        if name not in self._back:
            try:
                records = (await self._ask(name, self._rdtype)).records
            except NoAnswerError:
                records = ()
            self._back[name] = self._is_among(0, records)
        return self._back[name]

    async def _find_name(self, domain: str) -> None:
        """Find out what ``%{p}`` is: the domain, or a name below it, or any (RFC 7208 section 7.3)."""
        below = f".{domain}"
        names = await self._client_names()
        self._values["p"] = "unknown"
        for name in sorted(names, key=lambda name: 0 if name == domain else 1 if name.endswith(below) else 2):
            if await self._leads_back(name):
                self._values["p"] = name
                break

    async def explain(self, term: Directive, domain: str) -> str:
        """The explanation of a fail; ``""`` when anything is wrong with it (RFC 7208 section 6.2)."""
        self._voids = self._questions = 0  # the limits are for what leads to a result
        try:
            name = await self._target(term, domain)
            records = (await self._ask(name, "TXT")).records if name else ()
            if len(records) != 1:
                return ""
            pieces = explain_string(records[0])
            if "p" in letters_of(pieces):
                await self._find_name(domain)
            return expand_explanation(pieces, self._values)
        except (EvaluationError, NoAnswerError, SpfSyntaxError):
            return ""

    async def _target(self, term: Directive, domain: str) -> str | None:
        """The target-name of a modifier; ``None`` or ``""`` when it cannot be a name in the DNS."""
        spec = term.spec
        assert spec is not None  # the grammar wants it
        self._values["d"] = domain
        if spec.client:
            await self._find_name(domain)
        return None if self._is_unmatchable(spec) else expand_name(spec, self._values)

    def _is_unmatchable(self, spec: Spec) -> bool:
        """Terms with ``%{s}`` or ``%{l}`` match nothing when the local-part is not ASCII (RFC 8616 section 4)."""
        return spec.local and not self._values["l"].isascii()

    def _count_term(self, term: Directive, domain: str) -> None:
        self._terms += 1
        if self._terms > TERMS_MAX:
            raise EvaluationError(f"more than {TERMS_MAX} DNS look-ups, with {term.text} in the record of {domain}")
        self._void = False

    def _count_void(self) -> None:
        """A question of the term had no records. RFC 7208 section 4.6.4 counts terms, not questions."""
        if not self._void:
            self._void = True
            self._voids += 1
            if self._voids > VOIDS_MAX:
                raise EvaluationError(f"more than {VOIDS_MAX} DNS look-ups found no records")

    def _ask(self, name: str, rdtype: str) -> Awaitable[Records]:
        self._questions += 1
        if self._questions > QUESTIONS_MAX:
            raise EvaluationError(f"more than {QUESTIONS_MAX} questions to the DNS")
        return self._query(name, rdtype)


def _reversed(number: int, is_ip6: bool) -> str:
    if is_ip6:
        return ".".join(f"{number:032x}"[::-1]) + ".ip6"
    return ".".join([str(number >> shift & 255) for shift in (0, 8, 16, 24)]) + ".in-addr"
