"""What was found out about who sent a mail, as one value, and how Authentication-Results (RFC 8601) tells it."""

from __future__ import annotations

from typing import NamedTuple

from twisted_mail_node.mailauth.arc import Arc
from twisted_mail_node.mailauth.author import Author
from twisted_mail_node.mailauth.dkim_verify import Signed
from twisted_mail_node.mailauth.dmarc import Dmarc
from twisted_mail_node.mailauth.iprev import Iprev
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.mailauth.spf import Spf
from twisted_mail_node.message.authresults import AuthenticationResults, MethodResult, Property

#: What a mail's signatures come to together: the best of them, in this order.
_BEST = (Result.PASS, Result.TEMPERROR, Result.FAIL, Result.PERMERROR, Result.POLICY, Result.NEUTRAL)


class Outcome(NamedTuple):
    """What the checks of one mail came to.

    :ivar client: the client's IP address.
    :ivar helo: what it said in EHLO.
    :ivar reverse_path: as text, ``""`` is the null one.
    :ivar helo_spf: SPF of the name in EHLO.
    :ivar spf: SPF of the reverse-path; of a null one that of ``postmaster`` at the name in EHLO.
    :ivar vouched: the trusted sealer that vouches for the mail (ARC), ``""``: none does.
    """

    client: str
    helo: str
    reverse_path: str
    iprev: Iprev
    helo_spf: Spf
    spf: Spf
    dkim: tuple[Signed, ...]
    author: Author
    dmarc: Dmarc
    arc: Arc
    vouched: str = ""

    @property
    def dkim_result(self) -> Result:
        """What the signatures come to together."""
        found = {signed.result for signed in self.dkim}
        return next((result for result in _BEST if result in found), Result.NONE)

    def told(self) -> tuple[MethodResult, ...]:
        """The results as Authentication-Results tells them, each method at least once but ARC, of which there is
        nothing to tell where nobody sealed."""
        arc = (_arc(self.arc),) if self.arc.result is not Result.NONE else ()
        return (_iprev(self), *_spf(self), *_dkim(self.dkim), _dmarc(self), *arc)


def authentication_results(authserv_id: str, outcome: Outcome) -> AuthenticationResults:
    """The field of a mail that was checked."""
    return AuthenticationResults(authserv_id, outcome.told())


def signed_in(authserv_id: str, account: str) -> AuthenticationResults:
    """The field of a mail whose sender signed in (RFC 8601 section 2.7.4)."""
    properties = (Property("smtp", "auth", account),)
    return AuthenticationResults(authserv_id, (MethodResult("auth", "pass", properties),))


def _iprev(outcome: Outcome) -> MethodResult:
    found = outcome.iprev
    properties = (Property("policy", "iprev", outcome.client),)
    return MethodResult("iprev", str(found.result), properties, comment=found.name or found.problem)


def _spf(outcome: Outcome) -> tuple[MethodResult, ...]:
    spf, helo = outcome.spf, outcome.helo_spf
    told = [_spf_result(helo, Property("smtp", "helo", outcome.helo))] if outcome.helo else []
    if outcome.reverse_path:
        identity = outcome.reverse_path if outcome.reverse_path.isascii() else spf.domain
        told.append(_spf_result(spf, Property("smtp", "mailfrom", identity)))
    elif not told:
        told.append(_spf_result(spf, Property("smtp", "mailfrom", "")))
    return tuple(told)


def _spf_result(spf: Spf, identity: Property) -> MethodResult:
    comment = spf.mechanism or spf.problem
    return MethodResult("spf", str(spf.result), (identity,) if identity.value else (), comment=comment)


def _dkim(signatures: tuple[Signed, ...]) -> tuple[MethodResult, ...]:
    if not signatures:
        return (MethodResult("dkim", "none"),)
    return tuple([_signature(one) for one in signatures])


def _signature(signed: Signed) -> MethodResult:
    named = {
        "d": signed.domain, "i": signed.identity, "s": signed.selector, "a": signed.algorithm, "b": signed.signature,
    }  # fmt: skip
    if signed.identity == f"@{signed.domain}":
        del named["i"]
    properties = tuple([Property("header", name, value) for name, value in named.items() if value])
    return MethodResult("dkim", str(signed.result), properties, comment=signed.problem)


def _dmarc(outcome: Outcome) -> MethodResult:
    dmarc = outcome.dmarc
    properties: tuple[Property, ...] = ()
    if dmarc.domain:
        properties += (Property("header", "from", dmarc.domain),)
    if dmarc.policy:
        properties += (Property("policy", "dmarc", dmarc.policy),)
    return MethodResult("dmarc", str(dmarc.result), properties, comment=outcome.author.problem or dmarc.problem)


def _arc(arc: Arc) -> MethodResult:
    comment = arc.problem or f"i={arc.instance} {' '.join(arc.sealers)}"
    properties = (Property("header", "oldest-pass", str(arc.oldest_pass)),) if arc.result is Result.PASS else ()
    return MethodResult("arc", str(arc.result), properties, comment=comment)
