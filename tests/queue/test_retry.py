"""When a delayed recipient is tried again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.queue.retry import JITTER, delay, expired, is_over, jittered
from twisted_mail_node.reasons import Reason

SCHEDULE = (60.0, 300.0, 900.0)


class RetryTests(SynchronousTestCase):
    """The schedule is pure arithmetic."""

    def test_steps_in_turn_then_the_last_again(self) -> None:
        """Each attempt waits for its own step; after the last step the last is used again."""
        waits = [delay(attempts, SCHEDULE, 0.5) for attempts in (1, 2, 3, 4, 100)]
        self.assertEqual(waits, [60.0, 300.0, 900.0, 900.0, 900.0])

    def test_no_attempt_yet(self) -> None:
        """Zero attempts wait like one."""
        self.assertEqual(delay(0, SCHEDULE, 0.5), 60.0)

    @given(st.floats(0.001, 1e6), st.floats(0, 1))
    def test_jitter_is_bounded(self, seconds: float, chance: float) -> None:
        """Jitter makes a delay at most 15 percent shorter or longer."""
        got = jittered(seconds, chance)
        self.assertTrue(seconds * (1 - JITTER) * 0.999 <= got <= seconds * (1 + JITTER) * 1.001)

    def test_jitter_spreads(self) -> None:
        """Different chances give different delays, on both sides."""
        self.assertLess(jittered(100.0, 0.0), 100.0)
        self.assertGreater(jittered(100.0, 1.0), 100.0)

    def test_lifetime(self) -> None:
        """A next attempt at the end of the lifetime is made, one after it is not."""
        self.assertFalse(is_over(1000.0, 500.0, 1500.0))
        self.assertTrue(is_over(1000.0, 500.0, 1500.1))

    def test_expired_keeps_the_last_words(self) -> None:
        """An expired recipient failed with 5.4.7, still in the words of the host that delayed it."""
        last = DeliveryStatus(Action.DELAYED, "4.2.1", Reason.REMOTE_DELAYED, "450 later", "mx", "192.0.2.1:25", True)
        status = expired(last)
        self.assertEqual((status.action, status.status, status.reason), (Action.FAILED, "5.4.7", Reason.EXPIRED))
        self.assertEqual(status[3:], last[3:])
