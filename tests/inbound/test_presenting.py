"""Tests of twisted_mail_node.inbound.presenting: the PROXY protocol and XCLIENT in sessions, and who is counted."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.inbound.receiving import Peer, TestReceiver, Thoughtful, every_byte
from tests.smtp.test_proxy import ADDRESSES_4, ADDRESSES_6, block, value
from twisted_mail_node.events import (
    ClientPresented,
    CommandRefused,
    MailAccepted,
    PresentingFailed,
    SessionClosed,
    SessionOpened,
    SessionRefused,
)
from twisted_mail_node.inbound.connection import Connection
from twisted_mail_node.inbound.presenting import PROXY_TIME
from twisted_mail_node.policy.verdict import Refuse
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.reply import Reply

BALANCER = "10.0.0.1"
FILTER = "10.0.0.2"
CLIENT = "192.0.2.77"
LINE = b"PROXY TCP4 192.0.2.77 198.51.100.7 40000 25\r\n"
BLOCK = block(body=bytes([192, 0, 2, 77]) + ADDRESSES_4[4:])
MAIL = ("MAIL FROM:<a@elsewhere.example>", "RCPT TO:<joe@example.org>", "DATA", "Subject: x", "", "text", ".")


def behind_balancer(**more: Any) -> TestReceiver:
    """A receiver with a balancer before it."""
    return TestReceiver(proxy_from=["10.0.0.1", "2001:db8:1::/48"], **more)


def behind_filter(**more: Any) -> TestReceiver:
    """A receiver with a filter before it."""
    return TestReceiver(xclient_from=[FILTER], **more)


class ProxyTests(SynchronousTestCase):
    """The PROXY protocol."""

    def test_client(self) -> None:
        """Whatever asks for the client's address gets that of the header: events, relay_from, policies, Received."""
        for header in (LINE, BLOCK):
            policy = Thoughtful()
            receiver = behind_balancer(relay_from=["192.0.2.77"], policies=[policy])
            peer = receiver.connect(BALANCER)
            self.assertEqual(peer.said(), "")
            peer.send(header)
            self.assertTrue(peer.said().startswith("220 mx.example.org"))
            peer.say("EHLO client.example.net", *MAIL[:1], "RCPT TO:<a@far.example>", *MAIL[1:])
            self.assertEqual(len(receiver.queue.mails), 1)
            mail = receiver.queue.mails[0]
            self.assertEqual((mail.envelope.client, mail.recipients), (CLIENT, ["a@far.example", "joe@example.org"]))
            self.assertIn(b"([192.0.2.77])", mail.header)
            self.assertEqual(receiver.of(ClientPresented)[0][1:], (CLIENT, BALANCER, "PROXY", ""))
            self.assertEqual({getattr(event, "client", CLIENT) for event in receiver.events}, {CLIENT})
            self.assertEqual(receiver.of(SessionOpened)[0].client, CLIENT)

    def test_cut(self) -> None:
        """However it is cut, and whatever follows it in the same packet, nothing is lost and nothing is said before."""
        for header in (LINE, BLOCK):
            octets = header + b"EHLO client.example.net\r\nNOOP\r\n"
            for cuts in ([], every_byte(octets), [len(header)], [len(header) - 1], [1, len(header) + 3]):
                peer = behind_balancer().connect(BALANCER)
                peer.send(octets, cuts)
                self.assertEqual(peer.codes(), [220, 250, 250], cuts)

    def test_nobody(self) -> None:
        """LOCAL and UNKNOWN: the peer speaks for itself, and keeps its own address."""
        for header in (b"PROXY UNKNOWN\r\n", block(0x20, 0, b""), block(0x21, 0, b"")):
            receiver = behind_balancer(relay_from=["10.0.0.1"])
            peer = receiver.connect(BALANCER)
            peer.send(header)
            self.assertEqual(peer.codes(), [220])
            self.assertEqual(receiver.of(SessionOpened)[0].client, BALANCER)
            self.assertEqual(receiver.of(ClientPresented), [])

    def test_tls_is_told(self) -> None:
        """The balancer's own TLS is told in the event, and gives nobody any right."""
        tls = value(0x20, b"\x01\0\0\0\0" + value(0x21, b"TLSv1.3"))
        receiver = behind_balancer(kind="submission", tls_mode="starttls")
        peer = receiver.connect(BALANCER)
        peer.send(block(body=ADDRESSES_4 + tls) + b"EHLO c\r\n")
        said = peer.said()
        self.assertEqual(receiver.of(ClientPresented)[0].tls, "TLSv1.3")
        self.assertIn("STARTTLS", said)
        self.assertNotIn("AUTH", said)

    def test_wrong(self) -> None:
        """A peer of proxy_from that begins otherwise is cut off without a word; the event says why."""
        for octets in (b"EHLO client.example.net\r\n", b"PROXY TCP4 x y 1 2\r\n", b"\x16\x03\x01", b"\r\n\r\n\r\n",
                       block(0x21, 0x31, b"x" * 216), LINE.replace(b"\r", b"")):  # fmt: skip
            receiver = behind_balancer()
            peer = receiver.connect(BALANCER)
            peer.send(octets + b"MAIL FROM:<>\r\n")
            self.assertEqual((peer.said(), peer.closed, receiver.connections), ("", True, 0))
            (event,) = receiver.of(PresentingFailed)
            self.assertEqual((event.client, event.reason), (BALANCER, Reason.BAD_PROXY))
            self.assertTrue(event.words)
            self.assertEqual(receiver.of(SessionClosed)[0].reason, Reason.BAD_PROXY)
            self.assertEqual(receiver.of(SessionOpened), [])

    def test_late(self) -> None:
        """The header has five seconds in all, however many octets of it come."""
        for octet in (b"", b"P"):
            receiver = behind_balancer()
            peer = receiver.connect(BALANCER)
            for second in range(int(PROXY_TIME)):
                peer.send(octet and LINE[second : second + 1])
                receiver.wait(1)
                self.assertFalse(peer.closed)
            receiver.wait(2)
            self.assertEqual((peer.said(), peer.closed, receiver.connections), ("", True, 0))
            self.assertIn("within 5 seconds", receiver.of(PresentingFailed)[0].words)
            self.assertEqual(receiver.of(SessionClosed)[0].reason, Reason.BAD_PROXY)

    def test_gone(self) -> None:
        """A peer that connects and goes, as health checks do, is no failure."""
        receiver = behind_balancer()
        receiver.connect(BALANCER).vanish()
        self.assertEqual(receiver.of(PresentingFailed), [])
        self.assertEqual(receiver.of(SessionClosed)[0].reason, Reason.CONNECTION_LOST)

    def test_stopping(self) -> None:
        """When the node stops nothing is said to a peer whose client is not known yet."""
        receiver = behind_balancer()
        peer = receiver.connect(BALANCER)
        stopped = receiver.factory.stop(5)
        peer.settle()
        self.successResultOf(stopped)
        self.assertEqual((peer.said(), peer.closed), ("", True))
        self.assertEqual(receiver.of(SessionClosed)[0].reason, Reason.SHUTTING_DOWN)

    def test_before_implicit_tls(self) -> None:
        """What follows the header in its packet is the beginning of the handshake."""
        for header in (LINE, BLOCK):
            receiver = behind_balancer(tls_mode="implicit")
            peer = receiver.connect(BALANCER)
            peer.send(header + b"\x16\x03\x01hello")
            self.assertEqual((receiver.tls.firsts, peer.said()), ([b"\x16\x03\x01hello"], ""))
            peer.secure()
            self.assertEqual(peer.codes(), [220])
            self.assertEqual(receiver.of(SessionOpened)[0].client, CLIENT)

    def test_before_starttls(self) -> None:
        """STARTTLS behind a header works as ever."""
        receiver = behind_balancer(tls_mode="starttls")
        peer = receiver.connect(BALANCER)
        peer.send(LINE + b"EHLO c\r\n")
        self.assertIn("STARTTLS", peer.said())
        peer.say("STARTTLS")
        peer.secure()
        self.assertTrue(peer.say("EHLO c").startswith("250"))

    def test_twice(self) -> None:
        """One header is enough: a second is another protocol than SMTP."""
        peer = behind_balancer().connect(BALANCER)
        peer.send(LINE + LINE)
        self.assertEqual((peer.codes(), peer.closed), ([220, 421], True))


