"""Tests of twisted_mail_node.outbound.security and need: who asks for protection, and what counts."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.dns.fake import FakeResolver
from tests.outbound.remote import HEADER, SENDER, Content, Notes
from twisted_mail_node.dns.answer import TLSA, DNSError
from twisted_mail_node.dns.exchangers import Exchanger, HostAddress
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.outbound.judgement import Judgement
from twisted_mail_node.outbound.mtasts import Mode, StsPolicy
from twisted_mail_node.outbound.need import FELL_BACK, NO_NEED, Demand, Found, Need, demand_of
from twisted_mail_node.outbound.security import BROKEN_FOR, BROKEN_MAX, Security
from twisted_mail_node.outbound.tls_outcome import TlsOutcome
from twisted_mail_node.queue.limits import Limits
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import DestinationRule, OutboundSettings, QueueSettings, TlsLevel

JOE = Address("joe", "example.net")
LEVELS: tuple[TlsLevel, ...] = ("none", "opportunistic", "required", "verified")
MX = "mx.example.net"
OWNER = f"_25._tcp.{MX}"
GOOD = TLSA(3, 1, 1, b"\1" * 32)
USELESS = TLSA(1, 1, 1, b"\1" * 32)
ADDRESSES = (HostAddress("192.0.2.1", 4),)
LIMIT = Limits((), QueueSettings()).of("example.net")
PLAIN = Exchanger(MX, 10, ADDRESSES, False, False, MX)
SIGNED = Exchanger(MX, 10, ADDRESSES, True, True, MX)


def sts(mode: Mode = "enforce", exchangers: tuple[str, ...] = (MX,)) -> StsPolicy:
    """An MTA-STS policy."""
    return StsPolicy("20261128", mode, exchangers, 86400, 0.0)


class Policies:
    """One policy for every domain."""

    def __init__(self, policy: StsPolicy | None) -> None:
        self.policy = policy
        self.asked: list[str] = []

    async def find(self, domain: str) -> StsPolicy | None:
        self.asked.append(domain)
        return self.policy


class Levels:
    """What was reached before."""

    def __init__(self, **known: str) -> None:
        self.known = {domain.replace("_", "."): level for domain, level in known.items()}

    def of(self, domain: str) -> str:
        return self.known.get(domain, "")

    def reached(self, domain: str, level: str) -> None:
        self.known[domain] = level


def request(level: TlsLevel, sender: Address | None = SENDER, **envelope: Any) -> DeliveryRequest:
    recipients = (Recipient(JOE, JOE),)
    return DeliveryRequest(
        "q1", Envelope(sender, recipients, **envelope), recipients, HEADER, Content(b""), "example.net", 60.0, level
    )


def demand(level: TlsLevel = "opportunistic", require_tls: bool = False, optional: bool = False) -> Demand:
    return Demand("example.net", level, require_tls, optional=optional)


def by_mx(exchanger: Exchanger = PLAIN, policy: StsPolicy | None = None) -> Found:
    return Found("example.net", 25, True, exchanger, LIMIT, policy)


class DemandTests(SynchronousTestCase):
    def test_route(self) -> None:
        """Without REQUIRETLS the route alone asks."""
        for level in LEVELS:
            self.assertEqual(demand_of(request(level)), Demand("example.net", level, False))

    def test_requiretls(self) -> None:
        """With it the route's level counts no more."""
        for level in LEVELS:
            self.assertEqual(demand_of(request(level, require_tls=True)), Demand("example.net", "verified", True))

    def test_bounce(self) -> None:
        """A bounce of such a mail is protected as the route says, at least opportunistically."""
        found = [demand_of(request(level, None, require_tls=True)) for level in LEVELS]
        self.assertEqual([demand.level for demand in found], ["opportunistic", *LEVELS[1:]])
        self.assertFalse(any(demand.require_tls for demand in found))

    def test_optional(self) -> None:
        """TLS-Required: No is a demand of its own; REQUIRETLS counts more."""
        self.assertEqual(demand_of(request("required", tls_optional=True)), demand("required", optional=True))
        both = demand_of(request("none", tls_optional=True, require_tls=True))
        self.assertEqual((both.require_tls, both.optional), (True, False))


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 1000.0
        self.zone: dict[str, Any] = {}
        self.resolver = FakeResolver(self.zone, self.zone)  # all of it is signed
        self.notes = Notes()
        self.security = self.make()

    def make(self, settings: OutboundSettings | None = None, **more: Any) -> Security:
        return Security(lambda: self.now, self.resolver, settings=settings, notes=self.notes, **more)

    def need(self, asked: Demand, found: Found, address: str = "192.0.2.1:25") -> Need:
        need: Need = self.successResultOf(Deferred.fromCoroutine(self.security.need(asked, found, address)))
        return need


