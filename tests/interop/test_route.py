"""``mailnode route`` asks a running node, and answers from the settings while it is down."""

from __future__ import annotations

import json
from typing import Any

from tests.interop.node import Node, NodeTest
from tests.interop.zone import NameServer

ZONE = {
    "there.test": {"MX": ["10 mx.there.test."]},
    "mx.there.test": {"A": ["127.0.0.1"]},
}


class RouteTest(NodeTest):
    """The command."""

    def route(self, node: Node, *words: str) -> Any:
        """What it says to a program."""
        return json.loads(node.command("route", *words, "--json"))

    def test_both(self) -> None:
        """Up and down the answer is the same but for what only the queue knows; a wrong address ends with code 1."""
        with NameServer(ZONE) as names:
            node = self.node(
                tables=f'[resolver]\nservers = ["127.0.0.1:{names.port}"]\n[queue]\nloopback_exchangers = true\n'
                '[[route]]\ndomain = "there.test"\naccounts = ["joe@here.test"]\ntls = "required"\n'
            )
            down = self.route(node, "x@there.test", "--account", "joe@here.test")
            node.start()
            up = self.route(node, "x@there.test", "--account", "joe@here.test")
            self.assertEqual((down.pop("running"), up.pop("running")), (False, True))
            self.assertEqual(down, up)
            (target,) = up["targets"]
            self.assertEqual(target["rules"][-1]["rule"], "route[1]")
            (exchanger,) = target["way"]["exchangers"]
            self.assertEqual((exchanger["host"], exchanger["tls"]["level"]), ("mx.there.test", "required"))
            self.assertIn("into the mailbox", node.command("route", "joe@here.test"))
            self.assertIn("must be an address", node.command("route", "nonsense", code=1))
            self.assertEqual(node.stop(), 0)
            self.assertIn("must be an address", node.command("route", "nonsense", code=1))
