"""Tests of twisted_mail_node.net.tls_client and tls_trust: TLS towards other hosts, and what their certificates are
worth."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_ASN1, PKey, load_certificate
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.net.authority import Authority, Issued
from tests.net.loop import End, Ends, Loop
from twisted_mail_node.interfaces import ITlsSession
from twisted_mail_node.net import tls_client
from twisted_mail_node.net.certificates import Certificates
from twisted_mail_node.net.https import Checked
from twisted_mail_node.net.tls import TlsConnection, TlsSession
from twisted_mail_node.net.tls_client import TlsClient
from twisted_mail_node.net.tls_transport import SecureClient
from twisted_mail_node.net.tls_trust import Shown, as_address
from twisted_mail_node.settings import Certificate, Settings, TlsSettings


class ClientCase(SynchronousTestCase):
    """Connections of a TlsClient to a listener."""

    ours = True
    authority = Authority()

    def setUp(self) -> None:
        self.dir = Path(self.mktemp()).absolute()
        self.trusted = self.authority.put(self.dir / "roots.pem")
        self.seconds = 0.0
        self.client = TlsClient(self.trusted, lambda: self.seconds)

    def server(self, issued: Issued, **tls: Any) -> Ends:
        """A listener with this certificate."""
        issued.put(self.dir / "host.pem")
        settings = Settings(
            hostname="mx.example.org",
            state_dir=self.dir,
            certificates=(Certificate(chain="host.pem"),),
            tls=TlsSettings(**tls),
        )
        certificates = Certificates(settings, Loop(), lambda event: None)
        certificates.start()
        self.addCleanup(certificates.stop)
        return Ends(self, certificates.secure, self.ours)

    def connect(
        self, ends: Ends, host: str = "mx.example.org", client: TlsClient | None = None, fresh: bool = False
    ) -> tuple[End, End]:
        """Both ends of a new connection, whose handshake is completed, and whose server has said something."""
        before = len(ends.made)
        end = ends.connect(End(lambda transport: (client or self.client).secure(transport, host, fresh)))
        ends.loop.until(lambda: end.completed and len(ends.made) > before and ends.made[-1].completed)
        server: Any = ends.made[-1]
        server.transport.write(b"220 hello\r\n")
        ends.loop.until(lambda: end.said == b"220 hello\r\n")
        return end, server

    def why(self, issued: Issued, host: str = "mx.example.org") -> str:
        """What a client that goes to ``host`` thinks of the certificate; the handshake is completed in any case."""
        end, _ = self.connect(self.server(issued), host)
        session = end.session
        self.assertEqual(session.verified, not session.why)
        self.assertEqual(session.peer, issued.certificate)
        return session.why


class OddTests(SynchronousTestCase):
    """Certificates that OpenSSL takes and nobody can read."""

    def handshake(self, kind: type[TlsConnection]) -> Any:
        """Our end of a connection to a host that shows one of version 2, with extensions; and OpenSSL's error."""
        issued = Authority().issue("mx.example.org")
        octets = issued.certificate.public_bytes(Encoding.DER)
        odd = octets.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x01", 1)
        self.assertNotEqual(odd, octets)
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.use_certificate(load_certificate(FILETYPE_ASN1, odd))
        context.use_privatekey(PKey.from_cryptography_key(issued.key))
        host = SSL.Connection(context, None)
        host.set_accept_state()
        ours = TlsClient(Authority().put(Path(self.mktemp()))).connection("mx.example.org", kind)
        if isinstance(ours, Checked):
            ours.host, ours.left, ours.failed = "mx.example.org", 100_000, self.said.append
        ends = (ours, host)
        for _ in range(4):
            for one, other in (ends, ends[::-1]):
                with contextlib.suppress(SSL.WantReadError):
                    one.do_handshake()
                with contextlib.suppress(SSL.WantReadError):
                    other.bio_write(one.bio_read(100_000))
        return ours

    def setUp(self) -> None:
        self.said: list[str] = []

    def test_session(self) -> None:
        """TLS goes on, and the certificate is not good; its chain is none."""
        session = TlsSession(self.handshake(TlsConnection), "mx.example.org")
        self.assertTrue(session.version)
        self.assertEqual((session.verified, session.why), (False, "its certificate cannot be read"))
        self.assertEqual((session.fault, session.chain), ("untrusted", ()))

    def test_not_looked_at(self) -> None:
        """A chain that nobody has looked at is not good, though nothing is known to be wrong with it."""
        certificate = Authority().certificate
        shown = Shown(None)
        self.assertEqual(shown.problem(certificate), "its chain was not looked at")
        shown.seen = True
        self.assertEqual(Shown(None, shown).problem(certificate), "")

    def test_https(self) -> None:
        """By HTTPS nothing is said to such a host."""
        self.assertRaises(SSL.Error, self.handshake, Checked)
        self.assertEqual(self.said, ["the certificate of mx.example.org is not good: it cannot be read"])


