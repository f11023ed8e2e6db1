"""Decides how the connection to a host must be protected, asked for each host before the connection; the answer is a
value (``Need``).

Who may ask for something, and what it means together: the route, a ``[[destination]]`` rule, what was reached before
(``outbound.pin``), the mail (REQUIRETLS), and the domain: by TLSA records (DANE, RFC 7672) and by its MTA-STS policy
(RFC 8461). The one that asks for most counts. A host with TLSA records follows them, whatever the policy says; only
the others follow the policy. So neither makes the other weaker.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from twisted_mail_node.dns.answer import DNSError
from twisted_mail_node.interfaces import IResolver
from twisted_mail_node.outbound.job import short
from twisted_mail_node.outbound.judgement import Judgement
from twisted_mail_node.outbound.need import (
    FELL_BACK,
    NO_NEED,
    Demand,
    Found,
    Need,
    Policy,
    stronger,
)
from twisted_mail_node.outbound.tls_outcome import Notes, TlsOutcome
from twisted_mail_node.outbound.tlsa import find_tlsa
from twisted_mail_node.queue.limits import Limit
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import OutboundSettings
from twisted_mail_node.settings_routes import fits
from twisted_mail_node.state.tls_levels import TlsLevels

#: Seconds for which a host whose TLS broke gets opportunistic mail in the clear at once: each try costs a connection.
BROKEN_FOR = 300.0
#: Hosts remembered so; when there are more, the oldest is forgotten.
BROKEN_MAX = 1000

_REQUIRETLS = "the mail's sender asked for REQUIRETLS; without it the mail can be sent again"
_ROUTE = (
    'the route to {next_hop} asks for tls = "{level}"; tell its postmaster, or let the route ask for tls = "{less}"'
)
_RULE = '{rule} asks for tls = "{level}"; tell the postmaster of {next_hop}, or let the rule ask for less'
_PIN = (
    "mail to {domain} went with {before} before, and outbound.pin keeps it so; "
    '"mailnode tls forget {domain}" lets it go as before'
)
_DANE = "the TLSA records at {owner} ask for it; tell its postmaster, or switch dane off in [outbound]"
_STS = "the MTA-STS policy of {domain} asks for it; tell its postmaster, or switch mta_sts off in [outbound]"
_BEFORE = {"encrypted": "TLS", "verified": "a verified certificate", "dane": "a certificate verified by DANE"}


class Policies(Protocol):
    """Knows the MTA-STS policies of domains: ``outbound.mtasts_policies.StsPolicies``."""

    def find(self, domain: str) -> Awaitable[Policy | None]:
        """A domain's policy that is in force now."""


