"""Tests of twisted_mail_node.net.tls and tls_transport: TLS on a transport, in our own way and in Twisted's."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import ISSLTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.net.authority import Authority
from tests.net.loop import End, Ends, Loop, Peer
from twisted_mail_node.interfaces import ITlsServer, ITlsSession
from twisted_mail_node.net.certificates import Certificates
from twisted_mail_node.net.tls_transport import SecureClient, SecureServer
from twisted_mail_node.settings import Certificate, Settings, TlsSettings

#: A mail that fits into no buffer on the way.
LARGE = bytes(range(256)) * (5 << 12)


def client(version: int = 0, **options: Any) -> SSL.Context:
    """A client's context that takes this version of TLS only."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    if version:
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
    return context


class TlsCase(SynchronousTestCase):
    """A listener with a certificate for mx.example.org."""

    ours = True
    #: As a class variable: keys take a while.
    authority = Authority()
    issued = authority.issue("mx.example.org")

    def certificates(self, **tls: Any) -> Certificates:
        """With these settings of ``[tls]``."""
        state = Path(self.mktemp())
        self.issued.put(state / "mx.pem")
        settings = Settings(
            hostname="mx.example.org",
            state_dir=state.absolute(),
            certificates=(Certificate(chain="mx.pem"),),
            tls=TlsSettings(**tls),
        )
        made = Certificates(settings, Loop(), lambda event: None)
        made.start()
        self.addCleanup(made.stop)
        return made

    def ends(self, at_once: bool = True, **tls: Any) -> Ends:
        """A listener."""
        return Ends(self, self.certificates(**tls).secure, self.ours, at_once)

    def completed(self, ends: Ends, context: SSL.Context | None = None, **more: Any) -> tuple[End, Peer]:
        """A connection with a completed handshake: the server's end, and the client."""
        peer = ends.peer(context, **more).handshake()
        end = ends.made[-1]
        peer.until(lambda: end.completed or end.lost)
        return end, peer


