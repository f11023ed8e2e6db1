"""Tests of the account file: what it keeps, and that it is always whole."""

from __future__ import annotations

import json
import os
import stat
import tempfile
import threading
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.directory.accounts import AccountFile, AccountFileError
from twisted_mail_node.directory.passwords import verify
from twisted_mail_node.message.address import Address
from twisted_mail_node.settings import Account

JOE = Address("joe", "example.org")
ANN = Address('ann "b"', "bücher.example")


class AccountFileTests(SynchronousTestCase):
    """``accounts.json``."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.path = Path(place.name) / "state" / "accounts.json"
        self.file = AccountFile(self.path)

    def test_none(self) -> None:
        """Without a file there are no accounts, and looking makes none."""
        self.assertEqual(self.file.list(), ())
        self.assertFalse(self.path.parent.exists())

    def test_add(self) -> None:
        """Accounts are kept in their order; of a password only the hash."""
        self.file.add(JOE, "sentinel", 1 << 30)
        self.file.add(ANN)
        joe, ann = AccountFile(self.path).list()
        self.assertEqual((joe.address, joe.quota), (JOE, 1 << 30))
        self.assertTrue(verify(joe.password, "sentinel"))
        self.assertEqual(ann, Account(address=ANN))
        self.assertNotIn("sentinel", self.path.read_text("utf-8"))
        self.assertNotIn("argon2id", repr(joe))

    def test_private(self) -> None:
        """Nobody else may read the file, nor the directory it is in."""
        old = os.umask(0)
        try:
            self.file.add(JOE)
        finally:
            os.umask(old)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.path.parent.stat().st_mode), 0o700)

    def test_twice(self) -> None:
        """An address has one account."""
        self.file.add(JOE)
        with self.assertRaises(AccountFileError):
            self.file.add(Address("joe", "EXAMPLE.org"))
        self.assertEqual(len(self.file.list()), 1)

    def test_remove(self) -> None:
        """A removed account is gone; removing it again is an error."""
        self.file.add(JOE)
        self.file.add(ANN)
        self.assertEqual(self.file.remove(JOE).address, JOE)
        self.assertEqual([account.address for account in self.file.list()], [ANN])
        with self.assertRaises(AccountFileError):
            self.file.remove(JOE)

    def test_set_password(self) -> None:
        """A password is changed and taken away; the quota stays."""
        self.file.add(JOE, "one", 4096)
        self.file.set_password(JOE, "two")
        (joe,) = self.file.list()
        self.assertTrue(verify(joe.password, "two"))
        self.assertFalse(verify(joe.password, "one"))
        self.file.set_password(JOE, None)
        self.assertEqual(self.file.list(), (Account(address=JOE, quota=4096),))
        with self.assertRaises(AccountFileError):
            self.file.set_password(ANN, "x")

    def test_failing_write(self) -> None:
        """When the new file cannot be written or synced, the old one stays as it was."""
        self.file.add(JOE)
        before = self.path.read_bytes()
        for call in ("fsync", "replace"):
            with (
                mock.patch.object(os, call, side_effect=OSError(28, "No space left on device")),
                self.assertRaises(AccountFileError) as caught,
            ):
                self.file.add(ANN)
            self.assertIn("No space left on device", str(caught.exception))
            self.assertEqual(self.path.read_bytes(), before)
        self.file.add(ANN)
        self.assertEqual(len(self.file.list()), 2)

    def test_left_over(self) -> None:
        """What a command that died left behind is in nobody's way, and a link in its place is not followed."""
        self.path.parent.mkdir()
        victim = self.path.parent / "victim"
        victim.write_text("whole")
        Path(f"{self.path}.new").symlink_to(victim)
        self.file.add(JOE)
        self.assertEqual(victim.read_text(), "whole")
        self.assertFalse(self.path.is_symlink())
        self.assertEqual(len(self.file.list()), 1)

    def test_many_at_once(self) -> None:
        """Commands at the same moment lose none of their changes."""
        threads = [
            threading.Thread(target=AccountFile(self.path).add, args=(Address(f"p{n}", "example.org"),))
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(len(self.file.list()), 8)

    def test_every_cut(self) -> None:
        """A truncated file is an error of ours at whatever octet it ends."""
        self.file.add(JOE)
        self.file.add(ANN, quota=5)
        octets = self.path.read_bytes().rstrip()
        for end in range(len(octets)):
            self.path.write_bytes(octets[:end])
            with self.assertRaises(AccountFileError):
                self.file.list()

    def test_damaged(self) -> None:
        """Anything that is not such a file is an error of ours, and shows none of its values."""
        entry = {"address": "joe@example.org"}
        tables: list[object] = [
            [],
            {"version": 2, "accounts": []},
            {"version": 1},
            {"version": 1, "accounts": {}},
            {"version": 1, "accounts": ["joe@example.org"]},
            {"version": 1, "accounts": [{}]},
            {"version": 1, "accounts": [entry | {"password": "sentinel"}]},
            {"version": 1, "accounts": [entry | {"quota": -1}]},
            {"version": 1, "accounts": [entry | {"sentinel": 1}]},
            {"version": 1, "accounts": [{"address": "sentinel"}]},
        ]
        for table in tables:
            self.path.parent.mkdir(exist_ok=True)
            self.path.write_text(json.dumps(table))
            with self.assertRaises(AccountFileError) as caught:
                self.file.list()
            self.assertNotIn("sentinel", str(caught.exception))
            with self.assertRaises(AccountFileError):
                self.file.add(ANN)
            self.assertEqual(json.loads(self.path.read_text()), table)
        self.path.write_bytes(b"\xff" * 10)
        self.assertRaises(AccountFileError, self.file.list)
        self.path.write_bytes(b"[" * 100_000)
        self.assertRaises(AccountFileError, self.file.list)
        self.path.unlink()
        self.path.mkdir()
        self.assertRaises(AccountFileError, self.file.list)
