"""Where keys lie: ``state_dir/dkim/DOMAIN/SELECTOR.pem``, and beside them ``keys.json`` with what is known of them.

The crash story. Both are written beside their place, synced, and renamed into it, and the directory is synced: each is
the old or the new one, whole, at every instant. ``keys.json`` decides; the private keys follow it.

* A new key: its private key is on the disk before ``keys.json`` names it. A crash between leaves a file that nobody
  names: it never signed, and its record was never told to anybody. It stays, for it could be yours; no new key takes
  its selector.
* Active, retiring: the instant of the rename. Before it the old keys sign, after it the new ones; both have their
  records in the DNS then.
* Retired: ``keys.json`` says so before the private key is deleted. A crash between leaves a file that nobody signs
  with; it is removed with the next change of the domain.
* The record of a key that the node publishes itself: ``published`` is noted before the update is sent, so a record may
  be missing that is noted (and is sent again), but none is left in the DNS that nobody knows of.

A lock file keeps two commands, or a command and the node, from losing each other's change. Everything here blocks.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from twisted_mail_node.signing.life import FormError, Key, Keys, KeyState, in_state, understood, with_new, written
from twisted_mail_node.spool.database import sync_directory

#: Below ``state_dir``.
DIRECTORY = "dkim"
#: In a domain's directory. No selector is called so: its file would be ``keys.json.pem``.
KEYS = "keys.json"
#: Octets of a file: a private key of 16384 bits, and fifty keys with their records, are far smaller.
FILE_MAX = 1 << 20
#: Mode bits that nothing here may have: nobody but its owner reads or writes it (attack T40).
FORBIDDEN = 0o077
#: A look-up spelling (``domain_key``) that names a directory and nothing else (attack T19).
_DOMAIN = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,62})\.)+[a-z0-9_](?:[a-z0-9_-]{0,62})", re.ASCII)

#: When a file was changed, and which it is; ``None`` where there is none.
Stamp = tuple[int, int, int] | None


class KeyFileError(ValueError):
    """Something about the files is not as it must be; the sentence names the file."""


class KeyFiles:
    """The keys of a node.

    :param state_dir: the node's; it exists, or is made with the first key.
    """

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self.path = state_dir / DIRECTORY

    def place(self, domain: str) -> Path:
        """The directory of a domain.

        :param domain: in its look-up spelling (``message.address.domain_key``).
        :raises KeyFileError: it can have no keys: an address literal, or a name that is none.
        """
        if len(domain) > 253 or not _DOMAIN.fullmatch(domain):
            raise KeyFileError(f"{domain!a} is no domain that can have keys")
        return self.path / domain

    def stamp(self, domain: str) -> Stamp:
        """Differs after every change of what is known of a domain's keys."""
        try:
            found = os.stat(self.place(domain) / KEYS)
        except (OSError, KeyFileError):
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def read(self, domain: str) -> Keys:
        """What is known of a domain's keys; none where there is no file.

        :raises KeyFileError: the file cannot be read or understood, or lies elsewhere.
        """
        place = self.place(domain)
        try:
            self._safe(place)
            octets, _ = _read(place / KEYS)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise KeyFileError(f"{place / KEYS} cannot be read: {error.strerror}") from None
        try:
            return understood(octets)
        except FormError as error:
            raise KeyFileError(f"{place / KEYS} {error}") from None

    def private_key(self, domain: str, selector: str) -> bytes:
        """The private key of a selector that ``read`` names, as PEM.

        :raises KeyFileError: it cannot be read, or others may read it (attack T40).
        """
        place = self.place(domain)
        path = place / f"{selector}.pem"
        try:
            self._safe(place)
            octets, status = _read(path)
        except OSError as error:
            raise KeyFileError(f"{path} cannot be read: {error.strerror}") from None
        if status.st_mode & FORBIDDEN:
            mode = stat.S_IMODE(status.st_mode)
            raise KeyFileError(f"others may use {path}, which is a private key (mode {mode:04o}): chmod 0600 {path}")
        if status.st_uid not in (0, os.geteuid(), os.stat(self._state_dir).st_uid):
            raise KeyFileError(
                f"{path} belongs to user {status.st_uid}, who can change it: chown it to the node's user"
            )
        return octets

    def taken(self, domain: str) -> frozenset[str]:
        """Selectors that no new key can have: those of keys, and of files that nobody names.

        :raises KeyFileError: see ``read``.
        """
        keys = self.read(domain)
        try:
            names = os.listdir(self.place(domain))
        except OSError:
            names = []
        files = {name.removesuffix(".pem") for name in names if name.endswith(".pem")}
        return frozenset(files.union(key.selector for key in keys))

    def add(self, domain: str, made: Iterable[tuple[Key, bytes]]) -> Keys:
        """Keep new keys with their private keys (PEM).

        :raises KeyFileError: there is such a selector already, or it cannot be written.
        """
        made = tuple(made)

        def changed(keys: Keys) -> Keys:
            after = with_new(keys, (key for key, _ in made))
            for key, pem in made:
                path = self.place(domain) / f"{key.selector}.pem"
                if os.path.lexists(path):
                    raise KeyFileError(
                        f"{path} is there already, though no key is known by it: you put it there, or an interrupted "
                        "command left it; take another selector"
                    )
                self._write(path, pem)
            return after

        return self.change(domain, changed)

    def change(self, domain: str, changed: Callable[[Keys], Keys]) -> Keys:
        """Write down what became of a domain's keys; gives them. Private keys of those that retired are deleted.

        :raises KeyFileError: it cannot be written; or the sentence of a ValueError of ``changed``.
        """
        place = self.place(domain)
        try:
            for directory in (self._state_dir, self.path, place):
                self._make(directory)
            with self._locked():
                before = self.read(domain)
                after = changed(before)
                if after != before:
                    self._write(place / KEYS, written(after))
                self._sweep(place, before, after)
        except OSError as error:
            raise KeyFileError(f"{place} cannot be written: {error.strerror}") from error
        except KeyFileError:
            raise
        except ValueError as error:
            raise KeyFileError(f"{domain}: {error}") from error
        return after

    def _sweep(self, place: Path, before: Keys, after: Keys) -> None:
        """Delete the private keys that are of no use any more."""
        in_use = {key.selector for key in after} - {key.selector for key in in_state(after, KeyState.RETIRED)}
        gone = {key.selector for key in (*before, *after)} - in_use
        deleted = False
        for selector in gone:
            with suppress(FileNotFoundError):
                os.unlink(place / f"{selector}.pem")
                deleted = True
        if deleted:
            sync_directory(place)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            self._give_to_owner(fd)
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _make(self, directory: Path) -> None:
        with suppress(FileExistsError):
            os.mkdir(directory, 0o700)
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                self._give_to_owner(fd)
            finally:
                os.close(fd)
            sync_directory(directory.parent)

    def _write(self, path: Path, octets: bytes) -> None:
        new = path.with_name(f"{path.name}.new")
        with suppress(FileNotFoundError):
            os.unlink(new)
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            self._give_to_owner(fd)
            file.write(octets)
            file.flush()
            os.fsync(fd)
        os.replace(new, path)
        sync_directory(path.parent)

    def _give_to_owner(self, fd: int) -> None:
        """When root runs a command, what it makes is for the node's user all the same: that of ``state_dir``."""
        if os.geteuid() == 0:
            owner = os.stat(self._state_dir)
            if owner.st_uid != 0:
                os.fchown(fd, owner.st_uid, owner.st_gid)

    def _safe(self, place: Path) -> None:
        """A directory of ours, and nobody else's: no link to elsewhere (attack T19), no mode that lets others in.

        :raises KeyFileError: it is not.
        :raises FileNotFoundError: there is none.
        """
        for directory in (self.path, place):
            status = os.lstat(directory)
            if not stat.S_ISDIR(status.st_mode):
                raise KeyFileError(f"{directory} is in the way: it is no directory, and a link to one is not followed")
            if status.st_mode & FORBIDDEN:
                mode = f"mode {stat.S_IMODE(status.st_mode):04o}"
                raise KeyFileError(f"others may use {directory}, where keys lie ({mode}): chmod 0700 {directory}")


def _read(path: Path) -> tuple[bytes, os.stat_result]:
    """:raises KeyFileError: it is no file, or a large one. :raises OSError: it cannot be read."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise KeyFileError(f"{path} is no file")
        octets = file.read(FILE_MAX + 1)
    if len(octets) > FILE_MAX:
        raise KeyFileError(f"{path} is larger than {FILE_MAX} octets")
    return octets, status
