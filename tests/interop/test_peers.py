"""Mail to and from the servers that others run: OpenSMTPD and Exim as Debian has them, with and without TLS."""

from __future__ import annotations

from email import message_from_bytes, policy
from typing import Any

from tests.interop.node import Node, NodeTest
from tests.interop.peers import Exim, OpenSMTPD, Peer
from tests.interop.test_relaying import relay_to
from tests.interop.wire import Client, send

FIELDS = (
    b"From: <joe@here.test>\r\nTo: <u@local.test>\r\nDate: Sat, 28 Nov 2026 12:00:00 +0000\r\n"
    b"Message-ID: <%d@here.test>\r\nSubject: number %d\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
)
#: What servers have stumbled over: dots, an empty body, 8-bit text, a long line, no newline in sight for a while.
BODIES = (
    b"Hello\r\n",
    b".\r\n..\r\n...dots\r\n.end\r\n",
    b"\r\n",
    "Grüße aus Ærø\r\n".encode(),
    b"x" * 990 + b"\r\n",
    b"line\r\n" * 20_000,
)


class _PeerTest(NodeTest):
    """What holds for each of them; a class for each server makes tests of it."""

    kind: type[Peer]
    #: Whether its STARTTLS works: Debian's OpenSMTPD 6.8 offers it, and breaks off when it shall sign (OpenSSL 3).
    secures = True

    def peer(self, next_port: int = 1, *, next_tls: bool = False) -> Peer:
        """The other server, started; skipped where it is not there."""
        peer = self.kind(next_port, next_tls=next_tls)
        self.addCleanup(peer.end)
        return peer.begin()

    def relaying(self, peer: Peer, tables: str = "") -> Node:
        """A node that passes everything on to it."""
        here = relay_to(peer.port, tables=tables)
        self.addCleanup(here.close)
        return here.start()

    def to(self) -> None:
        """What we relay lies in its Maildir, octet for octet; it was sent with TLS, or without it where that broke."""
        peer = self.peer()
        here = self.relaying(peer)
        for number, body in enumerate(BODIES):
            content = FIELDS % (number, number) + body
            queue_id = send(here.port, content, ["u@local.test"], parameters=" BODY=8BITMIME")
            relayed = here.wait_event("recipient-relayed", queue_id=queue_id)
            self.assertIn("TLSv1.3" if self.secures else "", relayed["tls"])
            mail = peer.wait_mail(b"<%d@here.test>" % number)
            self.assertTrue(mail.endswith(b"\n\n" + body.replace(b"\r\n", b"\n")), mail[-200:])
            self.assertIn(b"id " + queue_id.encode(), mail)
        self.assertEqual(here.queue(), [])
        broken = [event["reason"] for event in here.events("attempt-failed")]
        self.assertEqual(set(broken), set() if self.secures else {"tls-failed"})

    def refused(self) -> None:
        """It does not know the recipient: its very words stand in the DSN, and in the machine part 550 or 5.1.1."""
        here = self.relaying(self.peer())
        send(here.port, FIELDS % (1, 1) + b"Hello\r\n", ["nobody@nowhere.test"], sender="joe@here.test")
        report = message_from_bytes(here.wait_mail("joe", having=b"nobody@nowhere.test"), policy=policy.default)
        self.assertEqual(report.get_content_type(), "multipart/report")
        machine: Any = list(report.walk())[4]
        self.assertEqual((machine["Action"], machine["Final-Recipient"]), ("failed", "rfc822;nobody@nowhere.test"))
        self.assertRegex(machine["Diagnostic-Code"], r"smtp; ?55\d")
        self.assertRegex(machine["Status"], r"5\.\d\.\d")

    def come(self) -> None:
        """What it relays comes into our mailbox, octet for octet."""
        here = self.node(domain="remote.test").start()
        peer = self.peer(here.port)
        for number, body in enumerate(BODIES):
            with Client(peer.port) as client:
                client.open(["joe@remote.test"], "someone@client.test", " BODY=8BITMIME")
                self.assertRegex(client.data(FIELDS % (number, number) + body), "^250")
            mail = here.wait_mail("joe", having=b"<%d@here.test>" % number)
            self.assertTrue(mail.endswith(b"\n\n" + body.replace(b"\r\n", b"\n")), mail[-200:])
        (session, *_) = here.events("mail-accepted")
        self.assertEqual(session["tls"], "")

    def come_with_tls(self) -> None:
        """The same by STARTTLS."""
        here = self.node(domain="remote.test").start()
        peer = self.peer(here.port, next_tls=True)
        with Client(peer.port) as client:
            client.open(["joe@remote.test"])
            client.data(FIELDS % (7, 7) + b"Hello\r\n")
        here.wait_mail("joe", having=b"<7@here.test>")
        self.assertIn("TLSv1.3", here.wait_event("mail-accepted")["tls"])

    def delayed(self) -> None:
        """While it is down mail waits; when it is back, an operator's retry delivers it."""
        peer = self.peer()
        here = self.relaying(peer)
        process = peer.process
        assert process is not None
        peer.stop()
        queue_id = send(here.port, FIELDS % (3, 3) + b"Later\r\n", ["u@local.test"])
        here.wait_event("recipient-delayed", queue_id=queue_id, reason="connect-failed")
        peer.begin()
        here.command("queue", "retry", queue_id)
        self.assertIn(b"Later", peer.wait_mail(b"<3@here.test>"))


class OpenSMTPDTest(_PeerTest):
    """OpenSMTPD."""

    kind = OpenSMTPD
    secures = False
    test_to, test_refused, test_delayed = _PeerTest.to, _PeerTest.refused, _PeerTest.delayed
    test_from, test_from_with_tls = _PeerTest.come, _PeerTest.come_with_tls


class EximTest(_PeerTest):
    """Exim."""

    kind = Exim
    test_to, test_refused, test_delayed = _PeerTest.to, _PeerTest.refused, _PeerTest.delayed
    test_from, test_from_with_tls = _PeerTest.come, _PeerTest.come_with_tls
