"""The queue as a whole: its door, its bounds, its operator, its end, and that nothing is ever lost."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.queue.fakes import DELIVERED, LATER, REFUSED, RELAYED, UNREACHABLE, FakeSpool, World
from twisted_mail_node.events import Event, MailChanged, MailFinished, MailHeld, RecipientFailed
from twisted_mail_node.interfaces import IIncoming, IMailQueue, ISpool
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.queue import queue as module
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.queue.schedule import SLICE
from twisted_mail_node.reasons import Reason
from twisted_mail_node.spool.mail import Change, Filter, SpoolError, State

HOUR = 3600.0


def result(deferred: Deferred[Any]) -> Any:
    """What a Deferred came to, at once."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    return results[0] if results else None


def give(attempt: Deferred[Any], request: DeliveryRequest) -> Deferred[Any]:
    """An answer that waits for ``attempt``."""
    return attempt


class DoorTests(SynchronousTestCase):
    """How mails come in."""

    def test_crowded_by_local_deliveries(self) -> None:
        """Much content that is being delivered on this machine is a reason to pause, until it is delivered."""
        answer: Deferred[Any] = Deferred()
        world = World(lambda request: answer, memory=2_000_000)
        world.send("joe@here.example", octets=b"x" * 1_000_000)
        world.clock.advance(0)
        self.assertTrue(world.queue.crowded)
        answer.callback(DELIVERED)
        self.assertFalse(world.queue.crowded)

    def test_the_last_of_several(self) -> None:
        """The only recipient that is due of a mail with several is finished alone: the others are not forgotten."""
        world = World(lambda request: LATER if answers[request.recipients[0].address.domain] else RELAYED)
        answers = {"a.example": 0, "b.example": 1, "c.example": 2}
        world.send(*[f"joe@{domain}" for domain in answers])
        for state in (State.DELAYED, State.FINISHED):
            world.pass_time(70)
            states = [entry.state for entry in world.spool.entries()]
            self.assertEqual(states, [State.FINISHED, state, State.DELAYED])
            answers["b.example"] = 0
            world.pass_time(300)
        answers["c.example"] = 0
        world.pass_time(24 * HOUR, step=60)
        self.assertEqual(world.spool.mails, {})

    def test_interfaces(self) -> None:
        """The queue and its incoming mail provide what they say."""
        world = World(lambda request: DELIVERED)
        self.assertTrue(verifyObject(IMailQueue, world.queue))
        self.assertTrue(verifyObject(IIncoming, world.queue.begin()))
        self.assertTrue(verifyObject(ISpool, world.spool))

    def test_nothing_before_the_commit(self) -> None:
        """A mail that was aborted is never tried."""
        world = World(lambda request: DELIVERED)
        incoming = world.queue.begin()
        Deferred.fromCoroutine(incoming.write(b"abc"))
        self.assertEqual(incoming.size, 3)
        incoming.abort()
        world.pass_time(100)
        self.assertEqual(world.agent.requests, [])

    def test_held(self) -> None:
        """A mail that a policy holds is not tried until an operator releases it."""
        world = World(lambda request: DELIVERED)
        queue_id = world.send("joe@here.example", hold="looks odd")
        world.pass_time(HOUR)
        self.assertEqual(world.agent.requests, [])
        self.assertEqual(world.of(MailHeld), [MailHeld(queue_id, Reason.HELD, "looks odd")])
        self.assertEqual(result(world.queue.release([queue_id])), [queue_id])
        world.pass_time(1)
        self.assertEqual(len(world.of(MailFinished)), 1)
        self.assertEqual(world.of(MailChanged), [MailChanged(queue_id, Reason.RELEASED)])

    def test_many_at_once(self) -> None:
        """Attempts of a large group begin in slices, one a reactor turn."""
        world = World(lambda request: DELIVERED)
        for _ in range(module.BEGUN_AT_ONCE + 10):
            world.send("joe@here.example")
        world.queue._begin_fresh()
        self.assertEqual(len(world.agent.requests), module.BEGUN_AT_ONCE)
        self.assertEqual(world.queue.status()["not_begun"], 10)
        world.clock.advance(0)
        self.assertEqual(len(world.agent.requests), module.BEGUN_AT_ONCE + 10)

    def test_what_a_former_process_left(self) -> None:
        """What is due when the queue starts is tried."""
        world = World(lambda request: DELIVERED)
        queue_id = world.send("joe@here.example", hold="for now")
        world.spool.release([queue_id], world.clock.seconds())
        world.queue._schedule.stop()
        world.queue.start()
        self.assertEqual(world.spool.finished, [queue_id])


