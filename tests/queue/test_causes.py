"""The queue says why each recipient waits, keeps what was tried, and lets an operator send mails another way."""

from __future__ import annotations

from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.queue.fakes import DELIVERED, LATER, REFUSED, RELAYED, UNREACHABLE, World
from tests.queue.test_queue import result
from twisted_mail_node.events import MailChanged, RecipientDelayed, RecipientRelayed
from twisted_mail_node.message.cause import understand
from twisted_mail_node.message.status import DeliveryStatus
from twisted_mail_node.queue import queue as module
from twisted_mail_node.queue.destination import Destination
from twisted_mail_node.queue.destinations import FAILURES_AT_MOST, Refusal
from twisted_mail_node.reasons import Reason
from twisted_mail_node.spool.mail import Attempt, Filter, Tally

SUSPENDED = understand(LATER._replace(reason=Reason.SUSPENDED)).code


def code(status: DeliveryStatus) -> str:
    """The cause's name."""
    return understand(status).code


class CauseTests(SynchronousTestCase):
    def causes(self, world: World) -> list[str]:
        """Why the recipients in the spool wait."""
        return [entry.cause for entry in world.spool.entries()]

    def test_tried(self) -> None:
        """What an attempt came to is the cause, and the attempt is kept, each time."""
        answers = [LATER, UNREACHABLE, RELAYED]
        world = World(lambda request: answers.pop(0), retry=(60.0,))
        queue_id = world.send("joe@example.net")
        world.clock.advance(0)
        first = world.clock.seconds()
        self.assertEqual(self.causes(world), [code(LATER)])
        world.pass_time(60)
        self.assertEqual(self.causes(world), [code(UNREACHABLE)])
        attempts = [Attempt(first, 0, "example.net", LATER), Attempt(first + 60, 0, "example.net", UNREACHABLE)]
        self.assertEqual(result(world.queue.attempts(queue_id)), attempts)
        told = [event.cause for event in world.of(RecipientDelayed)]
        self.assertEqual(told, [code(LATER), code(UNREACHABLE)])
        world.pass_time(60)
        self.assertEqual(world.spool.finished, [queue_id])
        self.assertEqual(result(world.queue.attempts(queue_id)), attempts)

    def test_refused(self) -> None:
        """Where no attempt is made, what was tried keeps its cause, and what was not has the refusal's; no attempt is
        kept."""
        answers: list[Any] = [LATER] + FAILURES_AT_MOST * [UNREACHABLE]
        world = World(lambda request: answers.pop(0), retry=(30.0,))
        tried = world.send("joe@example.net")
        world.clock.advance(0)
        for _ in range(FAILURES_AT_MOST):
            world.send("ann@example.net")
        world.clock.advance(0)
        fresh = world.send("eve@example.net")
        world.clock.advance(0)
        self.assertEqual(answers, [])
        world.pass_time(35)  # the first is due; its destination is suspended
        self.assertEqual(world.spool.mails[tried].entries[0].cause, code(LATER))
        self.assertEqual(world.spool.mails[tried].entries[0].last, LATER)
        self.assertEqual(world.spool.mails[fresh].entries[0].cause, SUSPENDED)
        self.assertEqual([len(result(world.queue.attempts(one))) for one in (tried, fresh)], [1, 0])

    def test_refused_again(self) -> None:
        """What was never tried tells the newest refusal."""
        answers: list[Any] = FAILURES_AT_MOST * [UNREACHABLE]
        world = World(lambda request: answers.pop(0) if answers else Deferred(), retry=(10_000.0,))
        for _ in range(FAILURES_AT_MOST):
            world.send("ann@example.net")
        world.clock.advance(0)
        fresh = world.send("eve@example.net")
        world.clock.advance(0)
        self.assertEqual(world.spool.mails[fresh].entries[0].cause, SUSPENDED)
        busy = LATER._replace(reason=Reason.DESTINATION_BUSY)
        refusal = Refusal(busy, world.clock.seconds() + 60)
        with mock.patch.object(Destination, "refuse_closed", lambda *words: refusal):
            result(world.queue.release([fresh]))
            world.clock.advance(0)
        entry = world.spool.mails[fresh].entries[0]
        self.assertEqual((entry.cause, entry.last and entry.last.reason), (code(busy), Reason.DESTINATION_BUSY))

    def test_no_room(self) -> None:
        """A mail for which there was no room was not tried."""
        with mock.patch.object(module, "MAILS_AT_MOST", 1):
            world = World(lambda request: Deferred())
            world.send("a@here.example")
            world.send("b@here.example")
            world.clock.advance(0)
            self.assertEqual(self.causes(world), ["", "not-tried"])

    def test_report_that_failed(self) -> None:
        """Where the sender could not be told, the failure is the cause; no attempt put the recipient off."""
        world = World(lambda request: REFUSED)
        world.notify_breaks = lambda: True
        queue_id = world.send("joe@example.net")
        world.clock.advance(0)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(self.causes(world), [code(REFUSED)])
        self.assertEqual(result(world.queue.attempts(queue_id)), [])

    def test_tally(self) -> None:
        """What waits is counted by destination and cause, and its ids come page by page."""
        world = World(lambda request: LATER)
        sent = [world.send("a@example.net", "b@example.net"), world.send("c@example.org")]
        world.clock.advance(0)
        accepted = world.clock.seconds()
        self.assertEqual(
            result(world.queue.tally(Filter())),
            [Tally("example.net", code(LATER), 2, accepted), Tally("example.org", code(LATER), 1, accepted)],
        )
        self.assertEqual(result(world.queue.select(Filter(), 1)), sent[:1])
        self.assertEqual(result(world.queue.select(Filter(), 1, sent[0])), sent[1:])


