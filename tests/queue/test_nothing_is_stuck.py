"""Every queued recipient has a next event before a known time, whatever agents, operators and settings do."""

from __future__ import annotations

from random import Random
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.queue.fakes import LATER, LESS, REFUSED, RELAYED, UNREACHABLE, World
from tests.queue.test_freezing import Kept
from tests.queue.test_paced import rule
from twisted_mail_node.events_outbound import WorkStuck
from twisted_mail_node.message.status import Action
from twisted_mail_node.queue.attempt import ATTEMPT_GRACE, NOTIFY_AGAIN, NOTIFY_TIME, ROUTE_TIME
from twisted_mail_node.queue.lines import WAITING_TIME
from twisted_mail_node.queue.queue import SWEEP_TIME
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.queue.watch import CANCELLED_AT_MOST, Watch
from twisted_mail_node.settings_routes import Rate
from twisted_mail_node.spool.mail import State

HOUR = 3600.0
LIFETIME = 8 * HOUR
ATTEMPT_TIME = 600.0
STEP = 20.0
#: Seconds an attempt may last: each of its waits to its own deadline, seen by a sweep.
ACTIVE_AT_MOST = (
    ROUTE_TIME
    + WAITING_TIME
    + ATTEMPT_TIME
    + ATTEMPT_GRACE
    + (2 + CANCELLED_AT_MOST) * SWEEP_TIME
    + 2 * NOTIFY_TIME
    + 4 * STEP
)
DOMAINS = ("here.example", "one.example", "two.example", "three.example", "a.big.example", "b.big.example")


def give(late: Deferred[Any], statuses: Any) -> None:
    """Answer, unless nobody waits any more."""
    if not late.called:
        late.callback(statuses)


