"""``mailnode``: its commands, their exit codes and their sentences."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from tests.admin.fakes import Bridge, FakeNode
from tests.admin.test_queue_commands import Case
from twisted_mail_node.admin import cli
from twisted_mail_node.admin.cli import main
from twisted_mail_node.admin.control_client import ControlClient, NodeNotRunning


class HelpTest(SynchronousTestCase):
    """What is there without a node."""

    def test_commands(self) -> None:
        """Every command of every group has its help."""
        result = CliRunner().invoke(main, ["--help"])
        self.assertEqual(result.exit_code, 0)
        for name in (
            "run",
            "check-config",
            "test",
            "sink",
            "queue",
            "account",
            "reload",
            "stop",
            "status",
            "route",
            "version",
        ):
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

    def test_passwords_of_routes(self) -> None:
        """check-config looks at the password files of routes, as the node will at its start."""
        text = self.config.read_text("utf-8")
        route = '[[route]]\nnext_hop = "[a.test]"\nusername = "joe"\npassword_file = "missing.password"\n'
        self.config.write_text(text + route, "utf-8")
        result = self.mailnode("check-config")
        self.assertEqual(result.exit_code, 2)
        self.assertIn("route[1]: password_file", result.stderr)

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
