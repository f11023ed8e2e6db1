"""Mail that cannot go on yet: what the operator sees and does, what the sender is told."""

from __future__ import annotations

import json
import time
from email import message_from_bytes, policy
from typing import Any

from tests.interop.mails import plain
from tests.interop.node import Node, NodeTest, free_port, wait_for
from tests.interop.test_relaying import relay_to
from tests.interop.wire import Client, ScriptedServer, added_to, send


class WaitingTest(NodeTest):
    """The next hop is down."""

    def setUp(self) -> None:
        self.hop = free_port()
        self.here = relay_to(self.hop)
        self.addCleanup(self.here.close)
        self.here.start()

    def waiting(self, *subjects: str) -> list[str]:
        """Mails that were tried once and are delayed; gives their queue ids."""
        ids = [send(self.here.port, plain(subject), ["demo@there.test"]) for subject in subjects]
        self.here.wait_queue(len(ids), "delayed")
        return ids

    def there(self) -> Node:
        """The next hop comes up."""
        there = self.node(domain="there.test")
        there.port = self.hop
        there.write()
        return there.start()

    def test_list_and_retry(self) -> None:
        """The queue shows a mail delayed, why, and when it is tried next; once the hop is up, retry brings it there."""
        (queue_id,) = self.waiting("patience")
        (mail,) = self.here.queue()
        self.assertEqual((mail["queue_id"], mail["reverse_path"]), (queue_id, "someone@client.test"))
        (recipient,) = mail["recipients"]
        self.assertEqual((recipient["recipient"], recipient["state"]), ("demo@there.test", "delayed"))
        self.assertEqual((recipient["attempts"], recipient["destination"]), (1, f"[127.0.0.1]:{self.hop}"))
        self.assertEqual(recipient["last"]["action"], "delayed")
        self.assertRegex(recipient["last"]["words"], "refused")
        self.assertRegex(recipient["last"]["status"], r"^4\.\d\.\d$")
        wait = recipient["due"] - time.time()
        self.assertTrue(0.5 * 3600 < wait < 2 * 3600, wait)
        table = self.here.command("queue", "list")
        for word in (queue_id, "demo@there.test", "delayed", "1 mail"):
            self.assertIn(word, table)
        event = self.here.wait_event("recipient-delayed", queue_id=queue_id)
        self.assertEqual(event["due"], round(recipient["due"], 6))
        there = self.there()
        self.assertIn("1 mail", self.here.command("queue", "retry", "--all"))
        added_to(there.wait_mail("demo", having=b"patience"), plain("patience"))
        self.here.wait_queue(0)

    def test_orders(self) -> None:
        """hold keeps a mail back even from retry --all, release lets it go, remove forgets, show tells all."""
        held, removed, free = self.waiting("held", "removed", "free")
        self.assertIn("1 mail", self.here.command("queue", "hold", held))
        self.assertIn("1 mail", self.here.command("queue", "remove", removed))
        shown = self.here.command("queue", "show", held)
        for word in (
            held,
            "someone@client.test",
            "demo@there.test: held, 1 attempt",
            "Subject: held",
            "Received: from",
        ):
            self.assertIn(word, shown)
        there = self.there()
        self.here.command("queue", "retry", "--all")
        there.wait_mail("demo", having=b"Subject: free")
        self.here.wait_queue(1, "held")
        self.assertIn("no mail in the queue has the id " + removed, self.here.command("queue", "show", removed, code=1))
        self.here.command("queue", "release", held)
        there.wait_mail("demo", having=b"Subject: held")
        self.here.wait_queue(0)
        self.assertEqual(len(there.mails("demo")), 2)
        self.here.wait_event("mail-held", queue_id=held)
        self.here.wait_event("mail-changed", queue_id=removed, reason="removed")
        self.assertNotIn(free, self.here.command("queue", "list"))

    def test_filters(self) -> None:
        """Mails are chosen by sender, recipient, destination and state."""
        self.waiting("one", "two")
        send(self.here.port, plain("null"), ["ann@else.test"], sender="")
        self.here.wait_queue(3, "delayed")

        def count(*options: str) -> int:
            return len(json.loads(self.here.command("queue", "list", "--json", *options)))

        self.assertEqual(count("--sender", "someone@"), 2)
        self.assertEqual(count("--sender", "<>"), 1)
        self.assertEqual(count("--recipient", "else.test"), 1)
        self.assertEqual(count("--destination", f"[127.0.0.1]:{self.hop}"), 3)
        self.assertEqual(count("--state", "held"), 0)
        self.here.command("queue", "hold", "--recipient", "else.test")
        self.assertEqual(count("--state", "held"), 1)
        self.here.command("queue", "remove", "--sender", "someone@", "--yes")
        self.assertEqual(count(), 1)

    def test_node_down(self) -> None:
        """While the node is down the same commands work on its spool, and the next start finds what they did."""
        held, removed, free = self.waiting("held", "removed", "free")
        self.assertEqual(self.here.stop(), 0)
        self.assertEqual([mail["queue_id"] for mail in self.here.queue()], [held, removed, free])
        self.assertIn("the node is down", self.here.command("queue", "list", code=None))
        self.here.command("queue", "hold", held)
        self.here.command("queue", "remove", removed)
        self.here.command("queue", "retry", free)
        self.assertIn("Subject: held", self.here.command("queue", "show", held))
        states = {mail["queue_id"]: mail["recipients"][0]["state"] for mail in self.here.queue()}
        self.assertEqual(states, {held: "held", free: "delayed"})
        there = self.there()
        self.here.start()
        there.wait_mail("demo", having=b"Subject: free")
        self.here.wait_queue(1, "held")
        self.here.command("queue", "release", "--all")
        there.wait_mail("demo", having=b"Subject: held")
        self.here.wait_queue(0)

    def test_restart(self) -> None:
        """A stop and a kill lose neither the mail nor its time, its attempts and the last words."""
        self.waiting("kept")
        before = self.here.queue()
        self.assertEqual(self.here.stop(), 0)
        self.here.start()
        self.assertEqual(self.here.queue(), before)
        self.here.kill()
        self.here.start()
        self.assertEqual(self.here.queue(), before)


