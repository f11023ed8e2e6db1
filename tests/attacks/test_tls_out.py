"""Attacks on the way out: injection behind STARTTLS (T09), stripping (T10), stalling (T11), evil replies (T21)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.net.authority import Authority
from tests.outbound.remote import Host, Node, Resolver
from twisted_mail_node.dns.answer import MX, TLSA, DNSError
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.outbound.mtasts import Mode, StsPolicy
from twisted_mail_node.outbound.tls_outcome import TlsOutcome
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import OutboundSettings

#: All that may ever be written in the clear where TLS must be.
HARMLESS = frozenset({b"EHLO mx.example.org\r\n", b"HELO mx.example.org\r\n", b"STARTTLS\r\n", b"QUIT\r\n"})
#: What makes a mail one that must not go in the clear.
MUST: tuple[dict[str, Any], ...] = ({"level": "required"}, {"level": "verified"}, {"require_tls": True})
MUST_BE_VERIFIED = MUST[1:]
NEXT_HOP = "[mail.example.net]"
NAME = "mx1.example.net"
ISSUED = Authority().issue(NAME)
OTHER = Authority().issue(NAME)
KEY = ISSUED.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def sts(mode: Mode = "enforce", exchangers: tuple[str, ...] = (NAME,)) -> StsPolicy:
    """An MTA-STS policy."""
    return StsPolicy("1", mode, exchangers, 86400, 0.0)


class Known:
    """Everything a node may know of example.net: its policy, and what was reached there; and who is told."""

    def __init__(self, policy: StsPolicy | None = None, before: str = "") -> None:
        self.policy, self.before = policy, before
        self.outcomes: list[TlsOutcome] = []

    async def find(self, domain: str) -> StsPolicy | None:
        return self.policy

    def of(self, domain: str) -> str:
        return self.before

    def reached(self, domain: str, level: str) -> None:
        self.before = level

    def note(self, outcome: TlsOutcome) -> None:
        self.outcomes.append(outcome)


def node_with(
    *records: TLSA | DNSError, policy: StsPolicy | None = None, before: str = "", signed: bool = True
) -> Node:
    """A node on its way to the one exchanger of example.net."""
    known = Known(policy, before)
    table: dict[tuple[str, str], Any] = {
        ("example.net", "MX"): (MX(10, NAME),),
        (NAME, "A"): ("192.0.2.1",),
        (f"_25._tcp.{NAME}", "TLSA"): records[0] if records and isinstance(records[0], DNSError) else records,
    }
    settings = OutboundSettings(pin=("example.net",) if before else ())
    outbound = {"policies": known, "levels": known, "notes": known, "settings": settings}
    node = Node(Resolver(table, signed), outbound=outbound)
    node.known = known  # type: ignore[attr-defined]
    return node


class Attack(SynchronousTestCase):
    def begin(self, **mail: Any) -> tuple[Node, Deferred[Sequence[DeliveryStatus]], Host]:
        """A mail on its way to a host with one name and one address."""
        node = Node(Resolver({("mail.example.net", "A"): ("192.0.2.7",)}))
        sent = node.send(next_hop=NEXT_HOP, **mail)
        return node, sent, node.hosts[0]

    def assertKeptBack(self, node: Node, sent: Deferred[Sequence[DeliveryStatus]], *reasons: Reason) -> DeliveryStatus:
        """The mail has its status, for one of these reasons, and not an octet of it was written anywhere."""
        (status,) = self.successResultOf(sent)
        self.assertIn(status.reason, reasons)
        self.assertIn(status.action, (Action.DELAYED, Action.FAILED))
        self.assertEqual(status.action is Action.FAILED, status.reason is Reason.REQUIRETLS)
        self.assertTrue(status.words)
        for host in node.hosts:
            lines = host.transport.all_written.splitlines(keepends=True)
            self.assertTrue(HARMLESS.issuperset(lines), lines)
        return status


class InjectionTests(Attack):
    """T09: someone between us and the host puts replies of his own behind the 220, in the clear."""

    EVIL = (
        b"250 ok\r\n",
        b"250-mx\r\n250-PIPELINING\r\n250 REQUIRETLS\r\n",
        b"250-mx\r\n",
        b"250",
        b"2",
        b"\r",
        b"\n",
        b"220 again\r\n",
        b"\x16\x03\x01",
        b"\0" * 4096,
    )

    def test_in_the_same_packet(self) -> None:
        """Octets behind the 220 in its packet end the connection before the handshake; none of them is an answer."""
        for evil in self.EVIL:
            for mail in MUST:
                node, sent, host = self.begin(**mail)
                host.greets("STARTTLS")
                host.protocol.dataReceived(b"220 begin\r\n" + evil)
                self.assertIsNone(host.transport.session)
                self.assertTrue(host.transport.aborted)
                self.assertKeptBack(node, sent, Reason.TLS_FAILED)

    @settings(max_examples=50, deadline=None)
    @given(st.binary(min_size=1, max_size=50))
    def test_anything(self, evil: bytes) -> None:
        """Whatever they are."""
        node, sent, host = self.begin(level="required")
        host.greets("STARTTLS")
        host.protocol.dataReceived(b"220 begin\r\n" + evil)
        self.assertIsNone(host.transport.session)
        self.assertKeptBack(node, sent, Reason.TLS_FAILED)

    def test_before_the_handshake_ends(self) -> None:
        """Nor is a reply that somehow comes before the handshake has ended."""
        node, sent, host = self.begin(level="verified")
        host.offers_tls()
        host.protocol.dataReceived(b"250-mx\r\n250 PIPELINING\r\n")
        self.assertEqual(host.completes(), b"")
        self.assertTrue(host.transport.aborted)
        self.assertKeptBack(node, sent, Reason.TLS_FAILED)

    def test_before_it_was_asked(self) -> None:
        """A 220 that comes together with the reply to EHLO is no answer to STARTTLS."""
        node, sent, host = self.begin(level="required")
        host.says("220 mx ready")
        host.says("250-mx", "250 STARTTLS", "220 begin")
        self.assertIsNone(host.transport.session)
        self.assertKeptBack(node, sent, Reason.TLS_FAILED)

    def test_opportunistic(self) -> None:
        """Where TLS is opportunistic it counts as a broken handshake: a new connection, and nothing from the old."""
        node, sent, host = self.begin()
        host.greets("STARTTLS")
        host.says("220 begin", "250-mx", "250-SIZE 1", "250 PIPELINING", "250 ok", "250 ok", "354 go", "250 taken")
        self.assertTrue(host.transport.aborted)
        self.assertNotIn(b"MAIL", host.transport.all_written)
        self.assertNoResult(sent)
        self.assertEqual(len(node.hosts), 2)

    def test_offers_in_clear(self) -> None:
        """What an attacker has the host offer in the clear is forgotten: REQUIRETLS above all."""
        node, sent, host = self.begin(require_tls=True)
        host.offers_tls("REQUIRETLS", "PIPELINING")
        host.completes()
        self.assertEqual(host.offers(), b"QUIT\r\n")
        host.says("221 bye")
        self.assertKeptBack(node, sent, Reason.REQUIRETLS)


def _no_starttls(node: Node, host: Host) -> None:
    host.greets("PIPELINING", "XXXXXXXX", "REQUIRETLS")
    host.says("221 bye")


def _helo(node: Node, host: Host) -> None:
    host.says("220 mx")
    host.says("502 no EHLO here")
    host.says("250 mx")
    host.says("221 bye")


def _answers(reply: str) -> Callable[[Node, Host], None]:
    def answers(node: Node, host: Host) -> None:
        host.greets("STARTTLS", "REQUIRETLS")
        host.says(reply)
        host.says("221 bye")

    return answers


def _breaks(why: Exception | None) -> Callable[[Node, Host], None]:
    def breaks(node: Node, host: Host) -> None:
        host.offers_tls("REQUIRETLS")
        host.closes(why)

    return breaks


class StrippingTests(Attack):
    """T10: someone takes TLS away. It waits or fails, with a reason, and nothing goes in the clear."""

    WAYS = (
        _no_starttls,
        _helo,
        _answers("454 4.7.0 TLS not available"),
        _answers("500 what"),
        _answers("554 5.7.3 no"),
        _answers("250 ok"),
        _answers("354 go on"),
        _breaks(None),
        _breaks(SSL.Error([("SSL routines", "", "unsupported protocol")])),
        _breaks(SSL.Error([])),
    )

    def test_no_tls(self) -> None:
        """No STARTTLS, HELO only, STARTTLS refused in every way, a handshake that breaks."""
        for way in self.WAYS:
            for mail in MUST:
                node, sent, host = self.begin(**mail)
                way(node, host)
                self.assertEqual(len(node.hosts), 1)
                self.assertKeptBack(node, sent, Reason.TLS_FAILED, Reason.REQUIRETLS)

    def test_bad_certificate(self) -> None:
        """A certificate for another name, expired, self-signed: where it is to be verified, QUIT and nothing else."""
        for why in ("its names do not hold mail.example.net", "it has expired", "it is self-signed"):
            for mail in MUST_BE_VERIFIED:
                node, sent, host = self.begin(**mail)
                self.assertEqual(host.secures("PIPELINING", "REQUIRETLS", why=why), b"QUIT\r\n")
                host.says("221 bye")
                status = self.assertKeptBack(node, sent, Reason.TLS_FAILED, Reason.REQUIRETLS)
                self.assertIn(why, status.words)

    def test_after_opportunistic(self) -> None:
        """That a host's TLS broke for mail that may go in the clear changes nothing for mail that may not."""
        for mail in MUST:
            node, _, host = self.begin()
            host.offers_tls()
            host.closes()
            node.hosts[1].greets("STARTTLS")
            sent = node.send(next_hop=NEXT_HOP, **mail)
            self.assertEqual(node.hosts[2].greets("STARTTLS"), b"STARTTLS\r\n")
            node.hosts[2].closes()
            (status,) = self.successResultOf(sent)
            self.assertIs(status.reason, Reason.TLS_FAILED)

    def test_forged_exchanger(self) -> None:
        """An MX record that an attacker wrote does not lead a mail with REQUIRETLS to his host."""
        node = Node()
        (status,) = self.successResultOf(node.send(require_tls=True))
        self.assertEqual((status.action, status.reason), (Action.FAILED, Reason.REQUIRETLS))
        self.assertEqual(node.hosts, [])