class BothWays:
    """What holds for our way and for Twisted's."""

    def test_session(self: Any) -> None:
        """The session says what was agreed on; nothing before the handshake is completed."""
        ends = self.ends()
        self.assertTrue(verifyObject(ITlsServer, self.certificates()))
        peer = ends.peer(client(SSL.TLS1_3_VERSION), name=b"mx.example.org")
        ends.loop.until(lambda: ends.made)
        session = ends.made[0].session
        self.assertTrue(verifyObject(ITlsSession, session))
        self.assertEqual((session.version, session.cipher, str(session), session.peer), ("", "", "", None))
        self.assertEqual((session.verified, session.why), (False, "the handshake is not completed"))
        self.assertIsNone(session.channel_binding())
        peer.handshake()
        peer.until(lambda: ends.made[0].completed)
        self.assertEqual((session.version, session.cipher), ("TLSv1.3", "TLS_AES_256_GCM_SHA384"))
        self.assertEqual((session.server_name, session.resumed), ("mx.example.org", False))
        self.assertEqual(str(session), "TLSv1.3 with TLS_AES_256_GCM_SHA384")
        self.assertEqual((session.verified, session.why), (False, "it was not asked for a certificate"))

    def test_channel_binding(self: Any) -> None:
        """Both ends derive the same 32 octets with TLS 1.3, others for each connection; there are none with TLS 1.2."""
        ends = self.ends()
        bindings = set()
        for _ in range(2):
            end, peer = self.completed(ends, client(SSL.TLS1_3_VERSION))
            binding = end.session.channel_binding()
            self.assertEqual(binding, peer.tls.export_keying_material(b"EXPORTER-Channel-Binding", 32))
            bindings.add(binding)
        self.assertEqual(sorted(map(len, bindings)), [32, 32])
        end, _ = self.completed(ends, client(SSL.TLS1_2_VERSION))
        self.assertEqual(end.session.version, "TLSv1.2")
        self.assertIsNone(end.session.channel_binding())

    def test_resumed(self: Any) -> None:
        """A session is resumed with TLS 1.3 and 1.2, and the session says so; not when tickets are switched off."""
        for version in (SSL.TLS1_3_VERSION, SSL.TLS1_2_VERSION):
            for tickets in (True, False):
                ends, context = self.ends(tickets=tickets), client(version)
                end, peer = self.completed(ends, context)
                end.transport.write(b"220 hello\r\n")
                peer.until(lambda peer=peer: peer.said)
                end, peer = self.completed(ends, context, session=peer.tls.get_session())
                self.assertEqual(end.session.resumed, tickets, (version, tickets))
                self.assertEqual(str(end.session).endswith(", resumed"), tickets)

    def test_words(self: Any) -> None:
        """Small words go both ways; what is written before the handshake is completed arrives after it."""
        ends = self.ends()
        peer = ends.peer()
        ends.loop.until(lambda: ends.made)
        end = ends.made[0]
        end.transport.write(b"220 ")
        end.transport.write(b"hello\r\n")
        peer.handshake()
        peer.until(lambda: peer.said == b"220 hello\r\n")
        peer.say(b"EHLO x\r\n")
        peer.until(lambda: end.said == b"EHLO x\r\n")
        end.transport.writeSequence([b"250", b" x\r\n"])
        peer.until(lambda: peer.said == b"220 hello\r\n250 x\r\n")
        self.assertEqual(end.completed, 1)

    def test_starttls(self: Any) -> None:
        """What was written in clear before TLS arrives in clear, also when the socket was full of it."""
        for size in (9, 12_000_000):
            ends = self.ends(at_once=False)
            peer = ends.peer()
            ends.loop.until(lambda ends=ends: ends.made)
            end = ends.made[0]
            end.transport.write(b"2" * size)
            end.begin()
            clear = ends.clear(peer, size)
            self.assertEqual(clear, b"2" * size)
            peer.handshake()
            end.transport.write(b"secret")
            peer.until(lambda peer=peer: peer.said == b"secret")
            self.assertEqual(end.completed, 1)

    def test_first(self: Any) -> None:
        """Octets of the handshake that were read already are not lost."""
        ends = self.ends(at_once=False)
        peer = ends.peer()
        ends.loop.until(lambda: ends.made)
        end = ends.made[0]
        peer.look()
        ends.loop.until(lambda: len(end.said) > 100)
        first, end.said = end.said, b""
        certificates = self.certificates()
        end.session = certificates.secure(end.transport, first)
        peer.handshake()
        end.transport.write(b"hello")
        peer.until(lambda: peer.said == b"hello")
        peer.say(b"QUIT\r\n")
        peer.until(lambda: end.said == b"QUIT\r\n")

    def test_large_in(self: Any) -> None:
        """5 MiB come in whole, also when the protocol pauses the transport in between."""
        ends = self.ends()
        end, peer = self.completed(ends)
        pauses: list[int] = []

        def heard(data: bytes) -> None:
            if len(end.said) > 1_000_000 * (len(pauses) + 1):
                pauses.append(len(end.said))
                end.transport.pauseProducing()
                ends.loop.callLater(1.0, end.transport.resumeProducing)

        end.heard = heard
        left = memoryview(LARGE)
        while left:
            left = left[peer.tls.send(left[:65536]) :]
            while True:
                try:
                    octets = peer.tls.bio_read(1 << 16)
                except SSL.WantReadError:
                    break
                while octets:
                    try:
                        octets = octets[peer.socket.send(octets) :]
                    except BlockingIOError:
                        before = len(end.said)
                        ends.loop.some(3)
                        if len(end.said) == before:
                            ends.loop.advance(1.0)
        ends.loop.until(lambda: ends.loop.advance(1.0) or len(end.said) >= len(LARGE))
        self.assertTrue(end.said == LARGE)
        self.assertGreater(len(pauses), 2)

    def test_large_out(self: Any) -> None:
        """5 MiB go out whole to a client that reads slowly; the producer is told to pause, and to go on."""
        ends = self.ends()
        end, peer = self.completed(ends)
        end.transport.registerProducer(end, True)
        sent = 0
        while not end.silent:
            end.transport.write(LARGE[sent : sent + 100_000])
            sent += 100_000
            self.assertLess(sent, len(LARGE))
        while sent < len(LARGE):
            peer.until(lambda: not end.silent)
            while not end.silent and sent < len(LARGE):
                end.transport.write(LARGE[sent : sent + 100_000])
                sent += 100_000
        end.transport.unregisterProducer()
        end.transport.loseConnection()
        peer.until(lambda: peer.closed)
        self.assertTrue(peer.said == LARGE)
        self.assertGreater(end.pauses, 1)

    def test_one_write(self: Any) -> None:
        """One write of 5 MiB with a close behind it arrives whole."""
        ends = self.ends()
        end, peer = self.completed(ends)
        end.transport.write(LARGE)
        end.transport.write(b"!")
        end.transport.loseConnection()
        end.transport.write(b"too late")
        peer.until(lambda: peer.closed)
        self.assertTrue(peer.said == LARGE + b"!")

    def test_lose(self: Any) -> None:
        """loseConnection in the answer to QUIT: the answer arrives, then close_notify, then the end."""
        ends = self.ends()
        end, peer = self.completed(ends)

        def heard(data: bytes) -> None:
            end.transport.write(b"221 bye\r\n")
            end.transport.loseConnection()

        end.heard = heard
        peer.say(b"QUIT\r\n")
        peer.until(lambda: peer.closed)
        self.assertEqual(peer.said, b"221 bye\r\n")
        peer.tls.shutdown()
        peer.until(lambda: end.lost)
        self.assertIsInstance(end.lost.value, ConnectionDone)

    def test_lose_with_producer(self: Any) -> None:
        """A protocol that is a registered producer may say its last words and close."""
        ends = self.ends()
        end, peer = self.completed(ends)
        end.transport.registerProducer(end, True)
        end.transport.write(b"421 ")
        end.transport.unregisterProducer()
        end.transport.loseConnection()
        peer.until(lambda: peer.closed)
        self.assertEqual(peer.said, b"421 ")

    def test_abort(self: Any) -> None:
        """abortConnection ends it at once, in the handshake and after it."""
        ends = self.ends()
        end, peer = self.completed(ends)
        end.transport.abortConnection()
        peer.until(lambda: peer.over)
        self.assertTrue(end.lost.check(ConnectionAborted, ConnectionLost))
        peer = ends.peer()
        ends.loop.until(lambda: len(ends.made) == 2)
        end = ends.made[1]
        end.transport.abortConnection()
        ends.loop.until(lambda: end.lost)
        self.assertEqual(end.completed, 0)

    def test_lose_in_handshake(self: Any) -> None:
        """loseConnection in a handshake ends it."""
        ends = self.ends()
        ends.peer()
        ends.loop.until(lambda: ends.made)
        end = ends.made[0]
        end.transport.loseConnection()
        ends.loop.until(lambda: end.lost)
        self.assertEqual((end.completed, end.said), (0, b""))

    def test_closed_then_clear(self: Any) -> None:
        """close_notify in the middle of a mail ends the connection: what follows in clear is never read (T06)."""
        for behind in (b"MAIL FROM:<a@b>\r\n", b""):
            ends = self.ends()
            end, peer = self.completed(ends)
            peer.tls.send(b"BDAT 1000\r\nhalf")
            peer.flush()
            peer.tls.shutdown()
            peer.flush()
            peer.raw(behind)
            ends.loop.until(lambda end=end: end.lost)
            self.assertEqual(end.said, b"BDAT 1000\r\nhalf")
            self.assertTrue(end.lost.check(ConnectionDone))

    def test_closed_behind_large(self: Any) -> None:
        """close_notify right behind several records is noticed, though the client keeps the socket open."""
        ends = self.ends()
        end, peer = self.completed(ends)
        for _ in range(3):
            peer.tls.send(b"x" * 16000)
        peer.tls.shutdown()
        octets = peer.tls.bio_read(1 << 17)
        peer.raw(octets)
        ends.loop.until(lambda: end.lost)
        self.assertEqual(len(end.said), 48000)

    def test_cut(self: Any) -> None:
        """A connection that ends without close_notify is lost, not done: something may be missing."""
        ends = self.ends()
        end, peer = self.completed(ends)
        peer.say(b"DATA\r\n")
        peer.socket.close()
        ends.loop.until(lambda: end.lost)
        self.assertEqual(end.said, b"DATA\r\n")
        self.assertTrue(end.lost.check(ConnectionLost))

    def test_reset(self: Any) -> None:
        """A reset is a lost connection, and does no harm to others."""
        ends = self.ends()
        other, other_peer = self.completed(ends)
        end, peer = self.completed(ends)
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.socket.close()
        end.transport.write(b"hello?")
        ends.loop.until(lambda: end.lost)
        self.assertTrue(end.lost.check(ConnectionLost), end.lost)
        other_peer.say(b"NOOP\r\n")
        other_peer.until(lambda: other.said == b"NOOP\r\n")
        other.transport.write(b"250\r\n")
        other_peer.until(lambda: other_peer.said == b"250\r\n")

    def test_clear_in_the_middle(self: Any) -> None:
        """Octets in clear on a TLS connection end it with OpenSSL's error; they are not delivered."""
        ends = self.ends()
        end, peer = self.completed(ends)
        peer.raw(b"MAIL FROM:<a@b>\r\n")
        ends.loop.until(lambda: end.lost)
        self.assertEqual(end.said, b"")

    def test_not_tls(self: Any) -> None:
        """A client that speaks in clear from the start fails the handshake, with OpenSSL's words."""
        ends = self.ends()
        peer = ends.peer()
        peer.raw(b"EHLO client.example\r\n")
        ends.loop.until(lambda: ends.made and ends.made[0].lost)
        end = ends.made[0]
        self.assertEqual(end.completed, 0)
        self.assertIsInstance(end.lost.value, SSL.Error)

    def test_gone_in_handshake(self: Any) -> None:
        """A client that leaves in the handshake: connectionLost, and handshakeCompleted never comes."""
        ends = self.ends()
        peer = ends.peer()
        peer.look()
        peer.socket.close()
        ends.loop.until(lambda: ends.made and ends.made[0].lost)
        self.assertEqual(ends.made[0].completed, 0)

    def test_every_cut(self: Any) -> None:
        """A handshake and a line that come octet by octet are the same."""
        ends = self.ends()
        peer = ends.peer()
        raw = peer.raw

        def slowly(octets: bytes) -> None:
            for at in range(len(octets)):
                raw(octets[at : at + 1])
                ends.loop.turn()

        peer.raw = slowly
        peer.handshake()
        peer.say(b"EHLO x\r\n")
        peer.until(lambda: ends.made[0].said == b"EHLO x\r\n")
        self.assertEqual(ends.made[0].completed, 1)

    def test_talks_in_handshakeCompleted(self: Any) -> None:
        """The protocol may write and close in handshakeCompleted."""
        ends = self.ends()
        peer = ends.peer()
        ends.loop.until(lambda: ends.made)
        end = ends.made[0]

        def completed() -> None:
            end.transport.write(b"554 no\r\n")
            end.transport.loseConnection()

        end.when_completed = completed
        peer.handshake()
        peer.until(lambda: peer.closed)
        self.assertEqual(peer.said, b"554 no\r\n")

    def test_broken_protocol(self: Any) -> None:
        """A protocol that raises loses its connection."""
        ends = self.ends()
        end, peer = self.completed(ends)

        def heard(data: bytes) -> None:
            raise RuntimeError("broken")

        end.heard = heard
        peer.say(b"x")
        ends.loop.until(lambda: end.lost)
        self.assertFalse(end.lost.check(ConnectionDone))


