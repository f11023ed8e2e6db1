"""``mailnode``: its commands, their exit codes and their sentences."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from tests.admin.fakes import Bridge, FakeNode
from tests.admin.test_queue_commands import Case
from twisted_mail_node.admin import account_commands, cli
from twisted_mail_node.admin.cli import main
from twisted_mail_node.admin.control_client import ControlClient, NodeNotRunning


class HelpTest(SynchronousTestCase):
    """What is there without a node."""

    def test_commands(self) -> None:
        """Every command of every group has its help."""
        result = CliRunner().invoke(main, ["--help"])
        self.assertEqual(result.exit_code, 0)
        for name in ("run", "check-config", "test", "sink", "queue", "account", "reload", "stop", "status", "version"):
            self.assertIn(name, result.stdout)
            self.assertEqual(CliRunner().invoke(main, [name, "--help"]).exit_code, 0)
        self.assertNotIn("...", result.stdout.partition("Commands:")[2])

    def test_imports(self) -> None:
        """Importing the command line brings neither Twisted nor pydantic nor SQLite: --help is quick."""
        code = (
            "import sys, twisted_mail_node.admin.cli;"
            "print([one for one in sys.modules if one in ('twisted.internet', 'twisted.logger', 'pydantic', 'apsw')])"
        )
        root = Path(cli.__file__).parents[2]
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, timeout=60)
        self.assertEqual((result.stdout, result.stderr), ("[]\n", ""))

    def test_version(self) -> None:
        """version names ourselves and Twisted."""
        self.assertIn("Twisted", CliRunner().invoke(main, ["version"]).stdout)


class SettingsTest(Case):
    """Which settings are meant, and whether they are right."""

    def test_right(self) -> None:
        """Right settings are exit code 0 and one line."""
        result = self.mailnode("check-config")
        self.assertEqual((result.exit_code, len(result.stdout.splitlines())), (0, 1))
        self.assertIn(str(self.config), result.stdout)

    def test_wrong(self) -> None:
        """Every problem is printed, for every command, and the exit code is 2."""
        self.config.write_text('hostname = 5\nlistner = 7\n[limits]\nmessage_size = "huge"\n')
        for command in (["check-config"], ["status"], ["queue", "list"], ["account", "list"], ["run"]):
            result = self.mailnode(*command)
            self.assertEqual(result.exit_code, 2, command)
            for words in ("hostname", "listner", "limits.message_size"):
                self.assertIn(words, result.stderr)

    def test_missing(self) -> None:
        """A file that is not there is a sentence and exit code 2."""
        result = self.mailnode("check-config", "-c", str(self.state / "none.toml"))
        self.assertEqual(result.exit_code, 2)
        self.assertIn("none.toml", result.stderr)

    def test_development(self) -> None:
        """Without a file the development settings are meant, and said."""
        result = CliRunner().invoke(main, ["check-config"], env={"MAILNODE_SETTINGS": None})
        self.assertEqual(result.exit_code, 0)
        self.assertIn("development settings, state in", result.stdout)

    def test_damaged_accounts(self) -> None:
        """check-config looks at the account file too."""
        self.state.mkdir()
        (self.state / "accounts.json").write_text("{")
        self.assertEqual(self.mailnode("check-config").exit_code, 2)


class NodeTest(Case):
    """Commands to a running node."""

    def setUp(self) -> None:
        super().setUp()
        self.node = FakeNode()
        self.patch(ControlClient, "_connect", lambda client: Bridge(self.node))

    def test_status(self) -> None:
        """status is for people; with --json for programs."""
        result = self.mailnode("status")
        self.assertIn("hostname", result.stdout)
        self.assertIn("here.example", result.stdout)
        self.assertEqual(json.loads(self.mailnode("status", "--json").stdout)["hostname"], "here.example")

    def test_reload(self) -> None:
        """reload reaches the node; when it refuses, its words and exit code 1 come back."""
        self.assertEqual((self.mailnode("reload").exit_code, self.node.reloads), (0, 1))
        self.node.reload_error = ValueError("hostname holds 5")
        result = self.mailnode("reload")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("hostname holds 5", result.stderr)

    def test_stop(self) -> None:
        """stop waits until the node is gone, and says when it stays."""
        self.patch(ControlClient, "is_running", lambda client: False)
        self.assertEqual(self.mailnode("stop").stdout, "The node has stopped.\n")
        self.patch(ControlClient, "is_running", lambda client: True)
        self.patch(cli, "STOP_TIME", -1.0)
        result = self.mailnode("stop")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("still runs", result.stderr)

    def test_nobody(self) -> None:
        """Without a node each of them is a sentence that says how to start one."""

        def nobody(client: ControlClient) -> None:
            raise NodeNotRunning("no node is running here: nobody listens on x")

        self.patch(ControlClient, "_connect", nobody)
        for command in ("status", "reload", "stop"):
            result = self.mailnode(command)
            self.assertEqual(result.exit_code, 1)
            self.assertIn("mailnode run", result.stderr)


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
        self.patch(account_commands, "sys", _Terminal())
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


class _Terminal:
    """Stands for ``sys`` in a command that runs on a terminal."""

    class stdin:
        @staticmethod
        def isatty() -> bool:
            return True
