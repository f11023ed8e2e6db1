"""A client's slow names hold up its own mails, and nobody else's."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.inbound.checked import HOST, MAIL, CheckedReceiver, SlowResolver, signed
from twisted_mail_node.inbound import shares
from twisted_mail_node.inbound.shares import Shares

ZONE: dict[str, Any] = {"a.example": {"A": ["192.0.2.1"]}}


class SharesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(shares, "SHARE", 3)
        self.resolver = SlowResolver(ZONE)
        self.resolver.slow = lambda name: True
        self.shares = Shares(self.resolver)

    def ask(self, client: str, times: int = 1) -> list[Deferred[Any]]:
        """Questions of a client."""
        share = self.shares.of(client)
        return [Deferred.fromCoroutine(share.query("a.example", "A")) for _ in range(times)]

    def answer(self) -> None:
        """The first on its way gets its answer."""
        self.resolver.waiting.pop(0).callback(None)

    def test_bounded(self) -> None:
        """A client has its share on the way, the rest waits in order; others do not wait for it."""
        asked = self.ask("192.0.2.1", 5)
        self.assertEqual(len(self.resolver.waiting), 3)
        self.ask("192.0.2.2")
        self.assertEqual(len(self.resolver.waiting), 4)
        self.answer()
        self.assertEqual(self.successResultOf(asked[0]).records, ("192.0.2.1",))
        self.assertEqual(len(self.resolver.waiting), 4, "the next one is on its way")
        self.resolver.answer()
        for one in asked[1:]:
            self.assertEqual(self.successResultOf(one).records, ("192.0.2.1",))

    def test_one_network(self) -> None:
        """A /64 is one client."""
        self.ask("2001:db8::1", 2)
        self.ask("2001:db8::2", 2)
        self.assertEqual(len(self.resolver.waiting), 3)

    def test_given_up(self) -> None:
        """Who gives up gives the place back, or leaves the line."""
        asked = self.ask("192.0.2.1", 5)
        asked[4].cancel()
        self.failureResultOf(asked[4], CancelledError)
        asked[0].cancel()
        self.failureResultOf(asked[0], CancelledError)
        self.resolver.waiting = [one for one in self.resolver.waiting if not one.called]
        self.assertEqual(len(self.resolver.waiting), 3)
        self.resolver.answer()
        self.successResultOf(asked[3])
        self.assertEqual(self.shares._lines, {}, "nothing is kept of who asks nothing")

    def test_long_line(self) -> None:
        """A line of thousands that is answered at once makes no deep stack."""
        asked = self.ask("192.0.2.1", 5000)
        self.resolver.answer()
        self.assertEqual(self.successResultOf(asked[-1]).records, ("192.0.2.1",))
        self.assertEqual(self.shares._lines, {})

    def test_received(self) -> None:
        """Mail of others is judged while a client's names are slow (T30)."""
        node = CheckedReceiver()
        node.resolver.slow = lambda name: name.startswith("slow")
        peers = [node.session(f"MAIL FROM:<x@slow{number}.example>", client="203.0.113.9") for number in range(20)]
        self.assertEqual(len(node.resolver.waiting), 3)
        self.assertTrue(node.bring(signed(), client=HOST).startswith("250"))
        forged = node.begin(MAIL, client="203.0.113.9", path="x@slow.example")
        node.wait(31)
        self.assertTrue(forged.said().startswith("550 5.7.26"), "the author's record is asked for all the same")
        for peer in peers:
            peer.vanish()
