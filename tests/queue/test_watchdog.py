"""The watchdog: whatever is broken on purpose here is named, and ended where it can be."""

from __future__ import annotations

from typing import Any
from unittest import mock

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.queue.fakes import DELIVERED, LATER, RELAYED, World
from twisted_mail_node.events import RecipientDelayed
from twisted_mail_node.events_outbound import WorkStuck
from twisted_mail_node.queue import attempt, lines
from twisted_mail_node.queue.destinations import WINDOW_AT_FIRST, Destinations
from twisted_mail_node.queue.watch import Watch
from twisted_mail_node.queue.watchdog import GRACE, LOOKS, SPOOL_TIME
from twisted_mail_node.routing import Route
from twisted_mail_node.spool.mail import NOT_TRIED, State

HOUR = 3600.0


class WatchdogTests(SynchronousTestCase):
    """Each stage, with its own deadline broken."""

    def test_nothing_to_say(self) -> None:
        """While every deadline holds nothing is named, whatever agents do."""
        world = World(lambda request: Deferred(), attempt_time=HOUR)
        for _ in range(30):
            world.send("joe@example.net", "ann@here.example")
        world.pass_time(4 * HOUR, step=10)
        self.assertEqual(world.of(WorkStuck), [])
        self.flushLoggedErrors()

    def stuck(self, world: World) -> tuple[str, str]:
        """Destination and stage of the one thing that was named."""
        events = world.of(WorkStuck)
        self.assertEqual(len(events), 1, events)
        self.assertEqual(events[0].queue_id, "Q1")
        self.assertGreaterEqual(events[0].seconds, GRACE)
        return events[0].destination, events[0].stage

    def test_agent(self) -> None:
        """An agent that hangs while its own watch is broken is named and ended; the mail is delayed."""
        with mock.patch.object(Watch, "sweep", lambda self: None):
            world = World(lambda request: Deferred(), attempt_time=600.0, retry=(10 * HOUR,))
            world.send("joe@example.net")
            world.pass_time(HOUR, step=10)
        self.assertEqual(self.stuck(world), ("example.net", "agent"))
        self.assertEqual([entry.state for entry in world.spool.entries()], [State.DELAYED])
        self.flushLoggedErrors()

    def test_one_way_of_two(self) -> None:
        """Of a mail that goes two ways the one that hangs is named and ended; the other has gone on."""
        with mock.patch.object(Watch, "sweep", lambda self: None):
            world = World(
                lambda request: DELIVERED if request.next_hop == "here.example" else Deferred(),
                attempt_time=600.0,
                retry=(10 * HOUR,),
            )
            world.send("joe@example.net", "ann@here.example")
            world.pass_time(HOUR, step=10)
        self.assertEqual(self.stuck(world), ("example.net", "agent"))
        self.assertEqual({entry.state for entry in world.spool.entries()}, {State.DELAYED, State.FINISHED})
        self.flushLoggedErrors()

    def test_router(self) -> None:
        """A router that takes no notice of its deadline is named and ended."""

        async def route(address: object, envelope: object) -> Route:
            for _ in range(2):
                try:
                    await Deferred()
                except CancelledError:
                    pass
            return Route("relay", "example.net")

        world = World(lambda request: RELAYED)
        world.router.route = route  # type: ignore[method-assign, assignment]
        world.send("joe@example.net")
        world.pass_time(HOUR / 2, step=10)
        self.assertEqual(self.stuck(world), ("", "routing"))
        self.assertEqual(world.spool.mails, {})

    def test_waiting(self) -> None:
        """Who waits for a place longer than anybody may is named, ended, and gets no place that nobody gives back."""
        waiting: list[Deferred[Any]] = []

        def answer(request: object) -> Deferred[Any]:
            waiting.append(Deferred())
            return waiting[-1]

        with mock.patch.object(lines, "WAITING_TIME", 1e9):
            world = World(answer, attempt_time=10 * HOUR, retry=(10 * HOUR,))
            for _ in range(WINDOW_AT_FIRST):
                world.send("joe@example.net")
            world.clock.advance(0)
            last = world.send("joe@example.net")
            world.pass_time(1200, step=10)
        (event,) = world.of(WorkStuck)
        self.assertEqual((event.queue_id, event.stage, event.destination), (last, "waiting", "example.net"))
        self.assertEqual([delayed.queue_id for delayed in world.of(RecipientDelayed)], [last])
        for one in waiting:
            one.callback(RELAYED)
        told: Any = world.queue.status()["destinations"]
        self.assertEqual(told[0]["in_flight"], 0)
        self.flushLoggedErrors()

    def test_reporting(self) -> None:
        """A notifier that never ends is named, and the report tried again."""
        with mock.patch.object(attempt, "NOTIFY_TIME", 1e9):
            world = World(lambda request: LATER._replace(action=LATER.action.FAILED))
            world.queue._attempts._notify = lambda *told: Deferred()
            world.send("joe@example.net")
            world.pass_time(600, step=10)
        self.assertEqual(self.stuck(world), ("example.net", "reporting"))
        self.assertEqual([entry.state for entry in world.spool.entries()], [State.DELAYED])
        self.flushLoggedErrors()

    def test_recording(self) -> None:
        """A spool that hangs is named, and again later; there is nothing else to be done."""
        world = World(lambda request: RELAYED)
        world.send("joe@example.net")
        world.spool.record = lambda changes: Deferred()  # type: ignore[method-assign]
        world.pass_time(SPOOL_TIME + GRACE + 130)
        self.assertEqual(self.stuck(world), ("example.net", "recording"))
        world.pass_time(2 * HOUR, step=10)
        self.assertGreater(len(world.of(WorkStuck)), 2)
        self.assertLess(len(world.of(WorkStuck)), 7)

    def test_schedule(self) -> None:
        """A schedule whose timer was lost is named and goes on."""
        answers = [LATER]
        world = World(lambda request: answers.pop() if answers else RELAYED, retry=(10.0,))
        world.send("joe@example.net")
        world.clock.advance(0)
        world.queue._schedule._cancel()
        world.pass_time(130)
        self.assertEqual([event.stage for event in world.of(WorkStuck)], ["schedule"])
        self.assertEqual(world.spool.mails, {})

    def test_room(self) -> None:
        """A schedule that waits for room though nothing is in work is named and goes on."""
        answers = [LATER]
        world = World(lambda request: answers.pop() if answers else RELAYED, retry=(10.0,))
        world.send("joe@example.net")
        world.clock.advance(0)
        world.queue._schedule._cancel()
        world.queue._schedule.full = True
        world.pass_time(130)
        self.assertEqual([event.stage for event in world.of(WorkStuck)], ["room"])
        self.assertEqual(world.spool.mails, {})

    def test_reading(self) -> None:
        """A reading of the spool that does not end is named."""
        world = World(lambda request: RELAYED)
        world.spool.next_due = lambda: Deferred()  # type: ignore[method-assign]
        world.pass_time(SPOOL_TIME + 200)
        self.assertEqual({event.stage for event in world.of(WorkStuck)}, {"reading"})

    def test_beginning(self) -> None:
        """Mails that were accepted and never begun, because a turn was lost, are named and begun."""
        world = World(lambda request: RELAYED)
        world.send("joe@example.net")
        assert world.queue._beginning is not None
        world.queue._beginning.cancel()
        world.queue._beginning = None
        world.pass_time(61)
        self.assertEqual([event.stage for event in world.of(WorkStuck)], ["beginning"])
        self.assertEqual(world.spool.mails, {})

    def test_line(self) -> None:
        """A line that nobody serves though there is a place is named and served."""
        waiting: list[Deferred[Any]] = []

        def answer(request: object) -> Deferred[Any]:
            waiting.append(Deferred())
            return waiting[-1]

        world = World(answer)
        for _ in range(WINDOW_AT_FIRST + 1):
            world.send("joe@example.net")
        world.clock.advance(0)
        with mock.patch.object(lines.Lines, "fill", lambda self, destination: None):
            for one in waiting:
                one.callback(RELAYED)
        self.assertEqual(len(world.spool.mails), 1)
        world.agent.answer = lambda request: RELAYED
        world.pass_time(61)
        self.assertEqual([event.stage for event in world.of(WorkStuck)], ["line"])
        self.assertEqual(world.spool.mails, {})

    def test_forgotten(self) -> None:
        """A recipient that is active in the spool while nobody works on it is put back after two looks."""
        world = World(lambda request: RELAYED)
        with mock.patch.object(world.queue, "accept", lambda mail: None):
            world.send("joe@example.net")
        world.pass_time(60.0 * LOOKS + 30)
        self.assertEqual(world.of(WorkStuck), [])
        with mock.patch.object(world.spool, "record", wraps=world.spool.record) as record:
            world.pass_time(60.0 * LOOKS)
        self.assertEqual([event.stage for event in world.of(WorkStuck)], ["forgotten"])
        self.assertEqual([change.cause for change in record.call_args_list[0].args[0]], [NOT_TRIED])
        self.assertEqual(world.spool.mails, {})

    def test_a_look_that_breaks(self) -> None:
        """One look that breaks keeps none of the others from looking."""
        with mock.patch.object(Destinations, "sweep", side_effect=RuntimeError("broken")):
            world = World(lambda request: Deferred(), attempt_time=60.0, retry=(10 * HOUR,))
            world.send("joe@example.net")
            world.pass_time(300)
        self.assertEqual({entry.state for entry in world.spool.entries()}, {State.DELAYED})
        self.flushLoggedErrors()

    def test_an_agent_that_goes_on_waiting(self) -> None:
        """An agent that catches each cancellation and waits again is left behind after some."""
        closed: list[int] = []

        async def deliver(request: object) -> Any:
            try:
                while True:
                    try:
                        await Deferred()
                    except CancelledError:
                        pass
            finally:
                closed.append(1)

        world = World(lambda request: RELAYED, attempt_time=60.0, retry=(10 * HOUR,))
        world.agent.deliver = deliver  # type: ignore[method-assign]
        world.send("joe@example.net")
        world.pass_time(600)
        self.assertEqual([entry.state for entry in world.spool.entries()], [State.DELAYED])
        self.assertEqual(closed, [1])
        self.assertEqual(world.of(WorkStuck), [])
        self.flushLoggedErrors()