class RerouteTests(SynchronousTestCase):
    def test_reroute(self) -> None:
        """A rerouted mail goes to that next hop at once, and on later attempts; taken back, by its routes again."""
        world = World(lambda request: LATER if request.next_hop != "[192.0.2.7]:2525" else UNREACHABLE, retry=(60.0,))
        queue_id = world.send("joe@example.net", "bob@example.org")
        world.clock.advance(0)
        del world.agent.requests[:]
        self.assertEqual(result(world.queue.reroute([queue_id, "x"], "[192.0.2.7]:2525")), [queue_id])
        self.assertEqual(world.of(MailChanged), [MailChanged(queue_id, Reason.REROUTED)])
        world.clock.advance(0)
        request = world.agent.requests[0]
        self.assertEqual((request.next_hop, len(request.recipients)), ("[192.0.2.7]:2525", 2))
        world.pass_time(61)
        self.assertEqual({one.next_hop for one in world.agent.requests[1:]}, {"[192.0.2.7]:2525"})
        del world.agent.requests[:]
        result(world.queue.reroute([queue_id], ""))
        world.clock.advance(0)
        self.assertEqual({one.next_hop for one in world.agent.requests}, {"example.net", "example.org"})

    def test_where_no_rule_leads(self) -> None:
        """Also what has no route, or a local one, goes where the operator wants it, by the relay."""
        world = World(lambda request: RELAYED)
        queue_id = world.send("joe@here.example", "bob@nowhere.example", hold="for now")
        result(world.queue.reroute([queue_id], "mx.example.com"))
        result(world.queue.release([queue_id]))
        world.pass_time(1)
        self.assertEqual({event.destination for event in world.of(RecipientRelayed)}, {"mx.example.com"})
        self.assertEqual(world.spool.finished, [queue_id])

    def test_not_before_its_time(self) -> None:
        """What its sender holds back until a time to come goes to the new next hop then, not now."""
        world = World(lambda request: DELIVERED)
        later = world.clock.seconds() + 600
        queue_id = world.send("joe@example.net", release_at=later)
        result(world.queue.reroute([queue_id], "mx.example.com"))
        world.pass_time(599)
        self.assertEqual(world.agent.requests, [])
        world.pass_time(2)
        self.assertEqual([one.next_hop for one in world.agent.requests], ["mx.example.com"])

    def test_no_next_hop(self) -> None:
        """What is no next hop is a ValueError, and changes nothing."""
        world = World(lambda request: LATER)
        queue_id = world.send("joe@example.net")
        world.clock.advance(0)
        for text in ("192.0.2.7", "[", "unix:relative", "a b"):
            self.failureResultOf(world.queue.reroute([queue_id], text), ValueError)
        self.assertEqual([entry.next_hop for entry in world.spool.entries()], [""])
