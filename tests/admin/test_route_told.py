"""Tests of twisted_mail_node.admin.route_told, route_orders, route_commands: what would become of a mail, and why."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.admin.fakes import FakeNode
from tests.outbound.remote import TWO_HOSTS, Node, Resolver
from twisted_mail_node import settings
from twisted_mail_node.admin.messages import RequestError, Shape
from twisted_mail_node.admin.orders import Orders
from twisted_mail_node.admin.route_alone import _suppressed, inquiry_of
from twisted_mail_node.admin.route_commands import lines
from twisted_mail_node.admin.route_told import LOOK_UP_TIME, RouteInquiry
from twisted_mail_node.directory.directory import Directory
from twisted_mail_node.dns.answer import MX, Answer
from twisted_mail_node.message.address import Address
from twisted_mail_node.queue.limits import Limits
from twisted_mail_node.routing import Router
from twisted_mail_node.state.database import StateDatabase
from twisted_mail_node.state.suppressions import Suppressed, Suppressions

SETTINGS = """\
hostname = "mx.example.org"
[[listener]]
kind = "mx"
endpoint = "tcp:2525"
[[domain]]
name = "example.org"
[[domain]]
name = "store.example"
lmtp = "unix:/run/lmtp"
[[account]]
address = "joe@example.org"
[[account]]
address = "ann@store.example"
[[alias]]
address = "all@example.org"
to = ["joe@example.org", "ann@store.example", "x@example.net"]
[[route]]
domain = "partner.example"
senders = ["*@example.org"]
next_hop = "example.net"
tls = "verified"
[[destination]]
domains = ["example.net"]
connections = 3
rates = ["20/s"]
"""


class Silent(Resolver):
    """Never answers."""

    async def query(self, name: str, rdtype: str) -> Answer:
        await Deferred()
        raise AssertionError


class RouteTest(SynchronousTestCase):
    """A node that is asked."""

    resolver: Resolver = TWO_HOSTS

    def setUp(self) -> None:
        self.settings = settings.parse(SETTINGS, Path(self.mktemp()).absolute())
        self.listed: list[dict[str, Any]] = []
        self.fake = FakeNode()
        self.suppressed: dict[Address, Suppressed] = {}
        self.keys: tuple[bytes, ...] = ()

    def ask(self, address: str, **message: str) -> Deferred[Any]:
        """The order ``route`` of the control socket."""
        parts = {"limits": Limits(self.settings.destinations, self.settings.queue)}
        self.node = Node(self.resolver, parts)
        directory = Directory(self.settings, self.keys)
        router = Router(self.settings.routes, directory, self.settings.domains)
        clock = self.node.reactor
        queue = {"destinations": self.listed}
        self.fake.inquiry = RouteInquiry(directory, router, self.node.relay, clock, lambda: queue, self.suppressed.get)
        orders = Orders(self.fake, clock, lambda: None)
        return Deferred.fromCoroutine(orders.carry_out({"command": "route", "address": address, **message}))

    def told(self, address: str, **message: str) -> Shape:
        """What is answered."""
        answer: Shape = self.successResultOf(self.ask(address, **message)).last
        return answer

    def one(self, address: str, **message: str) -> Shape:
        """The same about the one target."""
        (target,) = self.told(address, **message)["targets"]
        return dict(target)


class AnswerTests(RouteTest):
    """What is told."""

    def test_mailbox(self) -> None:
        """A mail for somebody here goes into the mailbox, now."""
        target = self.one("joe@example.org")
        self.assertEqual(target["expected"], {"when": "now", "until": None, "words": "into the mailbox"})
        self.assertTrue(target["maildir"].endswith("mail/example.org/joe"))

    def test_unknown(self) -> None:
        """Nobody has the address: RCPT is refused."""
        told = self.told("nobody@example.org")
        self.assertEqual(told["targets"], [])
        self.assertEqual(told["directory"]["problem"], "unknown-recipient")
        self.assertIn("RCPT is refused", told["directory"]["words"])

    def test_rewritten(self) -> None:
        """Where an alias leads elsewhere, the reverse-path of somebody else's mail is rewritten (SRS)."""
        self.keys = (b"a key of many octets",)
        for sender, begins in (("ann@there.example", "SRS0="), ("joe@example.org", ""), ("", "")):
            targets = self.told("all@example.org", sender=sender)["targets"]
            rewritten = {target["address"]: target["reverse_path"] or "" for target in targets}
            self.assertEqual((rewritten["joe@example.org"], rewritten["ann@store.example"]), ("", ""))
            self.assertEqual(rewritten["x@example.net"][:5], begins)

    def test_alias(self) -> None:
        """Each address behind an alias has its own way."""
        told = self.told("all@example.org")
        self.assertTrue(told["directory"]["expanded"])
        ways = {one["address"]: one["route"]["next_hop"] for one in told["targets"]}
        self.assertEqual(
            ways,
            {"joe@example.org": "example.org", "ann@store.example": "unix:/run/lmtp", "x@example.net": "example.net"},
        )

    def test_rule(self) -> None:
        """The rule that fits the sender, the hosts of its next hop, the level, and the limits there."""
        target = self.one("x@partner.example", sender="joe@example.org")
        self.assertEqual([(step["rule"], step["fits"]) for step in target["rules"]],
                         [("directory", False), ("route[1]", True)])  # fmt: skip
        way = target["way"]
        self.assertEqual([one["host"] for one in way["exchangers"]], ["mx1.example.net", "mx2.example.net"])
        self.assertEqual(way["exchangers"][0]["tls"], {"level": "verified", "why": "the route"})
        self.assertEqual((way["limit"]["connections"], way["limit"]["rates"]), (3, ["20/s"]))
        self.assertEqual(self.node.hosts, [])

    def test_sender(self) -> None:
        """Without a sender it is a mail with the null reverse-path, and the rule does not fit."""
        self.resolver = Resolver({})
        target = self.one("x@partner.example")
        self.assertEqual(target["rules"][-1]["rule"], "MX")
        self.assertEqual(target["expected"]["when"], "never")
        self.assertIn("does not exist", target["expected"]["words"])

    def test_trouble(self) -> None:
        """A domain whose hosts have no address would be returned; one whose DNS is silent tried again."""
        self.resolver = Resolver({("example.net", "MX"): (MX(10, "mx.example.net"),)})
        self.assertEqual(self.one("x@example.net")["expected"]["when"], "never")
        self.resolver = Silent({})
        asked = self.ask("x@example.net")
        self.node.reactor.advance(LOOK_UP_TIME)
        (target,) = self.successResultOf(asked).last["targets"]
        self.assertEqual(target["expected"]["when"], "later")
        self.assertIn("the DNS did not answer", target["expected"]["words"])

    def test_suspended(self) -> None:
        """When the destination is suspended, until when and why."""
        self.listed = [
            {"destination": "else.example", "suspended_until": 50.0, "words": "x"},
            {"destination": "example.net", "suspended_until": 99.0, "waiting": 7, "words": "refused"},
        ]
        target = self.one("x@example.net")
        self.assertEqual(target["destination"], {"state": "suspended", "until": 99.0, "waiting": 7, "words": "refused"})
        self.assertEqual(target["expected"]["when"], "later")
        self.assertEqual(target["expected"]["until"], 99.0)
        self.assertIn("suspended: refused", target["expected"]["words"])
        self.listed[1]["suspended_until"] = None
        self.assertEqual(self.one("x@example.net")["expected"]["when"], "now")

    def test_wrong(self) -> None:
        """What is no address is refused in words."""
        for address, message, words in (
            ("", {}, "'address' is missing"),
            ("nonsense", {}, "'address' must be an address"),
            ("x@example.net", {"sender": "nonsense"}, "'sender'"),
            ("x@example.net", {"account": "no body@example.net"}, "'account'"),
            ("x" * 500 + "@example.net", {}, "'address'"),
        ):
            self.failureResultOf(self.ask(address, **message), RequestError)
            with self.assertRaisesRegex(RequestError, words):
                raise self.failureResultOf(self.ask(address, **message), RequestError).value

    def test_down(self) -> None:
        """While the node is down the settings alone answer, with the same parts."""
        inquiry = inquiry_of(self.settings, self.node_reactor())
        (account,) = (one for one in self.settings.accounts if one.address.domain == "example.org")
        told = self.successResultOf(Deferred.fromCoroutine(inquiry.answer(account.address, None, "")))
        self.assertFalse(told["running"])
        self.assertEqual(told["targets"][0]["route"]["agent"], "maildir")

    def test_suppressed(self) -> None:
        """An address on the suppression list would be returned untried, also while the node is down; a person reads
        why, until when and how to take it off."""
        address = Address("x", "example.net")
        one = Suppressed("x@example.net", 3, 1.0, 2.0, 2.0, 0.0, "550 no such user")
        inquiry = RouteInquiry(
            directory := Directory(self.settings),
            Router(self.settings.routes, directory, self.settings.domains),
            (node := Node(self.resolver)).relay,
            node.reactor,
            suppressed={address: one}.get,
        )
        told = self.successResultOf(Deferred.fromCoroutine(inquiry.answer(address, None, "")))
        (target,) = told["targets"]
        self.assertEqual(target["expected"]["when"], "never")
        self.assertEqual(target["suppressed"]["words"], "550 no such user")
        shown = "\n".join(lines(told))
        self.assertIn("suppressed      for ever, by 3 failures: 550 no such user", shown)
        self.assertIn("mailnode suppress remove x@example.net", shown)

    def test_suppressed_down(self) -> None:
        """While the node is down the list is read from its state."""
        address = Address("x", "example.net")
        self.settings.state_dir.mkdir(parents=True)
        database = StateDatabase(self.settings.state_dir / "state.sqlite", cast(Any, None))
        listed = Suppressions(database, self.settings.suppression, time.time, lambda event: None, lambda name: False)
        listed.add(address, "asked us to stop", 0)
        database.close()
        found = _suppressed(self.settings, lambda name: False, address)
        assert found is not None
        self.assertEqual((found.failures, found.words), (0, "asked us to stop"))
        self.assertIsNone(_suppressed(self.settings, lambda name: False, Address("y", "example.net")))

    def node_reactor(self) -> Any:
        return Node().reactor


