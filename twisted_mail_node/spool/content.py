"""Where the content of a spooled mail lies: in memory, in a row of the spool, or in a file of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from zope.interface import implementer

from twisted_mail_node.interfaces import IContent

#: One read from a file: large enough that the disk's latency does not count, small enough for many at once.
BLOCK = 262_144


@implementer(IContent)
class InlineContent:
    """Content in memory."""

    path: Path | None = None
    __slots__ = ("eight_bit", "octets", "size")

    def __init__(self, octets: bytes, eight_bit: bool | None = None) -> None:
        self.octets: bytes | None = octets
        self.size = len(octets)
        self.eight_bit = not octets.isascii() if eight_bit is None else eight_bit

    def blocks(self, size: int = BLOCK) -> Iterator[bytes]:
        octets = self.octets
        assert octets is not None
        for at in range(0, len(octets), size):
            yield octets[at : at + size]


@implementer(IContent)
class FileContent:
    """Content in a file of its own."""

    __slots__ = ("eight_bit", "octets", "path", "size")

    def __init__(self, path: Path, size: int, eight_bit: bool) -> None:
        self.octets: bytes | None = None
        self.path: Path | None = path
        self.size = size
        self.eight_bit = eight_bit

    def blocks(self, size: int = BLOCK) -> Iterator[bytes]:
        left = self.size
        path = self.path
        assert path is not None
        with open(path, "rb", buffering=0) as file:
            while left:
                block = file.read(min(size, left))
                if not block:
                    raise OSError(f"{path.name} is shorter than the spool says")
                left -= len(block)
                yield block


@implementer(IContent)
class RowContent:
    """Content in a row of the spool, read when it is wanted."""

    path: Path | None = None
    __slots__ = ("_read", "eight_bit", "octets", "size")

    def __init__(self, read: Callable[[], bytes | None], size: int, eight_bit: bool) -> None:
        self.octets: bytes | None = None
        self._read = read
        self.size = size
        self.eight_bit = eight_bit

    def blocks(self, size: int = BLOCK) -> Iterator[bytes]:
        octets = self._read()
        if octets is None:
            raise OSError("the mail is no longer in the spool")
        for at in range(0, len(octets), size):
            yield octets[at : at + size]
