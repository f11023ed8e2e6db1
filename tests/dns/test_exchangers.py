"""Tests of ``twisted_mail_node.dns.exchangers``."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.dns.fake import FakeResolver, Zone
from twisted_mail_node.dns.answer import MX, Answer, DNSError
from twisted_mail_node.dns.exchangers import (
    MAX_ADDRESSES,
    MAX_EXCHANGERS,
    Exchanger,
    HostAddress,
    NoExchanger,
    exchangers,
    host_addresses,
    named_host,
)
from twisted_mail_node.interfaces import IResolver
from twisted_mail_node.reasons import Reason
from twisted_mail_node.waiting import DeadlineError, within

BROKEN = DNSError("192.0.2.53:53 answered SERVFAIL when asked for A of x")


def four(ip: str) -> tuple[HostAddress, ...]:
    return (HostAddress(ip, 4),)


def leave(records: list[MX]) -> None:
    """A shuffle that leaves the order."""


class ExchangerTests(SynchronousTestCase):
    def find(self, zone: Zone, domain: str = "example.org", **options: Any) -> list[Exchanger]:
        options = {"shuffle": leave, **options}
        found: list[Exchanger] = self.successResultOf(
            Deferred.fromCoroutine(exchangers(FakeResolver(zone), domain, **options))
        )
        return found

    def refused(self, zone: Zone, domain: str = "example.org", **options: Any) -> tuple[Reason, bool, str]:
        asking = Deferred.fromCoroutine(exchangers(FakeResolver(zone), domain, **options))
        error = self.failureResultOf(asking, NoExchanger).value
        self.assertTrue(error.words)
        return error.reason, error.permanent, error.status

    def names(self, zone: Zone, **options: Any) -> list[str]:
        return [exchanger.host for exchanger in self.find(zone, **options)]

    def test_order(self) -> None:
        """Exchangers come by preference, each with its addresses."""
        zone: Zone = {
            "example.org": {"MX": [MX(20, "b.example.org"), MX(10, "a.example.org")]},
            "a.example.org": {"A": ["192.0.2.1"]},
            "b.example.org": {"A": ["192.0.2.2"]},
        }
        self.assertEqual(
            self.find(zone),
            [
                Exchanger("a.example.org", 10, four("192.0.2.1"), canonical="a.example.org"),
                Exchanger("b.example.org", 20, four("192.0.2.2"), canonical="b.example.org"),
            ],
        )

    def test_equal_ones_are_mixed(self) -> None:
        """Equal preferences keep the order that the shuffle made; better ones still come first."""
        zone: dict[str, Any] = {f"{host}.example": {"A": ["192.0.2.1"]} for host in "abcd"}
        zone["example.org"] = {
            "MX": [MX(10, "a.example"), MX(10, "b.example"), MX(5, "c.example"), MX(10, "d.example")]
        }
        self.assertEqual(self.names(zone, shuffle=list.reverse), ["c.example", "d.example", "b.example", "a.example"])

    def test_implicit_mx(self) -> None:
        """A domain without MX is its own exchanger (RFC 5321 section 5.1)."""
        self.assertEqual(
            self.find({"example.org": {"A": ["192.0.2.1"]}}),
            [Exchanger("example.org", 0, four("192.0.2.1"), canonical="example.org")],
        )

    def test_aliases(self) -> None:
        """A CNAME is followed at the domain, and at an exchanger too, though RFC 2181 forbids it there."""
        zone: Zone = {
            "example.org": {"CNAME": ["real.example"]},
            "real.example": {"MX": [MX(10, "mx.example")]},
            "mx.example": {"CNAME": ["host.example"]},
            "host.example": {"A": ["192.0.2.1"]},
            "plain.example": {"CNAME": ["host.example"]},
        }
        found = Exchanger("mx.example", 10, four("192.0.2.1"), canonical="host.example")
        self.assertEqual(self.find(zone), [found])
        self.assertEqual(self.find(zone, "plain.example"), [found._replace(host="host.example", preference=0)])

    def test_null_mx(self) -> None:
        """A null MX ends it for good (RFC 7505); beside other exchangers it means nothing."""
        self.assertEqual(self.refused({"example.org": {"MX": [MX(0, "")]}}), (Reason.NULL_MX, True, "5.1.10"))
        zone: Zone = {"example.org": {"MX": [MX(0, ""), MX(10, "a.example")]}, "a.example": {"A": ["192.0.2.1"]}}
        self.assertEqual(self.names(zone), ["a.example"])

    def test_no_such_domain(self) -> None:
        """NXDOMAIN ends it for good."""
        self.assertEqual(self.refused({}), (Reason.NO_SUCH_DOMAIN, True, "5.1.2"))

    def test_dns_failed(self) -> None:
        """Without an answer about MX, we wait; the A record is not taken instead."""
        self.assertEqual(
            self.refused({"example.org": {"MX": BROKEN, "A": ["192.0.2.1"]}}), (Reason.DNS_FAILED, False, "4.4.3")
        )

    def test_no_address(self) -> None:
        """No exchanger with an address: final when the DNS is sure, a delay when a look-up failed."""
        zone: dict[str, Any] = {"example.org": {"MX": [MX(10, "a.example"), MX(20, "b.example")]}, "a.example": {}}
        self.assertEqual(self.refused(zone), (Reason.NO_MX_ADDRESS, True, "5.4.4"))
        zone["b.example"] = {"AAAA": BROKEN}
        self.assertEqual(self.refused(zone), (Reason.DNS_FAILED, False, "4.4.4"))
        self.assertEqual(self.refused({"example.org": {"TXT": [b"x"]}}), (Reason.NO_MX_ADDRESS, True, "5.4.4"))

    def test_one_look_up_fails(self) -> None:
        """What was found is used, though a look-up failed."""
        zone: Zone = {
            "example.org": {"MX": [MX(10, "a.example"), MX(20, "b.example")]},
            "a.example": BROKEN,
            "b.example": {"AAAA": BROKEN, "A": ["192.0.2.2"]},
        }
        self.assertEqual(self.names(zone), ["b.example"])

    def test_ourselves_by_name(self) -> None:
        """Our own name is left out, and whoever is not better than we are."""
        zone: dict[str, Any] = {f"{host}.example": {"A": ["192.0.2.1"]} for host in "abcd"}
        zone["example.org"] = {
            "MX": [MX(5, "a.example"), MX(10, "b.example"), MX(10, "c.example"), MX(20, "d.example")]
        }
        self.assertEqual(self.names(zone, own_names=["C.Example."]), ["a.example"])
        self.assertEqual(self.refused(zone, own_names=["a.example"]), (Reason.MX_IS_OURSELVES, True, "5.4.6"))

    def test_ourselves_by_address(self) -> None:
        """Our own address under another name counts the same."""
        zone: dict[str, Any] = {f"{host}.example": {"A": [f"192.0.2.{n}"]} for n, host in enumerate("abcd")}
        zone["example.org"] = {
            "MX": [MX(5, "a.example"), MX(10, "b.example"), MX(10, "c.example"), MX(20, "d.example")]
        }
        self.assertEqual(self.names(zone, own_addresses=["192.0.2.2"]), ["a.example"])
        self.assertEqual(self.refused(zone, own_addresses=["192.0.2.0"]), (Reason.MX_IS_OURSELVES, True, "5.4.6"))

    def test_ourselves_and_a_dead_better_one(self) -> None:
        """When only the better exchanger's look-up failed, we wait instead of calling it a loop."""
        zone: Zone = {
            "example.org": {"MX": [MX(5, "a.example"), MX(10, "us.example")]},
            "a.example": BROKEN,
            "us.example": {"A": ["192.0.2.9"]},
        }
        owns: tuple[dict[str, Any], ...] = ({"own_names": ["us.example"]}, {"own_addresses": ["192.0.2.9"]})
        for own in owns:
            self.assertEqual(self.refused(zone, **own), (Reason.DNS_FAILED, False, "4.4.4"))

    def test_unusable_addresses(self) -> None:
        """Addresses that would make us talk to ourselves or to what is beside us are not used."""
        for ip in (
            "127.0.0.1", "127.9.9.9", "0.0.0.0", "0.1.2.3", "169.254.169.254", "224.0.0.1", "240.0.0.1",
            "255.255.255.255",
        ):  # fmt: skip
            self.assertEqual(self.refused({"example.org": {"A": [ip]}})[:2], (Reason.NO_MX_ADDRESS, True), ip)
        for ip in ("::1", "::", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:0:0", "fe80::1", "ff02::1"):
            self.assertEqual(self.refused({"example.org": {"AAAA": [ip]}})[:2], (Reason.NO_MX_ADDRESS, True), ip)

    def test_private_addresses(self) -> None:
        """Private networks are used: sites have mail hosts inside."""
        self.assertEqual(
            self.find({"example.org": {"A": ["10.0.0.1"], "AAAA": ["fd00::1"]}})[0].addresses,
            (HostAddress("fd00::1", 6), HostAddress("10.0.0.1", 4)),
        )

    def test_loopback_allowed(self) -> None:
        """Loopback is used where the caller allows it, and nothing else is allowed with it."""
        zone: Zone = {"example.org": {"A": ["127.0.0.1", "0.0.0.0"], "AAAA": ["::1"]}}
        self.assertEqual(
            self.find(zone, allow_loopback=True)[0].addresses, (HostAddress("::1", 6), HostAddress("127.0.0.1", 4))
        )

    def test_families_take_turns(self) -> None:
        """IPv6 and IPv4 alternate, so that a broken family costs one try."""
        zone: Zone = {
            "example.org": {"A": ["192.0.2.1", "192.0.2.2", "192.0.2.3"], "AAAA": ["2001:db8::1", "2001:db8::2"]}
        }
        self.assertEqual(
            [address.ip for address in self.find(zone)[0].addresses],
            ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "192.0.2.3"],
        )

    def test_bounds(self) -> None:
        """A thousand exchangers with a thousand addresses become a few, and few questions."""
        zone: dict[str, Any] = {
            f"m{n}.example": {"A": [f"192.0.{i // 250}.{i % 250 + 1}" for i in range(1000)]} for n in range(1000)
        }
        zone["example.org"] = {"MX": [MX(n, f"m{n}.example") for n in range(1000)]}
        resolver = FakeResolver(zone)
        found = self.successResultOf(Deferred.fromCoroutine(exchangers(resolver, "example.org")))
        self.assertEqual([exchanger.preference for exchanger in found], list(range(MAX_EXCHANGERS)))
        self.assertEqual({len(exchanger.addresses) for exchanger in found}, {MAX_ADDRESSES})
        self.assertEqual(len(resolver.asked), 1 + 2 * MAX_EXCHANGERS)

    def test_the_same_host_twice(self) -> None:
        """A host that is listed twice is tried once, with its better preference."""
        zone: Zone = {
            "example.org": {"MX": [MX(20, "a.example"), MX(10, "a.example")]},
            "a.example": {"A": ["192.0.2.1"]},
        }
        self.assertEqual(self.find(zone), [Exchanger("a.example", 10, four("192.0.2.1"), canonical="a.example")])

    def test_signed(self) -> None:
        """An exchanger is secure when the MX records are signed with every CNAME before them, or their absence is; its
        addresses are when they are signed with every CNAME before them. One does not stand for the other."""
        zone: Zone = {
            "example.org": {"CNAME": ["real.example"]},
            "real.example": {"MX": [MX(10, "mx.example")]},
            "mx.example": {"CNAME": ["host.example"]},
            "host.example": {"A": ["192.0.2.1"]},
            "plain.example": {"A": ["192.0.2.1"]},
        }

        def signed(domain: str, *names: str) -> tuple[bool, bool]:
            asking = exchangers(FakeResolver(zone, names), domain)
            (found,) = self.successResultOf(Deferred.fromCoroutine(asking))
            return found.secure, found.addresses_secure

        self.assertEqual(signed("example.org"), (False, False))
        self.assertEqual(signed("example.org", *zone), (True, True))
        self.assertEqual(signed("example.org", "example.org", "real.example"), (True, False))
        self.assertEqual(signed("example.org", "example.org", "host.example", "mx.example"), (False, True))
        self.assertEqual(signed("example.org", "real.example", "mx.example"), (False, False))
        self.assertEqual(signed("plain.example"), (False, False))
        self.assertEqual(signed("plain.example", "plain.example"), (True, True))

    def test_signed_families(self) -> None:
        """Addresses are secure when each family that has any is signed; one that cannot be looked up gives none."""

        class Families(FakeResolver):
            async def query(self, name: str, rdtype: str) -> Answer:
                answer = await super().query(name, rdtype)
                return answer._replace(authentic=answer.authentic and rdtype != "AAAA")

        for six, expected in (((), True), (["2001:db8::1"], False), (BROKEN, True)):
            zone: Zone = {"example.org": {"A": ["192.0.2.1"], "AAAA": six}}
            asking = exchangers(Families(zone, zone), "example.org")
            (found,) = self.successResultOf(Deferred.fromCoroutine(asking))
            self.assertEqual(found.addresses_secure, expected, six)

    def test_no_domain(self) -> None:
        """What cannot be a domain does not exist."""
        self.assertEqual(self.refused({}, "a..b"), (Reason.NO_SUCH_DOMAIN, True, "5.1.2"))


