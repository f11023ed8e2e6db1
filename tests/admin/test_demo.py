"""The demo account's password: made once, kept for its owner, and shown nowhere."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from pathlib import Path

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.admin.account_commands import account
from twisted_mail_node.admin.demo import FILE_NAME, how_to_sign_in, with_password
from twisted_mail_node.admin.running import welcome
from twisted_mail_node.directory.account_keys import parse_scram
from twisted_mail_node.directory.passwords import verify
from twisted_mail_node.settings import Account, Settings, development
from twisted_mail_node.smtp.scram import keys_of


class DemoTests(SynchronousTestCase):
    """``mailnode run`` without settings."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.file = Path(place.name) / "var" / FILE_NAME
        self.settings = development(self.file.parent)

    def account(self) -> Account:
        """The account as a start has it."""
        (account,) = with_password(self.settings).accounts
        return account

    def test_made(self) -> None:
        """The first start makes the password, for the owner's eyes only; the account has its hash and its keys."""
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        account = self.account()
        password = self.file.read_text().rstrip("\n")
        self.assertRegex(password, r"\A[A-Za-z0-9]{20}\Z")
        self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.file.parent.stat().st_mode), 0o700)
        self.assertTrue(verify(account.password, password))
        self.assertFalse(verify(account.password, password + "x"))
        assert account.scram is not None
        salt, iterations, keys = parse_scram(account.scram)
        self.assertEqual(keys["SHA-256"], keys_of(password, salt, iterations, "SHA-256"))
        self.assertEqual(self.settings.accounts[0].password, None)

    def test_settings_take_it(self) -> None:
        """Hash and keys are spelled as a settings file has them."""
        made = self.account()
        given = {"address": str(made.address), "password": made.password, "scram": made.scram}
        self.assertEqual(Account.model_validate(given), made)

    def test_kept(self) -> None:
        """The next start has the same one; one that somebody wrote there counts, too."""
        self.account()
        first = self.file.read_text()
        self.assertTrue(verify(self.account().password, first.rstrip("\n")))
        self.assertEqual(self.file.read_text(), first)
        self.file.write_text("my own\n")
        self.assertTrue(verify(self.account().password, "my own"))

    def test_no_password(self) -> None:
        """A file that holds none is a sentence that names it and not what it holds."""
        self.file.parent.mkdir()
        for text in ("", "sentinel\0"):
            self.file.write_text(text)
            error = self.assertRaises(ValueError, with_password, self.settings)
            self.assertIn(str(self.file), str(error))
            self.assertNotIn("sentinel", str(error))

    def test_said(self) -> None:
        """The welcome has a line to paste that sends a mail; the password is not in it, but the way to its file is."""
        settings = with_password(self.settings)
        text = "\n".join(welcome(settings, None, "1"))
        password = self.file.read_text().rstrip("\n")
        self.assertNotIn(password, text)
        (line,) = [line for line in text.splitlines() if line.startswith("Send a mail: ")]
        self.assertRegex(line, r"curl .*--ssl-reqd .*smtp://127\.0\.0\.1:2587\Z")
        self.assertIn(f'-u "demo@mail.test:$(cat {self.file})"', line)
        self.assertIn(f"with the password in {self.file}", text)

    def test_not_said(self) -> None:
        """Without a password, without the listener, and with settings of one's own there is nothing to say."""
        self.assertEqual(list(how_to_sign_in(self.settings)), [])
        settings: Settings = with_password(self.settings)
        without = settings.model_copy(update={"listeners": (settings.listeners[0], settings.listeners[2])})
        self.assertEqual(list(how_to_sign_in(without)), [])
        self.assertIsNone(re.search("curl|password", "\n".join(welcome(settings, Path("n.toml"), "1"))))


class ListTests(SynchronousTestCase):
    """``mailnode account list`` without settings."""

    def test_listed(self) -> None:
        """The demo account is said to have a password once it has been given one, and not before."""
        with CliRunner().isolated_filesystem():
            before = CliRunner().invoke(account, ["list"])
            with_password(development())
            after = CliRunner().invoke(account, ["list"])
        self.assertEqual((before.exit_code, after.exit_code), (0, 0), before.output + after.output)
        self.assertRegex(before.output, r"^demo@mail\.test  no password,")
        self.assertRegex(after.output, r"^demo@mail\.test  password, SCRAM,")
