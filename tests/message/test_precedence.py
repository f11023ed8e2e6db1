"""Turns: higher priorities go first, and no class is left out."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.message.precedence import CLASSES, LOW, ORDINARY, ROUND, URGENT, Turns, class_of


class TurnsTests(SynchronousTestCase):
    """Who is served."""

    def test_class(self) -> None:
        """The nineteen priorities fall into three classes, and 0 is ordinary."""
        self.assertEqual([class_of(number) for number in (-9, -1, 0, 1, 9)], [LOW, LOW, ORDINARY, URGENT, URGENT])

    @given(st.lists(st.sampled_from(CLASSES), min_size=1, max_size=200))
    def test_all_and_in_order(self, coming: list[int]) -> None:
        """Everybody is served once; who waits sees each class of ten turns as the round says, or more."""
        lines: tuple[deque[int], ...] = (deque(), deque(), deque())
        for number, one in enumerate(coming):
            lines[one].append(number)
        turns, served = Turns(), []
        while any(lines):
            waiting = [bool(line) for line in lines]
            one = turns.next(lines)
            self.assertTrue(lines[one])
            served.append((one, waiting, lines[one].popleft()))
        self.assertEqual(sorted(number for _, _, number in served), list(range(len(coming))))
        for at in range(len(served) - len(ROUND) + 1):
            ten = served[at : at + len(ROUND)]
            for one in CLASSES:
                if all(waiting[one] for _, waiting, _ in ten):
                    self.assertGreaterEqual(sum(one == other for other, _, _ in ten), ROUND.count(one))

    def test_shares(self) -> None:
        """While all wait, urgent mail has six turns of ten, ordinary three, low one; a free turn goes upwards."""
        turns = Turns()
        served = [turns.next(("x", "x", "x")) for _ in range(100)]
        self.assertEqual([served.count(one) for one in CLASSES], [60, 30, 10])
        served = [turns.next(("", "x", "x")) for _ in range(100)]
        self.assertEqual([served.count(one) for one in CLASSES], [0, 90, 10])