class BoundsTests(SynchronousTestCase):
    """What lies in memory is bounded, and what does not fit comes back."""

    def test_octets(self) -> None:
        """Mails beyond the memory for content go back to the spool, and come from there in order."""
        waiting: list[Deferred[Any]] = []

        def answer(request: DeliveryRequest) -> Deferred[Any]:
            waiting.append(Deferred())
            return waiting[-1]

        world = World(answer, memory=1 << 20)
        sent = [world.send("joe@here.example", octets=b"x" * 30_000) for _ in range(300)]
        world.clock.advance(0)
        self.assertLessEqual(len(world.agent.requests), 40 + SLICE)
        self.assertTrue(world.queue.status()["backlog_waits_for_room"])
        while waiting:
            waiting.pop(0).callback(DELIVERED)
            world.clock.advance(0.01)
        self.assertEqual(sorted(world.spool.finished), sorted(sent))
        self.assertEqual(world.queue.status()["octets"], 0)
        self.assertEqual(len(world.agent.requests), 300)

    def test_mails(self) -> None:
        """The number of mails in work is bounded too."""
        waiting: list[Deferred[Any]] = []

        def answer(request: DeliveryRequest) -> Deferred[Any]:
            waiting.append(Deferred())
            return waiting[-1]

        most = 0
        with mock.patch.object(module, "MAILS_AT_MOST", 20):
            world = World(answer)
            for _ in range(200):
                world.send("joe@here.example")
            world.clock.advance(0)
            while waiting:
                mails = world.queue.status()["mails"]
                assert isinstance(mails, int)
                most = max(most, mails)
                waiting.pop(0).callback(DELIVERED)
                world.clock.advance(0.01)
        self.assertEqual(len(world.spool.finished), 200)
        self.assertLessEqual(most, 20)

    def test_no_memory_at_all(self) -> None:
        """With next to no memory each mail is still delivered, one at a time."""
        world = World(lambda request: DELIVERED, memory=1)
        for _ in range(20):
            world.send("joe@here.example")
        world.pass_time(100)
        self.assertEqual(len(world.spool.finished), 20)

    def test_a_slow_destination_leaves_room(self) -> None:
        """However many mails wait for a destination that hangs, local mail is delivered."""
        world = World(lambda request: DELIVERED if request.next_hop == "here.example" else Deferred())
        for _ in range(3000):
            world.send("joe@slow.example")
        world.clock.pump([0] * 30)
        world.send("joe@here.example")
        world.clock.pump([0] * 30)
        self.assertEqual(len(world.of(MailFinished)), 1)


