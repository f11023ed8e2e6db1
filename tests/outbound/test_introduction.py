"""Tests of twisted_mail_node.outbound.introduction: STARTTLS, what it comes to at each level, REQUIRETLS."""

from __future__ import annotations

from collections.abc import Sequence

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.trial.unittest import SynchronousTestCase

from tests.outbound.remote import Host, Node, Notes, Resolver
from tests.outbound.test_security import Policies, sts
from twisted_mail_node.dns.answer import TLSA, Answer
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.reasons import Reason

EHLO = b"EHLO mx.example.org\r\n"
MAIL = b"MAIL FROM:<ann@example.org>\r\n"
RCPT = b"RCPT TO:<joe@example.net>\r\n"
GROUP = MAIL + RCPT + b"DATA\r\n"
TLS = "TLSv1.3 with TLS_AES_256_GCM_SHA384"
#: What may go over a connection in the clear that must not carry mail.
HARMLESS = (b"EHLO mx.example.org\r\n", b"STARTTLS\r\n", b"QUIT\r\n")
#: One host, named by the operator.
ONE_HOST = Resolver({("mail.example.net", "A"): ("192.0.2.7",)})
SURE = "[mail.example.net]"


class Conversation(SynchronousTestCase):
    def setUp(self) -> None:
        self.node = Node()

    def status(self, sent: Deferred[Sequence[DeliveryStatus]]) -> DeliveryStatus:
        (status,) = self.successResultOf(sent)
        return status

    def relayed(self, host: Host, sent: Deferred[Sequence[DeliveryStatus]]) -> DeliveryStatus:
        """The host takes the mail whose group it has."""
        host.says("250 ok", "250 ok", "354 go")
        host.says("250 2.0.0 taken")
        status = self.status(sent)
        self.assertIs(status.action, Action.RELAYED)
        return status

    def assertNothingInClear(self, node: Node | None = None) -> None:
        """Nothing of a mail was written before a handshake, on any connection."""
        for host in (node or self.node).hosts:
            lines = host.transport.in_clear.splitlines(keepends=True)
            self.assertTrue(set(lines) <= set(HARMLESS), lines)


