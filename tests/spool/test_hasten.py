"""Letting be due now what waits for one destination."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.spool.material import LATER, NOW, changed, new_mail, numbers, put
from twisted_mail_node.message.precedence import LOW, URGENT
from twisted_mail_node.spool import queueid
from twisted_mail_node.spool.mail import Change, State
from twisted_mail_node.spool.reader import WAITING_FOR
from twisted_mail_node.spool.sqlite import Store


class HastenTests(SynchronousTestCase):
    """``waiting_for`` and ``hasten``."""

    def setUp(self) -> None:
        self.store = Store(Path(self.mktemp()))
        self.addCleanup(self.store.close)

    def delay(self, number: int, due: float, destination: str = "a.example", **fields: int) -> None:
        """A mail that was put off until ``due``."""
        put(self.store, new_mail(number, **fields))  # type: ignore[arg-type]
        queue_id = queueid.to_text(number)
        changed(self.store, Change(queue_id, 0, State.DELAYED, due, 1, destination, LATER))

    def hasten(self, until: float, limit: int = 100) -> int:
        return self.store.hasten(self.store.waiting_for("a.example", NOW, until, limit, NOW - 60), NOW)

    def due(self) -> list[int | None]:
        return sorted(numbers(self.store.take_due(NOW, 100)))  # type: ignore[type-var]

    def test_span(self) -> None:
        """Recipients of that destination that are due within the span are due now; no others."""
        self.delay(1, NOW + 10)
        self.delay(2, NOW + 10, "b.example")
        self.delay(3, NOW + 100)
        self.delay(4, NOW + 50, priority_class=URGENT)
        self.assertEqual(self.hasten(NOW + 50), 2)
        self.assertEqual(self.due(), [1, 4])

    def test_limit(self) -> None:
        """The first due go first, whatever their priority; calling again brings the next."""
        for number in range(1, 200):
            self.delay(number, NOW + number, priority_class=LOW if number % 2 else URGENT)
        self.assertEqual(self.hasten(NOW + 500, 3), 3)
        self.assertEqual(self.due(), [1, 2, 3])
        self.assertEqual(self.hasten(NOW + 500, 150), 150)
        self.assertEqual(self.hasten(NOW + 500, 150), 46)
        self.assertEqual(self.hasten(NOW + 500, 150), 0)

    def test_tried_since(self) -> None:
        """What was tried after mails were sent away keeps its time; what was before, or never, does not."""
        for number, tried in enumerate((NOW - 61, NOW - 60, NOW - 59, 0.0), 1):
            put(self.store, new_mail(number, 2))
            for place in (0, 1):
                change = Change(queueid.to_text(number), place, State.DELAYED, NOW + 10, 1, "a.example", LATER)
                changed(self.store, change._replace(tried=tried if place else 0.0))
        self.assertEqual(self.hasten(NOW + 50), 7)
        self.assertEqual(
            [[entry.number for entry in mail.entries] for mail in self.store.take_due(NOW, 100)],
            [[0, 1], [0, 1], [0], [0, 1]],
        )

    def test_changed_meanwhile(self) -> None:
        """What was held or finished between the look and the writing stays so."""
        self.delay(1, NOW + 10)
        self.delay(2, NOW + 10)
        rows = self.store.waiting_for("a.example", NOW, NOW + 50, 10, NOW)
        self.store.hold([queueid.to_text(1)])
        self.store.remove([queueid.to_text(2)])
        self.store.hasten(rows, NOW)
        self.assertEqual(self.due(), [])
        self.assertEqual(self.store.take_due(NOW + 100, 10), [])

    def test_by_the_index(self) -> None:
        """The rows of the destination are found by their due time, in its order: none is read that is not wanted."""
        plan = str(self.store.connection.execute(f"EXPLAIN QUERY PLAN {WAITING_FOR}", (1, 2, "x", 10, 3)).fetchall())
        self.assertEqual(plan.count("recipient_waiting (destination=? AND due>? AND due<?)"), 1)
        self.assertNotIn("TEMP B-TREE", plan)
        self.assertNotIn("SCAN", plan)
