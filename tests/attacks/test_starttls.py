"""Attacks on the border between the clear and TLS (T08, T11, T33)."""

from __future__ import annotations

from base64 import b64encode

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.attacks.wire import Sender, cuts_of, in_any_packets
from tests.inbound.receiving import Peer, TestReceiver, codes
from twisted_mail_node.events import MailAccepted, SecuringFailed, SessionSecured, SignedIn
from twisted_mail_node.inbound.connection import Connection
from twisted_mail_node.reasons import Reason

INJECTED = (
    b"EHLO evil.example\r\nMAIL FROM:<boss@example.org>\r\nRCPT TO:<ann@example.org>\r\nDATA\r\n"
    b"Subject: x\r\n\r\nevil\r\n.\r\n"
)
PLAIN = b"AUTH PLAIN " + b64encode(b"\0joe@example.org\0secret") + b"\r\n"
#: What may come behind STARTTLS: whole commands, half ones, line ends, octets that look like TLS.
BEHIND = (
    b"NOOP\r\n",
    b"RSET\r\n",
    INJECTED,
    PLAIN,
    b"EHLO",
    b"\r\n",
    b"\n",
    b"\0",
    b" ",
    b"\x16\x03\x01\x00\x05NOOP\r\n",
)


def known(peer: Peer) -> tuple[str, bool, object, str, int, object]:
    """What the server knows of a session."""
    connection = peer.protocol
    assert isinstance(connection, Connection)
    asked, wire = connection.asked, connection.wire
    return asked.helo, asked.extended, asked.submitter, wire.state, wire.buffered, connection.transaction


NOTHING = ("", False, None, "start", 0, None)


