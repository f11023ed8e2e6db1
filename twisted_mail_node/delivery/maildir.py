"""MaildirStore delivers mail into Maildirs (https://cr.yp.to/proto/maildir.html), many mails at a time.

Requests go to a writing process (``delivery.writer``), which writes what has come in one batch, syncs it once, and
tells. The spool keeps a mail until its status is recorded, so nothing is lost when anything here fails: every error is
a delay of that recipient, an error of the sync a delay of the whole batch, the death of the process a delay of all it
had (those mails may then be there twice). A process that hangs beyond a deadline or talks nonsense is killed: what it
holds is not wanted any more, and would only pile up.
"""

from __future__ import annotations

import errno
import os
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, TimeoutError, succeed
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_mail_node.delivery.frames import (
    BROKEN,
    DELIVERED,
    FrameError,
    Frames,
    Job,
    Target,
    Written,
    decode_result,
    encode_goodbye,
    encode_job,
)
from twisted_mail_node.delivery.mailbox import FOLDER
from twisted_mail_node.delivery.sync import SyncMode
from twisted_mail_node.interfaces import IDeliveryAgent
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.message.trace import delivered_to, return_path
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.reasons import Reason
from twisted_mail_node.threads import in_thread

_log = Logger()

#: How often (seconds) deadlines are looked at; they are minutes.
WATCH = 1.0
#: Seconds ``close`` waits for the process; one that hangs in a dead filesystem must not hold the node.
CLOSE_WAIT = 30.0
#: ... and then for the kill: a process in the middle of a disk operation ends only when the disk answers.
KILL_WAIT = 2.0
#: Octets of jobs the process has before it; what comes on top waits here, where it is not copied into a buffer.
WINDOW = 8 << 20
#: Seconds between two starts of the process: one that dies at once must not be started all the time.
RESTART = 1.0
#: Octets of a line of the process's that we log.
LINE_MAX = 2000

DONE = DeliveryStatus(Action.DELIVERED, "2.0.0", Reason.DELIVERED, "Delivered to the mailbox")
UNKNOWN = DeliveryStatus(Action.FAILED, "5.1.1", Reason.UNKNOWN_RECIPIENT, "No such user here")
INTERNAL = DeliveryStatus(Action.DELAYED, "4.3.0", Reason.INTERNAL, "Internal error")
LATE = DeliveryStatus(Action.DELAYED, "4.3.0", Reason.STORE_FAILED, "The mailbox could not be written in time")
STOPPED = DeliveryStatus(Action.DELAYED, "4.3.2", Reason.SHUTTING_DOWN, "The node is stopping")
DIED = DeliveryStatus(Action.DELAYED, "4.3.0", Reason.STORE_FAILED, "The process that writes mailboxes has ended")

_FULL = (errno.ENOSPC, errno.EDQUOT)
#: What is wrong with the mailbox rather than with the system.
_MAILBOX = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ENAMETOOLONG)


class _Waiting(NamedTuple):
    done: Deferred[list[Written]]
    deadline: float
    size: int


class _Process(ProcessProtocol):
    """The reactor's end of the pipes."""

    transport: Any

    def __init__(self, store: MaildirStore) -> None:
        self._store = store
        self._frames = Frames()
        self._said = b""

    def outReceived(self, data: bytes) -> None:
        try:
            for frame in self._frames.feed(data):
                self._store.written(*decode_result(frame))
        except FrameError as error:
            self.transport.closeStdout()
            self._store.kill(str(error))

    def errReceived(self, data: bytes) -> None:
        """What it says for people goes into the node's log: a daemon has no standard error."""
        *lines, rest = (self._said + data).split(b"\n")
        self._said = rest[:LINE_MAX]
        for line in lines:
            _log.warn("writing mail: {line}", line=line[:LINE_MAX].decode("utf-8", "replace"))

    def processEnded(self, reason: Failure) -> None:
        if self._said:
            self.errReceived(b"\n")
        self._store.process_ended(reason)


