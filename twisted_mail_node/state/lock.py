"""The lock on a state directory: two nodes on one spool would deliver everything twice."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def lock(state_dir: Path) -> int:
    """Hold the state directory until the file descriptor that this gives is closed.

    :raises OSError: another node has it.
    """
    fd = os.open(state_dir / "node.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise BlockingIOError(f"another node runs with the state directory {state_dir}") from None
    return fd