class InjectionTests(SynchronousTestCase):
    """T08: STARTTLS injection (CVE-2011-0411, CVE-2024-34083)."""

    def test_one_packet(self) -> None:
        """Octets behind STARTTLS in its packet: the replies to what stood before it, then 421, and the end."""
        for kind in ("mx", "submission"):
            for behind in BEHIND:
                receiver = TestReceiver(kind=kind, tls_mode="starttls")
                peer = receiver.session()
                peer.said()
                peer.send(b"NOOP\r\nSTARTTLS\r\n" + behind)
                self.assertEqual(peer.codes(), [250, 421], behind)
                self.assertTrue(peer.closed)
                self.assertFalse(peer.wire.handshaking)
                self.nothing_ran(receiver)

    @in_any_packets
    def test_any_packets(self, sender: Sender) -> None:
        """However they are cut, nothing behind STARTTLS is ever answered: the session ends, or the handshake does."""
        for behind in BEHIND:
            receiver = TestReceiver(tls_mode="starttls")
            peer = sender.session(receiver)
            replies = sender.send(peer, b"STARTTLS\r\n" + behind)
            self.assertIn(replies, ([421], [220]), behind)
            self.assertTrue(peer.wire.lost)
            if replies == [220]:
                self.assertEqual(receiver.of(SecuringFailed)[0].reason, Reason.HANDSHAKE_FAILED)
            self.nothing_ran(receiver)

    @settings(max_examples=100, deadline=None)
    @given(st.binary(min_size=1, max_size=60), st.lists(st.integers(0, 2**16), max_size=6))
    def test_any_octets(self, behind: bytes, cuts: list[int]) -> None:
        """Whatever the octets are."""
        receiver = TestReceiver(tls_mode="starttls")
        peer = receiver.session()
        peer.said()
        octets = b"STARTTLS\r\n" + behind
        peer.send(octets, cuts_of(cuts, octets))
        self.assertIn(peer.codes(), ([421], [220]))
        self.assertEqual(receiver.connections, 0)
        self.nothing_ran(receiver)

    @in_any_packets
    def test_state_is_gone(self, sender: Sender) -> None:
        """What was said before the handshake does not count after it: EHLO and all that needs it must come again."""
        receiver = TestReceiver(tls_mode="starttls")
        peer = sender.session(receiver, "MAIL FROM:<boss@example.org>", "RCPT TO:<ann@example.org>", "RSET")
        self.assertEqual(sender.send(peer, b"STARTTLS\r\n"), [220])
        peer.secure()
        self.assertEqual(known(peer), NOTHING)
        self.assertEqual(sender.send(peer, b"RCPT TO:<ann@example.org>\r\n"), [503])
        self.assertEqual(sender.send(peer, b"MAIL FROM:<boss@example.org>\r\n"), [503])
        self.assertEqual(sender.send(peer, b"DATA\r\n"), [503])
        self.assertEqual(sender.send(peer, b"EHLO client.example.net\r\n"), [250])
        self.assertEqual(sender.send(peer, b"STARTTLS\r\n"), [502])

    @in_any_packets
    def test_auth_is_gone(self, sender: Sender) -> None:
        """AUTH before STARTTLS is 538, an exchange cannot straddle the handshake, and nobody has signed in after it."""
        receiver = TestReceiver(kind="submission", tls_mode="starttls")
        peer = sender.session(receiver)
        self.assertEqual(sender.send(peer, PLAIN), [538])
        self.assertEqual(sender.send(peer, b"STARTTLS\r\n"), [220])
        peer.secure()
        self.assertEqual(known(peer), NOTHING)
        self.assertEqual(sender.send(peer, PLAIN), [503])
        self.assertEqual(sender.send(peer, b"EHLO client.example.net\r\nMAIL FROM:<joe@example.org>\r\n"), [250, 530])
        self.assertEqual(sender.send(peer, PLAIN), [235])

    @in_any_packets
    def test_half_a_line(self, sender: Sender) -> None:
        """A line that began before the handshake has no end after it."""
        receiver = TestReceiver(tls_mode="starttls")
        peer = sender.session(receiver)
        self.assertEqual(sender.send(peer, b"STARTTLS\r\n"), [220])
        connection = peer.protocol
        assert isinstance(connection, Connection)
        connection.dataReceived(b"NO")  # no transport does so in a handshake
        peer.secure()
        self.assertEqual(sender.send(peer, b"OP\r\n"), [500])

    @in_any_packets
    def test_argument(self, sender: Sender) -> None:
        """STARTTLS with an argument is 501, in a transaction it is 503: no handshake begins, the session goes on."""
        receiver = TestReceiver(tls_mode="starttls")
        peer = sender.session(receiver)
        for line in (b"STARTTLS now", b"STARTTLS =", b"STARTTLS STARTTLS", b"STARTTLS \t"):
            self.assertEqual(sender.send(peer, line + b"\r\n"), [501])
        self.assertEqual(sender.send(peer, b"MAIL FROM:<>\r\nSTARTTLS\r\nRSET\r\n"), [250, 503, 250])
        for line in (b"STARTTLS\n", b"STARTTLS\r", b"STARTTLS\0"):
            self.assertEqual(sender.send(peer, line + b"\r\n"), [500])
        self.assertFalse(peer.wire.handshaking)

    def test_implicit(self) -> None:
        """Commands in the clear on a port with implicit TLS are never answered."""
        for behind in BEHIND:
            receiver = TestReceiver(kind="submission", tls_mode="implicit")
            peer = receiver.connect()
            peer.send(behind)
            self.assertEqual(peer.said(), "")
            self.assertTrue(peer.wire.lost)
            self.nothing_ran(receiver)

    def nothing_ran(self, receiver: TestReceiver) -> None:
        """No transaction began, nobody signed in, no handshake went well."""
        self.assertEqual(receiver.queue.begun, [])
        for kind in (MailAccepted, SignedIn, SessionSecured):
            self.assertEqual(receiver.of(kind), [])
        self.assertEqual(receiver.authentication.logins, [])


class StallTests(SynchronousTestCase):
    """T11 and T33: a client that takes its time over the handshake."""

    def test_stalls(self) -> None:
        """The handshake has one deadline, and no octet of the client moves it; nothing is said in the clear then."""
        for mode in ("starttls", "implicit"):
            receiver = TestReceiver(tls_mode=mode, command_time=10_000.0)
            peer = receiver.connect()
            if mode == "starttls":
                peer.say("EHLO c", "STARTTLS")
            peer.said()
            receiver.wait(receiver.factory.handshake_time + 2)
            self.assertTrue(peer.wire.lost)
            self.assertEqual(peer.said(), "")
            self.assertEqual((receiver.connections, receiver.of(SecuringFailed)[0].reason), (0, Reason.TIMEOUT))

    def test_again_and_again(self) -> None:
        """A thousand clients that break their handshakes off leave nothing behind."""
        receiver = TestReceiver(tls_mode="starttls")
        for _ in range(1000):
            peer = receiver.connect()
            said = list(codes(peer.say("EHLO c", "STARTTLS")))
            self.assertEqual(said[-1], 220)
            peer.break_handshake()
        self.assertEqual(receiver.connections, 0)
        self.assertEqual(len(receiver.of(SecuringFailed)), 1000)
