"""The windows of destinations: growth, closing, suspension, and the bounds of what is kept."""

from __future__ import annotations

from unittest import mock

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.queue.fakes import DELIVERED, LATER, REFUSED, RELAYED, UNREACHABLE
from twisted_mail_node.events import DestinationChanged, Event
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.queue import destinations as module
from twisted_mail_node.queue import lines
from twisted_mail_node.queue.destinations import (
    FAILURES_AT_MOST,
    FORGET_AFTER,
    SUSPENSION_AT_FIRST,
    SUSPENSION_AT_MOST,
    WAITING_TIME,
    WINDOW_AT_FIRST,
    WINDOW_AT_MOST,
    Destinations,
    Place,
    Refusal,
)
from twisted_mail_node.queue.limits import Limits
from twisted_mail_node.queue.lines import RATE_TIME
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import DestinationRule, QueueSettings
from twisted_mail_node.settings_routes import Rate

HOP = "example.net"


class DestinationsTests(SynchronousTestCase):
    """Places in the window of a next hop."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.events: list[Event] = []
        self.destinations = Destinations(
            clock=self.clock,
            publish=self.events.append,
            random=lambda: 0.5,
            limits=Limits((), QueueSettings()),
        )

    def enter(self, hop: str = HOP) -> Deferred[Place | Refusal]:
        return Deferred.fromCoroutine(self.destinations.enter(hop))

    def place(self, hop: str = HOP) -> Place:
        place = self.successResultOf(self.enter(hop))
        assert isinstance(place, Place), place
        return place

    def refusal(self, entered: Deferred[Place | Refusal]) -> Refusal:
        refusal = self.successResultOf(entered)
        assert isinstance(refusal, Refusal), refusal
        return refusal

    def suspend(self) -> None:
        for _ in range(FAILURES_AT_MOST):
            self.destinations.leave(self.place(), [UNREACHABLE])

    def states(self) -> list[str]:
        return [event.state for event in self.events if isinstance(event, DestinationChanged)]

    def test_window_at_first(self) -> None:
        """A new destination gives its first places at once, and the next one waits until one is given back."""
        places = [self.place() for _ in range(WINDOW_AT_FIRST)]
        waiting = self.enter()
        self.assertNoResult(waiting)
        self.destinations.leave(places[0], [LATER])
        self.assertIsInstance(self.successResultOf(waiting), Place)

    def test_crowd(self) -> None:
        """Who waits for a fast destination counts as the crowd; when it turns out slow, nobody there does any more."""
        places = [self.place() for _ in range(WINDOW_AT_FIRST)]
        waiting = [self.enter() for _ in range(3)]
        self.assertEqual(self.destinations.crowd, 3)
        self.destinations.leave(places[0], [RELAYED])
        self.assertIsInstance(self.successResultOf(waiting[0]), Place)
        self.assertIsInstance(self.successResultOf(waiting[1]), Place)
        self.assertEqual(self.destinations.crowd, 1)
        self.clock.advance(2 * RATE_TIME)
        last = self.enter()
        self.assertEqual(self.destinations.crowd, 0)
        for place in places[1:]:
            self.destinations.leave(place, [LATER])
        self.assertIsInstance(self.successResultOf(last), Place)
        self.assertEqual(self.destinations.crowd, 0)

    def test_busy_and_fast(self) -> None:
        """What finds no room to wait for a fast destination is due when its line will have gone; for a slow one,
        in three quarters of a minute."""
        self.patch(lines, "WAITING_AT_MOST", 5)
        for _ in range(100):
            self.destinations.leave(self.place(), [RELAYED])
        self.clock.advance(1.0)
        self.destinations.leave(self.place(), [RELAYED])
        window = self.place().destination.window
        for _ in range(window - 1):
            self.place()
        waiting = [self.enter() for _ in range(5)]
        now = self.clock.seconds()
        self.assertLess(self.refusal(self.enter()).due, now + 1)
        self.clock.advance(2 * RATE_TIME)
        self.destinations.sweep()
        self.assertGreater(self.refusal(self.enter()).due, now + 30)
        self.assertEqual([one.called for one in waiting], [False] * 5)

    def test_destinations_are_apart(self) -> None:
        """A full destination keeps nobody from another."""
        for _ in range(WINDOW_AT_FIRST):
            self.place()
        self.assertNoResult(self.enter())
        self.assertEqual(self.place("example.org").destination.name, "example.org")

    def test_success_grows_the_window(self) -> None:
        """Each success makes the window one wider, up to its bound; a delayed recipient does not."""
        for count in range(WINDOW_AT_MOST * 2):
            place = self.place()
            self.destinations.leave(place, [RELAYED])
            self.assertEqual(place.destination.window, min(WINDOW_AT_FIRST + count + 1, WINDOW_AT_MOST))
        place = self.place("slow.example")
        self.destinations.leave(place, [LATER])
        self.assertEqual(place.destination.window, WINDOW_AT_FIRST)

    def test_a_refused_recipient_is_no_failure(self) -> None:
        """A host that refuses a recipient works."""
        for _ in range(10):
            self.destinations.leave(self.place(), [REFUSED])
        self.assertEqual(self.states(), [])

    def test_connection_failure_closes(self) -> None:
        """One failed connection closes the window to one, without a suspension."""
        place = self.place()
        self.destinations.leave(place, [UNREACHABLE])
        self.assertEqual(place.destination.window, 1)
        self.place()
        self.assertNoResult(self.enter())
        self.assertEqual(self.states(), [])

    def test_failures_in_a_row_suspend(self) -> None:
        """After some failures in a row the next mails are refused at once until the suspension ends."""
        self.suspend()
        refusal = self.refusal(self.enter())
        self.assertEqual(self.states(), ["suspended"])
        self.assertEqual(refusal.status.reason, Reason.SUSPENDED)
        self.assertEqual(refusal.status.action, Action.DELAYED)
        self.assertIn(UNREACHABLE.words, refusal.status.words)
        self.assertGreaterEqual(refusal.due, 1000.0 + SUSPENSION_AT_FIRST * 0.85)

    def test_an_answer_between_failures(self) -> None:
        """Failures that are not in a row do not suspend."""
        for _ in range(10):
            self.destinations.leave(self.place(), [UNREACHABLE])
            self.destinations.leave(self.place(), [LATER])
        self.assertEqual(self.states(), [])

    def test_every_kind_of_connection_failure(self) -> None:
        """DNS, greeting, silence and nonsense all count as failures of the destination; a defect of ours does not."""
        for reason in (Reason.DNS_FAILED, Reason.HOST_NOT_READY, Reason.REMOTE_TIMEOUT, Reason.BAD_REPLY):
            place = self.place(reason)
            self.destinations.leave(place, [UNREACHABLE._replace(reason=reason)])
            self.assertEqual(place.destination.window, 1, reason)
        place = self.place("broken.example")
        self.destinations.leave(place, [DeliveryStatus(Action.DELAYED, "4.3.0", Reason.INTERNAL, "")])
        self.assertEqual(place.destination.window, WINDOW_AT_FIRST)

    def test_sign_in_refused(self) -> None:
        """A relayhost that refuses our password, and a pool without a usable address, are suspended like a dead host:
        nobody wants to see a wrong password once a mail."""
        for reason in (Reason.SIGN_IN_REFUSED, Reason.NO_SOURCE):
            self.setUp()
            refused = UNREACHABLE._replace(reason=reason)
            for _ in range(FAILURES_AT_MOST):
                self.destinations.leave(self.place(), [refused])
            self.assertEqual(self.states(), ["suspended"])

    def test_suspension_sends_the_line_home(self) -> None:
        """Who waits when the suspension begins is refused at once, so that nothing waits in memory for a dead host."""
        places = [self.place() for _ in range(WINDOW_AT_FIRST)]
        waiting = [self.enter() for _ in range(50)]
        for place in places[:FAILURES_AT_MOST]:
            self.destinations.leave(place, [UNREACHABLE])
        reasons = {self.refusal(entered).status.reason for entered in waiting}
        self.assertEqual(reasons, {Reason.SUSPENDED})

    def test_attempts_from_before_count_once(self) -> None:
        """Deliveries that were in flight when the suspension began fail too, and do not lengthen it."""
        places = [self.place() for _ in range(WINDOW_AT_FIRST)]
        for place in places:
            self.destinations.leave(place, [UNREACHABLE])
        self.assertEqual(self.states(), ["suspended"])
        self.clock.advance(SUSPENSION_AT_FIRST * 1.2)
        self.assertIsInstance(self.place(), Place)

    def test_one_probe(self) -> None:
        """When the suspension is over one mail goes as a probe, and the others wait for what it finds."""
        self.suspend()
        self.clock.advance(SUSPENSION_AT_FIRST * 1.2)
        probe = self.place()
        others = [self.enter() for _ in range(4)]
        for entered in others:
            self.assertNoResult(entered)
        self.destinations.leave(probe, [RELAYED])
        self.assertEqual(self.states(), ["suspended", "open"])
        self.assertIsInstance(self.successResultOf(others[0]), Place)
        self.assertIsInstance(self.successResultOf(others[1]), Place)
        self.assertNoResult(others[2])

    def test_a_failed_probe_backs_off(self) -> None:
        """Each failed probe suspends for twice as long, up to a bound; an open destination starts from the first."""
        self.suspend()
        lengths = []
        for _ in range(8):
            until = self.destinations.status()[0]["until"]
            assert isinstance(until, float)
            lengths.append(until - self.clock.seconds())
            self.clock.advance(lengths[-1])
            self.destinations.leave(self.place(), [UNREACHABLE])
        expected = [min(SUSPENSION_AT_FIRST * 2**power, SUSPENSION_AT_MOST) for power in range(8)]
        self.assertEqual([round(length) for length in lengths], [round(length) for length in expected])

    def test_an_uncertain_probe_is_followed_by_another(self) -> None:
        """A probe that says nothing about the host leaves the question to the next mail."""
        self.suspend()
        self.clock.advance(SUSPENSION_AT_FIRST * 1.2)
        probe, following = self.place(), self.enter()
        self.destinations.leave(probe, ())
        self.assertIsInstance(self.successResultOf(following), Place)

    def test_an_operator_ends_a_suspension(self) -> None:
        """After ``probe`` the next mail goes at once."""
        self.suspend()
        self.destinations.probe(HOP)
        self.destinations.probe("unknown.example")
        self.assertIsInstance(self.place(), Place)

    def test_the_line_is_bounded(self) -> None:
        """Beyond the bound of the line a mail is refused for a while."""
        with mock.patch.object(lines, "WAITING_AT_MOST", 3):
            for _ in range(WINDOW_AT_FIRST):
                self.place()
            for _ in range(3):
                self.assertNoResult(self.enter())
            refusal = self.refusal(self.enter())
        self.assertEqual(refusal.status.reason, Reason.DESTINATION_BUSY)
        self.assertGreater(refusal.due, self.clock.seconds())

    def test_all_lines_are_bounded(self) -> None:
        """The lines of all destinations together are bounded too."""
        with mock.patch.object(lines, "WAITING_IN_ALL", 4), mock.patch.object(module, "WINDOW_AT_FIRST", 1):
            for hop in ("a.example", "b.example", "c.example"):
                self.place(hop)
            for hop in ("a.example", "a.example", "b.example", "b.example"):
                self.assertNoResult(self.enter(hop))
            self.refusal(self.enter("c.example"))

    def test_first_come_first_served(self) -> None:
        """The line keeps its order."""
        places = [self.place() for _ in range(WINDOW_AT_FIRST)]
        order: list[int] = []
        for number in range(10):
            self.enter().addCallback(lambda _, place: order.append(place), number)
        for place in places:
            self.destinations.leave(place, [LATER])
        self.assertEqual(order, list(range(10)))

    def test_nobody_waits_for_ever(self) -> None:
        """Who waited too long in line is refused by the sweep, and due again soon."""
        for _ in range(WINDOW_AT_FIRST):
            self.place()
        early = self.enter()
        self.clock.advance(WAITING_TIME / 2)
        late = self.enter()
        self.clock.advance(WAITING_TIME / 2)
        self.destinations.sweep()
        self.assertEqual(self.refusal(early).status.reason, Reason.DESTINATION_BUSY)
        self.assertNoResult(late)

    def test_the_stack_stays_flat(self) -> None:
        """A long line of deliveries that end at once does not deepen the stack."""
        first = [self.place() for _ in range(WINDOW_AT_FIRST)]
        done: list[int] = []

        async def deliver() -> None:
            place = await self.destinations.enter(HOP)
            assert isinstance(place, Place)
            done.append(1)
            self.destinations.leave(place, [RELAYED])

        for _ in range(900):
            Deferred.fromCoroutine(deliver())
        self.destinations.leave(first[0], [RELAYED])
        self.assertEqual(len(done), 900)

    def test_idle_destinations_are_forgotten(self) -> None:
        """A destination that nobody used for long is forgotten; one with a delivery in flight is not."""
        self.destinations.leave(self.place("idle.example"), [DELIVERED])
        self.place("busy.example")
        self.clock.advance(FORGET_AFTER)
        self.destinations.sweep()
        self.assertEqual([known["destination"] for known in self.destinations.status()], ["busy.example"])

    def test_paced_destinations_are_remembered(self) -> None:
        """While what went there counts for its rate it is not forgotten: a day's mails are no more after a quiet hour
        or two."""
        rule = DestinationRule.model_construct(
            **{
                **{name: field.default for name, field in DestinationRule.model_fields.items()},
                "domains": (HOP,),
                "rates": (Rate(2, 86400),),
            }
        )
        self.destinations = Destinations(
            clock=self.clock, publish=self.events.append, random=lambda: 0.5, limits=Limits((rule,), QueueSettings())
        )
        for _ in range(2):
            self.destinations.leave(self.place(), [RELAYED])
        self.clock.advance(FORGET_AFTER + 1)
        self.destinations.sweep()
        self.assertEqual(self.refusal(self.enter()).status.reason, Reason.PACED)
        self.clock.advance(86400.0)
        self.destinations.sweep()
        self.assertEqual(self.destinations.status(), [])

    def test_who_was_cancelled_takes_no_place(self) -> None:
        """Where a rate holds, too: the turn of somebody who does not wait any more leaves no place taken."""
        rule = DestinationRule.model_construct(
            **{
                **{name: field.default for name, field in DestinationRule.model_fields.items()},
                "domains": (HOP,),
                "rates": (Rate(1000, 1),),
            }
        )
        self.destinations = Destinations(
            clock=self.clock, publish=self.events.append, random=lambda: 0.5, limits=Limits((rule,), QueueSettings())
        )
        places = [self.place() for _ in range(WINDOW_AT_FIRST)]
        waiting = self.enter()
        waiting.cancel()
        self.failureResultOf(waiting)
        for place in places:
            self.destinations.leave(place, [RELAYED])
        share = self.destinations._known[HOP].share
        assert share is not None
        self.assertEqual((share.in_flight, self.destinations.crowd), (0, 0))

    def test_answers_after_it_was_forgotten(self) -> None:
        """A delivery that was under way before a suspension ends after all is forgotten: nothing is counted twice."""
        late, *failing = [self.place() for _ in range(1 + FAILURES_AT_MOST)]
        for place in failing:
            self.destinations.leave(place, [UNREACHABLE])
        self.clock.advance(SUSPENSION_AT_MOST + FORGET_AFTER)
        self.destinations.sweep()
        self.assertEqual(self.destinations.status(), [])
        self.destinations.leave(late, [RELAYED])
        self.assertEqual(self.destinations._lines.closed, 0)

    def test_memory_is_bounded(self) -> None:
        """However many destinations there are, the idle ones beyond the bound are forgotten first."""
        with mock.patch.object(module, "DESTINATIONS_AT_MOST", 10):
            self.place("busy.example")
            for number in range(100):
                self.destinations.leave(self.place(f"{number}.example"), [RELAYED])
        names = [known["destination"] for known in self.destinations.status()]
        self.assertEqual(len(names), 10)
        self.assertIn("busy.example", names)

    def test_status(self) -> None:
        """What is told of a destination."""
        self.destinations.leave(self.place(), [RELAYED])
        self.destinations.leave(self.place(), [LATER])
        (told,) = self.destinations.status()
        self.assertEqual(
            told,
            {
                "destination": HOP,
                "window": WINDOW_AT_FIRST + 1,
                "in_flight": 0,
                "waiting": 0,
                "state": "open",
                "until": None,
                "rate": 0.0,
                "delivered": 1,
                "deferred": 1,
                "words": "",
                "limit": "[queue]",
                "rates": [],
                "left": None,
            },
        )
        self.clock.advance(2.0)
        self.destinations.sweep()
        self.assertEqual(self.destinations.status()[0]["rate"], 1.0)
        self.suspend()
        told = self.destinations.status()[0]
        self.assertEqual((told["state"], told["words"]), ("suspended", UNREACHABLE.words))
        self.assertEqual(told["until"], self.clock.seconds() + SUSPENSION_AT_FIRST)

    def test_stop(self) -> None:
        """``stop`` wakes everyone who waits and says that nothing shall be recorded."""
        for _ in range(WINDOW_AT_FIRST):
            self.place()
        waiting = [self.enter() for _ in range(3)]
        self.destinations.stop()
        self.assertTrue(all(self.refusal(entered).stopping for entered in waiting))
