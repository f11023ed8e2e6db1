"""How the queue is as a whole: counted in the spool at most once a second, however many look.

Counting a large spool takes longer than a second; then it is done less often, so that those who look on never take more
than a part of the node's time.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from twisted_mail_node.admin.messages import Shape
from twisted_mail_node.admin.tallies import Question, grouped
from twisted_mail_node.spool.mail import Filter, Tally
from twisted_mail_node.threads import in_thread

#: Seconds a snapshot is good for.
FRESH = 1.0
#: … and at least so many times as long as it took to make.
REST = 5.0
#: Destinations and causes that a snapshot names.
TOP = 20
#: Destinations of the queue's memory that it names: the busiest.
BUSY = 200


class Counted(Protocol):
    """What is asked of the queue."""

    def count(self) -> Awaitable[dict[str, int]]: ...
    def tally(self, wanted: Filter, by: str = "destination") -> Awaitable[Sequence[Tally]]: ...
    def status(self) -> dict[str, Any]: ...
    def frozen(self) -> Sequence[Shape]: ...


class Snapshots:
    """Gives snapshots of the queue.

    :param rates: mails accepted and finished a second.
    """

    def __init__(self, queue: Callable[[], Counted], reactor: Any, rates: Callable[[], tuple[float, float]]) -> None:
        self._queue = queue
        self._reactor = reactor
        self._clock: IReactorTime = reactor
        self._rates = rates
        self._counted: Shape = {}
        self._until = 0.0
        self._waiting: list[Deferred[None]] | None = None

    async def take(self) -> Shape:
        """What there is: numbers by state, the top destinations and causes, what is frozen, rates.

        :raises SpoolError: it could not be counted.
        """
        if self._clock.seconds() >= self._until:
            if self._waiting is None:
                await self._count()
            else:  # somebody asked just before
                turn: Deferred[None] = Deferred()
                self._waiting.append(turn)
                await turn
        status = self._queue().status()
        accepted, finished = self._rates()
        return {
            **self._counted,
            "accepted_a_second": round(accepted, 2),
            "finished_a_second": round(finished, 2),
            "hostname": status["hostname"],
            "in_memory": {key: value for key, value in status.items() if key not in ("destinations", "hostname")},
            "destinations": status["destinations"][:BUSY],
            "frozen": list(self._queue().frozen()),
        }

    async def _count(self) -> None:
        waiting = self._waiting = []
        began = time.monotonic()
        try:
            queue = self._queue()
            counts = await queue.count()
            tallies = await queue.tally(Filter())
            answer = [(Question("", Filter()), tallies)]
            by_destination, total = await in_thread(self._reactor, grouped, "destination", answer, TOP)
            by_cause, _ = await in_thread(self._reactor, grouped, "cause", answer, TOP)
            now = self._clock.seconds()
            self._counted = {
                "when": now, "counts": counts, "total": total, "by_destination": by_destination, "by_cause": by_cause
            }  # fmt: skip
            self._until = now + max(FRESH, REST * (time.monotonic() - began))
        finally:
            self._waiting = None
            for turn in waiting:
                turn.callback(None)
