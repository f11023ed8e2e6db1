"""``mailnode tls`` on a running node and on the database of a node that is down."""

from __future__ import annotations

import json
from typing import Any

from tests.admin.fakes import Bridge, FakeNode
from tests.admin.test_queue_commands import Case
from twisted_mail_node.admin.control_client import ControlClient
from twisted_mail_node.state.database import StateDatabase
from twisted_mail_node.state.tls_levels import TlsLevels

NOBODY: Any = None


class Tests:
    """What holds for both."""

    def test_list(self: Any) -> None:
        """list shows domains and levels, by name; --json the same for programs."""
        self.assertEqual(self.mailnode("tls", "list").stdout, "a.example  encrypted\nb.example  dane\n")
        shapes = json.loads(self.mailnode("tls", "list", "--json").stdout)
        expected = [{"domain": "a.example", "level": "encrypted"}, {"domain": "b.example", "level": "dane"}]
        self.assertEqual(shapes, expected)

    def test_forget(self: Any) -> None:
        """forget takes one domain, in any spelling; one that is not known, or none at all, is an error."""
        self.assertEqual(self.mailnode("tls", "forget", "B.Example.").stdout, "Forgotten: b.example (dane).\n")
        self.assertEqual(self.mailnode("tls", "list").stdout, "a.example  encrypted\n")
        again = self.mailnode("tls", "forget", "b.example")
        self.assertEqual((again.exit_code, again.stderr), (1, "mailnode: nothing is remembered of b.example\n"))
        self.assertEqual(self.mailnode("tls", "forget", "a..b").exit_code, 1)
        self.mailnode("tls", "forget", "a.example")
        self.assertEqual(self.mailnode("tls", "list").stdout, "Nothing is remembered.\n")


class RunningTest(Tests, Case):
    """A node runs."""

    def setUp(self) -> None:
        super().setUp()
        self.node = FakeNode()
        self.patch(ControlClient, "_connect", lambda client: Bridge(self.node))

    def test_wrong_request(self) -> None:
        """A request without a domain is refused with a sentence."""
        client = ControlClient(self.state)
        for domain in (None, "", 7, ["a.example"]):
            with self.assertRaisesRegex(Exception, "'domain' must be a domain"):
                client.ask("tls.forget", domain=domain)
        self.assertEqual(len(self.node.tls_levels.known), 2)


class DownTest(Tests, Case):
    """The node is down."""

    def setUp(self) -> None:
        super().setUp()
        database = StateDatabase(self.state / "state.sqlite", NOBODY)
        levels = TlsLevels(database, lambda: 1000.0)
        levels.reached("b.example", "dane")
        levels.reached("a.example", "encrypted")
        database.close()

    def test_nothing_yet(self) -> None:
        """Where no node has run nothing is made, and that is said."""
        (self.state / "state.sqlite").unlink()
        result = self.mailnode("tls", "list")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("no node has run here yet", result.stderr)
        self.assertFalse((self.state / "state.sqlite").exists())