class StarttlsTests(Conversation):
    def test_dialogue(self) -> None:
        """STARTTLS, 220, handshake, EHLO again; then the mail, and its status tells how it went."""
        sent = self.node.send()
        host = self.node.hosts[0]
        self.assertEqual(host.greets("PIPELINING", "STARTTLS"), b"STARTTLS\r\n")
        self.assertEqual(host.says("220 2.0.0 begin"), b"")
        self.assertEqual(host.completes(), EHLO)
        self.assertEqual(host.offers("PIPELINING"), GROUP)
        self.assertEqual(self.relayed(host, sent).tls, f"{TLS}, verified")
        self.assertNothingInClear()

    def test_name(self) -> None:
        """The certificate is compared with the exchanger's name, for a next hop in brackets with that."""
        for node, next_hop, name in (
            (Node(), "example.net", "mx1.example.net"),
            (Node(ONE_HOST), SURE, "mail.example.net"),
            (Node(), "[192.0.2.7]", "192.0.2.7"),
        ):
            node.send(next_hop=next_hop)
            node.hosts[0].offers_tls()
            session = node.hosts[0].transport.session
            assert session is not None
            self.assertEqual(session.host, name)

    def test_not_verified(self) -> None:
        """Where TLS is opportunistic a certificate that is not good does no harm; the status tells why it is not."""
        sent = self.node.send()
        host = self.node.hosts[0]
        self.assertEqual(host.secures("PIPELINING", why="self-signed\r\nX: y"), GROUP)
        self.assertEqual(self.relayed(host, sent).tls, f"{TLS}, not verified: self-signed??X: y")

    def test_offers_are_forgotten(self) -> None:
        """What was offered before the handshake counts no more (RFC 3207 section 4.2)."""
        sent = self.node.send()
        host = self.node.hosts[0]
        host.offers_tls("PIPELINING", "SIZE 1", "CHUNKING", "LIMITS MAILMAX=1 RCPTMAX=1", "DSN")
        host.completes()
        self.assertEqual(host.offers(), MAIL)
        for reply in ("250 ok", "250 ok", "354 go", "250 ok"):
            host.says(reply)
        self.assertIs(self.status(sent).action, Action.RELAYED)
        self.node.send()
        self.assertEqual(host.heard(), MAIL)

    def test_refusal_after_tls(self) -> None:
        """What the host says of a mail over TLS is told with the TLS."""
        sent = self.node.send()
        host = self.node.hosts[0]
        host.secures()
        host.says("550 5.7.1 no")
        self.assertEqual(self.status(sent).tls, f"{TLS}, verified")

    def test_lost_after_the_content(self) -> None:
        """So is a connection that ends when all was sent."""
        sent = self.node.send()
        host = self.node.hosts[0]
        host.secures("PIPELINING")
        host.says("250 ok", "250 ok", "354 go")
        host.closes()
        status = self.status(sent)
        self.assertEqual((status.reason, status.tls), (Reason.UNCERTAIN, f"{TLS}, verified"))

    def test_obstacle(self) -> None:
        """And a mail that the host could not take."""
        sent = self.node.send()
        self.node.hosts[0].secures("SIZE 1")
        status = self.status(sent)
        self.assertEqual((status.reason, status.tls), (Reason.TOO_LARGE_FOR_HOST, f"{TLS}, verified"))

    def test_level_none(self) -> None:
        """A route without TLS never says STARTTLS."""
        sent = self.node.send(level="none")
        host = self.node.hosts[0]
        self.assertEqual(host.greets("PIPELINING", "STARTTLS"), GROUP)
        self.assertEqual(self.relayed(host, sent).tls, "")

    def test_not_offered(self) -> None:
        """Where TLS is opportunistic a host without it is served in the clear, on the same connection."""
        sent = self.node.send()
        host = self.node.hosts[0]
        self.assertEqual(host.greets("PIPELINING"), GROUP)
        self.assertEqual(self.relayed(host, sent).tls, "")
        self.assertEqual(len(self.node.hosts), 1)

    def test_the_end(self) -> None:
        """TLS is ended in order; a host that takes no part in that is cut off after five seconds."""
        for answers in (True, False):
            node = Node()
            sent = node.send()
            host = node.hosts[0]
            host.secures("PIPELINING")
            self.relayed(host, sent)
            node.reactor.advance(10.0)
            self.assertEqual(host.heard(), b"QUIT\r\n")
            host.says("221 bye")
            self.assertTrue(host.transport.disconnecting)
            if answers:
                host.closes()
                self.assertEqual(node.reactor.getDelayedCalls(), [])
            node.reactor.advance(5.0)
            self.assertEqual(host.transport.aborted, not answers)
            self.assertEqual(node.reactor.getDelayedCalls(), [])

    def test_status(self) -> None:
        """The relay's status tells what is asked of each next hop's connections, and what they came to."""
        for level in ("none", "opportunistic", "required"):
            self.node.send(level=level)
        _, may, must = self.node.hosts
        may.secures("PIPELINING", why="expired")
        must.secures("PIPELINING")
        found = [(one["tls"], one["secured"], one["verified"]) for one in self.node.relay.status()]
        self.assertEqual(found, [("none", 0, 0), ("opportunistic", 1, 0), ("required", 1, 1)])

    def test_levels_share_nothing(self) -> None:
        """A mail that needs TLS never takes a connection that was opened for mails that do not."""
        sent = self.node.send()
        self.node.hosts[0].greets("PIPELINING")
        self.relayed(self.node.hosts[0], sent)
        self.node.send(level="required")
        self.assertEqual(self.node.hosts[0].heard(), b"")
        self.assertEqual(len(self.node.hosts), 2)


class BehindTests(Conversation):
    """Octets behind the 220 to STARTTLS (attack T09)."""

    def test_behind(self) -> None:
        """Be they a reply or the beginning of one, there is no handshake, and the connection is at its end."""
        for behind in (b"250 mx\r\n", b"250-mx\r\n", b"25"):
            node = Node()
            node.send(level="required")
            host = node.hosts[0]
            host.greets("STARTTLS")
            host.protocol.dataReceived(b"220 begin\r\n" + behind)
            self.assertTrue(host.transport.aborted, behind)
            self.assertIsNone(host.transport.session)
            self.assertNothingInClear(node)


