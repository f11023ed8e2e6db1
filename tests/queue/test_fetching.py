"""Fetching what waits in the spool for one destination."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.queue.destination import Destination
from twisted_mail_node.queue.fetching import FETCH_AGAIN, Fetching

NOW = 1000.0


class FetchingTests(SynchronousTestCase):
    """``Fetching``."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.asked: list[tuple[Any, ...]] = []
        self.answers: list[Deferred[int]] = []
        self.due: list[float] = []
        self.fetching = Fetching(spool=self, clock=self.clock, due_at=self.due.append)  # type: ignore[arg-type]
        self.destination = Destination("a.example", NOW)
        self.destination.promise(NOW, NOW + 100, 1.0)

    def hasten(self, *asked: Any) -> Deferred[int]:
        """The spool's."""
        self.asked.append(asked)
        self.answers.append(Deferred())
        return self.answers[-1]

    def test_once(self) -> None:
        """The spool is asked once at a time, and a moment later again."""
        self.fetching.fetch(self.destination, 5)
        self.fetching.fetch(self.destination, 5)
        self.assertEqual(self.asked, [("a.example", NOW, NOW + 101, 5, NOW)])
        self.answers[0].callback(5)
        self.assertEqual((self.due, self.destination.promised), ([NOW], NOW + 101))
        self.fetching.fetch(self.destination, 7)
        self.assertEqual(len(self.asked), 1)
        self.clock.advance(FETCH_AGAIN)
        self.assertEqual(self.asked[1:], [("a.example", NOW + FETCH_AGAIN, NOW + 101, 7, NOW)])

    def test_closed_meanwhile(self) -> None:
        """Nothing is brought back for a destination that was frozen or suspended in that moment."""
        self.fetching.fetch(self.destination, 5)
        self.answers[0].callback(5)
        for frozen, until in (("", 0.0), (None, NOW + 60)):
            self.destination.frozen, self.destination.until = None, 0.0
            self.fetching.fetch(self.destination, 5)
            self.destination.frozen, self.destination.until = frozen, until
            self.destination.fetched = self.clock.seconds()
            self.clock.advance(FETCH_AGAIN)
            self.assertEqual(len(self.asked), 1)
            self.destination.fetched = self.clock.seconds()

    def test_that_was_all(self) -> None:
        """When less was found than wanted nothing more is to come, but for what was sent away meanwhile."""
        self.fetching.fetch(self.destination, 5)
        promised = self.destination.promise(NOW, NOW + 200, 1.0)
        self.answers[0].callback(4)
        self.assertEqual(self.destination.promised, promised)
        self.clock.advance(FETCH_AGAIN)
        self.fetching.fetch(self.destination, 5)
        self.answers[1].callback(0)
        self.assertEqual((self.destination.promised, self.due), (NOW + FETCH_AGAIN, [NOW]))

    def test_since(self) -> None:
        """What is tried while mails are sent away keeps its time: the span begins with the first that was."""
        self.destination.promise(NOW + 50, NOW + 300, 1.0)
        self.assertEqual(self.destination.promising, NOW)
        self.destination.promise(NOW + 500, NOW + 600, 1.0)
        self.assertEqual(self.destination.promising, NOW + 500)
