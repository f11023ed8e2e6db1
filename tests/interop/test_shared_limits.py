"""Domains with the same mail exchanger share its connections, exactly: the exchanger itself counts them."""

from __future__ import annotations

from tests.interop.mails import plain
from tests.interop.node import Node, NodeTest
from tests.interop.wire import send
from tests.interop.zone import NameServer

DOMAINS = ("one.there.test", "two.there.test", "three.there.test")
ZONE: dict[str, dict[str, list[str]]] = {
    **{domain: {"MX": ["10 mx.big.test."]} for domain in DOMAINS},
    "mx.big.test": {"A": ["127.0.0.1"]},
}
MAILS = 12


class SharedTest(NodeTest):
    """Three domains, one host that bears two connections."""

    def test_exact(self) -> None:
        """The host never sees a third connection, though every one carries two mails only; all mail arrives."""
        domains = "".join(f'[[domain]]\nname = "{domain}"\ncatch_all = "demo@there.test"\n' for domain in DOMAINS)
        there = Node(domain="there.test", tables=f"[limits]\nconnections_per_address = 2\n{domains}")
        self.addCleanup(there.close)
        there.start()
        with NameServer(ZONE) as names:
            routes = "".join(
                f'[[route]]\ndomain = "{domain}"\nnext_hop = "{domain}:{there.port}"\n' for domain in DOMAINS
            )
            here = self.node(
                top='relay_from = ["127.0.0.0/8"]',
                tables=f'[resolver]\nservers = ["127.0.0.1:{names.port}"]\n'
                f"[queue]\nloopback_exchangers = true\n{routes}"
                '[[destination]]\nexchangers = [".big.test"]\nconnections = 2\nmails_per_connection = 2\n',
            )
            here.start()
            for number in range(MAILS):
                for domain in DOMAINS:
                    send(here.port, plain(f"{domain} {number}"), [f"x@{domain}"])
            here.wait_queue(0, seconds=60)
            self.assertEqual(len(here.events("recipient-relayed")), MAILS * len(DOMAINS))
            self.assertEqual(here.events("recipient-delayed"), [])
            self.assertEqual(there.events("session-refused"), [])
            sessions = [one for one in there.events("session-closed") if one["mails"]]
            self.assertTrue(all(one["mails"] <= 2 for one in sessions))
            self.assertGreaterEqual(len(sessions), MAILS * len(DOMAINS) // 2 - 2)  # the last two may still be open
            self.assertEqual(here.stop(), 0)
        self.assertEqual(there.stop(), 0)
