"""The arithmetic of rates: exact over the clock, and no slower than it must be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.queue.pace import TIMES_AT_MOST, Pace, Share
from twisted_mail_node.settings_routes import Rate

NOW = 1_000_000.0
RATES = st.lists(
    st.builds(Rate, st.integers(1, 30), st.sampled_from([1, 60, 3600, 86400])), min_size=1, max_size=3
)  # fmt: skip
GAPS = st.lists(st.sampled_from([0.0, 0.01, 0.3, 1.0, 7.5, 60.0, 3000.0]), max_size=120)


class PaceTests(SynchronousTestCase):
    """``Pace``."""

    @given(RATES, GAPS)
    def test_exact(self, rates: list[Rate], gaps: list[float]) -> None:
        """However mails come, each begins as soon as it may, and no span of a rate's seconds holds more than its
        mails."""
        pace = Pace(rates)
        now, begun = NOW, list[float]()
        for gap in gaps:
            now = max(now + gap, pace.next(now + gap))
            earliest = [begun[-rate.mails] + rate.seconds for rate in rates if len(begun) >= rate.mails]
            if now > NOW and begun and now > begun[-1] + gap:  # it waited: for one of the rates
                self.assertEqual(now, max(earliest))
            pace.count(now)
            begun.append(now)
        for rate in rates:
            for first, over in zip(begun, begun[rate.mails :], strict=False):
                self.assertGreaterEqual(over, first + rate.seconds)

    @given(RATES, GAPS)
    def test_left(self, rates: list[Rate], gaps: list[float]) -> None:
        """As many as are said to be left may begin at once, and then none."""
        pace = Pace(rates)
        now = NOW
        for gap in gaps:
            now = max(now + gap, pace.next(now + gap))
            pace.count(now)
        for _ in range(pace.left(now)):
            self.assertLessEqual(pace.next(now), now)
            pace.count(now)
        self.assertGreater(pace.next(now), now)

    def test_large(self) -> None:
        """A rate of many mails is kept to with a bounded memory, within a part of its time."""
        pace = Pace([Rate(100_000, 86400)])
        for _ in range(TIMES_AT_MOST):
            pace.count(NOW)
        self.assertAlmostEqual(pace.next(NOW), NOW + 864.0)

    def test_clock_set_back(self) -> None:
        """Who waits when the clock is set back an hour does not wait an hour more."""
        pace = Pace([Rate(2, 60)])
        pace.count(NOW)
        pace.count(NOW)
        self.assertEqual(pace.next(NOW - 3600), NOW - 3600 + 60)

    def test_other_rates(self) -> None:
        """When the rates change, what began counts for the new ones."""
        pace = Pace([Rate(10, 60)])
        for _ in range(4):
            pace.count(NOW)
        pace.set([Rate(3, 3600)])
        self.assertEqual(pace.next(NOW), NOW + 3600)
        pace.set([Rate(5, 1)])
        self.assertLessEqual(pace.next(NOW), NOW)

    def test_promises(self) -> None:
        """Turns that are promised come after each other at the slowest rate, and not before one is free."""
        share = Share("x")
        share.obey(20, [Rate(2, 10), Rate(100, 60)])
        self.assertTrue(share.take(NOW))
        self.assertTrue(share.take(NOW))
        self.assertFalse(share.take(NOW))
        self.assertEqual([share.promise(NOW) - NOW for _ in range(3)], [10.0, 15.0, 20.0])
        self.assertEqual(share.promise(NOW + 1000), NOW + 1000)
