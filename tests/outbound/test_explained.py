"""Tests of RelayManager.explain and twisted_mail_node.outbound.explained: what the way to a next hop is like."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.outbound.remote import TWO_HOSTS, Node, Resolver
from twisted_mail_node.dns.answer import TLSA, DNSError
from twisted_mail_node.outbound.sources import Sources
from twisted_mail_node.queue.limits import Limits
from twisted_mail_node.settings import DestinationRule, QueueSettings, Source


class ExplainTests(SynchronousTestCase):
    """What is told."""

    def told(self, next_hop: str, *rules: DestinationRule, resolver: Resolver = TWO_HOSTS, **asked: Any) -> Any:
        sources = Sources([Source(pool="default", address="198.51.100.1"), Source(pool="b", address="198.51.100.2")])
        self.node = Node(resolver, {"limits": Limits(rules, QueueSettings()), "sources": sources})
        told = self.successResultOf(Deferred.fromCoroutine(self.node.relay.explain(next_hop, **asked)))
        self.assertEqual((self.node.hosts, self.node.relay.status()), ([], []))
        return cast("Any", told)

    def test_exchangers(self) -> None:
        """The hosts in the order to try them, with their addresses; nobody is connected to."""
        told = self.told("example.net")
        tls = {"level": "opportunistic", "why": "nobody asks for more"}
        self.assertEqual(
            told["exchangers"],
            [
                {"host": "mx1.example.net", "preference": 10, "addresses": ["192.0.2.1"], "tls": tls},
                {"host": "mx2.example.net", "preference": 20, "addresses": ["192.0.2.2"], "tls": tls},
            ],
        )
        self.assertEqual(told["source"], {"pool": "default", "addresses": ["198.51.100.1"]})
        self.assertEqual((told["limit"]["why"], told["limit"]["connections"]), ("[queue]", 20))
        self.assertNotIn("problem", told)

    def test_rule(self) -> None:
        """A rule by exchangers is found by those; its level counts where it is stronger than the route's."""
        rule = DestinationRule(exchangers=("mx2.example.net",), connections=3, tls="required", source="b")
        told = self.told("example.net", rule)
        self.assertEqual(told["limit"]["why"], "destination[1], by its exchangers")
        self.assertEqual(told["source"]["pool"], "b")
        for level, wanted in (
            ("opportunistic", {"level": "required", "why": "destination[1], by its exchangers"}),
            ("verified", {"level": "verified", "why": "the route"}),
        ):
            told = self.told("example.net", rule, tls=level)
            self.assertEqual(told["exchangers"][0]["tls"], wanted)

    def test_dane(self) -> None:
        """TLSA records are told of before there is a mail, and that they cannot be had."""
        owner = "_25._tcp.mx1.example.net"
        records: Any = (TLSA(3, 1, 1, b"\1" * 32),)
        table: dict[tuple[str, str], Any] = {**TWO_HOSTS.table, (owner, "TLSA"): records}
        one, two = self.told("example.net", resolver=Resolver(table, signed=True))["exchangers"]
        self.assertEqual(one["tls"], {"level": "dane", "why": f"DANE, the TLSA records at {owner}"})
        self.assertEqual(two["tls"], {"level": "opportunistic", "why": "nobody asks for more"})
        table[owner, "TLSA"] = DNSError("SERVFAIL")
        one, _ = self.told("example.net", resolver=Resolver(table, signed=True))["exchangers"]
        self.assertEqual(one["tls"]["level"], "refused")
        self.assertIn("SERVFAIL", one["tls"]["why"])

    def test_sign_in(self) -> None:
        """Where somebody signs in, there is no going without TLS, but on this machine."""
        tls = self.told("example.net", credentials="route[1]")["exchangers"][0]["tls"]
        self.assertEqual(tls, {"level": "required", "why": "route[1] signs in, and a password goes over TLS only"})
        tls = self.told("example.net", tls="verified", credentials="route[1]")["exchangers"][0]["tls"]
        self.assertEqual(tls["level"], "verified")
        tls = self.told("[127.0.0.1]:587", credentials="route[1]")["exchangers"][0]["tls"]
        self.assertEqual(tls["level"], "opportunistic")

    def test_no_exchanger(self) -> None:
        """Why there is nobody."""
        told = self.told("example.net", resolver=Resolver({}))
        self.assertEqual(told["exchangers"], [])
        self.assertEqual((told["problem"]["reason"], told["problem"]["permanent"]), ("no-such-domain", True))

    def test_socket(self) -> None:
        """A socket has no hosts."""
        told = self.told("unix:/run/lmtp", transport="lmtp", source="b")
        self.assertEqual((told["exchangers"], told["transport"]), ([], "lmtp"))
        self.assertEqual(told["source"], {"pool": "", "addresses": []})

    def test_this_machine(self) -> None:
        """A loopback address is told as such."""
        told = self.told("[127.0.0.1]:25", tls="none")
        self.assertEqual(told["exchangers"][0]["tls"], {"level": "none", "why": "the route; it is this machine"})
        self.assertEqual(told["source"]["pool"], "")
        self.assertEqual(self.told("[127.0.0.1]:25", source="b")["source"]["pool"], "b")