class LinesTests(RouteTest):
    """What a person reads."""

    def test_relayed(self) -> None:
        """In the order in which things happen."""
        shown = "\n".join(lines(self.told("x@partner.example", sender="joe@example.org", account="joe@example.org")))
        for words in (
            "x@partner.example, from joe@example.org, signed in as joe@example.org",
            "route[1]        yes:",
            "next hop        example.net (SMTP)",
            "10 mx1.example.net  192.0.2.1  TLS verified: the route",
            "source          the system's choice",
            "limit           3 connections, 100 mails each, 20/s (destination[1])",
            "expected        now: the first host that is ready gets it",
        ):
            self.assertIn(words, shown)
            shown = shown[shown.index(words) :]

    def test_others(self) -> None:
        """Aliases, nobody, silence and suspensions can be shown, too."""
        self.listed = [{"destination": "example.net", "suspended_until": 99.0, "waiting": 1, "words": "refused"}]
        shown = "\n".join(lines(self.told("all@example.org")))
        self.assertIn("from <>", shown)
        self.assertIn("to joe@example.org, ann@store.example, x@example.net", shown)
        self.assertIn("unix:/run/lmtp (LMTP)", shown)
        self.assertIn("waiting         1 mail", shown)
        self.assertRegex(shown, r"expected        later, 1970-01-01 \S+ \S+: the destination is suspended: refused")
        self.assertIn("RCPT is refused", "\n".join(lines(self.told("nobody@example.org"))))
