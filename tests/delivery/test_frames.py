"""Tests of what the Maildir store and its writing process say to each other."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.delivery import frames
from twisted_mail_node.delivery.frames import (
    BROKEN,
    DELIVERED,
    FAILED,
    FrameError,
    Frames,
    Job,
    Target,
    Written,
    decode_job,
    decode_result,
    encode_goodbye,
    encode_job,
    encode_result,
)

#: Any name a file can have: octets that are no UTF-8 come as surrogate escapes.
PATHS = st.one_of(st.binary(max_size=40).map(os.fsdecode), st.text(st.characters(exclude_categories=["Cs"])))
TARGETS = st.lists(st.builds(Target, PATHS, st.binary(max_size=50)), max_size=4).map(tuple)
NUMBERS = st.integers(0, 2**64 - 1)
JOBS = st.one_of(
    st.builds(Job, NUMBERS, TARGETS, st.binary(max_size=100), st.just(""), st.just(0), st.booleans()),
    st.builds(Job, NUMBERS, TARGETS, st.none(), PATHS, st.integers(0, 2**64 - 1), st.booleans()),
)
WRITTEN = st.lists(st.builds(Written, st.sampled_from([DELIVERED, BROKEN, FAILED]), st.integers(0, 65535)), max_size=9)
JOB = Job(7, (Target("/mail/joe", b"To: joe\n"), Target("/mail/\udcff", b"")), b"Subject: x\r\n\r\n", binary=True)


def octets_of(job: Job) -> bytes:
    """The job as it goes through the pipe."""
    return b"".join(encode_job(job))


class JobTests(SynchronousTestCase):
    """A job."""

    @given(JOBS)
    def test_round_trip(self, job: Job) -> None:
        """What comes out is what went in: paths with any octets, heads, content in memory or in a file."""
        [frame] = Frames().feed(octets_of(job))
        self.assertEqual(decode_job(frame), job)

    def test_not_copied(self) -> None:
        """The content is a piece of its own, the very octets of the job."""
        self.assertIs(encode_job(JOB)[-1], JOB.content)

    def test_largest(self) -> None:
        """A job as large as a frame may be is told, a larger one refused."""
        frame = len(octets_of(JOB)) - 4
        self.patch(frames, "FRAME_MAX", frame)
        self.assertEqual(Frames().feed(octets_of(JOB)), [octets_of(JOB)[4:]])
        self.assertRaises(FrameError, encode_job, JOB._replace(content=b"Subject: xy\r\n\r\n"))

    def test_cannot_be_told(self) -> None:
        """A path that is too long or is no path, and too many targets, are refused."""
        for targets in (
            (Target("x" * 65536, b""),),
            (Target("\ud800", b""),),
            (Target("", b""),) * 65536,
        ):
            self.assertRaises(FrameError, encode_job, JOB._replace(targets=targets))
        self.assertRaises(FrameError, encode_job, Job(1, (), None, "\ud800", 5))

    def test_damaged(self) -> None:
        """A job that was cut anywhere, or has something after it, is refused."""
        for job in (JOB, Job(8, JOB.targets, None, "/spool/file", 5)):
            frame = octets_of(job)[4:]
            for cut in range(len(frame)):
                self.assertRaises(FrameError, decode_job, frame[:cut])
            self.assertRaises(FrameError, decode_job, frame + b"x")

    @given(st.binary(max_size=80))
    def test_anything(self, frame: bytes) -> None:
        """Any octets are a job or a FrameError, nothing worse."""
        try:
            job = decode_job(frame)
        except FrameError:
            return
        self.assertIsInstance(job, Job)


class ResultTests(SynchronousTestCase):
    """A result."""

    @given(NUMBERS, WRITTEN)
    def test_round_trip(self, number: int, written: list[Written]) -> None:
        """What comes out is what went in."""
        [frame] = Frames().feed(encode_result(number, written))
        self.assertEqual(decode_result(frame), (number, written))

    @given(NUMBERS, WRITTEN, st.data())
    def test_damaged(self, number: int, written: list[Written], data: st.DataObject) -> None:
        """A result that was cut anywhere, or has something after it, is refused."""
        frame = encode_result(number, written)[4:]
        self.assertRaises(FrameError, decode_result, frame[: data.draw(st.integers(0, len(frame) - 1))])
        self.assertRaises(FrameError, decode_result, frame + data.draw(st.binary(min_size=1, max_size=7)))


class FramesTests(SynchronousTestCase):
    """A stream."""

    STREAM = octets_of(JOB) + encode_result(1, [Written(FAILED, 28)]) + encode_goodbye() + octets_of(JOB)
    WHOLE = [octets_of(JOB)[4:], encode_result(1, [Written(FAILED, 28)])[4:], b"", octets_of(JOB)[4:]]

    def test_every_cut(self) -> None:
        """Wherever the stream is cut, the frames are the same, and each comes with its last octet."""
        for cut in range(len(self.STREAM) + 1):
            stream = Frames()
            first = stream.feed(self.STREAM[:cut])
            self.assertEqual(first + stream.feed(self.STREAM[cut:]), self.WHOLE)
            ends = [sum(4 + len(frame) for frame in self.WHOLE[: n + 1]) for n in range(4)]
            self.assertEqual(len(first), sum(end <= cut for end in ends))

    def test_octet_by_octet(self) -> None:
        """The stream may come in single octets."""
        stream = Frames()
        found = [frame for octet in self.STREAM for frame in stream.feed(bytes([octet]))]
        self.assertEqual(found, self.WHOLE)

    def test_goodbye(self) -> None:
        """The goodbye is an empty frame."""
        self.assertEqual(Frames().feed(encode_goodbye()), [b""])

    def test_too_long(self) -> None:
        """A length that cannot be is refused with its fourth octet, before anything is gathered."""
        self.assertEqual(Frames().feed((frames.FRAME_MAX).to_bytes(4, "big")), [])
        stream = Frames()
        self.assertEqual(stream.feed((frames.FRAME_MAX + 1).to_bytes(4, "big")[:3]), [])
        self.assertRaises(FrameError, stream.feed, (frames.FRAME_MAX + 1).to_bytes(4, "big")[3:])