class BrokenTlsTests(Conversation):
    """Every way in which STARTTLS comes to nothing after it was offered."""

    def broken(self, host: Host, way: str) -> None:
        host.greets("STARTTLS", "PIPELINING")
        if way == "454":
            self.assertEqual(host.says("454 4.7.0 not now"), b"QUIT\r\n")
            host.says("221 bye")
        elif way == "501":
            self.assertEqual(host.says("501 what"), b"QUIT\r\n")
            host.closes()
        elif way == "421":
            host.says("421 4.3.0 no")
        elif way == "250":
            self.assertEqual(host.says("250 ok"), b"QUIT\r\n")
            self.node.reactor.advance(5.0)
        else:
            host.says("220 begin")
            if way == "closed":
                host.closes()
            elif way == "stalled":
                self.node.reactor.advance(20.0)
            elif way == "alert":
                host.closes(SSL.Error([("SSL routines", "", "wrong version number")]))
            elif way == "late alert":
                host.completes()
                host.closes(SSL.Error([("SSL routines", "", "tlsv13 alert certificate required")]))
            elif way == "nonsense":
                host.completes()
                host.says("SSH-2.0-x")
        self.assertTrue(host.is_closed or host.transport.disconnected, way)

    WAYS = ("454", "501", "421", "250", "closed", "stalled", "alert", "late alert", "nonsense")

    def test_opportunistic(self) -> None:
        """The same host is asked again in the clear, over another connection; an event tells why."""
        for way in self.WAYS:
            self.node = Node()
            sent = self.node.send()
            self.broken(self.node.hosts[0], way)
            self.assertEqual([host.ip for host in self.node.hosts], ["192.0.2.1", "192.0.2.1"], way)
            (event,) = self.node.failed
            self.assertEqual((event.reason, event.host), ("tls-failed", "mx1.example.net"))
            self.assertTrue(event.words.endswith("; it is tried again in the clear"), event.words)
            again = self.node.hosts[1]
            self.assertEqual(again.greets("STARTTLS", "PIPELINING"), GROUP)
            self.assertEqual(self.relayed(again, sent).tls, "")

    def test_required(self) -> None:
        """The next host is asked; when there is none the mail waits, and nothing of it has gone in the clear."""
        for level in ("required", "verified"):
            for way in self.WAYS:
                self.node = Node()
                sent = self.node.send(level=level)
                self.broken(self.node.hosts[0], way)
                self.assertEqual([host.ip for host in self.node.hosts], ["192.0.2.1", "192.0.2.2"], way)
                self.broken(self.node.hosts[1], way)
                status = self.status(sent)
                self.assertEqual((status.action, status.reason), (Action.DELAYED, Reason.TLS_FAILED), way)
                self.assertIn(f'the route to example.net asks for tls = "{level}"', status.words)
                self.assertFalse(status.from_remote)
                self.assertEqual(len(self.node.hosts), 2)
                self.assertNothingInClear()

    def test_words(self) -> None:
        """The words say what the host did."""
        for way, words, code in (
            ("454", "mx1.example.net answered STARTTLS with 454 4.7.0 not now; the route", "4.7.4"),
            ("alert", "TLS with mx1.example.net came to nothing: wrong version number; the route", "4.7.5"),
            ("closed", "TLS with mx1.example.net came to nothing: the host closed the connection; the route", "4.7.5"),
            ("stalled", "TLS with mx1.example.net came to nothing: no handshake within 20 s; the route", "4.7.5"),
        ):
            self.node = Node()
            self.node.down = {"192.0.2.2"}
            self.node.send(level="required")
            self.broken(self.node.hosts[0], way)
            self.assertTrue(self.node.failed[0].words.startswith(words), self.node.failed[0].words)
            self.node = Node(ONE_HOST)
            sent = self.node.send(level="required", next_hop=SURE)
            self.broken(self.node.hosts[0], way)
            self.assertEqual(self.status(sent).status, code)

    def test_remembered(self) -> None:
        """Such a host gets the clear at once for five minutes, other hosts and routes that need TLS do not."""
        sent = self.node.send()
        self.broken(self.node.hosts[0], "closed")
        self.node.hosts[1].greets("PIPELINING", "STARTTLS")
        self.relayed(self.node.hosts[1], sent)
        self.node.reactor.pump([10.0, 5.0])
        self.node.send()
        self.assertEqual(self.node.hosts[2].greets("STARTTLS"), MAIL)
        self.node.send(level="required")
        self.assertEqual(self.node.hosts[3].greets("STARTTLS"), b"STARTTLS\r\n")
        self.node.send(next_hop="[192.0.2.2]")
        self.assertEqual(self.node.hosts[4].greets("STARTTLS"), b"STARTTLS\r\n")
        for host in self.node.hosts:
            host.closes()
        self.node.reactor.advance(300.0)
        count = len(self.node.hosts)
        self.node.send(next_hop="[192.0.2.1]")
        self.assertEqual(self.node.hosts[count].greets("STARTTLS"), b"STARTTLS\r\n")

    def test_tls_is_needed_after_all(self) -> None:
        """A host whose TLS broke, and that says 530 to a mail in the clear, has not refused it: it waits."""
        sent = self.node.send()
        self.broken(self.node.hosts[0], "closed")
        self.node.hosts[1].greets("PIPELINING", "STARTTLS")
        self.node.hosts[1].says("530 5.7.0 Must issue a STARTTLS command first", "503 no", "503 no")
        self.assertEqual(self.status(sent)[:3], (Action.DELAYED, "4.7.0", Reason.TLS_FAILED))

    def test_530_where_tls_was_not_tried(self) -> None:
        """On a route without TLS 530 is a refusal like any other."""
        sent = self.node.send(level="none")
        self.node.hosts[0].greets("STARTTLS")
        self.node.hosts[0].says("530 5.7.0 Must issue a STARTTLS command first")
        self.assertIs(self.status(sent).action, Action.FAILED)

    def test_cannot_begin(self) -> None:
        """A handshake that cannot even be begun is a broken one."""
        self.node.tls.fails = ValueError("no such name")
        self.node.send()
        self.node.hosts[0].greets("STARTTLS")
        self.node.hosts[0].says("220 begin")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.node.hosts[1].greets("STARTTLS"), MAIL)

    def test_host_not_ready_over_tls(self) -> None:
        """A host that answers EHLO over TLS with 4yz, 421 or 5yz is not ready; its TLS is not broken."""
        for reply, reason in (
            ("450 4.3.2 later", "host-not-ready"),
            ("421 4.3.2 later", "host-not-ready"),
            ("554 5.7.0 not secure enough", "host-refused"),  # RFC 3207 section 4.1
        ):
            node = Node()
            node.send()
            node.hosts[0].offers_tls()
            node.hosts[0].completes()
            node.hosts[0].says(reply)
            self.assertEqual([event.reason for event in node.failed], [reason])
            self.assertTrue(node.hosts[0].transport.all_written.endswith(EHLO))
            self.assertEqual(node.hosts[1].ip, "192.0.2.2")

    def test_stopping(self) -> None:
        """A handshake under way when the node stops is broken off, and not tried again in the clear."""
        sent = self.node.send()
        self.node.hosts[0].offers_tls()
        self.successResultOf(Deferred.fromCoroutine(self.node.relay.close(1.0)))
        self.assertIs(self.status(sent).reason, Reason.SHUTTING_DOWN)
        self.assertTrue(self.node.hosts[0].transport.aborted)
        self.assertEqual(len(self.node.hosts), 1)
        self.assertEqual(self.node.reactor.getDelayedCalls(), [])


