"""Attacks on TLS with real handshakes: stalled ones, renegotiation, old versions, weak ciphers, closing in the middle
(T06, T08, T11, T12, T33). Sockets are loopback's, time stands still until a test moves it."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from OpenSSL import SSL
from twisted.internet import tcp
from twisted.trial.unittest import SynchronousTestCase

from tests.inbound.memory import DictDirectory, MemoryQueue
from tests.net.authority import Authority
from tests.net.loop import Loop, Peer
from twisted_mail_node.events import Event, SecuringFailed, SessionClosed, SessionSecured
from twisted_mail_node.inbound.factory import ESMTPFactory
from twisted_mail_node.net.certificates import Certificates
from twisted_mail_node.net.transport import Server
from twisted_mail_node.policy.chain import Chain
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import Certificate, Limits, Settings, TlsSettings

MAIL = b"EHLO x\r\nMAIL FROM:<a@elsewhere.example>\r\nRCPT TO:<joe@example.org>\r\n"
#: What an old client can do at best; OpenSSL hides it below security level 0.
OLD = b"ALL:@SECLEVEL=0"


class Listening:
    """A listener that takes mail over loopback."""

    def __init__(self, test: Any, mode: str, ours: bool, **tls: Any) -> None:
        self.loop = Loop()
        self.events: list[Event] = []
        self.queue = MemoryQueue()
        limits = Limits()
        state = Path(test.mktemp()).absolute()
        test.issued.put(state / "mx.pem")
        settings = Settings(
            hostname="mx.example.org",
            state_dir=state,
            certificates=(Certificate(chain="mx.pem"),),
            tls=TlsSettings(**tls),
        )
        certificates = Certificates(settings, Loop(), self.events.append)
        certificates.start()
        self.events.clear()
        test.addCleanup(certificates.stop)
        test.patch(__import__("twisted.protocols.tls", fromlist=["tls"]), "_get_default_clock", lambda: self.loop)
        self.factory = ESMTPFactory(
            hostname="mx.example.org", queue=self.queue, directory=DictDirectory(),
            chain=Chain((), self.loop, limits.policy_time), limits=limits, clock=self.loop,
            publish=self.events.append, tls=certificates, tls_mode=mode,
        )  # fmt: skip
        self.port = tcp.Port(0, self.factory, 50, "127.0.0.1", self.loop)
        self.port.transport = Server if ours else tcp.Server
        self.port.startListening()
        self._peers: list[Peer] = []
        test.addCleanup(self.close)

    @property
    def number(self) -> int:
        """The port's number."""
        return int(self.port.getHost().port)

    def peer(self, context: SSL.Context | None = None) -> Peer:
        """A client."""
        self._peers.append(Peer(self, context))  # type: ignore[arg-type]
        self.loop.until(lambda: len(self.factory.connections) + len(self.of(SessionClosed)) >= len(self._peers))
        return self._peers[-1]

    def clear(self, peer: Peer, octets: bytes, end: bytes = b"\r\n") -> bytes:
        """Say something in clear; gives the answer."""
        peer.raw(octets)
        said = b""
        while not said.endswith(end):
            self.loop.turn()
            try:
                octets = peer.socket.recv(65536)
            except BlockingIOError:
                continue
            if not octets:
                break
            said += octets
        return said

    def of(self, kind: type[Any]) -> list[Any]:
        """The events of one class."""
        return [event for event in self.events if isinstance(event, kind)]

    def ended(self) -> None:
        """Wait until no connection is left."""
        self.loop.until(lambda: not self.factory.connections)

    def close(self) -> None:
        """Close every socket."""
        self.port.stopListening()
        for peer in self._peers:
            peer.socket.close()
        self.ended()


