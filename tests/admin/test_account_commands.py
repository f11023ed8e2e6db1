"""``mailnode account``: who has a mailbox here, and signs in."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import click

from tests.admin.fakes import Bridge, FakeNode
from tests.admin.test_queue_commands import Case
from tests.directory.hashes import OLD
from twisted_mail_node.admin import account_spoken
from twisted_mail_node.admin.control_client import ControlClient
from twisted_mail_node.directory.app_passwords import may_be_app_password
from twisted_mail_node.directory.directory import Directory
from twisted_mail_node.directory.passwords import verify
from twisted_mail_node.message.address import Address
from twisted_mail_node.settings import Account, load
from twisted_mail_node.settings_spelling import address as parsed

ACCOUNTS = '[[domain]]\nname = "here.example"\n[[account]]\naddress = "joe@here.example"\n'


class AccountTest(Case):
    """mailnode account."""

    def setUp(self) -> None:
        super().setUp()
        with open(self.config, "a") as file:
            file.write(ACCOUNTS)

    def accounts(self) -> dict[str, bool]:
        return {
            one["address"]: one["password"] for one in json.loads(self.mailnode("account", "list", "--json").stdout)
        }

    def test_add(self) -> None:
        """add reads the password from standard input, and keeps no more than its hash (attack T40)."""
        result = self.mailnode("account", "add", "ann@here.example", given="sentinel-password\n")
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertNotIn("sentinel", result.output)
        self.assertNotIn("sentinel", (self.state / "accounts.json").read_text())
        self.assertEqual(self.accounts(), {"joe@here.example": False, "ann@here.example": True})

    def test_no_password(self) -> None:
        """--no-password asks for nothing."""
        result = self.mailnode("account", "add", "ann@here.example", "--no-password", "--quota", "1G")
        self.assertEqual((result.exit_code, self.accounts()["ann@here.example"]), (0, False))
        self.assertIn("at most 1.0 GiB", self.mailnode("account", "list").stdout)

    def test_refused(self) -> None:
        """What cannot be added is a sentence, and nothing is written."""
        for arguments, words in (
            (["ann@elsewhere.example"], "not a local domain"),
            (["joe@here.example"], "settings file already"),
            (["ann"], "is not an address"),
            (["x\x1b@here.example"], "is not an address"),
            (["ann@here.example", "--quota", "much"], "--quota"),
            (["ann@here.example"], "no password came"),
        ):
            result = self.mailnode("account", "add", *arguments)
            self.assertEqual(result.exit_code, 1, arguments)
            self.assertIn(words, result.stderr)
            self.assertTrue(all(one.isprintable() or one == "\n" for one in result.stderr))
        self.assertFalse((self.state / "accounts.json").exists())

    def test_terminal(self) -> None:
        """On a terminal the password is asked for twice."""
        asked: list[dict[str, object]] = []

        def prompt(text: str, **how: object) -> str:
            asked.append(how)
            return "secret-enough"

        self.patch(click, "prompt", prompt)
        self.patch(account_spoken, "sys", _Terminal())
        self.assertEqual(self.mailnode("account", "add", "ann@here.example").exit_code, 0)
        self.assertEqual(asked, [{"hide_input": True, "confirmation_prompt": True}])

    def test_passwd_and_remove(self) -> None:
        """passwd changes, remove takes out; who is not there is a sentence."""
        self.mailnode("account", "add", "ann@here.example", "--no-password")
        self.assertEqual(self.mailnode("account", "passwd", "ann@here.example", given="secret-enough\n").exit_code, 0)
        self.assertTrue(self.accounts()["ann@here.example"])
        self.assertEqual(self.mailnode("account", "passwd", "ann@here.example", "--no-password").exit_code, 0)
        self.assertEqual(self.mailnode("account", "remove", "ann@here.example").exit_code, 0)
        self.assertEqual(list(self.accounts()), ["joe@here.example"])
        for command, who, words in (
            ("remove", "ann@here.example", "no account"),
            ("remove", "joe@here.example", "settings file"),
            ("passwd", "ann@here.example", "no account"),
        ):
            result = self.mailnode("account", command, who, given="secret-enough\n")
            self.assertEqual(result.exit_code, 1)
            self.assertIn(words, result.stderr)

    def test_running_node(self) -> None:
        """A running node takes the change up at once."""
        node = FakeNode()
        self.patch(ControlClient, "_connect", lambda client: Bridge(node))
        self.mailnode("account", "add", "ann@here.example", "--no-password")
        self.assertEqual(node.reloads, 1)
        node.reload_error = ValueError("no")
        self.assertEqual(self.mailnode("account", "remove", "ann@here.example").exit_code, 1)

    # ---- what an account may do ------------------------------------------------------------------------------

    def row(self, address: str = "ann@here.example") -> dict[str, Any]:
        """What ``list`` says of an account."""
        rows = json.loads(self.mailnode("account", "list", "--json").stdout)
        return next(one for one in rows if one["address"] == address)

    def directory(self) -> Directory:
        """As the node would have it."""
        return Directory(load(self.config))

    def test_list(self) -> None:
        """list says who signs in how, for people and for programs; of no password more than that it is there."""
        self.mailnode("account", "add", "ann@here.example", given="sentinel-password\n")
        self.mailnode("account", "disable", "ann@here.example")
        self.mailnode("account", "sends-as", "ann@here.example", "*@Example.com", "boss@here.example")
        self.mailnode("account", "limit", "ann@here.example", "7")
        self.mailnode("account", "app-password", "add", "ann@here.example", "phone")
        self.assertEqual(
            self.row(),
            {
                "address": "ann@here.example", "password": True, "scram": True, "app_passwords": ["phone"],
                "disabled": True, "sends_as": ["*@example.com", "boss@here.example"], "mails_per_hour": 7,
                "quota": None, "from": "commands",
            },
        )  # fmt: skip
        result = self.mailnode("account", "list")
        line = result.stdout.splitlines()[1]
        for words in ("password, SCRAM, 1 application password, disabled", "sends as *@example.com boss@here.example",
                      "at most 7 mails an hour", "from commands"):  # fmt: skip
            self.assertIn(words, line)
        for secret in ("argon2", "sentinel"):
            self.assertNotIn(secret, result.stdout)

    def test_disable(self) -> None:
        """A disabled account is one for the node, until it is enabled."""
        self.mailnode("account", "add", "ann@here.example", "--no-password")
        for command, disabled in (("disable", True), ("enable", False)):
            self.assertEqual(self.mailnode("account", command, "ann@here.example").exit_code, 0)
            account = self.directory().account(Address("ann", "here.example"))
            self.assertEqual(account and account.disabled, disabled)

    def test_sends_as(self) -> None:
        """sends-as sets the whole list; without patterns none is left; a wrong one is a sentence."""
        self.mailnode("account", "add", "ann@here.example", "--no-password")
        self.mailnode("account", "sends-as", "ann@here.example", "*@example.com")
        owner, other = parsed("ann@here.example"), parsed("x@example.com")
        self.assertTrue(self.directory().owns(owner, other))
        self.assertIn("neither", self.mailnode("account", "sends-as", "ann@here.example", "example.com").stderr)
        self.assertIn("only", self.mailnode("account", "sends-as", "ann@here.example").stdout)
        self.assertFalse(self.directory().owns(owner, other))

    def test_limit(self) -> None:
        """limit takes a number, 0 for no bound, or the word that gives it back to the settings."""
        self.mailnode("account", "add", "ann@here.example", "--no-password")
        for text, kept in (("5", 5), ("0", 0), ("default", None)):
            self.assertEqual(self.mailnode("account", "limit", "ann@here.example", text).exit_code, 0)
            self.assertEqual(self.row()["mails_per_hour"], kept)
        for text in ("-1", "much", "1e3", "9" * 12, "٣"):
            self.assertEqual(self.mailnode("account", "limit", "--", "ann@here.example", text).exit_code, 1)

    def test_of_settings(self) -> None:
        """What stands in the settings file is changed there."""
        for command in (["disable"], ["enable"], ["sends-as"], ["limit"], ["passwd"]):
            arguments = [*command, "joe@here.example", *(["5"] if command == ["limit"] else [])]
            result = self.mailnode("account", *arguments, given="secret-enough\n")
            self.assertEqual(result.exit_code, 1)
            self.assertIn("settings file", result.stderr)
        self.assertFalse((self.state / "accounts.json").exists())

    # ---- application passwords -------------------------------------------------------------------------------

    def test_app_password(self) -> None:
        """add shows it once, list never, remove takes it back; of accounts of both kinds."""
        self.mailnode("account", "add", "ann@here.example", "--no-password")
        for who in ("ann@here.example", "joe@here.example"):
            result = self.mailnode("account", "app-password", "add", who, "phone")
            self.assertEqual(result.exit_code, 0, result.output)
            (shown,) = [line.strip() for line in result.stdout.splitlines() if may_be_app_password(line.strip())]
            made = json.loads(self.mailnode("account", "app-password", "add", who, "desk", "--json").stdout)
            account = self.directory().account(parsed(who))
            secrets = self.directory().secrets(account)
            for text, name in ((shown, "phone"), (made["password"], "desk")):
                self.assertEqual(getattr(secrets.fits(text), "name", None), name)
            listed = self.mailnode("account", "app-password", "list", who)
            self.assertIn("phone", listed.stdout)
            names = json.loads(self.mailnode("account", "app-password", "list", who, "--json").stdout)
            self.assertEqual([one["name"] for one in names], ["phone", "desk"])
            for output in (listed.stdout, str(names), (self.state / "accounts.json").read_text()):
                self.assertNotIn(shown, output)
            self.assertEqual(self.mailnode("account", "app-password", "remove", who, "phone").exit_code, 0)
            self.assertIs(self.directory().secrets(account).fits(shown), False)
            self.assertEqual(self.row(who)["app_passwords"], ["desk"])
        self.mailnode("account", "add", "bob@here.example", "--no-password")
        nothing = self.mailnode("account", "app-password", "list", "bob@here.example")
        self.assertIn("no application passwords", nothing.stdout)

    def test_app_password_refused(self) -> None:
        """Nobody's, a name that is there already, one that is not: sentences."""
        self.mailnode("account", "app-password", "add", "joe@here.example", "phone")
        for arguments, words in (
            (["add", "joe@here.example", "phone"], "already"),
            (["add", "joe@here.example", ""], "1 to 60"),
            (["add", "ann@here.example", "phone"], "no account"),
            (["list", "ann@here.example"], "no account"),
            (["remove", "joe@here.example", "desk"], "no application password"),
            (["remove", "ann@here.example", "desk"], "no account"),
            (["add", "joe", "phone"], "is not an address"),
        ):
            result = self.mailnode("account", "app-password", *arguments)
            self.assertEqual(result.exit_code, 1, arguments)
            self.assertIn(words, result.stderr)

    def test_running_node_of_app_password(self) -> None:
        """A running node takes application passwords up at once, and a program's JSON stays JSON."""
        node = FakeNode()
        self.patch(ControlClient, "_connect", lambda client: Bridge(node))
        made = self.mailnode("account", "app-password", "add", "joe@here.example", "phone", "--json")
        self.assertIn("password", json.loads(made.stdout))
        self.mailnode("account", "app-password", "remove", "joe@here.example", "phone")
        self.assertEqual(node.reloads, 2)

    # ---- hash ------------------------------------------------------------------------------------------------

    def test_hash(self) -> None:
        """hash prints two lines for the settings file, which take the password by PLAIN and by SCRAM."""
        result = self.mailnode("account", "hash", given="sentinel-password\n")
        self.assertEqual(result.exit_code, 0, result.output)
        table = tomllib.loads(result.stdout)
        self.assertEqual(list(table), ["password", "scram"])
        account = Account(address=Address("ann", "here.example"), **table)
        self.assertTrue(verify(account.password, "sentinel-password"))
        with open(self.config, "a") as file:
            file.write('[[account]]\naddress = "ann@here.example"\n' + result.stdout)
        self.assertTrue(self.row()["scram"])
        self.assertNotIn("sentinel", result.output)
        for given in ("", "tab\there\n"):
            self.assertEqual(self.mailnode("account", "hash", given=given).exit_code, 1)

    def test_older_hash(self) -> None:
        """An account of an older system is listed with a password, and without SCRAM."""
        with open(self.config, "a") as file:
            file.write(f'[[account]]\naddress = "ann@here.example"\npassword = "{OLD}"\n')
        self.assertEqual((self.row()["password"], self.row()["scram"]), (True, False))


class _Terminal:
    """Stands for ``sys`` in a command that runs on a terminal."""

    class stdin:
        @staticmethod
        def isatty() -> bool:
            return True
