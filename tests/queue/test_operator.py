"""What an operator does to mails: given up with a DSN, sent another way."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.queue.fakes import LATER, RELAYED, UNREACHABLE, World
from twisted_mail_node.events import MailChanged, MailFinished, RecipientFailed
from twisted_mail_node.message.status import Action
from twisted_mail_node.queue.operator import AT_ONCE
from twisted_mail_node.reasons import Reason
from twisted_mail_node.spool.mail import State


class FailTest(SynchronousTestCase):
    """``OutgoingQueue.fail``: mails leave the queue, and their senders are told."""

    def test_delayed(self) -> None:
        """Delayed recipients fail with the operator's words, are reported and leave; no attempt is made any more."""
        world = World(lambda request: LATER)
        queue_id = world.send("joe@there.example", "ann@there.example")
        world.pass_time(1)
        tried = len(world.agent.requests)
        self.assertEqual(self.successResultOf(world.queue.fail([queue_id, "nobody"], "not wanted here")), [queue_id])
        world.pass_time(1)
        ((told, recipients),) = world.reports
        self.assertEqual((told, len(recipients)), (queue_id, 2))
        for entry, status in recipients:
            self.assertEqual((status.action, status.status, status.words), (Action.FAILED, "5.0.0", "not wanted here"))
            self.assertEqual((status.reason, entry.attempts), (Reason.REMOVED, 1))
        self.assertEqual((world.spool.finished, len(world.agent.requests)), ([queue_id], tried))
        self.assertEqual([event.reason for event in world.of(RecipientFailed)], [Reason.REMOVED] * 2)
        self.assertEqual([event.queue_id for event in world.of(MailFinished)], [queue_id])

    def test_held(self) -> None:
        """A held mail is reported, too."""
        world = World(lambda request: RELAYED)
        queue_id = world.send("joe@there.example", hold="suspicious")
        self.successResultOf(world.queue.fail([queue_id], ""))
        world.pass_time(1)
        self.assertEqual((len(world.reports), world.spool.finished, world.agent.requests), (1, [queue_id], []))

    def test_in_attempt(self) -> None:
        """A recipient that is being tried goes on as it does: it may be delivered."""
        answer: Deferred[object] = Deferred()
        world = World(lambda request: answer if request.recipients[0].address.local_part == "slow" else LATER)
        queue_id = world.send("slow@a.example", "ann@b.example")
        world.pass_time(1)
        self.successResultOf(world.queue.fail([queue_id], "no"))
        world.pass_time(1)
        ((_, [(entry, _)]),) = world.reports
        self.assertEqual(str(entry.recipient.address), "ann@b.example")
        answer.callback(RELAYED)
        world.pass_time(1)
        self.assertEqual((world.spool.finished, len(world.reports)), ([queue_id], 1))

    def test_durable(self) -> None:
        """From the spool's commit on the report is owed: one that cannot be made is made later, until it is."""
        world = World(lambda request: UNREACHABLE)
        queue_id = world.send("joe@there.example")
        world.pass_time(1)
        world.notify_breaks = lambda: True
        self.successResultOf(world.queue.fail([queue_id], "no"))
        (entry,) = world.spool.entries()
        self.assertEqual((entry.state, entry.cause), (State.DELAYED, "removed"))
        assert entry.last is not None
        self.assertEqual(entry.last.action, Action.FAILED)
        world.pass_time(2)
        self.assertEqual((world.reports, len(world.spool.mails)), ([], 1))
        self.flushLoggedErrors(RuntimeError)
        world.notify_breaks = lambda: False
        world.pass_time(400)
        self.assertEqual((len(world.reports), world.spool.finished), (1, [queue_id]))
        self.assertEqual((len(world.of(RecipientFailed)), len(world.agent.requests)), (1, 1))

    def test_final_already(self) -> None:
        """What was delivered and only waits for its report, which failed, is reported as delivered."""
        world = World(lambda request: RELAYED)
        world.notify_breaks = lambda: True
        queue_id = world.send("joe@there.example", notify=("SUCCESS",))
        world.pass_time(1)
        self.assertEqual([entry.state for entry in world.spool.entries()], [State.DELAYED])
        world.notify_breaks = lambda: False
        self.assertEqual(self.successResultOf(world.queue.fail([queue_id], "no")), [queue_id])
        world.pass_time(1)
        ((_, [(_, status)]),) = world.reports
        self.assertEqual((status.action, world.spool.finished), (Action.RELAYED, [queue_id]))
        self.assertEqual((world.of(RecipientFailed), len(world.agent.requests)), ([], 1))
        self.flushLoggedErrors(RuntimeError)

    def test_spool_fails(self) -> None:
        """What the spool refuses to note was not done: nobody is told, the mail stays as it was."""
        world = World(lambda request: LATER)
        queue_id = world.send("joe@there.example")
        world.pass_time(1)
        world.spool.breaks = lambda what: what == "give_up"
        self.failureResultOf(world.queue.fail([queue_id], "no"))
        world.pass_time(2)
        self.assertEqual((world.of(RecipientFailed), world.reports, len(world.spool.mails)), ([], [], 1))

    def test_many_recipients(self) -> None:
        """A mail with thousands of recipients is spoken of some at a time: no reactor turn takes long."""
        world = World(lambda request: LATER)
        queue_id = world.send(*[f"r{number}@there.example" for number in range(3 * AT_ONCE)], hold="x")
        done = world.queue.fail([queue_id], "no")
        self.assertEqual(len(world.of(RecipientFailed)), AT_ONCE)
        self.assertNoResult(done)
        world.pass_time(1)
        self.assertEqual(self.successResultOf(done), [queue_id])
        self.assertEqual(len(world.of(RecipientFailed)), 3 * AT_ONCE)


