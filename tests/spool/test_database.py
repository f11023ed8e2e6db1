"""The database is durable and private; a damaged one is set aside whole, and the node goes on (T18)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import apsw
from twisted.trial.unittest import SynchronousTestCase

from tests.spool.material import NOW, new_mail, numbers, put
from twisted_mail_node.spool import queueid
from twisted_mail_node.spool.mail import Filter, SpoolError
from twisted_mail_node.spool.sqlite import Store


class OpeningTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())

    def open(self, create: bool = True) -> Store:
        """Open the store, and recover it as the node does."""
        store = Store(self.directory, create)
        self.addCleanup(store.close)
        return store

    def filled(self, count: int = 50) -> None:
        """A store that was used, and closed; mail 1 has a content file."""
        store = Store(self.directory)
        put(store, new_mail(1, content=None), *[new_mail(n, content=b"x" * 5000) for n in range(2, count)])
        (self.directory / "content" / queueid.to_text(1)).write_bytes(b"kept")
        store.close()

    def test_durable(self) -> None:
        """The database is in WAL mode and syncs each commit: 2 is FULL."""
        connection = self.open().connection
        self.assertEqual((connection.pragma("journal_mode"), connection.pragma("synchronous")), ("wal", 2))

    def test_private(self) -> None:
        """Nobody else may read the spool, whatever the umask: not the WAL either, which holds contents."""
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        put(self.open(), new_mail(1))
        places = [self.directory, *self.directory.iterdir()]
        self.assertIn("spool.sqlite-wal", [place.name for place in places])
        self.assertEqual({stat.S_IMODE(place.stat().st_mode) & 0o077 for place in places}, {0})

    def test_names_synced(self) -> None:
        """The names of new directories are on the disk before anything is kept in them."""
        synced: list[str] = []
        real = os.fsync

        def fsync(fd: int) -> None:
            synced.append(os.readlink(f"/proc/self/fd/{fd}"))
            real(fd)

        self.patch(os, "fsync", fsync)
        self.directory = self.directory / "state" / "spool"
        self.open()
        top = self.directory.resolve()
        self.assertLessEqual({str(top / "content"), str(top), str(top.parent), str(top.parent.parent)}, set(synced))

    def test_not_there(self) -> None:
        """Who does not create finds nothing, and leaves nothing."""
        self.assertRaises(SpoolError, self.open, False)
        self.assertFalse(self.directory.exists())

    def test_not_allowed(self) -> None:
        """A place that cannot be used is a SpoolError."""
        self.directory.write_bytes(b"a file")
        self.assertRaises(SpoolError, self.open)

    def test_newer(self) -> None:
        """A newer version's spool is left alone."""
        store = Store(self.directory)
        store.connection.pragma("user_version", 99)
        store.close()
        before = (self.directory / "spool.sqlite").read_bytes()
        self.assertIn("newer", str(self.assertRaises(SpoolError, self.open)))
        self.assertEqual((self.directory / "spool.sqlite").read_bytes(), before)

    def damage(self, octets: bytes | None = None, size: int | None = None, at: int = 0) -> None:
        """Spoil the database."""
        path = self.directory / "spool.sqlite"
        with open(path, "r+b") as file:
            if size is not None:
                file.truncate(size)
            if octets is not None:
                file.seek(at)
                file.write(octets)

    def set_aside(self) -> Path:
        """Open a spool that is damaged; all of it lies aside, the new one works."""
        before = (self.directory / "spool.sqlite").read_bytes()
        store = self.open()
        self.assertEqual(store.recover(NOW), (0, 0))
        assert store.damaged is not None
        aside, words = store.damaged
        self.assertTrue(words)
        self.assertEqual((aside / "spool.sqlite").read_bytes(), before)
        self.assertEqual((aside / "content" / queueid.to_text(1)).read_bytes(), b"kept")
        put(store, new_mail(9))
        self.assertEqual(numbers(store.find(Filter())), [9])
        return aside

    def test_no_database(self) -> None:
        """A file that is no database is set aside with its content files; a new spool begins (T18)."""
        self.filled()
        self.damage(b"This is not a database, and never was. " * 10)
        self.set_aside()

    def test_truncated(self) -> None:
        """A database that was cut short is set aside, wherever it was cut (T18)."""
        self.filled()
        whole_size = (self.directory / "spool.sqlite").stat().st_size
        kept = (self.directory / "spool.sqlite").read_bytes()
        for size in (0, 1, 99, 100, 4095, 4096, 5000, whole_size // 2, whole_size - 4096):
            self.directory = Path(self.mktemp())
            (self.directory / "content").mkdir(parents=True)
            (self.directory / "spool.sqlite").write_bytes(kept[:size])
            (self.directory / "content" / queueid.to_text(1)).write_bytes(b"kept")
            self.set_aside()

    def test_gone(self) -> None:
        """Content files without a database are set aside, not taken for left-overs."""
        self.filled()
        (self.directory / "spool.sqlite").unlink()
        store = self.open()
        store.recover(NOW)
        assert store.damaged is not None
        self.assertEqual((store.damaged.path / "content" / queueid.to_text(1)).read_bytes(), b"kept")

    def test_inside(self) -> None:
        """Damage that shows only when the tables are read is found by the recovery."""
        self.filled()
        store = Store(self.directory)
        root = store.connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'recipient'").fetchall()[0][0]
        store.close()
        self.damage(b"\xff" * 4096, at=(root - 1) * 4096)
        self.set_aside()

    def test_twice(self) -> None:
        """Two damaged spools in the same second are both kept."""
        places = set()
        for _ in range(2):
            self.filled()
            self.damage(b"x" * 4096)
            places.add(self.set_aside())
            for name in ("spool.sqlite", "spool.sqlite-wal", "spool.sqlite-shm"):
                (self.directory / name).unlink(missing_ok=True)
        self.assertEqual(len(places), 2)

    def test_command_line(self) -> None:
        """Who does not create does not set aside: that is for the node, which tells of it."""
        self.filled()
        self.damage(b"x" * 4096)
        self.assertRaises(SpoolError, self.open, False)
        self.assertEqual(sorted(path.name for path in self.directory.iterdir()), ["content", "spool.sqlite"])

    def test_wal_kept(self) -> None:
        """A WAL goes aside with its database, as it was."""
        self.filled()
        log = b"the WAL of a node that was killed"
        self.damage(b"x" * 4096)
        (self.directory / "spool.sqlite-wal").write_bytes(log)
        self.assertEqual((self.set_aside() / "spool.sqlite-wal").read_bytes(), log)

    def test_no_wal(self) -> None:
        """Where the WAL is not to be had the spool is not opened: a commit would promise too much."""
        real = apsw.Connection  # a database in memory has no WAL
        self.patch(apsw, "Connection", lambda path, **fields: real(":memory:"))
        self.assertIn("WAL", str(self.assertRaises(SpoolError, self.open)))
