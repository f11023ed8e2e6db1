"""Attacks by who somebody says to speak for (T29): PROXY and XCLIENT from peers that nobody named, and endless ones."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.attacks.wire import Sender, in_any_packets
from tests.inbound.receiving import TestReceiver
from tests.smtp.test_proxy import block
from twisted_mail_node.events import ClientPresented, PresentingFailed, SessionClosed
from twisted_mail_node.inbound.presenting import PROXY_TIME
from twisted_mail_node.reasons import Reason

LINE = b"PROXY TCP4 10.1.2.3 198.51.100.7 40000 25\r\n"
BLOCK = block(body=bytes([10, 1, 2, 3, 198, 51, 100, 7, 0, 1, 0, 25]))
#: What would be relayed if the header were believed: 10.1.2.3 is in relay_from.
MAIL = b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<x@elsewhere.example>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\n"


def receivers() -> list[TestReceiver]:
    """Listeners whose settings name nobody, or somebody else; with STARTTLS and without TLS."""
    return [
        TestReceiver(relay_from=["10.0.0.0/8"], tls_mode=mode, proxy_from=proxies, xclient_from=proxies, kind=kind)
        for mode in ("none", "starttls")
        for proxies in ([], ["203.0.113.1"])
        for kind in ("mx", "submission")
    ]


class StrangerTests(SynchronousTestCase):
    """Peers that nobody named."""

    @in_any_packets
    def test_proxy_line(self, sender: Sender) -> None:
        """A PROXY line is another protocol: one 421, closed at once, and nothing behind it runs."""
        for receiver in receivers():
            for line in (LINE, b"PROXY UNKNOWN\r\n", b"PROXY \r\n"):
                peer = receiver.connect()
                peer.said()
                self.assertEqual(sender.send(peer, line + MAIL), [421])
                self.assertTrue(peer.closed)
            self.assertEqual((receiver.queue.begun, receiver.connections), ([], 0))
            self.assertEqual({event.reason for event in receiver.of(SessionClosed)}, {Reason.NOT_SMTP})
            self.assertEqual(receiver.of(ClientPresented), [])

    @in_any_packets
    def test_proxy_block(self, sender: Sender) -> None:
        """A block of version 2 ends at its third line: two empty ones are wrong commands, the octet NUL is no SMTP."""
        for receiver in receivers():
            peer = receiver.connect()
            peer.said()
            self.assertEqual(sender.send(peer, BLOCK + MAIL), [500, 500, 421])
            self.assertTrue(peer.closed)
            self.assertEqual((receiver.queue.begun, receiver.connections), ([], 0))
            self.assertEqual(receiver.of(SessionClosed)[0].reason, Reason.NOT_SMTP)

    def test_implicit(self) -> None:
        """Where TLS begins at once a header is a broken handshake, and nothing is said in clear."""
        for octets in (LINE, BLOCK, MAIL, b"POST / HTTP/1.1\r\n\r\n"):
            receiver = TestReceiver(relay_from=["10.0.0.0/8"], tls_mode="implicit")
            peer = receiver.connect()
            peer.send(octets)
            self.assertEqual((peer.said(), peer.closed), ("", True))
            self.assertEqual(receiver.of(SessionClosed)[0].reason, Reason.HANDSHAKE_FAILED)

    @in_any_packets
    def test_http(self, sender: Sender) -> None:
        """T13: another protocol on a listener with STARTTLS is cut off as on one without."""
        for first in (b"POST / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.0\r\n\r\n"):
            receiver = TestReceiver(tls_mode="starttls", kind="submission")
            peer = receiver.connect()
            peer.said()
            self.assertEqual(sender.send(peer, first + MAIL), [421])
            self.assertTrue(peer.closed)

    @in_any_packets
    def test_xclient(self, sender: Sender) -> None:
        """XCLIENT is not known to them, before EHLO and after, in any case; nobody gets a right by it."""
        for receiver in receivers():
            peer = receiver.connect()
            peer.said()
            octets = b"XCLIENT ADDR=10.1.2.3\r\nEHLO c\r\nxclient addr=10.1.2.3 LOGIN=joe@example.org\r\n"
            self.assertEqual(sender.send(peer, octets), [502, 250, 502])
            self.assertNotIn("XCLIENT", peer.say("EHLO c"))
            sender.send(peer, b"MAIL FROM:<>\r\n")
            self.assertIn(sender.send(peer, b"RCPT TO:<x@elsewhere.example>\r\n")[0], (550, 530, 503))
            self.assertEqual(receiver.of(ClientPresented), [])


class NamedTests(SynchronousTestCase):
    """Named peers that are broken, or somebody who sits where they should."""

    @in_any_packets
    def test_no_header(self, sender: Sender) -> None:
        """A peer of proxy_from that sends no header is cut off without a word: mail is not taken in its own name."""
        for octets in (MAIL, b"\x16\x03\x01", block(0x21, 0x31, b"x" * 216) + MAIL):
            receiver = TestReceiver(relay_from=["10.0.0.0/8"], proxy_from=["10.0.0.1"])
            peer = receiver.connect("10.0.0.1")
            self.assertEqual(sender.send(peer, octets), [])
            self.assertTrue(peer.closed)
            self.assertEqual((receiver.queue.begun, receiver.connections), ([], 0))

    def test_endless(self) -> None:
        """A header without an end is cut off at its longest, one that drips after its time."""
        for octets in (b"PROXY UNKNOWN " + b"x" * 100_000, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff" + b"x" * 100_000):
            receiver = TestReceiver(proxy_from=["10.0.0.1"])
            peer = receiver.connect("10.0.0.1")
            peer.send(octets, range(1, 200))
            self.assertEqual((peer.said(), peer.closed), ("", True))
        receiver = TestReceiver(proxy_from=["10.0.0.1"])
        peer = receiver.connect("10.0.0.1")
        for octet in b"PROXY UNK":
            if not peer.closed:
                peer.send(bytes([octet]))
            receiver.wait(1)
        self.assertTrue(peer.closed)
        self.assertLessEqual(receiver.of(SessionClosed)[0].seconds, PROXY_TIME + 2)
        self.assertEqual(len(receiver.of(PresentingFailed)), 1)

    @in_any_packets
    def test_hidden_lines(self, sender: Sender) -> None:
        """No value of XCLIENT makes a second line in a header field or a log."""
        for value in ("a+0D+0AX:+20y", "a+00", "a+1B[2J", "a+C2+85b", "a+E2+80+A8b"):
            receiver = TestReceiver(xclient_from=["10.0.0.1"], errors=100)
            peer = receiver.connect("10.0.0.1")
            peer.said()
            (code,) = sender.send(peer, f"XCLIENT HELO={value} ADDR=192.0.2.1\r\n".encode())
            self.assertEqual(code, 501, value)