#: Mail to the domain, as it mostly is and as a route may have it.
_KINDS: tuple[dict[str, Any], ...] = ({}, {"level": "required"})


class DomainTests(Attack):
    """T10 where the domain asks for TLS, or where it was reached before: DANE, MTA-STS, outbound.pin."""

    DANE = (TLSA(3, 1, 0, KEY),)
    WAYS = StrippingTests.WAYS

    def demanding(self) -> list[tuple[Callable[[], Node], Reason]]:
        """Nodes that may give example.net nothing in the clear, and what they call it."""
        return [
            (lambda: node_with(*self.DANE), Reason.DANE_FAILED),
            (lambda: node_with(TLSA(1, 1, 1, b"\0" * 32)), Reason.DANE_FAILED),
            (lambda: node_with(*self.DANE, policy=sts("testing")), Reason.DANE_FAILED),
            (lambda: node_with(policy=sts()), Reason.MTA_STS_FAILED),
            (lambda: node_with(policy=sts(), signed=False), Reason.MTA_STS_FAILED),
            (lambda: node_with(before="encrypted"), Reason.TLS_FAILED),
            (lambda: node_with(before="verified", signed=False), Reason.TLS_FAILED),
            (lambda: node_with(before="dane"), Reason.TLS_FAILED),
        ]

    def outcomes(self, node: Node) -> list[str]:
        return [outcome.result for outcome in node.known.outcomes]  # type: ignore[attr-defined]

    def test_no_tls(self) -> None:
        """However TLS is taken away, the mail waits, with the reason; each time one outcome is noted."""
        for way in self.WAYS:
            for make, reason in self.demanding():
                for mail in _KINDS:
                    node = make()
                    sent = node.send(**mail)
                    way(node, node.hosts[0])
                    self.assertEqual(len(node.hosts), 1)
                    expected = Reason.TLS_FAILED if mail and reason is not Reason.MTA_STS_FAILED else reason
                    self.assertKeptBack(node, sent, reason, expected)
                    self.assertIn(self.outcomes(node), (["starttls-not-supported"], ["validation-failure"]))

    def test_wrong_certificate(self) -> None:
        """Under DANE no authority's certificate helps; under an enforced policy and after a good one nothing else."""
        for why in ("", "it expired on 2026-01-01", "the certificate is self-signed"):
            node = node_with(*self.DANE, policy=sts())
            sent = node.send()
            self.assertEqual(node.hosts[0].secures(why=why, chain=(OTHER.certificate,)), b"QUIT\r\n")
            node.hosts[0].says("221 bye")
            self.assertIn("TLSA", self.assertKeptBack(node, sent, Reason.DANE_FAILED).words)
            self.assertEqual(self.outcomes(node), ["validation-failure"])
        for make, reason in self.demanding()[3:]:
            node = make()
            if node.known.before == "encrypted":  # type: ignore[attr-defined]
                continue
            sent = node.send()
            node.hosts[0].offers_tls()
            node.hosts[0].completes("it expired on 2026-01-01", fault="expired")
            self.assertEqual(node.hosts[0].offers("PIPELINING"), b"QUIT\r\n")
            node.hosts[0].says("221 bye")
            self.assertIn("expired", self.assertKeptBack(node, sent, reason).words)
            expected = "certificate-expired" if reason is Reason.MTA_STS_FAILED else ""
            self.assertEqual(self.outcomes(node), [expected])

    def test_not_named(self) -> None:
        """A host that the policy does not name gets no connection: an attacker's MX record leads nowhere."""
        node = node_with(policy=sts(exchangers=("other.example.net",)), signed=False)
        self.assertKeptBack(node, node.send(), Reason.MTA_STS_FAILED)
        self.assertEqual((node.hosts, self.outcomes(node)), ([], ["validation-failure"]))

    def test_look_up_broken(self) -> None:
        """Nor does one whose TLSA records cannot be had: who breaks the DNS wins nothing (RFC 7672 section 2.1)."""
        for mail in (*_KINDS, {"require_tls": True}):
            node = node_with(DNSError("SERVFAIL"), policy=sts())
            self.assertKeptBack(node, node.send(**mail), Reason.DANE_FAILED)
            self.assertEqual((node.hosts, self.outcomes(node)), ([], ["dnssec-invalid"]))

    def test_bogus_exchangers(self) -> None:
        """MX records that do not prove (SERVFAIL of the validating resolver) are no implicit MX: the mail waits."""
        node = Node(Resolver({("example.net", "MX"): DNSError("SERVFAIL"), ("example.net", "A"): ("192.0.2.1",)}))
        self.assertKeptBack(node, node.send(), Reason.DNS_FAILED)
        self.assertEqual(node.hosts, [])

    def test_unsigned(self) -> None:
        """TLSA records that an attacker made up, in a zone that is not signed, count for nothing."""
        node = node_with(TLSA(3, 1, 1, b"\1" * 32), signed=False)
        node.send()
        self.assertIn(b"MAIL", node.hosts[0].secures("PIPELINING"))

    def test_good(self) -> None:
        """The host that fits gets the mail, by DANE with a certificate that no authority signed; its session is its
        own (nothing is resumed), and the status says how."""
        node = node_with(*self.DANE)
        sent = node.send()
        host = node.hosts[0]
        self.assertIn(b"MAIL", host.secures("PIPELINING", why="it is self-signed", chain=(ISSUED.certificate,)))
        assert host.transport.session is not None
        self.assertEqual((host.transport.session.host, host.transport.session.fresh), (NAME, True))
        host.says("250 ok", "250 ok", "354 go")
        host.says("250 2.0.0 taken")
        (status,) = self.successResultOf(sent)
        self.assertTrue(status.tls.endswith(", verified by DANE (3 1 0)"), status.tls)
        self.assertEqual(self.outcomes(node), [""])
        self.assertEqual(node.relay.status()[0]["verified"], 1)
        node = node_with(policy=sts(), signed=False)
        sent = node.send()
        self.assertIn(b"MAIL", node.hosts[0].secures("PIPELINING"))
        assert node.hosts[0].transport.session is not None
        self.assertFalse(node.hosts[0].transport.session.fresh)
        self.assertTrue(node.hosts[0].protocol.peer.tls.endswith(", verified (MTA-STS)"))

    def test_testing(self) -> None:
        """A policy that only tests holds nothing up, and its failure is noted."""
        for policy, result in ((sts("testing"), "certificate-not-trusted"), (sts("testing", ()), "validation-failure")):
            node = node_with(policy=policy)
            node.send()
            self.assertIn(b"MAIL", node.hosts[0].secures("PIPELINING", why="it is self-signed"))
            self.assertEqual(self.outcomes(node), [result])
        node = node_with(policy=sts("testing"))
        node.send()
        self.assertIn(b"MAIL", node.hosts[0].greets("PIPELINING"))
        self.assertEqual(self.outcomes(node), ["starttls-not-supported"])

    def test_requiretls(self) -> None:
        """REQUIRETLS goes by signed MX records, or to a host that a policy names, and not without either; what is
        missing then is said to the sender (RFC 8689 section 4.2.1)."""
        good = (ISSUED.certificate,)
        ways: list[tuple[Callable[[], Node], str]] = [
            (node_with, ""),
            (lambda: node_with(*self.DANE), "it is self-signed"),
            (lambda: node_with(policy=sts(), signed=False), ""),
            (lambda: node_with(policy=sts("testing"), signed=False), ""),
        ]
        for make, why in ways:
            node = make()
            sent = node.send(require_tls=True)
            written = node.hosts[0].secures("PIPELINING", "REQUIRETLS", why=why, chain=good)
            self.assertTrue(written.startswith(b"MAIL FROM:<ann@example.org> REQUIRETLS\r\n"), written)
            for extensions, chain, status in ((("PIPELINING",), good, "5.7.30"), (("REQUIRETLS",), (), "5.7.10")):
                if status == "5.7.10" and not why:
                    continue
                node = make()
                sent = node.send(require_tls=True)
                self.assertEqual(node.hosts[0].secures(*extensions, why=why, chain=chain), b"QUIT\r\n")
                node.hosts[0].says("221 bye")
                self.assertEqual(self.assertKeptBack(node, sent, Reason.REQUIRETLS).status, status)
        for node in (node_with(signed=False), node_with(signed=False, policy=sts(exchangers=("other.example",)))):
            self.assertKeptBack(node, node.send(require_tls=True), Reason.REQUIRETLS)
            self.assertEqual(node.hosts, [])

    def test_optional(self) -> None:
        """TLS-Required: No goes all the same, with TLS where there is any (RFC 8689 section 4.2.2); no such mail opens
        a connection for others."""
        for make, _ in self.demanding()[:5]:
            node = make()
            kept = node.send()
            node.send(tls_optional=True)
            if not node.hosts[0].transport.session:
                node.hosts[0].greets("PIPELINING")
            self.assertIn(b"MAIL", node.hosts[1].greets("PIPELINING"))
            node.hosts[0].says("221 bye")
            self.successResultOf(kept)
            self.assertNotIn(b"MAIL", node.hosts[0].transport.all_written)
            node = make()
            node.send(tls_optional=True)
            self.assertIn(b"MAIL", node.hosts[0].secures("PIPELINING", why="it is self-signed"))

    def test_next_host(self) -> None:
        """A host that does not fit is passed over for one that does."""
        table = {
            ("example.net", "MX"): (MX(10, "evil.example.net"), MX(20, NAME)),
            ("evil.example.net", "A"): ("192.0.2.66",),
            (NAME, "A"): ("192.0.2.1",),
        }
        node = Node(Resolver(table), outbound={"policies": Known(sts())})
        node.send()
        self.assertEqual([host.ip for host in node.hosts], ["192.0.2.1"])
        self.assertIn(b"MAIL", node.hosts[0].secures("PIPELINING"))
        self.assertEqual([event.reason for event in node.failed], [Reason.MTA_STS_FAILED])


