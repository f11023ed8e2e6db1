"""Attacks on the way out: injection behind STARTTLS (T09), stripping (T10), stalling (T11), evil replies (T21)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.outbound.remote import Host, Node, Resolver
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.reasons import Reason

#: All that may ever be written in the clear where TLS must be.
HARMLESS = frozenset({b"EHLO mx.example.org\r\n", b"HELO mx.example.org\r\n", b"STARTTLS\r\n", b"QUIT\r\n"})
#: What makes a mail one that must not go in the clear.
MUST: tuple[dict[str, Any], ...] = ({"level": "required"}, {"level": "verified"}, {"require_tls": True})
MUST_BE_VERIFIED = MUST[1:]
NEXT_HOP = "[mail.example.net]"


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
