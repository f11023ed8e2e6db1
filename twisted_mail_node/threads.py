"""The one door to blocking work: plain functions, run in a bounded thread pool, awaited by the reactor's thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

P = ParamSpec("P")
T = TypeVar("T")


class Threads(Protocol):
    """What has a reactor's ``callFromThread`` and ``getThreadPool``."""

    def callFromThread(self, f: Callable[..., object], *args: object, **kwargs: object) -> None: ...
    def getThreadPool(self) -> ThreadPool: ...


def in_thread(
    threads: Threads, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> Deferred[T]:
    """Run ``function`` in the reactor's thread pool; fires with its result or its exception."""
    return cast(
        "Deferred[T]", deferToThreadPool(threads, threads.getThreadPool(), function, *args, **kwargs)
    )
