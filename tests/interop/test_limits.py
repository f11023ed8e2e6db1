"""Rates of ours and of others, with real processes: what we set is kept to, and a host that wants less gets less."""

from __future__ import annotations

import json
import time
from datetime import datetime

from tests.interop.mails import plain
from tests.interop.node import Node, NodeTest
from tests.interop.wire import ScriptedServer, send

RATE = 5
MAILS = 3 * RATE + 1
#: Seconds that the event log's times may be cut off by.
LOG_TIME = 0.001
LIMITED = "421 4.7.0 rate limited, try again later"


class RateTest(NodeTest):
    """A node with ``rates`` for one destination."""

    def test_kept(self) -> None:
        """Mails that could all go at once go by the rate, none is lost, and another destination's do not wait."""
        there, other = self.node(domain="there.test").start(), ScriptedServer()
        self.addCleanup(other.close)
        # [[destination]] knows a next hop by its host: the other one has another name for this machine.
        here = self.node(
            top='relay_from = ["127.0.0.0/8"]',
            tables=f'[[route]]\ndomain = "there.test"\nnext_hop = "[127.0.0.1]:{there.port}"\n'
            f'[[route]]\ndomain = "other.test"\nnext_hop = "[localhost]:{other.port}"\n'
            f'[[destination]]\ndomains = ["127.0.0.1"]\nrates = ["{RATE}/s"]\n',
        )
        here.start()
        began = time.time()
        subjects = [f"number {number}" for number in range(MAILS)]
        for subject in subjects:
            send(here.port, plain(subject), ["demo@there.test"])
        for subject in subjects:
            send(here.port, plain(subject), ["x@other.test"])
        here.wait_queue(0, seconds=60)
        arrived = sorted(datetime.fromisoformat(event["time"]).timestamp() for event in there.events("mail-accepted"))
        # The first cannot have begun before ``began``, and each RATE further ones begin a second later at the earliest;
        # how long a mail then takes on a busy machine only makes it later.
        for number, when in enumerate(arrived):
            self.assertGreaterEqual(
                when, began - LOG_TIME + number // RATE, f"mail {number} of {arrived} after {began}"
            )
        for subject in subjects:
            there.wait_mail("demo", having=f"Subject: {subject}\n".encode())
        self.assertEqual(len(there.mails("demo")), MAILS)
        self.assertEqual(len(other.mails), MAILS)
        self.assertEqual(here.events("recipient-failed"), [])


class SlowedTest(NodeTest):
    """A host that says it wants less mail."""

    def servers(self) -> tuple[Node, ScriptedServer, ScriptedServer]:
        """A node, the host that says so, and another one."""
        strict, other = ScriptedServer({"MAIL": LIMITED}), ScriptedServer()
        for server in (strict, other):
            self.addCleanup(server.close)
        here = self.node(
            top='relay_from = ["127.0.0.0/8"]',
            tables=f'[[route]]\ndomain = "strict.test"\nnext_hop = "[127.0.0.1]:{strict.port}"\n'
            f'[[route]]\ndomain = "other.test"\nnext_hop = "[127.0.0.1]:{other.port}"\n',
        )
        return here.start(), strict, other

    def test_one_destination(self) -> None:
        """421 pauses that destination only: its mail waits without a connection, the others' goes; the queue says why;
        an operator's retry lets it go."""
        here, strict, other = self.servers()
        first = send(here.port, plain("first"), ["x@strict.test"])
        here.wait_event("recipient-delayed", queue_id=first)
        said = len(strict.commands)
        second = send(here.port, plain("second"), ["x@strict.test"])
        event = here.wait_event("recipient-delayed", queue_id=second)
        self.assertEqual(event["reason"], "slowed")
        third = send(here.port, plain("third"), ["x@other.test"])
        here.wait_event("recipient-relayed", queue_id=third)
        self.assertEqual([line for line in strict.commands[said:] if line != "QUIT"], [])
        waiting = json.loads(here.command("queue", "list", "--json", "--cause", "rate"))
        self.assertEqual({mail["queue_id"] for mail in waiting}, {first, second})
        for mail in waiting:
            self.assertEqual(mail["recipients"][0]["cause"], "rate-limited")
        for queue_id in (first, second):
            shown = here.command("queue", "show", queue_id)
            self.assertIn("The host wants less mail at a time. (rate-limited)", shown)
            self.assertIn("rate limited, try again later", shown)
        (mail,) = other.mails
        self.assertIn(b"Subject: third", mail[2])
        strict.answer("MAIL", "250 ok")
        here.command("queue", "retry", "--all")
        here.wait_queue(0)
        self.assertEqual(len(strict.mails), 2)
