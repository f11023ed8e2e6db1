"""Whether the disk has room for another mail: new mail is refused while there is still room to finish what we have.

A spool on a disk that is quite full can accept nothing, but neither can it record that a mail was delivered.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

#: Seconds between two looks at the disk.
LOOK_EVERY = 1.0


class Room:
    """Watches the free space of a filesystem.

    :param floor: octets that are to stay free.
    :param seconds: a clock.
    :param free: octets free at a path; raises OSError when it cannot be told.
    """

    def __init__(
        self, path: Path, floor: int, seconds: Callable[[], float], free: Callable[[Path], int] | None = None
    ) -> None:
        self.floor = floor
        self._path = path
        self._seconds = seconds
        self._free = free or _free
        self._looked = float("-inf")
        self._left = 0

    def has(self, size: int) -> bool:
        """True when a mail of ``size`` octets leaves the floor free, twice counted: in the spool and in a mailbox."""
        now = self._seconds()
        if not 0 <= now - self._looked < LOOK_EVERY:
            self._looked = now
            try:
                self._left = self._free(self._path)
            except OSError:
                self._left = 1 << 62  # the commit will tell
        return self._left - 2 * size >= self.floor


def _free(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize
