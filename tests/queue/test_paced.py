"""Limits of destinations in the queue: pace, window, schedule and lifetime by destination, and their reload."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from tests.queue.fakes import LATER, RELAYED, UNREACHABLE, World
from twisted_mail_node.events import RecipientDelayed, RecipientFailed, RecipientRelayed
from twisted_mail_node.queue.destinations import EXCHANGERS_AGAIN, PACE_WAIT, WINDOW_AT_MOST
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import DestinationRule
from twisted_mail_node.settings_routes import Rate
from twisted_mail_node.waiting import DeadlineError

HOUR = 3600.0


def rule(*rates: Rate, **fields: Any) -> DestinationRule:
    """A rule for ``slow.example``."""
    fields.setdefault("domains", ("slow.example",))
    return DestinationRule.model_construct(
        **{**{name: field.default for name, field in DestinationRule.model_fields.items()}, "rates": rates, **fields}
    )


class PacedTests(SynchronousTestCase):
    """Rates."""

    def world(self, *rules: DestinationRule, answer: Any = RELAYED, **how: Any) -> World:
        """A world that notes when each attempt began."""
        self.begun: list[tuple[float, str]] = []

        def deliver(request: DeliveryRequest) -> Any:
            self.begun.append((world.clock.seconds() - 1_000_000.0, request.next_hop))
            return answer

        world = World(deliver, rules=rules, **how)
        return world

    def check_rate(self, rate: Rate) -> None:
        times = [time for time, _ in self.begun]
        for first, over in zip(times, times[rate.mails :], strict=False):
            self.assertGreaterEqual(over, first + rate.seconds)

    def test_lifetimes_in_one_notice(self) -> None:
        """Recipients that are delayed at destinations with different lifetimes are told of together; no one time is
        given then, for it would be wrong for some."""
        for domains, until in ((("slow.example", "other.example"), None), (("other.example", "third.example"), 120)):
            world = self.world(rule(lifetime=48 * HOUR), answer=LATER, retry=(HOUR,))
            world.send(*[f"joe@{domain}" for domain in domains])
            world.pass_time(5 * HOUR, 10.0)
            ((_, told),) = world.reports
            self.assertEqual(len(told), 2)
            self.assertEqual(world.until, until and 1_000_000.0 + until * HOUR)

    def test_short_line(self) -> None:
        """What the rate allows goes at once; a few more wait in memory for their turn, without being recorded."""
        world = self.world(rule(Rate(5, 1)))
        for _ in range(20):
            world.send("joe@slow.example")
        world.clock.advance(0)
        world.pass_time(5, step=0.25)
        self.assertEqual([time for time, _ in self.begun], [float(number // 5) for number in range(20)])
        self.assertEqual(world.of(RecipientDelayed), [])

    def test_long_line(self) -> None:
        """Mails beyond a short wait go back to the spool once, each due when it is its turn, and the rate is used up
        without being passed."""
        rate = Rate(10, 60)
        world = self.world(rule(rate))
        sent = [world.send("joe@slow.example") for _ in range(200)]
        world.clock.advance(0)
        delayed = world.of(RecipientDelayed)
        self.assertEqual({event.reason for event in delayed}, {Reason.PACED})
        dues = [event.due for event in delayed]
        self.assertEqual(dues, sorted(set(dues)))
        for first, second in pairwise(dues):
            self.assertAlmostEqual(second - first, 6.0)
        world.pass_time(20 * 60 + 120)
        self.assertEqual(sorted(world.spool.finished), sorted(sent))
        self.assertEqual(len(world.of(RecipientDelayed)), len(delayed))
        self.check_rate(rate)
        self.assertLess(self.begun[-1][0], 20 * 60 + PACE_WAIT)

    def test_new_mail_is_behind(self) -> None:
        """New mail does not take the turns that were promised to mail in the spool; urgent mail goes before it."""
        world = self.world(rule(Rate(1, 10)))
        for _ in range(30):
            world.send("joe@slow.example")
        world.pass_time(100)
        late = world.send("joe@slow.example")
        urgent = world.send("joe@slow.example", priority=5)
        world.pass_time(60)
        self.assertIn(urgent, world.spool.finished)
        world.pass_time(300)
        self.assertEqual(world.spool.mails, {})
        self.assertEqual(world.spool.finished[-1], late)

    def test_urgent_does_not_starve_the_others(self) -> None:
        """Under a pace, too, an ordinary mail (a DSN, say) goes on while urgent mail comes faster than the pace."""
        world = self.world(rule(Rate(1, 1)))
        world.send("joe@slow.example")
        world.clock.advance(0)
        for _ in range(5):
            world.send("joe@slow.example", priority=9)
        ordinary = world.send("joe@slow.example")
        low = world.send("joe@slow.example", priority=-9)
        for _ in range(30):
            world.send("joe@slow.example", priority=9)
            world.send("joe@slow.example", priority=9)
            world.pass_time(1)
        order = world.spool.finished
        self.assertLess(order.index(ordinary), 6)
        self.assertLess(order.index(low), 13)

    def test_shared_by_exchangers(self) -> None:
        """Domains with exchangers of one rule share its pace; each has its turn, and others are not touched."""

        def exchangers_of(next_hop: str) -> Deferred[Sequence[str]]:
            asked.append(next_hop)
            names = ["mx.big.example"] if next_hop.endswith(".slow.example") else ["mx.other.example"]
            return succeed(names)

        asked: list[str] = []
        rate = Rate(4, 1)
        world = self.world(rule(rate, domains=(), exchangers=(".big.example",)), exchangers_of=exchangers_of)
        for number in range(24):
            world.send(f"joe@{'ab'[number % 2]}.slow.example")
            world.send("joe@fast.example")
        world.clock.advance(0)
        self.assertEqual([hop for _, hop in self.begun].count("fast.example"), 24)
        world.pass_time(6, step=0.25)
        self.assertEqual(world.spool.mails, {})
        self.begun = [one for one in self.begun if one[1] != "fast.example"]
        self.check_rate(rate)
        self.assertEqual(self.begun[-1][0], 5.0)
        self.assertEqual(sorted(asked), ["a.slow.example", "b.slow.example", "fast.example"])

    def test_exchangers_that_are_not_known(self) -> None:
        """While a destination's exchangers are looked up its mails wait in line; a failure leaves it without a rule,
        and so does an answer that never comes."""
        answer: Deferred[Sequence[str]] = Deferred()
        answers = [answer, fail(ValueError("no DNS")), Deferred[Sequence[str]]()]
        world = self.world(
            rule(Rate(1, 60), domains=(), exchangers=("mx.big.example",)), exchangers_of=lambda hop: answers.pop(0)
        )
        for _ in range(3):
            world.send("joe@one.example")
        world.pass_time(5)
        self.assertEqual(self.begun, [])
        answer.callback(["mx.big.example"])
        self.assertEqual(len(self.begun), 1)
        for _ in range(3):
            world.send("joe@two.example")
            world.send("joe@three.example")
        world.clock.advance(0)
        self.assertEqual([hop for _, hop in self.begun].count("two.example"), 3)
        self.assertEqual([hop for _, hop in self.begun].count("three.example"), 0)
        world.pass_time(31)
        self.assertEqual([hop for _, hop in self.begun].count("three.example"), 3)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(len(self.flushLoggedErrors(DeadlineError)), 1)

    def test_exchangers_are_asked_for_again(self) -> None:
        """A look-up that failed once does not leave a destination without its rule for ever."""
        answers: list[Any] = [None, ["mx.big.example"]]
        rate = Rate(1, 60)
        world = self.world(
            rule(rate, domains=(), exchangers=("mx.big.example",)), exchangers_of=lambda hop: succeed(answers.pop(0))
        )
        for _ in range(3):
            world.send("joe@one.example")
        world.clock.advance(0)
        self.assertEqual(len(self.begun), 3)
        world.pass_time(EXCHANGERS_AGAIN)
        self.begun.clear()
        for _ in range(5):
            world.send("joe@one.example")
        world.pass_time(300, step=1.0)
        self.assertEqual((answers, len(self.begun)), ([], 5))
        self.check_rate(rate)

    def test_not_given_up_while_exchangers_are_not_known(self) -> None:
        """While the DNS fails nobody knows whether a rule with a longer lifetime holds: nothing is given up before
        that lifetime is over."""
        world = self.world(
            rule(domains=(), exchangers=("mx.big.example",), lifetime=10 * 24 * HOUR),
            answer=UNREACHABLE,
            exchangers_of=lambda hop: succeed(None),
            retry=(8 * HOUR,),
            lifetime=5 * 24 * HOUR,
        )
        world.send("joe@one.example")
        world.pass_time(9 * 24 * HOUR, step=HOUR)
        self.assertEqual(world.of(RecipientFailed), [])
        world.pass_time(2 * 24 * HOUR, step=HOUR)
        (failed,) = world.of(RecipientFailed)
        self.assertEqual(failed.reason, Reason.EXPIRED)
        self.assertEqual(world.spool.mails, {})

    def test_not_given_up_while_the_router_breaks(self) -> None:
        """A router that breaks once after the ordinary lifetime gives up no mail whose destination has a longer one;
        the destination stays with the recipient."""
        world = self.world(rule(lifetime=10 * 24 * HOUR), answer=UNREACHABLE, retry=(8 * HOUR,), lifetime=5 * 24 * HOUR)
        world.send("joe@slow.example")
        world.pass_time(6 * 24 * HOUR, step=HOUR)
        with mock.patch.object(world.router, "route", side_effect=RuntimeError("broken")):
            world.pass_time(10 * HOUR, step=HOUR)
        self.assertGreater(len(self.flushLoggedErrors(RuntimeError)), 0)
        self.assertEqual(world.of(RecipientFailed), [])
        self.assertEqual([entry.destination for entry in world.spool.entries()], ["slow.example"])
        world.pass_time(5 * 24 * HOUR, step=HOUR)
        self.assertEqual([failed.reason for failed in world.of(RecipientFailed)], [Reason.EXPIRED])

    def test_window_of_a_share(self) -> None:
        """The connections of a rule by exchangers bound the mails in flight to all its domains together."""
        waiting: list[Deferred[Any]] = []

        def answer(request: DeliveryRequest) -> Deferred[Any]:
            waiting.append(Deferred())
            return waiting[-1]

        world = World(
            answer,
            rules=[rule(domains=(), exchangers=("mx.big.example",), connections=1)],
            exchangers_of=lambda hop: succeed(["mx.big.example"]),
        )
        for number in range(60):
            world.send(f"joe@{number % 3}.example")
        world.clock.advance(0)
        self.assertEqual(len(waiting), WINDOW_AT_MOST // 20)
        most = 0
        while waiting:
            most = max(most, len(waiting))
            waiting.pop(0).callback(RELAYED)
            world.clock.advance(0)
        self.assertEqual(world.spool.mails, {})
        self.assertLessEqual(most, WINDOW_AT_MOST // 20)

    def test_retry_and_lifetime(self) -> None:
        """A destination's own schedule and lifetime count for it alone."""
        world = self.world(rule(retry=(10.0,), lifetime=65.0), answer=LATER, retry=(30.0,), lifetime=100.0)
        world.send("joe@slow.example", "ann@other.example")
        world.clock.advance(0)
        world.pass_time(200)
        slow = [time for time, hop in self.begun if hop == "slow.example"]
        other = [time for time, hop in self.begun if hop == "other.example"]
        self.assertEqual(slow, [0, 10, 20, 30, 40, 50, 60])
        self.assertEqual(other, [0, 30, 60, 90])
        self.assertEqual({event.reason for event in world.of(RecipientFailed)}, {Reason.EXPIRED})

    def test_end_in_the_notice(self) -> None:
        """A notice of delay tells the end of the destination's own lifetime."""
        world = self.world(rule(retry=(20.0,), lifetime=500.0), answer=LATER)
        now = world.clock.seconds()
        world.send("joe@slow.example", deliver_by=now + 30, by_mode="N")
        world.pass_time(50)
        self.assertEqual(world.until, now + 500.0)

    def test_put_off_until_the_end(self) -> None:
        """A mail for which no attempt is made is looked at once more when its lifetime ends, and expires then."""
        world = self.world(rule(Rate(1, 86400), lifetime=HOUR))
        world.send("joe@slow.example")
        world.clock.advance(0)
        world.send("joe@slow.example")
        world.pass_time(HOUR - 10)
        self.assertEqual(world.of(RecipientFailed), [])
        world.pass_time(11)
        self.assertEqual([event.reason for event in world.of(RecipientFailed)], [Reason.EXPIRED])

    def test_reload(self) -> None:
        """Rules that are reloaded hold for destinations that are known: a pace comes, changes and goes."""
        world = self.world()
        for _ in range(3):
            world.send("joe@slow.example")
        world.clock.advance(0)
        self.assertEqual(len(world.of(RecipientRelayed)), 3)
        world.limits.reload([rule(Rate(1, 20), connections=1)])
        world.queue.limits_changed()
        for _ in range(3):
            world.send("joe@slow.example")
        world.pass_time(1)
        self.assertEqual(len(world.of(RecipientRelayed)), 4)
        status: Any = world.queue.status()["destinations"]
        self.assertEqual((status[0]["state"], status[0]["left"], status[0]["rates"]), ("paced", 0, ["1/20 s"]))
        self.assertEqual((status[0]["window"], status[0]["limit"]), (10, "destination[1]"))
        world.limits.reload([])
        world.queue.limits_changed()
        world.pass_time(1)
        self.assertEqual(len(world.of(RecipientRelayed)), 5)
        world.pass_time(60)  # the last one was promised a turn, and keeps it
        self.assertEqual(len(world.of(RecipientRelayed)), 6)
        self.assertEqual(world.queue._destinations._shares, {})

    def test_reload_while_a_place_is_taken(self) -> None:
        """A place that was taken under other rules is given back to those it was shared with."""
        waiting: list[Deferred[Any]] = []

        def answer(request: DeliveryRequest) -> Deferred[Any]:
            waiting.append(Deferred())
            return waiting[-1]

        big = rule(domains=(), exchangers=("mx.big.example",), connections=1)
        world = World(
            answer, rules=[rule(domains=("c.example",)), big], exchangers_of=lambda hop: succeed(["mx.big.example"])
        )
        for _ in range(10):
            world.send("joe@a.example")
        world.send("joe@b.example")
        world.clock.advance(0)
        self.assertEqual(len(waiting), 10)
        world.limits.reload([rule(domains=("a.example",)), big])
        world.queue.limits_changed()
        self.assertEqual(len(waiting), 10)
        waiting[0].callback(RELAYED)
        self.assertEqual(len(waiting), 11)

    def test_pace_of_a_dead_host(self) -> None:
        """A paced destination is suspended like any other."""
        world = self.world(rule(Rate(10, 1)), answer=UNREACHABLE)
        for _ in range(10):
            world.send("joe@slow.example")
        world.clock.advance(0)
        self.assertIn(Reason.SUSPENDED, {event.reason for event in world.of(RecipientDelayed)})
        world.queue.stop(1.0)

    def test_exchangers_break_at_once(self) -> None:
        """Whoever is asked for exchangers may break before there is anything to wait for: then none are known."""

        def break_at_once(hop: str) -> Any:
            raise RuntimeError("broken")

        world = World(
            lambda request: RELAYED,
            rules=[rule(domains=(), exchangers=("mx.big.example",))],
            exchangers_of=break_at_once,
        )
        world.send("joe@a.example")
        world.clock.advance(0)
        self.assertEqual(len(world.spool.finished), 1)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