@implementer(IResolver)
class SlowResolver:
    """Answers MX at once and addresses never."""

    def __init__(self) -> None:
        self.waiting: list[Deferred[Answer]] = []
        self.cancelled = 0

    async def query(self, name: str, rdtype: str) -> Answer:
        if rdtype == "MX":
            return Answer(tuple([MX(n, f"m{n}.example") for n in range(20)]), True, False, name, 300)
        waiting: Deferred[Answer] = Deferred(self._cancel)
        self.waiting.append(waiting)
        return await waiting

    def _cancel(self, waiting: Deferred[Answer]) -> None:
        self.cancelled += 1


class WaitingTests(SynchronousTestCase):
    def test_at_once(self) -> None:
        """Addresses are looked up together, but not all of them; cancelling ends every look-up."""
        resolver = SlowResolver()
        asking = Deferred.fromCoroutine(exchangers(resolver, "example.org"))
        self.assertEqual(len(resolver.waiting), 16)
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.assertEqual(resolver.cancelled, len(resolver.waiting))

    def test_deadline(self) -> None:
        """A deadline around it is seen as a deadline."""
        clock = Clock()
        asking = Deferred.fromCoroutine(within(clock, 5, exchangers(SlowResolver(), "example.org")))
        clock.advance(5)
        self.failureResultOf(asking, DeadlineError)


