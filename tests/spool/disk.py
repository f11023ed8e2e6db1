"""SQLite's disk as tests need it: it fails on demand, and it knows what would be left after a power failure.

While a ``Disk`` is installed, every database that is opened uses it. Nothing is emulated: the files are real.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import apsw

_names = count(1)
#: SQLite's own disk, below every Disk.
BASE = apsw.vfs_names()[0]


class Disk(apsw.VFS):
    """Install it by making it; ``unregister`` takes it away.

    :ivar write_fails: asked at each write with the file's name; gives the exception to raise, or ``None``.
    :ivar sync_fails: the same for syncs.
    :ivar synced: what each file held when it was last synced: what a power failure would leave of it.
    :ivar unsynced: files that were written since.
    """

    def __init__(self) -> None:
        super().__init__(f"test-disk-{next(_names)}", BASE, makedefault=True)
        self.write_fails: Callable[[str], Exception | None] = lambda name: None
        self.sync_fails: Callable[[str], Exception | None] = lambda name: None
        self.synced: dict[str, bytes] = {}
        self.unsynced: set[str] = set()

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return _File(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self.synced.pop(filename, None)
        self.unsynced.discard(filename)
        super().xDelete(filename, syncdir)


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        super().__init__(BASE, name, flags)
        self._disk = disk
        self._name = name.filename() if isinstance(name, apsw.URIFilename) else str(name)

    def xWrite(self, data: Any, offset: int) -> None:
        error = self._disk.write_fails(self._name)
        if error is not None:
            raise error
        self._disk.unsynced.add(self._name)
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:
        self._disk.unsynced.add(self._name)
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:
        error = self._disk.sync_fails(self._name)
        if error is not None:
            raise error
        super().xSync(flags)
        self._disk.unsynced.discard(self._name)
        self._disk.synced[self._name] = Path(self._name).read_bytes()