class StallTests(Attack):
    """T11: each phase has its deadline, and there is no more of it."""

    def stalled(self, node: Node, host: Host, seconds: float) -> None:
        """The connection ends after so many seconds, not before."""
        node.reactor.advance(seconds - 0.5)
        self.assertFalse(host.is_closed)
        node.reactor.advance(1.0)
        self.assertTrue(host.is_closed)

    def test_no_reply_to_starttls(self) -> None:
        """The reply to STARTTLS: the handshake's time."""
        node, sent, host = self.begin(level="required")
        host.greets("STARTTLS")
        self.stalled(node, host, 20.0)
        self.assertKeptBack(node, sent, Reason.TLS_FAILED)
        self.assertEqual(node.reactor.getDelayedCalls(), [])

    def test_handshake(self) -> None:
        """The handshake itself."""
        node, sent, host = self.begin(level="verified")
        host.offers_tls()
        self.stalled(node, host, 20.0)
        self.assertKeptBack(node, sent, Reason.TLS_FAILED)
        self.assertEqual(node.reactor.getDelayedCalls(), [])

    def test_ehlo_after_it(self) -> None:
        """The EHLO after it: a greeting's time."""
        node, sent, host = self.begin(level="required")
        host.offers_tls()
        host.completes()
        self.stalled(node, host, 300.0)
        self.assertKeptBack(node, sent, Reason.TLS_FAILED)

    def test_quit(self) -> None:
        """QUIT when the host will not do: five seconds."""
        node, sent, host = self.begin(level="required")
        self.assertEqual(host.greets(), b"QUIT\r\n")
        self.stalled(node, host, 5.0)
        self.assertKeptBack(node, sent, Reason.TLS_FAILED)

    def test_opportunistic(self) -> None:
        """A host that stalls costs its mails one handshake's time, and then no more for a while."""
        node, _, host = self.begin()
        host.offers_tls()
        self.stalled(node, host, 20.0)
        node.hosts[1].greets("STARTTLS", "PIPELINING")
        node.hosts[1].closes()
        node.send(next_hop=NEXT_HOP)
        self.assertNotEqual(node.hosts[-1].greets("STARTTLS"), b"STARTTLS\r\n")


