"""A clock for tests that is also a reactor's threads: what is given to a thread runs at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.python.failure import Failure


class ThreadsAtOnce(Clock):
    """Provides IReactorTime, and so much of IReactorThreads as ``in_thread`` needs."""

    def getThreadPool(self) -> ThreadsAtOnce:
        return self

    def callInThreadWithCallback(self, fired: Callable[[bool, object], None], function: Any, *args: Any) -> None:
        try:
            result = function(*args)
        except Exception:
            fired(False, Failure())
        else:
            fired(True, result)

    def callFromThread(self, function: Any, *args: Any) -> None:
        function(*args)
