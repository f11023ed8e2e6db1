"""Freezing and thawing a destination."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.queue.fakes import LATER, RELAYED, World
from tests.queue.test_paced import rule
from twisted_mail_node.events import DestinationChanged, RecipientDelayed, RecipientFailed
from twisted_mail_node.queue.destination import FROZEN_TIME
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings_routes import Rate
from twisted_mail_node.state.database import StateDatabase
from twisted_mail_node.state.freezes import Freezes

HOUR = 3600.0


class Kept:
    """Keeps freezes in memory."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[str, float]] = {}

    def all(self) -> list[tuple[str, str, float]]:
        return [(name, *row) for name, row in self.rows.items()]

    def add(self, destination: str, words: str, since: float) -> None:
        self.rows[destination] = words, since

    def drop(self, destination: str) -> None:
        del self.rows[destination]


class FreezingTests(SynchronousTestCase):
    """In the queue."""

    def test_nothing_is_tried(self) -> None:
        """Nothing goes to a frozen destination, mail that waited in line included; others go on."""
        waiting: list[Deferred[Any]] = []

        def answer(request: Any) -> Any:
            if request.next_hop == "other.example":
                return RELAYED
            waiting.append(Deferred())
            return waiting[-1]

        world = World(answer)
        for _ in range(30):
            world.send("joe@example.net")
        world.clock.advance(0)
        self.assertEqual(len(waiting), 20)
        self.successResultOf(world.queue.freeze("example.net", "we talk with its postmaster"))
        for one in waiting[:]:
            one.callback(RELAYED)
        other = world.send("joe@other.example")
        world.send("joe@example.net")
        world.pass_time(HOUR)
        self.assertEqual(len(waiting), 20)
        self.assertIn(other, world.spool.finished)
        delayed = world.of(RecipientDelayed)
        self.assertEqual([event.reason for event in delayed], [Reason.FROZEN] * 11)
        self.assertIn("we talk with its postmaster", delayed[0].words)
        told: Any = world.queue.status()["destinations"]
        found = next(one for one in told if one["destination"] == "example.net")
        self.assertEqual((found["state"], found["words"]), ("frozen", "we talk with its postmaster"))

    def test_thaw(self) -> None:
        """A thaw brings back at once what was put off, without waiting for its due time."""
        world = World(lambda request: RELAYED)
        world.queue.freeze("example.net", "")
        sent = [world.send("joe@example.net") for _ in range(700)]
        world.pass_time(100)
        self.assertGreater(min(entry.due for entry in world.spool.entries()), world.clock.seconds() + HOUR)
        self.assertTrue(self.successResultOf(world.queue.thaw("example.net")))
        world.pass_time(10, step=0.25)
        self.assertEqual(sorted(world.spool.finished), sorted(sent))
        self.assertEqual([event.state for event in world.of(DestinationChanged)], ["frozen", "thawed"])
        self.assertFalse(self.successResultOf(world.queue.thaw("example.net")))
        self.assertEqual(world.queue._destinations._lines.closed, 0)

    def test_thawed_but_not_ready(self) -> None:
        """After a thaw everything comes, though the host says nothing but later."""
        world = World(lambda request: LATER, retry=(10 * HOUR,))
        world.queue.freeze("example.net", "")
        for _ in range(200):
            world.send("joe@example.net")
        world.pass_time(60)
        world.queue.thaw("example.net")
        world.pass_time(300)
        self.assertEqual(len({request.queue_id for request in world.agent.requests}), 200)

    def test_thaw_under_a_pace(self) -> None:
        """After a thaw what was put off comes as fast as the destination's pace allows, and no faster."""
        begun: list[float] = []

        def answer(request: Any) -> Any:
            begun.append(world.clock.seconds())
            return RELAYED

        world = World(answer, rules=[rule(Rate(5, 10))])
        world.queue.freeze("slow.example", "")
        for _ in range(60):
            world.send("joe@slow.example")
        world.pass_time(30)
        world.queue.thaw("slow.example")
        world.pass_time(180)
        self.assertEqual(len(begun), 60)
        for first, over in zip(begun, begun[5:], strict=False):
            self.assertGreaterEqual(over, first + 10)

    def test_kept_over_a_restart(self) -> None:
        """What was frozen is frozen in the next process, with its words, and a thaw there holds."""
        kept = Kept()
        world = World(lambda request: RELAYED, freezes=kept)
        world.queue.freeze("example.net", "first words")
        world.pass_time(10)
        world.queue.freeze("example.net", "other words")
        (frozen,) = world.queue.frozen()
        self.assertEqual(frozen, {"destination": "example.net", "words": "other words", "since": 1_000_000.0})
        self.assertEqual([event.state for event in world.of(DestinationChanged)], ["frozen"])
        after = World(lambda request: RELAYED, freezes=kept)
        self.assertEqual(after.queue.frozen(), [frozen])
        after.send("joe@example.net")
        after.pass_time(60)
        self.assertEqual(after.agent.requests, [])
        after.queue.thaw("example.net")
        after.pass_time(1)
        self.assertEqual(len(after.spool.finished), 1)
        self.assertEqual(World(lambda request: RELAYED, freezes=kept).queue.frozen(), [])

    def test_thaw_after_a_restart(self) -> None:
        """A thaw brings back what the process before put off, though nothing came since: what was never tried, and what
        was."""
        kept = Kept()
        answers = [LATER]
        before = World(lambda request: answers.pop() if answers else RELAYED, freezes=kept)
        sent = [before.send("joe@example.net")]
        before.pass_time(1)
        before.queue.freeze("example.net", "")
        sent += [before.send("joe@example.net") for _ in range(300)]
        before.pass_time(200)
        before.queue.stop(1)
        after = World(lambda request: RELAYED, freezes=kept, after=before)
        after.pass_time(30)
        self.assertEqual(after.agent.requests, [])
        after.queue.thaw("example.net")
        after.pass_time(10, step=0.25)
        self.assertEqual(sorted(after.spool.finished), sorted(sent))
        self.assertLess(after.queue._destinations._known["example.net"].promised, after.clock.seconds() + 1)

    def test_lifetime(self) -> None:
        """Frozen mail keeps its lifetime: at its end it is given up and reported."""
        world = World(lambda request: RELAYED, lifetime=FROZEN_TIME * 3.5, delay_notices=())
        world.queue.freeze("example.net", "")
        world.send("joe@example.net")
        world.pass_time(FROZEN_TIME * 3.5 - 60, step=60)
        self.assertEqual(world.of(RecipientFailed), [])
        world.pass_time(120, step=10)
        self.assertEqual([event.reason for event in world.of(RecipientFailed)], [Reason.EXPIRED])
        self.assertEqual(len(world.reports), 1)

    def test_idle_for_long(self) -> None:
        """A frozen destination that nobody uses stays frozen."""
        world = World(lambda request: RELAYED)
        world.queue.freeze("example.net", "")
        world.pass_time(10 * HOUR, step=60)
        world.send("joe@example.net")
        world.pass_time(60)
        self.assertEqual(world.agent.requests, [])


class FreezesTests(TestCase):
    """In the database."""

    def test_kept(self) -> None:
        """What is frozen is there after a restart, with its last words; what was thawed is not."""
        path = Path(self.mktemp()) / "state.sqlite"
        state = StateDatabase(path, reactor)  # type: ignore[arg-type]
        freezes = Freezes(state)
        self.assertEqual(freezes.all(), [])
        freezes.add("a.example", "one", 1.0)
        freezes.add("b.example", "", 2.0)
        freezes.add("a.example", "two", 1.0)
        freezes.drop("b.example")
        state.close()
        state = StateDatabase(path, reactor)  # type: ignore[arg-type]
        self.addCleanup(state.close)
        self.assertEqual(Freezes(state).all(), [("a.example", "two", 1.0)])
