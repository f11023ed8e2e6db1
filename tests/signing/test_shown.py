"""Tests of asking every name server of a zone for a key's record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.dns.fake import FakeResolver
from twisted_mail_node.dns.answer import DNSError, Record
from twisted_mail_node.signing.making import Wish, made
from twisted_mail_node.signing.shown import PLACES_MAX, NameServers, Shown, has_route

RECORD = made("example.org", Wish("ed25519", "k"), 0.0)[0].record
NAME = "k._domainkey.example.org"
TEXT: Sequence[Record] = [RECORD.encode()]
#: What our resolver knows.
WORLD: dict[str, Mapping[str, Sequence[Record] | DNSError] | DNSError] = {
    "example.org": {"NS": ["ns1.example.net", "ns2.example.net"]},
    "ns1.example.net": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
    "ns2.example.net": {"A": ["192.0.2.2"]},
}


class Case(SynchronousTestCase):
    """Name servers in memory."""

    def setUp(self) -> None:
        self.world = dict(WORLD)
        self.resolver = FakeResolver(self.world)
        shown: dict[str, Mapping[str, Sequence[Record] | DNSError] | DNSError] = {NAME: {"TXT": TEXT}}
        self.direct = {ip: FakeResolver(dict(shown)) for ip in ("192.0.2.1", "192.0.2.2", "2001:db8::1")}
        self.unreachable: set[str] = set()

    def shown(self, domain: str = "example.org", record: str = RECORD) -> Shown:
        servers = NameServers(self.resolver, self.direct.__getitem__, lambda ip: ip not in self.unreachable)
        return self.successResultOf(Deferred.fromCoroutine(servers.shown("k", domain, record)))


class ShownTest(Case):
    """Whether a record is shown."""

    def test_everywhere(self) -> None:
        """It is shown when every address of every name server shows it."""
        shown = self.shown()
        self.assertEqual(shown, Shown("example.org", 3, ()))
        self.assertTrue(shown.everywhere)
        self.assertEqual(shown.words, "")
        for server in self.direct.values():
            self.assertEqual(server.asked, [(NAME, "TXT")])

    def test_one_is_late(self) -> None:
        """One address that does not show it is enough to wait, and is named."""
        for ip, host in (("192.0.2.1", "ns1"), ("2001:db8::1", "ns1"), ("192.0.2.2", "ns2")):
            self.setUp()
            self.direct[ip].zone = {}
            shown = self.shown()
            self.assertFalse(shown.everywhere)
            self.assertEqual(shown.words, f"{host}.example.net ({ip}) does not show it")

    def test_another_key(self) -> None:
        """Another record at its place does not count, nor a second one."""
        other = made("example.org", Wish("ed25519", "o"), 0.0)[0].record.encode()
        self.direct["192.0.2.1"].zone = {NAME: {"TXT": [other]}}
        self.direct["192.0.2.2"].zone = {NAME: {"TXT": [*TEXT, other]}}
        words = self.shown().words
        self.assertIn("ns1.example.net (192.0.2.1) shows another key there", words)
        self.assertIn("ns2.example.net (192.0.2.2) shows 2 TXT records", words)

    def test_silent(self) -> None:
        """A name server that does not answer may be the one that a verifier asks: it does not show the record."""
        self.direct["192.0.2.2"].zone = {NAME: DNSError("192.0.2.2:53 did not answer")}
        self.assertEqual(self.shown().words, "ns2.example.net (192.0.2.2) cannot be asked: 192.0.2.2:53 did not answer")

    def test_no_trace(self) -> None:
        """Our resolver, which keeps what does not exist, is never asked for a name at or below _domainkey, while the
        record is missing and when it is there."""
        self.shown()
        for server in self.direct.values():
            server.zone = {}
        self.shown()
        self.assertEqual([name for name, _ in self.resolver.asked if "_domainkey" in name], [])

    def test_zone_above(self) -> None:
        """The name servers are those of the zone that the domain is in, however far above."""
        self.world["deep.sub.example.org"] = {"A": ["192.0.2.9"]}
        name = "k._domainkey.deep.sub.example.org"
        for server in self.direct.values():
            server.zone = {name: {"TXT": TEXT}}
        self.assertEqual(self.shown("deep.sub.example.org"), Shown("example.org", 3, ()))

    def test_no_zone(self) -> None:
        """Without name servers nothing is shown, and why is told."""
        for wrong, words in (({}, "no zone holds example.org"), ({"NS": DNSError("SERVFAIL")}, "SERVFAIL")):
            self.world["example.org"] = wrong
            shown = self.shown()
            self.assertFalse(shown.everywhere)
            self.assertIn(words, shown.words)

    def test_no_address(self) -> None:
        """A name server without addresses, or whose addresses cannot be looked up, does not show it."""
        self.world["ns2.example.net"] = {}
        self.assertEqual(self.shown().words, "ns2.example.net has no address to be found")
        self.world["ns2.example.net"] = {"A": ["192.0.2.2"], "AAAA": DNSError("late")}
        self.assertEqual(self.shown().words, "ns2.example.net has no address to be found: late")

    def test_no_ipv6(self) -> None:
        """Addresses that there is no way to do not count, as long as the server has another."""
        self.unreachable = {"2001:db8::1"}
        self.direct["2001:db8::1"].zone = {}
        self.assertEqual(self.shown(), Shown("example.org", 2, ()))
        self.unreachable = {"192.0.2.2"}
        self.assertEqual(self.shown().words, "ns2.example.net cannot be reached from here at 192.0.2.2;"
                         " ns1.example.net (2001:db8::1) does not show it")  # fmt: skip

    def test_alias(self) -> None:
        """Behind a CNAME, the name servers of its target must show it: all of them."""
        target = "k.keys.provider.example"
        for server in self.direct.values():
            server.zone = {NAME: {"CNAME": [target]}}
        self.world["provider.example"] = {"NS": ["ns.provider.example"]}
        self.world["keys.provider.example"] = {}
        self.world["ns.provider.example"] = {"A": ["192.0.2.77"]}
        self.direct["192.0.2.77"] = FakeResolver({target: {"TXT": TEXT}})
        self.assertEqual(self.shown(), Shown("example.org", 4, ()))
        self.direct["192.0.2.77"].zone = {}
        self.assertEqual(self.shown().words, "ns.provider.example (192.0.2.77) does not show it")
        self.direct["192.0.2.1"].zone = {}
        self.assertIn("ns1.example.net (192.0.2.1) does not show it", self.shown().words)

    def test_zone_below(self) -> None:
        """_domainkey may be a zone of its own, with other name servers: those are asked."""
        for server in self.direct.values():
            server.zone = {NAME: {}}  # a referral has no answer, as a name without records has none
        self.world["_domainkey.example.org"] = {"NS": ["ns.provider.example"]}
        self.world["ns.provider.example"] = {"A": ["192.0.2.77"]}
        self.direct["192.0.2.77"] = FakeResolver({NAME: {"TXT": TEXT}})
        self.assertEqual(self.shown(), Shown("example.org", 4, ()))
        self.direct["192.0.2.77"].zone = {NAME: {}}
        self.assertEqual(self.shown().words, "ns.provider.example (192.0.2.77) does not show it")

    def test_circle(self) -> None:
        """CNAMEs in a circle, and chains without end, end."""
        for server in self.direct.values():
            server.zone = {NAME: {"CNAME": [NAME]}}
        self.assertIn("circle", self.shown().words)
        for server in self.direct.values():
            server.zone = {
                NAME: {"CNAME": ["0._domainkey.example.org"]},
                **{f"{n}._domainkey.example.org": {"CNAME": [f"{n + 1}._domainkey.example.org"]} for n in range(50)},
            }
            server.asked.clear()
        self.assertIn("circle of CNAMEs, or too many", self.shown().words)
        self.assertLessEqual(len(self.direct["192.0.2.1"].asked), 2 * (PLACES_MAX + 1))

    def test_many_servers(self) -> None:
        """A zone with more name servers than anybody has does not make us ask for ever."""
        hosts = [f"ns{number}.example.net" for number in range(500)]
        self.world["example.org"] = {"NS": hosts}
        self.world.update({host: {"A": [f"192.0.2.{1 + number % 2}"]} for number, host in enumerate(hosts)})
        self.assertEqual(self.shown().asked, 20)

    def test_words(self) -> None:
        """Few are named, all are counted."""
        hosts = [f"ns{number}.example.net" for number in range(5)]
        self.world["example.org"] = {"NS": hosts}
        self.world.update({host: {} for host in hosts})
        self.assertTrue(self.shown().words.endswith("; and 2 more"))

    def test_route(self) -> None:
        """There is a way to this machine, and none to what is no address of a host."""
        self.assertTrue(has_route("127.0.0.1"))
        self.assertFalse(has_route("nonsense"))
