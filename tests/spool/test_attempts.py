"""Every attempt that put a recipient off is kept with the mail, up to a bound, and goes with it."""

from __future__ import annotations

from tests.spool.material import LATER, NOW, StoreCase, changed, finished, new_mail, put
from twisted_mail_node.spool import attempts, queueid
from twisted_mail_node.spool.mail import Attempt, Change, State

ONE, TWO = queueid.to_text(1), queueid.to_text(2)


class AttemptsTests(StoreCase):
    def setUp(self) -> None:
        super().setUp()
        put(self.store, new_mail(1, 2), new_mail(2))

    def tried(self, queue_id: str, place: int, at: float, number: int = 1) -> Change:
        """An attempt put a recipient off."""
        change = Change(queue_id, place, State.DELAYED, at + 60, number, "mx.example.net", LATER, tried=at)
        changed(self.store, change)
        return change

    def kept(self) -> int:
        """Attempts in the table."""
        return int(self.rows("SELECT count(*) FROM attempt")[0][0])

    def test_oldest_first(self) -> None:
        """The attempts of all recipients of a mail come in the order of time, and no other mail's."""
        self.tried(ONE, 1, NOW + 5)
        self.tried(ONE, 0, NOW + 1)
        self.tried(TWO, 0, NOW + 2)
        self.tried(ONE, 1, NOW + 9, 2)
        found = [Attempt(NOW + at, place, "mx.example.net", LATER) for at, place in ((1, 0), (5, 1), (9, 1))]
        self.assertEqual(self.store.attempts(ONE), found)
        self.assertEqual(self.store.attempts(queueid.to_text(9)), [])
        self.assertEqual(self.store.attempts("no id"), [])

    def test_no_attempt(self) -> None:
        """Where a recipient was put off without an attempt nothing is kept; where the clock stands still, one is."""
        changed(self.store, Change(ONE, 0, State.DELAYED, NOW, 0, "mx.example.net", LATER))
        self.assertEqual(self.store.attempts(ONE), [])
        for number in (1, 2):
            self.tried(ONE, 0, NOW, number)
        self.assertEqual(len(self.store.attempts(ONE)), 1)

    def test_bound(self) -> None:
        """The last hundred of each recipient are kept; the oldest go."""
        for number in range(1, attempts.KEPT_AT_MOST + 4):
            self.tried(ONE, 0, NOW + number, number)
        self.tried(ONE, 1, NOW, 1)
        found = [one.when for one in self.store.attempts(ONE) if one.number == 0]
        self.assertEqual(found, [NOW + number for number in range(4, attempts.KEPT_AT_MOST + 4)])
        self.assertEqual(self.store.attempts(ONE)[0].number, 1)

    def test_gone(self) -> None:
        """They go with the mail: when its last recipient is finished, and when an operator removes it."""
        for queue_id in (ONE, TWO):
            self.tried(queue_id, 0, NOW)
        changed(self.store, *finished(1, 0))
        self.assertEqual(self.kept(), 2)
        changed(self.store, *finished(1, 1))
        self.assertEqual(self.kept(), 1)
        self.store.remove([TWO])
        self.assertEqual(self.kept(), 0)

    def test_removed_meanwhile(self) -> None:
        """An attempt for a mail that was removed during it leaves nothing."""
        self.store.remove([TWO])
        self.tried(TWO, 0, NOW)
        self.assertEqual(self.kept(), 0)

    def test_damaged(self) -> None:
        """An attempt that cannot be read hides no other (T18)."""
        self.tried(ONE, 0, NOW)
        self.tried(ONE, 1, NOW)
        self.rows("UPDATE attempt SET status = '[' WHERE number = 0")
        self.assertEqual([one.number for one in self.store.attempts(ONE)], [1])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
