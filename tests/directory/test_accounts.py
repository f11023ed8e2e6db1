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

from tests.directory.hashes import OLD
from twisted_mail_node.directory import account_form
from twisted_mail_node.directory.account_form import name_of
from twisted_mail_node.directory.account_secrets import APP_PASSWORDS_MAX, Secrets, of_settings
from twisted_mail_node.directory.accounts import AccountFile, AccountFileError, scram_hashes
from twisted_mail_node.directory.passwords import verify
from twisted_mail_node.message.address import Address
from twisted_mail_node.settings import Account, AuthenticationSettings, Settings
from twisted_mail_node.smtp.scram import keys_of

JOE = Address("joe", "example.org")
ANN = Address('ann "b"', "bücher.example")
#: What no account holds in version 2.
WRONG: tuple[dict[str, object], ...] = (
    {"salt": 5},
    {"salt": "sentinel!"},
    {"salt": "x" * 300},
    {"iterations": "5"},
    {"iterations": 10**9},
    {"salt": "c2VudGluZWw=", "iterations": 5},
    {"scram": []},
    {"scram": {"SHA-256": "sentinel"}},
    {"app_passwords": {}},
    {"app_passwords": ["sentinel"]},
    {"app_passwords": [{"name": "phone"}]},
    {"app_passwords": [{"name": "phone", "hash": "sentinel"}]},
    {"app_passwords": [{"name": "a\nb", "hash": "A" * 59 + "="}]},
    {"app_passwords": [{"name": "phone", "hash": "A" * 59 + "=", "sentinel": 1}]},
    {"app_passwords": [{"name": "phone", "hash": "A" * 59 + "="}] * (APP_PASSWORDS_MAX + 1)},
)


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
        self.file.remove(JOE)
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
            {"version": 3, "accounts": []},
            {"version": 1},
            {"version": 1, "accounts": {}},
            {"version": 1, "accounts": ["joe@example.org"]},
            {"version": 1, "accounts": [{}]},
            {"version": 1, "accounts": [entry | {"password": "sentinel"}]},
            {"version": 1, "accounts": [entry | {"quota": -1}]},
            {"version": 1, "accounts": [entry | {"sentinel": 1}]},
            {"version": 1, "accounts": [{"address": "sentinel"}]},
            {"version": 1, "accounts": [entry | {"disabled": True}]},
            {"version": True, "accounts": []},
            {"version": 2, "accounts": [entry | {"password": "$6$rounds=999999999$salt$" + "a" * 86}]},
            *({"version": 2, "accounts": [entry | wrong]} for wrong in WRONG),
            *({"version": 2, "accounts": [], "of_settings": [entry | {"digest": ""} | wrong]} for wrong in WRONG),
            {"version": 2, "accounts": [], "of_settings": [entry]},
            {"version": 2, "accounts": [], "of_settings": [entry | {"digest": 5}]},
            {"version": 2, "accounts": [], "of_settings": [entry | {"digest": "", "password": "sentinel"}]},
            {"version": 2, "accounts": [], "of_settings": {}},
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

    # ---- version 2 -------------------------------------------------------------------------------------------

    def secrets(self, address: Address = JOE) -> Secrets:
        return self.file.read().accounts[name_of(address)][1]

    def test_version_1(self) -> None:
        """A file of version 1 is read, and is one of version 2 after the next change."""
        self.path.parent.mkdir()
        entry = {"address": "joe@example.org", "password": OLD, "quota": 5}
        self.path.write_text(json.dumps({"version": 1, "accounts": [entry]}))
        before = self.file.list()
        self.assertEqual(before, (Account(address=JOE, password=OLD, quota=5),))
        self.file.add(ANN)
        self.assertEqual(json.loads(self.path.read_text())["version"], 2)
        self.assertEqual(self.file.list()[0], before[0])

    def test_round_trip(self) -> None:
        """Everything that is kept is read as it was written."""
        self.file.add(JOE, "sesame")
        self.file.set(JOE, disabled=True, sends_as=("*@example.com",), mails_per_hour=7)
        self.file.add_app_password(JOE, "phone", 1000)
        standing = Account(address=ANN, password=OLD)
        self.file.add_app_password(ANN, "desk", 2000, standing)
        kept = self.file.read()
        self.assertEqual(account_form.understood(account_form.written(kept)), kept)
        account, secrets = kept.accounts[name_of(JOE)]
        self.assertEqual((account.disabled, account.sends_as, account.mails_per_hour), (True, ("*@example.com",), 7))
        self.assertEqual([(one.name, one.created) for one in secrets.app_passwords], [("phone", 1000)])
        self.assertEqual(kept.of_settings[name_of(ANN)][1].app_passwords[0].name, "desk")
        with self.assertRaises(AccountFileError):
            self.file.set(ANN, disabled=True)

    def test_keys(self) -> None:
        """A password comes with its keys for SCRAM; another one has other keys under the same salt."""
        self.file.add(JOE, "one")
        first = self.secrets()
        self.assertEqual(first.keys, {"SHA-256": keys_of("one", first.salt, first.iterations, "SHA-256")})
        self.file.set_password(JOE, "two")
        second = self.secrets()
        self.assertEqual(second.salt, first.salt)
        self.assertEqual(second.keys, {"SHA-256": keys_of("two", first.salt, first.iterations, "SHA-256")})
        self.file.set_password(JOE, None)
        self.assertEqual((self.secrets().password, self.secrets().keys), (None, {}))

    def test_hashes(self) -> None:
        """Keys are made for the mechanisms of the settings."""
        for mechanisms, hashes in (
            (("SCRAM-SHA-1", "SCRAM-SHA-256-PLUS", "PLAIN"), ("SHA-1", "SHA-256")),
            (("PLAIN", "LOGIN"), ()),
        ):
            settings = Settings(
                hostname="mx.example.org", state_dir=self.path.parent,
                authentication=AuthenticationSettings(mechanisms=mechanisms),
            )  # fmt: skip
            self.assertEqual(scram_hashes(settings), hashes)
            AccountFile.of(settings).add(Address(f"a{len(hashes)}", "example.org"), "sesame")
            secrets = self.secrets(Address(f"a{len(hashes)}", "example.org"))
            self.assertEqual(tuple(sorted(secrets.keys)), hashes)

    def test_app_passwords(self) -> None:
        """One is shown once and kept as a hash, beside the others; it is taken back by its name."""
        self.file.add(JOE, "sesame")
        phone, desk = (self.file.add_app_password(JOE, name, 5) for name in ("phone", "desk"))
        self.assertNotIn(phone, self.path.read_text())
        secrets = self.secrets()
        self.assertEqual([getattr(secrets.fits(one), "name", None) for one in (phone, desk)], ["phone", "desk"])
        self.assertEqual(len(secrets.all_keys("SHA-256")), 3)
        self.file.remove_app_password(JOE, "phone")
        self.assertIs(self.secrets().fits(phone), False)
        self.assertIs(self.secrets().fits("sesame"), True)
        for name in ("desk", "", "x" * 61, "a\nb"):
            self.assertRaises(AccountFileError, self.file.add_app_password, JOE, name, 5)
        self.assertRaises(AccountFileError, self.file.remove_app_password, JOE, "phone")
        self.assertRaises(AccountFileError, self.file.add_app_password, ANN, "phone", 5)

    def test_too_many_app_passwords(self) -> None:
        """Nobody has so many that signing in becomes slow."""
        file = AccountFile(self.path, ())
        file.add(JOE)
        for n in range(APP_PASSWORDS_MAX):
            file.add_app_password(JOE, f"p{n}", 5)
        self.assertRaises(AccountFileError, file.add_app_password, JOE, "more", 5)

    def test_upgrade(self) -> None:
        """What sign-ins made is kept, unless somebody changed the password meanwhile, or the account is gone."""
        standing = Account(address=Address("set", "example.org"), password=OLD)
        self.file.add(JOE, "one")
        self.file.add(ANN, "one")
        joe, ann, settings = self.secrets(), self.secrets(ANN), of_settings(standing, None)
        self.file.set_password(ANN, "two")
        wanted = Secrets("$argon2id$v=19$m=19456,t=2,p=1$eCCwTUKTn1mJA8dLJ93F9Q$CIRjagl3fOijXH8grj9kpLv8SzBL4GTP")
        nobody = Address("gone", "example.org")
        found = self.file.upgrade(
            [(JOE, None, joe, wanted), (ANN, None, ann, wanted), (nobody, None, joe, wanted),
             (standing.address, standing, settings, wanted)]
        )  # fmt: skip
        self.assertEqual(set(found), {JOE, ANN, standing.address})
        self.assertEqual(self.secrets(), wanted)
        self.assertTrue(verify(self.secrets(ANN).password, "two"))
        (of_settings_kept,) = self.file.read().of_settings.values()
        self.assertEqual(of_settings(standing, of_settings_kept[1]).password, wanted.password)

    def test_forgotten(self) -> None:
        """What is kept of an account of the settings goes with ``remove``, and when a command adds the account."""
        standing = Account(address=JOE, password=OLD)
        for forget in (self.file.remove, self.file.add):
            self.file.add_app_password(JOE, "phone", 5, standing)
            forget(JOE)
            self.assertEqual(self.file.read().of_settings, {})
