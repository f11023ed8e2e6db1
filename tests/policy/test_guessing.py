"""Tests of twisted_mail_node.policy.guessing."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.events import Event, GuessingSlowed
from twisted_mail_node.policy import guessing
from twisted_mail_node.policy.guessing import ACCOUNT_LONGEST, HALF_LIFE, KNOWN_MAX, KNOWN_TIME, Guessing

JOE = "joe@example.org"
HOME = "198.51.100.7"


class GuessingTests(SynchronousTestCase):
    """Wrong passwords, and what they cost."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.events: list[Event] = []
        self.guessing = Guessing(clock=self.clock, publish=self.events.append, longest=30.0)

    def fail_times(self, number: int, client: str = "192.0.2.1", name: str = JOE) -> None:
        """So many wrong passwords at once."""
        for _ in range(number):
            self.guessing.failed(client, name)

    def test_address(self) -> None:
        """The first three failures of an address are free; then each doubles the wait, up to the longest."""
        waits = []
        for number in range(12):
            waits.append(self.guessing.delay("192.0.2.1", f"name{number}"))
            self.guessing.failed("192.0.2.1", f"name{number}")
        self.assertEqual(waits, [0, 0, 0, 0, 0.5, 1, 2, 4, 8, 16, 30, 30])
        self.assertEqual(self.guessing.delay("192.0.2.2", JOE), 0, "another address")

    def test_longest(self) -> None:
        """The longest wait is what the settings say now."""
        self.fail_times(12)
        self.guessing.longest = 3.0
        self.assertEqual(self.guessing.delay("192.0.2.1", "ann"), 3.0)

    def test_network(self) -> None:
        """An IPv6 /64 is one customer, and IPv4 in IPv6 is IPv4."""
        for number in range(8):
            self.guessing.failed(f"2001:db8::{number:x}", f"name{number}")
        self.assertEqual(self.guessing.delay("2001:db8::ffff", "x"), 8)
        self.assertEqual(self.guessing.delay("2001:db8:0:1::1", "x"), 0)
        self.fail_times(8, "::ffff:192.0.2.1")
        self.assertEqual(self.guessing.delay("192.0.2.1", "x"), 8)

    def test_account(self) -> None:
        """Guesses from many addresses slow an account, never by more than a few seconds, and never refuse it."""
        for number in range(500):
            self.guessing.failed(f"10.0.{number // 250}.{number % 250}", JOE)
        self.assertEqual(self.guessing.delay(HOME, JOE), ACCOUNT_LONGEST)
        self.assertEqual(self.guessing.delay(HOME, "Joe@Example.ORG "), ACCOUNT_LONGEST, "however it is written")
        self.assertEqual(self.guessing.delay(HOME, "ann@example.org"), 0)
        self.assertFalse(self.guessing.is_refused(HOME))

    def test_known(self) -> None:
        """Where the account signed in lately its owner does not wait; after thirty days the address is as any other."""
        self.guessing.succeeded(HOME, JOE)
        self.fail_times(10)
        self.assertEqual(self.guessing.delay(HOME, JOE), 0)
        self.assertGreater(self.guessing.delay("198.51.100.8", JOE), 0)
        self.clock.advance(KNOWN_TIME + 1)
        self.fail_times(10)
        self.assertEqual(self.guessing.delay(HOME, JOE), ACCOUNT_LONGEST)

    def test_known_is_guessed_at(self) -> None:
        """Guesses from the owner's own address wait as all others."""
        self.guessing.succeeded(HOME, JOE)
        self.fail_times(8, HOME)
        self.assertEqual(self.guessing.delay(HOME, JOE), 8)

    def test_fades(self) -> None:
        """What was counted halves with every half-life, and is over in time."""
        self.fail_times(10)
        self.assertEqual(self.guessing.delay("192.0.2.1", "x"), 30)
        self.clock.advance(HALF_LIFE)
        self.assertEqual(self.guessing.delay("192.0.2.1", "x"), 1)
        self.clock.advance(HALF_LIFE)
        self.assertEqual(self.guessing.delay("192.0.2.1", "x"), 0)

    def test_refused(self) -> None:
        """Twenty failures of an address: it is refused until one has faded, and is told how long that takes."""
        self.fail_times(19)
        self.assertFalse(self.guessing.is_refused("192.0.2.1"))
        self.fail_times(1)
        self.assertTrue(self.guessing.is_refused("192.0.2.1"))
        wait = self.guessing.wait_of("192.0.2.1")
        self.assertTrue(5 < wait < 60, wait)
        self.clock.advance(wait - 0.1)
        self.assertTrue(self.guessing.is_refused("192.0.2.1"))
        self.clock.advance(0.2)
        self.assertFalse(self.guessing.is_refused("192.0.2.1"))
        self.assertEqual(self.guessing.wait_of("192.0.2.1"), 0)

    def test_refused_waiting(self) -> None:
        """Ten attempts that wait at once: the next is refused until one of them has waited enough."""
        self.fail_times(8)
        for _ in range(10):
            self.assertFalse(self.guessing.is_refused("192.0.2.1"))
            self.assertEqual(self.guessing.delay("192.0.2.1", "x"), 8)
            self.clock.advance(0.1)
        self.assertTrue(self.guessing.is_refused("192.0.2.1"))
        self.assertAlmostEqual(self.guessing.wait_of("192.0.2.1"), 7.0)
        self.assertFalse(self.guessing.is_refused("192.0.2.2"))
        self.clock.advance(7.1)
        self.assertFalse(self.guessing.is_refused("192.0.2.1"))

    def test_office(self) -> None:
        """An address where somebody signed in lately bears more: strangers behind it do not lock the others out."""
        self.guessing.succeeded(HOME, JOE)
        for number in range(60):
            self.guessing.failed(HOME, f"name{number}")
        self.assertFalse(self.guessing.is_refused(HOME))
        self.assertEqual((self.guessing.delay(HOME, JOE), self.guessing.delay(HOME, "ann")), (0, 30))
        self.fail_times(60, HOME, "ann")
        self.assertTrue(self.guessing.is_refused(HOME))

    def test_forgiven(self) -> None:
        """A success takes off what failed for that account at that address, and nothing else."""
        self.fail_times(8, name=JOE)
        self.fail_times(6, name="ann")
        self.guessing.succeeded("192.0.2.1", JOE)
        self.assertEqual(self.guessing.delay("192.0.2.1", "new"), 2, "six are left")
        self.assertEqual(self.guessing.delay("192.0.2.9", JOE), 0, "of the account none is left")
        self.guessing.succeeded("192.0.2.1", "mallory")
        self.assertEqual(self.guessing.delay("192.0.2.1", "new"), 2, "nobody washes their guesses away")

    def test_event(self) -> None:
        """An event when a key is slowed and at each doubling, not for each try; and anew after a calm time."""
        self.fail_times(60)
        addresses = [event for event in self.events if isinstance(event, GuessingSlowed) and event.what != JOE]
        self.assertEqual([event.seconds for event in addresses], [0.5, 1, 2, 4, 8, 16, 30])
        self.assertEqual((addresses[0].what, addresses[0].failures), ("192.0.2.1", 4))
        self.assertEqual([event.seconds for event in self.events if event not in addresses], [0.5, 1, 2, 4])  # type: ignore[union-attr]
        self.events.clear()
        for _ in range(60):
            self.clock.advance(30)
            self.fail_times(1)
        self.assertEqual(self.events, [], "it goes on as before")
        self.clock.advance(3600)
        self.fail_times(4)
        self.assertEqual(len(self.events), 1)

    def test_bounded(self) -> None:
        """Each table has its bound; what was touched least lately goes first."""
        self.patch(guessing, "KEYS_MAX", 100)
        self.fail_times(8, "192.0.2.77", "kept")
        for number in range(1000):
            client = f"10.1.{number // 250}.{number % 250}"
            self.guessing.failed(client, f"name{number}")
            self.guessing.succeeded(client, f"name{number}")
            self.fail_times(5, client, f"other{number}")
            self.guessing.delay(client, "x")
            if number % 50 == 0:
                self.guessing.failed("192.0.2.77", "kept")
        one = self.guessing
        tables = (one._addresses, one._accounts, one._pairs, one._known, one._homes, one._waiting)
        for table in tables:
            self.assertLessEqual(len(table), 100)
        self.assertGreater(one.delay("192.0.2.77", "kept"), 0)
        self.assertEqual(one.delay("10.1.0.0", "name0"), 0)

    def test_known_bounded(self) -> None:
        """An account knows so many addresses, and long names are cut."""
        for number in range(KNOWN_MAX + 10):
            self.guessing.succeeded(f"10.1.0.{number}", JOE)
        self.assertEqual(len(self.guessing._known[JOE]), KNOWN_MAX)
        self.assertEqual(len(self.guessing._homes), KNOWN_MAX)
        self.guessing.failed("10.0.0.1", "x" * 1_000_000)
        self.assertLess(max(len(key) for key in self.guessing._pairs._of), 400)

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["fail", "wait", "sign in", "time"]),
                st.integers(0, 300),
                st.sampled_from([JOE, "ann@example.org", "mallory@example.org"]),
                st.integers(1, 30),
            ),
            max_size=60,
        )
    )
    def test_owner(self, strangers: list[tuple[str, int, str, int]]) -> None:
        """Whatever strangers do elsewhere, the owner waits nowhere where they are known, and elsewhere some seconds."""
        one = Guessing(clock=self.clock, publish=self.events.append)
        one.succeeded(HOME, JOE)
        for what, number, name, times in strangers:
            client = f"10.0.{number // 250}.{number % 250}"
            for _ in range(times):
                if what == "fail":
                    one.failed(client, name)
                elif what == "wait":
                    one.delay(client, name)
                elif what == "sign in" and name != JOE:
                    one.succeeded(client, name)
            if what == "time":
                self.clock.advance(times * 60)
            self.assertFalse(one.is_refused(HOME))
            self.assertEqual(one.delay(HOME, JOE), 0)
            self.assertFalse(one.is_refused("203.0.113.5"))
            self.assertLessEqual(one.delay("203.0.113.5", JOE), ACCOUNT_LONGEST)
            self.clock.advance(ACCOUNT_LONGEST)
