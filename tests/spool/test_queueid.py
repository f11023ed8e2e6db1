"""Queue ids are unique, in order of time, and read back as they were written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.spool.queueid import EPOCH, WORKER_BITS, QueueIds, is_text, to_number, to_text

NOW = 1_700_000_000.0


class QueueIdsTests(SynchronousTestCase):
    def test_grow(self) -> None:
        """Each id is larger than the one before, though the clock stands still."""
        ids = QueueIds(now=lambda: NOW)
        given_out = [ids.next() for _ in range(100)]
        self.assertEqual(given_out, sorted(set(given_out)))

    def test_clock_set_back(self) -> None:
        """A clock that is set back makes no id twice."""
        times = iter([NOW, NOW - 86400, NOW - 86400, NOW + 1])
        ids = QueueIds(now=lambda: next(times))
        given_out = [ids.next() for _ in range(4)]
        self.assertEqual(given_out, sorted(set(given_out)))

    def test_time(self) -> None:
        """The number tells the microsecond at which the mail came."""
        self.assertEqual(QueueIds(now=lambda: NOW).next() >> WORKER_BITS, int(NOW - EPOCH) * 1_000_000)

    def test_workers(self) -> None:
        """Processes that share a spool never give the same id."""
        same = {QueueIds(worker, lambda: NOW).next() for worker in range(64)}
        self.assertEqual(len(same), 64)

    def test_worker_range(self) -> None:
        """There are 64 numbers for processes."""
        for worker in (-1, 64):
            self.assertRaises(ValueError, QueueIds, worker)

    def test_after(self) -> None:
        """After a restart no id of a mail that is kept is given again, whatever the clock says."""
        ids = QueueIds(now=lambda: NOW)
        largest = QueueIds(63, now=lambda: NOW + 1000).next()
        ids.after(largest)
        self.assertGreater(ids.next(), largest)
        ids.after(5)
        self.assertGreater(ids.next(), largest)


class TextTests(SynchronousTestCase):
    @given(st.integers(0, (1 << 63) - 1))
    def test_round_trip(self, number: int) -> None:
        """Every number comes back from its text."""
        self.assertEqual(to_number(to_text(number)), number)
        self.assertTrue(is_text(to_text(number)))

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Any other text is None or a number that SQLite can hold."""
        number = to_number(text)
        self.assertTrue(number is None or 0 <= number < 1 << 63)

    def test_not_ids(self) -> None:
        """What is no queue id is None."""
        for text in ("", "joe", "-1", "../../etc/passwd", "8" + "0" * 15, "f" * 40, "lost+found"):
            self.assertIsNone(to_number(text), text)
            self.assertFalse(is_text(text), text)

    def test_one_spelling(self) -> None:
        """A person may spell an id in other ways; a content file has one name."""
        for text in ("0X5E0A", " 5e0a ", "5E0A", "5e0a", "5_e0a", "0000000005E0A0"):
            self.assertIsNotNone(to_number(text), text)
            self.assertFalse(is_text(text), text)

    def test_length(self) -> None:
        """Ids of our time have 14 digits, so that their texts sort as they do."""
        self.assertEqual(len(to_text(QueueIds(now=lambda: NOW).next())), 14)
        self.assertEqual(len(to_text(QueueIds(now=lambda: 2_700_000_000.0).next())), 14)
