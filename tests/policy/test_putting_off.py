"""Nothing is put off for ever."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.policy import putting_off
from twisted_mail_node.policy.putting_off import PuttingOff


class PuttingOffTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.putting_off = PuttingOff(self.clock.seconds, 100.0)

    def test_once(self) -> None:
        """A mail is put off once in the time; others do not count for it."""
        self.assertTrue(self.putting_off.first("a"))
        self.assertTrue(self.putting_off.first("b"))
        self.clock.advance(99)
        self.assertFalse(self.putting_off.first("a"))
        self.clock.advance(1)
        self.assertTrue(self.putting_off.first("a"))
        self.assertFalse(self.putting_off.first("a"))

    def test_bounded(self) -> None:
        """However many come, memory is bounded; the longest known is forgotten first."""
        self.patch(putting_off, "KEPT_MAX", 3)
        for name in "abcd":
            self.putting_off.first(name)
        self.assertEqual([self.putting_off.first(name) for name in "bcd"], [False] * 3)
        self.assertTrue(self.putting_off.first("a"))
