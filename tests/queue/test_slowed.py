"""A host that asks for less mail, and one that is dead with a large backlog: what comes back, and when."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.queue.fakes import LATER, LESS, RELAYED, UNREACHABLE, World
from twisted_mail_node.events import DestinationChanged, RecipientDelayed, RecipientFailed
from twisted_mail_node.queue.destination import RETURNS, RETURNS_IN_ALL
from twisted_mail_node.queue.destinations import (
    PAUSE_AT_FIRST,
    SUSPENSION_AT_FIRST,
    SUSPENSION_AT_MOST,
    WINDOW_AT_FIRST,
)
from twisted_mail_node.queue.lines import LINE_AT_LEAST, WAITING_FOR_SLOW
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.reasons import Reason
from twisted_mail_node.spool.mail import State

HOUR = 3600.0


def of(world: World, name: str = "example.net") -> dict[str, Any]:
    """What is told of a destination."""
    found: Any = world.queue.status()["destinations"]
    told: dict[str, Any] = next(one for one in found if one["destination"] == name)
    return told


class SlowedTests(SynchronousTestCase):
    """The host's own words."""

    def test_pause(self) -> None:
        """A host that says "too much" gets nothing for a while, and half as many at a time; others go on."""
        answers = [LESS]
        world = World(lambda request: answers.pop() if answers and request.next_hop == "example.net" else RELAYED)
        first = world.send("joe@example.net")
        world.clock.advance(0)
        second = world.send("joe@example.net")
        other = world.send("joe@other.example")
        world.clock.advance(0)
        (changed,) = world.of(DestinationChanged)
        self.assertEqual((changed.state, changed.window), ("slowed", WINDOW_AT_FIRST // 2))
        self.assertEqual([event.reason for event in world.of(RecipientDelayed)], [Reason.REMOTE_DELAYED, Reason.SLOWED])
        self.assertEqual(of(world)["state"], "slowed")
        self.assertEqual(world.spool.finished, [other])
        world.pass_time(PAUSE_AT_FIRST * 2)
        self.assertEqual(sorted(world.spool.finished), sorted([first, second, other]))
        self.assertEqual([event.state for event in world.of(DestinationChanged)], ["slowed", "open"])

    def test_growing_pauses(self) -> None:
        """Each further pause without a success lasts twice as long, up to a bound; a success begins anew."""
        answers: list[Any] = [LESS] * 8 + [RELAYED, RELAYED, LESS]
        world = World(lambda request: answers.pop(0) if answers else RELAYED, retry=(1.0,))
        world.send("joe@example.net")
        world.send("ann@example.net")
        lengths = []
        world.clock.advance(0)
        for number in range(8):
            while len(world.of(DestinationChanged)) == number:
                world.clock.advance(0.25)
            lengths.append(round(of(world)["until"] - world.clock.seconds()))
        while of(world)["state"] != "open" or len(answers) > 1:
            world.clock.advance(1)
        self.assertEqual(lengths, [min(PAUSE_AT_FIRST * 2**power, SUSPENSION_AT_MOST) for power in range(8)])
        world.pass_time(5)
        world.send("joe@example.net")
        world.clock.advance(0)
        self.assertEqual(round(of(world)["until"] - world.clock.seconds()), PAUSE_AT_FIRST)

    def test_opens_slowly(self) -> None:
        """After a pause the window grows by one for as many successes as it is wide, until it is where it was."""
        answers = [LESS]
        world = World(lambda request: answers.pop() if answers else RELAYED)
        world.send("joe@example.net")
        world.pass_time(PAUSE_AT_FIRST * 2)
        windows = []
        for _ in range(40):
            windows.append(of(world)["window"])
            world.send("joe@example.net")
            world.clock.advance(0)
        self.assertEqual(windows[:10], [10] * 9 + [11])
        self.assertEqual(windows[20], 12)

    def test_said_at_once(self) -> None:
        """Deliveries that were in flight when the host said so do not lengthen the pause, however often they hear it,
        and one that succeeds does not end it."""
        waiting: list[Deferred[Any]] = []

        def answer(request: DeliveryRequest) -> Deferred[Any]:
            waiting.append(Deferred())
            return waiting[-1]

        world = World(answer)
        for _ in range(10):
            world.send("joe@example.net")
        world.clock.advance(0)
        for number, one in enumerate(waiting[:]):
            one.callback(LESS if number < 9 else RELAYED)
        self.assertEqual(len(world.of(DestinationChanged)), 1)
        told = of(world)
        self.assertEqual((told["state"], told["window"], told["in_flight"]), ("slowed", 10, 0))
        self.assertEqual(round(told["until"] - world.clock.seconds()), PAUSE_AT_FIRST)
        self.assertEqual((told["delivered"], told["deferred"], told["words"]), (1, 9, LESS.words))

    def test_refused_for_good(self) -> None:
        """A host that refuses for good because it is too much is slowed, too."""
        world = World(lambda request: LESS._replace(action=LATER.action.FAILED, status="5.7.0"))
        world.send("joe@example.net")
        world.clock.advance(0)
        self.assertEqual(of(world)["state"], "slowed")
        self.assertEqual(len(world.of(RecipientFailed)), 1)

    def test_urgent_after_a_pause(self) -> None:
        """Urgent mail and DSNs wait for the end of a pause with the others, and are not forgotten."""
        answers = [LESS]
        world = World(lambda request: answers.pop() if answers else RELAYED)
        for priority in (0, 5, -5, 0):
            world.send("joe@example.net", priority=priority)
        world.pass_time(PAUSE_AT_FIRST * 2)
        self.assertEqual(world.spool.mails, {})


class DeadTests(SynchronousTestCase):
    """A large backlog for a dead host."""

    def test_returns_are_bounded(self) -> None:
        """However many mails wait for a dead host, only so many a second are taken again and recorded; with the host
        alive again all are delivered, much faster than that."""
        dead = [True]
        world = World(lambda request: UNREACHABLE if dead[0] else RELAYED, retry=(HOUR,), lifetime=100 * HOUR)
        mails = 5000
        for _ in range(mails):
            world.send("joe@example.net")
        world.clock.advance(0)
        world.pass_time(10)
        before = len(world.of(RecipientDelayed))
        self.assertLessEqual(before, mails + 10)
        world.pass_time(600)
        returned = len(world.of(RecipientDelayed)) - before
        self.assertLessEqual(returned, 600 * RETURNS + 10)
        self.assertGreater(returned, 100)
        dead[0] = False
        began = world.clock.seconds()
        while len(world.spool.finished) < mails - 10 and world.clock.seconds() < began + HOUR:
            world.pass_time(1, step=0.25)
        self.assertGreaterEqual(len(world.spool.finished), mails - 10)
        self.assertLess(world.clock.seconds() - began, SUSPENSION_AT_MOST + 60)
        world.pass_time(HOUR, step=10)
        self.assertEqual(world.spool.mails, {})

    def test_many_dead_hosts(self) -> None:
        """With many dead hosts the mails of all of them together come back no faster."""
        world = World(lambda request: UNREACHABLE, retry=(HOUR,), lifetime=100 * HOUR)
        for number in range(4000):
            world.send(f"joe@{number % 100}.example")
        world.clock.advance(0)
        world.pass_time(30)
        before = len(world.of(RecipientDelayed))
        world.pass_time(300)
        self.assertLessEqual(len(world.of(RecipientDelayed)) - before, 300 * RETURNS_IN_ALL * 1.2)

    def test_slow_ones_leave_room(self) -> None:
        """Many silent hosts fill neither the lines nor the memory: a healthy one finds room, and there is a bound."""
        healthy: list[Deferred[Any]] = []

        def answer(request: DeliveryRequest) -> Deferred[Any]:
            done: Deferred[Any] = Deferred()
            if request.next_hop == "healthy.example":
                healthy.append(done)
            return done

        world = World(answer)
        for number in range(6000):
            world.send(f"joe@{number % 20}.example")
        for _ in range(3):
            world.pass_time(130)
        told: Any = world.queue.status()["destinations"]
        self.assertLessEqual(max(one["waiting"] for one in told), LINE_AT_LEAST)
        self.assertLessEqual(sum(one["waiting"] for one in told), WAITING_FOR_SLOW)
        world.queue.status()
        for _ in range(500):
            world.send("joe@healthy.example")
        world.clock.advance(0)
        served = 0
        while healthy:
            healthy.pop(0).callback(RELAYED)
            served += 1
        self.assertEqual(served, 500)
        mails: Any = world.queue.status()["mails"]
        self.assertLess(mails, 20 * (WINDOW_AT_FIRST + LINE_AT_LEAST) + 1)

    def test_lifetime_of_the_backlog(self) -> None:
        """What waits for a dead host is given up when its lifetime ends and not before, however far its turn is."""
        world = World(lambda request: UNREACHABLE, retry=(600.0,), lifetime=HOUR)
        for _ in range(300):
            world.send("joe@example.net")
        world.pass_time(HOUR - 700, step=5)
        self.assertEqual(world.of(RecipientFailed), [])
        world.pass_time(800, step=5)
        self.assertEqual(len(world.of(RecipientFailed)), 300)
        self.assertEqual(world.spool.mails, {})

    def test_a_spool_that_does_not_fetch(self) -> None:
        """When what waits cannot be fetched it comes by itself."""
        answers = [UNREACHABLE] * 3
        world = World(lambda request: answers.pop() if answers else RELAYED, retry=(60.0,))
        for _ in range(50):
            world.send("joe@example.net")
        world.spool.breaks = lambda what: what == "hasten"
        world.pass_time(400)
        self.assertEqual(world.spool.mails, {})
        self.assertEqual({entry.state for entry in world.spool.entries()} - {State.FINISHED}, set())
        self.flushLoggedErrors()

    def test_everything_is_put_off(self) -> None:
        """A host that is back and answers a large backlog with "later" hears of each mail once, and then by the retry
        schedule: what it put off is not brought back with what it has not seen yet."""
        tried: dict[str, list[float]] = {}
        answer = UNREACHABLE

        def deliver(request: DeliveryRequest) -> Any:
            tried.setdefault(request.queue_id, []).append(world.clock.seconds())
            return answer

        world = World(deliver)
        for _ in range(3000):
            world.send("joe@example.net")
        world.pass_time(2)
        self.assertEqual(of(world)["state"], "suspended")
        answer = LATER
        tried.clear()
        world.pass_time(2 * SUSPENSION_AT_FIRST, step=0.25)
        self.assertGreater(len(tried), 2900)
        between = [later - one for times in tried.values() for one, later in pairwise(times)]
        self.assertGreaterEqual(min(between, default=60.0), 51.0)
