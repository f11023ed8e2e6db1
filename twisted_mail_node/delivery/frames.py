"""What the Maildir store and its writing process say to each other over their two pipes: jobs one way, results back.

Plain lengths and octets, no pickle: a job names the files to write and carries what goes into them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

_LENGTH = struct.Struct("!I")
_JOB = struct.Struct("!QBHI")
_TARGET = struct.Struct("!HI")
_FILE = struct.Struct("!Q")
_RESULT = struct.Struct("!QH")
_STATUS = struct.Struct("!BH")

#: A frame is a header and content in memory; nothing of ours comes near this.
FRAME_MAX = 64 << 20

_BINARY, _IN_FILE = 1, 2


class FrameError(ValueError):
    """The other side does not speak our language: a defect, or a pipe that was cut. Or what we have to say is too
    large for it."""


class Target(NamedTuple):
    """One mailbox: its path, and the fields that stand before the content there, with LF."""

    path: str
    head: bytes


class Job(NamedTuple):
    """A mail to write.

    :ivar content: its content with CRLF, when it lies in memory.
    :ivar file: else the file that holds it.
    :ivar size: of the file.
    :ivar binary: BODY=BINARYMIME (RFC 3030): the body's octets stay as they are.
    """

    number: int
    targets: tuple[Target, ...]
    content: bytes | None
    file: str = ""
    size: int = 0
    binary: bool = False


class Written(NamedTuple):
    """What became of one target: ``DELIVERED``, ``BROKEN``, or ``FAILED`` with the errno of the system."""

    kind: int
    errno: int = 0


DELIVERED, BROKEN, FAILED = 0, 1, 2
Result = tuple[int, list[Written]]


def encode_job(job: Job) -> list[bytes]:
    """The pieces of a frame, to be written one after the other; the content is not copied.

    :raises FrameError: it is larger than ``FRAME_MAX``, has too many targets, or a path that no file can have.
    """
    content = job.content
    flags = (_BINARY if job.binary else 0) | (_IN_FILE if content is None else 0)
    try:
        tail = content if content is not None else _FILE.pack(job.size) + job.file.encode("utf-8", "surrogateescape")
        parts = [_JOB.pack(job.number, flags, len(job.targets), len(tail))]
        for path, head in job.targets:
            name = path.encode("utf-8", "surrogateescape")
            parts += (_TARGET.pack(len(name), len(head)), name, head)
        start = b"".join(parts)
    except (struct.error, UnicodeEncodeError) as error:
        raise FrameError(f"a job that cannot be told: {error}") from error
    length = len(start) + len(tail)
    if length > FRAME_MAX:
        raise FrameError(f"a job of {length} octets")
    return [_LENGTH.pack(length) + start, tail]


def encode_goodbye() -> bytes:
    """The frame that says: write what you have, then end."""
    return _LENGTH.pack(0)


def decode_job(frame: bytes) -> Job:
    """:raises FrameError: it is no job."""
    try:
        number, flags, count, length = _JOB.unpack_from(frame)
        at = _JOB.size
        targets = []
        for _ in range(count):
            name, head = _TARGET.unpack_from(frame, at)
            at += _TARGET.size
            path = frame[at : at + name].decode("utf-8", "surrogateescape")
            at += name
            targets.append(Target(path, frame[at : at + head]))
            at += head
        if at + length != len(frame):
            raise FrameError("a job of a wrong length")
        tail = frame[at:]
        binary = bool(flags & _BINARY)
        if not flags & _IN_FILE:
            return Job(number, tuple(targets), tail, binary=binary)
        size = _FILE.unpack_from(tail)[0]
        file = tail[_FILE.size :].decode("utf-8", "surrogateescape")
        return Job(number, tuple(targets), None, file, size, binary)
    except (struct.error, UnicodeDecodeError) as error:
        raise FrameError(f"a damaged job: {error}") from error


def encode_result(number: int, written: Sequence[Written]) -> bytes:
    """One frame."""
    body = _RESULT.pack(number, len(written)) + b"".join([_STATUS.pack(*one) for one in written])
    return _LENGTH.pack(len(body)) + body


def decode_result(frame: bytes) -> Result:
    """:raises FrameError: it is no result."""
    try:
        number, count = _RESULT.unpack_from(frame)
        written = [Written(*one) for one in _STATUS.iter_unpack(frame[_RESULT.size :])]
    except struct.error as error:
        raise FrameError(f"a damaged result: {error}") from error
    if len(written) != count:
        raise FrameError("a result of a wrong length")
    return number, written


class Frames:
    """Cuts a stream into frames; an empty frame is the goodbye."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, octets: bytes) -> list[bytes]:
        """The frames that are complete now. :raises FrameError: a length that cannot be."""
        buffer = self._buffer + octets if self._buffer else octets
        frames: list[bytes] = []
        at, end = 0, len(buffer)
        while end - at >= 4:
            length = _LENGTH.unpack_from(buffer, at)[0]
            if length > FRAME_MAX:
                raise FrameError(f"a frame of {length} octets")
            if end - at - 4 < length:
                break
            frames.append(buffer[at + 4 : at + 4 + length])
            at += 4 + length
        self._buffer = buffer[at:]
        return frames