class OperatorTests(SynchronousTestCase):
    """What an operator sees and does."""

    def test_find(self) -> None:
        """``find`` shows what waits."""
        world = World(lambda request: LATER)
        queue_id = world.send("joe@example.net")
        world.clock.advance(0)
        (mail,) = result(world.queue.find(Filter()))
        self.assertEqual((mail.queue_id, mail.entries[0].last), (queue_id, LATER))

    def test_retry(self) -> None:
        """``retry`` brings a delayed mail up at once."""
        answers = [LATER, RELAYED]
        world = World(lambda request: answers.pop(0), retry=(HOUR,))
        queue_id = world.send("joe@example.net")
        world.clock.advance(0)
        self.assertEqual(result(world.queue.retry([queue_id, "unknown"])), [queue_id])
        world.clock.advance(0)
        self.assertEqual(world.spool.finished, [queue_id])
        self.assertEqual(world.of(MailChanged), [MailChanged(queue_id, Reason.RETRIED)])

    def test_retry_of_a_suspended_destination(self) -> None:
        """``retry`` makes an attempt also where the destination is suspended; when it answers, what was put off for
        the suspension's sake comes, too, and what has a schedule of its own keeps to it."""
        dead = [True]
        world = World(lambda request: UNREACHABLE if dead[0] else RELAYED, retry=(HOUR,))
        sent = [world.send("joe@dead.example") for _ in range(4)]
        world.clock.advance(0)
        dead[0] = False
        asked = len(world.agent.requests)
        world.queue.retry(sent[:1])
        world.clock.advance(0)
        self.assertEqual([request.queue_id for request in world.agent.requests[asked:]], [sent[0], sent[3]])
        self.assertEqual(world.spool.finished, [sent[0], sent[3]])

    def test_hold(self) -> None:
        """``hold`` keeps a delayed mail until it is released."""
        answers = [LATER, RELAYED]
        world = World(lambda request: answers.pop(0))
        queue_id = world.send("joe@example.net")
        world.clock.advance(0)
        self.assertEqual(result(world.queue.hold([queue_id])), [queue_id])
        world.pass_time(HOUR)
        self.assertEqual(len(world.agent.requests), 1)
        self.assertEqual([event.queue_id for event in world.of(MailHeld)], [queue_id])
        world.queue.release([queue_id])
        world.clock.advance(0)
        self.assertEqual(world.spool.finished, [queue_id])

    def test_remove(self) -> None:
        """``remove`` forgets a mail without a report."""
        world = World(lambda request: LATER)
        queue_id = world.send("joe@example.net")
        world.clock.advance(0)
        self.assertEqual(result(world.queue.remove([queue_id])), [queue_id])
        world.pass_time(HOUR)
        self.assertEqual(len(world.agent.requests), 1)
        self.assertEqual(world.reports, [])
        self.assertEqual(world.of(MailChanged), [MailChanged(queue_id, Reason.REMOVED)])

    def test_removed_during_an_attempt(self) -> None:
        """A mail that is removed while an attempt is under way stays gone, and nobody is told."""
        for status in (REFUSED, LATER, RELAYED):
            attempt: Deferred[Any] = Deferred()
            world = World(partial(give, attempt))
            queue_id = world.send("joe@example.net", notify=("SUCCESS", "FAILURE"))
            world.clock.advance(0)
            world.queue.remove([queue_id])
            attempt.callback(status)
            world.pass_time(HOUR)
            self.assertEqual(world.spool.mails, {})
            self.assertEqual(world.reports, [])
            self.assertEqual(world.of(MailFinished), [])
            self.assertEqual(world.queue._removed, set())

    def test_removed_while_it_waits_for_a_place(self) -> None:
        """A mail that is removed while it waits in line is not sent when its turn comes."""
        waiting: list[Deferred[Any]] = []

        def answer(request: DeliveryRequest) -> Deferred[Any]:
            waiting.append(Deferred())
            return waiting[-1]

        world = World(answer)
        sent = [world.send("joe@example.net") for _ in range(30)]
        world.clock.advance(0)
        world.queue.remove(sent[25:])
        while waiting:
            waiting.pop(0).callback(RELAYED)
        self.assertEqual(world.spool.finished, sent[:25])
        self.assertEqual(len(world.agent.requests), 25)

    def test_held_during_an_attempt(self) -> None:
        """A mail in an attempt is not held; the attempt goes on to its end."""
        attempt: Deferred[Any] = Deferred()
        world = World(lambda request: attempt)
        queue_id = world.send("joe@example.net")
        world.clock.advance(0)
        world.queue.hold([queue_id])
        attempt.callback(RELAYED)
        self.assertEqual(world.spool.finished, [queue_id])

    def test_a_failing_spool(self) -> None:
        """An operator is told when the spool fails, and nothing is said to have changed."""
        world = World(lambda request: LATER)
        queue_id = world.send("joe@example.net")
        world.clock.advance(0)
        world.spool.breaks = lambda what: True
        for change in (world.queue.hold, world.queue.release, world.queue.retry, world.queue.remove):
            self.failureResultOf(change([queue_id]), SpoolError)
        self.assertEqual(world.of(MailChanged) + world.of(MailHeld), [])

    def test_status(self) -> None:
        """``status`` counts what is in memory and shows the destinations."""
        world = World(lambda request: Deferred())
        world.send("joe@example.net", octets=b"x" * 1000)
        world.clock.advance(0)
        status = world.queue.status()
        self.assertEqual((status["mails"], status["octets"]), (1, 1000 + module.MAIL_WEIGHT))
        destinations: Any = status["destinations"]
        (destination,) = destinations
        self.assertEqual((destination["destination"], destination["in_flight"]), ("example.net", 1))


