"""One attempt: what each delivery status becomes, and that a defect anywhere is only ever a delay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.queue.fakes import DELIVERED, LATER, REFUSED, RELAYED, UNREACHABLE, World
from twisted_mail_node.events import (
    MailFinished,
    RecipientDelayed,
    RecipientDelivered,
    RecipientFailed,
    RecipientRelayed,
)
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.status import Action
from twisted_mail_node.queue.attempt import ATTEMPT_GRACE, NOTIFY_AGAIN, NOTIFY_TIME, ROUTE_TIME, SPOOL_AGAIN
from twisted_mail_node.queue.queue import SWEEP_TIME
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.reasons import Reason
from twisted_mail_node.routing import Route
from twisted_mail_node.spool.mail import Change, SpoolError, State
from twisted_mail_node.waiting import DeadlineError

DAY = 86400.0


class AttemptTests(SynchronousTestCase):
    """A mail through the queue, one attempt or a few."""

    def test_local(self) -> None:
        """A local recipient is delivered, finished and gone from the spool, in memory and without a reading."""
        world = World(lambda request: DELIVERED)
        takes = len(world.spool.takes)
        queue_id = world.send("joe@here.example", octets=b"hello")
        world.clock.advance(0)
        request = world.agent.requests[0]
        self.assertEqual((request.queue_id, request.next_hop), (queue_id, "here.example"))
        self.assertEqual((request.header, request.content.octets), (b"Received: x\r\n", b"hello"))
        self.assertEqual(world.spool.finished, [queue_id])
        self.assertEqual([type(event) for event in world.events], [RecipientDelivered, MailFinished])
        self.assertEqual(world.reports, [])
        self.assertEqual(len(world.spool.takes), takes)

    def test_remote(self) -> None:
        """A relayed recipient's event names the host and its words."""
        world = World(lambda request: RELAYED)
        queue_id = world.send("joe@example.net")
        world.clock.advance(0)
        event = world.of(RecipientRelayed)[0]
        self.assertEqual(
            (event.queue_id, event.recipient, event.destination, event.host, event.reply),
            (queue_id, "joe@example.net", "example.net", "mx.example.net", "250 ok"),
        )
        self.assertEqual(world.spool.finished, [queue_id])

    def test_groups(self) -> None:
        """Recipients with the same next hop share one request; the others have their own."""
        world = World(lambda request: DELIVERED)
        world.send("a@example.net", "b@here.example", "c@example.net", "d@example.org")
        world.clock.advance(0)
        asked = {
            request.next_hop: [str(recipient.address) for recipient in request.recipients]
            for request in world.agent.requests
        }
        self.assertEqual(
            asked,
            {
                "example.net": ["a@example.net", "c@example.net"],
                "here.example": ["b@here.example"],
                "example.org": ["d@example.org"],
            },
        )
        self.assertEqual(len(world.of(MailFinished)), 1)

    def test_whole(self) -> None:
        """The spool is told when the only recipient of a mail is finished, and of no other that the mail goes."""
        world = World(lambda request: DELIVERED)
        told: list[Change] = []
        record = world.spool._record

        def noted(changes: Sequence[Change]) -> None:
            told.extend(changes)
            record(changes)

        with mock.patch.object(world.spool, "_record", noted):
            world.send("a@here.example")
            world.send("b@here.example", "c@example.net")
            world.clock.advance(0)
        self.assertEqual([change.state for change in told], [State.FINISHED] * 3)
        self.assertEqual([change.whole for change in told], [True, False, False])

    def test_tls_levels(self) -> None:
        """Recipients whose routes ask for different TLS never share a request, though the next hop is the same."""
        world = World(lambda request: RELAYED._replace(tls="TLSv1.3, verified"))

        async def route(address: Address, envelope: object = None) -> Route:
            return Route(
                "relay", "[mx.example]:25", "verified" if address.domain == "bank.example" else "opportunistic"
            )

        self.patch(world.router, "route", route)
        world.send("a@bank.example", "b@example.net", "c@bank.example")
        world.clock.advance(0)
        asked = {request.tls: [str(one.address) for one in request.recipients] for request in world.agent.requests}
        wanted = {"verified": ["a@bank.example", "c@bank.example"], "opportunistic": ["b@example.net"]}
        self.assertEqual(asked, wanted)
        self.assertEqual({event.tls for event in world.of(RecipientRelayed)}, {"TLSv1.3, verified"})

    def test_groups_go_side_by_side(self) -> None:
        """A slow destination keeps no other recipient of the mail waiting."""
        never: Deferred[Any] = Deferred()
        world = World(lambda request: never if request.next_hop == "slow.example" else RELAYED)
        world.send("a@slow.example", "b@example.net")
        world.clock.advance(0)
        self.assertEqual([event.recipient for event in world.of(RecipientRelayed)], ["b@example.net"])
        states = [entry.state for entry in world.spool.entries()]
        self.assertEqual(states, [State.ACTIVE, State.FINISHED])
        self.assertEqual(world.of(MailFinished), [])
        never.callback(RELAYED)
        self.assertEqual(len(world.of(MailFinished)), 1)

    def test_delayed(self) -> None:
        """A delayed recipient is due again by the schedule, then tried again, with the attempts counted."""
        answers = [LATER, LATER, RELAYED]
        world = World(lambda request: answers.pop(0), retry=(60.0, 300.0))
        world.send("joe@example.net")
        world.clock.advance(0)
        entry = world.spool.entries()[0]
        self.assertEqual((entry.state, entry.attempts, entry.last), (State.DELAYED, 1, LATER))
        self.assertEqual(entry.due, world.clock.seconds() + 60.0)
        self.assertEqual(entry.destination, "example.net")
        world.pass_time(59)
        self.assertEqual(len(world.agent.requests), 1)
        world.pass_time(1)
        self.assertEqual(len(world.agent.requests), 2)
        world.pass_time(300)
        delays = [(event.attempts, event.words) for event in world.of(RecipientDelayed)]
        self.assertEqual(delays, [(1, LATER.words), (2, LATER.words)])
        self.assertEqual(len(world.of(MailFinished)), 1)

    def test_mixed_statuses(self) -> None:
        """Each recipient of a request has its own fate; only the delayed one is tried again."""
        answers: list[Any] = [[RELAYED, LATER, REFUSED], RELAYED]
        world = World(lambda request: answers.pop(0))
        queue_id = world.send("a@example.net", "b@example.net", "c@example.net")
        world.clock.advance(0)
        states = [entry.state for entry in world.spool.entries()]
        self.assertEqual(states, [State.FINISHED, State.DELAYED, State.FINISHED])
        self.assertEqual(world.of(MailFinished), [])
        world.pass_time(120)
        second = world.agent.requests[1]
        self.assertEqual([str(recipient.address) for recipient in second.recipients], ["b@example.net"])
        self.assertEqual(len(second.envelope.recipients), 3)
        self.assertEqual([event.queue_id for event in world.of(MailFinished)], [queue_id])

    def test_failed_is_reported_before_it_is_finished(self) -> None:
        """A failed recipient is finished only when the report is made; the report knows the attempt."""
        world = World(lambda request: REFUSED)
        reported: Deferred[None] = Deferred()
        world.queue._attempts._notify = lambda mail, told, until=None: reported
        queue_id = world.send("joe@example.net")
        world.clock.advance(0)
        self.assertEqual(world.spool.entries()[0].state, State.ACTIVE)
        reported.callback(None)
        self.assertEqual(world.spool.finished, [queue_id])
        event = world.of(RecipientFailed)[0]
        self.assertEqual((event.status, event.reason, event.attempts), ("5.1.1", Reason.REMOTE_REFUSED, 1))

    def test_the_report_knows_the_attempt(self) -> None:
        """What is reported carries the status, the destination and the number of attempts."""
        world = World(lambda request: REFUSED)
        queue_id = world.send("joe@example.net")
        world.clock.advance(0)
        ((reported, finals),) = world.reports
        ((entry, status),) = finals
        self.assertEqual((reported, status), (queue_id, REFUSED))
        self.assertEqual((entry.attempts, entry.destination, entry.last), (1, "example.net", REFUSED))

    def test_a_report_that_fails_is_repeated_alone(self) -> None:
        """When nobody could be told, only the telling is repeated: no second delivery, no second event."""
        broken = [True, True, False]
        world = World(lambda request: REFUSED)
        world.notify_breaks = lambda: broken.pop(0)
        queue_id = world.send("joe@example.net")
        world.clock.advance(0)
        entry = world.spool.entries()[0]
        self.assertEqual((entry.state, entry.last), (State.DELAYED, REFUSED))
        world.pass_time(NOTIFY_AGAIN * 3)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)
        self.assertEqual(len(world.agent.requests), 1)
        self.assertEqual(len(world.of(RecipientFailed)), 1)
        self.assertEqual([report[0] for report in world.reports], [queue_id])
        self.assertEqual(world.reports[0][1][0][1], REFUSED)
        self.assertEqual(len(world.of(MailFinished)), 1)

    def test_a_report_without_end(self) -> None:
        """A notifier that does not return is given up after its time, and asked again later."""
        world = World(lambda request: REFUSED)
        world.queue._attempts._notify = lambda mail, told, until=None: Deferred()
        world.send("joe@example.net")
        world.clock.advance(0)
        world.clock.advance(NOTIFY_TIME)
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        self.assertEqual(world.spool.entries()[0].state, State.DELAYED)

    def test_success_is_reported_when_asked_for(self) -> None:
        """A delivered recipient is reported when NOTIFY=SUCCESS asked for it (RFC 3461), and not otherwise."""
        world = World(lambda request: DELIVERED)
        asked = world.send("joe@here.example", notify=("SUCCESS", "FAILURE"))
        world.send("joe@here.example", notify=("FAILURE",))
        world.clock.advance(0)
        self.assertEqual([report[0] for report in world.reports], [asked])
        self.assertEqual(len(world.of(MailFinished)), 2)

    def test_a_success_report_that_fails(self) -> None:
        """A delivered recipient whose report failed is not delivered twice."""
        broken = [True, False]
        world = World(lambda request: DELIVERED)
        world.notify_breaks = lambda: broken.pop(0)
        world.send("joe@here.example", notify=("SUCCESS",))
        world.pass_time(NOTIFY_AGAIN * 2)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(len(world.agent.requests), 1)
        self.assertEqual(len(world.reports), 1)

    def test_expired(self) -> None:
        """A recipient that is still delayed at the end of the lifetime fails, in the last host's words."""
        world = World(lambda request: LATER, lifetime=3600.0)
        world.send("joe@example.net")
        world.pass_time(4000, step=5)
        (event,) = world.of(RecipientFailed)
        self.assertEqual((event.reason, event.status, event.words), (Reason.EXPIRED, "5.4.7", LATER.words))
        status = world.reports[0][1][0][1]
        self.assertEqual((status.action, status.remote_host), (Action.FAILED, "mx.example.net"))
        self.assertEqual(len(world.of(MailFinished)), 1)

    def test_expired_while_suspended(self) -> None:
        """A mail for a dead host expires too, in the words of what was tried."""
        world = World(lambda request: UNREACHABLE, lifetime=2 * DAY, delay_notices=())
        for _ in range(20):
            world.send("joe@dead.example")
        world.pass_time(2.1 * DAY, step=20)
        failed = world.of(RecipientFailed)
        self.assertEqual(len(failed), 20)
        self.assertEqual({event.reason for event in failed}, {Reason.EXPIRED})
        self.assertEqual(len(world.reports), 20)
        self.assertLess(len(world.agent.requests), 20 * 40)

    def test_no_route(self) -> None:
        """A recipient without a route fails with 5.4.4 in the router's words."""
        world = World(lambda request: DELIVERED)
        world.send("joe@nowhere.example", "ann@here.example")
        world.clock.advance(0)
        (event,) = world.of(RecipientFailed)
        self.assertEqual((event.status, event.reason), ("5.4.4", Reason.NO_ROUTE))
        self.assertEqual(event.words, "nobody takes mail for nowhere.example")
        self.assertEqual(len(world.of(RecipientDelivered)), 1)

    def test_a_broken_router(self) -> None:
        """A router that breaks delays; it refuses nothing."""
        world = World(lambda request: DELIVERED)
        world.router.broken = True
        world.send("joe@here.example")
        world.clock.advance(0)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        entry = world.spool.entries()[0]
        self.assertEqual(entry.state, State.DELAYED)
        world.router.broken = False
        world.pass_time(120)
        self.assertEqual(len(world.of(RecipientDelivered)), 1)

    def test_a_router_without_end(self) -> None:
        """A router that does not answer is given up after its time."""
        world = World(lambda request: DELIVERED)
        world.router.answer = Deferred()
        world.send("joe@here.example")
        world.clock.advance(0)
        world.clock.advance(ROUTE_TIME)
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        self.assertEqual(world.spool.entries()[0].state, State.DELAYED)

    def test_an_unknown_agent(self) -> None:
        """A route to an agent that does not exist delays."""

        async def route(address: object, envelope: object = None) -> Route:
            return Route("relay", "example.net")

        world = World(lambda request: DELIVERED)
        world.queue._attempts._router.route = route  # type: ignore[method-assign]
        world.queue._attempts._agents = {}
        world.send("joe@example.net")
        world.clock.advance(0)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertEqual(world.spool.entries()[0].state, State.DELAYED)

    def test_broken_agents(self) -> None:
        """An exception, too few statuses, and things that are no statuses all delay every recipient."""

        def explode(request: DeliveryRequest) -> Any:
            raise ZeroDivisionError

        for answer in (explode, lambda request: [DELIVERED], lambda request: None, lambda request: ["ok", "ok"]):
            world = World(answer)
            world.send("a@example.net", "b@example.net")
            world.clock.advance(0)
            self.assertEqual(len(self.flushLoggedErrors()), 1)
            events = world.of(RecipientDelayed)
            self.assertEqual([event.reason for event in events], [Reason.INTERNAL] * 2)
            self.assertEqual({entry.state for entry in world.spool.entries()}, {State.DELAYED})

    def test_an_agent_without_end(self) -> None:
        """An agent that does not keep to its deadline is given up, and its place is free again."""
        world = World(lambda request: Deferred(), attempt_time=600.0)
        world.send("joe@example.net")
        world.clock.advance(0)
        self.assertEqual(world.agent.requests[0].deadline, 600.0)
        world.pass_time(600.0 + ATTEMPT_GRACE - 1)
        self.assertEqual(world.spool.entries()[0].state, State.ACTIVE)
        world.pass_time(SWEEP_TIME)
        self.assertEqual(len(self.flushLoggedErrors(DeadlineError)), 1)
        self.assertEqual(world.spool.entries()[0].state, State.DELAYED)
        (destination,) = world.queue._destinations.status()
        self.assertEqual(destination["in_flight"], 0)

    def test_a_record_that_fails_is_repeated(self) -> None:
        """When the spool cannot record, the queue says it again until it can; nothing is delivered again."""
        world = World(lambda request: DELIVERED)
        fails = [True, True, False]
        world.spool.breaks = lambda what: what == "record" and fails.pop(0)
        queue_id = world.send("joe@here.example")
        world.pass_time(SPOOL_AGAIN * 3)
        self.assertEqual(len(self.flushLoggedErrors(SpoolError)), 2)
        self.assertEqual(world.spool.finished, [queue_id])
        self.assertEqual(len(world.agent.requests), 1)

    def test_a_suspended_destination(self) -> None:
        """Mails for a destination that is suspended are put off without an attempt, and others are not."""
        world = World(lambda request: UNREACHABLE if request.next_hop == "dead.example" else RELAYED)
        for _ in range(3):
            world.send("joe@dead.example")
            world.clock.advance(0)
        self.assertEqual(len(world.agent.requests), 3)
        world.send("joe@dead.example", "ann@example.net")
        world.clock.advance(0)
        self.assertEqual(len(world.agent.requests), 4)
        self.assertEqual(len(world.of(RecipientRelayed)), 1)
        event = world.of(RecipientDelayed)[-1]
        self.assertEqual((event.reason, event.attempts), (Reason.SUSPENDED, 0))

    def test_recovery_of_a_destination(self) -> None:
        """When a dead destination comes back, everything that waits for it goes out."""
        dead = [True]
        world = World(lambda request: UNREACHABLE if dead[0] else RELAYED)
        for _ in range(200):
            world.send("joe@dead.example")
        world.pass_time(3600, step=5)
        dead[0] = False
        world.pass_time(3 * 3600, step=5)
        self.assertEqual(len(world.of(MailFinished)), 200)
        self.assertEqual(world.spool.mails, {})