class BothWays:
    """What holds for our way and for Twisted's."""

    def test_verified(self: Any) -> None:
        """A certificate of a trusted authority, for the host, is verified; both ends agree on the rest."""
        end, server = self.connect(self.server(self.authority.issue("mx.example.org")))
        session = end.session
        self.assertTrue(verifyObject(ITlsSession, session))
        self.assertEqual((session.verified, session.why), (True, ""))
        self.assertEqual(str(session), "TLSv1.3 with TLS_AES_256_GCM_SHA384")
        self.assertEqual(session.server_name, "mx.example.org")
        self.assertEqual(server.session.server_name, "mx.example.org")
        self.assertEqual(session.channel_binding(), server.session.channel_binding())
        self.assertEqual(len(session.channel_binding()), 32)

    def test_talk(self: Any) -> None:
        """Octets go both ways, 1 MiB of them, and the end is told."""
        end, server = self.connect(self.server(self.authority.issue("mx.example.org")))
        large = bytes(range(256)) * 4096
        loop = end.transport.reactor
        end.transport.write(large)
        loop.until(lambda: len(server.said) == len(large))
        server.transport.write(large)
        loop.until(lambda: len(end.said) == len(large) + 11)
        self.assertTrue(server.said == large == end.said[11:])
        end.transport.loseConnection()
        loop.until(lambda: server.lost and end.lost)

    def test_resumed(self: Any) -> None:
        """The next connection to the same host resumes the session, once for each; one to another host does not."""
        ends = self.server(self.authority.issue("mx.example.org", "mail.example.org"))
        for version in (SSL.TLS1_3_VERSION, SSL.TLS1_2_VERSION):
            self.client._context.set_max_proto_version(version)
            self.assertFalse(self.connect(ends)[0].session.resumed)
            end, server = self.connect(ends)
            self.assertTrue(end.session.resumed and server.session.resumed, version)
            self.assertTrue(str(end.session).endswith(", resumed"))
            self.assertEqual((end.session.verified, end.session.why), (True, ""))
            self.assertFalse(self.connect(ends, "mail.example.org")[0].session.resumed)
            self.assertTrue(self.connect(ends)[0].session.resumed)
            self.client = TlsClient(self.trusted)