def only(version: int, ciphers: bytes = b"") -> SSL.Context:
    """A client that speaks one version."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_cipher_list(ciphers or OLD)
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    return context


class TlsAttacks(SynchronousTestCase):
    """On our transports."""

    ours = True
    issued = Authority().issue("mx.example.org")

    def listening(self, mode: str = "implicit", **tls: Any) -> Listening:
        """A listener."""
        return Listening(self, mode, self.ours, **tls)

    def test_stalled(self) -> None:
        """T11: a handshake that stalls, before its first octet or in the middle, ends after thirty seconds."""
        for mode in ("implicit", "starttls"):
            for part in (0, 1, 60):
                listening = self.listening(mode)
                peer = listening.peer()
                if mode == "starttls":
                    listening.clear(peer, b"")
                    listening.clear(peer, b"EHLO x\r\n")
                    self.assertTrue(listening.clear(peer, b"STARTTLS\r\n").startswith(b"220"))
                try:
                    peer.tls.do_handshake()
                except SSL.WantReadError:
                    peer.raw(peer.tls.bio_read(1 << 16)[:part])
                listening.loop.some(5)
                for _ in range(29):
                    listening.loop.advance(1)
                listening.loop.some(3)
                self.assertEqual(len(listening.factory.connections), 1, (mode, part))
                for _ in range(3):
                    listening.loop.advance(1)
                listening.loop.some(3)
                self.assertEqual(len(listening.factory.connections), 0, (mode, part))
                (failed,) = listening.of(SecuringFailed)
                self.assertEqual(failed.reason, Reason.TIMEOUT)
                self.assertEqual(listening.of(SessionSecured), [])

    def test_slow(self) -> None:
        """T33: one octet of the handshake each five seconds gains nothing."""
        listening = self.listening()
        peer = listening.peer()
        try:
            peer.tls.do_handshake()
        except SSL.WantReadError:
            hello = peer.tls.bio_read(1 << 16)
        for at in range(8):
            peer.raw(hello[at : at + 1])
            listening.loop.some(2)
            listening.loop.advance(5)
        listening.loop.some(3)
        self.assertEqual(len(listening.factory.connections), 0)

    def test_old_versions(self) -> None:
        """T12: below TLS 1.2 the handshake fails, with TLS 1.2 and 1.3 it does not; the settings may ask for 1.3."""
        versions = (SSL.TLS1_VERSION, SSL.TLS1_1_VERSION, SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION)
        for minimum, good in (("1.2", versions[2:]), ("1.3", versions[3:])):
            listening = self.listening(minimum=minimum)
            for version in versions:
                peer = listening.peer(only(version))
                if version in good:
                    peer.handshake()
                    peer.until_said(b"220")
                    self.assertTrue(peer.said.startswith(b"220 "))
                else:
                    error = self.assertRaises(SSL.Error, peer.handshake)
                    self.assertIn("protocol version", str(error))
            self.assertEqual(len(listening.of(SessionSecured)), len(good))
            self.assertEqual(len(listening.of(SecuringFailed)), 4 - len(good))
            self.assertEqual({event.reason for event in listening.of(SecuringFailed)}, {Reason.HANDSHAKE_FAILED})

    def test_weak_ciphers(self) -> None:
        """T12: no cipher without forward secrecy, without authentication of the content, or without any encryption."""
        listening = self.listening()
        for cipher in (
            b"ECDHE-ECDSA-AES128-SHA256",
            b"ECDHE-ECDSA-AES256-SHA",
            b"AES128-GCM-SHA256",
            b"aNULL",
            b"eNULL",
        ):
            peer = listening.peer(only(SSL.TLS1_2_VERSION, cipher + b":@SECLEVEL=0"))
            self.assertRaises(SSL.Error, peer.handshake)
        self.assertEqual(listening.of(SessionSecured), [])

    def test_renegotiation(self) -> None:
        """T12: renegotiation is refused, however often it is asked for, and never done."""
        listening = self.listening()
        peer = listening.peer(only(SSL.TLS1_2_VERSION)).handshake()
        peer.until(lambda: peer.said)
        keys = peer.tls.master_key()
        peer.tls.renegotiate()
        try:
            peer.tls.do_handshake()
        except SSL.WantReadError:
            pass
        peer.flush()
        peer.until(lambda: peer.error or peer.over)
        self.assertIn("no renegotiation", str(peer.error))
        self.assertEqual(peer.tls.master_key(), keys)

    def test_closed_in_the_middle(self) -> None:
        """T06: TLS closed in the middle of DATA or BDAT, then plaintext: the mail is gone and so is the connection."""
        for middle, middle_said in ((b"DATA\r\nSubject: x\r\n", b"354"), (b"BDAT 100\r\nhalf", b"250 2.1.5")):
            listening = self.listening()
            peer = listening.peer().handshake()
            peer.say(MAIL + middle)
            peer.until_said(middle_said)
            peer.tls.shutdown()
            peer.flush()
            peer.raw(b" rest of it\r\n.\r\nMAIL FROM:<b@elsewhere.example>\r\n" + b"x" * 100)
            listening.ended()
            self.assertEqual(listening.queue.mails, [])
            self.assertEqual({incoming.state for incoming in listening.queue.begun} - {"aborted"}, set())

    def test_starttls(self) -> None:
        """STARTTLS over real sockets: the session begins anew, and takes a mail."""
        listening = self.listening("starttls")
        peer = listening.peer()
        listening.clear(peer, b"")
        self.assertIn(b"STARTTLS", listening.clear(peer, b"EHLO x\r\n"))
        self.assertTrue(listening.clear(peer, b"STARTTLS\r\n").startswith(b"220"))
        peer.handshake()
        peer.say(b"MAIL FROM:<a@elsewhere.example>\r\n")
        peer.until(lambda: peer.said.startswith(b"503"))
        peer.say(MAIL + b"DATA\r\n")
        peer.until(lambda: b"354" in peer.said)
        self.assertNotIn(b"STARTTLS", peer.said)
        peer.say(b"Subject: x\r\n\r\n" + b"text\r\n" * 100_000 + b".\r\nQUIT\r\n")
        peer.until(lambda: peer.closed)
        self.assertEqual(len(listening.queue.mails), 1)
        self.assertIn(b"221", peer.said)
        (secured,) = listening.of(SessionSecured)
        self.assertTrue(secured.tls.startswith("TLSv1.3 with "))

    def test_injected(self) -> None:
        """T08: octets behind STARTTLS are never answered under TLS; the connection ends."""
        listening = self.listening("starttls")
        peer = listening.peer()
        listening.clear(peer, b"")
        listening.clear(peer, b"EHLO x\r\n")
        said = listening.clear(peer, b"STARTTLS\r\nEHLO y\r\n")
        self.assertTrue(said.startswith(b"421"), said)
        listening.ended()

    def test_rubbish(self) -> None:
        """Rubbish instead of a handshake, or within it, ends the connection with an event in OpenSSL's words."""
        for rubbish in (
            b"\x16\x03\x01\xff\xff" + b"\0" * 100,
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x80\x2e\x01\x03\x01",
            b"\0" * 70000,
        ):
            listening = self.listening()
            peer = listening.peer()
            peer.raw(rubbish)
            peer.socket.shutdown(1)
            listening.ended()
            (failed,) = listening.of(SecuringFailed)
            self.assertEqual(failed.reason, Reason.HANDSHAKE_FAILED)


