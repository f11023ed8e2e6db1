"""Tests of the files of one Maildir."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.delivery import mailbox
from twisted_mail_node.delivery.mailbox import FOLDER, Mailbox, Mailboxes


class MailboxTests(SynchronousTestCase):
    """A Maildir that is written to."""

    def setUp(self) -> None:
        self.root = Path(self.mktemp()).absolute()
        self.path = self.root / "local.test" / "joe"

    def open(self) -> Mailbox:
        """The mailbox at ``path``, closed at the end."""
        made = Mailbox(str(self.path))
        self.addCleanup(made.close)
        return made

    def test_makes_what_is_missing(self) -> None:
        """tmp, new, cur and the directories above are made, for their owner only."""
        self.open()
        for name in ("", "tmp", "new", "cur"):
            self.assertEqual(stat.S_IMODE((self.path / name).stat().st_mode), 0o700)
        self.assertEqual(stat.S_IMODE(self.path.parent.stat().st_mode), 0o700)

    def test_opens_what_is_there(self) -> None:
        """A Maildir that is there is used as it is, and a missing part of it is made."""
        self.path.mkdir(parents=True)
        (self.path / "new").mkdir()
        made = self.open()
        self.assertEqual(made.made, [str(self.path / "tmp")])
        self.assertTrue((self.path / "cur").is_dir())

    def test_write(self) -> None:
        """A file has all pieces, is for its owner only, tells its size in its name, and nothing stays in tmp."""
        self.assertEqual(self.open().write("name", [b"ab", b"", b"c"], durable=True), 3)
        [found] = (self.path / "new").iterdir()
        self.assertEqual((found.name, found.read_bytes()), ("name,S=3", b"abc"))
        self.assertEqual(stat.S_IMODE(found.stat().st_mode), 0o600)
        self.assertEqual(os.listdir(self.path / "tmp"), [])

    def test_short_writes(self) -> None:
        """What the system did not take at once is written again from there."""
        write = os.write
        with mock.patch.object(os, "write", lambda fd, octets: write(fd, bytes(octets[:3]))):
            self.open().write("name", [b"abcdefgh"], durable=False)
        self.assertEqual((self.path / "new" / "name,S=8").read_bytes(), b"abcdefgh")

    def test_failed_write_leaves_nothing(self) -> None:
        """A mail that could not be written leaves no file behind."""

        def broken() -> list[bytes]:
            raise OSError(28, "full")

        made = self.open()
        with mock.patch.object(os, "write", lambda fd, octets: broken()):
            self.assertRaises(OSError, made.write, "name", [b"abc"], False)
        self.assertEqual(os.listdir(self.path / "tmp") + os.listdir(self.path / "new"), [])

    def test_never_overwrites(self) -> None:
        """A name that is taken in tmp is an error; the other file stays."""
        made = self.open()
        (self.path / "tmp" / "name").write_bytes(b"other")
        self.assertRaises(FileExistsError, made.write, "name", [b"abc"], False)
        self.assertEqual((self.path / "tmp" / "name").read_bytes(), b"other")

    def test_symbolic_links_are_refused(self) -> None:
        """T19: neither the Maildir nor tmp nor new may be a symbolic link."""
        outside = self.root / "outside"
        for name in ("tmp", "new", "cur"):
            (outside / name).mkdir(parents=True)
        self.path.parent.mkdir()
        self.path.symlink_to(outside)
        self.assertRaises(OSError, Mailbox, str(self.path))
        self.path.unlink()
        for name in ("tmp", "new"):
            path = self.root / f"with-{name}"
            path.mkdir()
            (path / name).symlink_to(outside / name)
            self.assertRaises(OSError, Mailbox, str(path))
        self.path.symlink_to(self.root / "nowhere")
        self.assertRaises(OSError, Mailbox, str(self.path))
        self.assertEqual(os.listdir(outside / "tmp") + os.listdir(outside / "new"), [])

    def test_folder_of_a_link(self) -> None:
        """T19: a folder of a Maildir that is a symbolic link is not delivered into, nor made there."""
        outside = self.root / "outside"
        (outside / ".Old" / "new").mkdir(parents=True)
        self.path.parent.mkdir(exist_ok=True)
        self.path.symlink_to(outside)
        for folder in ("Junk", "Old"):
            self.assertRaises(OSError, Mailbox, f"{self.path}{FOLDER}{folder}")
        self.assertEqual((os.listdir(outside), os.listdir(outside / ".Old")), ([".Old"], ["new"]))

    def test_no_way_up(self) -> None:
        """T19: a path that goes up is refused before anything is made."""
        self.assertRaises(OSError, Mailbox, str(self.path) + "/../../../x")
        self.assertFalse(self.root.exists())

    def test_a_file_in_the_way(self) -> None:
        """A file where the Maildir should be is an error, and stays."""
        self.path.parent.mkdir(parents=True)
        self.path.write_bytes(b"file")
        self.assertRaises(OSError, Mailbox, str(self.path))
        self.assertEqual(self.path.read_bytes(), b"file")

    def test_sync_directory(self) -> None:
        """new and the directories that were made are synced, once."""
        made = self.open()
        synced: list[int] = []
        with mock.patch.object(os, "fsync", synced.append):
            made.sync_directory()
            self.assertEqual(len(synced), 1 + len((self.root, self.path.parent, self.path, "tmp", "new")))
            made.sync_directory()
        self.assertEqual(synced[0], made.new)
        self.assertEqual(synced[-1], made.new)
        self.assertEqual(len(synced), 7)


class MailboxesTests(SynchronousTestCase):
    """The mailboxes that are kept open."""

    def setUp(self) -> None:
        self.root = Path(self.mktemp()).absolute()
        self.mailboxes = Mailboxes()
        self.addCleanup(self.mailboxes.close)

    def get(self, name: str) -> Mailbox:
        """A mailbox by its name."""
        return self.mailboxes.get(str(self.root / name))

    def test_kept(self) -> None:
        """A mailbox stays open from batch to batch."""
        first = self.get("joe")
        self.assertIs(self.get("joe"), first)
        self.mailboxes.end_batch()
        self.assertEqual(self.mailboxes.written_to(), [])
        self.assertIs(self.get("joe"), first)
        self.assertEqual(self.mailboxes.written_to(), [first])

    def test_moved_away(self) -> None:
        """Mail goes to where the path leads now, not to a Maildir that was moved away or removed."""
        first = self.get("joe")
        self.mailboxes.end_batch()
        (self.root / "joe").rename(self.root / "old")
        second = self.get("joe")
        self.assertIsNot(second, first)
        second.write("name", [b"x"], durable=False)
        self.assertEqual(os.listdir(self.root / "old" / "new"), [])
        self.assertEqual(os.listdir(self.root / "joe" / "new"), ["name,S=1"])

    def test_bounded(self) -> None:
        """The longest unused are closed after a batch; descriptors do not pile up."""
        self.patch(mailbox, "OPEN_MAX", 2)
        before = len(os.listdir("/proc/self/fd"))
        first = self.get("1")
        for name in ("2", "3", "4"):
            self.get(name)
        self.mailboxes.end_batch()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before + 4)
        self.assertIsNot(self.get("1"), first)

    def test_broken_is_opened_anew(self) -> None:
        """A mailbox that failed is synced with its batch and opened anew in the next."""
        first = self.get("joe")
        self.mailboxes.broken(str(self.root / "joe"))
        self.mailboxes.broken(str(self.root / "never-opened"))
        self.assertEqual(self.mailboxes.written_to(), [first])
        self.mailboxes.end_batch()
        self.assertIsNot(self.get("joe"), first)
