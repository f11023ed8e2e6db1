"""The writing process of the Maildir store: ``python -m twisted_mail_node.delivery.writer HOSTNAME SYNC``.

It reads jobs from standard input, writes them in batches, and tells on standard output what became of each. A process
of its own, for its hundreds of small system calls would otherwise fight with the reactor for the interpreter's lock.

It ends with its standard input. When that ends without a goodbye, the node has died: what has not been written yet is
left, for the node's next life delivers it again from the spool.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":
    # Meant for the node, which says goodbye. First of all: Ctrl-C may come while the rest is being imported.
    for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(_number, signal.SIG_IGN)

import fcntl
import os
import select
import sys
import time
from collections.abc import Callable
from typing import cast

from twisted_mail_node.delivery.batch import BatchWriter
from twisted_mail_node.delivery.frames import BROKEN, Frames, Job, Result, Written, decode_job, encode_result
from twisted_mail_node.delivery.sync import SyncMode

#: Mails (files) of one batch. Larger batches gain nothing: at 200 the sync costs 5 µs a mail.
BATCH_MAILS = 200
#: Octets of one batch: what a slow disk (50 MB/s) still syncs in a third of a second.
BATCH_OCTETS = 16 << 20
#: Seconds to gather when batches follow each other this closely. Nobody waits for it: the mail is accepted already.
LINGER = 0.02
#: One read from the pipe, and what the pipe may hold.
PIPE = 1 << 20


def run(
    read: Callable[[int], bytes],
    tell: Callable[[bytes], None],
    writer: BatchWriter,
    ready: Callable[[], bool],
    linger: float = LINGER,
) -> None:
    """Write until the goodbye, or the end of the input.

    :param read: blocks; gives up to so many octets, none at the end.
    :param tell: takes results.
    :param ready: True when ``read`` would not block now.
    :param linger: seconds to gather; 0 for not at all.
    :raises FrameError: the input is damaged; what waits is left.
    """
    frames = Frames()
    waiting: list[Job] = []
    ended = 0.0
    going = True
    while going:
        octets = read(PIPE)
        if not octets:
            return
        going = _take(frames, octets, waiting)
        if linger and going and time.monotonic() - ended < linger and len(waiting) < BATCH_MAILS:
            time.sleep(linger)
            if ready():
                octets = read(PIPE)
                if not octets:
                    return
                going = _take(frames, octets, waiting)
        while waiting:
            tell(b"".join([encode_result(number, each) for number, each in _write(writer, _batch(waiting))]))
        ended = time.monotonic()


def _take(frames: Frames, octets: bytes, waiting: list[Job]) -> bool:
    """Add the jobs of ``octets``; False after the goodbye."""
    for frame in frames.feed(octets):
        if not frame:
            return False
        waiting.append(decode_job(frame))
    return True


def _batch(waiting: list[Job]) -> list[Job]:
    """Take the next batch out of what waits."""
    mails = octets = taken = 0
    for job in waiting:
        mails += len(job.targets)
        octets += (len(job.content) if job.content is not None else job.size) * len(job.targets)
        if taken and (mails > BATCH_MAILS or octets > BATCH_OCTETS):
            break
        taken += 1
    batch = waiting[:taken]
    del waiting[:taken]
    return batch


def _write(writer: BatchWriter, batch: list[Job]) -> list[Result]:
    try:
        return writer.write(batch)
    except Exception as error:
        say(f"a batch of {len(batch)} mails broke: {error!r}")
        return [(job.number, [Written(BROKEN)] * len(job.targets)) for job in batch]


def _ready() -> bool:
    return bool(select.select([0], [], [], 0)[0])


def say(line: str) -> None:
    """A line for the node's log, which reads our standard error."""
    try:
        os.write(2, (line.replace("\n", " ") + "\n").encode("utf-8", "backslashreplace"))
    except OSError:
        pass  # the node is gone; the next ``tell`` finds out


def _tell(octets: bytes) -> None:
    left = memoryview(octets)
    while left:
        left = left[os.write(1, left) :]


def main() -> None:
    """The process."""
    try:
        fcntl.fcntl(0, fcntl.F_SETPIPE_SZ, PIPE)
    except (OSError, AttributeError):
        pass  # then the system's own size does
    writer = BatchWriter(sys.argv[1], cast("SyncMode", sys.argv[2]), say)
    try:
        run(lambda size: os.read(0, size), _tell, writer, _ready)
    except BrokenPipeError:
        pass  # the node is gone
    finally:
        writer.close()


if __name__ == "__main__":
    main()
