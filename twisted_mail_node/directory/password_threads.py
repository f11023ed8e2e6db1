"""A few threads that compare passwords, and nothing else: sign-ins never fill the reactor's own pool, on which
deliveries and the reading of mails wait."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

P = ParamSpec("P")
T = TypeVar("T")

#: Comparisons that wait or run. At 20 ms each, the last of them waits four seconds with one thread; clients give up
#: before many more had their turn.
WAITING_MAX = 200


#: How much less urgent than the rest of the node a comparison is (``nice``): it takes 20 ms of a core, and whoever
#: sends mail meanwhile shall not wait for it.
NICENESS = 10


class BusyError(Exception):
    """More sign-ins wait than can be answered in time: try again later."""


class PasswordThreads:
    """The threads; started with the first comparison.

    :param count: how many there are at most.
    """

    def __init__(self, reactor: Any, count: int) -> None:
        self._reactor = reactor
        self._count = count
        self._pool: ThreadPool | None = None
        self._trigger: Any = None
        self._stopped = False
        self.waiting = 0

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Run ``function`` in a thread; fires with its result or its exception.

        :raises BusyError: too many wait, or the node stops.
        """
        if self._stopped or self.waiting >= WAITING_MAX:
            raise BusyError("the node stops" if self._stopped else f"{self.waiting} sign-ins wait already")
        if self._pool is None:
            self._pool = ThreadPool(0, self._count, "passwords")
            self._pool.threadFactory = _Gentle
            self._pool.start()
            # Threads that nobody ends would keep the process from ending.
            self._trigger = self._reactor.addSystemEventTrigger("during", "shutdown", self.stop)
        self.waiting += 1
        given: Deferred[Any] = Deferred()

        def run() -> T | None:
            return None if given.called else function(*args, **kwargs)  # who does not wait any more costs nothing

        running = deferToThreadPool(self._reactor, self._pool, run)
        running.addBoth(self._finished).chainDeferred(given)
        return given

    def resize(self, count: int) -> None:
        """Let there be at most ``count`` of them."""
        self._count = count
        if self._pool is not None:
            self._pool.adjustPoolsize(0, count)

    def stop(self) -> None:
        """End them. Waits for the comparisons under way: at most a second each."""
        self._stopped = True
        pool, self._pool = self._pool, None
        if pool is not None:
            self._reactor.removeSystemEventTrigger(self._trigger)
            pool.stop()

    def _finished(self, result: T) -> T:
        self.waiting -= 1
        return result


class _Gentle(threading.Thread):
    """A thread that gives way to the others; Linux has a priority for each thread."""

    def run(self) -> None:
        with suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        super().run()
