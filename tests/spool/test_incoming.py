"""A mail on its way: where its content lies, what it costs in memory, and that nothing is left of one given up."""

from __future__ import annotations

import errno
import os
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.spool.material import (
    HEADER,
    LARGE,
    SpoolCase,
    envelope,
    finished,
    incoming,
    keep,
    reactor,
    started,
    until,
    whole,
)
from twisted_mail_node.spool import queueid
from twisted_mail_node.spool.incoming import INLINE_MAX, INLINE_MIN, Incoming
from twisted_mail_node.spool.mail import Mail, SpoolError, State


def octets(size: int) -> bytes:
    """Content of this size, no two pieces of it alike."""
    return b"".join(b"%011d\r\n" % number for number in range(size // 13 + 1))[:size]


class WhereTests(SpoolCase):
    async def test_sizes(self) -> None:
        """Up to 256 KiB lies in the row, more in a file; both read back, now and after a restart."""
        for size in (0, 1, INLINE_MAX - 1, INLINE_MAX, INLINE_MAX + 1, INLINE_MAX + 70_000, 3 * INLINE_MAX):
            content = octets(size)
            mail = await keep(self.spool, content)
            self.assertEqual((whole(mail), mail.content.size), (content, size))
            in_file = mail.queue_id in self.files
            self.assertEqual(in_file, size > INLINE_MAX, size)
            self.assertEqual(mail.content.octets is None, in_file)
        self.assertEqual(self.spool.held_in_memory, 0)
        self.reopen()
        self.assertEqual(
            [whole(mail) for mail in await self.all()][-2:], [octets(INLINE_MAX + 70_000), octets(3 * INLINE_MAX)]
        )

    async def test_pieces(self) -> None:
        """However the content comes in pieces, it is the same."""
        content = octets(LARGE)
        for piece in (1000, 16_384, 65_536, 262_144, LARGE):
            self.assertEqual(whole(await (await incoming(self.spool, content, piece)).commit(envelope(), b"")), content)

    async def test_eight_bit(self) -> None:
        """One octet above 127 anywhere is seen, wherever the content lies."""
        for size in (10, LARGE):
            for at in (None, 0, size // 2, size - 1):
                content = bytearray(octets(size))
                if at is not None:
                    content[at] = 0xE9
                mail = await keep(self.spool, bytes(content))
                self.assertEqual(mail.content.eight_bit, at is not None, (size, at))
        self.reopen()
        found = [mail.content.eight_bit for mail in await self.all()]
        self.assertEqual(found, [False, True, True, True] * 2)

    async def test_short_of_memory(self) -> None:
        """While incoming mails hold more than the spool's memory, mails go to files earlier."""
        self.reopen(memory=100_000)
        others = [await incoming(self.spool, b"x" * 15_000) for _ in range(7)]
        self.assertEqual(self.files, [])
        early = await incoming(self.spool, octets(40_000), 5_000)
        mail = await early.commit(envelope(), HEADER)
        self.assertEqual(self.files, [mail.queue_id])
        self.assertEqual(whole(mail), octets(40_000))
        small = await keep(self.spool, b"x" * INLINE_MIN)
        self.assertEqual(self.files, [mail.queue_id], "small mails never need a file")
        self.assertIsNotNone(small.content.octets)
        for other in others:
            other.abort()
        self.assertEqual(self.spool.held_in_memory, 0)

    async def test_bounded(self) -> None:
        """A slow disk slows the sender down: at most two pieces of one mail lie in memory."""
        most = 0
        mail = self.spool.begin()
        for _ in range(100):
            await mail.write(b"x" * 65_536)
            most = max(most, self.spool.held_in_memory)
        self.assertLessEqual(most, 2 * (INLINE_MAX + 65_536))
        mail.abort()
        await until(lambda: not self.spool.held_in_memory)

    async def test_held(self) -> None:
        """A mail to be held is held from its first instant."""
        mail = await incoming(self.spool, b"x")
        mail.hold("why")
        kept = await mail.commit(envelope(2), HEADER)
        self.assertEqual([entry.state for entry in kept.entries], [State.HELD] * 2)
        self.reopen()
        self.assertEqual(await self.states(), [[State.HELD] * 2])

    async def test_value(self) -> None:
        """What commit gives is what the spool finds."""
        mail = await keep(self.spool, b"content", 3)
        (found,) = await self.all()
        for name in ("queue_id", "envelope", "header", "received", "entries"):
            self.assertEqual(getattr(mail, name), getattr(found, name), name)
        self.assertEqual(mail.envelope, envelope(3))


class OrderTests(SpoolCase):
    async def test_synced_first(self) -> None:
        """The file, then its name, are synced before the rows are written; nothing is written after the sync."""
        place = str((self.directory / "content").resolve())
        write, fsync = os.write, os.fsync

        def seen(kind: str, fd: int) -> None:
            name = os.readlink(f"/proc/self/fd/{fd}")
            if name.startswith(place):
                self.steps.append(f"{kind} {'directory' if name == place else 'file'}")

        def noted_write(fd: int, data: Any) -> int:
            seen("write", fd)
            return write(fd, data)

        def noted_fsync(fd: int) -> None:
            seen("fsync", fd)
            fsync(fd)

        self.patch(os, "write", noted_write)
        self.patch(os, "fsync", noted_fsync)
        self.steps.clear()
        await keep(self.spool, octets(LARGE))
        last = len(self.steps) - 1 - self.steps[::-1].index("write file")
        self.assertEqual(
            [step for step in self.steps[last + 1 :] if step != "spilled"],
            ["fsync file", "fsync directory", "synced", "begun", "written", "committed"],
        )

    async def test_one_file_each(self) -> None:
        """A file that is there already is never written to: the mail is refused, the file stays."""
        mail = self.spool.begin()
        path = self.directory / "content" / mail.queue_id
        path.write_bytes(b"another mail")
        for _ in range(0, LARGE, 60_000):
            await mail.write(b"x" * 60_000)
        await self.assertFailure(started(mail.commit(envelope(), HEADER)), SpoolError)
        self.assertEqual(path.read_bytes(), b"another mail")
        self.assertEqual(await self.all(), [])


class AbortTests(SpoolCase):
    async def nothing_left(self) -> None:
        """No file, no row, no memory, no open file."""
        await until(lambda: not self.files)
        await until(lambda: not self.spool.held_in_memory)
        place = str((self.directory / "content").resolve())
        names = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        self.assertEqual([name for name in names if _link(name).startswith(place)], [])
        self.assertEqual(await self.all(), [])

    async def test_every_size(self) -> None:
        """Given up after any amount of content, twice too, nothing of a mail is left."""
        for size in (0, 1, INLINE_MAX, INLINE_MAX + 1, 2 * INLINE_MAX, 1_000_000):
            mail = await incoming(self.spool, octets(size))
            mail.abort()
            mail.abort()
            await self.nothing_left()

    async def test_while_writing(self) -> None:
        """Given up while a thread writes, nothing is left, and whoever waits is told."""
        for size in (INLINE_MAX + 1, 2 * INLINE_MAX + 2):
            mail = self.spool.begin()
            writing = [started(mail.write(octets(size))), started(mail.write(octets(size)))]
            mail.abort()
            for one in writing:
                one.addErrback(lambda failure: failure.trap(SpoolError))
                await one
            await self.nothing_left()

    async def test_while_committing(self) -> None:
        """Given up before the rows are on their way, a mail is refused; afterwards it is too late, and it is kept."""
        for size in (10, LARGE):
            mail = await incoming(self.spool, octets(size))
            done = started(mail.commit(envelope(), HEADER))
            mail.abort()
            if size == LARGE:
                await self.assertFailure(done, SpoolError, CancelledError)
                await self.nothing_left()
            else:
                kept: Mail = await done
                self.assertEqual([found.queue_id for found in await self.all()], [kept.queue_id])
                await self.spool.remove([kept.queue_id])

    async def test_at_every_step(self) -> None:
        """Given up at any step of a large mail's way: kept whole, or nothing is left."""
        for step in ("spilled", "synced", "begun", "written", "committed"):
            mail = self.spool.begin()
            self.reached = partial(_abort_at, step, mail)
            try:
                for _ in range(0, 3 * LARGE, 50_000):
                    await mail.write(b"x" * 50_000)
                kept = await mail.commit(envelope(), HEADER)
            except SpoolError:
                self.assertIn(step, ("spilled", "synced"))
                self.reached = self.steps.append
                await self.nothing_left()
            else:
                self.reached = self.steps.append
                self.assertEqual(whole(kept), b"x" * 3 * LARGE)
                await self.spool.record(finished(queueid.to_number(kept.queue_id) or 0, 0))
                await self.nothing_left()

    async def test_after_commit(self) -> None:
        """What was accepted stays, whoever still says abort."""
        for size in (10, LARGE):
            mail = await incoming(self.spool, octets(size))
            kept = await mail.commit(envelope(), HEADER)
            mail.abort()
            self.assertEqual(whole(kept), octets(size))
        self.assertEqual(len(await self.all()), 2)
        self.assertEqual(len(self.files), 1)
        self.assertEqual(self.spool.held_in_memory, 0)

    async def test_not_waited_for(self) -> None:
        """Who stops waiting for the commit of a large mail (a deadline, the end of the node) must not make its file
        go: the rows may be on their way, and a mail that is kept needs its content."""
        for end in ("cancel", "close"):
            mail = await incoming(self.spool, octets(LARGE))
            story = mail.commit(envelope(), HEADER)
            self.steps.clear()
            while True:
                waiting: Deferred[Any] = story.send(None)
                if "synced" in self.steps:
                    break  # it waits for its rows
                await waiting
            if end == "cancel":
                self.assertRaises(CancelledError, story.throw, CancelledError())
            else:
                story.close()
            mail.abort()
            await waiting
            self.assertEqual(whole((await self.all(queue_ids=(mail.queue_id,)))[0]), octets(LARGE))


class FailingTests(SpoolCase):
    def breaks(self, name: str, number: int, after: int = 0) -> None:
        """Let a call of ``os`` fail for content files, from the one after ``after`` on; ``works_again`` ends it."""
        real = getattr(os, name)
        self.broken = True
        left = [after]
        place = str((self.directory / "content").resolve())

        def fails(first: Any, *more: Any) -> Any:
            where = str(first) if name == "open" else _link(f"/proc/self/fd/{first}")
            if self.broken and (os.path.abspath(where).startswith(place)):
                if not left[0]:
                    raise OSError(number, os.strerror(number))
                left[0] -= 1
            return real(first, *more)

        self.patch(os, name, fails)

    async def refused(self, full: bool) -> None:
        """A large mail is refused, nothing of it is left, and the next is taken when the disk is well again."""
        mail = self.spool.begin()
        try:
            for _ in range(12):
                await mail.write(b"x" * 50_000)
            await mail.commit(envelope(), HEADER)
            self.fail("it was accepted")
        except SpoolError as error:
            self.assertEqual(error.full, full)
            mail.abort()
        self.broken = False
        await until(lambda: not self.spool.held_in_memory)
        await until(lambda: mail.queue_id not in self.files)
        self.assertEqual(await self.all(queue_ids=(mail.queue_id,)), [])
        self.assertEqual(whole(await keep(self.spool, octets(LARGE))), octets(LARGE))

    async def test_write(self) -> None:
        """A disk without room is told apart from one that fails, at the first piece and at a later one."""
        for number, full in ((errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EIO, False)):
            for after in (0, 1):
                self.breaks("write", number, after)
                await self.refused(full)

    async def test_open(self) -> None:
        """The same where the file cannot be made."""
        self.breaks("open", errno.ENOSPC)
        await self.refused(True)
        self.breaks("open", errno.EMFILE)
        await self.refused(False)

    async def test_fsync(self) -> None:
        """The same where the file, or its name, cannot be synced: an accepted mail would not be durable."""
        for after in (0, 1):
            self.breaks("fsync", errno.EIO, after)
            await self.refused(False)
        self.breaks("fsync", errno.ENOSPC)
        await self.refused(True)

    async def test_rows(self) -> None:
        """Where the rows cannot be written the file goes too, before the client is told."""
        self.spool.store.connection.pragma("max_page_count", self.spool.store.connection.pragma("page_count"))
        many = [await incoming(self.spool, octets(LARGE)) for _ in range(2)]
        for mail in many:
            error = await self.assertFailure(started(mail.commit(envelope(1000), HEADER)), SpoolError)
            self.assertTrue(error.full)
            self.assertNotIn(mail.queue_id, self.files)
        self.assertEqual(await self.all(), [])

    async def test_unsure(self) -> None:
        """Where the disk may keep the rows all the same, the file stays until the next start (story, 10)."""

        def unsure(work: Any) -> None:
            raise SpoolError("the disk failed", unsure=True)

        transaction = self.spool.store.transaction
        mail = await incoming(self.spool, octets(LARGE))
        self.spool.store.transaction = unsure  # type: ignore[method-assign,assignment]
        await self.assertFailure(started(mail.commit(envelope(), HEADER)), SpoolError)
        self.spool.store.transaction = transaction  # type: ignore[method-assign]
        self.assertEqual(self.files, [mail.queue_id])
        self.reopen()
        self.assertEqual(self.files, [])


def _abort_at(step: str, mail: Incoming, reached: str) -> None:
    if reached == step:
        reactor.callFromThread(mail.abort)


def _link(name: str) -> str:
    try:
        return os.readlink(name)
    except OSError:
        return ""
