"""Tests of the agent that delivers into Maildirs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from queue import SimpleQueue
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.delivery.test_batch import CONTENT, Content, request_for
from twisted_mail_node.delivery import maildir
from twisted_mail_node.delivery.batch import BatchWriter, Job
from twisted_mail_node.delivery.maildir import MaildirStore
from twisted_mail_node.interfaces import IDeliveryAgent
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.reasons import Reason

#: Seconds a test waits for the store's thread before it fails.
PATIENCE = 20.0


class Turns:
    """Stands for the reactor: keeps what the thread asks to be called."""

    def __init__(self) -> None:
        self.calls: SimpleQueue[tuple[Callable[..., object], tuple[object, ...]]] = SimpleQueue()

    def callFromThread(self, callable: Callable[..., object], *args: object, **kwargs: object) -> None:
        """See IReactorFromThreads."""
        self.calls.put((callable, args))

    def turn(self) -> None:
        """Wait for one call of the thread and make it."""
        function, args = self.calls.get(timeout=PATIENCE)
        function(*args)


class MaildirStoreTests(SynchronousTestCase):
    """MaildirStore."""

    def setUp(self) -> None:
        self.root = Path(self.mktemp()).absolute()
        self.clock = Clock()
        self.turns = Turns()
        self.usage: list[tuple[Address, int]] = []
        self.batches: list[int] = []
        self.store = MaildirStore(
            path_of=lambda address: None if address.local_part == "nobody" else self.root / address.local_part,
            reactor=self.turns,
            clock=self.clock,
            hostname="mx.test",
            delivered=lambda address, octets: self.usage.append((address, octets)),
            linger=0.0,
        )
        self.addCleanup(self.store.close)
        # The first batch waits at this gate, so that the test decides what gathers behind it.
        self.gate = threading.Semaphore(0)
        write = BatchWriter.write

        def gated(
            writer: BatchWriter, jobs: Sequence[Job], wanted: Container[int]
        ) -> list[tuple[int, list[DeliveryStatus]]]:
            self.assertTrue(self.gate.acquire(timeout=PATIENCE))
            self.batches.append(len(jobs))
            return write(writer, jobs, wanted)

        self.patch(BatchWriter, "write", gated)

    def deliver(self, request: DeliveryRequest) -> Deferred[Sequence[DeliveryStatus]]:
        """Begin a delivery."""
        return Deferred.fromCoroutine(self.store.deliver(request))

    def new(self, name: str = "joe") -> int:
        """How many mails lie in ``new``."""
        return len(os.listdir(self.root / name / "new"))

    def test_interface(self) -> None:
        """It is a delivery agent."""
        self.assertTrue(verifyObject(IDeliveryAgent, self.store))

    def test_one(self) -> None:
        """A mail that comes alone is delivered by itself; quota hears of it."""
        done = self.deliver(request_for(Content(CONTENT), "joe", "nobody"))
        self.assertNoResult(done)
        self.gate.release()
        self.turns.turn()
        self.assertEqual([s.action for s in self.successResultOf(done)], [Action.DELIVERED, Action.FAILED])
        self.assertEqual(self.new(), 1)
        size = len(CONTENT) + len(b"Received: by us\r\n")
        self.assertEqual(self.usage, [(Address("joe", "local.test"), size)])

    def test_gathers(self) -> None:
        """What comes while a batch is being written becomes one batch, and the reactor is called once for it."""
        first = self.deliver(request_for(Content(CONTENT), "joe"))
        while self.store._jobs.qsize():
            pass
        others = [self.deliver(request_for(Content(CONTENT), "joe")) for _ in range(10)]
        self.gate.release()
        self.turns.turn()
        self.successResultOf(first)
        self.gate.release()
        self.turns.turn()
        for other in others:
            self.assertIs(self.successResultOf(other)[0].action, Action.DELIVERED)
        self.assertEqual(self.batches, [1, 10])
        self.assertEqual(self.new(), 11)
        self.assertTrue(self.turns.calls.empty())

    def test_bounded(self) -> None:
        """A batch has so many mails and octets at most; what does not fit begins the next."""
        self.patch(maildir, "BATCH_MAILS", 4)
        self.patch(maildir, "BATCH_OCTETS", 3 * len(CONTENT))
        all_of_them = [self.deliver(request_for(Content(CONTENT), "joe"))]
        while self.store._jobs.qsize():
            pass
        all_of_them += [self.deliver(request_for(Content(b"x"), "joe")) for _ in range(6)]
        all_of_them += [self.deliver(request_for(Content(CONTENT * 2), "joe")) for _ in range(3)]
        all_of_them += [self.deliver(request_for(Content(CONTENT * 9), "joe", "ann"))]
        for _ in range(7):
            self.gate.release()
        while not all(done.called for done in all_of_them):
            self.turns.turn()
        self.assertEqual(self.batches, [1, 4, 3, 1, 1, 1])
        self.assertEqual(self.new(), 11)

    def test_deadline(self) -> None:
        """A mail that is not written in time is delayed, and not written afterwards."""
        first = self.deliver(request_for(Content(CONTENT), "joe"))
        while self.store._jobs.qsize():
            pass
        second = self.deliver(request_for(Content(CONTENT), "joe"))
        self.clock.pump([1.0] * 59)
        self.assertNoResult(second)
        self.clock.advance(1.0)
        for done in (first, second):
            [status] = self.successResultOf(done)
            self.assertEqual((status.action, status.reason), (Action.DELAYED, Reason.STORE_FAILED))
        self.gate.release(2)
        self.store.close()
        self.turns.turn()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertFalse((self.root / "joe").exists())

    def test_given_up(self) -> None:
        """A delivery whose caller gave up is not made when its turn has not come."""
        first = self.deliver(request_for(Content(CONTENT), "joe"))
        second = self.deliver(request_for(Content(CONTENT), "joe"))
        second.cancel()
        self.failureResultOf(second)
        self.gate.release(2)
        self.turns.turn()
        self.successResultOf(first)
        self.store.close()
        self.assertEqual(self.new(), 1)

    def test_batch_breaks(self) -> None:
        """Whatever breaks in the thread is a delay, and the thread goes on."""
        with mock.patch.object(BatchWriter, "write", side_effect=RuntimeError("x")):
            done = self.deliver(request_for(Content(CONTENT), "joe", "ann"))
            self.turns.turn()
        self.assertEqual([s.reason for s in self.successResultOf(done)], [Reason.INTERNAL] * 2)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.gate.release()
        done = self.deliver(request_for(Content(CONTENT), "joe"))
        self.turns.turn()
        self.assertIs(self.successResultOf(done)[0].action, Action.DELIVERED)

    def test_close(self) -> None:
        """What waits is written before the thread ends; what comes afterwards is delayed."""
        waiting = [self.deliver(request_for(Content(CONTENT), "joe")) for _ in range(5)]
        self.gate.release(5)
        self.store.close()
        self.assertEqual(self.new(), 5)
        while not self.turns.calls.empty():
            self.turns.turn()
        for done in waiting:
            self.assertIs(self.successResultOf(done)[0].action, Action.DELIVERED)
        [status] = self.successResultOf(self.deliver(request_for(Content(CONTENT), "joe")))
        self.assertEqual((status.action, status.reason), (Action.DELAYED, Reason.SHUTTING_DOWN))

    def test_close_unused(self) -> None:
        """A store that was never used has no thread to end."""
        self.store.close()
        self.assertNotIn("maildir", [thread.name for thread in threading.enumerate()])

    def test_linger(self) -> None:
        """When batches follow each other closely the thread gathers for a moment; the first never waits."""
        slept: list[float] = []
        self.store._linger = 0.5
        self.patch(time, "sleep", slept.append)
        self.patch(time, "monotonic", lambda: 1000.0)
        self.gate.release(3)
        for _ in range(3):
            done = self.deliver(request_for(Content(CONTENT), "joe"))
            self.turns.turn()
            self.successResultOf(done)
        self.assertEqual(slept, [0.5, 0.5])
