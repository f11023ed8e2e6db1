"""Attacks on memory, time and patience (T32 to T35). No real time passes; processor time is measured."""

from __future__ import annotations

import time
import tracemalloc

from twisted.trial.unittest import SynchronousTestCase

from tests.inbound.receiving import Peer, TestReceiver
from twisted_mail_node.events import SessionClosed
from twisted_mail_node.message.header import count
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.server import COMMAND_LINE_MAX, GARBAGE_MAX

MAIL = ("MAIL FROM:<a@elsewhere.example>", "RCPT TO:<joe@example.org>", "DATA")
#: What the network gives at once.
PACKET = 65536
#: Seconds of processor time one turn of the reactor may take.
TURN = 0.05
#: A measurement above TURN is repeated so often before it counts: other programs disturb it.
AGAIN = 3


class TurnCase(SynchronousTestCase):
    """Measures turns."""

    def send(self, peer: Peer, octets: bytes, packet: int = PACKET) -> float:
        """Send in packets; gives the processor time of the longest turn."""
        longest = 0.0
        for at in range(0, len(octets), packet):
            began = time.thread_time()
            peer.send(octets[at : at + packet])
            longest = max(longest, time.thread_time() - began)
        return longest

    def quick(self, receiver: TestReceiver, octets: bytes, code: int, packet: int = PACKET) -> None:
        """A mail with this content is answered with ``code`` and no turn is too long."""
        longest = TURN
        for _ in range(AGAIN):
            peer = receiver.session(*MAIL)
            longest = self.send(peer, octets + b"\r\n.\r\n", packet)
            self.assertEqual(peer.codes(), [code])
            peer.vanish()
            if longest < TURN:
                return
        self.fail(f"a turn took {longest * 1000:.0f} ms of processor time")


