"""Recipients that fail together are told together, though they went different ways."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.queue.fakes import DELIVERED, LATER, REFUSED, RELAYED, World
from twisted_mail_node.events import MailFinished
from twisted_mail_node.message.status import Action
from twisted_mail_node.queue.gathering import TOGETHER, Gathering
from twisted_mail_node.spool.mail import State


class GatheringTests(SynchronousTestCase):
    """One mail to several next hops."""

    def setUp(self) -> None:
        self.slow: Deferred[Any] = Deferred()
        self.world = World(lambda request: self.slow if request.next_hop == "slow.example" else self.answer)
        self.answer = REFUSED

    def reported(self) -> list[list[str]]:
        """The recipients of each call of notify, in order."""
        return [[str(entry.recipient.address) for entry, _ in told] for _, told in self.world.reports]

    def test_groups_that_fail_together(self) -> None:
        """Recipients at several next hops that are refused in one pass, and one without a route, are one report."""
        self.world.send("a@one.example", "b@two.example", "c@one.example", "d@nowhere.example")
        self.world.clock.advance(0)
        self.assertEqual([sorted(told) for told in self.reported()],
                         [["a@one.example", "b@two.example", "c@one.example", "d@nowhere.example"]])  # fmt: skip
        self.assertEqual((self.world.spool.mails, len(self.world.of(MailFinished))), ({}, 1))
        self.assertEqual(self.world.queue._attempts._gatherings, set())
        calls: list[Any] = list(self.world.clock.getDelayedCalls())
        timers = [getattr(call.func, "__self__", None) for call in calls]
        self.assertEqual([one for one in timers if isinstance(one, Gathering)], [])

    def test_waits_for_the_slow(self) -> None:
        """The first waits a little for the others; nothing of it is recorded as finished before it is reported."""
        self.world.send("a@one.example", "b@slow.example")
        self.world.clock.advance(TOGETHER - 1)
        self.assertEqual(self.reported(), [])
        self.assertEqual([entry.state for entry in self.world.spool.entries()], [State.ACTIVE] * 2)
        self.slow.callback(REFUSED)
        self.assertEqual(self.reported(), [["a@one.example", "b@slow.example"]])
        self.assertEqual(self.world.spool.mails, {})
        self.world.clock.advance(TOGETHER)
        self.assertEqual(len(self.reported()), 1)

    def test_not_for_ever(self) -> None:
        """What there is to tell after that time is told; the slow one is told when it is through."""
        self.world.send("a@one.example", "b@two.example", "c@slow.example")
        self.world.clock.advance(0)
        self.world.clock.advance(TOGETHER)
        self.assertEqual([sorted(told) for told in self.reported()], [["a@one.example", "b@two.example"]])
        self.assertEqual(
            [entry.state for entry in self.world.spool.entries()], [State.FINISHED, State.FINISHED, State.ACTIVE]
        )
        self.slow.callback(REFUSED)
        self.assertEqual(self.reported()[1:], [["c@slow.example"]])
        self.assertEqual((self.world.spool.mails, len(self.world.of(MailFinished))), ({}, 1))

    def test_delivered_is_recorded_at_once(self) -> None:
        """A group with nothing to tell is recorded when it is through: a crash must not deliver it again."""
        self.answer = DELIVERED
        self.world.send("a@here.example", "b@slow.example")
        self.world.clock.advance(0)
        self.assertEqual([entry.state for entry in self.world.spool.entries()], [State.FINISHED, State.ACTIVE])
        self.slow.callback(RELAYED)
        self.assertEqual((self.reported(), self.world.spool.mails), ([], {}))
        self.assertEqual(len(self.world.of(MailFinished)), 1)

    def test_delays_together(self) -> None:
        """Delays at several next hops are told in one report, too."""
        self.answer = LATER
        self.world.send("a@one.example", "b@two.example")
        self.world.pass_time(4 * 3600.0, 10.0)
        self.assertEqual([sorted(told) for told in self.reported()], [["a@one.example", "b@two.example"]])
        self.assertEqual(self.world.reports[0][1][0][1].action, Action.DELAYED)
        self.assertTrue(all(entry.told for entry in self.world.spool.entries()))

    def test_report_fails(self) -> None:
        """When the one report fails all its recipients are put off, and told together later."""
        self.world.notify_breaks = lambda: True
        self.world.send("a@one.example", "b@two.example")
        self.world.clock.advance(0)
        self.assertEqual([entry.state for entry in self.world.spool.entries()], [State.DELAYED] * 2)
        self.world.notify_breaks = lambda: False
        requests = len(self.world.agent.requests)
        self.world.pass_time(600.0)
        self.assertEqual([sorted(told) for told in self.reported()], [["a@one.example", "b@two.example"]])
        self.assertEqual(len(self.world.agent.requests), requests)
        self.flushLoggedErrors(RuntimeError)

    def test_node_stops(self) -> None:
        """A node that stops does not wait for the slow: what was delivered and is to be reported is reported and
        recorded at once, so that the next start does not deliver it again; the same for what comes meanwhile."""
        self.answer = DELIVERED
        second: Deferred[Any] = Deferred()
        answers = {"slow.example": self.slow, "second.example": second}
        self.world = World(lambda request: answers.get(request.next_hop, DELIVERED))
        self.world.send("a@one.example", "b@second.example", "c@slow.example", notify=("SUCCESS",))
        self.world.clock.advance(1)
        self.assertEqual(self.reported(), [])
        self.world.queue.stop(15)
        self.assertEqual(self.reported(), [["a@one.example"]])
        second.callback(DELIVERED)
        self.assertEqual(self.reported()[1:], [["b@second.example"]])
        self.world.clock.advance(15)
        self.assertEqual(
            [entry.state for entry in self.world.spool.entries()], [State.FINISHED, State.FINISHED, State.ACTIVE]
        )

    def test_begun_before_the_stop(self) -> None:
        """The same where the routes were found out only when the node was about to stop."""
        self.world.queue._attempts.hurry()
        self.world.send("a@one.example", "b@slow.example")
        self.world.clock.advance(0)
        self.assertEqual(self.reported(), [["a@one.example"]])
        self.slow.callback(REFUSED)
        self.assertEqual(self.reported()[1:], [["b@slow.example"]])
