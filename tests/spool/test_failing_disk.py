"""A disk that fails, fills up or stops costs no mail that was accepted, and keeps none that was refused."""

from __future__ import annotations

import os
from pathlib import Path

import apsw
from twisted.trial.unittest import SynchronousTestCase

from tests.spool.disk import Disk
from tests.spool.material import changed, finished, new_mail, numbers, put
from twisted_mail_node.spool import queueid
from twisted_mail_node.spool.mail import Filter, SpoolError
from twisted_mail_node.spool.sqlite import Store


class DiskTests(SynchronousTestCase):
    """What SQLite's disk does to us."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.disk = Disk()
        self.addCleanup(self.disk.unregister)
        self.store = Store(self.directory)
        self.addCleanup(lambda: self.store.close())
        put(self.store, new_mail(1))
        self.wal = str((self.directory / "spool.sqlite-wal").resolve())

    def breaks(self, kind: type[apsw.Error], *, write: bool = False, times: int = 1000) -> None:
        """Let the next writes or syncs of the WAL fail."""
        left = [times]

        def fails(name: str) -> Exception | None:
            if name.endswith("-wal") and left[0]:
                left[0] -= 1
                return kind("the disk failed")
            return None

        if write:
            self.disk.write_fails = fails
        else:
            self.disk.sync_fails = fails

    def works_again(self) -> None:
        """The disk is well again."""
        self.disk.write_fails = self.disk.sync_fails = lambda name: None

    def after_a_crash(self) -> list[int | None]:
        """The mails that another process would find if this one were killed now."""
        return self._elsewhere({path.name: path.read_bytes() for path in self.directory.glob("spool.sqlite*")})

    def after_a_power_failure(self) -> list[int | None]:
        """The mails that would be found if the machine stopped now: unsynced writes are gone."""
        return self._elsewhere({os.path.basename(name): octets for name, octets in self.disk.synced.items()})

    def _elsewhere(self, files: dict[str, bytes]) -> list[int | None]:
        place = Path(self.mktemp())
        place.mkdir()
        for name, octets in files.items():
            if not name.endswith("-shm"):
                (place / name).write_bytes(octets)
        store = Store(place)
        try:
            self.assertIsNone(store.damaged)
            return numbers(store.find(Filter()))
        finally:
            store.close()

    def test_synced(self) -> None:
        """When a commit returns, nothing of it waits to be written: a power failure takes nothing."""
        for number in range(2, 40):
            put(self.store, new_mail(number, content=b"x" * 20_000))
            self.assertFalse({name for name in self.disk.unsynced if name.endswith("-wal")})
            self.assertIn(number, self.after_a_power_failure())
        self.assertEqual(self.after_a_power_failure(), list(range(1, 40)))

    def test_checkpoints(self) -> None:
        """That holds while the WAL is folded into the database, too."""
        self.store.connection.pragma("wal_autocheckpoint", 3)
        for number in range(2, 12):
            put(self.store, new_mail(number, content=b"x" * 20_000))
            self.assertEqual(self.after_a_power_failure(), list(range(1, number + 1)))

    def test_sync_fails(self) -> None:
        """A commit that cannot be synced is refused, and is not there later, not even after a crash."""
        self.breaks(apsw.IOError, times=1)
        error = self.assertRaises(SpoolError, put, self.store, new_mail(2))
        self.assertEqual((error.full, error.unsure), (False, False))
        self.assertEqual(numbers(self.store.find(Filter())), [1])
        self.assertEqual(self.after_a_crash(), [1])
        self.assertEqual(self.after_a_power_failure(), [1])

    def test_sync_fails_on(self) -> None:
        """While the disk fails all is refused, what may turn up after a crash is said to be unsure, and the first
        commit that succeeds ends that."""
        self.breaks(apsw.IOError)
        for number in (2, 3):
            error = self.assertRaises(SpoolError, put, self.store, new_mail(number))
            self.assertEqual((error.full, error.unsure), (False, True))
        self.works_again()
        put(self.store, new_mail(4))
        self.assertEqual(self.after_a_crash(), [1, 4])
        self.assertEqual(self.after_a_power_failure(), [1, 4])
        self.assertEqual(numbers(self.store.find(Filter())), [1, 4])

    def test_write_fails(self) -> None:
        """A write that fails refuses the group; the spool goes on without being opened anew."""
        self.breaks(apsw.IOError, write=True, times=1)
        self.assertFalse(self.assertRaises(SpoolError, put, self.store, new_mail(2)).full)
        self.assertEqual(self.after_a_crash(), [1])
        put(self.store, new_mail(3))
        self.assertEqual(self.after_a_crash(), [1, 3])

    def test_full(self) -> None:
        """A disk that is full is told apart, for new mails and for what became of old ones."""
        self.breaks(apsw.FullError, write=True)
        for work in (
            lambda: put(self.store, new_mail(2)),
            lambda: changed(self.store, *finished(1, 0)),
            lambda: self.store.remove([queueid.to_text(1)]),
        ):
            error = self.assertRaises(SpoolError, work)
            self.assertEqual((error.full, error.unsure), (True, False))
        self.works_again()
        self.assertEqual(self.after_a_crash(), [1])
        put(self.store, new_mail(3))
        changed(self.store, *finished(1, 0))
        self.assertEqual(self.after_a_crash(), [3])
