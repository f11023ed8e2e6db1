"""MaildirStore delivers mail into Maildirs (https://cr.yp.to/proto/maildir.html), many mails at a time.

Requests gather while a batch is being written; one thread writes a batch, syncs it once and then tells the reactor,
once. A mail that comes alone is written at once. When batches follow each other closely, the thread waits a few
milliseconds before it takes the next, so that it syncs ten mails at a time rather than one or two.

The spool keeps a mail until its status is recorded, so nothing is lost when anything here fails: every error is a
delay of that recipient, an error of the sync a delay of the whole batch (those mails may then be there twice).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from twisted_mail_node.delivery.batch import INTERNAL, BatchWriter, Job
from twisted_mail_node.delivery.sync import SyncMode
from twisted_mail_node.interfaces import IDeliveryAgent
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.reasons import Reason

_log = Logger()

#: Mails (files) of one batch. Larger batches gain nothing: at 200 the sync costs 5 µs a mail.
BATCH_MAILS = 200
#: Octets of one batch: what a slow disk (50 MB/s) still syncs in a third of a second.
BATCH_OCTETS = 16 << 20
#: Seconds to gather when batches follow each other this closely. Nobody waits for it: the mail is accepted already.
LINGER = 0.01
#: How often (seconds) deadlines are looked at; they are minutes.
WATCH = 1.0

#: Seconds ``close`` waits for the thread; one that hangs in a dead filesystem must not hold the process.
CLOSE_WAIT = 30.0

LATE = DeliveryStatus(Action.DELAYED, "4.3.0", Reason.STORE_FAILED, "The mailbox could not be written in time")
STOPPED = DeliveryStatus(Action.DELAYED, "4.3.2", Reason.SHUTTING_DOWN, "The node is stopping")

Done = list[tuple[int, list[DeliveryStatus]]]


class CallFromThread(Protocol):
    """The one thing of ``IReactorFromThreads`` that is used here."""

    def callFromThread(self, callable: Callable[..., object], *args: object, **kwargs: object) -> object:
        """Call it in the reactor's thread."""


class _Waiting(NamedTuple):
    deferred: Deferred[list[DeliveryStatus]]
    request: DeliveryRequest
    deadline: float


@implementer(IDeliveryAgent)
class MaildirStore:
    """Delivers into Maildirs.

    :param path_of: where the Maildir of an address is; ``None`` when nobody has it (any more).
    :param clock: for deadlines.
    :param sync: how batches are made durable, see ``delivery.sync``.
    :param hostname: ours, a part of the file names.
    :param delivered: told of every mail that lies in a mailbox, with its octets (quota).
    :param linger: see LINGER.
    """

    def __init__(
        self,
        *,
        path_of: Callable[[Address], Path | None],
        reactor: CallFromThread,
        clock: IReactorTime,
        hostname: str,
        sync: SyncMode = "auto",
        delivered: Callable[[Address, int], None] | None = None,
        linger: float = LINGER,
    ) -> None:
        self._path_of = path_of
        self._reactor = reactor
        self._clock = clock
        self._writer = BatchWriter(hostname, sync)
        self._delivered = delivered
        self._linger = linger
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._waiting: dict[int, _Waiting] = {}
        self._count = 0
        self._thread: threading.Thread | None = None
        self._watch: IDelayedCall | None = None
        self._closed = False

    async def deliver(self, request: DeliveryRequest) -> Sequence[DeliveryStatus]:
        """See IDeliveryAgent. Ends when the batch that holds the mail is durable, or at the deadline."""
        if self._closed:
            return [STOPPED] * len(request.recipients)
        path_of = self._path_of
        paths = tuple(
            [
                None if (path := path_of(recipient.address)) is None else os.fspath(path)
                for recipient in request.recipients
            ]
        )
        self._count = number = self._count + 1
        done: Deferred[list[DeliveryStatus]] = Deferred(lambda _: self._forget(number))
        self._waiting[number] = _Waiting(done, request, self._clock.seconds() + request.deadline)
        self._jobs.put(Job(number, request, paths))
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_batches, name="maildir", daemon=True)
            self._thread.start()
        if self._watch is None:
            self._watch = self._clock.callLater(WATCH, self._look_at_deadlines)
        return await done

    def close(self) -> None:
        """Write what waits, end the thread and wait for it. Blocks; nothing is delivered afterwards.

        What the last batch came to is told by ``callFromThread``: the reactor must turn once more to hear of it.
        """
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join(CLOSE_WAIT)
            self._thread = None

    def _forget(self, number: int) -> None:
        """The caller gave up: the mail is not written if its turn has not come."""
        self._waiting.pop(number, None)

    def _look_at_deadlines(self) -> None:
        self._watch = None
        now = self._clock.seconds()
        late = [number for number, waiting in self._waiting.items() if waiting.deadline <= now]
        for number in late:
            waiting = self._waiting.pop(number)
            waiting.deferred.callback([LATE] * len(waiting.request.recipients))
        if self._waiting and self._watch is None and not self._closed:
            self._watch = self._clock.callLater(WATCH, self._look_at_deadlines)

    def _finish(self, done: Done) -> None:
        """In the reactor's thread: the batch is durable."""
        waiting, tell = self._waiting, self._delivered
        for number, statuses in done:
            found = waiting.pop(number, None)
            if found is None:
                continue
            if tell is not None:
                for recipient, status in zip(found.request.recipients, statuses, strict=True):
                    if status.action is Action.DELIVERED:
                        tell(recipient.address, len(found.request.header) + found.request.content.size)
            found.deferred.callback(statuses)

    # in the thread

    def _write_batches(self) -> None:
        jobs, writer, linger = self._jobs, self._writer, self._linger
        ended = 0.0
        job: Job | None = None
        while True:
            if job is None and (job := jobs.get()) is None:
                break
            if linger and time.monotonic() - ended < linger and jobs.qsize() < BATCH_MAILS:
                time.sleep(linger)
            batch, job, last = self._gather(job)
            try:
                done = writer.write(batch, self._waiting)
            except Exception:
                _log.failure("a batch of {mails} mails broke", mails=len(batch))
                done = [(one.number, [INTERNAL] * len(one.paths)) for one in batch]
            ended = time.monotonic()
            self._reactor.callFromThread(self._finish, done)
            if last:
                break
        writer.close()

    def _gather(self, first: Job) -> tuple[list[Job], Job | None, bool]:
        """A batch that begins with ``first``, what was taken but did not fit, and True when ``close`` was called."""
        get = self._jobs.get_nowait
        batch = [first]
        mails = len(first.paths)
        octets = first.request.content.size * mails
        while True:
            try:
                job = get()
            except Empty:
                return batch, None, False
            if job is None:
                return batch, None, True
            mails += len(job.paths)
            octets += job.request.content.size * len(job.paths)
            if mails > BATCH_MAILS or octets > BATCH_OCTETS:
                return batch, job, False
            batch.append(job)
