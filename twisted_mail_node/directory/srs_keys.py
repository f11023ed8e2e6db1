"""The file with the keys of SRS: one a line, the first signs, all are believed (``message.srs``).

To change the key, write a new line at the top, and take the old one away when the lifetime has passed. Everything here
blocks on the disk.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from twisted_mail_node.settings import Settings
from twisted_mail_node.spool.database import sync_directory

#: Octets of the file; a key is some sixty.
FILE_MAX = 65_536
#: Characters of a key: sixteen random octets in hex are thirty-two, but people write pass phrases.
KEY_MIN = 16
#: Mode bits that the file must not have: nobody but its owner reads or writes it.
FORBIDDEN = 0o077


def srs_keys(settings: Settings) -> tuple[bytes, ...]:
    """The keys; the file is made when it is missing. None at all where SRS is switched off.

    :raises ValueError: others may read the file, or it holds no key, or one that is too short.
    :raises OSError: it cannot be read, or not made.
    """
    if not settings.srs.enabled:
        return ()
    path = settings.state_dir / settings.srs.key_file
    try:
        return read_keys(path)
    except FileNotFoundError:
        make_keys(path)
        return read_keys(path)


def read_keys(path: Path) -> tuple[bytes, ...]:
    """The keys of a file; empty lines and those that begin with ``#`` are none.

    :raises ValueError: see ``srs_keys``.
    :raises OSError: it cannot be read.
    """
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & FORBIDDEN:
            raise ValueError(f"others may read {path} (mode {mode:04o}); chmod 600 it, for it holds the keys of SRS")
        octets = file.read(FILE_MAX + 1)
    if len(octets) > FILE_MAX:
        raise ValueError(f"{path} is larger than {FILE_MAX} octets")
    lines = [line.strip() for line in octets.splitlines()]
    keys = tuple(line for line in lines if line and not line.startswith(b"#"))
    if not keys:
        raise ValueError(f"{path} holds no key; delete it and one is made")
    if min(map(len, keys)) < KEY_MIN:
        raise ValueError(f"a key in {path} is shorter than {KEY_MIN} characters")
    return keys


def make_keys(path: Path) -> None:
    """A file with a new key, whole or not there at all, and on the disk before any mail is signed with it.

    :raises OSError: it cannot be written.
    """
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(
            fd, f"# Keys of SRS, one a line: the first signs, all are believed.\n{secrets.token_hex(32)}\n".encode()
        )
        os.fsync(fd)
    finally:
        os.close(fd)
    new.rename(path)
    sync_directory(path.parent)