class EvilReplyTests(Attack):
    """T21, by a host with TLS: each reply is bounded, and none ends in a traceback."""

    ENDLESS = b"250-" + b"x" * 60 + b"\r\n"
    WRONG = (
        b"250-" + b"x" * 65536 + b"\r\n250 ok\r\n",
        b"250" + b" " * 70000,
        b"250-mx\r\n251 STARTTLS\r\n",
        b"99 what\r\n",
        b"\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\xff\xfe250 ok\r\n",
    )

    def evil(self, when: str, octets: bytes) -> None:
        node, sent, host = self.begin(level="required")
        if when == "EHLO":
            host.says("220 mx")
        elif when == "STARTTLS":
            host.greets("STARTTLS")
        elif when == "EHLO over TLS":
            host.offers_tls()
            host.completes()
        else:
            host.secures("PIPELINING")
        for _ in range(400):
            host.protocol.dataReceived(octets)
            if host.is_closed:
                break
        self.assertTrue(host.transport.aborted, when)
        if when == "MAIL":
            self.assertIs(self.successResultOf(sent)[0].reason, Reason.BAD_REPLY)
        else:
            self.assertKeptBack(node, sent, Reason.TLS_FAILED, Reason.BAD_REPLY)
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual(len(node.hosts), 1)

    def test_replies(self) -> None:
        """Endless, too long, mixed, no replies at all: at every step."""
        for when in ("EHLO", "STARTTLS", "EHLO over TLS", "MAIL"):
            for octets in (self.ENDLESS, *self.WRONG):
                self.evil(when, octets)

    def test_short_replies(self) -> None:
        """Codes without text, and status codes that are none, are taken for what they are."""
        for reply, code in (("550", "5.0.0"), ("550 5.1", "5.0.0"), ("550 5.1.1", "5.1.1"), ("550 4.1.1 x", "5.0.0")):
            _, sent, host = self.begin(level="required")
            host.secures("PIPELINING")
            host.says("250 ok", reply, "503 no")
            (status,) = self.successResultOf(sent)
            self.assertEqual((status.action, status.status), (Action.FAILED, code))

    def test_starttls_answers(self) -> None:
        """STARTTLS answered with a bare code, or with controls: one clean line in the words."""
        for reply in ("454", "454 5.1", "454 \x1b[31m\u202e", "454 " + "x" * 2000):
            node, sent, host = self.begin(level="required")
            host.greets("STARTTLS")
            host.says(reply)
            host.says("221 bye")
            status = self.assertKeptBack(node, sent, Reason.TLS_FAILED)
            self.assertTrue(status.words.isprintable())
            self.assertLess(len(status.words), 600)

    def test_certificate_words(self) -> None:
        """So is what a certificate says of itself, however long."""
        _, sent, host = self.begin(level="verified")
        host.secures(why="it is for\r\n250 ok\x1b[31m" + "x" * 10000)
        host.says("221 bye")
        (status,) = self.successResultOf(sent)
        for words in (status.words, status.tls):
            self.assertTrue(words.isprintable())
            self.assertLess(len(words), 700)