class LevelTests(Conversation):
    def test_not_offered(self) -> None:
        """Where TLS is required a host without STARTTLS is left with QUIT, and the next one is asked."""
        sent = self.node.send(level="required")
        self.assertEqual(self.node.hosts[0].greets("PIPELINING"), b"QUIT\r\n")
        self.node.hosts[0].says("221 bye")
        self.assertEqual([event.reason for event in self.node.failed], ["tls-failed"])
        host = self.node.hosts[1]
        self.assertEqual(host.secures("PIPELINING", why="expired"), GROUP)
        self.assertEqual(self.relayed(host, sent).tls, f"{TLS}, not verified: expired")
        self.assertNothingInClear()

    def test_nowhere(self) -> None:
        """When no host offers it the mail waits, with words for the operator."""
        node = Node(ONE_HOST)
        sent = node.send(next_hop=SURE, level="required")
        node.hosts[0].greets()
        node.hosts[0].says("221 bye")
        status = self.status(sent)
        self.assertEqual(status[:3], (Action.DELAYED, "4.7.4", Reason.TLS_FAILED))
        self.assertEqual(
            status.words,
            'mail.example.net offers no STARTTLS; the route to [mail.example.net] asks for tls = "required"; '
            'tell its postmaster, or let the route ask for tls = "opportunistic"',
        )

    def test_helo_only(self) -> None:
        """A host that knows only HELO has no TLS."""
        self.node.send(level="required")
        host = self.node.hosts[0]
        host.says("220 old")
        host.says("502 what")
        self.assertEqual(host.says("250 hello"), b"QUIT\r\n")

    def test_certificate(self) -> None:
        """Where it must be verified, a certificate that is not good ends it right after the handshake."""
        node = Node(ONE_HOST)
        sent = node.send(next_hop=SURE, level="verified")
        self.assertEqual(node.hosts[0].secures("PIPELINING", why="the certificate is self-signed"), b"QUIT\r\n")
        node.hosts[0].says("221 bye")
        status = self.status(sent)
        self.assertEqual(status[:3], (Action.DELAYED, "4.7.5", Reason.TLS_FAILED))
        self.assertIn("the certificate of mail.example.net is not good: the certificate is self-signed", status.words)
        self.assertEqual(status.tls, f"{TLS}, not verified: the certificate is self-signed")
        self.assertNotIn(b"MAIL", node.hosts[0].transport.all_written)

    def test_good_certificate(self) -> None:
        """One that is good lets the mail through."""
        sent = self.node.send(level="verified")
        host = self.node.hosts[0]
        self.assertEqual(host.secures("PIPELINING"), GROUP)
        self.assertEqual(self.relayed(host, sent).tls, f"{TLS}, verified")

    def test_no_tls_here(self) -> None:
        """A relay without TLS of its own sends in the clear where that may be, and else lets the mail wait."""
        node = Node()
        node.relay._means = node.relay._means._replace(tls=None)
        node.send()
        self.assertEqual(node.hosts[0].greets("STARTTLS"), MAIL)
        node.send(level="required")
        self.assertEqual(node.hosts[1].greets("STARTTLS"), b"QUIT\r\n")


