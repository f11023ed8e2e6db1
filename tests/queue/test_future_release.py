"""FUTURERELEASE (RFC 4865): a mail is held back until its sender's time, whatever happens meanwhile."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.queue.fakes import DELIVERED, LATER, World
from twisted_mail_node.events import MailHeld, RecipientFailed
from twisted_mail_node.reasons import Reason
from twisted_mail_node.spool.mail import State

HOUR = 3600.0


class HeldBackTests(SynchronousTestCase):
    """A mail with ``release_at``."""

    def test_not_before(self) -> None:
        """It is delayed from its acceptance on, tried at its time, and never before; the log says why."""
        world = World(lambda request: DELIVERED)
        until = world.clock.seconds() + HOUR
        queue_id = world.send("joe@here.example", release_at=until)
        (entry,) = world.spool.entries()
        self.assertEqual((entry.state, entry.due, entry.attempts), (State.DELAYED, until, 0))
        (held,) = world.of(MailHeld)
        self.assertEqual((held.queue_id, held.reason), (queue_id, Reason.HELD))
        self.assertIn("its sender holds it back until Mon, 12 Jan 1970", held.words)
        world.pass_time(HOUR - 1)
        self.assertEqual(world.agent.requests, [])
        world.pass_time(1)
        self.assertEqual(world.spool.finished, [queue_id])

    def test_time_has_come(self) -> None:
        """A time that has passed holds nothing back."""
        world = World(lambda request: DELIVERED)
        queue_id = world.send("joe@here.example", release_at=world.clock.seconds() - 1)
        world.clock.advance(0)
        self.assertEqual(world.spool.finished, [queue_id])

    def test_lifetime(self) -> None:
        """The lifetime counts from the release."""
        world = World(lambda request: LATER, retry=(600.0,), lifetime=HOUR)
        world.send("joe@example.net", release_at=world.clock.seconds() + 10 * HOUR)
        world.pass_time(10 * HOUR + HOUR / 2, 60.0)
        self.assertEqual(world.of(RecipientFailed), [])
        self.assertGreaterEqual(len(world.agent.requests), 3)
        world.pass_time(HOUR, 60.0)
        self.assertEqual([event.reason for event in world.of(RecipientFailed)], [Reason.EXPIRED])

    def test_operator(self) -> None:
        """An operator may send it earlier, by ``release`` or ``retry``."""
        for order in ("release", "retry"):
            world = World(lambda request: DELIVERED)
            queue_id = world.send("joe@here.example", release_at=world.clock.seconds() + HOUR)
            getattr(world.queue, order)([queue_id])
            world.clock.advance(0)
            self.assertEqual(world.spool.finished, [queue_id])

    def test_policy(self) -> None:
        """A policy that holds it comes first: it waits for an operator."""
        world = World(lambda request: DELIVERED)
        world.send("joe@here.example", release_at=world.clock.seconds() + HOUR, hold="looks odd")
        self.assertEqual([entry.state for entry in world.spool.entries()], [State.HELD])
        world.pass_time(2 * HOUR, 60.0)
        self.assertEqual(world.agent.requests, [])