class OwnTests(Case):
    """What the route, the mail and our settings ask for."""

    def of(self, level: TlsLevel, address: str = "192.0.2.1:25") -> Need:
        return self.need(demand(level), by_mx(), address)

    def test_levels(self) -> None:
        """The need has the route's level; of those that must have TLS it says who asks."""
        needs = [self.of(level) for level in LEVELS]
        self.assertEqual([need.level for need in needs], list(LEVELS))
        self.assertEqual([need.must for need in needs], [False, False, True, True])
        self.assertEqual([bool(need.why) for need in needs], [False, False, True, True])
        self.assertEqual([need.source for need in needs], ["", "", "the route", "the route"])
        self.assertIn('let the route ask for tls = "required"', needs[3].why)

    def test_sure(self) -> None:
        """A name out of an MX record is not sure, unless that is signed or a policy confirms it; one in brackets is."""
        self.assertFalse(self.of("verified").sure)
        for found in (
            by_mx(SIGNED),
            by_mx(PLAIN, sts()),
            by_mx(PLAIN, sts("testing")),
            Found(MX, 25, False, SIGNED, LIMIT),
        ):
            self.assertTrue(self.need(demand("verified"), found).sure)
        self.assertFalse(self.need(demand("verified"), by_mx(PLAIN, sts(exchangers=("other.example",)))).sure)

    def test_requiretls(self) -> None:
        """REQUIRETLS needs a verified certificate, and a host whose name is sure (RFC 8689 section 2)."""
        asked = demand("verified", require_tls=True)
        for found in (
            Found(MX, 25, False, PLAIN, LIMIT),
            by_mx(SIGNED),
            by_mx(PLAIN, sts()),
            by_mx(PLAIN, sts("testing")),
        ):
            need = self.need(asked, found)
            self.assertEqual((need[:3], need.refusal), (("verified", True, True), ""))
            self.assertIn("REQUIRETLS", need.why)
        for policy in (None, sts(exchangers=("other.example",))):
            need = self.need(asked, by_mx(PLAIN, policy))
            self.assertEqual((need.reason, need.status), (Reason.REQUIRETLS, "4.7.10"))
            self.assertIn("[mail.example.net]", need.refusal)
            self.assertEqual(need.protection, "refused")

    def test_broken(self) -> None:
        """A host whose TLS broke is remembered for a while, by those only who do not need it."""
        self.security.broke("192.0.2.1:25")
        self.assertEqual([self.of(level) is FELL_BACK for level in LEVELS], [False, True, False, False])
        self.assertIsNot(self.of("opportunistic", "192.0.2.2:25"), FELL_BACK)
        self.now += BROKEN_FOR
        self.assertIsNot(self.of("opportunistic"), FELL_BACK)

    def test_broken_bound(self) -> None:
        """Of very many the oldest are forgotten."""
        for number in range(BROKEN_MAX + 1):
            self.security.broke(f"{number}")
            if number == 10:
                self.security.broke("0")
        self.assertEqual(len(self.security._broken), BROKEN_MAX)
        found = [self.of("opportunistic", str(number)) is FELL_BACK for number in range(3)]
        self.assertEqual(found, [True, False, True])

    def test_destination(self) -> None:
        """A rule for a destination asks for its level whatever the route says, but never for less."""
        rules = (
            DestinationRule(domains=("example.net",), tls="required"),
            DestinationRule(exchangers=(".big.example",), tls="verified"),
        )
        limits = Limits(rules, QueueSettings())
        found = by_mx()._replace(limit=limits.of("example.net"))
        needs = [self.need(demand(level), found) for level in LEVELS]
        self.assertEqual([need.level for need in needs], ["required"] * 3 + ["verified"])
        self.assertEqual([need.source for need in needs], ["destination[1]"] * 2 + ["the route"] * 2)
        self.assertIn('destination[1] asks for tls = "required"', needs[0].why)
        found = found._replace(limit=limits.of("other.example", ("a.big.example",)))
        need = self.need(demand(), found)
        self.assertEqual((need.level, need.source), ("verified", "destination[2], by its exchangers"))

    def test_pin(self) -> None:
        """Mail to a pinned domain goes never below what was reached, whatever the route says; to others it may."""
        settings = OutboundSettings(pin=("example.net", ".example.org"))
        for before, level in (("", "none"), ("encrypted", "required"), ("verified", "verified"), ("dane", "verified")):
            known = {"example_net": before, "example_com": before} if before else {}
            self.security = self.make(settings, levels=Levels(**known))
            need = self.of("none")
            self.assertEqual(need.level, level)
            other = Found("example.com", 25, True, PLAIN, LIMIT)
            self.assertEqual(self.need(Demand("example.com", "none", False), other), NO_NEED)
        self.assertEqual(need.source, "outbound.pin")
        self.assertIn("a certificate verified by DANE before", need.why)
        self.assertIn("mailnode tls forget example.net", need.why)


