"""The line at a destination: order within a class, who gives way, who waits too long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.message.precedence import CLASSES, LOW, ORDINARY, URGENT
from twisted_mail_node.queue.line import Line


class LineTests(SynchronousTestCase):
    """``Line``."""

    @given(st.lists(st.sampled_from((*CLASSES, None))))
    def test_length_and_order(self, steps: list[int | None]) -> None:
        """Whoever comes and goes, the length is right, and within a class who came first goes first."""
        line: Line[tuple[int, int]] = Line()
        waiting = 0
        last = dict.fromkeys(CLASSES, -1)
        for number, step in enumerate(steps):
            if step is not None:
                line.append((step, number), 0.0, step)
                waiting += 1
            elif waiting:
                one, place = line.popleft()
                self.assertGreater(place, last[one])
                last[one] = place
                waiting -= 1
            self.assertEqual(len(line), waiting)

    def test_give_way(self) -> None:
        """The last who came of the least urgent gives way, to somebody more urgent and to nobody else."""
        line: Line[str] = Line()
        for name, one in (("o1", ORDINARY), ("l1", LOW), ("o2", ORDINARY), ("l2", LOW)):
            line.append(name, 0.0, one)
        self.assertIsNone(line.give_way(LOW))
        self.assertEqual([line.give_way(ORDINARY) for _ in range(3)], ["l2", "l1", None])
        self.assertEqual([line.give_way(URGENT) for _ in range(3)], ["o2", "o1", None])
        self.assertEqual(len(line), 0)

    def test_last(self) -> None:
        """The last who came of the least urgent."""
        line: Line[str] = Line()
        for name, one in (("o1", ORDINARY), ("u", URGENT), ("l", LOW), ("o2", ORDINARY)):
            line.append(name, 0.0, one)
        self.assertEqual([line.last() for _ in range(4)], ["l", "o2", "o1", "u"])
        self.assertEqual(len(line), 0)

    def test_since(self) -> None:
        """Who waits too long is found in each class."""
        line: Line[str] = Line()
        for now, name, one in ((1.0, "a", LOW), (2.0, "b", URGENT), (3.0, "c", LOW), (4.0, "d", URGENT)):
            line.append(name, now, one)
        self.assertEqual(sorted(line.since(3.0)), ["a", "b", "c"])
        self.assertEqual((len(line), line.popleft()), (1, "d"))