class XClientTests(SynchronousTestCase):
    """XCLIENT."""

    def session(self, receiver: TestReceiver, *lines: str) -> Peer:
        """A session of the filter."""
        peer = receiver.connect(FILTER)
        peer.say("EHLO filter.example.org", *lines)
        return peer

    def test_client(self) -> None:
        """The session begins anew, as the client's: greeting, events, relay_from, Received."""
        receiver = behind_filter(relay_from=[CLIENT])
        peer = receiver.connect(FILTER)
        self.assertIn("250-XCLIENT NAME ADDR PORT PROTO HELO DESTADDR DESTPORT\r\n", peer.say("EHLO filter"))
        self.assertEqual(peer.say(f"XCLIENT NAME=c.example ADDR={CLIENT} PORT=5"), "220 mx.example.org ESMTP\r\n")
        self.assertTrue(peer.say("MAIL FROM:<>").startswith("503"))
        peer.say("EHLO client.example.net", *MAIL[:1], "RCPT TO:<a@far.example>", *MAIL[1:])
        mail = receiver.queue.mails[0]
        self.assertEqual((mail.envelope.client, mail.envelope.helo), (CLIENT, "client.example.net"))
        self.assertIn(b"from client.example.net ([192.0.2.77])", mail.header)
        self.assertEqual(receiver.of(MailAccepted)[0].client, CLIENT)
        self.assertEqual(receiver.of(ClientPresented)[0][1:], (CLIENT, FILTER, "XCLIENT", ""))
        self.assertEqual(len(receiver.of(SessionOpened)), 1)

    def test_rights_go_with_the_client(self) -> None:
        """A filter in relay_from loses its right when it says that it speaks for another."""
        receiver = behind_filter(relay_from=[FILTER])
        peer = self.session(receiver, f"XCLIENT ADDR={CLIENT}", "EHLO c", "MAIL FROM:<>")
        peer.said()
        self.assertTrue(peer.say("RCPT TO:<a@far.example>").startswith("550"))

    def test_again(self) -> None:
        """It may be said again for the next client, for its right is the filter's own; and no client's."""
        receiver = behind_filter()
        peer = self.session(receiver)
        for client in (CLIENT, "2001:db8::9", FILTER):
            text = f"IPV6:{client}" if ":" in client else client
            self.assertTrue(peer.say(f"XCLIENT ADDR={text}").startswith("220"), client)
            self.assertIn("XCLIENT", peer.say("EHLO c"))
        self.assertEqual([event.client for event in receiver.of(ClientPresented)], [CLIENT, "2001:db8::9", FILTER])
        self.assertEqual({event.peer for event in receiver.of(ClientPresented)}, {FILTER})

    def test_without_an_address(self) -> None:
        """Without ADDR the client stays; an unknown one is nowhere named."""
        receiver = behind_filter(relay_from=["10.0.0.0/8"])
        peer = self.session(receiver, "XCLIENT NAME=c.example", "EHLO c", "MAIL FROM:<>")
        self.assertTrue(peer.say("RCPT TO:<a@far.example>").startswith("250"))
        peer.say("RSET", "XCLIENT ADDR=[UNAVAILABLE]", "EHLO c", "MAIL FROM:<>")
        self.assertTrue(peer.say("RCPT TO:<a@far.example>").startswith("550"))
        self.assertEqual(receiver.of(ClientPresented)[0].client, "unknown")

    def test_helo(self) -> None:
        """HELO and PROTO are known to policies until the client says EHLO itself."""
        receiver = behind_filter()
        peer = self.session(receiver, f"XCLIENT ADDR={CLIENT} HELO=c.example PROTO=ESMTP")
        assert isinstance(peer.protocol, Connection)
        self.assertEqual((peer.protocol.asked.helo, peer.protocol.asked.extended), ("c.example", True))
        peer.say("HELO d.example")
        self.assertEqual((peer.protocol.asked.helo, peer.protocol.asked.extended), ("d.example", False))

    def test_forgotten(self) -> None:
        """Who had signed in, and what policies had noted, is forgotten; TLS stays."""
        receiver = behind_filter(kind="submission", tls_mode="starttls")
        peer = receiver.secured(client=FILTER)
        peer.said()
        assert isinstance(peer.protocol, Connection)
        asked = peer.protocol.asked
        asked.notes["x"], asked.submitter = 1, receiver.authentication  # type: ignore[assignment]
        self.assertTrue(peer.say(f"XCLIENT ADDR={CLIENT}").startswith("220"))
        new = peer.protocol.asked
        self.assertEqual((new.notes, new.submitter, new.tls), ({}, None, asked.tls))
        said = peer.say("EHLO c")
        self.assertIn("250-AUTH ", said)
        self.assertNotIn("STARTTLS", said)

    def test_then_starttls(self) -> None:
        """STARTTLS may come after it; the right to say XCLIENT is still the filter's."""
        receiver = behind_filter(tls_mode="starttls")
        peer = self.session(receiver, f"XCLIENT ADDR={CLIENT}", "EHLO c")
        peer.say("STARTTLS")
        peer.secure()
        self.assertIn("XCLIENT", peer.say("EHLO c"))

    def test_pipelined(self) -> None:
        """What follows in the same packet counts after it."""
        receiver = behind_filter()
        peer = receiver.connect(FILTER)
        peer.say(f"XCLIENT ADDR={CLIENT}", "EHLO c", *MAIL)
        self.assertEqual([mail.envelope.client for mail in receiver.queue.mails], [CLIENT])

    def test_refused(self) -> None:
        """In a transaction 503, malformed 501, for others 502; the session goes on as it was."""
        receiver = behind_filter()
        peer = self.session(receiver, "MAIL FROM:<>")
        peer.said()
        self.assertTrue(peer.say(f"XCLIENT ADDR={CLIENT}").startswith("503 5.5.1"))
        peer.say("RSET")
        for text in ("", "ADDR=x", "LOGIN=joe@example.org", f"ADDR={CLIENT} ADDR={CLIENT}"):
            self.assertTrue(peer.say(f"XCLIENT {text}").startswith("501 5.5.4"), text)
        self.assertEqual(receiver.of(CommandRefused)[-1].reason, Reason.BAD_PROXY)
        self.assertTrue(peer.say("MAIL FROM:<>").startswith("250"))
        for client in ("192.0.2.9", "127.0.0.1", "10.0.0.3"):
            stranger = receiver.connect(client)
            stranger.said()
            self.assertTrue(stranger.say(f"XCLIENT ADDR={CLIENT}").startswith("502 5.5.1"))
            self.assertNotIn("XCLIENT", stranger.say("EHLO c"))
            self.assertTrue(stranger.say(f"XCLIENT ADDR={CLIENT}").startswith("502 5.5.1"))
        self.assertEqual(receiver.of(ClientPresented), [])

    def test_flood(self) -> None:
        """It is bounded like other commands that bring no mail."""
        receiver = behind_filter(errors=3)
        peer = self.session(receiver)
        for _ in range(20):
            peer.say(f"XCLIENT ADDR={CLIENT}")
        self.assertTrue(peer.closed)
        self.assertEqual(receiver.of(SessionClosed)[0].reason, Reason.TOO_MANY_ERRORS)

    def test_policy(self) -> None:
        """Policies are asked about the client as if it had connected."""
        policy = Thoughtful("connect")
        receiver = behind_filter(policies=[policy])
        peer = receiver.connect(FILTER)
        policy.decide()
        peer.say("EHLO c", f"XCLIENT ADDR={CLIENT}")
        policy.decide(Refuse(Reply.make(550, "5.7.1", "Not you")))
        peer.settle()
        self.assertTrue(peer.said().endswith("554 5.7.1 Not you\r\n"))
        self.assertTrue(peer.closed)
        self.assertEqual(receiver.of(SessionRefused)[0].client, CLIENT)

    def test_behind_a_balancer(self) -> None:
        """Behind a balancer the client's own address decides who may say it, not the balancer's."""
        receiver = TestReceiver(proxy_from=[BALANCER], xclient_from=[BALANCER, "203.0.113.5"])
        peer = receiver.connect(BALANCER)
        peer.send(LINE)
        peer.said()
        self.assertTrue(peer.say("XCLIENT ADDR=127.0.0.1").startswith("502"))
        peer = receiver.connect(BALANCER)
        peer.send(LINE.replace(b"192.0.2.77", b"203.0.113.5"))
        peer.said()
        self.assertTrue(peer.say("XCLIENT ADDR=127.0.0.1").startswith("220"))