class PolicyTests(Conversation):
    """A domain whose MTA-STS policy is enforced, and a host that shows a certificate that is not good."""

    def setUp(self) -> None:
        self.node = Node(outbound={"policies": Policies(sts(exchangers=("mx1.example.net", "mx2.example.net")))})

    def test_not_good(self) -> None:
        """The host is left, the next is asked, and no word of the mail is said to either."""
        sent = self.node.send()
        for number in (0, 1):
            host = self.node.hosts[number]
            self.assertEqual(host.secures("PIPELINING", why="it is self-signed"), b"QUIT\r\n")
            host.says("221 bye")
            self.assertNotIn(b"MAIL", host.transport.all_written)
        status = self.status(sent)
        self.assertEqual((status.action, status.reason), (Action.DELAYED, Reason.MTA_STS_FAILED))

    def test_silent_after_the_handshake(self) -> None:
        """A host that says nothing any more after a good handshake is no failure of TLS (RFC 8460 section 4.3); one
        that closes may mean it."""
        for closes, results in ((False, [""]), (True, ["validation-failure"])):
            self.setUp()
            notes = self.node.relay._security.notes = Notes()
            self.node.send()
            host = self.node.hosts[0]
            host.offers_tls()
            host.completes()
            if closes:
                host.closes(ConnectionLost())
            else:
                self.node.reactor.advance(310.0)
            self.assertEqual([outcome.result for outcome in notes], results)

    def test_optional(self) -> None:
        """A mail with ``TLS-Required: No`` goes there, over a connection that mail without it does not use."""
        sent = self.node.send(tls_optional=True)
        host = self.node.hosts[0]
        self.assertEqual(host.secures("PIPELINING", why="it is self-signed"), GROUP)
        self.relayed(host, sent)
        host.heard()
        self.node.send()
        self.assertEqual((host.heard(), len(self.node.hosts)), (b"", 2))