class Security:
    """Decides what hosts need, and remembers whose TLS broke lately.

    :param now: gives the clock's seconds.
    :param resolver: asked for TLSA records; ``None``: DANE is out of the question.
    :param settings: the switches.
    :param levels: what was reached before.
    :ivar policies: MTA-STS policies; ``None``: there are none.
    :ivar notes: told what TLS with mail exchangers came to; ``None``: nobody is.
    """

    def __init__(
        self,
        now: Callable[[], float],
        resolver: IResolver | None = None,
        *,
        settings: OutboundSettings | None = None,
        policies: Policies | None = None,
        notes: Notes | None = None,
        levels: TlsLevels | None = None,
    ) -> None:
        self._now = now
        self._resolver = resolver
        self.policies = policies
        self.notes = notes
        self._levels = levels
        self._broken: dict[str, float] = {}  # address → until when; the oldest first
        self.reload(settings or OutboundSettings())

    def reload(self, settings: OutboundSettings) -> None:
        """Let other switches be in force."""
        self._settings = settings

    async def policy(self, demand: Demand, domain: str, mx: bool, limit: Limit | None = None) -> Policy | None:
        """The MTA-STS policy for a next hop found by MX; ``None`` where there is none, or none that asks for anything.

        It is the next hop's own, also when a route leads there (RFC 8461 section 3.4).

        :param limit: what our settings say of the next hop: a route without TLS is nothing to a rule that wants it.
        """
        if not mx or self.policies is None or not self._settings.mta_sts:
            return None
        asked = demand.require_tls or demand.level != "none" or (limit is not None and limit.tls not in (None, "none"))
        if not asked and not self._before(domain):
            return None
        found = await self.policies.find(domain)
        return found if found is not None and found.mode in ("enforce", "testing") else None

    async def need(self, demand: Demand, found: Found, address: str) -> Need:
        """What the host at ``address`` needs. (``demand`` and ``found`` are values, so that it can be explained, too.)

        :param address: address and port.
        """
        need = self._own(demand, found)
        if demand.require_tls and not need.sure:
            return self._not_sure(need, found)
        if need.level == "none":
            return NO_NEED
        if not demand.optional:
            need = await self._with_domain(need, found)
        if need.level == "opportunistic" and not need.refusal and self._is_broken(address):
            return FELL_BACK
        return need

    # who asks

    def _own(self, demand: Demand, found: Found) -> Need:
        """What the mail and our own settings ask for."""
        next_hop, level, require_tls, *_ = demand
        sure = found.is_sure
        if require_tls:
            return Need("verified", True, sure, _REQUIRETLS, source="REQUIRETLS")
        need = Need(level, False, sure)
        if need.must:
            less = "required" if level == "verified" else "opportunistic"
            need = need._replace(why=_ROUTE.format(next_hop=next_hop, level=level, less=less), source="the route")
        limit = found.limit
        if limit.tls is not None:
            words = _RULE.format(rule=limit.why, level=limit.tls, next_hop=next_hop)
            need = stronger(need, Need(limit.tls, False, sure, words, source=limit.why))
        before = self._before(found.domain)
        if before:
            words = _PIN.format(domain=found.domain, before=_BEFORE[before])
            least = Need("required" if before == "encrypted" else "verified", False, sure, words, source="outbound.pin")
            need = stronger(need, least)
        return need

    async def _with_domain(self, need: Need, found: Found) -> Need:
        """The same with what the domain asks for."""
        exchanger, policy = found.exchanger, found.policy
        if self._settings.dane and self._resolver is not None:
            domain = found.domain if found.mx else ""
            try:
                tlsa = await find_tlsa(self._resolver, exchanger, found.port, domain)
            except DNSError as error:
                # RFC 7672 section 2.1: that they cannot be had may be an attack. The host is left alone for now.
                words = f"whether {exchanger.host} has TLSA records cannot be found out: {error}"
                return need._replace(reason=Reason.DANE_FAILED, refusal=words, result="dnssec-invalid", source="DANE")
            if tlsa is not None:
                why = need.why if need.require_tls else _DANE.format(owner=tlsa.owner)
                source = f"DANE, the TLSA records at {tlsa.owner}"
                if tlsa.records:
                    # They count more than any authority's certificate: for a route that says "verified", too.
                    return Need("verified", need.require_tls, need.sure, why, False, source, Reason.DANE_FAILED, tlsa)
                # RFC 7672 section 2.2: none that can be used still says that there must be TLS.
                asked = Need("required", need.require_tls, need.sure, why, False, source, Reason.DANE_FAILED)
                need = stronger(need, asked)._replace(tlsa=tlsa)
        if policy is None:
            return need
        if policy.mode == "enforce":  # RFC 8461 section 4: named, and with a certificate that is good for the name
            why = need.why if need.require_tls else _STS.format(domain=found.domain)
            source = f"MTA-STS policy {policy.id}"
            if not policy.allows(exchanger.host):
                # RFC 8461 section 5: nothing of the mail goes to such a host, and waiting may help.
                words = f"the MTA-STS policy of {found.domain} does not name {exchanger.host}"
                return need._replace(
                    why=why, source=source, reason=Reason.MTA_STS_FAILED, policy=policy, refusal=words,
                    result="validation-failure",
                )  # fmt: skip
            asked = Need("verified", need.require_tls, need.sure, why, False, source, Reason.MTA_STS_FAILED, need.tlsa)
            need = stronger(need, asked)
        return need._replace(policy=policy)

    def _not_sure(self, need: Need, found: Found) -> Need:
        """RFC 8689 section 2: REQUIRETLS goes to no host whose name an unsigned MX record gave."""
        words = (
            f"the mail needs REQUIRETLS, and nothing confirms that {found.exchanger.host} is a mail exchanger of "
            f"{found.domain}: its MX records are not signed (DNSSEC), and no MTA-STS policy names it; a route with a "
            f'host in brackets, next_hop = "[mail.{found.domain}]", would do'
        )
        return need._replace(reason=Reason.REQUIRETLS, refusal=words, status="4.7.10")

    def _before(self, domain: str) -> str:
        return self._levels.of(domain) if self._levels is not None and self._is_pinned(domain) else ""

    def _is_pinned(self, domain: str) -> bool:
        return any(fits(pattern, domain) for pattern in self._settings.pin)

    # what came of it

    def came_to(
        self, demand: Demand, found: Found, need: Need, judgement: Judgement | None, ips: tuple[str, str]
    ) -> None:
        """Note what TLS with a host came to: for what is remembered, and for reports.

        :param judgement: ``None``: it did not come so far that TLS could be judged.
        :param ips: our address and the host's.
        """
        if judgement is None:
            return
        domain = found.domain
        if judgement.level and self._levels is not None and self._is_pinned(domain):
            self._levels.reached(domain, judgement.level)
        if self.notes is None or not found.mx or demand.optional:
            return
        kind, policy, patterns = _policy_of(need)
        result = judgement.result
        words = short(judgement.detail or judgement.words) if result else ""
        self.notes.note(TlsOutcome(domain, kind, policy, patterns, found.exchanger.host, *ips, result, words))

    def broke(self, address: str) -> None:
        """TLS with the host at ``address`` came to nothing."""
        broken = self._broken
        broken.pop(address, None)
        while len(broken) >= BROKEN_MAX:
            del broken[next(iter(broken))]
        broken[address] = self._now() + BROKEN_FOR

    def _is_broken(self, address: str) -> bool:
        until = self._broken.get(address)
        if until is None:
            return False
        if until > self._now():
            return True
        del self._broken[address]
        return False


def _policy_of(need: Need) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """The policy a session was under: its type, its lines and its host patterns (RFC 8460 section 4.4)."""
    if need.tlsa is not None:
        return "tlsa", need.tlsa.policy(), ()
    if need.result == "dnssec-invalid":
        return "tlsa", (), ()
    policy = need.policy
    if policy is None:
        return "no-policy-found", (), ()
    return "sts", policy.lines, policy.exchangers
