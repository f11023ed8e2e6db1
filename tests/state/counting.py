"""A test case for what is counted by day and written behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.state.at_once import StateAtOnce
from twisted_mail_node.state.behind import DAY
from twisted_mail_node.state.database import StateDatabase

TODAY = 20_000


class CountsCase(SynchronousTestCase):
    """A subclass says what counts.

    :ivar results: counts.
    """

    def make(self, state: StateDatabase, clock: Clock) -> Any:
        """What counts, on this database."""
        raise NotImplementedError

    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "state.sqlite"
        self.clock = Clock()
        self.clock.advance(TODAY * DAY + 1000)
        self.open()

    def open(self) -> None:
        """As after a restart."""
        self.state = StateAtOnce(self.path)
        self.addCleanup(self.state.close)
        self.results = self.make(self.state, self.clock)

    def restart(self) -> None:
        """Stop in order and start."""
        self.results.stop()
        self.state.close()
        self.open()

    def result(self, story: Any) -> Any:
        """What a coroutine gives after some turns."""
        done = Deferred.fromCoroutine(story)
        self.clock.pump([0] * 100)
        return self.successResultOf(done)

    def counted(self, domain: str = "", day: int = TODAY) -> list[Any]:
        """All of it."""
        rows: list[Any] = self.result(self.results.counted(day, domain))
        return rows