class CountTests(SynchronousTestCase):
    """Who is counted."""

    def test_balancer(self) -> None:
        """A balancer counts among all connections only, its clients each by their own address."""
        receiver = behind_balancer(connections_per_address=2, connections=6)
        peers = [receiver.connect(BALANCER) for _ in range(5)]
        for peer in peers[:3]:
            peer.send(LINE)
        self.assertEqual([peer.codes() for peer in peers[:3]], [[220], [220], [421]])
        self.assertEqual(receiver.of(SessionRefused)[0][2:4], (CLIENT, Reason.TOO_MANY_FROM_ADDRESS))
        self.assertEqual(receiver.connections, 4)
        peers[3].send(block(family=0x21, body=ADDRESSES_6))
        self.assertEqual(peers[3].codes(), [220])
        self.assertEqual(receiver.connect("198.51.100.1").codes(), [220])
        self.assertEqual(receiver.connect(CLIENT).codes(), [421])
        receiver.connect("198.51.100.1")
        self.assertTrue(receiver.connect(BALANCER).said().startswith("421 4.3.2"))
        for peer in peers:
            peer.vanish()
        self.assertEqual(receiver.connect(CLIENT).codes(), [220])

    def test_implicit(self) -> None:
        """A client too many that waits for a handshake is cut off without a word."""
        receiver = behind_balancer(connections_per_address=1, tls_mode="implicit")
        for closed in (False, True):
            peer = receiver.connect(BALANCER)
            peer.send(LINE)
            self.assertEqual((peer.said(), peer.closed), ("", closed))

    def test_filter(self) -> None:
        """XCLIENT counts likewise; the same connection for a client that it is counted for is not one more."""
        receiver = behind_filter(connections_per_address=1)
        peers = [receiver.connect(FILTER) for _ in range(3)]
        for peer in peers:
            peer.said()
        for _ in range(2):
            self.assertTrue(peers[0].say(f"XCLIENT ADDR={CLIENT}").startswith("220"))
        self.assertTrue(peers[1].say("XCLIENT ADDR=192.0.2.78").startswith("220"))
        self.assertTrue(peers[1].say(f"XCLIENT ADDR={CLIENT}").startswith("421 4.7.0"))
        self.assertTrue(peers[0].say("XCLIENT ADDR=[UNAVAILABLE]").startswith("220"))
        self.assertTrue(peers[2].say(f"XCLIENT ADDR={CLIENT}").startswith("220"))
        self.assertEqual(receiver.connections, 2)

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=40))
    def test_balance(self, steps: list[tuple[int, int]]) -> None:
        """Whatever peers come, say, and whoever goes: what was counted is given back, and nothing else."""
        receiver = TestReceiver(
            proxy_from=[BALANCER], xclient_from=[FILTER], connections_per_address=2, connections=6, errors=1000
        )
        admission = receiver.factory.admission
        peers: list[Peer] = []
        clients = ["192.0.2.1", "192.0.2.2", "192.0.2.3", CLIENT]
        for what, which in steps:
            there = [peer for peer in peers if not peer.wire.lost]
            peer = there[which % len(there)] if there else None
            if what == 0 or peer is None:
                peers.append(receiver.connect([BALANCER, FILTER, clients[0], CLIENT][which]))
            elif what == 1:
                peer.send(LINE.replace(b"192.0.2.77", clients[which].encode()))
            elif what == 2:
                peer.say(f"XCLIENT ADDR={clients[which]}")
            elif what == 3:
                peer.say("XCLIENT ADDR=[UNAVAILABLE]")
            elif what == 4:
                peer.send(b"QUIT\r\n")
            else:
                peer.vanish()
            there = [peer for peer in peers if not peer.wire.lost]
            self.assertEqual(receiver.connections, len(there))
            self.assertLessEqual(sum(admission._of.values()), len(there))
        for peer in peers:
            peer.vanish()
        self.assertEqual((receiver.connections, admission._of), (0, {}))
