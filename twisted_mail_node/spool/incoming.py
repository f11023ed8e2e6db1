"""A mail on its way into the spool: small content gathers in memory, large content in a file as it arrives."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from zope.interface import implementer

from twisted_mail_node.interfaces import IContent, IIncoming
from twisted_mail_node.message.envelope import Envelope
from twisted_mail_node.message.precedence import class_of
from twisted_mail_node.spool import queueid
from twisted_mail_node.spool.codec import encode_envelope, encode_recipient
from twisted_mail_node.spool.commits import Order
from twisted_mail_node.spool.content import FileContent, InlineContent
from twisted_mail_node.spool.database import sync_directory
from twisted_mail_node.spool.mail import HELD, HELD_BACK, Entry, Mail, SpoolError, State
from twisted_mail_node.spool.sqlite import NewMail
from twisted_mail_node.threads import in_thread

if TYPE_CHECKING:
    from twisted_mail_node.spool.spool import Spool

#: Content up to this size lies in the row; above it, in a file (ARCHITECTURE: the spool).
INLINE_MAX = 262_144
#: While all incoming mails together hold more than the spool's memory, a mail goes to its file from here on.
INLINE_MIN = 16_384


@implementer(IIncoming)
class Incoming:
    """See IIncoming. Made by ``Spool.begin``.

    A thread may be at the file when the mail is given up: the lock lets the file be closed and deleted behind it,
    and the same number never be closed under it.
    """

    __slots__ = (
        "_eight_bit",
        "_fd",
        "_given_up",
        "_handed_over",
        "_held",
        "_lock",
        "_named",
        "_number",
        "_pieces",
        "_spool",
        "_waiting",
        "_writing",
        "queue_id",
        "size",
    )

    def __init__(self, spool: Spool, number: int) -> None:
        self._spool = spool
        self._number = number
        self._held = False
        self._pieces: list[bytes] = []
        self._waiting = 0  # octets in _pieces
        self._lock: threading.Lock | None = None  # made with the first piece that goes to the file
        self._fd = -1
        self._named = False  # the file exists and is ours
        self._eight_bit = False
        self._writing: Deferred[None] | None = None
        self._handed_over = False  # to the commit thread
        self._given_up = False
        self.queue_id = queueid.to_text(number)
        self.size = 0

    async def write(self, octets: bytes) -> None:
        spool = self._spool
        self._pieces.append(octets)
        self._waiting += len(octets)
        self.size += len(octets)
        spool.held_in_memory += len(octets)
        if self._waiting > INLINE_MAX or (self._waiting > INLINE_MIN and spool.held_in_memory > spool.memory):
            await self._spill()

    async def _spill(self) -> None:
        """Hand what waits to a thread that writes it; wait for the one before, so that two pieces are the most."""
        await self._written()
        self._writing = self._in_thread(self._append)

    def _in_thread(self, function: Callable[[list[bytes]], None]) -> Deferred[None]:
        """``function`` with the pieces that wait; the memory counts as ours until it ends."""
        pieces, self._pieces = self._pieces, []
        size, self._waiting = self._waiting, 0
        self._eight_bit = self._eight_bit or not all(map(bytes.isascii, pieces))
        if self._lock is None:
            self._lock = threading.Lock()
        return in_thread(self._spool.reactor, function, pieces).addBoth(self._released, size)

    def _released(self, result: None, size: int) -> None:
        self._spool.held_in_memory -= size
        return result

    async def _written(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing
        if self._given_up:
            raise SpoolError("the mail was given up")

    # ---- in a thread -----------------------------------------------------------------------------------------

    def _append(self, pieces: list[bytes]) -> None:
        assert self._lock is not None
        with self._lock, _told():
            self._write_file(pieces)
        self._spool.store.reached("spilled")

    def _append_and_sync(self, pieces: list[bytes]) -> None:
        """The whole file and its name are on the disk when this returns."""
        assert self._lock is not None
        store = self._spool.store
        with self._lock, _told():
            self._write_file(pieces)
            store.reached("spilled")
            os.fsync(self._fd)
            self._close()
            sync_directory(store.content)
        store.reached("synced")

    def _write_file(self, pieces: list[bytes]) -> None:
        if self._given_up:
            raise SpoolError("the mail was given up")
        if self._fd < 0:
            path = self._spool.store.content / self.queue_id
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            self._named = True
        left = memoryview(b"".join(pieces))
        while left:
            left = left[os.write(self._fd, left) :]

    def _delete(self) -> None:
        assert self._lock is not None
        with self._lock:
            with suppress(OSError):
                self._close()
            if self._named:
                self._named = False
                with suppress(OSError):  # the next start deletes it
                    os.unlink(self._spool.store.content / self.queue_id)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    # ---- the end ---------------------------------------------------------------------------------------------

    def hold(self, why: str) -> None:
        self._held = True

    async def commit(self, envelope: Envelope, header: bytes) -> Mail:
        spool = self._spool
        try:
            content = await self._finish()
        except BaseException:
            self.abort()
            raise
        received = spool.now()
        state, due = State.HELD if self._held else State.ACTIVE, 0.0
        if envelope.release_at > received:  # RFC 4865: its sender wants it held back until then
            due = envelope.release_at
            if not self._held:
                state = State.DELAYED
        text = encode_envelope(envelope)
        row = (self._number, received, text, header, self.size, int(content.eight_bit), content.octets)
        recipients = tuple(map(encode_recipient, envelope.recipients))
        mail = NewMail(row, recipients, state, due, class_of(envelope.priority))
        order = Order(mail, octets=self.size if content.octets is not None else 0)
        self._handed_over = True
        try:
            await spool.put(order)
        except SpoolError as error:
            # Only now is it certain that no row names the file. (A wait that is cancelled leaves the commit to run.)
            if self._named and not error.unsure:
                await in_thread(spool.reactor, self._delete)
            raise
        cause = HELD if state is State.HELD else HELD_BACK if state is State.DELAYED else ""
        entries = tuple([Entry(number, one, state, due, cause=cause) for number, one in enumerate(envelope.recipients)])
        return Mail(self.queue_id, envelope, header, content, received, entries)

    async def _finish(self) -> IContent:
        """The content as it is kept; a large one is on the disk when this returns."""
        await self._written()
        if self._lock is None:  # nothing was spilled
            pieces, self._pieces = self._pieces, []
            self._spool.held_in_memory -= self._waiting
            self._waiting = 0
            return InlineContent(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        await self._in_thread(self._append_and_sync)
        if self._given_up:  # while the answer was on its way from the thread
            raise SpoolError("the mail was given up")
        return FileContent(self._spool.store.content / self.queue_id, self.size, self._eight_bit)

    def abort(self) -> None:
        if self._handed_over:
            return
        self._spool.held_in_memory -= self._waiting
        self._pieces, self._waiting = [], 0
        given_up, self._given_up = self._given_up, True
        if self._lock is not None and not given_up:
            if self._writing is not None:
                self._writing.addErrback(lambda _: None)  # nobody else asks
            in_thread(self._spool.reactor, self._delete)


@contextmanager
def _told() -> Iterator[None]:
    """An OSError becomes a SpoolError."""
    try:
        yield
    except OSError as error:
        raise _disk_error(error) from error


def _disk_error(error: OSError) -> SpoolError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return SpoolError(f"the content cannot be written: {error.strerror}", full)
