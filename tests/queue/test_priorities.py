"""MT-PRIORITY (RFC 6710): what is urgent goes first where mails wait, and nothing starves."""

from __future__ import annotations

from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.queue.fakes import LATER, RELAYED, World
from twisted_mail_node.message.precedence import ROUND, class_of
from twisted_mail_node.queue import destinations, lines
from twisted_mail_node.queue.destinations import WINDOW_AT_FIRST
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.spool.mail import State


class OrderTests(SynchronousTestCase):
    """The line at a destination whose window is full."""

    def full(self, size: int = WINDOW_AT_FIRST) -> World:
        """A world in which every delivery takes a second, and the window of ``example.net`` is full."""

        def deliver(request: DeliveryRequest) -> Deferred[Any]:
            done: Deferred[Any] = Deferred()
            world.clock.callLater(1.0, done.callback, RELAYED)
            return done

        world = World(deliver)
        for _ in range(size):
            world.send("joe@example.net")
        world.clock.advance(0)
        return world

    def test_urgent_first(self) -> None:
        """What is urgent overtakes what waits; what waits with the same priority keeps its order."""
        with (
            mock.patch.object(destinations, "WINDOW_AT_MOST", 1),
            mock.patch.object(destinations, "WINDOW_AT_FIRST", 1),
        ):
            world = self.full(1)
            low = [world.send("a@example.net", priority=-3) for _ in range(2)]
            urgent = [world.send("a@example.net", priority=4) for _ in range(2)]
            world.clock.advance(0)
            world.pass_time(6)
        self.assertEqual([request.queue_id for request in world.agent.requests[1:]], [*urgent, *low])

    def test_full_line(self) -> None:
        """Where the line is full, an urgent mail takes the place of the last less urgent one, which comes back."""
        with mock.patch.object(lines, "WAITING_AT_MOST", 2):
            world = self.full()
            for priority in (0, -1, 3):
                world.send("a@example.net", priority=priority)
            world.clock.advance(0)
            delayed = [entry for entry in world.spool.entries() if entry.state is State.DELAYED]
            self.assertEqual(len(delayed), 1)
            self.assertEqual(world.spool.mails["Q22"].entries[0].state, State.DELAYED)
            world.send("a@example.net", priority=0)
            world.clock.advance(0)
            self.assertEqual(world.spool.mails["Q24"].entries[0].state, State.DELAYED)
            world.pass_time(120)
        self.assertEqual(world.spool.mails, {})

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.integers(-9, 9), min_size=1, max_size=120))
    def test_mixed_backlog(self, priorities: list[int]) -> None:
        """A mixed backlog drains whole; each class in the order it came, and none waits longer than its turns take."""
        with (
            mock.patch.object(destinations, "WINDOW_AT_MOST", 1),
            mock.patch.object(destinations, "WINDOW_AT_FIRST", 1),
        ):
            world = self.full(1)
            sent = [world.send("a@example.net", priority=priority) for priority in priorities]
            world.clock.advance(0)
            world.pass_time(len(sent) + 2)
        served = [request.queue_id for request in world.agent.requests[1:]]
        self.assertEqual(sorted(served), sorted(sent))
        for one in range(3):
            mine = [queue_id for queue_id, priority in zip(sent, priorities, strict=True) if class_of(priority) == one]
            self.assertEqual([queue_id for queue_id in served if queue_id in mine], mine)
            for place, queue_id in enumerate(mine, 1):
                rounds = -(-place // ROUND.count(one))
                self.assertLess(served.index(queue_id), rounds * len(ROUND))

    def test_flood(self) -> None:
        """However much urgent mail comes, an ordinary mail (a DSN, say) and a low one go on."""
        with (
            mock.patch.object(destinations, "WINDOW_AT_MOST", 1),
            mock.patch.object(destinations, "WINDOW_AT_FIRST", 1),
        ):
            world = self.full(1)
            ordinary = world.send("a@example.net")
            low = world.send("a@example.net", priority=-9)
            for _ in range(30):
                world.send("a@example.net", priority=9)
                world.send("a@example.net", priority=9)
                world.pass_time(1)
        served = [request.queue_id for request in world.agent.requests[1:]]
        self.assertLess(served.index(ordinary), 4)
        self.assertLess(served.index(low), len(ROUND))

    def test_delayed_keeps_its_class(self) -> None:
        """A mail that was delayed is as urgent at its next attempt."""
        answers: list[Any] = [LATER]
        slow: list[Deferred[Any]] = []

        def answer(request: DeliveryRequest) -> Any:
            if answers:
                return answers.pop()
            slow.append(Deferred())
            return slow[-1]

        with (
            mock.patch.object(destinations, "WINDOW_AT_MOST", 1),
            mock.patch.object(destinations, "WINDOW_AT_FIRST", 1),
        ):
            world = World(answer, retry=(60.0,))
            urgent = world.send("a@example.net", priority=5)
            world.clock.advance(0)
            others = [world.send("a@example.net") for _ in range(3)]
            world.pass_time(61)
            while slow:
                slow.pop(0).callback(RELAYED)
                world.clock.advance(0)
        served = [request.queue_id for request in world.agent.requests]
        self.assertEqual(served, [urgent, others[0], urgent, *others[1:]])