class DaneTests(Case):
    """What TLSA records ask for."""

    def setUp(self) -> None:
        super().setUp()
        self.zone[OWNER] = {"TLSA": [GOOD]}
        self.zone[MX] = {"A": ["192.0.2.1"]}

    def test_usable(self) -> None:
        """A host with usable records must show a certificate that they allow, for every demand but "none"."""
        for level in LEVELS[1:]:
            need = self.need(demand(level), by_mx(SIGNED))
            self.assertEqual((need.level, need.by_dane, need.protection), ("verified", True, "dane"))
            assert need.tlsa is not None
            self.assertEqual((need.tlsa.records, need.tlsa.base), ((GOOD,), MX))
            self.assertEqual((need.reason, need.source), (Reason.DANE_FAILED, f"DANE, the TLSA records at {OWNER}"))
            self.assertIn(OWNER, need.why)
        self.assertIs(self.need(demand("none"), by_mx(SIGNED)), NO_NEED)
        need = self.need(demand("verified", require_tls=True), by_mx(SIGNED))
        self.assertEqual((need.require_tls, need.by_dane), (True, True))
        self.assertIn("REQUIRETLS", need.why)

    def test_unusable(self) -> None:
        """Records none of which can be used ask for TLS, with any certificate (RFC 7672 section 2.2); who asks for a
        verified one still gets it."""
        self.zone[OWNER] = {"TLSA": [USELESS]}
        need = self.need(demand(), by_mx(SIGNED))
        self.assertEqual((need.level, need.by_dane, need.reason), ("required", False, Reason.DANE_FAILED))
        self.assertEqual(self.need(demand("verified"), by_mx(SIGNED)).level, "verified")
        need = self.need(demand(), by_mx(SIGNED, sts()))
        self.assertEqual((need.level, need.reason), ("verified", Reason.MTA_STS_FAILED))

    def test_unsigned(self) -> None:
        """They count only when MX records, addresses and they are signed."""
        for exchanger in (PLAIN, SIGNED._replace(secure=False), SIGNED._replace(addresses_secure=False)):
            self.assertEqual(self.need(demand(), by_mx(exchanger)).level, "opportunistic")
        self.resolver.signed = (MX,)
        self.assertEqual(self.need(demand(), by_mx(SIGNED)).level, "opportunistic")

    def test_failed(self) -> None:
        """When they cannot be looked up the host is left alone: that is no "there are none" (RFC 7672 section 2.1)."""
        self.zone[OWNER] = {"TLSA": DNSError("192.0.2.53:53 answered SERVFAIL")}
        for asked in (demand(), demand("required"), demand("verified", require_tls=True)):
            need = self.need(asked, by_mx(SIGNED))
            self.assertEqual((need.reason, need.status, need.result), (Reason.DANE_FAILED, "4.7.5", "dnssec-invalid"))
            self.assertIn("SERVFAIL", need.refusal)

    def test_broken_before(self) -> None:
        """That its TLS broke before gives such a host no mail in the clear."""
        self.security.broke("192.0.2.1:25")
        self.assertTrue(self.need(demand(), by_mx(SIGNED)).by_dane)

    def test_switched_off(self) -> None:
        """With outbound.dane off nobody looks."""
        self.security = self.make(OutboundSettings(dane=False))
        self.assertEqual(self.need(demand(), by_mx(SIGNED)).level, "opportunistic")
        self.assertEqual(self.resolver.asked, [])

    def test_optional(self) -> None:
        """Nor do they hold up a mail with TLS-Required: No; the route still may."""
        self.assertEqual(self.need(demand(optional=True), by_mx(SIGNED, sts())).level, "opportunistic")
        need = self.need(demand("required", optional=True), by_mx(SIGNED, sts()))
        self.assertEqual((need.level, need.source), ("required", "the route"))

    def test_brackets(self) -> None:
        """A host in brackets has its records at its own port, and its certificate may not be for another domain."""
        self.zone[f"_587._tcp.{MX}"] = {"TLSA": [GOOD]}
        need = self.need(demand(), Found(MX, 587, False, SIGNED, LIMIT))
        assert need.tlsa is not None
        self.assertEqual((need.tlsa.owner, need.tlsa.names), (f"_587._tcp.{MX}", (MX,)))
        alias = SIGNED._replace(host="alias.example", canonical=MX)
        need = self.need(demand(), Found("alias.example", 587, False, alias, LIMIT))
        assert need.tlsa is not None
        self.assertEqual(need.tlsa.names, (MX,))
        need = self.need(demand(), by_mx(SIGNED))
        assert need.tlsa is not None
        self.assertEqual(need.tlsa.names, (MX, "example.net"))

    def test_before_policy(self) -> None:
        """A host with records follows them, whatever the policy says: whether it names the host or not."""
        for policy in (sts(), sts(exchangers=("other.example",)), sts("testing")):
            need = self.need(demand(), by_mx(SIGNED, policy))
            self.assertEqual((need.by_dane, need.refusal, need.reason), (True, "", Reason.DANE_FAILED))


