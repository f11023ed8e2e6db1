"""The schedule: one timer, bounded slices, and nothing that stays stuck."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.queue.fakes import FakeSpool, Octets
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.queue.schedule import AGAIN, LONGEST_SLEEP, SLICE, Schedule
from twisted_mail_node.spool.mail import Change, Entry, Mail, SpoolError, State

NOW = 50_000.0


class ScheduleTests(SynchronousTestCase):
    """Feeding what is due."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.spool = FakeSpool(self.clock)
        self.fed: list[str] = []
        self.room = 10_000
        self.schedule = self.make()

    def make(self) -> Schedule:
        return Schedule(spool=self.spool, clock=self.clock, room=lambda: self.room, feed=self.feed)

    def feed(self, mail: Mail) -> None:
        self.fed.append(mail.queue_id)
        self.room -= 1

    def keep(self, queue_id: str, due: float) -> None:
        address = Address("joe", "example.net")
        recipient = Recipient(address, address)
        entry = Entry(0, recipient, State.DELAYED, due)
        self.spool.keep(Mail(queue_id, Envelope(None, (recipient,)), b"", Octets(b""), NOW, (entry,)))

    def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds * 2)):
            self.clock.advance(0.5)

    def test_due_at_start(self) -> None:
        """What is due is fed at the start, the longest due first."""
        self.keep("B", NOW - 1)
        self.keep("A", NOW - 2)
        self.keep("C", NOW + 1000)
        self.schedule.start()
        self.assertEqual(self.fed, ["A", "B"])

    def test_due_later(self) -> None:
        """What is due later is fed when its time has come, and not before."""
        self.keep("A", NOW + 200)
        self.schedule.start()
        self.pass_time(199)
        self.assertEqual(self.fed, [])
        self.pass_time(1)
        self.assertEqual(self.fed, ["A"])

    def test_an_earlier_due_time_moves_the_timer(self) -> None:
        """A delay that ends before the next known due time is not kept waiting for that."""
        self.keep("A", NOW + 50)
        self.schedule.start()
        self.keep("B", NOW + 5)
        self.schedule.due_at(NOW + 5)
        self.schedule.due_at(NOW + 30)
        self.pass_time(5)
        self.assertEqual(self.fed, ["B"])

    def test_noted_during_a_reading(self) -> None:
        """A due time that is noted while the spool is being read is not lost."""
        self.spool.delay = 1.0
        self.keep("A", NOW + 300)
        self.schedule.start()
        self.clock.advance(0.5)
        self.keep("B", NOW + 10)
        self.schedule.due_at(NOW + 10)
        self.spool.delay = 0.0
        self.pass_time(10)
        self.assertEqual(self.fed, ["B"])

    def test_slices(self) -> None:
        """A backlog is read in slices of a bounded size, one after the other."""
        for number in range(3 * SLICE + 7):
            self.keep(f"M{number}", NOW - 1)
        self.schedule.start()
        self.assertEqual(len(self.fed), 3 * SLICE + 7)
        self.assertEqual(max(self.spool.takes), SLICE)

    def test_no_room(self) -> None:
        """Without room nothing is taken; when there is room again the taking goes on where it stopped."""
        for number in range(50):
            self.keep(f"M{number:02}", NOW - 100 + number)
        self.room = 20
        self.schedule.start()
        self.assertEqual(len(self.fed), 20)
        self.assertTrue(self.schedule.full)
        self.pass_time(2 * LONGEST_SLEEP)
        self.assertEqual(len(self.fed), 20)
        self.room = 100
        self.schedule.room_made()
        self.assertEqual(self.fed, [f"M{number:02}" for number in range(50)])

    def test_a_failed_reading_is_tried_again(self) -> None:
        """When the spool fails it is asked again soon, and the failure is logged."""
        self.keep("A", NOW - 1)
        for what in ("take_due", "next_due"):
            self.spool.breaks = lambda asked, what=what: asked == what  # type: ignore[misc]
            schedule = self.make()
            schedule.start()
            self.assertEqual(len(self.flushLoggedErrors(SpoolError)), 1)
            self.spool.breaks = lambda asked: False
            self.keep("B", NOW - 1)
            self.pass_time(AGAIN)
            schedule.stop()
        self.assertIn("A", self.fed)
        self.assertIn("B", self.fed)

    def test_asked_in_any_case(self) -> None:
        """What became due without our being told is found within a bounded time."""
        self.schedule.start()
        self.keep("A", NOW)
        self.pass_time(LONGEST_SLEEP + 1)
        self.assertEqual(self.fed, ["A"])

    def test_no_busy_loop(self) -> None:
        """A spool that names a due time but hands nothing out is not asked without a pause."""
        self.keep("A", NOW - 1)
        self.spool._take_due = lambda now, limit: self.spool.takes.append(limit) or []  # type: ignore[method-assign,func-returns-value]
        self.schedule.start()
        self.pass_time(10)
        self.assertLess(len(self.spool.takes), 15)

    def test_stop(self) -> None:
        """After ``stop`` nothing is taken and no timer runs."""
        self.keep("A", NOW + 5)
        self.schedule.start()
        self.schedule.stop()
        self.schedule.due_at(NOW + 1)
        self.pass_time(100)
        self.assertEqual(self.fed, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_during_a_reading(self) -> None:
        """What a reading under way still brings is not fed after ``stop``."""
        self.spool.delay = 1.0
        self.keep("A", NOW - 1)
        self.schedule.start()
        self.schedule.stop()
        self.pass_time(10)
        self.assertEqual(self.fed, [])

    def test_a_backlog_of_records(self) -> None:
        """What was recorded as due at once comes back, also while a slice is on its way."""
        self.spool.delay = 0.5
        self.keep("A", NOW - 1)
        self.schedule.start()
        self.pass_time(3)
        change = Change("A", 0, State.DELAYED, NOW)
        recorded: Deferred[None] = self.spool.record([change])
        recorded.addCallback(lambda _: self.schedule.due_at(NOW))
        self.pass_time(3)
        self.assertEqual(self.fed, ["A", "A"])
