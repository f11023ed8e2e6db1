"""A mail on its way into the spool: small content gathers in memory, large content in a file as it arrives."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from zope.interface import implementer

from twisted_mail_node.interfaces import IContent, IIncoming
from twisted_mail_node.message.envelope import Envelope
from twisted_mail_node.spool import queueid
from twisted_mail_node.spool.codec import encode_envelope, encode_recipient
from twisted_mail_node.spool.commits import Order
from twisted_mail_node.spool.content import FileContent, InlineContent
from twisted_mail_node.spool.mail import Entry, Mail, SpoolError, State
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
    """See IIncoming. Made by ``Spool.begin``."""

    __slots__ = (
        "_eight_bit",
        "_fd",
        "_held",
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
        self._fd = -1
        self._eight_bit = False
        self._writing: Deferred[None] | None = None
        self.queue_id = queueid.to_text(number)
        self.size = 0

    async def write(self, octets: bytes) -> None:
        spool = self._spool
        self._pieces.append(octets)
        self._waiting += len(octets)
        self.size += len(octets)
        spool.held_in_memory += len(octets)
        if self._waiting > INLINE_MAX or (
            self._waiting > INLINE_MIN and (self._fd >= 0 or spool.held_in_memory > spool.memory)
        ):
            await self._spill()

    async def _spill(self) -> None:
        """Hand what waits to a thread that writes it; wait for the one before, so that two pieces are the most."""
        await self._written()
        pieces, self._pieces = self._pieces, []
        size, self._waiting = self._waiting, 0
        self._eight_bit = self._eight_bit or not all(map(bytes.isascii, pieces))
        self._writing = in_thread(self._spool.reactor, self._append, pieces)
        self._writing.addBoth(self._released, size)

    def _released(self, result: None, size: int) -> None:
        self._spool.held_in_memory -= size
        return result

    async def _written(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing

    def _append(self, pieces: list[bytes]) -> None:
        """In a thread."""
        try:
            if self._fd < 0:
                path = self._spool.store.content / self.queue_id
                self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            left = memoryview(b"".join(pieces))
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError as error:
            raise _disk_error(error) from error
        self._spool.store.reached("spilled")

    def _sync(self) -> None:
        """In a thread: the file and its name are on the disk when this returns."""
        try:
            os.fsync(self._fd)
            self._close()
            directory = os.open(self._spool.store.content, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise _disk_error(error) from error
        self._spool.store.reached("synced")

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

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
        state = State.HELD if self._held else State.ACTIVE
        text = encode_envelope(envelope)
        row = (self._number, received, text, header, self.size, int(content.eight_bit), content.octets)
        recipients = tuple(map(encode_recipient, envelope.recipients))
        order = Order(NewMail(row, recipients, state), octets=self.size if content.octets is not None else 0)
        try:
            await spool.put(order)
        except BaseException:
            if content.octets is None:
                self._remove_file()
            raise
        entries = tuple(Entry(number, recipient, state) for number, recipient in enumerate(envelope.recipients))
        return Mail(self.queue_id, envelope, header, content, received, entries)

    async def _finish(self) -> IContent:
        """The content as it is kept; a large one is on the disk when this returns."""
        await self._written()
        pieces, self._pieces = self._pieces, []
        size, self._waiting = self._waiting, 0
        if self.size == size:  # nothing was spilled
            self._spool.held_in_memory -= size
            return InlineContent(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        self._eight_bit = self._eight_bit or not all(map(bytes.isascii, pieces))
        try:
            await in_thread(self._spool.reactor, self._append_and_sync, pieces)
        finally:
            self._spool.held_in_memory -= size
        return FileContent(self._spool.store.content / self.queue_id, self.size, self._eight_bit)

    def _append_and_sync(self, pieces: list[bytes]) -> None:
        self._append(pieces)
        self._sync()

    def abort(self) -> None:
        self._spool.held_in_memory -= self._waiting
        self._pieces, self._waiting = [], 0
        if self._writing is not None:
            # The thread still holds the file; clean up behind it.
            self._writing.addBoth(lambda _: self._remove_file())
            self._writing = None
        elif self._fd >= 0:
            self._remove_file()

    def _remove_file(self) -> None:
        self._close()
        try:
            os.unlink(self._spool.store.content / self.queue_id)
        except OSError:
            pass


def _disk_error(error: OSError) -> SpoolError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return SpoolError(f"the content cannot be written: {error.strerror}", full)
