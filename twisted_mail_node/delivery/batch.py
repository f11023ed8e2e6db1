"""Writes a batch of mails into Maildirs and makes it durable: plain blocking work for the writing process.

The order is: every file made in ``tmp`` and moved to ``new``, then one sync for all, and only then is any of them
called delivered. At the instant before the sync a mail may be seen in the mailbox while the spool still holds it; after
a crash in that instant the mail is delivered again, and its first file may be there too, whole, empty or not at all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

from twisted_mail_node.delivery.frames import BROKEN, DELIVERED, FAILED, Job, Result, Written
from twisted_mail_node.delivery.mailbox import Mailboxes
from twisted_mail_node.delivery.sync import SyncMode, by_file, sync_filesystems
from twisted_mail_node.message.header import border
from twisted_mail_node.message.trace import without_return_path

#: Octets in which the header of a BINARYMIME mail must end; inbound refuses much smaller ones.
HEADER_MAX = 4 << 20
#: Octets of a content file read at once.
BLOCK = 262_144

_DELIVERED = Written(DELIVERED)
_BROKEN = Written(BROKEN)


class UniqueNames:
    """File names that no other process, machine or start of ours gives: time, pid, chance, count and host."""

    def __init__(self, hostname: str) -> None:
        safe = hostname.replace("/", "\\057").replace(":", "\\072").replace(",", "\\054")
        self._tail = f".{safe}"
        self._middle = f"P{os.getpid()}R{os.urandom(6).hex()}Q"
        self._count = 0

    def some(self, now: float) -> Iterator[str]:
        """Names for the files of one batch, made at ``now`` (seconds since the epoch)."""
        second, fraction = divmod(now, 1)
        start = f"{int(second)}.M{int(fraction * 1e6):06d}{self._middle}"
        tail = self._tail
        while True:
            self._count += 1
            yield f"{start}{self._count}{tail}"


class BatchWriter:
    """Writes batches. Keeps mailboxes open in between; ``close`` ends that.

    :param say: takes a line for the person who reads the node's log.
    :param now: seconds since the epoch, for the file names.
    """

    def __init__(
        self,
        hostname: str,
        sync: SyncMode = "auto",
        say: Callable[[str], None] = lambda line: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._names = UniqueNames(hostname)
        self._mailboxes = Mailboxes()
        self._sync: SyncMode = sync
        self._say = say
        self._now = now

    def write(self, jobs: Sequence[Job]) -> list[Result]:
        """Write all, sync once: the number of each job, and what became of each of its targets."""
        each_file = by_file(self._sync, sum(len(job.targets) for job in jobs))
        names = self._names.some(self._now())
        try:
            done = [(job.number, self._write_one(job, names, each_file)) for job in jobs]
            try:
                self._make_durable(each_file)
            except OSError as error:
                self._say(f"a batch of {len(done)} mails could not be made durable and is tried again: {error}")
                failed = Written(FAILED, error.errno or 0)
                done = [(number, [failed if one is _DELIVERED else one for one in each]) for number, each in done]
            return done
        finally:
            self._mailboxes.end_batch()

    def _make_durable(self, each_file: bool) -> None:
        written = self._mailboxes.written_to()
        if each_file:
            for mailbox in written:
                mailbox.sync_directory()
        elif written:
            sync_filesystems((mailbox.device, mailbox.new) for mailbox in written)

    def _write_one(self, job: Job, names: Iterator[str], durable: bool) -> list[Written]:
        each: list[Written] = []
        pieces: list[bytes] | None = None
        for path, head in job.targets:
            try:
                if job.content is None:
                    blocks = chain((head,), stored(_as_ours(_read(job.file, job.size)), job.binary))
                    self._mailboxes.get(path).write(next(names), blocks, durable)
                else:
                    if pieces is None:
                        pieces = list(stored(_as_ours(iter((job.content,))), job.binary))
                    self._mailboxes.get(path).write(next(names), (b"".join((head, *pieces)),), durable)
                each.append(_DELIVERED)
            except OSError as error:
                self._say(f"{path}: {error.strerror or error}")
                self._mailboxes.broken(path)
                each.append(Written(FAILED, error.errno or 0))
            except Exception as error:
                self._say(f"writing to {path} broke: {error!r}")
                each.append(_BROKEN)
        return each

    def close(self) -> None:
        """Close what is open."""
        self._mailboxes.close()


def _read(path: str, size: int) -> Iterator[bytes]:
    left = size
    with open(path, "rb", buffering=0) as file:
        while left:
            block = file.read(min(BLOCK, left))
            if not block:
                raise OSError(0, "the content file is shorter than the spool says")
            left -= len(block)
            yield block


def _as_ours(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The content without Return-Path fields of others: ours shall be the only one (RFC 5321 section 4.4). They are
    looked for in the first block, which holds any header section that anybody reads."""
    first = next(blocks, b"")
    end = border(first)
    header = first[:end]
    kept = without_return_path(header)
    return chain((first if kept is header else kept + first[end:],), blocks)


def stored(blocks: Iterable[bytes], binary: bool) -> Iterator[bytes]:
    """Content as a Maildir keeps it: CRLF becomes LF, also where a border of two blocks cuts it.

    :param binary: BODY=BINARYMIME (RFC 3030): only the header section has lines; the body stays as it is.
    """
    return _header_only(iter(blocks)) if binary else _all_lines(blocks)


def to_lf(octets: bytes) -> bytes:
    """``octets.replace(CRLF, LF)``, but leaving one octet out goes ten times as fast as replacing two: it is done
    where every CR stands before an LF, which is where it comes to the same."""
    bare = octets.replace(b"\r", b"")
    return bare if bare.replace(b"\n", b"\r\n") == octets else octets.replace(b"\r\n", b"\n")


def _all_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for block in blocks:
        block = rest + block
        rest = b""
        if block.endswith(b"\r"):
            rest = b"\r"
            block = block[:-1]
        yield to_lf(block)
    if rest:
        yield rest


def _header_only(blocks: Iterator[bytes]) -> Iterator[bytes]:
    head = b""
    for block in blocks:
        head += block
        end = 2 if head.startswith(b"\r\n") else head.find(b"\r\n\r\n") + 4
        if end != 3:  # find gave -1: no empty line yet
            yield to_lf(head[:end])
            yield head[end:]
            yield from blocks
            return
        if len(head) > HEADER_MAX:
            break
    yield from _all_lines(chain((head,), blocks))