class RemoveTest(SynchronousTestCase):
    """``OutgoingQueue.remove`` during an attempt."""

    def test_no_notice(self) -> None:
        """Of a mail that an operator removed while it was tried nobody hears that it is late, or failed."""
        for status in (LATER, LATER._replace(action=Action.FAILED, status="5.1.1")):
            answers: list[Any] = [LATER]
            last: Deferred[Any] = Deferred()
            world = World(lambda request: answers.pop() if answers else last, retry=(5 * 3600.0,))  # noqa: B023
            queue_id = world.send("joe@there.example")
            world.pass_time(4 * 3600 + 10, step=10)
            self.assertEqual(len(world.agent.requests), 2)
            self.assertEqual(self.successResultOf(world.queue.remove([queue_id])), [queue_id])
            last.callback(status)
            world.pass_time(1)
            self.assertEqual((world.reports, world.spool.mails), ([], {}))


class RetryTest(SynchronousTestCase):
    """``OutgoingQueue.retry``."""

    def test_probe(self) -> None:
        """Only with ``probe`` are suspensions ended: one page of many does it for all."""
        world = World(lambda request: UNREACHABLE)
        ids = []
        for number in range(4):
            ids.append(world.send(f"r{number}@dead.example"))
            world.pass_time(1)
        tried = len(world.agent.requests)
        self.successResultOf(world.queue.retry(ids[:1], probe=False))
        world.pass_time(1)
        self.assertEqual(len(world.agent.requests), tried)
        self.successResultOf(world.queue.retry(ids[:1]))
        world.pass_time(1)
        self.assertEqual(len(world.agent.requests), tried + 1)


class RerouteTest(SynchronousTestCase):
    """``OutgoingQueue.reroute``."""

    def test_now(self) -> None:
        """A mail goes to the next hop the operator names, now; "" lets it go by its route again."""
        world = World(lambda request: LATER)
        queue_id = world.send("joe@there.example")
        world.pass_time(1)
        self.assertEqual(self.successResultOf(world.queue.reroute([queue_id, "x"], "[192.0.2.9]:25")), [queue_id])
        world.pass_time(1)
        self.assertEqual([request.next_hop for request in world.agent.requests], ["there.example", "[192.0.2.9]:25"])
        self.successResultOf(world.queue.reroute([queue_id], ""))
        world.pass_time(1)
        self.assertEqual(world.agent.requests[-1].next_hop, "there.example")
        self.assertEqual([event.reason for event in world.of(MailChanged)], [Reason.REROUTED] * 2)
