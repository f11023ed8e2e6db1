"""Tests of twisted_mail_node.policy.pace."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.policy import pace
from twisted_mail_node.policy.pace import Pace


class PaceTests(SynchronousTestCase):
    """Mails within the hour."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000 // 60 * 60)
        self.pace = Pace(self.clock)

    def test_window(self) -> None:
        """When the bound is reached the wait lasts until the first mails are an hour old, and no longer."""
        for _ in range(3):
            self.pace.count("joe")
        self.clock.advance(600)
        for _ in range(2):
            self.pace.count("joe")
        self.assertEqual(self.pace.wait_of("joe", 6), 0)
        self.assertEqual(self.pace.wait_of("joe", 5), 3000)
        self.assertEqual(self.pace.wait_of("joe", 2), 3600, "the bound was lowered: until two of five are left")
        self.assertEqual(self.pace.wait_of("ann", 1), 0)
        self.clock.advance(2999)
        self.assertEqual(self.pace.wait_of("joe", 5), 1)
        for seconds in (1, 30):
            self.clock.advance(seconds)
            self.assertEqual(self.pace.wait_of("joe", 5), 0)

    def test_no_bound(self) -> None:
        """0 is no bound."""
        for _ in range(1000):
            self.pace.count("joe")
        self.assertEqual(self.pace.wait_of("joe", 0), 0)

    def test_bounded(self) -> None:
        """However many mails and accounts there are, what is kept has its bound."""
        self.patch(pace, "ACCOUNTS_MAX", 10)
        for number in range(500):
            self.pace.count("joe")
            self.pace.count(f"other{number}")
            self.clock.advance(30)
        self.assertEqual(len(self.pace._sent), 10)
        self.assertLessEqual(len(self.pace._sent["joe"]), 61)
        self.assertGreater(self.pace.wait_of("joe", 100), 0)

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.integers(0, 400), min_size=1, max_size=200), st.integers(1, 20))
    def test_bound_holds(self, gaps: list[int], most: int) -> None:
        """Who sends whenever it may never has more than the bound within an hour less the grain; a wait is enough."""
        one = Pace(self.clock)
        sent: list[float] = []
        for gap in gaps:
            self.clock.advance(gap)
            wait = one.wait_of("joe", most)
            if wait:
                self.clock.advance(wait)
                self.assertEqual(one.wait_of("joe", most), 0)
            one.count("joe")
            sent.append(self.clock.seconds())
            self.assertLessEqual(sum(1 for when in sent if when > sent[-1] - 3600 + 60), most)
