"""One deadline for many attempts."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.queue.watch import CANCELLED_AT_MOST, Watch
from twisted_mail_node.waiting import DeadlineError, Led


class WatchTests(SynchronousTestCase):
    """What is watched ends in time."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.watch = Watch(self.clock, 100.0)

    def over(self, awaited: Awaitable[int]) -> Deferred[int]:
        async def story() -> int:
            return await self.watch.over(awaited)

        return Deferred.fromCoroutine(story())

    def test_at_once(self) -> None:
        """What does not wait gives its result and is not watched."""
        self.assertEqual(self.successResultOf(self.over(succeed(1))), 1)
        self.assertEqual(self.watch._watched, {})

    def test_in_time(self) -> None:
        """What ends in time gives its result, its exceptions too, and is forgotten."""
        first, second = Deferred[int](), Deferred[int]()
        good, bad = self.over(first), self.over(second)
        self.clock.advance(99.0)
        self.watch.sweep()
        first.callback(2)
        second.errback(ValueError())
        self.assertEqual(self.successResultOf(good), 2)
        self.failureResultOf(bad, ValueError)
        self.assertEqual(self.watch._watched, {})

    def test_too_late(self) -> None:
        """What takes too long is cancelled and raises; what began later goes on."""
        early = self.over(Deferred[int]())
        self.clock.advance(50.0)
        late = self.over(Deferred[int]())
        self.clock.advance(50.0)
        self.watch.sweep()
        self.failureResultOf(early, DeadlineError)
        self.assertNoResult(late)

    def test_the_wait_it_is_in(self) -> None:
        """Of several waits the one it is in is cancelled."""
        first, second = Deferred[int](), Deferred[int]()

        async def twice() -> int:
            return await first + await second

        ended = self.over(twice())
        first.callback(1)
        self.clock.advance(100.0)
        self.watch.sweep()
        self.failureResultOf(ended, DeadlineError)

    def test_goes_on_waiting(self) -> None:
        """What waits again after each cancellation may put something in order, and then is left behind."""
        waits, left = list[Deferred[int]](), list[int]()

        async def stubborn() -> int:
            try:
                while True:
                    waits.append(Deferred())
                    with contextlib.suppress(CancelledError):
                        await waits[-1]
            finally:
                left.append(len(waits))

        ended = self.over(stubborn())
        self.clock.advance(100.0)
        for _ in range(CANCELLED_AT_MOST):
            self.assertNoResult(ended)
            self.watch.sweep()
        self.failureResultOf(ended, DeadlineError)
        self.assertEqual(left, [1 + CANCELLED_AT_MOST])
        self.assertEqual(self.watch._watched, {})

    def test_a_failure_inside(self) -> None:
        """What fails inside can be caught inside, whoever leads the story."""
        for lead in (Deferred.fromCoroutine, lambda story: Led(story, lambda error: None).start()):
            wait = Deferred[int]()
            caught: list[int] = []

            async def careful(wait: Deferred[int] = wait, caught: list[int] = caught) -> int:
                try:
                    return await wait
                except ValueError:
                    caught.append(1)
                    return 0

            async def story() -> None:
                await self.watch.over(careful())

            lead(story())
            wait.errback(ValueError())
            self.assertEqual(caught, [1])

    def test_cancelled_by_another(self) -> None:
        """A cancellation that is not ours stays what it is."""
        wait = Deferred[int]()
        ended = self.over(wait)
        wait.cancel()
        self.failureResultOf(ended, CancelledError)
