"""Tests of how a batch is made durable."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace

from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.delivery import sync


class SyncTests(SynchronousTestCase):
    """syncfs and fsync."""

    def linux(self, release: str, sysname: str = "Linux") -> None:
        """Let the system say that it is this one."""
        self.patch(os, "uname", lambda: SimpleNamespace(sysname=sysname, release=release))

    def test_kernels(self) -> None:
        """syncfs counts from Linux 5.8 on, where it tells of errors."""
        for release, works in (
            ("5.7.19", False),
            ("5.8.0-rc1", True),
            ("6.18.2-x", True),
            ("4.19", False),
            ("?", False),
        ):
            self.linux(release)
            self.assertEqual(sync.syncfs_works(), works, release)
        self.linux("13.2", sysname="FreeBSD")
        self.assertFalse(sync.syncfs_works())

    def test_by_file(self) -> None:
        """One or two files are synced by themselves, more by syncfs; the setting and an old kernel decide first."""
        self.linux("6.1.0")
        self.assertTrue(sync.by_file("auto", 2))
        self.assertFalse(sync.by_file("auto", 3))
        self.assertFalse(sync.by_file("syncfs", 1))
        self.assertTrue(sync.by_file("fsync", 100))
        self.linux("5.4.0")
        self.assertTrue(sync.by_file("syncfs", 100))

    def test_syncfs(self) -> None:
        """It works on a directory, and an error is an OSError with its number."""
        directory = self.mktemp()
        os.mkdir(directory)
        fd = os.open(directory, os.O_RDONLY)
        self.assertIsNone(sync.syncfs(fd))  # type: ignore[func-returns-value]
        os.close(fd)
        error = self.assertRaises(OSError, sync.syncfs, fd)
        self.assertEqual(error.errno, errno.EBADF)

    def test_each_filesystem_once(self) -> None:
        """Directories on one filesystem share one syncfs."""
        synced: list[int] = []
        self.patch(sync, "syncfs", synced.append)
        sync.sync_filesystems([(1, 10), (2, 20), (1, 11)])
        self.assertEqual(synced, [11, 20])
