"""Tests of twisted_mail_node.inbound.securing."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.inbound.receiving import STRANGER, Peer, TestReceiver
from tests.inbound.secured import BINDING
from twisted_mail_node.events import MailAccepted, SecuringFailed, SessionClosed, SessionOpened, SessionSecured
from twisted_mail_node.inbound.connection import Connection
from twisted_mail_node.inbound.securing import WORDS_MAX
from twisted_mail_node.reasons import Reason

TLS = "TLSv1.3 with TLS_AES_256_GCM_SHA384"


def connection_of(peer: Peer) -> Connection:
    """The server's end."""
    assert isinstance(peer.protocol, Connection)
    return peer.protocol


class StartTlsTests(SynchronousTestCase):
    """STARTTLS (RFC 3207)."""

    def setUp(self) -> None:
        self.receiver = TestReceiver(tls_mode="starttls")

    def test_begins_anew(self) -> None:
        """220, the handshake, and then a session that knows nothing of the one before; EHLO must be said again."""
        peer = self.receiver.session()
        self.assertEqual(peer.say("STARTTLS"), "220 2.0.0 Begin the TLS handshake\r\n")
        self.assertEqual(self.receiver.of(SessionSecured), [])
        peer.secure()
        self.assertEqual(peer.said(), "", "no greeting after the handshake")
        asked = connection_of(peer).asked
        self.assertEqual((asked.helo, asked.extended, asked.submitter), ("", False, None))
        self.assertEqual(peer.say("MAIL FROM:<>")[:9], "503 5.5.1")
        (event,) = self.receiver.of(SessionSecured)
        self.assertEqual((event.client, event.tls, event.server_name), (STRANGER, TLS, "mx.example.org"))

    def test_announced(self) -> None:
        """Before the handshake, and not after it; REQUIRETLS (RFC 8689) the other way round."""
        peer = self.receiver.connect()
        before = peer.say("EHLO c")
        self.assertIn("250-STARTTLS", before)
        self.assertNotIn("REQUIRETLS", before)
        peer.say("STARTTLS")
        peer.secure()
        after = peer.say("EHLO c")
        self.assertNotIn("STARTTLS", after)
        self.assertIn("250-REQUIRETLS", after)
        self.assertEqual(peer.say("STARTTLS")[:9], "502 5.5.1")

    def test_no_certificates(self) -> None:
        """Not announced, and 502, on a listener without TLS."""
        peer = TestReceiver().connect()
        self.assertNotIn("STARTTLS", peer.say("EHLO c"))
        self.assertEqual(peer.say("STARTTLS")[:9], "502 5.5.1")

    def test_order(self) -> None:
        """After EHLO or HELO, not in a transaction, without an argument."""
        peer = self.receiver.connect()
        self.assertIn("503 5.5.1 Say EHLO first", peer.say("STARTTLS"))
        peer.say("HELO c")
        self.assertEqual(peer.say("STARTTLS now")[:9], "501 5.5.4")
        peer.say("MAIL FROM:<>")
        self.assertEqual(peer.say("STARTTLS")[:9], "503 5.5.1")
        peer.say("RSET")
        self.assertEqual(peer.say("starttls")[:3], "220")

    def test_mail(self) -> None:
        """A mail under TLS says so in Received (RFC 3848) and in its event."""
        peer = self.receiver.secured("MAIL FROM:<a@elsewhere.example>", "RCPT TO:<joe@example.org>", "DATA")
        self.assertTrue(peer.say("Subject: x", "", "text", ".").splitlines()[-1].startswith("250"))
        (event,) = self.receiver.of(MailAccepted)
        self.assertEqual((event.protocol, event.tls), ("ESMTPS", TLS))
        self.assertIn(b"with ESMTPS", self.receiver.queue.mails[0].header)

    def test_requiretls(self) -> None:
        """REQUIRETLS is kept in the envelope; TLS-Required: No says nothing beside it (RFC 8689 section 4.1)."""
        peer = self.receiver.secured("MAIL FROM:<a@elsewhere.example> REQUIRETLS", "RCPT TO:<joe@example.org>", "DATA")
        self.assertTrue(peer.say("TLS-Required: No", "", "text", ".").splitlines()[-1].startswith("250"))
        envelope = self.receiver.queue.mails[0].envelope
        self.assertEqual((envelope.require_tls, envelope.tls_optional), (True, False))

    def test_replies_of_a_group(self) -> None:
        """What was pipelined before STARTTLS is answered before it, in one write."""
        peer = self.receiver.connect()
        peer.said()
        peer.wire.writes.clear()
        said = peer.say("EHLO c", "NOOP", "STARTTLS")
        self.assertEqual([line[:4] for line in said.splitlines()[-3:]], ["250 ", "250 ", "220 "])
        self.assertEqual(len(peer.wire.writes), 1)


