"""How a coroutine of ours waits: for a Deferred, with a deadline, or for whoever resumes it.

``Led`` leads one coroutine. It differs from ``Deferred.fromCoroutine`` in one thing: the coroutine may also
``await pause``, which costs no Deferred, and is resumed by ``Led.resume``. A connection that waits for octets waits so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import coroutine
from typing import Any, Generic, TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

T = TypeVar("T")


class DeadlineError(Exception):
    """What was awaited did not happen in time."""


class _Pause:
    """``await pause`` suspends the led coroutine until ``Led.resume``."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        yield self


pause = _Pause()


class Led:
    """Leads ``story`` to its end, step by step, in the reactor's thread.

    :param story: the coroutine. It may await Deferreds and ``pause``.
    :param ended: called once with ``None``, or with the exception that ended the story.
    """

    __slots__ = ("_ended", "_running", "_story", "_waiting", "_wake", "paused")

    def __init__(self, story: Coroutine[Any, Any, None], ended: Callable[[BaseException | None], None]) -> None:
        self._story = story
        self._ended = ended
        self._running = False
        self._wake = False
        self._waiting: Any = None
        self.paused = False

    def start(self) -> None:
        """Run the story to its first wait."""
        self._step()

    def resume(self) -> None:
        """End a ``pause``. Nothing happens when the story waits for a Deferred; it looks again by itself."""
        if self.paused:
            self.paused = False
            self._step()
        elif self._running:
            self._wake = True

    def cancel(self) -> None:
        """Cancel the Deferred that the story waits for, if it waits for one."""
        waiting = self._waiting
        if isinstance(waiting, Deferred):
            waiting.cancel()

    def throw(self, error: BaseException) -> None:
        """Raise ``error`` where the story waits, if it waits in a ``pause``."""
        if self.paused:
            self.paused = False
            self._step(error)

    def _step(self, error: BaseException | None = None) -> None:
        story = self._story
        while True:
            self._running = True
            self._wake = False
            try:
                waiting = story.send(None) if error is None else story.throw(error)
            except StopIteration:
                self._ended(None)
                return
            except BaseException as failure:
                self._ended(failure)
                return
            finally:
                self._running = False
            if waiting is pause:
                if self._wake:
                    error = None
                    continue
                self.paused = True
                return
            self._waiting = waiting
            waiting.addBoth(self._fired)
            return

    def _fired(self, result: object) -> None:
        # A failure is thrown in: a Deferred that is just running this callback cannot raise it by itself.
        self._waiting = None
        self._step(result.value if isinstance(result, Failure) else None)


class Started(Generic[T]):
    """A coroutine that runs at once, while its result is wanted later, if at all.

    What goes wrong in it is kept for whoever asks, and told to nobody else.
    """

    __slots__ = ("_error", "_result", "_waiter", "_work")

    def __init__(self, story: Coroutine[Any, Any, T]) -> None:
        self._error: BaseException | None = None
        self._result: T | None = None
        self._waiter: Deferred[None] | None = None
        self._work: Deferred[T] | None = None
        try:
            waiting = story.send(None)
        except StopIteration as stop:  # it did not wait: no Deferred is made
            self._result = stop.value
        except Exception as error:
            self._error = error
        else:
            work = Deferred.fromCoroutine(go_on(story, waiting))
            if not work.called:
                self._work = work
            work.addCallbacks(self._done, self._failed)

    def _done(self, result: T) -> None:
        self._result = result
        self._end()

    def _failed(self, failure: Failure) -> None:
        self._error = failure.value
        self._end()

    def _end(self) -> None:
        self._work = None
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)

    @property
    def known(self) -> T | None:
        """Its result, when it is there already."""
        return self._result

    @property
    def failed(self) -> bool:
        """It has ended with an exception."""
        return self._error is not None

    async def value(self) -> T:
        """Its result, when it has one; or its exception is raised. One may wait at a time; one who gives up ends it."""
        if self._work is not None:
            self._waiter = Deferred(lambda _: self.cancel())
            await self._waiter
        if self._error is not None:
            raise self._error
        return cast("T", self._result)

    def cancel(self) -> None:
        """Nobody wants the result any more."""
        if self._work is not None:
            self._work.cancel()


@coroutine
def within(clock: IReactorTime, seconds: float, awaited: Awaitable[T]) -> Generator[Any, Any, T]:
    """The result of ``awaited``, which may take at most ``seconds``. Costs no timer when it does not wait.

    :raises DeadlineError: it took longer; what it waited for was cancelled.
    """
    steps = awaited.__await__()
    try:
        waiting = next(steps)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    expired = False
    last = [waiting]

    def expire() -> None:
        nonlocal expired
        expired = True
        if isinstance(last[0], Deferred):
            last[0].cancel()

    timer = clock.callLater(seconds, expire)
    try:
        return (yield from go_on(steps, waiting, last))
    except CancelledError:
        if expired:
            raise DeadlineError(f"not finished within {seconds:g} s") from None
        raise
    finally:
        if timer.active():
            timer.cancel()


@coroutine
def go_on(
    steps: Generator[Any, Any, T] | Coroutine[Any, Any, T], waiting: Any, last: list[Any] | None = None
) -> Generator[Any, Any, T]:
    """The result of a coroutine whose first step was taken already.

    :param waiting: what it waits for.
    :param last: its one item is what it waits for, later on.
    """
    throw = getattr(steps, "throw", None)  # a Deferred has none: it raises by itself
    send = getattr(steps, "send", None)
    try:
        while True:
            if last is not None:
                last[0] = waiting
            try:
                yield waiting
            except GeneratorExit:  # nobody goes on with it
                if throw is not None:
                    steps.close()
                raise
            except BaseException as error:
                if throw is None:
                    raise
                waiting = throw(error)  # as ``Deferred.fromCoroutine`` tells of failures
            else:
                waiting = next(steps) if send is None else send(None)  # type: ignore[arg-type]
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