class ReportTest(NodeTest):
    """The next hop refuses for good: the sender is told."""

    WORDS = "550 5.7.1 we know you, and we do not want this"

    def relaying(self, answers: dict[str, str], **settings: str) -> tuple[Node, ScriptedServer]:
        """A node, and a server that answers so."""
        server = ScriptedServer(answers)
        self.addCleanup(server.close)
        here = relay_to(server.port, **settings)
        self.addCleanup(here.close)
        return here.start(), server

    def test_report(self) -> None:
        """A refused mail comes back as multipart/report with the host, its exact words and the original header."""
        for verb in ("RCPT", "MAIL", "END "):
            with self.subTest(verb=verb):
                here, _ = self.relaying({verb: self.WORDS})
                queue_id = send(here.port, plain("unwanted"), ["demo@there.test"], sender="joe@here.test")
                here.wait_event("notification-sent", queue_id=queue_id)
                report = message_from_bytes(here.wait_mail("joe", having=b"delivery-status"), policy=policy.default)
                self.assertEqual(report.get_content_type(), "multipart/report")
                self.assertEqual(report["Return-Path"], "<>")
                self.assertEqual(report["To"], "joe@here.test")
                self.assertEqual(report["Auto-Submitted"], "auto-replied")
                self.assertEqual(report["In-Reply-To"], "<unwanted@client.test>")
                self.assertEqual(report.defects, [])
                text, status, header = report.iter_parts()
                self.assertIn("we know you, and we do not want this", " ".join(text.get_content().split()))
                self.assertEqual(status.get_content_type(), "message/delivery-status")
                parts: Any = status.get_payload()
                fields = parts[1]
                self.assertEqual(fields["Final-Recipient"], "rfc822;demo@there.test")
                self.assertEqual((fields["Action"], fields["Status"]), ("failed", "5.7.1"))
                self.assertIn("127.0.0.1", fields["Remote-MTA"])
                self.assertEqual(" ".join(fields["Diagnostic-Code"].split()), f"smtp; {self.WORDS}")
                self.assertIn("Subject: unwanted", header.get_payload())
                self.assertIn(queue_id, header.get_payload())
                here.wait_queue(0)
                here.close()

    def test_null_reverse_path(self) -> None:
        """A mail with the null reverse-path makes a report to postmaster and nobody else, or to nobody, as the settings
        say; and it leaves the queue."""
        tables = '[queue]\nretry = ["1h"]\ndouble_bounces = false\n'
        for told, settings in ((1, {}), (0, {"tables": tables})):
            with self.subTest(told=told):
                here, server = self.relaying({"RCPT": self.WORDS}, **settings)
                queue_id = send(here.port, plain("unwanted"), ["demo@there.test"], sender="")
                here.wait_event("notification-sent" if told else "notification-dropped", queue_id=queue_id)
                here.wait_queue(0)
                sent = [event["recipient"] for event in here.events("notification-sent")]
                self.assertEqual(sent, ["postmaster@here.test"] * told)
                self.assertIn("MAIL FROM:<>", server.commands)
                self.assertEqual(len([line for line in server.commands if line.startswith("RCPT")]), 1)
                if told:
                    notice = here.wait_mail("joe", having=b"neither delivered nor returned")  # he is postmaster
                    self.assertIn(b"Auto-Submitted: auto-generated\r\n", notice.replace(b"\n", b"\r\n"))
                    self.assertIn(b"Subject: unwanted", notice)
                here.close()

    def test_report_to_elsewhere(self) -> None:
        """The report to a remote sender is relayed with the null reverse-path; when it is refused, too, postmaster is
        told, and that is all."""
        here, server = self.relaying({"RCPT": self.WORDS})
        queue_id = send(here.port, plain("unwanted"), ["demo@there.test"], sender="someone@client.test")
        event = here.wait_event("notification-sent", queue_id=queue_id)
        second = here.wait_event("notification-sent", queue_id=event["dsn_queue_id"])
        self.assertEqual(second["recipient"], "postmaster@here.test")
        here.wait_queue(0)
        self.assertEqual([line for line in server.commands if line.startswith("RCPT")],
                         ["RCPT TO:<demo@there.test>", "RCPT TO:<someone@client.test>"])  # fmt: skip

    def test_temporary(self) -> None:
        """A 4yz is no reason to give up: delayed in the host's words, no report."""
        here, _ = self.relaying({"END ": "451 4.3.0 not now"})
        queue_id = send(here.port, plain("later"), ["demo@there.test"], sender="joe@here.test")
        (mail,) = here.wait_queue(1, "delayed")
        last = mail["recipients"][0]["last"]
        self.assertEqual((last["status"], last["words"]), ("4.3.0", "451 4.3.0 not now"))
        self.assertEqual(here.mails("joe"), [])
        self.assertEqual(here.events("notification-sent"), [])
        self.assertEqual(mail["queue_id"], queue_id)

    def test_lifetime(self) -> None:
        """A mail that is delayed for longer than the queue's lifetime comes back with the last words."""
        tables = '[queue]\nretry = ["1s"]\nlifetime = "3s"\n'
        here, server = self.relaying({"RCPT": "450 4.2.1 not before tomorrow"}, tables=tables)
        send(here.port, plain("old"), ["demo@there.test"], sender="joe@here.test")
        report = here.wait_mail("joe", having=b"delivery-status")
        self.assertIn(b"not before tomorrow", report)
        self.assertIn(b"Action: failed", report)
        here.wait_queue(0)
        self.assertGreaterEqual(sum(line.startswith("RCPT") for line in server.commands), 2)

    def test_notify(self) -> None:
        """NOTIFY=NEVER: no report. NOTIFY=SUCCESS to a host without DSN: a report that it was relayed (RFC 3461)."""
        here, _ = self.relaying({})
        with Client(here.port) as client:
            client.must("MAIL FROM:<joe@here.test> RET=HDRS ENVID=mine+2B1")
            client.must("RCPT TO:<demo@there.test> NOTIFY=SUCCESS ORCPT=rfc822;demo@there.test")
            self.assertTrue(client.data(plain("told")).startswith("250"))
        report = here.wait_mail("joe", having=b"delivery-status")
        self.assertIn(b"Action: relayed", report)
        self.assertIn(b"Original-Envelope-Id: mine+1", report)
        self.assertIn(b"Original-Recipient: rfc822;demo@there.test", report)
        refusing, _ = self.relaying({"RCPT": self.WORDS})
        with Client(refusing.port) as client:
            client.must("MAIL FROM:<joe@here.test>")
            client.must("RCPT TO:<demo@there.test> NOTIFY=NEVER")
            reply = client.data(plain("silent"))
        refusing.wait_event("notification-dropped", queue_id=reply.split()[-1])
        self.assertEqual(refusing.mails("joe"), [])