class OursTests(BothWays, TlsCase):
    """In our own way."""

    def test_kind(self) -> None:
        """The transport is ours, and says that it is secure."""
        end, _ = self.completed(self.ends())
        self.assertIs(type(end.transport), SecureServer)
        self.assertTrue(ISSLTransport.providedBy(end.transport))
        transport: Any = end.transport
        self.assertFalse(transport.TLS)  # Twisted's way was not taken

    def test_at_once(self) -> None:
        """A reply leaves in the call that writes it, and the reactor need not look at the socket again."""
        ends = self.ends()
        end, peer = self.completed(ends)
        transport: Any = end.transport
        transport.write(b"250 OK\r\n")
        self.assertNotIn(transport, ends.loop.writers)
        self.assertEqual(peer.look().said or peer.look().said, b"250 OK\r\n")

    def test_gathered(self) -> None:
        """Records that came together are delivered together, up to four."""
        ends = self.ends()
        end, peer = self.completed(ends)
        for _ in range(5):
            peer.tls.send(b"x" * 16384)
        octets = b""
        while True:
            try:
                octets += peer.tls.bio_read(1 << 16)
            except SSL.WantReadError:
                break
        peer.socket.setblocking(True)
        peer.socket.sendall(octets)
        ends.loop.until(lambda: len(end.said) == 5 * 16384)
        self.assertEqual(end.pieces, [65536, 16384])

    def test_stalled(self) -> None:
        """A client that makes OpenSSL answer (a key update) while it reads nothing does not keep us busy, and when it
        reads again everything goes on, but not what the protocol has paused."""
        ends = self.ends()
        end, _ = self.completed(ends)
        transport: Any = end.transport
        real = transport._tls

        class Stalling:
            wants = 1
            said = [b"NOOP\r\n"]

            def recv(self, size: int) -> bytes:
                if self.wants:
                    self.wants -= 1
                    raise SSL.WantWriteError
                if self.said:
                    return self.said.pop()
                raise SSL.WantReadError

            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

        transport._tls = Stalling()
        self.assertIsNone(transport.doRead())
        self.assertNotIn(transport, ends.loop.readers)
        self.assertIn(transport, ends.loop.writers)
        transport.resumeProducing()
        self.assertNotIn(transport, ends.loop.readers)
        ends.loop.until(lambda: end.said == b"NOOP\r\n")
        self.assertIn(transport, ends.loop.readers)
        transport._tls.wants = 1
        transport.doRead()
        transport.pauseProducing()
        ends.loop.some()
        self.assertNotIn(transport, ends.loop.readers)

    def test_no_use_after_the_end(self) -> None:
        """When the connection is over, OpenSSL is not let near the socket's number, which may be another's by now."""
        ends = self.ends()
        end, peer = self.completed(ends)
        transport: Any = end.transport
        peer.socket.close()
        ends.loop.until(lambda: end.lost)
        self.assertFalse(hasattr(transport, "_tls"))
        transport.write(b"late")
        transport.loseConnection()


class TwistedsTests(BothWays, TlsCase):
    """In Twisted's way, for transports that are not ours."""

    ours = False

    def test_kind(self) -> None:
        """The transport is Twisted's."""
        end, _ = self.completed(self.ends())
        transport: Any = end.transport
        self.assertNotIsInstance(transport, (SecureServer, SecureClient))
        self.assertTrue(transport.TLS)
