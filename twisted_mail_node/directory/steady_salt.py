"""Salts for names that nobody has: always the same for a name, so that SCRAM does not tell who has an account.

They are made with a key of this node, ``state_dir/authentication.key``, which is made when it is first needed. When it
is lost, only the made-up salts become others.
"""

from __future__ import annotations

import hmac
import os
from pathlib import Path

from twisted.logger import Logger

from twisted_mail_node.directory.account_secrets import SALT_SIZE

#: Below ``state_dir``.
FILE_NAME = "authentication.key"
KEY_SIZE = 32

_log = Logger()


class SteadySalt:
    """Made-up salts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key = b""

    def of(self, name: str) -> bytes:
        """The salt for a name nobody has."""
        if not self._key:
            self._key = _key(self._path)
        return hmac.digest(self._key, name.encode("utf-8", "surrogatepass"), "sha256")[:SALT_SIZE]


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
