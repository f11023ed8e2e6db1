"""Tests of twisted_mail_node.outbound.sources, and of connections that come from its addresses."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.outbound.remote import Node, Resolver
from twisted_mail_node.dns.answer import MX
from twisted_mail_node.message.status import Action
from twisted_mail_node.outbound.sources import ANY, Chosen, Sources
from twisted_mail_node.queue.limits import Limits
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import DestinationRule, QueueSettings, Source

THERE = "192.0.2.1"
#: A domain with one host that has addresses of both families.
BOTH = Resolver(
    {
        ("example.net", "MX"): (MX(10, "mx.example.net"),),
        ("mx.example.net", "A"): (THERE,),
        ("mx.example.net", "AAAA"): ("2001:db8::1",),
    }
)


def source(address: str, weight: int = 1, pool: str = "bulk", hostname: str | None = None) -> Source:
    return Source(pool=pool, address=address, weight=weight, hostname=hostname)


class ChoiceTests(SynchronousTestCase):
    """Which address is next."""

    @given(st.lists(st.integers(1, 20), min_size=1, max_size=6))
    def test_weights(self, weights: list[int]) -> None:
        """In as many connections as all weights together, each address has as many as its own weight: exactly."""
        sources = Sources(source(f"198.51.100.{n}", weight) for n, weight in enumerate(weights))
        for _ in range(2):
            chosen = Counter(sources.choose("bulk", THERE) for _ in range(sum(weights)))
            self.assertEqual(chosen, {Chosen(f"198.51.100.{n}"): weight for n, weight in enumerate(weights)})

    def test_smooth(self) -> None:
        """A light address has its turn amid those of a heavy one, not after them all."""
        sources = Sources([source("198.51.100.1", 5), source("198.51.100.2", 1), source("198.51.100.3", 1)])
        chosen = [sources.choose("bulk", THERE) for _ in range(7)]
        light = [n for n, one in enumerate(chosen) if one != Chosen("198.51.100.1")]
        self.assertEqual(len(light), 2)
        self.assertTrue(all(after - before > 1 for before, after in pairwise(light)))

    def test_family(self) -> None:
        """An address connects to its own family only; each family has its own turns."""
        sources = Sources([source("198.51.100.1"), source("2001:db8::7")])
        self.assertEqual(sources.choose("bulk", THERE), Chosen("198.51.100.1"))
        self.assertEqual(sources.choose("bulk", "2001:db8::1"), Chosen("2001:db8::7"))
        sources.reload([source("198.51.100.1")])
        self.assertIsNone(sources.choose("bulk", "2001:db8::1"))

    def test_without(self) -> None:
        """Addresses that cannot be used are left out, and none is left in the end."""
        sources = Sources([source("198.51.100.1", 9), source("198.51.100.2")])
        self.assertEqual(sources.choose("bulk", THERE, ["198.51.100.1"]), Chosen("198.51.100.2"))
        self.assertIsNone(sources.choose("bulk", THERE, ["198.51.100.1", "198.51.100.2"]))

    def test_pool(self) -> None:
        """The route's pool, else the destination's, else ``default``, else the system's choice."""
        sources = Sources([source("198.51.100.1")])
        self.assertEqual(sources.pool_for("", ""), "")
        self.assertEqual(sources.choose("", THERE), ANY)
        self.assertEqual(sources.pool_for("", "limit"), "limit")
        self.assertEqual(sources.pool_for("route", "limit"), "route")
        sources.reload([source("198.51.100.1", pool="default")])
        self.assertEqual(sources.pool_for("", ""), "default")

    def test_this_machine(self) -> None:
        """``default`` is for other machines; a pool that is named is for all."""
        sources = Sources([source("198.51.100.1", pool="default"), source("198.51.100.2")])
        self.assertEqual(sources.choose("default", "127.0.0.1"), ANY)
        self.assertEqual(sources.choose("bulk", "127.0.0.1"), Chosen("198.51.100.2"))

    def test_gone(self) -> None:
        """A pool that the settings no longer have is nobody's choice, not the system's."""
        self.assertIsNone(Sources().choose("bulk", THERE))


