"""Tests of the process that writes Maildirs: its loop, in this process."""

from __future__ import annotations

import time
from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.delivery import writer
from twisted_mail_node.delivery.batch import BatchWriter
from twisted_mail_node.delivery.frames import (
    BROKEN,
    DELIVERED,
    FrameError,
    Frames,
    Job,
    Result,
    Target,
    Written,
    decode_result,
    encode_goodbye,
    encode_job,
)


def job(number: int, content: bytes = b"x", targets: int = 1) -> Job:
    """A mail for so many mailboxes."""
    return Job(number, (Target("/mail/joe", b"To: joe\n"),) * targets, content)


def stream(*jobs: Job) -> bytes:
    """Jobs as they go through the pipe."""
    return b"".join(piece for one in jobs for piece in encode_job(one))


class Recorder(BatchWriter):
    """Writes nothing, and tells what it was asked to."""

    def __init__(self, breaks: Sequence[int] = ()) -> None:
        super().__init__("mx.test")
        self.batches: list[list[int]] = []
        self.jobs: list[Job] = []
        self.breaks = breaks

    def write(self, jobs: Sequence[Job]) -> list[Result]:
        """See BatchWriter."""
        self.batches.append([job.number for job in jobs])
        self.jobs += jobs
        if any(job.number in self.breaks for job in jobs):
            raise RuntimeError("broken")
        return [(job.number, [Written(DELIVERED)] * len(job.targets)) for job in jobs]


