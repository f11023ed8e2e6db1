"""A Maildir being written to: files are made in tmp/ and moved to new/, and no symbolic link leads out of it.

Descriptors of ``tmp`` and ``new`` are kept open between batches, for opening them costs as much as the mail itself.
Before each batch one ``stat`` tells whether the path still leads to the same directory: a Maildir that was moved
away or removed is opened (or made) anew. Everything here blocks and belongs to the store's one thread.
"""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Stands between the path of a Maildir and the name of a folder in it.
FOLDER = "/./."
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
#: Only the node reads its mail.
FILE_MODE = 0o600
DIRECTORY_MODE = 0o700
#: Mailboxes kept open between batches; each holds two descriptors.
OPEN_MAX = 128


class Mailbox:
    """One open Maildir.

    :ivar new: descriptor of ``new``.
    :ivar device: the filesystem it lies on.
    :ivar made: directories that were made for it and whose parents are not synced yet.
    """

    __slots__ = ("_inode", "_tmp", "device", "made", "new", "path")

    def __init__(self, path: str) -> None:
        """Open the Maildir at ``path``, making what is missing.

        :raises OSError: it cannot be opened or made, or it, ``tmp`` or ``new`` is a symbolic link.
        """
        self.path = path
        self.made: list[str] = []
        if ".." in path.split("/"):
            raise OSError(errno.EINVAL, "the path of the mailbox holds ..")
        try:
            root = self._open_root()
        except FileNotFoundError:
            self.made.extend(_make_parents(path))
            root = self._open_root()
        try:
            self._tmp = self._open_below(root, "tmp")
            try:
                self.new = self._open_below(root, "new")
            except OSError:
                os.close(self._tmp)
                raise
            try:
                os.mkdir("cur", DIRECTORY_MODE, dir_fd=root)
            except FileExistsError:
                pass
        finally:
            os.close(root)
        found = os.fstat(self.new)
        self.device = found.st_dev
        self._inode = found.st_ino

    def _open_root(self) -> int:
        """A folder (Maildir++) lies in a Maildir: that is no symbolic link to elsewhere either (attack T19)."""
        inbox, is_folder, name = self.path.rpartition(FOLDER)
        if not is_folder:
            return os.open(self.path, _DIRECTORY)
        root = os.open(inbox, _DIRECTORY)
        try:
            return os.open(f".{name}", _DIRECTORY, dir_fd=root)
        finally:
            os.close(root)

    def _open_below(self, root: int, name: str) -> int:
        try:
            return os.open(name, _DIRECTORY, dir_fd=root)
        except FileNotFoundError:
            try:
                os.mkdir(name, DIRECTORY_MODE, dir_fd=root)
            except FileExistsError:
                pass
            self.made.append(os.path.join(self.path, name))
            return os.open(name, _DIRECTORY, dir_fd=root)

    def is_current(self) -> bool:
        """False when the path does not lead to this directory any more."""
        try:
            found = os.stat(self.path + "/new", follow_symlinks=False)
        except OSError:
            return False
        return found.st_ino == self._inode and found.st_dev == self.device

    def write(self, name: str, pieces: Iterable[bytes], durable: bool) -> int:
        """Make a file in ``tmp`` and move it to ``new``, where ``,S=<octets>`` is added to its name.

        :param durable: fsync the file before it moves (the directory is ``sync_directory``'s).
        :returns: the octets written.
        :raises OSError: nothing of it is left.
        """
        fd = os.open(name, _NEW_FILE, FILE_MODE, dir_fd=self._tmp)
        size = 0
        try:
            try:
                for piece in pieces:
                    written = os.write(fd, piece)
                    while written < len(piece):
                        written += os.write(fd, memoryview(piece)[written:])
                    size += written
                if durable:
                    os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(name, f"{name},S={size}", src_dir_fd=self._tmp, dst_dir_fd=self.new)
        except BaseException:
            try:
                os.unlink(name, dir_fd=self._tmp)
            except OSError:
                pass
            raise
        return size

    def sync_directory(self) -> None:
        """Make the names in ``new`` durable, and the directories that were made. :raises OSError: not durable."""
        os.fsync(self.new)
        for path in self.made:
            fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        self.made.clear()

    def close(self) -> None:
        """Close its descriptors."""
        os.close(self._tmp)
        os.close(self.new)


def _make_parents(path: str) -> Iterator[str]:
    """Make ``path`` and what is missing above it; gives what was made, the outermost first."""
    missing: list[str] = []
    while path and not os.path.isdir(path):
        if os.path.lexists(path):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        missing.append(path)
        path = os.path.dirname(path)
    for level in reversed(missing):
        try:
            os.mkdir(level, DIRECTORY_MODE)
        except FileExistsError:
            continue
        yield level


class Mailboxes:
    """The open mailboxes, at most ``OPEN_MAX`` between two batches; the longest unused are closed first."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, Mailbox] = OrderedDict()
        self._current: dict[str, Mailbox] = {}
        self._broken: set[str] = set()

    def get(self, path: str) -> Mailbox:
        """The mailbox at ``path``, looked at once a batch. :raises OSError: see Mailbox."""
        mailbox = self._current.get(path)
        if mailbox is None:
            mailbox = self._open.get(path)
            if mailbox is not None and not mailbox.is_current():
                self._open.pop(path).close()
                mailbox = None
            if mailbox is None:
                mailbox = self._open[path] = Mailbox(path)
            else:
                self._open.move_to_end(path)
            self._current[path] = mailbox
        return mailbox

    def written_to(self) -> list[Mailbox]:
        """The mailboxes this batch asked for."""
        return list(self._current.values())

    def broken(self, path: str) -> None:
        """Writing to a mailbox failed: open it anew in the next batch. What this batch wrote is synced all the same."""
        self._broken.add(path)

    def end_batch(self) -> None:
        """The batch is durable (or given up): forget what it used, and close what failed or is too much."""
        for mailbox in self._current.values():
            mailbox.made.clear()
        self._current.clear()
        for path in self._broken:
            if path in self._open:
                self._open.pop(path).close()
        self._broken.clear()
        while len(self._open) > OPEN_MAX:
            self._open.popitem(last=False)[1].close()

    def close(self) -> None:
        """Close all."""
        self._current.clear()
        while self._open:
            self._open.popitem()[1].close()
