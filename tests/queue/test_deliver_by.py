"""DELIVERBY (RFC 2852): what happens when the sender's time passes."""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.queue.fakes import DELIVERED, LATER, RELAYED, UNREACHABLE, World
from twisted_mail_node.message.status import Action
from twisted_mail_node.queue.destinations import WINDOW_AT_FIRST
from twisted_mail_node.reasons import Reason
from twisted_mail_node.spool.mail import State

HOUR = 3600.0


def give(attempt: Deferred[Any], request: object) -> Deferred[Any]:
    """An answer that waits for ``attempt``."""
    return attempt


BY = 1_000_000.0 + HOUR  #: an hour after a World begins


class ReturnTests(SynchronousTestCase):
    """Mode R."""

    def test_failed_at_its_time(self) -> None:
        """The recipient fails at that very time though the next attempt was due later, and is not tried again."""
        world = World(lambda request: LATER, retry=(1800.0, 7200.0))
        world.send("joe@example.net", deliver_by=BY, by_mode="R")
        world.pass_time(HOUR - 1)
        self.assertEqual((len(world.agent.requests), world.reports), (2, []))
        world.pass_time(1)
        self.assertEqual(len(world.agent.requests), 2)
        ((_, [(entry, status)]),) = world.reports
        self.assertEqual((status.action, status.status, status.reason), (Action.FAILED, "5.4.7", Reason.NOT_IN_TIME))
        self.assertEqual((status.words, entry.attempts), (LATER.words, 2))
        self.assertEqual(world.spool.mails, {})

    def test_not_tried_at_all(self) -> None:
        """A mail whose time passed before its first attempt is never tried."""
        world = World(lambda request: RELAYED)
        queue_id = world.send("joe@example.net", "ann@here.example", deliver_by=BY, by_mode="R", hold="for now")
        world.pass_time(HOUR)
        world.queue.release([queue_id])
        world.clock.advance(0)
        self.assertEqual(world.agent.requests, [])
        self.assertEqual([status.reason for _, status in world.reports[0][1]], [Reason.NOT_IN_TIME] * 2)

    def test_while_it_waits_for_a_place(self) -> None:
        """A mail whose time passes in the line at a destination is not tried; the place goes to the next."""
        slow: list[Deferred[Any]] = []

        def answer(request: Any) -> Deferred[Any]:
            slow.append(Deferred())
            return slow[-1]

        world = World(answer)
        for _ in range(WINDOW_AT_FIRST):
            world.send("joe@example.net")
        late = world.send("joe@example.net", deliver_by=1_000_000.0 + 30, by_mode="R")
        after = world.send("joe@example.net")
        world.pass_time(31)
        slow.pop(0).callback(RELAYED)
        world.clock.advance(0)
        self.assertEqual([request.queue_id for request in world.agent.requests[WINDOW_AT_FIRST:]], [after])
        self.assertEqual([queue_id for queue_id, _ in world.reports], [late])
        self.assertEqual(world.queue.status()["destinations"][0]["in_flight"], WINDOW_AT_FIRST)  # type: ignore[index]

    def test_attempt_that_took_too_long(self) -> None:
        """An attempt that ends after the time delivers if it can; if it is delayed the recipient fails."""
        for status, reports in ((RELAYED, 1), (LATER, 1)):
            attempt: Deferred[Any] = Deferred()
            world = World(partial(give, attempt))
            world.send("joe@example.net", deliver_by=1_000_000.0 + 30, by_mode="R")
            world.pass_time(31)
            attempt.callback(status)
            self.assertEqual(world.spool.mails, {})
            self.assertEqual(len(world.reports), reports)
            reason = world.reports[0][1][0][1].reason
            self.assertEqual(reason, status.reason if status is RELAYED else Reason.NOT_IN_TIME)

    def test_suspended(self) -> None:
        """The time holds at a destination that is suspended, too."""
        world = World(lambda request: UNREACHABLE, retry=(600.0,))
        world.send("joe@example.net", deliver_by=BY, by_mode="R")
        for _ in range(5):
            world.send("ann@example.net")
        world.pass_time(HOUR)
        ((_, [(_, status)]),) = world.reports
        self.assertEqual((status.reason, status.status), (Reason.NOT_IN_TIME, "5.4.7"))