class TwistedsTlsAttacks(TlsAttacks):
    """The same on Twisted's transports."""

    ours = False


class EmptyRecordAttacks(SynchronousTestCase):
    """T32, T33: a client that has not signed in sends records without data, one after the other without end. OpenSSL
    would read on and on, and nobody else would be looked at."""

    issued = TlsAttacks.issued
    #: Records; each takes some microseconds. They fit into a socket's buffer.
    MANY = 1000

    def flood(self, version: int, records: Callable[[Peer], bytes]) -> None:
        """The reactor's turn ends with each of them; what stands behind them is heard all the same."""
        listening = Listening(self, "implicit", ours=True)
        secrets: list[bytes] = []
        context = only(version, b"ECDHE-ECDSA-AES128-GCM-SHA256")
        context.set_keylog_callback(lambda connection, line: secrets.append(line))
        peer = listening.peer(context).handshake()
        peer.until_said(b"220")
        peer.secrets = secrets  # type: ignore[attr-defined]
        (connection,) = listening.factory.connections
        transport = connection.transport
        reads: list[object] = []
        read = transport.doRead

        def noted() -> object:
            reads.append(why := read())
            return why

        self.patch(transport, "doRead", noted)
        peer.raw(records(peer))
        listening.loop.until(lambda: len(reads) > self.MANY // 2 or not listening.factory.connections)
        self.assertEqual(connection.wire.state, "start")
        listening.loop.until(lambda: connection.wire.state == "ready")
        self.assertGreaterEqual(len(reads), self.MANY)

    def test_key_update(self) -> None:
        """KeyUpdate (RFC 8446 section 4.6.3)."""

        def records(peer: Peer) -> bytes:
            (line,) = (one for one in peer.secrets if one.startswith(b"CLIENT_TRAFFIC_SECRET_0 "))  # type: ignore[attr-defined]
            secret = bytes.fromhex(line.split()[2].decode())
            kind = hashes.SHA384() if len(secret) == 48 else hashes.SHA256()
            key_size = 32 if len(secret) == 48 else 16

            def expanded(label: bytes, size: int) -> bytes:
                info = size.to_bytes(2, "big") + bytes([6 + len(label)]) + b"tls13 " + label + b"\0"
                return HKDFExpand(kind, size, info).derive(secret)

            def sealed(inner: bytes) -> bytes:
                header = b"\x17\3\3" + (len(inner) + 16).to_bytes(2, "big")
                return header + AESGCM(expanded(b"key", key_size)).encrypt(expanded(b"iv", 12), inner, header)

            octets = b""
            for _ in range(self.MANY):
                octets += sealed(b"\x18\0\0\1\0\x16")
                secret = expanded(b"traffic upd", len(secret))
            return octets + sealed(b"EHLO x\r\n\x17")

        self.flood(SSL.TLS1_3_VERSION, records)

    def test_hello(self) -> None:
        """ClientHello: TLS 1.2 asks for renegotiation so (RFC 5246 section 7.4.1.2)."""

        def records(peer: Peer) -> bytes:
            tls = peer.tls
            ours, theirs, master = tls.client_random(), tls.server_random(), tls.master_key()
            assert ours is not None and theirs is not None and master is not None
            block, last = b"", (seed := b"key expansion" + theirs + ours)
            for _ in range(2):
                last = hmac.digest(master, last, "sha256")
                block += hmac.digest(master, last + seed, "sha256")
            key, salt = block[:16], block[32:36]

            def sealed(number: int, kind: bytes, inner: bytes) -> bytes:
                explicit = number.to_bytes(8, "big")
                known = explicit + kind + b"\3\3" + len(inner).to_bytes(2, "big")
                body = explicit + AESGCM(key).encrypt(salt + explicit, inner, known)
                return kind + b"\3\3" + len(body).to_bytes(2, "big") + body

            hellos = [sealed(number, b"\x16", b"\1\0\0\0") for number in range(1, self.MANY + 1)]
            return b"".join(hellos) + sealed(self.MANY + 1, b"\x17", b"EHLO x\r\n")

        self.flood(SSL.TLS1_2_VERSION, records)