class ConnectionTests(SynchronousTestCase):
    """Connections from the addresses of a pool."""

    def node(self, *sources: Source, rules: tuple[DestinationRule, ...] = (), resolver: Resolver = BOTH) -> Node:
        parts = {"sources": Sources(sources), "limits": Limits(rules, QueueSettings())}
        return Node(resolver, parts)

    def test_used(self) -> None:
        """A connection comes from the chosen address, says its name in EHLO, and the status tells the address."""
        node = self.node(source("198.51.100.1", hostname="out1.example.org"))
        sent = node.send(way={"source": "bulk"})
        self.assertEqual(node.used, ["198.51.100.1"])
        host = node.hosts[0]
        self.assertEqual(host.says("220 hi"), b"EHLO out1.example.org\r\n")
        host.offers("PIPELINING")
        host.says("250 ok", "250 ok", "354 go")
        host.says("250 2.0.0 taken")
        (status,) = self.successResultOf(sent)
        self.assertEqual((status.action, status.source), (Action.RELAYED, "198.51.100.1"))

    def test_chosen_by(self) -> None:
        """The route's pool, else the destination's, else ``default``; without any, the system chooses."""
        pools = [source("198.51.100.1", pool=name) for name in ("a", "b", "default")]
        for number, one in enumerate(pools, 1):
            pools[number - 1] = one.model_copy(update={"address": f"198.51.100.{number}"})
        rule = DestinationRule(domains=("example.net",), source="b")
        for way, rules, those, wanted in (
            ({"source": "a"}, (rule,), pools, "198.51.100.1"),
            ({}, (rule,), pools, "198.51.100.2"),
            ({}, (), pools, "198.51.100.3"),
            ({}, (), pools[:2], ""),
        ):
            node = self.node(*those, rules=rules)
            node.send(way=way)
            self.assertEqual(node.used, [wanted])

    def test_other_family(self) -> None:
        """An address of the host that no source fits is passed over without a word."""
        node = self.node(source("198.51.100.1"))
        node.send(way={"source": "bulk"})
        self.assertEqual([host.ip for host in node.hosts], [THERE])
        self.assertEqual(node.failed, [])

    def test_nothing_left(self) -> None:
        """Where no address of the host fits, the mail is delayed, and the words name pool and family."""
        resolver = Resolver({("example.net", "MX"): (MX(10, "mx.example.net"),), ("mx.example.net", "A"): (THERE,)})
        node = self.node(source("2001:db8::7"), resolver=resolver)
        (status,) = self.successResultOf(node.send(way={"source": "bulk"}))
        self.assertEqual(status[:3], (Action.DELAYED, "4.4.1", Reason.NO_SOURCE))
        self.assertIn('pool "bulk" has no IPv4 address', status.words)
        self.assertEqual((node.used, node.relay.status()), ([], []))

    def test_other_failure_counts_more(self) -> None:
        """What an address said that could be tried is told, not that another could not be."""
        node = self.node(source("2001:db8::7"))
        node.down = {"2001:db8::1"}
        (status,) = self.successResultOf(node.send(way={"source": "bulk"}))
        self.assertEqual(status.reason, Reason.CONNECT_FAILED)

    def test_cannot_bind(self) -> None:
        """An address that is not this machine's is left for another of the pool, and an event tells."""
        node = self.node(source("198.51.100.1", 9), source("198.51.100.2"))
        node.foreign = {"198.51.100.1"}
        node.send(way={"source": "bulk"})
        self.assertEqual(node.used, ["198.51.100.2"])
        (event,) = node.failed
        self.assertEqual(event.reason, "no-source")
        self.assertIn("from 198.51.100.1: the address cannot be used here", event.words)

    def test_cannot_bind_any(self) -> None:
        """When none of them is, the mail is delayed and the words name them."""
        node = self.node(source("198.51.100.1"), source("198.51.100.2"))
        node.foreign = {"198.51.100.1", "198.51.100.2"}
        (status,) = self.successResultOf(node.send(way={"source": "bulk"}))
        self.assertEqual(status.reason, Reason.NO_SOURCE)
        self.assertIn("(198.51.100.1, 198.51.100.2 cannot)", status.words)

    def test_own_connections(self) -> None:
        """Mail that must come from different pools does not share connections."""
        node = self.node(source("198.51.100.1", pool="a"), source("198.51.100.2", pool="b"))
        for pool in ("a", "b"):
            node.send(way={"source": pool})
        self.assertEqual(node.used, ["198.51.100.1", "198.51.100.2"])
