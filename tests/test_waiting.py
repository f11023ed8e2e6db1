"""Tests of twisted_mail_node.waiting."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.waiting import DeadlineError, Led, Started, pause, within


class LedTests(SynchronousTestCase):
    """Leading a coroutine."""

    def setUp(self) -> None:
        self.ended: list[BaseException | None] = []
        self.steps: list[object] = []

    def lead(self, story: Coroutine[Any, Any, None]) -> Led:
        """Start it."""
        led = Led(story, self.ended.append)
        led.start()
        return led

    def test_end(self) -> None:
        """A story without a wait ends at once; how it ended is told once."""

        async def story() -> None:
            self.steps.append(1)

        led = self.lead(story())
        self.assertEqual((self.steps, self.ended, led.paused), ([1], [None], False))

    def test_pause(self) -> None:
        """It pauses until resumed; resuming what is not paused does nothing."""

        async def story() -> None:
            for number in range(3):
                self.steps.append(number)
                await pause

        led = self.lead(story())
        self.assertEqual((self.steps, led.paused), ([0], True))
        led.resume()
        led.resume()
        self.assertEqual(self.steps, [0, 1, 2])
        led.resume()
        led.resume()
        self.assertEqual((self.ended, led.paused), ([None], False))

    def test_deferred(self) -> None:
        """It waits for Deferreds; ``resume`` does not wake it from one, and the result is handed over."""
        waiting: Deferred[str] = Deferred()

        async def story() -> None:
            self.steps.append(await waiting)

        led = self.lead(story())
        led.resume()
        self.assertEqual((self.steps, led.paused), ([], False))
        waiting.callback("result")
        self.assertEqual((self.steps, self.ended), (["result"], [None]))

    def test_failure(self) -> None:
        """A failure is raised where the story waits, and is not left unhandled."""
        waiting: Deferred[None] = Deferred()

        async def story() -> None:
            try:
                await waiting
            except ZeroDivisionError:
                self.steps.append("caught")
            await fail(KeyError("x"))

        self.lead(story())
        waiting.errback(ZeroDivisionError())
        self.assertEqual(self.steps, ["caught"])
        self.assertIsInstance(self.ended[0], KeyError)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_throw(self) -> None:
        """An error is raised in a pause; not where the story waits for a Deferred."""
        waiting: Deferred[None] = Deferred()

        async def story() -> None:
            await waiting
            try:
                await pause
            finally:
                self.steps.append("cleaned up")

        led = self.lead(story())
        led.throw(ZeroDivisionError())
        self.assertEqual(self.ended, [])
        waiting.callback(None)
        led.throw(ZeroDivisionError())
        self.assertEqual(self.steps, ["cleaned up"])
        self.assertIsInstance(self.ended[0], ZeroDivisionError)
        led.throw(ZeroDivisionError())
        led.resume()
        self.assertEqual(len(self.ended), 1)

    def test_cancel(self) -> None:
        """The Deferred that the story waits for is cancelled; in a pause, and before and after all, nothing happens."""
        waiting: Deferred[None] = Deferred()

        async def story() -> None:
            await pause
            await waiting

        led = self.lead(story())
        led.cancel()
        led.resume()
        self.assertEqual(self.ended, [])
        led.cancel()
        led.cancel()
        self.assertIsInstance(self.ended[0], CancelledError)

    def test_caught(self) -> None:
        """A story may catch what is thrown and go on."""

        async def story() -> None:
            try:
                await pause
            except ZeroDivisionError:
                await pause

        led = self.lead(story())
        led.throw(ZeroDivisionError())
        self.assertTrue(led.paused)
        led.resume()
        self.assertEqual(self.ended, [None])

    def test_resumed_while_running(self) -> None:
        """Who is resumed while it runs does not sleep at its next pause: nothing that came is overlooked."""

        async def story() -> None:
            self.steps.append("first")
            led.resume()
            await pause
            self.steps.append("second")
            await pause

        led = Led(story(), self.ended.append)
        led.start()
        self.assertEqual((self.steps, led.paused), (["first", "second"], True))

    def test_many(self) -> None:
        """Thousands of Deferreds that have fired already, one after the other, do not pile up."""

        async def story() -> None:
            for _ in range(5000):
                await succeed(None)

        self.lead(story())
        self.assertEqual(self.ended, [None])


class WithinTests(SynchronousTestCase):
    """Deadlines."""

    def setUp(self) -> None:
        self.clock = Clock()

    def run_it(self, coroutine: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        """As a Deferred; the same must hold where a ``Led`` leads it, see ``led``."""
        return Deferred.fromCoroutine(coroutine)

    def led(self, coroutine: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        """The same, led by a Led."""
        done: Deferred[Any] = Deferred()
        result: list[Any] = []

        async def story() -> None:
            result.append(await coroutine)

        def ended(error: BaseException | None) -> None:
            if error is None:
                done.callback(result[0])
            else:
                done.errback(error)

        Led(story(), ended).start()
        return done

    def both(self, make: Any) -> list[Deferred[Any]]:
        """Both ways of leading a coroutine that ``make`` makes."""
        return [self.run_it(make()), self.led(make())]

    def test_no_wait(self) -> None:
        """What does not wait costs no timer: coroutine or Deferred."""

        async def value() -> int:
            return 7

        async def story(awaited: Any) -> int:
            found: int = await within(self.clock, 5, awaited)
            return found

        for doing in (self.run_it(story(value())), self.led(story(value())), self.run_it(story(succeed(7)))):
            self.assertEqual(self.successResultOf(doing), 7)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_in_time(self) -> None:
        """A result in time is given and the timer goes."""
        waiting: list[Deferred[str]] = []

        async def story() -> str:
            waiting.append(Deferred())
            return await within(self.clock, 5, waiting[-1])

        doing = self.both(story)
        self.clock.advance(4)
        for one in waiting:
            one.callback("done")
        self.assertEqual([self.successResultOf(one) for one in doing], ["done", "done"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_too_late(self) -> None:
        """After the time: DeadlineError, and what was awaited is cancelled."""
        cancelled: list[Deferred[None]] = []

        async def inner() -> None:
            await Deferred[None](cancelled.append)

        async def story(coroutine: bool) -> None:
            await within(self.clock, 5, inner() if coroutine else Deferred[None](cancelled.append))

        doing = [*self.both(lambda: story(True)), *self.both(lambda: story(False))]
        self.clock.advance(5.1)
        for one in doing:
            self.failureResultOf(one, DeadlineError)
        self.assertEqual(len(cancelled), 4)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_failure(self) -> None:
        """A failure of what is awaited is raised, in it first and then here."""
        waiting: list[Deferred[None]] = []
        seen: list[str] = []

        async def inner() -> None:
            waiting.append(Deferred())
            try:
                await waiting[-1]
            finally:
                seen.append("inner")

        async def story() -> None:
            await within(self.clock, 5, inner())

        doing = self.both(story)
        for one in waiting:
            one.errback(ZeroDivisionError())
        for deferred in doing:
            self.failureResultOf(deferred, ZeroDivisionError)
        self.assertEqual(seen, ["inner", "inner"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_later_wait(self) -> None:
        """What is cancelled when the time is over is what is waited for then, not what was first."""
        waiting: list[Deferred[None]] = []

        async def story() -> None:
            for _ in range(2):
                waiting.append(Deferred())
                await waiting[-1]

        async def in_time() -> None:
            await within(self.clock, 5, story())

        doing = self.run_it(in_time())
        waiting[0].callback(None)
        self.clock.advance(6)
        self.failureResultOf(doing, DeadlineError)
        self.assertTrue(waiting[1].called)

    def test_several_waits(self) -> None:
        """The time is that of all waits together; a failure caught inside does not end it."""
        waiting: list[Deferred[int]] = []

        async def inner() -> int:
            total = 0
            for _ in range(3):
                waiting.append(Deferred())
                try:
                    total += await waiting[-1]
                except ZeroDivisionError:
                    total += 100
            return total

        async def story() -> int:
            return await within(self.clock, 5, inner())

        for lead in (self.run_it, self.led):
            waiting.clear()
            doing = lead(story())
            self.assertNoResult(doing)
            waiting[0].callback(1)
            waiting[1].errback(ZeroDivisionError())
            waiting[2].callback(2)
            self.assertEqual(self.successResultOf(doing), 103)

    def test_nested(self) -> None:
        """The shorter of two deadlines counts; the outer one sees the inner one's error."""
        cancelled: list[str] = []

        async def wait() -> None:
            await Deferred[None](lambda _: cancelled.append("x"))

        async def inner() -> str:
            try:
                await within(self.clock, 2, wait())
            except DeadlineError:
                return "inner deadline"
            return "no deadline"

        async def story(outer: float) -> str:
            return await within(self.clock, outer, inner())

        longer = self.both(lambda: story(5))
        shorter = self.both(lambda: story(1))
        self.clock.advance(1.1)
        for doing in shorter:
            self.failureResultOf(doing, DeadlineError)
        self.clock.advance(1)
        self.assertEqual([self.successResultOf(doing) for doing in longer], ["inner deadline"] * 2)
        self.assertEqual((cancelled, self.clock.getDelayedCalls()), (["x"] * 4, []))

    def test_nested_at_once(self) -> None:
        """Two deadlines at the same instant are one DeadlineError, and nothing is left."""

        async def wait() -> None:
            await Deferred[None]()

        async def story() -> None:
            await within(self.clock, 2, self.inner(wait()))

        doing = self.both(story)
        self.clock.advance(2)
        for one in doing:
            self.failureResultOf(one, DeadlineError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def inner(self, awaited: Coroutine[Any, Any, None]) -> None:
        """A deadline of two seconds."""
        await within(self.clock, 2, awaited)

    def test_cancelled_from_outside(self) -> None:
        """A cancellation that is not ours stays one."""

        async def story() -> None:
            await within(self.clock, 5, Deferred[None]())

        doing = self.run_it(story())
        doing.cancel()
        self.failureResultOf(doing, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_result_in_spite(self) -> None:
        """What catches its cancellation and still gives a result is heard."""

        async def inner() -> str:
            try:
                await Deferred[None]()
            except CancelledError:
                return "a bit late"
            return "in time"

        async def story() -> str:
            return await within(self.clock, 5, inner())

        doing = self.both(story)
        self.clock.advance(6)
        self.assertEqual([self.successResultOf(one) for one in doing], ["a bit late"] * 2)

    def test_dropped(self) -> None:
        """Closing the coroutine that waits takes the timer with it."""

        async def story() -> None:
            await within(self.clock, 5, Deferred[None]())

        coroutine = story()
        coroutine.send(None)
        coroutine.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class StartedTests(SynchronousTestCase):
    """Work that is begun now and asked for later."""

    def start(self, waiting: Deferred[str] | None = None) -> Started[str]:
        """A coroutine that notes its steps, waits if there is something to wait for, and ends with words."""
        self.steps: list[str] = []

        async def story() -> str:
            self.steps.append("begun")
            return "at once" if waiting is None else await waiting

        return Started(story())

    def test_at_once(self) -> None:
        """It begins before anybody asks, and may be asked again and again."""
        started = self.start()
        self.assertEqual(self.steps, ["begun"])
        for _ in range(2):
            self.assertEqual(self.successResultOf(Deferred.fromCoroutine(started.value())), "at once")

    def test_later(self) -> None:
        """Who asks before its end waits; who asks after it does not."""
        waiting: Deferred[str] = Deferred()
        started = self.start(waiting)
        asked = Deferred.fromCoroutine(started.value())
        self.assertNoResult(asked)
        self.assertIsNone(started.known)
        waiting.callback("later")
        self.assertEqual(self.successResultOf(asked), "later")
        self.assertEqual(started.known, "later")
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(started.value())), "later")

    def test_error(self) -> None:
        """An exception is for whoever asks, and for nobody's log."""
        started = self.start(fail(ValueError("no")))
        self.failureResultOf(Deferred.fromCoroutine(started.value()), ValueError)
        self.start(fail(ValueError("nobody asks")))

    def test_cancelled(self) -> None:
        """Without anybody who wants it, the work is given up: by a word, or with the one who waits."""
        cancelled: list[object] = []
        for _ in range(2):
            started = self.start(Deferred(cancelled.append))
            asked = Deferred.fromCoroutine(started.value())
            if cancelled:
                asked.cancel()
            else:
                started.cancel()
            self.failureResultOf(asked, CancelledError)
        self.assertEqual(len(cancelled), 2)
        started.cancel()
