"""Tests of outbound TLS over real sockets: the relay, its TLS client, and a host with a certificate, on loopback."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from OpenSSL.crypto import X509, PKey
from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.protocol import Factory
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.basic import LineReceiver
from twisted.trial.unittest import TestCase

from tests.net.authority import Authority, Issued
from tests.outbound.remote import HEADER, SENDER, Content, Resolver
from twisted_mail_node.dns.answer import TLSA
from twisted_mail_node.events import Event
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.net.tls_client import TlsClient
from twisted_mail_node.outbound.relay import RelayManager
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import QueueSettings, TlsLevel

JOE = Address("joe", "example.net")
HOST = "mail.example.net"
#: More than goes out in one write.
LARGE = b"x" * 70 + b"\r\n"


class Mx(LineReceiver):
    """A host that takes every mail, with or without TLS."""

    transport: Any
    factory: Any

    def connectionMade(self) -> None:
        self.factory.open.add(self)
        self.secured = False
        self.size = 0
        self.sendLine(b"220 mx")

    def connectionLost(self, reason: object = None) -> None:
        self.factory.open.discard(self)
        empty = self.factory.empty
        if not self.factory.open and empty is not None:
            self.factory.empty = None
            empty.callback(None)

    def lineReceived(self, line: bytes) -> None:
        self.factory.lines.append((self.secured, line))
        word = line[:4]
        if word == b"EHLO":
            more = [b"REQUIRETLS"] if self.secured else [b"STARTTLS"]
            for one in [b"mx", b"PIPELINING", b"CHUNKING", b"SIZE", *more]:
                self.sendLine(b"250-" + one)
            self.sendLine(b"250 DSN")
        elif word == b"STAR":
            self.sendLine(b"220 go on")
            if self.factory.options is None:
                self.transport.write(b"250 this is no handshake\r\n")
                return
            self.transport.startTLS(self.factory.options)
            self.secured = True
        elif word == b"BDAT":
            self.size = int(line.split()[1])
            self.setRawMode()
        elif word == b"QUIT":
            self.sendLine(b"221 bye")
            self.transport.loseConnection()
        else:
            self.sendLine(b"250 ok")

    def rawDataReceived(self, data: bytes) -> None:
        took, rest = data[: self.size], data[self.size :]
        self.factory.octets += len(took)
        self.size -= len(took)
        if not self.size:
            self.sendLine(b"250 2.0.0 taken")
            self.setLineMode(rest)


class LoopbackTests(TestCase):
    def setUp(self) -> None:
        self.authority = Authority()
        self.directory = Path(self.mktemp())
        self.events: list[Event] = []

    def listen(self, issued: Issued | None) -> int:
        """A host with this certificate, or with one that cannot do TLS after all; gives its port."""
        factory: Any = Factory.forProtocol(Mx)
        factory.noisy = False
        factory.open, factory.lines, factory.octets, factory.empty = set(), [], 0, None
        factory.options = None
        if issued is not None:
            factory.options = CertificateOptions(
                privateKey=PKey.from_cryptography_key(issued.key),
                certificate=X509.from_cryptography(issued.certificate),
            )
        self.mx = factory
        port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    @inlineCallbacks
    def send(
        self,
        port: int,
        level: TlsLevel,
        content: bytes = b"Subject: hi\r\n\r\nhello\r\n",
        tlsa: tuple[TLSA, ...] = (),
        **envelope: Any,
    ) -> Any:
        """Relay one mail there, and stop; gives its status."""
        relay = RelayManager(
            hostname="mx.example.org",
            resolver=Resolver({(HOST, "A"): ("127.0.0.1",), (f"_{port}._tcp.{HOST}", "TLSA"): tlsa}, signed=bool(tlsa)),
            reactor=reactor,
            publish=self.events.append,
            settings=QueueSettings(),
            allow_loopback=True,
            tls=TlsClient(self.authority.put(self.directory / "ca.pem")),
            handshake_time=10.0,
        )
        recipients = (Recipient(JOE, JOE),)
        request = DeliveryRequest(
            "q1",
            Envelope(SENDER, recipients, **envelope),
            recipients,
            HEADER,
            Content(content, on_disk=len(content) > 100_000),
            f"[{HOST}]:{port}",
            20.0,
            level,
        )
        (status,) = yield Deferred.fromCoroutine(relay.deliver(request))
        yield Deferred.fromCoroutine(relay.close(5.0))
        if self.mx.open:
            self.mx.empty = Deferred()
            yield self.mx.empty
        return status

    def in_clear(self) -> list[bytes]:
        return [line[:4] for secured, line in self.mx.lines if not secured]

    @inlineCallbacks
    def test_self_signed(self) -> Any:
        """A self-signed certificate is good enough where TLS is opportunistic, and the status says what it is."""
        port = self.listen(self.authority.issue(HOST, self_signed=True))
        status: DeliveryStatus = yield self.send(port, "opportunistic")
        self.assertIs(status.action, Action.RELAYED)
        self.assertRegex(status.tls, r"^TLSv1\.3 with TLS_\w+, not verified: .+")
        self.assertEqual(self.in_clear(), [b"EHLO", b"STAR"])
        self.assertEqual(self.events, [])

    @inlineCallbacks
    def test_verified(self) -> Any:
        """One that a trusted authority signed is verified; content that comes in pieces gets through whole."""
        port = self.listen(self.authority.issue(HOST))
        status = yield self.send(port, "verified", LARGE * 30_000)
        self.assertIs(status.action, Action.RELAYED)
        self.assertRegex(status.tls, r"^TLSv1\.3 with TLS_\w+, verified$")
        self.assertEqual(self.mx.octets, len(HEADER) + len(LARGE) * 30_000)
        self.assertEqual(self.in_clear(), [b"EHLO", b"STAR"])

    @inlineCallbacks
    def test_requiretls(self) -> Any:
        """REQUIRETLS goes with MAIL."""
        port = self.listen(self.authority.issue(HOST))
        status = yield self.send(port, "opportunistic", require_tls=True)
        self.assertIs(status.action, Action.RELAYED)
        (mail,) = [line for _, line in self.mx.lines if line.startswith(b"MAIL")]
        self.assertTrue(mail.endswith(b" REQUIRETLS"), mail)

    @inlineCallbacks
    def test_dane(self) -> Any:
        """A self-signed certificate for another name that is the one of the TLSA records is verified by them; one
        that an authority signed and they do not know is not."""
        issued = self.authority.issue("other.example", self_signed=True)
        digest = sha256(issued.certificate.public_bytes(Encoding.DER)).digest()
        port = self.listen(issued)
        status = yield self.send(port, "opportunistic", tlsa=(TLSA(3, 0, 1, digest),))
        self.assertIs(status.action, Action.RELAYED)
        self.assertRegex(status.tls, r"^TLSv1\.3 with TLS_\w+, verified by DANE \(3 0 1\)$")
        port = self.listen(self.authority.issue(HOST))
        status = yield self.send(port, "opportunistic", tlsa=(TLSA(3, 0, 1, digest),))
        self.assertEqual((status.action, status.reason), (Action.DELAYED, Reason.DANE_FAILED))
        self.assertEqual([line[:4] for _, line in self.mx.lines], [b"EHLO", b"STAR", b"EHLO", b"QUIT"])

    @inlineCallbacks
    def test_wrong_certificates(self) -> Any:
        """A self-signed certificate, or one for another name, is not good enough where it must be verified."""
        for issued in (self.authority.issue(HOST, self_signed=True), self.authority.issue("other.example.net")):
            port = self.listen(issued)
            status = yield self.send(port, "verified")
            self.assertEqual((status.action, status.reason), (Action.DELAYED, Reason.TLS_FAILED))
            self.assertIn("the certificate of mail.example.net is not good: ", status.words)
            self.assertEqual([line[:4] for _, line in self.mx.lines], [b"EHLO", b"STAR", b"EHLO", b"QUIT"])

    @inlineCallbacks
    def test_no_handshake(self) -> Any:
        """A host that goes on in the clear after its 220: in the clear again, or not at all."""
        port = self.listen(None)
        status = yield self.send(port, "required")
        self.assertEqual((status.action, status.reason), (Action.DELAYED, Reason.TLS_FAILED))
        self.assertNotIn(b"MAIL", self.in_clear())
        status = yield self.send(port, "opportunistic")
        self.assertEqual((status.action, status.tls), (Action.RELAYED, ""))

    @inlineCallbacks
    def test_no_shared_cipher(self) -> Any:
        """A host whose TLS cannot come together with ours: the words say what OpenSSL says."""
        port = self.listen(self.authority.issue(HOST))
        context = self.mx.options.getContext()
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        context.set_cipher_list(b"kRSA+AES")  # which a certificate with an elliptic key cannot do
        status = yield self.send(port, "required")
        self.assertEqual((status.action, status.reason), (Action.DELAYED, Reason.TLS_FAILED))
        self.assertRegex(status.words, "^TLS with mail.example.net came to nothing: .*handshake failure; the route")
        self.flushLoggedErrors(SSL.Error)
