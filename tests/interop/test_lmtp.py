"""Mail for a local domain goes into Dovecot by LMTP, over a unix socket and over TCP: real processes."""

from __future__ import annotations

from functools import partial

from tests.interop.dovecot import Dovecot
from tests.interop.mails import SAMPLES, plain
from tests.interop.node import Node, NodeTest, wait_for
from tests.interop.wire import Client, send

PEOPLE = ("joe@store.test", "ann@store.test", "ghost@store.test")


class DovecotTest(NodeTest):
    """A node whose local domain has a message store."""

    def setUp(self) -> None:
        self.store = Dovecot(*PEOPLE[:2]).begin()
        self.addCleanup(self.store.end)

    def here(self, hop: str) -> Node:
        """A node with the store for store.test; ghost is an account here that the store does not know."""
        people = "".join(f'[[account]]\naddress = "{who}"\n' for who in PEOPLE)
        node = self.node(tables=f'[[domain]]\nname = "store.test"\nlmtp = "{hop}"\n{people}')
        return node.start()

    def wait_mail(self, who: str, having: bytes) -> bytes:
        """Wait for a mail in somebody's mailbox there."""
        return wait_for(
            lambda: [mail for mail in self.store.mails(who) if having in mail], f"a mail for {who}: {self.store.log()}"
        )[0]

    def has(self, number: int) -> bool:
        """Whether joe has so many mails there."""
        return len(self.store.mails("joe")) == number

    def test_delivered(self) -> None:
        """Over both ways the mail lies in the mailbox, with the reverse-path in Return-Path; each is delivered once,
        however odd its content."""
        for number, hop in enumerate((f"unix:{self.store.socket}", f"[127.0.0.1]:{self.store.port}"), 1):
            node = self.here(hop)
            for sample in SAMPLES:
                parameters = " BODY=8BITMIME" if sample.eight_bit else ""
                with Client(node.port) as client:
                    client.open(["joe@store.test"], parameters=parameters)
                    self.assertTrue(client.data(sample.content).startswith("250 "))
            node.wait_queue(0)
            wanted = number * len(SAMPLES)
            wait_for(partial(self.has, wanted), "all mails")
            delivered = node.events("recipient-delivered")
            self.assertEqual({event["destination"] for event in delivered}, {hop})
            self.assertEqual(len(delivered), len(SAMPLES))
            mail = self.wait_mail("joe", b"Subject: dots")
            self.assertTrue(mail.startswith(b"Return-Path: <someone@client.test>\n"))
            self.assertIn(b"\n.\n..\n...\n", mail)
            self.assertEqual(node.stop(), 0)

    def test_each_recipient(self) -> None:
        """One is delivered to, one is unknown there and fails, one cannot be stored now and waits: in one transaction,
        each by its own reply; who has the mail gets it no second time."""
        (self.store.place / "mail" / "ann").write_text("in the way", "ascii")
        node = self.here(f"unix:{self.store.socket}")
        queue_id = send(node.port, plain("each"), list(PEOPLE), sender="joe@store.test")
        event = node.wait_event("recipient-failed", queue_id=queue_id)
        self.assertEqual((event["recipient"], event["reason"]), ("ghost@store.test", "remote-refused"))
        self.assertIn("User doesn't exist", event["words"])
        event = node.wait_event("recipient-delayed", queue_id=queue_id)
        self.assertEqual((event["recipient"], event["reason"]), ("ann@store.test", "remote-delayed"))
        self.wait_mail("joe", b"Subject: each")
        self.wait_mail("joe", b"User doesn't exist")  # the DSN about ghost
        (self.store.place / "mail" / "ann").unlink()
        node.command("queue", "retry", queue_id)
        self.wait_mail("ann", b"Subject: each")
        node.wait_event("mail-finished", queue_id=queue_id)
        self.assertEqual(sum(b"Subject: each\n" in mail.partition(b"\n\n")[0] for mail in self.store.mails("joe")), 1)
        self.assertEqual(node.stop(), 0)

    def test_delivered_report(self) -> None:
        """Who asks for success (RFC 3461) is told that the mail was delivered: it has gone no further."""
        node = self.here(f"unix:{self.store.socket}")
        with Client(node.port) as client:
            client.must("MAIL FROM:<joe@here.test>")
            client.must("RCPT TO:<ann@store.test> NOTIFY=SUCCESS")
            self.assertTrue(client.data(plain("report")).startswith("250 "))
        report = node.wait_mail("joe", b"Action: delivered")
        self.assertIn(b"Final-Recipient: rfc822;ann@store.test", report)
        self.assertEqual(node.stop(), 0)

    def test_store_away(self) -> None:
        """While the store is away mail waits; none goes back."""
        node = self.here(f"unix:{self.store.place}/away")
        queue_id = send(node.port, plain("away"), ["joe@store.test"])
        event = node.wait_event("recipient-delayed", queue_id=queue_id)
        self.assertEqual(event["reason"], "connect-failed")
        self.assertEqual(node.events("recipient-failed"), [])
        self.assertEqual(node.stop(), 0)