class Scenario:
    """A queue that lives through whatever ``random`` thinks of."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.kept = Kept()
        self.sent: dict[str, int] = {}
        self.active: dict[tuple[str, int], float] = {}
        self.seen: dict[tuple[str, int], tuple[int, float]] = {}
        self.world = World(self.answer, **self.how())

    def how(self) -> dict[str, Any]:
        return {
            "rules": self.rules(),
            "exchangers_of": self.exchangers_of,
            "freezes": self.kept,
            "lifetime": LIFETIME,
            "attempt_time": ATTEMPT_TIME,
            "retry": (60.0, 600.0, 2 * HOUR),
        }

    def rules(self) -> list[Any]:
        rates = [Rate(1, 1), Rate(3, 60), Rate(20, 3600), Rate(2, 86400)]
        found = [
            rule(self.random.choice(rates), domains=("one.example",)),
            rule(self.random.choice(rates), domains=(), exchangers=("mx.big.example",), connections=1),
            rule(domains=("two.example",), connections=1, retry=(30.0, 900.0), lifetime=LIFETIME / 2),
        ]
        return self.random.sample(found, self.random.randint(0, 3))

    def exchangers_of(self, next_hop: str) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        chance = self.random.random()
        if chance < 0.2:
            return answer  # it never comes
        if chance < 0.3:
            answer.errback(ValueError("no DNS"))
        else:
            answer.callback(["mx.big.example"] if "big" in next_hop else ["mx.other.example"])
        return answer

    def answer(self, request: DeliveryRequest) -> Any:
        random = self.random
        kind = random.random()
        if kind < 0.05:
            return Deferred()  # it hangs
        if kind < 0.1:
            raise RuntimeError("the agent is broken")
        if kind < 0.13:
            return [RELAYED] * (len(request.recipients) + 1)
        statuses = [random.choice([RELAYED, REFUSED, LATER, LATER, LESS, UNREACHABLE]) for _ in request.recipients]
        if kind < 0.5:
            return statuses
        late: Deferred[Any] = Deferred()
        self.world.clock.callLater(random.choice([0.1, 30.0, 500.0]), give, late, statuses)
        return late

    def act(self) -> None:
        """Something happens."""
        random, queue = self.random, self.world.queue
        act = random.randrange(12)
        if act < 4:
            for _ in range(random.choice([1, 5, 30])):
                chosen = random.sample(DOMAINS, random.randint(1, 3))
                queue_id = self.world.send(
                    *[f"joe@{domain}" for domain in chosen], priority=random.choice([0, 0, 4, -4])
                )
                self.sent[queue_id] = len(chosen)
        elif act == 4:
            queue.freeze(random.choice(DOMAINS), "")
        elif act in (5, 6):
            for frozen in queue.frozen():
                queue.thaw(str(frozen["destination"]))
        elif act == 7:
            queue.hold(random.sample(sorted(self.sent), min(3, len(self.sent))))
        elif act == 8:
            queue.release(sorted(self.sent))
        elif act == 9:
            self.world.limits.reload(self.rules())
            queue.limits_changed()
        elif act == 10:
            queue.retry(random.sample(sorted(self.sent), min(3, len(self.sent))))
        elif random.random() < 0.3:
            self.restart()

    def restart(self) -> None:
        old = self.world
        stopped = old.queue.stop(5.0)
        old.clock.advance(5.0)
        assert stopped.called
        for call in old.clock.getDelayedCalls():  # the process is gone, and its timers with it
            call.cancel()
        self.active = {}
        self.world = World(self.answer, after=old, **self.how())

    def pass_time(self, seconds: float) -> str:
        """Gives what is stuck, ``""`` when nothing is."""
        for _ in range(int(seconds / STEP)):
            self.world.clock.advance(STEP)
            wrong = self.look()
            if wrong:
                return wrong
        return ""

    def look(self) -> str:
        now = self.world.clock.seconds()
        active = {}
        for mail in self.world.spool.mails.values():
            for entry in mail.entries:
                one = f"{mail.queue_id}/{entry.number} {entry}"
                if entry.state is State.ACTIVE:
                    if mail.queue_id not in self.world.queue._working:
                        return f"nobody works on {one}"
                    key = mail.queue_id, entry.number
                    # A new attempt may have begun since the last look: then it was tried once more, or put off until
                    # another time.
                    active[key] = (
                        self.active.get(key, now) if self.seen.get(key) == (entry.attempts, entry.due) else now
                    )
                    self.seen[key] = entry.attempts, entry.due
                    if now - active[key] > ACTIVE_AT_MOST:
                        return f"active since {now - active[key]} s: {one}"
                elif entry.state is State.DELAYED:
                    if entry.due > max(mail.received + LIFETIME, now + 1.15 * NOTIFY_AGAIN):
                        return f"due in {entry.due - now} s: {one}"
                    if entry.due < now - 70:
                        return f"due {now - entry.due} s ago: {one}"
        self.active = active
        return ""


class NothingIsStuckTests(SynchronousTestCase):
    """Random scenarios over a simulated clock."""

    @settings(max_examples=8, deadline=None)
    @given(st.integers(0, 1 << 32))
    def test_scenarios(self, seed: int) -> None:
        """At each moment each unfinished recipient is in an attempt that ends in time, or delayed until a time within
        its lifetime, or held; and when the lifetime is over, and a little more, nothing is left. Nothing is named."""
        scenario = Scenario(Random(seed))
        for _ in range(30):
            scenario.act()
            self.assertEqual(scenario.pass_time(scenario.random.choice([20, 100, 600])), "")
            for share in scenario.world.queue._destinations._shares.values():
                self.assertEqual(share.waiting, sum(len(member.waiting) for member in share.members))
        scenario.world.queue.release(sorted(scenario.sent))
        self.assertEqual(scenario.pass_time(LIFETIME + ACTIVE_AT_MOST + HOUR), "")
        self.assertEqual(scenario.world.spool.mails, {})
        self.assertEqual(sorted(set(scenario.world.spool.finished)), sorted(scenario.sent))
        self.assertEqual(scenario.world.of(WorkStuck), [])
        told: Any = scenario.world.queue.status()["destinations"]
        self.assertEqual({one["in_flight"] + one["waiting"] for one in told} or {0}, {0})
        self.assertEqual(scenario.world.queue._destinations._lines.crowd, 0)
        self.assertEqual(scenario.world.queue._destinations._lines._waiting, 0)
        self.flushLoggedErrors()

    def test_the_look_can_fail(self) -> None:
        """With the watch over agents broken, and the watchdog too, a hanging agent is seen by these tests."""
        scenario = Scenario(Random(1))
        scenario.world.agent.answer = lambda request: Deferred()
        with (
            mock.patch.object(Watch, "sweep", lambda self: None),
            mock.patch.object(scenario.world.queue._watchdog, "look", lambda: None),
        ):
            scenario.world.send("joe@three.example")
            self.assertIn("active since", scenario.pass_time(2 * ACTIVE_AT_MOST))

    def test_reported(self) -> None:
        """What fails because it hangs again and again is reported."""
        scenario = Scenario(Random(2))
        scenario.world.agent.answer = lambda request: Deferred()
        scenario.world.send("joe@three.example")
        self.assertEqual(scenario.pass_time(LIFETIME + HOUR), "")
        told = [status.action for _, one in scenario.world.reports for _, status in one]
        self.assertEqual(told, [Action.DELAYED, Action.FAILED])
        self.flushLoggedErrors()
