"""Writes a batch of mails into Maildirs and makes it durable: plain blocking work for the store's one thread.

The order is: every file made in ``tmp`` and moved to ``new``, then one sync for all, and only then is any of them
called delivered. At the instant before the sync a mail may be seen in the mailbox while the spool still holds it; after
a crash in that instant the mail is delivered again, and its first file may be there too, whole, empty or not at all.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from twisted.logger import Logger

from twisted_mail_node.delivery.mailbox import Mailboxes
from twisted_mail_node.delivery.sync import SyncMode, by_file, sync_filesystems
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.message.trace import delivered_to, return_path
from twisted_mail_node.reasons import Reason

if TYPE_CHECKING:
    from twisted_mail_node.interfaces import IContent
    from twisted_mail_node.message.address import Address
    from twisted_mail_node.queue.request import DeliveryRequest

_log = Logger()

_FULL = (errno.ENOSPC, errno.EDQUOT)
#: Octets in which the header of a BINARYMIME mail must end; inbound refuses much smaller ones.
HEADER_MAX = 4 << 20
#: What is wrong with the mailbox rather than with the system.
_MAILBOX = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ENAMETOOLONG)

DELIVERED = DeliveryStatus(Action.DELIVERED, "2.0.0", Reason.DELIVERED, "Delivered to the mailbox")
UNKNOWN = DeliveryStatus(Action.FAILED, "5.1.1", Reason.UNKNOWN_RECIPIENT, "No such user here")
INTERNAL = DeliveryStatus(Action.DELAYED, "4.3.0", Reason.INTERNAL, "Internal error")


class Job(NamedTuple):
    """One request, numbered, with the path of each recipient's mailbox; ``None`` for who has none."""

    number: int
    request: DeliveryRequest
    paths: tuple[str | None, ...]


def delayed(error: OSError) -> DeliveryStatus:
    """What an error means for the recipient: a delay. Its words name no path, for they may reach the sender."""
    words = os.strerror(error.errno) if error.errno else "I/O error"
    if error.errno in _FULL:
        return DeliveryStatus(Action.DELAYED, "4.3.1", Reason.DISK_FULL, f"The mailbox could not be written: {words}")
    status = "4.2.0" if error.errno in _MAILBOX else "4.3.0"
    return DeliveryStatus(Action.DELAYED, status, Reason.STORE_FAILED, f"The mailbox could not be written: {words}")


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

    :param now: seconds since the epoch, for the file names.
    """

    def __init__(self, hostname: str, sync: SyncMode = "auto", now: Callable[[], float] = time.time) -> None:
        self._names = UniqueNames(hostname)
        self._mailboxes = Mailboxes()
        self._sync: SyncMode = sync
        self._now = now

    def write(self, jobs: Sequence[Job], wanted: Container[int]) -> list[tuple[int, list[DeliveryStatus]]]:
        """Write all, sync once: the number of each job and one status for each of its recipients.

        :param wanted: a job that is not in it when its turn comes is left out: nobody waits for it any more.
        """
        each_file = by_file(self._sync, sum(len(job.paths) for job in jobs))
        names = self._names.some(self._now())
        done = [(job.number, self._write_one(job, names, each_file)) for job in jobs if job.number in wanted]
        try:
            written = self._mailboxes.written_to()
            if each_file:
                for mailbox in written:
                    mailbox.sync_directory()
            elif written:
                sync_filesystems((mailbox.device, mailbox.new) for mailbox in written)
        except OSError as error:
            _log.failure("a batch of {mails} mails could not be made durable; all are tried again", mails=len(done))
            failed = delayed(error)
            done = [(n, [failed if s is DELIVERED else s for s in statuses]) for n, statuses in done]
        self._mailboxes.end_batch()
        return done

    def _write_one(self, job: Job, names: Iterator[str], durable: bool) -> list[DeliveryStatus]:
        request = job.request
        statuses: list[DeliveryStatus] = []
        pieces: list[bytes] | None = None
        for recipient, path in zip(request.recipients, job.paths, strict=True):
            if path is None:
                statuses.append(UNKNOWN)
                continue
            try:
                head = head_of(request, recipient.address)
                octets = request.content.octets
                if octets is None:
                    self._mailboxes.get(path).write(next(names), _read(head, request), durable)
                else:
                    if pieces is None:
                        pieces = list(stored((octets,), request.envelope.body == "BINARYMIME"))
                    self._mailboxes.get(path).write(next(names), (b"".join((head, *pieces)),), durable)
                statuses.append(DELIVERED)
            except OSError as error:
                _log.warn("{path}: {error}", path=path, error=error, queue_id=request.queue_id)
                self._mailboxes.broken(path)
                statuses.append(delayed(error))
            except Exception:
                _log.failure("writing {queue_id} to {path}", path=path, queue_id=request.queue_id)
                statuses.append(INTERNAL)
        return statuses

    def close(self) -> None:
        """Close what is open."""
        self._mailboxes.close()


def head_of(request: DeliveryRequest, address: Address) -> bytes:
    """What stands before the content, with LF: Return-Path (RFC 5321 section 4.4), Delivered-To, our trace fields."""
    fields = return_path(request.envelope.reverse_path) + delivered_to(address) + request.header
    return fields.replace(b"\r\n", b"\n")


def _read(head: bytes, request: DeliveryRequest) -> Iterator[bytes]:
    yield head
    content: IContent = request.content
    yield from stored(content.blocks(), request.envelope.body == "BINARYMIME")


def stored(blocks: Iterable[bytes], binary: bool) -> Iterator[bytes]:
    """Content as a Maildir keeps it: CRLF becomes LF, also where a border of two blocks cuts it.

    :param binary: BODY=BINARYMIME (RFC 3030): only the header section has lines; the body stays as it is.
    """
    return _header_only(iter(blocks)) if binary else _all_lines(blocks)


def _all_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for block in blocks:
        block = rest + block
        rest = b""
        if block.endswith(b"\r"):
            rest = b"\r"
            block = block[:-1]
        yield block.replace(b"\r\n", b"\n")
    if rest:
        yield rest


def _header_only(blocks: Iterator[bytes]) -> Iterator[bytes]:
    head = b""
    for block in blocks:
        head += block
        end = 2 if head.startswith(b"\r\n") else head.find(b"\r\n\r\n") + 4
        if end != 3:  # find gave -1: no empty line yet
            yield head[:end].replace(b"\r\n", b"\n")
            yield head[end:]
            yield from blocks
            return
        if len(head) > HEADER_MAX:
            break
    yield from _all_lines(chain((head,), blocks))