class AliasTests(Case):
    """RFC 7672 section 2.2.3: the name that TLSA records are asked for, when the host is an alias."""

    ALIAS = Exchanger(MX, 10, ADDRESSES, True, True, "host.example")

    def base(self, exchanger: Exchanger) -> str:
        need = self.need(demand(), by_mx(exchanger))
        return need.tlsa.base if need.tlsa is not None else ""

    def test_bases(self) -> None:
        """The name at the end of the CNAMEs, then the first; behind an unsigned one only the alias itself."""
        self.zone[MX] = {"CNAME": ["host.example"]}
        self.assertEqual(self.base(self.ALIAS), "")
        self.zone[OWNER] = {"TLSA": [GOOD]}
        self.assertEqual(self.base(self.ALIAS), MX)
        self.zone["_25._tcp.host.example"] = {"TLSA": [GOOD]}
        self.assertEqual(self.base(self.ALIAS), "host.example")
        unsigned = self.ALIAS._replace(addresses_secure=False)
        self.assertEqual(self.base(unsigned), MX)
        self.resolver.signed = (OWNER,)
        self.assertEqual(self.base(unsigned), "")
        self.assertEqual(self.base(SIGNED._replace(canonical="", host="192.0.2.1")), "")


class StsTests(Case):
    """What a domain's MTA-STS policy asks for."""

    def found(self, policy: StsPolicy | None, asked: Demand | None = None, mx: bool = True) -> Any:
        self.policies = Policies(policy)
        self.security.policies = self.policies
        return self.successResultOf(Deferred.fromCoroutine(self.security.policy(asked or demand(), "example.net", mx)))

    def test_find(self) -> None:
        """Asked for next hops found by MX records; one of mode "none" asks for nothing."""
        modes: tuple[tuple[Mode, bool], ...] = (("enforce", True), ("testing", True), ("none", False))
        for mode, expected in modes:
            self.assertEqual(self.found(sts(mode)) is not None, expected)
            self.assertEqual(self.policies.asked, ["example.net"])
        self.assertIsNone(self.found(sts(), mx=False))
        self.assertIsNone(self.found(sts(), demand("none")))
        self.security = self.make(OutboundSettings(mta_sts=False))
        self.assertIsNone(self.found(sts()))
        self.assertEqual(self.policies.asked, [])

    def test_rule_and_pin(self) -> None:
        """A route without TLS does not switch the policy off where a rule or ``outbound.pin`` wants TLS."""
        security = self.make(OutboundSettings(pin=("example.net",)), levels=Levels(example_net="encrypted"))
        self.security.policies = security.policies = Policies(sts())
        rows: list[tuple[TlsLevel | None, Security, bool]] = [
            ("required", self.security, True),
            ("opportunistic", self.security, True),
            ("none", self.security, False),
            (None, self.security, False),
            (None, security, True),
        ]
        for level, asked, expected in rows:
            limit = LIMIT._replace(tls=level)
            finding = Deferred.fromCoroutine(asked.policy(demand("none"), "example.net", True, limit))
            self.assertEqual(self.successResultOf(finding) is not None, expected, level)

    def test_enforce(self) -> None:
        """A host that the policy names must show a verified certificate (RFC 8461 section 4)."""
        for level in LEVELS[1:3]:
            need = self.need(demand(level), by_mx(PLAIN, sts()))
            self.assertEqual((need.level, need.reason, need.refusal), ("verified", Reason.MTA_STS_FAILED, ""))
            self.assertEqual(need.source, "MTA-STS policy 20261128")
            self.assertIn("example.net", need.why)
        self.assertEqual(self.need(demand("verified"), by_mx(PLAIN, sts())).source, "the route")

    def test_not_named(self) -> None:
        """One that it does not name is not even connected to (RFC 8461 section 5)."""
        for level in LEVELS[1:]:
            need = self.need(demand(level), by_mx(PLAIN, sts(exchangers=("other.example",))))
            self.assertEqual((need.reason, need.result), (Reason.MTA_STS_FAILED, "validation-failure"))
            self.assertIn(MX, need.refusal)

    def test_testing(self) -> None:
        """A policy that only tests asks for nothing, and is remembered for the report."""
        for policy in (sts("testing"), sts("testing", ("other.example",))):
            need = self.need(demand(), by_mx(PLAIN, policy))
            self.assertEqual((need.level, need.refusal, need.policy), ("opportunistic", "", policy))

    def test_broken_before(self) -> None:
        """That its TLS broke before gives a host under an enforced policy no mail in the clear."""
        self.security.broke("192.0.2.1:25")
        self.assertEqual(self.need(demand(), by_mx(PLAIN, sts())).level, "verified")