class ImplicitTests(SynchronousTestCase):
    """TLS from the first octet (RFC 8314)."""

    def setUp(self) -> None:
        self.receiver = TestReceiver(kind="submission", tls_mode="implicit")

    def test_greeting(self) -> None:
        """Nothing is said before the handshake; the greeting comes after it."""
        peer = self.receiver.connect()
        self.assertEqual(peer.said(), "")
        peer.secure()
        self.assertEqual(peer.said()[:4], "220 ")
        self.assertEqual(len(self.receiver.of(SessionOpened)), 1)
        self.assertNotIn("STARTTLS", peer.say("EHLO c"))

    def test_binding(self) -> None:
        """The session's binding is at hand for SCRAM."""
        peer = self.receiver.secured()
        tls = connection_of(peer).asked.tls
        assert tls is not None
        self.assertEqual(tls.channel_binding(), BINDING)


class HandshakeTests(SynchronousTestCase):
    """Handshakes that come to nothing."""

    def setUp(self) -> None:
        self.receiver = TestReceiver(tls_mode="starttls", command_time=1000.0)

    def test_broken(self) -> None:
        """The events say that it was the handshake, and why."""
        peer = self.receiver.session()
        peer.say("STARTTLS")
        peer.break_handshake()
        (event,) = self.receiver.of(SecuringFailed)
        self.assertEqual(
            (event.client, event.reason, event.words), (STRANGER, Reason.HANDSHAKE_FAILED, "wrong version number")
        )
        self.assertEqual(self.receiver.of(SessionClosed)[0].reason, Reason.HANDSHAKE_FAILED)
        self.assertEqual((self.receiver.connections, self.receiver.of(SessionSecured)), (0, []))

    def test_words(self) -> None:
        """They are kept printable and short."""
        peer = self.receiver.session()
        peer.say("STARTTLS")
        peer.wire.handshaking = False
        peer.lose(ValueError("a\r\nb" + "c" * 1000))
        (event,) = self.receiver.of(SecuringFailed)
        self.assertEqual((event.words[:4], len(event.words)), ("a??b", WORDS_MAX))

    def test_stalls(self) -> None:
        """T11: a handshake that does not end is cut off after ``handshake_time``; nothing is said in the clear."""
        for mode in ("starttls", "implicit"):
            receiver = TestReceiver(tls_mode=mode)
            peer = receiver.connect() if mode == "implicit" else receiver.session()
            if mode == "starttls":
                peer.say("STARTTLS")
            receiver.wait(receiver.factory.handshake_time - 1)
            self.assertFalse(peer.wire.lost)
            receiver.wait(3)
            self.assertTrue(peer.wire.lost)
            self.assertEqual(peer.said(), "")
            self.assertEqual(receiver.of(SecuringFailed)[0].reason, Reason.TIMEOUT)
            self.assertEqual(receiver.connections, 0)

    def test_stalls_with_octets(self) -> None:
        """Whatever wakes the session meanwhile, the time does not begin anew."""
        peer = self.receiver.session()
        peer.say("STARTTLS")
        for _ in range(10):
            self.receiver.wait(4)
            if not peer.wire.lost:
                connection_of(peer).resumeProducing()
        self.assertTrue(peer.wire.lost)
        self.assertEqual(self.receiver.of(SecuringFailed)[0].reason, Reason.TIMEOUT)

    def test_node_stops(self) -> None:
        """The node stops in the middle of one: the session ends."""
        peer = self.receiver.session()
        peer.say("STARTTLS")
        done = self.receiver.factory.stop(10)
        peer.settle()
        self.successResultOf(done)
        self.assertEqual(self.receiver.connections, 0)


class GoneTests(SynchronousTestCase):
    """A connection that went while the session was busy."""

    def gone(self, peer: Peer) -> list[str]:
        """From here on the transport bears no call, as that of Twisted's TLS does not."""
        calls: list[str] = []
        for name in ("write", "unregisterProducer", "loseConnection", "pauseProducing", "resumeProducing"):
            setattr(peer.wire, name, lambda *arguments, name=name: calls.append(name))
        return calls

    def test_in_handshake(self) -> None:
        """The handshake broke: the transport is left alone."""
        receiver = TestReceiver(tls_mode="starttls")
        peer = receiver.session()
        peer.say("STARTTLS")
        calls = self.gone(peer)
        peer.break_handshake()
        self.assertEqual(calls, [])
        self.assertEqual(receiver.of(SessionClosed)[0].reason, Reason.HANDSHAKE_FAILED)

    def test_in_a_check(self) -> None:
        """A password is being compared: what would be said then is not, and it ends as a lost connection."""
        receiver = TestReceiver(kind="submission", tls_mode="implicit")
        receiver.authentication.waiting = []
        peer = receiver.secured()
        peer.say("AUTH PLAIN AGpvZUBleGFtcGxlLm9yZwBzZWNyZXQ=")
        calls = self.gone(peer)
        peer.vanish()
        receiver.authentication.waiting.pop().callback(None)
        self.assertEqual(calls, [])
        self.assertEqual(receiver.of(SessionClosed)[0].reason, Reason.CONNECTION_LOST)
        self.assertEqual(receiver.connections, 0)