class AliasTests(Conversation):
    """A host that is an alias, all of it signed."""

    def name(self, usage: int) -> tuple[str, bool]:
        """Whom the certificate must be for; and that no earlier session is resumed."""
        table = {
            ("mail.example.net", "A"): ("192.0.2.7",),
            ("_25._tcp.real.example.com", "TLSA"): (TLSA(usage, 1, 1, b"\1" * 32),),
        }
        node = Node(Aliased(table, signed=True))
        node.send(next_hop=SURE, level="verified")
        host = node.hosts[0]
        host.offers_tls()
        session = host.transport.session
        assert session is not None
        return session.host, session.fresh

    def test_usable(self) -> None:
        """DANE: the TLSA base domain (RFC 7672 section 8.1). The chain must be seen, so nothing is resumed."""
        self.assertEqual(self.name(3), ("real.example.com", True))

    def test_unusable(self) -> None:
        """With no record that can be used the certificate counts, and it must be for the host that was asked for."""
        self.assertEqual(self.name(0), ("mail.example.net", False))


class Aliased(Resolver):
    """Every host is an alias of one."""

    async def query(self, name: str, rdtype: str) -> Answer:
        answer = await super().query(name, rdtype)
        return answer._replace(canonical="real.example.com") if rdtype in ("A", "AAAA") else answer


