"""Forwarding with real processes: reverse-paths are rewritten, bounces come back, and strangers find no way through."""

from __future__ import annotations

import re
from email import message_from_bytes
from typing import Any

from tests.interop.mails import plain
from tests.interop.node import Node, NodeTest
from tests.interop.test_relaying import relay_to
from tests.interop.wire import Client, ScriptedServer, send

ALIASES = (
    '[[alias]]\naddress = "sales@here.test"\nto = ["far@there.test"]\n'
    '[[alias]]\naddress = "team@here.test"\nto = ["joe@here.test", "far@there.test"]\n'
)
PATH = re.compile(r"MAIL FROM:<(SRS0=[^>]*)>")


class ForwardingTest(NodeTest):
    """A node whose aliases lead to a scripted server."""

    def forwarding(self, answers: dict[str, str]) -> tuple[Node, ScriptedServer]:
        """Both."""
        server = ScriptedServer(answers)
        self.addCleanup(server.close)
        here = relay_to(server.port, tables=ALIASES)
        self.addCleanup(here.close)
        return here.start(), server

    def rewritten(self, server: ScriptedServer) -> str:
        """The reverse-path that the server was told."""
        (path,) = [found[1] for line in server.commands if (found := PATH.match(line))]
        return path

    def test_there_and_back(self) -> None:
        """The server is told an address of ours; a bounce to it goes on to the sender, also after a restart; with a
        reverse-path, or changed, it is refused."""
        here, server = self.forwarding({})
        send(here.port, plain("forwarded"), ["sales@here.test"], sender="someone@client.test")
        here.wait_queue(0)
        path = self.rewritten(server)
        self.assertRegex(path, r"\ASRS0=[A-Z2-7]{8}=[A-Z2-7]{2}=client\.test=someone@here\.test\Z")
        self.assertEqual((here.state / "srs.key").stat().st_mode & 0o777, 0o600)
        here.stop()
        here.start()
        with Client(here.port) as client:
            client.must("MAIL FROM:<spammer@client.test>")
            self.assertTrue(client.ask(f"RCPT TO:<{path}>").startswith("550 5.7.1"))
            client.must("RSET")
            client.must("MAIL FROM:<>")
            self.assertTrue(client.ask(f"RCPT TO:<{path.replace('someone', 'other')}>").startswith("550 5.1.1"))
            client.must(f"RCPT TO:<{path.lower()}>")
            self.assertTrue(client.data(plain("bounced")).startswith("250"))
        here.wait_queue(0)
        self.assertEqual(
            [line for line in server.commands if line.startswith(("MAIL", "RCPT"))][-2:],
            ["MAIL FROM:<>", "RCPT TO:<someone@client.test>"],
        )

    def test_expanded(self) -> None:
        """NOTIFY=SUCCESS to an alias of two: one report that it was expanded, and none of those behind it."""
        here, _ = self.forwarding({})
        with Client(here.port) as client:
            client.must("MAIL FROM:<ann@here.test>")
            client.must("RCPT TO:<team@here.test> NOTIFY=SUCCESS")
            self.assertTrue(client.data(plain("to the team")).startswith("250"))
        report = message_from_bytes(here.wait_mail("ann", having=b"delivery-status"))
        parts: Any = report.get_payload()
        _, group = parts[1].get_payload()
        self.assertEqual((group["Final-Recipient"], group["Action"]), ("rfc822;team@here.test", "expanded"))
        here.wait_mail("joe", having=b"to the team")
        here.wait_queue(0)
        self.assertEqual(len(here.events("notification-sent")), 1)
        self.assertEqual(len(here.events("recipient-expanded")), 1)

    def test_expanded_after_a_crash(self) -> None:
        """A node that is killed right after its 250 still reports the expansion when it is back."""
        here, _ = self.forwarding({})
        with Client(here.port) as client:
            client.must("MAIL FROM:<ann@here.test>")
            client.must("RCPT TO:<team@here.test> NOTIFY=SUCCESS")
            self.assertTrue(client.data(plain("to the team")).startswith("250"))
            here.kill()
        here.start()
        self.assertIn(b"Action: expanded", here.wait_mail("ann", having=b"delivery-status"))
        here.wait_mail("joe", having=b"to the team")
        here.wait_queue(0)
