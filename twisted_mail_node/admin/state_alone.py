"""The state database of a node that is down, for commands that read or change what the node will know at its start."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twisted_mail_node.state.database import StateDatabase


@contextmanager
def state_of(state_dir: Path) -> Iterator[StateDatabase | None]:
    """The database in a state directory; ``None`` where no node has made one yet.

    :raises StateError: it cannot be opened.
    """
    from twisted_mail_node.state.database import STATE_NAME

    if not (state_dir / STATE_NAME).exists():
        yield None
        return
    with made_state_of(state_dir) as database:
        yield database


@contextmanager
def made_state_of(state_dir: Path) -> Iterator[StateDatabase]:
    """The database in a state directory, made where there is none.

    Root may run the command: what it makes is the node's user's all the same, to whom the directory belongs.

    :raises StateError: it cannot be opened.
    """
    from twisted_mail_node.state.database import STATE_NAME, StateDatabase

    path = state_dir / STATE_NAME
    there = path.exists()
    nobody: Any = None  # a command waits for no answer of the reactor: it reads at once, and closing writes
    database = StateDatabase(path, nobody)
    try:
        if not there:
            _give_to_owner(path)
        yield database
    finally:
        database.close()


def _give_to_owner(path: Path) -> None:
    owner = path.parent.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        for name in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            if name.exists():
                os.chown(name, owner.st_uid, owner.st_gid)