class HostTests(SynchronousTestCase):
    def find(self, host: str, zone: Zone) -> tuple[HostAddress, ...]:
        found: tuple[HostAddress, ...] = self.successResultOf(
            Deferred.fromCoroutine(host_addresses(FakeResolver(zone), host))
        )
        return found

    def test_literals(self) -> None:
        """IP addresses are taken as they are, with and without brackets, loopback too."""
        for host, expected in (
            ("192.0.2.7", HostAddress("192.0.2.7", 4)),
            ("[127.0.0.1]", HostAddress("127.0.0.1", 4)),
            ("[IPv6:2001:DB8::1]", HostAddress("2001:db8::1", 6)),
            ("::1", HostAddress("::1", 6)),
        ):
            self.assertEqual(self.find(host, {}), (expected,))

    def test_name(self) -> None:
        """A name is looked up by A and AAAA, never by MX."""
        zone: Zone = {"relay.lan": {"MX": [MX(1, "x")], "A": ["127.0.0.1"], "AAAA": ["2001:db8::1"]}}
        self.assertEqual(self.find("[relay.lan]", zone), (HostAddress("2001:db8::1", 6), HostAddress("127.0.0.1", 4)))

    def test_signed(self) -> None:
        """Whoever names a host is sure of its name; whether its addresses are signed the DNS says. An IP address has
        no name to ask for."""
        zone: Zone = {"relay.lan": {"CNAME": ["host.lan"]}, "host.lan": {"A": ["192.0.2.1"]}}
        for names, expected in (((), False), (("relay.lan",), False), (("relay.lan", "host.lan"), True)):
            found = self.successResultOf(Deferred.fromCoroutine(named_host(FakeResolver(zone, names), "relay.lan")))
            self.assertEqual(found, Exchanger("relay.lan", 0, four("192.0.2.1"), True, expected, "host.lan"))
        found = self.successResultOf(Deferred.fromCoroutine(named_host(FakeResolver({}), "192.0.2.7")))
        self.assertEqual(found, Exchanger("192.0.2.7", 0, four("192.0.2.7"), True, False, ""))

    def test_nothing(self) -> None:
        """A host that cannot be found is a delay: the settings may be wrong."""
        zones: tuple[tuple[Zone, Reason], ...] = (
            ({}, Reason.NO_MX_ADDRESS),
            ({"relay.lan": BROKEN}, Reason.DNS_FAILED),
        )
        for zone, reason in zones:
            asking = Deferred.fromCoroutine(host_addresses(FakeResolver(zone), "relay.lan"))
            error = self.failureResultOf(asking, NoExchanger).value
            self.assertEqual((error.reason, error.permanent, error.status), (reason, False, "4.4.4"))
