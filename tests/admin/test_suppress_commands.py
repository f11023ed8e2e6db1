"""``mailnode suppress`` and its orders, on a running node and on the state of a node that is down."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, cast
from unittest import mock

from tests.admin.fakes import Bridge, FakeNode
from tests.admin.test_queue_commands import Case
from twisted_mail_node.admin.control_client import ControlClient, ControlError
from twisted_mail_node.message.address import Address
from twisted_mail_node.settings_outbound import SuppressionSettings
from twisted_mail_node.state.database import StateDatabase
from twisted_mail_node.state.suppressions import Suppressions

DAY = 86400.0


class Commands(Case):
    """What both have in common: each test runs with a node and without."""

    def reach(self) -> None:
        """Where the commands go."""

    def setUp(self) -> None:
        super().setUp()
        self.reach()

    def json(self, *arguments: str) -> Any:
        """The answer of a command, for programs."""
        result = self.mailnode("suppress", *arguments, "--json")
        self.assertEqual(result.exit_code, 0, result.stderr)
        return json.loads(result.stdout)


class DownTest(Commands):
    """The node is down: its state is opened."""

    def test_empty(self) -> None:
        """An empty list is no error, and nothing is made to look at it."""
        self.assertEqual(self.mailnode("suppress", "list").stdout, "No address is suppressed.\n")
        self.assertEqual(self.json("list"), [])
        self.assertEqual(
            self.mailnode("suppress", "list", "ann").stdout, "No address like that is suppressed.\n"
        )  # fmt: skip

    def test_nothing_is_made(self) -> None:
        """Looking and removing make no database."""
        self.mailnode("suppress", "list")
        self.assertEqual(self.mailnode("suppress", "remove", "ann@dead.example").exit_code, 1)
        self.assertFalse((self.state / "state.sqlite").exists())

    def test_add(self) -> None:
        """An address is kept, with its words, for the time of the settings."""
        self.mailnode("suppress", "add", "eve@dead.example")
        result = self.mailnode("suppress", "add", "Ann@DEAD.example", "--words", "asked us to")
        self.assertEqual((result.exit_code, result.stderr), (0, ""))
        self.assertIn("ann@dead.example is suppressed, until ", result.stdout)
        eve, ann = self.json("list")
        self.assertEqual((eve["address"], eve["words"]), ("eve@dead.example", ""))
        self.assertEqual(
            (ann["address"], ann["by"], ann["failures"], ann["words"]),
            ("ann@dead.example", "operator", 0, "asked us to"),
        )
        self.assertLess(abs(ann["until"] - time.time() - 30 * DAY), 100)
        self.assertLess(abs(ann["since"] - time.time()), 100)
        listing = self.mailnode("suppress", "list").stdout
        for text in ("ann@dead.example", "an operator: asked us to", "until 20", "2 suppressed"):
            self.assertIn(text, listing)

    def test_time(self) -> None:
        """For a time, or for ever."""
        one = self.json("add", "ann@dead.example", "--for", "2d")
        self.assertLess(abs(one["until"] - time.time() - 2 * DAY), 100)
        self.assertIsNone(self.json("add", "ann@dead.example", "--for-ever")["until"])
        self.assertIn("for ever", self.mailnode("suppress", "list").stdout)

    def test_list_narrowed(self) -> None:
        """Part of an address narrows the list, whatever its case; --limit bounds it."""
        for name in ("ann@a.example", "ann@b.example", "bob@a.example"):
            self.mailnode("suppress", "add", name)
        self.assertEqual([one["address"] for one in self.json("list", "ANN@")], ["ann@a.example", "ann@b.example"])
        self.assertEqual(len(self.json("list", "--limit", "2")), 2)
        self.assertIn("there may be more", self.mailnode("suppress", "list", "--limit", "2").stdout)

    def test_remove(self) -> None:
        """Addresses get mail again; those that are not on the list are named, and the exit code is 1."""
        self.mailnode("suppress", "add", "ann@dead.example")
        result = self.mailnode("suppress", "remove", "ANN@dead.example", "bob@dead.example")
        self.assertEqual(result.exit_code, 1)
        self.assertEqual(result.stdout, "ann@dead.example gets mail again.\n")
        self.assertEqual(result.stderr, "mailnode: bob@dead.example is not suppressed\n")
        self.assertEqual(self.json("list"), [])
        self.mailnode("suppress", "add", "ann@dead.example")
        answer = self.json("remove", "ann@dead.example")
        self.assertEqual([one["address"] for one in answer["removed"]], ["ann@dead.example"])
        self.assertEqual(answer["unknown"], [])

    def test_bad_input(self) -> None:
        """What is no address, no time, or cannot be suppressed, is a sentence and changes nothing."""
        for words, code, sentence in (
            (("add", "nonsense"), 1, "is not an address"),
            (("add", "ann@"), 1, "is not an address"),
            (("add", "ann@dead.example\nbob@x"), 1, "is not an address"),
            (("add", "postmaster@dead.example"), 1, "every domain has a postmaster"),
            (("add", "ann@dead.example", "--for", "soon"), 2, "Invalid value for '--for'"),
            (("add", "ann@dead.example", "--for", "-1d"), 2, "Invalid value for '--for'"),
            (("add", "ann@dead.example", "--for", "1d", "--for-ever"), 2, "not both"),
            (("add", "ann@dead.example", "--words", "x" * 500), 1, "'words' must be a text"),
            (("add",), 2, "ADDRESS"),
            (("remove", "nonsense"), 1, "is not an address"),
            (("remove",), 2, "ADDRESS"),
            (("list", "--limit", "0"), 2, "--limit"),
            (("list", "x" * 500), 1, "'text' must be a text"),
        ):
            with self.subTest(words=words):
                result = self.mailnode("suppress", *words)
                self.assertEqual(result.exit_code, code, result.output)
                self.assertIn(sentence, result.stderr)
                self.assertEqual(result.stdout, "")
        self.assertEqual(self.json("list"), [])

    def test_local(self) -> None:
        """A local address is refused."""
        result = self.mailnode("suppress", "add", "joe@mx.here.example")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("it is local", result.stderr)


class RunningTest(DownTest):
    """A node runs: it is asked."""

    def reach(self) -> None:
        self.database = StateDatabase(self.state / "other.sqlite", cast(Any, None))
        self.addCleanup(self.database.close)
        self.node = cast(Any, FakeNode())
        self.events: list[object] = []
        self.node.suppressions = Suppressions(
            self.database, SuppressionSettings(), time.time, self.events.append, lambda name: name == "mx.here.example"
        )
        self.patch(ControlClient, "_connect", lambda client: Bridge(self.node))

    def test_node_knows(self) -> None:
        """What is ordered counts in the node at once, with its event, and the state is not touched from outside."""
        self.mailnode("suppress", "add", "ann@dead.example")
        self.assertIsNotNone(self.node.suppressions.find(Address("ann", "dead.example")))
        self.assertEqual(len(self.events), 1)
        self.assertFalse((self.state / "state.sqlite").exists())

    def test_orders(self) -> None:
        """Requests with values of the wrong kind are refused, each with its sentence."""
        client = ControlClient(self.state)
        for command, arguments in (
            ("list", {"limit": True}),
            ("list", {"limit": 0}),
            ("list", {"text": 5}),
            ("add", {}),
            ("add", {"address": ["ann@dead.example"]}),
            ("add", {"address": "ann@dead.example", "until": "x"}),
            ("add", {"address": "ann@dead.example", "until": True}),
            ("add", {"address": "ann@dead.example", "until": 1e300}),
            ("add", {"address": "ann@dead.example", "until": 5}),
            ("add", {"address": "ann@dead.example", "words": None}),
            ("add", {"address": "ann@dead.example", "words": "\udcff"}),
            ("list", {"text": "\ud800"}),
            ("remove", {}),
        ):
            with self.subTest(command=command, arguments=arguments):
                self.assertRaises(ControlError, client.ask, f"suppress.{command}", **arguments)
        self.assertEqual(self.events, [])
        self.assertEqual(client.ask("suppress.list").last["count"], 0)


class StoppedTest(Case):
    """A node that stops between the question whether it runs and the order."""

    def test_told(self) -> None:
        """It is a sentence, of every command that asks a node."""
        self.patch(ControlClient, "is_running", lambda client: True)
        for command in (
            ("suppress", "list"),
            ("queue", "frozen"),
            ("queue", "list"),
            ("route", "ann@dead.example"),
            ("tls", "list"),
            ("tls", "forget", "dead.example"),
            ("tls-report", "show"),
        ):
            with self.subTest(command=command):
                result = self.mailnode(*command)
                self.assertEqual(result.exit_code, 1)
                self.assertIn("no node is running here", result.stderr)


class PlaceTest(Case):
    """Where the state is kept."""

    def test_owner(self) -> None:
        """A database that root makes belongs to whom the state directory does; one that is there is left alone."""
        self.state.mkdir()
        there = os.stat(self.state)
        owner = os.stat_result((*there[:4], 1234, 567, *there[6:]))
        stat = Path.stat
        changed: list[tuple[str, int, int]] = []
        with (
            mock.patch.object(os, "geteuid", return_value=0),
            mock.patch.object(os, "chown", side_effect=lambda path, *ids: changed.append((Path(path).name, *ids))),
            mock.patch.object(Path, "stat", lambda path, **more: owner if path == self.state else stat(path, **more)),
        ):
            self.mailnode("suppress", "add", "ann@dead.example")
            self.assertIn(("state.sqlite", 1234, 567), changed)
            changed.clear()
            self.mailnode("suppress", "add", "bob@dead.example")
            self.assertEqual(changed, [])
            (self.state / "state.sqlite").unlink()
            self.mailnode("queue", "freeze", "dead.example")
            self.assertIn(("state.sqlite", 1234, 567), changed)

    def test_no_place(self) -> None:
        """It is a sentence."""
        Path(self.state).write_text("")
        result = self.mailnode("suppress", "add", "ann@dead.example")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("cannot be", result.stderr)