class StopTests(SynchronousTestCase):
    """The end of the queue."""

    def test_waits_for_attempts(self) -> None:
        """``stop`` fires when the attempts under way have ended; nothing new begins."""
        attempt: Deferred[Any] = Deferred()
        world = World(lambda request: attempt)
        queue_id = world.send("joe@here.example")
        world.clock.advance(0)
        world.send("ann@here.example")
        stopped = world.queue.stop(30.0)
        self.assertNoResult(stopped)
        world.send("demo@here.example")
        attempt.callback(DELIVERED)
        self.successResultOf(stopped)
        self.assertEqual(world.spool.finished, [queue_id])
        self.assertEqual({entry.state for entry in world.spool.entries()}, {State.ACTIVE})
        self.assertEqual(len(world.agent.requests), 1)
        self.assertEqual(world.clock.getDelayedCalls(), [])

    def test_waits_no_longer_than_asked(self) -> None:
        """``stop`` fires after its seconds, whatever is under way."""
        world = World(lambda request: Deferred())
        world.send("joe@here.example")
        world.clock.advance(0)
        stopped = world.queue.stop(30.0)
        world.clock.advance(29.0)
        self.assertNoResult(stopped)
        world.clock.advance(1.0)
        self.successResultOf(stopped)

    def test_idle(self) -> None:
        """Without anything under way ``stop`` fires at once and leaves no timer."""
        world = World(lambda request: DELIVERED)
        self.successResultOf(world.queue.stop(30.0))
        self.assertEqual(world.clock.getDelayedCalls(), [])

    def test_who_waits_for_a_place(self) -> None:
        """Who waits in line when the queue stops is neither sent nor recorded: active, so due at the next start."""
        world = World(lambda request: Deferred())
        for _ in range(30):
            world.send("joe@example.net")
        world.clock.advance(0)
        stopped = world.queue.stop(5.0)
        world.clock.advance(5.0)
        self.successResultOf(stopped)
        self.assertEqual(len(world.agent.requests), 20)
        self.assertEqual({entry.state for entry in world.spool.entries()}, {State.ACTIVE})

    def test_a_spool_that_does_not_record(self) -> None:
        """``stop`` ends the wait for a spool that fails."""
        world = World(lambda request: DELIVERED)
        world.send("joe@here.example")
        world.spool.breaks = lambda what: True
        world.clock.advance(0)
        stopped = world.queue.stop(5.0)
        world.clock.advance(5.0)
        self.successResultOf(stopped)
        self.assertEqual(len(self.flushLoggedErrors(SpoolError)), 2)
        self.assertEqual(world.clock.getDelayedCalls(), [])


ADDRESSES = [f"{name}@{domain}" for name in "ab" for domain in ("here.example", "one.example", "two.example")]
ADDRESSES.append("joe@nowhere.example")
UNCERTAIN = DeliveryStatus(Action.DELAYED, "4.4.2", Reason.UNCERTAIN, "the connection ended")