class OursTests(BothWays, ClientCase):
    """In our own way."""

    def test_kind(self) -> None:
        """The transport is ours."""
        end, _ = self.connect(self.server(self.authority.issue("mx.example.org")))
        self.assertIs(type(end.transport), SecureClient)

    def test_names(self) -> None:
        """The certificate must name the host: itself or by a wildcard for its first label; the CN does not count."""
        issue = self.authority.issue
        self.assertEqual(self.why(issue("*.example.org")), "")
        self.assertEqual(self.why(issue("MX.example.org"), "mx.Example.ORG."), "")
        self.assertEqual(self.why(issue("other.example")), "it is for other.example, not mx.example.org")
        self.assertEqual(
            self.why(issue("*.example.org"), "a.b.example.org"), "it is for *.example.org, not a.b.example.org"
        )
        self.assertEqual(
            self.why(issue("a.example", "b.example", "c.example", "d.example")),
            "it is for a.example, b.example, c.example …, not mx.example.org",
        )
        self.assertIn("mx.example.org", self.why(issue(cn="mx.example.org")))

    def test_addresses(self) -> None:
        """For an IP address the certificate must name it, and no SNI is sent (RFC 6066)."""
        issued = self.authority.issue("192.0.2.1", "mx.example.org")
        self.assertEqual(self.why(issued, "192.0.2.1"), "")
        self.assertEqual(self.why(issued, "[192.0.2.1]"), "")
        self.assertEqual(self.why(issued, "192.0.2.2"), "it is for mx.example.org, not 192.0.2.2")
        end, server = self.connect(self.server(issued), "192.0.2.1")
        self.assertEqual((end.session.server_name, server.session.server_name), ("", ""))
        for host, address in (("[IPv6:2001:db8::1]", "2001:db8::1"), ("2001:DB8::1", "2001:db8::1"), ("1.example", "")):
            self.assertEqual(as_address(host), address)

    def test_chains(self) -> None:
        """What is wrong with a chain is told, and the handshake is completed all the same."""
        issue = self.authority.issue
        self.assertEqual(self.why(issue("mx.example.org", self_signed=True)), "the certificate is self-signed")
        stranger = Authority("a stranger")
        self.assertIn("not known", self.why(stranger.issue("mx.example.org")))
        between = Authority("between", self.authority)
        issued = between.issue("mx.example.org")
        self.assertEqual(self.why(issued), "")
        self.assertIn("is not known here", self.why(issued._replace(above=())))
        beside = Authority("beside", stranger)
        whole = (beside.certificate, stranger.certificate)
        self.assertIn("root that is not trusted", self.why(beside.issue("mx.example.org")._replace(above=whole)))

    def test_dates(self) -> None:
        """One that expired, or is not valid yet, is not verified; the day is told."""
        past = datetime(2026, 1, 1, 12, tzinfo=UTC)
        self.assertEqual(self.why(self.authority.issue("mx.example.org", expires=past)), "it expired on 2026-01-01")
        future = datetime.now(UTC) + timedelta(days=3 * 365 + 10)
        self.assertRegex(
            self.why(self.authority.issue("mx.example.org", expires=future)),
            r"^it is not valid before \d{4}-\d\d-\d\d$",
        )

    def test_purpose(self) -> None:
        """A client's certificate is not good for a server."""
        self.assertEqual(
            self.why(self.authority.issue("mx.example.org", mail="joe@example.org")), "it is not made for this purpose"
        )

    def test_resumed_unverified(self) -> None:
        """A resumed session is worth what its first handshake was worth."""
        ends = self.server(self.authority.issue("mx.example.org", self_signed=True))
        self.connect(ends)
        end, _ = self.connect(ends)
        self.assertTrue(end.session.resumed)
        self.assertEqual((end.session.verified, end.session.why), (False, "the certificate is self-signed"))

    def test_resumed_for_an_hour(self) -> None:
        """However often a session is resumed, the chain is looked at again after an hour."""
        ends = self.server(self.authority.issue("mx.example.org"))
        resumed = []
        for _ in range(5):
            resumed.append(self.connect(ends)[0].session.resumed)
            self.seconds += 1000.0
        self.assertEqual(resumed, [False, True, True, True, False])

    def test_not_resumed_elsewhere(self) -> None:
        """A host that does not know the session gets a full handshake."""
        issued = self.authority.issue("mx.example.org")
        self.connect(self.server(issued))
        end, _ = self.connect(self.server(issued))
        self.assertEqual((end.session.resumed, end.session.verified), (False, True))

    def test_fresh(self) -> None:
        """A fresh session resumes none and is not kept, though one is there for others; the chain is shown whole."""
        between = Authority("between", self.authority)
        issued = between.issue("mx.example.org")
        ends = self.server(issued)
        self.connect(ends)
        for _ in range(2):
            end, _ = self.connect(ends, fresh=True)
            self.assertFalse(end.session.resumed)
            self.assertEqual(end.session.chain, (issued.certificate, between.certificate))
        self.assertTrue(self.connect(ends)[0].session.resumed)

    def test_faults(self) -> None:
        """What is wrong in one word: the dates, the name, or anything else."""
        issue = self.authority.issue
        for issued, fault in (
            (issue("mx.example.org"), ""),
            (issue("other.example"), "mismatch"),
            (issue("mx.example.org", expires=datetime(2026, 1, 1, tzinfo=UTC)), "expired"),
            (issue("mx.example.org", self_signed=True), "untrusted"),
            (issue("other.example", self_signed=True), "untrusted"),
            (issue("mx.example.org", mail="joe@example.org"), "untrusted"),
        ):
            end, _ = self.connect(self.server(issued))
            self.assertEqual(end.session.fault, fault)
            self.assertEqual(end.session.chain[:1], (issued.certificate,))

    def test_bounded(self) -> None:
        """Sessions of so many hosts are kept, those of the last."""
        self.patch(tls_client, "SESSIONS", 2)
        ends = self.server(self.authority.issue("*.example.org"))
        for name in ("a.example.org", "b.example.org", "c.example.org"):
            self.connect(ends, name)
        self.assertEqual(list(self.client._kept), ["b.example.org", "c.example.org"])

    def test_trusted(self) -> None:
        """Certificates that cannot be read are a sentence; without any of ours those of the system are taken."""
        missing = self.dir / "missing.pem"
        error = self.assertRaises(ValueError, TlsClient, missing)
        self.assertEqual(str(error), f"{missing} cannot be read: No such file or directory")
        end, _ = self.connect(self.server(self.authority.issue("mx.example.org")), client=TlsClient())
        self.assertFalse(end.session.verified)

    def test_trusted_anew(self) -> None:
        """Other trusted certificates count from the next connection on, sessions of before are not resumed; what cannot
        be read changes nothing."""
        other = Authority()
        ends = self.server(other.issue("mx.example.org"))
        end, _ = self.connect(ends)
        self.assertFalse(end.session.verified)
        self.assertRaises(ValueError, self.client.reload, self.dir / "missing.pem")
        self.assertFalse(self.connect(ends)[0].session.verified)
        self.client.reload(other.put(self.dir / "others.pem"))
        end, _ = self.connect(ends)
        self.assertEqual((end.session.verified, end.session.resumed), (True, False))

    def test_odd_hosts(self) -> None:
        """A host name that cannot be asked for is not, and the certificate is not for it."""
        for host in ("büro.example", "x" * 300, "a b"):
            end, _ = self.connect(self.server(self.authority.issue("mx.example.org")), host)
            self.assertFalse(end.session.verified)
            self.assertTrue(end.session.why)


class TwistedsTests(BothWays, ClientCase):
    """In Twisted's way."""

    ours = False
