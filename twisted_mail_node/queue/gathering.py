"""What the groups of one pass have to tell the sender, told together: recipients that fail together are one DSN.

A pass is one look at a mail's recipients; its groups are carried side by side, and a slow next hop must not keep what
the others have to say for as long as an attempt may last. So what there is to tell is told when the last group is
through, or ``TOGETHER`` seconds after the first had something to tell; what comes later waits as long again at most.
What is told late is also recorded late: after a crash within that time it is tried once more. A node that stops
does not wait: what is gathered is told and recorded at once.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_mail_node.queue.outcome import Outcome

#: Seconds that the first of a pass waits for the others: longer than most hosts need, shorter than anybody minds.
TOGETHER = 20.0


class Gathering:
    """Gathers what is to be told of one pass.

    :param tell: tells it and records that; gives how many recipients are finished by it. Raises nothing.
    """

    def __init__(self, clock: IReactorTime, tell: Callable[[Outcome], Coroutine[Any, Any, int]]) -> None:
        self._clock = clock
        self._tell = tell
        self._gathered = Outcome([], [], [])
        self._timer: IDelayedCall | None = None
        self._telling: list[Deferred[int]] = []
        self._at_once = False

    def add(self, outcome: Outcome) -> None:
        """A group is through; its ``changes`` are the caller's."""
        self._gathered.finals.extend(outcome.finals)
        self._gathered.notices.extend(outcome.notices)
        if self._at_once:
            self._begin()
        elif self._timer is None and (outcome.finals or outcome.notices):
            self._timer = self._clock.callLater(TOGETHER, self._begin)

    def hurry(self) -> None:
        """Tell what there is now, and what comes when it comes."""
        self._at_once = True
        self._begin()

    async def end(self) -> int:
        """All groups are through: tell the rest. Gives how many recipients are finished by all that was told."""
        self._begin()
        return sum([await told for told in self._telling])

    def _begin(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        gathered, self._gathered = self._gathered, Outcome([], [], [])
        if gathered.finals or gathered.notices:
            self._telling.append(Deferred.fromCoroutine(self._tell(gathered)))
