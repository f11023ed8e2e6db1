"""Tests of twisted_mail_node.outbound.security."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.outbound.remote import HEADER, SENDER, Content
from twisted_mail_node.dns.exchangers import NoExchanger
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.outbound.security import BROKEN_FOR, BROKEN_MAX, FELL_BACK, Demand, Need, Security, demand_of
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.settings import TlsLevel

JOE = Address("joe", "example.net")
LEVELS: tuple[TlsLevel, ...] = ("none", "opportunistic", "required", "verified")


def request(level: TlsLevel, sender: Address | None = SENDER, **envelope: Any) -> DeliveryRequest:
    recipients = (Recipient(JOE, JOE),)
    return DeliveryRequest(
        "q1", Envelope(sender, recipients, **envelope), recipients, HEADER, Content(b""), "example.net", 60.0, level
    )


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


class NeedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 1000.0
        self.security = Security(lambda: self.now)

    def need(self, level: TlsLevel, address: str = "192.0.2.1:25", mx: bool = True) -> Need:
        return self.security.need(Demand("example.net", level, False), address, mx)

    def test_levels(self) -> None:
        """The need has the route's level; of those that must have TLS it says who asks."""
        needs = [self.need(level) for level in LEVELS]
        self.assertEqual([need.level for need in needs], list(LEVELS))
        self.assertEqual([need.must for need in needs], [False, False, True, True])
        self.assertEqual([bool(need.why) for need in needs], [False, False, True, True])
        self.assertIn('let the route ask for tls = "required"', needs[3].why)

    def test_sure(self) -> None:
        """A name out of an MX record is not sure, one in brackets is."""
        self.assertFalse(self.need("verified").sure)
        self.assertTrue(self.need("verified", mx=False).sure)

    def test_requiretls(self) -> None:
        """REQUIRETLS needs a verified certificate, and goes by no MX record."""
        demand = Demand("[mail.example.net]", "verified", True)
        self.security.check_way(demand, mx=False)
        need = self.security.need(demand, "192.0.2.1:25", mx=False)
        self.assertEqual(need[:3], ("verified", True, True))
        error = self.assertRaises(NoExchanger, self.security.check_way, demand._replace(next_hop="a.example:26"), True)
        self.assertEqual((error.permanent, error.status), (True, "5.7.10"))
        self.assertIn("[mail.a.example]", error.words)

    def test_broken(self) -> None:
        """A host whose TLS broke is remembered for a while, by those only who do not need it."""
        self.security.broke("192.0.2.1:25")
        self.assertEqual([self.need(level) is FELL_BACK for level in LEVELS], [False, True, False, False])
        self.assertIsNot(self.need("opportunistic", "192.0.2.2:25"), FELL_BACK)
        self.now += BROKEN_FOR
        self.assertIsNot(self.need("opportunistic"), FELL_BACK)

    def test_broken_bound(self) -> None:
        """Of very many the oldest are forgotten."""
        for number in range(BROKEN_MAX + 1):
            self.security.broke(f"{number}")
            if number == 10:
                self.security.broke("0")
        self.assertEqual(len(self.security._broken), BROKEN_MAX)
        found = [self.need("opportunistic", str(number)) is FELL_BACK for number in range(3)]
        self.assertEqual(found, [True, False, True])