class CameToTests(Case):
    """What is remembered and noted."""

    def outcome(self, found: Found, judgement: Judgement | None, asked: Demand | None = None) -> TlsOutcome | None:
        asked = asked or demand()
        need = self.need(asked, found)
        self.security.came_to(asked, found, need, judgement, ("192.0.2.9", "192.0.2.1"))
        return self.notes.pop() if self.notes else None

    def test_policies(self) -> None:
        """An outcome names the policy the session was under, with its lines."""
        good = Judgement("verified", "verified")
        self.assertEqual(
            self.outcome(by_mx(), good),
            TlsOutcome("example.net", "no-policy-found", (), (), MX, "192.0.2.9", "192.0.2.1", "", ""),
        )
        lines = ("version: STSv1", "mode: enforce", f"mx: {MX}", "max_age: 86400")
        found = self.outcome(by_mx(PLAIN, sts()), good)
        assert found is not None
        self.assertEqual(found[1:4], ("sts", lines, (MX,)))
        self.zone[OWNER] = {"TLSA": [GOOD]}
        found = self.outcome(by_mx(SIGNED, sts()), good)
        assert found is not None
        self.assertEqual(found[1:4], ("tlsa", ("3 1 1 " + "01" * 32,), ()))
        self.zone[OWNER] = {"TLSA": DNSError("SERVFAIL")}
        found = self.outcome(by_mx(SIGNED), Judgement("", "no", result="dnssec-invalid"))
        assert found is not None
        self.assertEqual((found.policy_type, found.result, found.words), ("tlsa", "dnssec-invalid", "no"))

    def test_not_noted(self) -> None:
        """Hosts in brackets, mails that ask for no TLS, and connections that never came so far make no outcome."""
        good = Judgement("verified", "verified")
        self.assertIsNone(self.outcome(Found(MX, 25, False, SIGNED, LIMIT), good))
        self.assertIsNone(self.outcome(by_mx(), good, demand(optional=True)))
        self.assertIsNone(self.outcome(by_mx(), None))

    def test_words(self) -> None:
        """What a certificate says reaches a report as one clean line, however long."""
        evil = Judgement("encrypted", "it is for \r\n\x1b[31m\u202e" + "x" * 5000, result="certificate-host-mismatch")
        found = self.outcome(by_mx(PLAIN, sts()), evil)
        assert found is not None
        self.assertTrue(found.words.isprintable())
        self.assertEqual(len(found.words), 300)

    def test_remembered(self) -> None:
        """The level that was reached is remembered of pinned domains only."""
        levels = Levels()
        self.security = self.make(OutboundSettings(pin=("example.net",)), levels=levels)
        self.outcome(by_mx(), Judgement("", "offers no STARTTLS"))
        self.assertEqual(levels.known, {})
        self.outcome(by_mx(), Judgement("encrypted", ""))
        self.outcome(by_mx()._replace(domain="other.example"), Judgement("dane", ""))
        self.assertEqual(levels.known, {"example.net": "encrypted"})
