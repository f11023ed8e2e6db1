"""Tests of the limits of destinations: which rule counts, and who shares it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.queue.limits import KNOWN_MAX, Limits
from twisted_mail_node.settings import DestinationRule, QueueSettings
from twisted_mail_node.settings_routes import Rate

RULES = (
    DestinationRule(domains=("gmail.example", ".example.org"), connections=5, retry=(600.0,)),
    DestinationRule(exchangers=(".google.example",), connections=7, rates=(Rate(20, 1),)),
    DestinationRule(domains=("*",), lifetime=86400.0),
)


class LimitsTest(SynchronousTestCase):
    """The first rule that fits counts."""

    def setUp(self) -> None:
        self.limits = Limits(RULES, QueueSettings())

    def test_domains(self) -> None:
        """A rule by domains: each next hop for itself; what it does not say is as in [queue]."""
        limit = self.limits.of("gmail.example")
        self.assertEqual((limit.key, limit.connections, limit.retry), ("gmail.example", 5, (600.0,)))
        self.assertEqual((limit.lifetime, limit.mails_per_connection), (5 * 86400.0, 100))
        self.assertEqual(self.limits.of("[mx.example.org]:2525").connections, 5)
        self.assertEqual(self.limits.of("example.org").lifetime, 86400.0)

    def test_exchangers(self) -> None:
        """A rule by exchangers is shared by every domain that they serve."""
        one = self.limits.of("one.example", ("mx.other.example", "aspmx.l.google.example"))
        other = self.limits.of("other.example", ("aspmx.l.google.example",))
        self.assertEqual((one.key, one.connections), (other.key, 7))
        self.assertEqual(str(one.rates[0]), "20/s")
        self.assertTrue(self.limits.by_exchangers)

    def test_exchangers_not_known(self) -> None:
        """Where the exchangers cannot be found out, the longest lifetime holds that may be meant; all else waits."""
        day = 86400.0
        limits = Limits(
            (
                DestinationRule(domains=("first.example",), lifetime=day),
                DestinationRule(exchangers=("mx.big.example",), lifetime=9 * day, connections=3),
                DestinationRule(exchangers=("mx.small.example",), lifetime=day),
                DestinationRule(domains=("last.example",), lifetime=2 * day, connections=7),
            ),
            QueueSettings(),
        )
        for hop, exchangers, lifetime, connections in (
            ("first.example", None, day, 20),
            ("last.example", None, 9 * day, 7),
            ("other.example", None, 9 * day, 20),
            ("other.example", (), 5 * day, 20),
            ("other.example", ("mx.big.example",), 9 * day, 3),
            ("last.example", (), 2 * day, 7),
        ):
            limit = limits.of(hop, exchangers)
            self.assertEqual((limit.lifetime, limit.connections), (lifetime, connections), (hop, exchangers))
        self.assertEqual(limits.anywhere.lifetime, 9 * day)

    def test_none(self) -> None:
        """Without a rule everything is as in [queue]."""
        limits = Limits((), QueueSettings())
        limit = limits.of("example.net")
        self.assertEqual((limit.key, limit.why, limit.connections, limit.rates), ("example.net", "[queue]", 20, ()))
        self.assertFalse(limits.by_exchangers)

    def test_bounded(self) -> None:
        """However many next hops there are, what is remembered of them is bounded."""
        for number in range(KNOWN_MAX + 10):
            self.limits.of(f"{number}.example")
        self.assertLessEqual(len(self.limits._known), KNOWN_MAX)