class RunTests(SynchronousTestCase):
    """run."""

    def setUp(self) -> None:
        self.writer = Recorder()
        self.told: list[bytes] = []
        self.input: list[bytes] = []
        self.said: list[str] = []
        self.patch(writer, "say", self.said.append)

    def run_all(self, *reads: bytes, linger: float = 0.0) -> None:
        """Let it read these pieces, and then the end."""
        self.input = [*reads, b""]
        writer.run(lambda size: self.input.pop(0), self.told.append, self.writer, lambda: True, linger)

    def results(self) -> list[Result]:
        """What was told."""
        return [decode_result(frame) for frame in Frames().feed(b"".join(self.told))]

    def test_one_read_one_batch(self) -> None:
        """The mails of one read are one batch, written and told before anything more is read."""
        jobs = [job(1), job(2, targets=3), Job(3, (Target("/mail/\udcff", b""),), None, "/spool/3", 9, True)]
        self.run_all(stream(*jobs[:2]), stream(jobs[2]))
        self.assertEqual(self.writer.batches, [[1, 2], [3]])
        self.assertEqual(self.writer.jobs, jobs)
        self.assertEqual(len(self.told), 2)
        done = Written(DELIVERED)
        self.assertEqual(self.results(), [(1, [done]), (2, [done] * 3), (3, [done])])

    def test_every_cut(self) -> None:
        """However the input is cut, each mail is written once and told in order."""
        whole = stream(job(1), job(2), job(3)) + encode_goodbye()
        for cut in range(1, len(whole)):
            self.told.clear()
            self.run_all(whole[:cut], whole[cut:])
            self.assertEqual([number for number, _ in self.results()], [1, 2, 3], cut)

    def test_mails_bounded(self) -> None:
        """A batch has so many files at most, but one mail with more recipients is not torn."""
        self.patch(writer, "BATCH_MAILS", 4)
        self.run_all(stream(job(1), job(2, targets=3), job(3), job(4, targets=9), job(5)))
        self.assertEqual(self.writer.batches, [[1, 2], [3], [4], [5]])
        self.assertEqual([number for number, _ in self.results()], [1, 2, 3, 4, 5])

    def test_octets_bounded(self) -> None:
        """A batch has so many octets at most, counted for each mailbox, in memory or in a file."""
        self.patch(writer, "BATCH_OCTETS", 10)
        in_file = Job(4, job(4).targets * 2, None, "/spool/4", 5)
        self.run_all(stream(job(1, b"x" * 5), job(2, b"x" * 5), job(3, b"x" * 4, 2), in_file, job(5)))
        self.assertEqual(self.writer.batches, [[1, 2], [3], [4], [5]])

    def test_goodbye(self) -> None:
        """The goodbye lets it write what waits, in as many batches as it takes, and end without another read."""
        self.patch(writer, "BATCH_MAILS", 2)
        self.run_all(stream(job(1), job(2), job(3)) + encode_goodbye(), b"never read")
        self.assertEqual(self.writer.batches, [[1, 2], [3]])
        self.assertEqual(self.input, [b"never read", b""])

    def test_nothing_after_goodbye(self) -> None:
        """What stands after the goodbye is nobody's wish."""
        self.run_all(stream(job(1)) + encode_goodbye() + stream(job(2)))
        self.assertEqual(self.writer.batches, [[1]])

    def test_end_without_goodbye(self) -> None:
        """When the node has died nothing more is written: neither half a mail nor what was being gathered."""
        self.run_all(stream(job(1)), stream(job(2))[:-1])
        self.assertEqual(self.writer.batches, [[1]])

    def test_end_while_gathering(self) -> None:
        """The end of the input, found while it gathers, leaves what was gathered."""
        self.patch(time, "sleep", lambda seconds: None)
        self.patch(time, "monotonic", lambda: 1000.0)
        self.run_all(stream(job(1)), b"", linger=2000.0)
        self.assertEqual(self.writer.batches, [])

    def test_broken_batch(self) -> None:
        """A batch that breaks is told as broken, each mail for each mailbox, and the next is written."""
        self.writer.breaks = (2,)
        self.run_all(stream(job(1), job(2, targets=2)), stream(job(3)))
        broken = Written(BROKEN)
        self.assertEqual(self.results(), [(1, [broken]), (2, [broken] * 2), (3, [Written(DELIVERED)])])
        self.assertEqual(len(self.said), 1)
        self.assertIn("broken", self.said[0])

    def test_damaged_input(self) -> None:
        """Damaged input ends it: the node delays what it has not heard of."""
        self.assertRaises(FrameError, self.run_all, b"\xff\xff\xff\xff")
        self.assertRaises(FrameError, self.run_all, b"\0\0\0\1x")
        self.assertEqual(self.told, [])

    def test_node_gone(self) -> None:
        """When nobody hears the results it ends, and leaves what waits."""
        self.patch(writer, "BATCH_MAILS", 1)

        def gone(octets: bytes) -> None:
            raise BrokenPipeError

        reads = [stream(job(1), job(2))]
        self.assertRaises(
            BrokenPipeError, writer.run, lambda size: reads.pop(), gone, self.writer, lambda: False, linger=0.0
        )
        self.assertEqual(self.writer.batches, [[1]])

    def test_linger(self) -> None:
        """When batches follow each other closely it gathers for a moment; the first, and one that comes late, do not
        wait."""
        now = [1000.0]
        slept: list[float] = []
        self.patch(time, "sleep", slept.append)
        self.patch(time, "monotonic", lambda: now[0])
        ready = [True, False]
        late = encode_goodbye()

        def read(size: int) -> bytes:
            octets = self.input.pop(0)
            if octets is late:
                now[0] += 60.0
            return octets

        self.input = [stream(job(1)), stream(job(2)), stream(job(3)), stream(job(4)), late]
        writer.run(read, self.told.append, self.writer, lambda: ready.pop(0), linger=0.5)
        self.assertEqual(self.writer.batches, [[1], [2, 3], [4]])
        self.assertEqual(slept, [0.5, 0.5])
        self.assertEqual((self.input, ready), ([], []))

    def test_full_batch_does_not_linger(self) -> None:
        """A batch that is full already is written at once."""
        self.patch(writer, "BATCH_MAILS", 1)
        self.patch(time, "sleep", lambda seconds: self.fail("slept"))
        self.patch(time, "monotonic", lambda: 1000.0)
        self.run_all(stream(job(1)), linger=2000.0)
        self.assertEqual(self.writer.batches, [[1]])