class RequireTlsTests(Conversation):
    def setUp(self) -> None:
        self.node = Node(ONE_HOST)

    def test_sent(self) -> None:
        """Over verified TLS to a host in brackets that offers it, MAIL says REQUIRETLS; whatever the route's level."""
        for level in ("none", "opportunistic", "required", "verified"):
            self.node = Node(ONE_HOST)
            sent = self.node.send(next_hop=SURE, require_tls=True, level=level)
            host = self.node.hosts[0]
            written = host.secures("PIPELINING", "REQUIRETLS")
            self.assertEqual(written, MAIL.replace(b"\r\n", b" REQUIRETLS\r\n") + RCPT + b"DATA\r\n")
            self.assertEqual(self.relayed(host, sent).tls, f"{TLS}, verified")
            self.assertNothingInClear()

    def failed(self, sent: Deferred[Sequence[DeliveryStatus]], code: str) -> DeliveryStatus:
        status = self.status(sent)
        self.assertEqual(status[:3], (Action.FAILED, code, Reason.REQUIRETLS))
        for host in self.node.hosts:
            self.assertNotIn(b"MAIL", host.transport.all_written)
        return status

    def test_by_mx(self) -> None:
        """Hosts found by MX records are not asked: the records are not secured. The words name a way."""
        self.node = Node()
        status = self.failed(self.node.send(require_tls=True), "5.7.10")
        self.assertIn('next_hop = "[mail.example.net]"', status.words)
        self.assertEqual(self.node.hosts, [])

    def test_no_starttls(self) -> None:
        """A host without STARTTLS: 5.7.10 (RFC 8689 section 4.2.1). REQUIRETLS in the clear counts for nothing."""
        sent = self.node.send(next_hop=SURE, require_tls=True)
        self.assertEqual(self.node.hosts[0].greets("REQUIRETLS"), b"QUIT\r\n")
        self.node.hosts[0].says("221 bye")
        self.failed(sent, "5.7.10")

    def test_refused(self) -> None:
        """STARTTLS answered with 5yz is final, with 4yz it is not."""
        sent = self.node.send(next_hop=SURE, require_tls=True)
        self.node.hosts[0].greets("STARTTLS")
        self.node.hosts[0].says("554 5.7.0 no")
        self.node.hosts[0].says("221 bye")
        self.failed(sent, "5.7.10")
        sent = self.node.send(next_hop=SURE, require_tls=True)
        self.node.hosts[1].greets("STARTTLS")
        self.node.hosts[1].says("454 4.7.0 not now")
        self.node.hosts[1].says("221 bye")
        self.assertEqual(self.status(sent)[:3], (Action.DELAYED, "4.7.4", Reason.TLS_FAILED))

    def test_not_verified(self) -> None:
        """A certificate that is not good: 5.7.10."""
        sent = self.node.send(next_hop=SURE, require_tls=True)
        self.assertEqual(self.node.hosts[0].secures("REQUIRETLS", why="expired"), b"QUIT\r\n")
        self.node.hosts[0].says("221 bye")
        self.assertIn("expired", self.failed(sent, "5.7.10").words)

    def test_not_offered(self) -> None:
        """A host that does not offer REQUIRETLS over TLS: 5.7.30, though it did before."""
        sent = self.node.send(next_hop=SURE, require_tls=True)
        self.node.hosts[0].offers_tls("REQUIRETLS")
        self.node.hosts[0].completes()
        self.assertEqual(self.node.hosts[0].offers("PIPELINING"), b"QUIT\r\n")
        self.node.hosts[0].says("221 bye")
        self.assertIn("does not offer REQUIRETLS", self.failed(sent, "5.7.30").words)

    def test_broken(self) -> None:
        """A handshake that breaks, or a host that is not there, may be otherwise next time."""
        sent = self.node.send(next_hop=SURE, require_tls=True)
        self.node.hosts[0].offers_tls()
        self.node.hosts[0].closes()
        self.assertEqual(self.status(sent)[:3], (Action.DELAYED, "4.7.5", Reason.TLS_FAILED))
        self.assertEqual(len(self.node.hosts), 1)
        self.node.down = {"192.0.2.7"}
        self.assertIs(self.status(self.node.send(next_hop=SURE, require_tls=True)).action, Action.DELAYED)

    def test_other_addresses(self) -> None:
        """Every address is asked before the mail fails, and one that is not there keeps it waiting."""
        resolver = Resolver({("mail.example.net", "A"): ("192.0.2.7", "192.0.2.8")})
        for down, action in ((False, Action.FAILED), (True, Action.DELAYED)):
            self.node = Node(resolver)
            self.node.down = {"192.0.2.8"} if down else set()
            sent = self.node.send(next_hop=SURE, require_tls=True)
            for host in self.node.hosts:
                host.greets()
                host.says("221 bye")
            self.assertEqual(len(self.node.hosts), 1 if down else 2)
            self.assertIs(self.status(sent).action, action)

    def test_shares_nothing(self) -> None:
        """Such mails have connections of their own."""
        sent = self.node.send(next_hop=SURE, level="verified")
        self.node.hosts[0].secures("PIPELINING")
        self.relayed(self.node.hosts[0], sent)
        self.node.send(next_hop=SURE, require_tls=True)
        self.assertEqual(len(self.node.hosts), 2)
        self.assertEqual([one["tls"] for one in self.node.relay.status()], ["verified", "requiretls"])

    def test_bounce(self) -> None:
        """A bounce goes on in any case (RFC 8689 section 5): with REQUIRETLS where it may be said, else without."""
        for next_hop, extensions, why, said in (
            (SURE, ("REQUIRETLS",), "", True),
            (SURE, (), "", False),
            (SURE, ("REQUIRETLS",), "expired", False),
            ("example.net", ("REQUIRETLS",), "", False),
        ):
            node = Node(Resolver({**ONE_HOST.table, ("example.net", "A"): ("192.0.2.1",)}))
            sent = node.send(next_hop=next_hop, require_tls=True, sender=None, level="none")
            written = node.hosts[0].secures("PIPELINING", *extensions, why=why)
            self.assertEqual(b" REQUIRETLS\r\n" in written, said)
            self.relayed(node.hosts[0], sent)

    def test_bounce_in_clear(self) -> None:
        """REQUIRETLS is not said in the clear, also where a host offers it there."""
        self.node.send(next_hop=SURE, require_tls=True, sender=None)
        self.assertEqual(self.node.hosts[0].greets("REQUIRETLS"), b"MAIL FROM:<>\r\n")
