"""A deadline for each of many attempts without a timer for each: they all last equally long, so one look at the
oldest is enough. ``waiting.within`` does the same with a timer of its own; here it would be a tenth of what a local
mail costs the queue.
"""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from types import coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime

from twisted_mail_node.waiting import DeadlineError

#: How often what is over its time is cancelled before we go on without it: it may have something to put in order.
CANCELLED_AT_MOST = 3

T = TypeVar("T")


class _Watched:
    """Something under way, and what it waits for now."""

    __slots__ = ("cancelled", "due", "expired", "waiting")

    def __init__(self, waiting: object, due: float) -> None:
        self.waiting = waiting
        self.due = due
        self.expired = False
        self.cancelled = 0


class Watch:
    """Ends what lasts longer than ``seconds``; to the precision with which ``sweep`` is called."""

    def __init__(self, clock: IReactorTime, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._watched: dict[_Watched, None] = {}  #: the oldest first

    @coroutine
    def over(self, awaited: Awaitable[T]) -> Generator[Any, Any, T]:
        """The result of ``awaited``. Costs nothing when it does not wait.

        :raises DeadlineError: it took longer; what it waited for was cancelled.
        """
        steps = awaited.__await__()
        try:
            waiting = next(steps)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        watched = _Watched(waiting, self._clock.seconds() + self._seconds)
        self._watched[watched] = None
        throw = getattr(steps, "throw", None)  # a Deferred has none: it raises by itself
        try:
            while True:
                try:
                    yield waiting
                except BaseException as error:
                    if throw is None:
                        raise
                    waiting = watched.waiting = throw(error)
                    if watched.cancelled >= CANCELLED_AT_MOST:
                        steps.close()  # it goes on waiting, whatever we do
                        raise CancelledError from None
                else:
                    waiting = watched.waiting = next(steps)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        except CancelledError:
            if watched.expired:
                raise DeadlineError(f"not finished within {self._seconds:g} s") from None
            raise
        finally:
            del self._watched[watched]

    def sweep(self) -> None:
        """End what is over its time. To be called about once a minute."""
        now = self._clock.seconds()
        over = []
        for watched in self._watched:
            if watched.due > now:
                break
            over.append(watched)
        for watched in over:
            watched.expired = True
            watched.cancelled += 1
            if isinstance(watched.waiting, Deferred):
                watched.waiting.cancel()