class OperatorTest(NodeTest):
    """What an operator sees and does beyond one mail: causes, another way, removal with a DSN, freezes."""

    def setUp(self) -> None:
        self.hop = free_port()
        self.here = relay_to(self.hop)
        self.addCleanup(self.here.close)
        self.here.start()

    def waiting(self, subject: str) -> str:
        """A mail that was tried once and is delayed; gives its queue id."""
        queue_id = send(self.here.port, plain(subject), ["demo@there.test"], sender="joe@here.test")
        self.here.wait_queue(1, "delayed")
        return queue_id

    def there(self, port: int) -> Node:
        """Another node that takes mail for the domain."""
        there = self.node(domain="there.test")
        there.port = port
        there.write()
        return there.start()

    def test_look(self) -> None:
        """Causes are listed, counted and explained; every attempt is kept; the mail can be read, octet for octet."""
        queue_id = self.waiting("looked at")
        self.here.command("queue", "retry", queue_id)
        wait_for(lambda: self.here.queue()[0]["recipients"][0]["attempts"] == 2, "another attempt")
        (listed,) = json.loads(self.here.command("queue", "list", "--json", "--cause", "network"))
        self.assertEqual((listed["queue_id"], listed["recipients"][0]["cause"]), (queue_id, "connect-failed"))
        self.assertEqual(json.loads(self.here.command("queue", "list", "--json", "--cause", "rate")), [])
        self.assertEqual(json.loads(self.here.command("queue", "list", "--json", "--older", "1h")), [])
        for by, word in (
            ("destination", f"[127.0.0.1]:{self.hop}"), ("cause", "connect-failed"), ("sender", "joe@here.test"),
            ("state", "delayed"), ("age", "under 15 min"), ("kind", "network"),
        ):  # fmt: skip
            output = self.here.command("queue", "count", "--by", by)
            self.assertIn(word, output)
            self.assertIn("\n1 recipient\n", output)
        (shown,) = json.loads(self.here.command("queue", "show", "--json", queue_id))
        self.assertEqual([one["reason"] for one in shown["tried"]], ["connect-failed"] * 2)
        self.assertLess(shown["tried"][0]["when"], shown["tried"][1]["when"])
        output = self.here.command("queue", "show", "--content", queue_id)
        for words in ("Why:    No connection", "To do:", "Attempts", "Content", "Subject: looked at"):
            self.assertIn(words, output)
        saved = self.here.place / "saved.eml"
        self.here.command("queue", "show", "--save", str(saved), queue_id)
        self.assertTrue(saved.read_bytes().endswith(plain("looked at")))
        frame = self.here.command("queue", "top", "--once")
        for words in (f"[127.0.0.1]:{self.hop}", "1 mail; recipients: 1 delayed", "connect-failed"):
            self.assertIn(words, frame)
        self.assertIn("connect-failed", self.here.command("status"))

    def test_down(self) -> None:
        """While the node is down, count, show, dry runs and reroute work on its spool."""
        queue_id = self.waiting("sleeping")
        self.assertEqual(self.here.stop(), 0)
        self.assertIn("connect-failed", self.here.command("queue", "count", "--by", "cause"))
        self.assertIn("Attempts", self.here.command("queue", "show", queue_id))
        self.assertIn("1 mail", self.here.command("queue", "remove", "--dsn", "--all", "--dry-run"))
        other = free_port()
        there = self.there(other)
        self.here.command("queue", "reroute", f"[127.0.0.1]:{other}", queue_id)
        self.here.start()
        there.wait_mail("demo", having=b"sleeping")
        self.here.wait_queue(0)

    def test_reroute(self) -> None:
        """A mail goes where the operator says; --by-route takes the others back."""
        queue_id = self.waiting("another way")
        other = free_port()
        there = self.there(other)
        self.assertIn("1 mail", self.here.command("queue", "reroute", f"[127.0.0.1]:{other}", queue_id))
        there.wait_mail("demo", having=b"another way")
        self.here.wait_queue(0)
        self.here.wait_event("mail-changed", queue_id=queue_id, reason="rerouted")
        queue_id = self.waiting("and back")
        nobody = free_port()
        self.here.command("queue", "reroute", f"[127.0.0.1]:{nobody}", queue_id)
        wait_for(
            lambda: self.here.queue()[0]["recipients"][0]["destination"] == f"[127.0.0.1]:{nobody}", "the other way"
        )
        self.here.command("queue", "reroute", "--by-route", "--all", "--yes")
        wait_for(
            lambda: self.here.queue()[0]["recipients"][0]["destination"] == f"[127.0.0.1]:{self.hop}", "its own way"
        )

    def test_remove_with_dsn(self) -> None:
        """remove --dsn: the sender has a DSN with the operator's words; held mail too; also when the node was down."""
        first = self.waiting("given up")
        self.here.command("queue", "remove", "--dsn", "--why", "the list was closed", first)
        report = message_from_bytes(self.here.wait_mail("joe", having=b"Subject: given up"), policy=policy.default)
        self.assertEqual(report.get_content_type(), "multipart/report")
        _, status, _ = report.iter_parts()
        parts: Any = status.get_payload()
        self.assertEqual((parts[1]["Action"], parts[1]["Status"]), ("failed", "5.0.0"))
        self.assertIn("the list was closed", report.as_string())
        self.here.wait_event("recipient-failed", queue_id=first, reason="removed")
        self.here.wait_event("mail-finished", queue_id=first)
        self.here.wait_queue(0)
        second = self.waiting("given up asleep")
        self.here.command("queue", "hold", second)
        self.assertEqual(self.here.stop(), 0)
        self.here.command("queue", "remove", "--dsn", second)
        self.here.start()
        self.here.wait_mail("joe", having=b"Subject: given up asleep")
        self.here.wait_queue(0)

    def test_freeze(self) -> None:
        """Nothing goes to a frozen destination, over restarts; a thaw lets it go. Both work while the node is down."""
        queue_id = self.waiting("cold")
        destination = f"[127.0.0.1]:{self.hop}"
        self.here.command("queue", "freeze", destination, "--why", "the disk there is full")
        there = self.there(self.hop)
        self.assertIn("is frozen", self.here.command("queue", "retry", "--destination", destination))
        self.assertIn("the disk there is full", self.here.command("queue", "frozen"))
        self.assertIn("mailnode queue thaw", self.here.command("queue", "show", queue_id))
        self.assertEqual(self.here.stop(), 0)
        self.assertIn("the disk there is full", self.here.command("queue", "frozen"))
        self.here.start()
        self.here.command("queue", "retry", "--all")
        self.here.wait_queue(1, "delayed")
        self.assertEqual(there.mails("demo"), [])
        self.here.command("queue", "thaw", destination)
        there.wait_mail("demo", having=b"cold")
        self.here.wait_queue(0)
        self.assertEqual(self.here.stop(), 0)
        self.here.command("queue", "freeze", destination)
        self.here.start()
        send(self.here.port, plain("later"), ["demo@there.test"], sender="joe@here.test")
        self.here.wait_event("recipient-delayed", reason="frozen")
        self.assertEqual(len(there.mails("demo")), 1)