class PropertyTests(SynchronousTestCase):
    """Whatever agents, notifier and spool come to."""

    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 1 << 32), st.integers(1, 25), st.sampled_from([0.0, 0.3]), st.sampled_from([5000, 64 << 20]))
    def test_nothing_is_lost(self, seed: int, mails: int, delay: float, memory: int) -> None:
        """Every recipient ends delivered, relayed, or failed and reported exactly once; none is tried twice at once;
        and at any time each one is in an attempt or has a due time."""
        random = Random(seed)
        calm = [False]

        def answer(request: DeliveryRequest) -> Any:
            if not calm[0] and random.random() < 0.1:
                raise RuntimeError("the agent is broken")
            outcomes = [DELIVERED, RELAYED, REFUSED]
            if not calm[0]:
                outcomes += [LATER, UNREACHABLE, UNREACHABLE, UNCERTAIN]
            statuses = [random.choice(outcomes) for _ in request.recipients]
            if random.random() < 0.5:
                return statuses
            later: Deferred[Any] = Deferred()
            world.clock.callLater(random.uniform(0, 400), later.callback, statuses)
            return later

        world = World(answer, delay=delay, memory=memory, lifetime=12 * HOUR)
        world.notify_breaks = lambda: not calm[0] and random.random() < 0.2
        world.spool.breaks = lambda what: not calm[0] and random.random() < 0.1
        sent: dict[str, int] = {}
        for _ in range(mails):
            chosen = random.sample(ADDRESSES, random.randint(1, 5))
            notify: tuple[str, ...] = random.choice([(), ("SUCCESS", "FAILURE")])
            sent[world.send(*chosen, notify=notify)] = len(chosen)
            world.pass_time(random.choice([0, 1, 90]))
        world.pass_time(HOUR, step=7)
        calm[0] = True
        world.pass_time(30 * HOUR, step=60)
        self.flushLoggedErrors()
        self.check_all_ended(world, sent)
        self.successResultOf(world.queue.stop(1.0))
        world.clock.advance(delay)  # a reading of the spool that was under way
        self.assertEqual(world.clock.getDelayedCalls(), [])

    def check_all_ended(self, world: World, sent: dict[str, int]) -> None:
        self.assertEqual(world.spool.mails, {})
        self.assertEqual(sorted(world.spool.finished), sorted(sent))
        self.assertEqual(world.agent.twice, [])
        self.assertEqual(sorted(event.queue_id for event in world.of(MailFinished)), sorted(sent))
        ended: dict[tuple[str, str], list[Event]] = {}
        for event in world.events:
            if type(event).__name__ in ("RecipientDelivered", "RecipientRelayed", "RecipientFailed"):
                ended.setdefault((event.queue_id, event.recipient), []).append(event)  # type: ignore[union-attr]
        self.assertEqual(len(ended), sum(sent.values()))
        self.assertEqual({len(events) for events in ended.values()}, {1})
        failed = sorted((event.queue_id, event.recipient) for event in world.of(RecipientFailed))
        reported = sorted(
            (queue_id, str(entry.recipient.address))
            for queue_id, finals in world.reports
            for entry, status in finals
            if status.action is Action.FAILED
        )
        self.assertEqual(failed, reported)
        succeeded = [
            (queue_id, entry)
            for queue_id, finals in world.reports
            for entry, status in finals
            if status.action is not Action.FAILED
        ]
        self.assertTrue(all("SUCCESS" in entry.recipient.notify for _, entry in succeeded))
        self.assertEqual((world.queue.status()["mails"], world.queue.status()["octets"]), (0, 0))

    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 1 << 32))
    def test_operators_at_any_moment(self, seed: int) -> None:
        """Whatever an operator does while attempts run: removed mails stay gone, all others end."""
        random = Random(seed)

        def answer(request: DeliveryRequest) -> Any:
            later: Deferred[Any] = Deferred()
            statuses = [random.choice([RELAYED, LATER, UNREACHABLE, REFUSED]) for _ in request.recipients]
            world.clock.callLater(random.uniform(0, 100), later.callback, statuses)
            return later

        world = World(answer, delay=random.choice([0.0, 0.2]), lifetime=12 * HOUR)
        sent = [world.send(*random.sample(ADDRESSES, random.randint(1, 3))) for _ in range(15)]
        for _ in range(60):
            operate = random.choice([world.queue.hold, world.queue.release, world.queue.retry, world.queue.remove])
            if operate != world.queue.remove or random.random() < 0.3:
                operate(random.sample(sent, 3))
            world.pass_time(random.choice([1, 20, 100]))
        removed = {event.queue_id for event in world.of(MailChanged) if event.reason == Reason.REMOVED}
        world.queue.release(sent)
        world.pass_time(30 * HOUR, step=60)
        self.assertEqual(world.spool.mails, {})
        self.assertEqual(set(world.spool.finished) | removed, set(sent))
        self.assertEqual(world.agent.twice, [])
        self.assertEqual(world.queue._working, {})
        self.assertEqual(world.queue._removed, set())


class FakeSpoolTests(SynchronousTestCase):
    """The fake keeps the queue honest."""

    def test_it_complains(self) -> None:
        """A change to a recipient that is not the queue's is a defect the tests would see."""
        world = World(lambda request: LATER)
        queue_id = world.send("joe@example.net")
        world.clock.advance(0)
        spool: FakeSpool = world.spool
        with self.assertRaises(AssertionError):
            spool.record([Change(queue_id, 0, State.FINISHED)])