class BombTests(TurnCase):
    """T32: contents made to be expensive."""

    def test_header_lines(self) -> None:
        """500 000 header lines: given up at the header's bound; with a bound above them, read at a steady pace."""
        lines = b"X: y\r\n" * 500_000
        self.quick(TestReceiver(), lines, 552)
        self.quick(TestReceiver(header_size=10 << 20), lines, 250)

    def test_folded(self) -> None:
        """The same as one field of 500 000 lines, and as lines that are nearly fields."""
        for line in (b" y\r\n", b"\t\r\n", b"Received:\r\n", b"X" * 990 + b":\r\n", b"a b\r\n"):
            octets = b"X: y\r\n" + line * (2_000_000 // len(line))
            receiver = TestReceiver(header_size=10 << 20, hops=10 << 20)
            self.quick(receiver, octets, 250)

    def test_small_packets(self) -> None:
        """A large header in packets of 100 octets costs no more than its size."""
        octets = b"X-Field: " + b"y" * 60 + b"\r\n"
        self.quick(TestReceiver(), octets * 12_000, 250, packet=100)

    def test_one_line(self) -> None:
        """A header of one endless line, in the body's and the header's place."""
        self.quick(TestReceiver(), b"X: " + b"y" * 5_000_000, 552)
        self.quick(TestReceiver(), b"X: y\r\n\r\n" + b"y" * 5_000_000, 250)
        self.quick(TestReceiver(), b"y" * 5_000_000, 250)

    def test_parts(self) -> None:
        """10^5 MIME parts, and RFC 2231 parameters without end, are text like any other."""
        parts = b"--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" * 100_000
        self.quick(TestReceiver(), b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + parts, 250)
        parameters = b"".join(b" x*%d*=y%%20;\r\n" % number for number in range(50_000))
        self.quick(TestReceiver(), b"Content-Type: text/plain;\r\n" + parameters + b"\r\n", 250)

    def test_dots_and_newlines(self) -> None:
        """Content that is all dots, all line ends, or all bare ones."""
        self.quick(TestReceiver(), b"\r\n" + b"..\r\n" * 1_000_000, 250)
        self.quick(TestReceiver(), b"\r\n" * 1_000_000, 250)
        self.quick(TestReceiver(), b"\r\n" + b"\n" * 3_000_000, 550)
        self.quick(TestReceiver(), b"\r\n" + b"\r\n.\r" * 700_000, 550)


class SlowTests(SynchronousTestCase):
    """T33: clients that take their time."""

    def trickle(self, receiver: TestReceiver, peer: Peer, octet: bytes, every: float) -> float:
        """One octet at a time until the server has had enough; gives how long that took."""
        while not peer.closed:
            peer.send(octet)
            receiver.wait(every)
        return receiver.clock.seconds()

    def test_command(self) -> None:
        """One octet of a command each 30 s: over with the session's time."""
        receiver = TestReceiver(session_time=3600)
        peer = receiver.session()
        self.assertLess(self.trickle(receiver, peer, b"x", 30), 3700)
        self.assertEqual(receiver.of(SessionClosed)[0].reason, Reason.SESSION_DEADLINE)
        self.assertEqual(receiver.connections, 0)

    def test_content(self) -> None:
        """One octet of content each 30 s, by DATA and by BDAT: the same, and the half mail is forgotten."""
        for lines in ((*MAIL,), (*MAIL[:2], "BDAT 100000 LAST")):
            receiver = TestReceiver(session_time=3600)
            peer = receiver.session(*lines)
            self.assertLess(self.trickle(receiver, peer, b"x", 30), 3700)
            self.assertEqual((receiver.connections, receiver.queue.begun[0].state), (0, "aborted"))

    def test_mails(self) -> None:
        """A client that sends good mails all day is asked to connect again, and not in the middle of one."""
        receiver = TestReceiver(session_time=3600)
        peer = receiver.session()
        while not peer.closed:
            peer.say(*MAIL, "", ".")
            receiver.wait(100)
        self.assertGreater(len(receiver.queue.mails), 30)
        self.assertLess(receiver.clock.seconds(), 3800)

    def test_silent(self) -> None:
        """Clients that connect and say nothing: as many as one address, one /64 and all may have, five minutes long."""
        receiver = TestReceiver(connections=20, connections_per_address=5)
        for number in range(8):
            receiver.connect("192.0.2.1")
            receiver.connect(f"2001:db8::{number:x}")
        self.assertEqual(receiver.connections, 10)
        for number in range(20):
            receiver.connect(f"198.51.100.{number}")
        self.assertEqual(receiver.connections, 20)
        receiver.wait(302)
        self.assertEqual((receiver.connections, receiver.clock.getDelayedCalls()), (0, []))


class FloodTests(SynchronousTestCase):
    """T34: too much of everything."""

    def test_recipients(self) -> None:
        """5000 RCPT: a thousand are taken, the rest is 452 until it is enough."""
        receiver = TestReceiver(relay_from=["192.0.2.0/24"])
        peer = receiver.session("MAIL FROM:<>")
        replies = peer.say(*(f"RCPT TO:<r{number}@elsewhere.example>" for number in range(5000))).split("\r\n")
        self.assertEqual(sum(reply.startswith("250") for reply in replies), 1000)
        self.assertLess(len(replies), 1200)
        self.assertTrue(replies[-2].startswith("421 4.7.0"))
        self.assertEqual(receiver.connections, 0)

    def test_harvest(self) -> None:
        """Guessing addresses: so many wrong ones and the session is over."""
        receiver = TestReceiver()
        peer = receiver.session("MAIL FROM:<>")
        replies = peer.say(*(f"RCPT TO:<guess{number}@example.org>" for number in range(5000))).split("\r\n")
        self.assertLess(len(replies), 200)
        self.assertTrue(peer.closed)

    def test_commands(self) -> None:
        """Floods of junk, NOOP, RSET, VRFY, EHLO: 421 and closed, with little said."""
        for line in ("x", "NOOP", "RSET", "VRFY joe", "EHLO x", "HELP", "", "\x00", "MAIL FROM:<a@b@c>", "EXPN x"):
            receiver = TestReceiver()
            peer = receiver.session()
            peer.send((line + "\r\n").encode() * 10_000)
            said = peer.said()
            self.assertTrue(peer.closed, line)
            self.assertIn("421 4.7.0", said)
            self.assertLess(len(said), 60_000)
            self.assertEqual(receiver.connections, 0)

    def test_no_line_end(self) -> None:
        """1 GB without a CRLF: given up after GARBAGE_MAX octets, in bounded memory."""
        for octet in (b"x", b"\n", b"\r", b"\x00", b"\xff", b"."):
            receiver = TestReceiver()
            peer = receiver.session()
            packet = octet * PACKET
            sent = 0
            tracemalloc.start()
            while not peer.closed and sent < 1 << 30:
                peer.send(packet)
                sent += len(packet)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            self.assertLess(sent, GARBAGE_MAX + 3 * PACKET)
            self.assertLess(peak, 20 * PACKET)
            self.assertEqual(peer.codes(), [421])
            self.assertEqual(receiver.connections, 0)

    def test_content_without_end(self) -> None:
        """Content far above the bound: its octets pass by, and none is kept."""
        receiver = TestReceiver(message_size=100_000)
        peer = receiver.session(*MAIL)
        packet = b"x" * PACKET
        tracemalloc.start()
        for _ in range(2000):
            peer.send(packet)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        self.assertLess(peak, 20 * PACKET)
        self.assertEqual(peer.said(), "")
        peer.say("", ".")
        self.assertEqual(receiver.queue.mails, [])

    def test_idle_sessions_are_small(self) -> None:
        """Ten thousand idle sessions are what the node bears: each holds no buffers."""
        receiver = TestReceiver(connections=3000, connections_per_address=3000)
        for _ in range(200):
            receiver.session()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        connections = [receiver.factory.buildProtocol(peer.wire.getPeer()) for peer in receiver.peers]
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        self.assertLess((after - before) / len(connections), 3000)

    def test_longest_line(self) -> None:
        """The longest command there may be, again and again, costs no more than its octets."""
        receiver = TestReceiver(errors=10_000)
        peer = receiver.session()
        line = b"MAIL FROM:<" + b"a." * (COMMAND_LINE_MAX // 2 - 20) + b"@\r\n"
        began = time.thread_time()
        peer.send(line * 100)
        self.assertLess(time.thread_time() - began, 1.0)
        self.assertEqual(len(peer.codes()), 100)


class LoopTests(SynchronousTestCase):
    """T35: mail that goes in circles."""

    def test_hops(self) -> None:
        """A mail that comes back again and again gathers Received fields until it is refused as a loop."""
        content = b"Subject: round and round\r\n\r\nx\r\n"
        hops = 0
        while True:
            receiver = TestReceiver()
            peer = receiver.session(*MAIL)
            peer.send(content + b".\r\n")
            said = peer.said()
            if not receiver.queue.mails:
                break
            (mail,) = receiver.queue.mails
            content = mail.header + mail.content
            hops += 1
        self.assertTrue(said.startswith("554 5.4.6"))
        self.assertEqual(hops, receiver.limits.hops + 1)
        self.assertEqual(count(content[: content.index(b"\r\n\r\n") + 2], b"received"), hops)

    def test_alias_cycle(self) -> None:
        """An alias that leads to itself is refused at RCPT, not followed."""
        peer = TestReceiver().session("MAIL FROM:<>")
        self.assertTrue(peer.say("RCPT TO:<circle@example.org>").startswith("550 5.4.6"))

    def test_no_backscatter(self) -> None:
        """What is not accepted is refused in the session: no mail of ours is ever made for it."""
        receiver = TestReceiver(errors=100)
        peer = receiver.session("MAIL FROM:<victim@elsewhere.example>")
        for path in ("<nobody@example.org>", "<x@elsewhere.example>", "<circle@example.org>"):
            self.assertTrue(peer.say(f"RCPT TO:{path}").startswith("550"))
        peer.say("RCPT TO:<joe@example.org>", "DATA")
        peer.send(b"Subject: x\n\r\n.\r\n")
        self.assertEqual(peer.codes(), [550])
        self.assertEqual(receiver.queue.mails, [])
