"""The one door to blocking work: plain functions, run in a bounded thread pool, awaited in the reactor's thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool

P = ParamSpec("P")
T = TypeVar("T")


def in_thread(reactor: IReactorThreads, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
    """Run ``function`` in the reactor's thread pool; fires with its result or its exception."""
    return cast("Deferred[T]", deferToThreadPool(reactor, reactor.getThreadPool(), function, *args, **kwargs))
