"""Delay notices: at which ages the sender of a mail that is still delayed is told, and when not."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.queue.fakes import JOE, LATER, RELAYED, UNREACHABLE, World, mail
from twisted_mail_node.message.envelope import Recipient
from twisted_mail_node.message.status import Action
from twisted_mail_node.queue.notices import BY_TOLD, is_to_be_told, not_beyond_a_notice, told_now
from twisted_mail_node.spool.mail import Entry, Mail, State

HOUR = 3600.0
DAY = 86400.0
START = 1_000_000.0  #: when a World begins
ENTRY = Entry(0, Recipient(JOE, JOE))


def noted(world: World) -> list[float]:
    """When notices went, in hours since the world began; each call of notify is one."""
    times = world.__dict__.setdefault("noted", [])
    notify = world.queue._attempts._notify

    async def note(mail: Mail, told: Any, until: float | None = None) -> None:
        await notify(mail, told, until)
        if told[0][1].action is Action.DELAYED:
            times.append(round((world.clock.seconds() - START) / HOUR, 3))

    world.queue._attempts._notify = note
    return times  # type: ignore[no-any-return]


class ValueTests(SynchronousTestCase):
    """What was told, as a number."""

    def test_ages(self) -> None:
        """Each age is told once; those that passed together are told together; later ones of other settings too."""
        ages = (100.0, 200.0)
        self.assertEqual(told_now(mail(), ENTRY, ages, 1099.0), 0)
        first = told_now(mail(), ENTRY, ages, 1100.0)
        self.assertGreater(first, 0)
        told = ENTRY._replace(told=first)
        self.assertEqual(told_now(mail(), told, ages, 1199.0), first)
        second = told_now(mail(), told, ages, 1200.0)
        self.assertNotEqual(second, first)
        self.assertEqual(told_now(mail(), ENTRY, ages, 5000.0), second)
        self.assertEqual(told_now(mail(), told, (50.0, 90.0), 5000.0), first)

    def test_by_and_ages(self) -> None:
        """The time of BY and the ages are told apart; a spool that only knew of BY is understood."""
        by = mail(deliver_by=1150.0, by_mode="N")
        self.assertEqual(told_now(by, ENTRY, (), 1150.0), BY_TOLD)
        early = told_now(by, ENTRY, (100.0,), 1100.0)
        self.assertFalse(early & BY_TOLD)
        both = told_now(by, ENTRY._replace(told=early), (100.0,), 1150.0)
        self.assertEqual(both, early | BY_TOLD)
        self.assertEqual(told_now(by, ENTRY._replace(told=True), (100.0,), 1150.0), both)
        self.assertEqual(told_now(by, ENTRY._replace(told=both), (100.0,), 9999.0), both)

    def test_to_be_told(self) -> None:
        """The sender is told in mode N, from its time on, once, unless it is nobody or said NEVER."""
        entry = Entry(0, Recipient(JOE, JOE))
        never = Entry(0, Recipient(JOE, JOE, ("NEVER",)))
        by = {"deliver_by": 2000.0, "by_mode": "N"}
        for one, fields, now, told in (
            (entry, by, 2000.0, True),
            (entry, by, 1999.0, False),
            (entry._replace(told=True), by, 2000.0, False),
            (never, by, 2000.0, False),
            (entry, by | {"by_mode": "R"}, 2000.0, False),
            (entry, by | {"reverse_path": None}, 2000.0, False),
            (entry, by | {"deliver_by": 990.0}, 2000.0, False),
            (entry, {}, 2000.0, False),
        ):
            self.assertEqual(is_to_be_told(mail(**dict(fields)), one, now), told, (one, fields, now))

    def test_whom(self) -> None:
        """NOTIFY is obeyed, and nobody is told about the null reverse-path (RFC 3461 section 4.1)."""
        for notify, told in ((), True), (("DELAY",), True), (("FAILURE", "DELAY"), True), (("FAILURE",), False), (
            ("SUCCESS",), False), (("NEVER",), False):  # fmt: skip
            entry = Entry(0, Recipient(JOE, JOE, notify))
            self.assertEqual(bool(told_now(mail(), entry, (100.0,), 2000.0)), told, notify)
            due = not_beyond_a_notice(mail(), entry, (100.0,), 5000.0, 1000.0)
            self.assertEqual(due, 1100.0 if told else 5000.0)
        self.assertEqual(told_now(mail(reverse_path=None), ENTRY, (100.0,), 2000.0), 0)

    def test_held_back(self) -> None:
        """A mail that its sender held back ages from its release on (RFC 4865)."""
        self.assertEqual(told_now(mail(release_at=5000.0), ENTRY, (100.0,), 5099.0), 0)
        self.assertGreater(told_now(mail(release_at=5000.0), ENTRY, (100.0,), 5100.0), 0)

    @given(
        st.lists(st.floats(0.1, 1e6), max_size=10).map(tuple), st.lists(st.floats(0.1, 5e5), min_size=1, max_size=30)
    )
    def test_never_late_never_twice(self, ages: tuple[float, ...], waits: list[float]) -> None:
        """Whatever the waits, a due time never jumps over an age, and there are at most as many notices as ages."""
        now, entry, notices = 1000.0, ENTRY, 0
        for wait in waits:
            due = not_beyond_a_notice(mail(), entry, ages, now + wait, now)
            self.assertTrue(now < due <= now + wait)
            self.assertFalse([age for age in ages if now - 1000 < age and age + 1 < due - 1000])
            now = due
            told = told_now(mail(), entry, ages, now)
            notices += told != entry.told
            entry = entry._replace(told=told)
            self.assertEqual(told_now(mail(), entry, ages, now), told)
        self.assertLessEqual(notices, len(ages))


class QueueTests(SynchronousTestCase):
    """Through the queue."""

    def test_default(self) -> None:
        """By default the sender is told once, at four hours, though no attempt was due then."""
        world = World(lambda request: LATER)
        times = noted(world)
        world.send("joe@example.net")
        world.pass_time(4 * HOUR - 10, 10.0)
        self.assertEqual(world.reports, [])
        world.pass_time(10, 10.0)
        ((_, [(entry, status)]),) = world.reports
        self.assertEqual((status, entry.attempts), (LATER, len(world.agent.requests)))
        self.assertEqual(world.until, START + 5 * DAY)
        self.assertEqual((world.spool.entries()[0].state, world.spool.entries()[0].told), (State.DELAYED, 2 * 14400))
        world.pass_time(4 * DAY, 60.0)
        self.assertEqual(times, [4.0])

    def test_each_age_once(self) -> None:
        """Several ages are told at their times, each once; other processes go on where the first stopped."""
        world = World(lambda request: LATER, retry=(6 * HOUR,), delay_notices=(HOUR, DAY, 2 * DAY))
        times = noted(world)
        world.send("joe@example.net")
        world.pass_time(30 * HOUR, 60.0)
        self.assertEqual(times, [1.0, 24.0])
        other = World(lambda request: LATER, retry=(6 * HOUR,), delay_notices=(HOUR, DAY, 2 * DAY))
        later = noted(other)
        other.spool.mails.update(world.spool.mails)
        other.clock.advance(world.clock.seconds() - other.clock.seconds())
        other.pass_time(2 * DAY, 60.0)
        self.assertEqual(later, [48.0])

    def test_never(self) -> None:
        """With an empty list, for the null reverse-path and against NOTIFY nobody is told, and no wait is shortened."""
        none: dict[str, Any] = {"delay_notices": ()}
        cases: list[tuple[dict[str, Any], tuple[str, ...]]] = [(none, ()), ({}, ("FAILURE",)), ({}, ("NEVER",))]
        for settings, notify in cases:
            world = World(lambda request: LATER, retry=(6 * HOUR,), **settings)
            world.send("joe@example.net", notify=notify)
            world.pass_time(13 * HOUR, 60.0)
            self.assertEqual((world.reports, len(world.agent.requests)), ([], 3))

    def test_suspended(self) -> None:
        """A mail that is never tried, since its destination is suspended, is told of at the age all the same."""
        world = World(lambda request: UNREACHABLE, retry=(600.0,))
        times = noted(world)
        world.send("joe@example.net")
        for _ in range(5):
            world.send("ann@example.net", notify=("FAILURE",))
        world.clock.advance(0)
        world.pass_time(4 * HOUR + 60, 30.0)
        self.assertEqual([round(time, 1) for time in times], [4.0])
        ((_, [(_, status)]),) = world.reports
        self.assertEqual(status, UNREACHABLE)

    def test_arrives_at_that_age(self) -> None:
        """When the attempt at the age succeeds nobody is told of a delay."""
        world = World(lambda request: RELAYED if world.clock.seconds() >= START + 4 * HOUR else LATER)
        world.send("joe@example.net")
        world.pass_time(4 * HOUR, 10.0)
        self.assertEqual((world.reports, world.spool.mails), ([], {}))

    def test_telling_fails(self) -> None:
        """When the sender cannot be told now, the next attempt tells it."""
        world = World(lambda request: LATER, retry=(HOUR,))
        world.notify_breaks = lambda: True
        world.send("joe@example.net")
        world.pass_time(4.5 * HOUR, 10.0)
        self.assertFalse(world.spool.entries()[0].told)
        world.notify_breaks = lambda: False
        world.pass_time(10 * HOUR, 10.0)
        self.assertEqual(len(world.reports), 1)
        self.flushLoggedErrors(RuntimeError)

    def test_end_is_not_moved(self) -> None:
        """A mail whose next attempt would come after its lifetime is given up at once, not told of a delay."""
        world = World(lambda request: LATER, retry=(6 * HOUR,), lifetime=5 * HOUR)
        world.send("joe@example.net")
        world.clock.advance(0)
        ((_, [(_, status)]),) = world.reports
        self.assertEqual(status.action, Action.FAILED)