@implementer(IDeliveryAgent)
class MaildirStore:
    """Delivers into Maildirs.

    :param path_of: where the Maildir of an address is; ``None`` when nobody has it (any more).
    :param reactor: starts the process; for time, and for threads.
    :param hostname: ours, a part of the file names.
    :param sync: how batches are made durable, see ``delivery.sync``.
    :param delivered: told of every mail that lies in a mailbox, with its octets (quota).
    :ivar junk_folder: the folder (Maildir++) that mail in quarantine goes to; ``""``: it goes where all mail goes.
    """

    def __init__(
        self,
        *,
        path_of: Callable[[Address], Path | None],
        reactor: Any,
        hostname: str,
        sync: SyncMode = "auto",
        delivered: Callable[[Address, int], None] | None = None,
        junk_folder: str = "",
    ) -> None:
        self._path_of = path_of
        self.junk_folder = junk_folder
        self._reactor = reactor
        # -P: what lies in the directory we were started in is none of its modules
        self._command = [sys.executable, "-P", "-m", "twisted_mail_node.delivery.writer", hostname, sync]
        self._delivered = delivered
        self._waiting: dict[int, _Waiting] = {}
        self._unanswered = 0  #: octets of jobs that the process has and has not told of
        self._later: deque[tuple[int, list[bytes]]] = deque()  #: jobs it has not been given yet
        self._count = 0
        self._process: Any = None  #: the one that writes
        self._dying: Any = None  #: the one that was killed and has not ended yet
        self._started = float("-inf")
        self._watch: IDelayedCall | None = None
        self._force: IDelayedCall | None = None
        self._closed: Deferred[None] | None = None

    def start(self) -> None:
        """Start the process now rather than with the first mail. When it cannot be started, mails are delayed."""
        now = self._reactor.seconds()
        if self._process is not None or self._dying is not None or self._closed is not None:
            return
        if 0 <= now - self._started < RESTART:
            return
        self._started = now
        try:
            self._process = self._reactor.spawnProcess(
                _Process(self), self._command[0], self._command, env=None, childFDs={0: "w", 1: "r", 2: "r"}
            )
        except OSError as error:
            _log.error("the process that writes mailboxes cannot be started: {why}", why=str(error))

    async def deliver(self, request: DeliveryRequest) -> Sequence[DeliveryStatus]:
        """See IDeliveryAgent. Ends when the batch that holds the mail is durable, or at the deadline."""
        recipients = request.recipients
        paths = [self._path_of(recipient.address) for recipient in recipients]
        folder = f"{FOLDER}{self.junk_folder}" if request.envelope.quarantine and self.junk_folder else ""
        if self._closed is not None:
            return [STOPPED] * len(recipients)
        content = request.content
        octets, file = content.octets, content.path
        if octets is None and file is None:
            try:
                reading = in_thread(self._reactor, lambda: b"".join(content.blocks()))
                octets = await reading.addTimeout(request.deadline, self._reactor)
            except OSError as error:
                return [_delayed(error.errno or 0)] * len(recipients)
            except TimeoutError:
                return [LATE] * len(recipients)
            if self._closed is not None:
                return [STOPPED] * len(recipients)
        targets = tuple(
            [
                Target(f"{path}{folder}", head_of(request, recipient.address))
                for recipient, path in zip(recipients, paths, strict=True)
                if path is not None
            ]
        )
        if not targets:
            return [UNKNOWN] * len(recipients)
        binary = request.envelope.body == "BINARYMIME"
        job = Job(self._count + 1, targets, octets, os.fspath(file) if file else "", content.size, binary)
        try:
            written = await self._write(job, request.deadline)
        except FrameError as error:
            _log.error("{queue_id} cannot be written: {why}", queue_id=request.queue_id, why=str(error))
            return [INTERNAL] * len(recipients)
        if len(written) != len(targets):
            written = [written[0] if written in ([_DIED], [_LATE]) else _STRANGE] * len(targets)
        each = iter(written)
        statuses = [UNKNOWN if path is None else _status(next(each)) for path in paths]
        if self._delivered is not None:
            for recipient, status in zip(recipients, statuses, strict=True):
                if status is DONE:
                    self._delivered(recipient.address, len(request.header) + content.size)
        return statuses

    def _write(self, job: Job, deadline: float) -> Deferred[list[Written]]:
        """Hand the job to the process. :raises FrameError: see ``encode_job``."""
        pieces = encode_job(job)
        if self._process is None:
            self.start()
        if self._process is None:
            return succeed([_DIED])
        self._count = number = job.number
        size = len(pieces[0]) + len(pieces[1])
        done: Deferred[list[Written]] = Deferred(lambda _: self._forget(number))
        self._waiting[number] = _Waiting(done, self._reactor.seconds() + deadline, size)
        if self._later or self._unanswered >= WINDOW:
            self._later.append((number, pieces))
        else:
            self._unanswered += size
            self._process.writeSequence(pieces)
        if self._watch is None:
            self._watch = self._reactor.callLater(WATCH, self._look_at_deadlines)
        return done

    # ---- what the process says -------------------------------------------------------------------------------

    def written(self, number: int, each: list[Written]) -> None:
        """The batch that holds this mail is durable (or what failed is known)."""
        waiting = self._waiting.pop(number, None)
        if waiting is not None:
            self._unanswered -= waiting.size
            if self._later:
                self._send_later(WINDOW)
            waiting.done.callback(each)

    def _send_later(self, window: int | None) -> None:
        """Send what waits here, while the process has less than ``window`` octets before it."""
        while self._later and self._process is not None and (window is None or self._unanswered < window):
            number, pieces = self._later.popleft()
            waiting = self._waiting.get(number)
            if waiting is not None:
                self._unanswered += waiting.size
                self._process.writeSequence(pieces)

    def process_ended(self, reason: Failure) -> None:
        """The process is gone: in order after ``close``, else all it had is delayed."""
        self._process = self._dying = None
        if self._closed is None or not reason.check(ProcessDone):
            _log.error("the process that writes mailboxes has ended: {why}", why=reason.getErrorMessage())
        self._give_back()

    def kill(self, why: str) -> None:
        """End the process by force. What it has told by then counts, the rest is delayed when it has ended."""
        process, self._process = self._process, None
        if process is not None:
            _log.error("the process that writes mailboxes is killed: {why}", why=why)
            self._dying = process
            try:
                process.signalProcess("KILL")
            except ProcessExitedAlready:
                pass

    def _give_back(self) -> None:
        """Delay all that waits. A caller may give up others, or bring new ones, while it is told."""
        self._later.clear()
        self._unanswered = 0
        for number in list(self._waiting):
            waiting = self._waiting.pop(number, None)
            if waiting is not None:
                waiting.done.callback([_DIED])
        if self._force is not None and self._force.active():
            self._force.cancel()
        if self._closed is not None and not self._closed.called:
            self._closed.callback(None)

    def _forget(self, number: int) -> None:
        """The caller gave up; the mail may be written all the same."""
        waiting = self._waiting.pop(number, None)
        if waiting is not None and all(number != later for later, _ in self._later):
            self._unanswered -= waiting.size

    def _look_at_deadlines(self) -> None:
        self._watch = None
        now = self._reactor.seconds()
        late = [number for number, waiting in self._waiting.items() if waiting.deadline <= now]
        if late:
            self.kill(f"{len(late)} mails were not written in time")
        for number in late:
            one = self._waiting.pop(number, None)
            if one is not None:
                one.done.callback([_LATE])
        if self._waiting and self._closed is None:
            self._watch = self._reactor.callLater(WATCH, self._look_at_deadlines)

    # ---- the end ---------------------------------------------------------------------------------------------

    def close(self) -> Deferred[None]:
        """Let the process write what it has, and end it; fires when it has ended. Nothing is delivered afterwards.

        Fires after ``CLOSE_WAIT`` and ``KILL_WAIT`` seconds at the latest; what is not written then is delayed.
        """
        if self._closed is not None:
            return self._closed
        closed = self._closed = Deferred[None]()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._process is not None:
            self._send_later(None)
            self._process.write(encode_goodbye())
            self._process.closeStdin()
            self._force = self._reactor.callLater(CLOSE_WAIT, self._end_by_force)
        elif self._dying is not None:
            self._end_by_force()
        else:
            closed.callback(None)
        return closed

    def _end_by_force(self) -> None:
        self.kill("it does not end")
        self._force = self._reactor.callLater(KILL_WAIT, self._give_back)


_DIED = Written(BROKEN, 1)
_LATE = Written(BROKEN, 2)
_STRANGE = Written(BROKEN)


def _status(written: Written) -> DeliveryStatus:
    if written.kind == DELIVERED:
        return DONE
    if written.kind == BROKEN:
        return DIED if written is _DIED else LATE if written is _LATE else INTERNAL
    return _delayed(written.errno)


def _delayed(number: int) -> DeliveryStatus:
    """What an error means for the recipient: a delay. Its words name no path, for they may reach the sender."""
    words = f"The mailbox could not be written: {os.strerror(number) if number else 'I/O error'}"
    if number in _FULL:
        return DeliveryStatus(Action.DELAYED, "4.3.1", Reason.DISK_FULL, words)
    return DeliveryStatus(Action.DELAYED, "4.2.0" if number in _MAILBOX else "4.3.0", Reason.STORE_FAILED, words)


def head_of(request: DeliveryRequest, address: Address) -> bytes:
    """What stands before the content, with LF: Return-Path (RFC 5321 section 4.4), Delivered-To, our trace fields."""
    fields = return_path(request.envelope.reverse_path) + delivered_to(address) + request.header
    return fields.replace(b"\r\n", b"\n")
