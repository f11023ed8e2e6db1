"""Salts for names that nobody has: always the same for a name, so that SCRAM does not tell who has an account.

They are made with a key of this node, ``state_dir/authentication.key``, which is made when it is first needed. When it
is lost, only the made-up salts become others.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Sequence
from hashlib import shake_256
from pathlib import Path
from typing import NamedTuple

from twisted.logger import Logger

#: Below ``state_dir``.
FILE_NAME = "authentication.key"
KEY_SIZE = 32

_log = Logger()


class Shape(NamedTuple):
    """What shows of an account's keys beside the salt itself: accounts that came from elsewhere may have others.

    :ivar size: octets of the salt.
    """

    iterations: int
    size: int


class SteadySalt:
    """Made-up salts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key = b""

    def of(self, name: str, shapes: Sequence[Shape]) -> tuple[bytes, int]:
        """Salt and iteration count for a name nobody has.

        :param shapes: those of the accounts, sorted: while they change little, few names get another.
        """
        if not self._key:
            self._key = _key(self._path)
        octets = hmac.digest(self._key, name.encode("utf-8", "surrogatepass"), "sha512")
        iterations, size = shapes[int.from_bytes(octets[:8], "big") * len(shapes) >> 64]
        return shake_256(octets[8:]).digest(size), iterations


def _key(path: Path) -> bytes:
    """The key in the file, else a new one; one that cannot be kept is good for this run. A few 10 µs, once."""
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with open(os.open(path, flags, 0o600), "r+b") as file:
            key = file.read(KEY_SIZE)
            if len(key) < KEY_SIZE:
                key = os.urandom(KEY_SIZE)
                file.seek(0)
                file.write(key)
            return key
    except OSError as error:
        _log.warn("{path} cannot be kept: {words}", path=path, words=error.strerror)
        return os.urandom(KEY_SIZE)