class NotifyTests(SynchronousTestCase):
    """Mode N."""

    def world(self, **fields: Any) -> World:
        """A mail that is always delayed, with the time in an hour; two hours have passed."""
        self.notify = fields.pop("notify", ())
        world = World(lambda request: LATER, retry=(7200.0,), delay_notices=())
        wishes: dict[str, Any] = {"deliver_by": BY, "by_mode": "N"}
        world.send("joe@example.net", notify=self.notify, **wishes | fields)
        return world

    def test_told_once(self) -> None:
        """At its time the sender is told once that it is late, and how long we try; the tries go on."""
        world = self.world()
        world.pass_time(HOUR - 1)
        self.assertEqual(world.reports, [])
        world.pass_time(1)
        ((_, [(_, status)]),) = world.reports
        self.assertEqual((status.action, status.status, status.words), (Action.DELAYED, "4.4.7", LATER.words))
        self.assertEqual(world.until, 1_000_000.0 + 5 * 86400)
        (entry,) = world.spool.entries()
        self.assertEqual((entry.state, entry.told, entry.last), (State.DELAYED, True, LATER))
        world.pass_time(10 * HOUR, 10.0)
        self.assertEqual(len(world.reports), 1)
        self.assertGreater(len(world.agent.requests), 4)

    def test_told_before_the_restart(self) -> None:
        """Another process does not tell it again: that it was told is kept."""
        world = self.world()
        world.pass_time(HOUR)
        other = World(lambda request: LATER, retry=(60.0,), delay_notices=())
        other.spool.mails.update(world.spool.mails)
        other.clock.advance(world.clock.seconds() - other.clock.seconds())
        other.pass_time(5 * HOUR, 10.0)
        self.assertGreater(len(other.agent.requests), 10)
        self.assertEqual(other.reports, [])

    def test_telling_fails(self) -> None:
        """When the sender cannot be told now, the next attempt tells it."""
        world = self.world()
        world.notify_breaks = lambda: True
        world.pass_time(HOUR)
        self.assertFalse(world.spool.entries()[0].told)
        world.notify_breaks = lambda: False
        world.pass_time(3 * HOUR, 10.0)
        self.assertEqual(len(world.reports), 1)
        self.flushLoggedErrors(RuntimeError)

    def test_not_told(self) -> None:
        """NOTIFY=NEVER is obeyed; a time that had passed before the mail came was told by who brought it."""
        for fields in ({"notify": ("NEVER",)}, {"deliver_by": 1_000_000.0 - 5}, {"by_mode": "", "deliver_by": 0.0}):
            world = self.world(**fields)
            world.pass_time(10 * HOUR, 10.0)
            self.assertEqual((world.reports, len(world.spool.mails)), ([], 1), fields)

    def test_delivered_in_time(self) -> None:
        """Nobody is told of a mail that is delivered in time."""
        world = World(lambda request: DELIVERED)
        world.send("joe@here.example", deliver_by=BY, by_mode="N")
        world.pass_time(HOUR)
        self.assertEqual((world.reports, world.spool.mails), ([], {}))


class TraceTests(SynchronousTestCase):
    """Relayed mails with BY."""

    def test_relayed(self) -> None:
        """A relayed mail with BY is brought before the notifier, which decides; without BY it is not."""
        for mode, reports in (("", 0), ("N", 1), ("R", 1)):
            world = World(lambda request: RELAYED)
            world.send("joe@example.net", deliver_by=BY if mode else 0.0, by_mode=mode)
            world.clock.advance(0)
            self.assertEqual((len(world.reports), world.spool.mails), (reports, {}))
