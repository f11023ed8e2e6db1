"""Tests of twisted_mail_node.inbound.factory."""

from __future__ import annotations

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

import twisted_mail_node
from tests.inbound.receiving import DictDirectory, MemoryQueue, TestReceiver, Thoughtful
from twisted_mail_node.events import MailAccepted, SessionClosed, SessionRefused
from twisted_mail_node.inbound.connection import LINGER, Connection
from twisted_mail_node.inbound.factory import BREATH, BREATHS, ESMTPFactory
from twisted_mail_node.inbound.refused import Refused
from twisted_mail_node.interfaces import IDirectory, IMailQueue
from twisted_mail_node.net.limits import Admission
from twisted_mail_node.policy.chain import Chain
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import Limits

MAIL = ("MAIL FROM:<a@elsewhere.example>", "RCPT TO:<joe@example.org>", "DATA")
CONTENT = ("Subject: x", "", "text", ".")


class FactoryTests(SynchronousTestCase):
    """The factory of a listener."""

    def test_interfaces(self) -> None:
        """It is a protocol factory under its public name; the test's own parts keep to their interfaces."""
        receiver = TestReceiver()
        self.assertTrue(verifyObject(IProtocolFactory, receiver.factory))
        self.assertTrue(verifyObject(IMailQueue, MemoryQueue()))
        self.assertTrue(verifyObject(IDirectory, DictDirectory()))
        self.assertIs(twisted_mail_node.ESMTPFactory, ESMTPFactory)

    def test_in_all(self) -> None:
        """One connection too many is told so with 421 4.3.2 and closed; when another ends there is room again."""
        receiver = TestReceiver(connections=2)
        first = receiver.connect("192.0.2.1")
        receiver.connect("192.0.2.2")
        third = receiver.connect("192.0.2.3")
        self.assertTrue(third.said().startswith("421 4.3.2"))
        self.assertTrue(third.closed)
        self.assertEqual(receiver.of(SessionRefused)[0].reason, Reason.TOO_MANY_CONNECTIONS)
        third.send(b"EHLO c\r\n")
        self.assertEqual((third.said(), receiver.connections), ("", 2))
        first.vanish()
        self.assertTrue(receiver.connect("192.0.2.3").said().startswith("220"))

    def test_of_one_address(self) -> None:
        """One too many of an address, or of an IPv6 /64, is 421 4.7.0; others are not touched."""
        receiver = TestReceiver(connections_per_address=1)
        for client, code in (("192.0.2.1", "220"), ("192.0.2.1", "421 4.7.0"), ("192.0.2.2", "220"),
                             ("2001:db8::1", "220"), ("2001:db8::2", "421 4.7.0"),
                             ("2001:db8:0:1::1", "220")):  # fmt: skip
            self.assertTrue(receiver.connect(client).said().startswith(code), client)
        self.assertEqual(receiver.connections, 4)
        self.assertEqual([event.client for event in receiver.of(SessionRefused)], ["192.0.2.1", "2001:db8::2"])

    def test_shared_admission(self) -> None:
        """Listeners share one count, and no session of one has the id of a session of another."""
        admission = Admission(1, 1)
        factories = [
            ESMTPFactory(
                hostname="mx.example.org",
                queue=MemoryQueue(),
                directory=DictDirectory(),
                chain=Chain([], Clock(), 1),
                limits=Limits(connections=1),
                clock=Clock(),
                publish=lambda event: None,
                admission=admission,
            )
            for _ in range(2)
        ]
        address = IPv4Address("TCP", "192.0.2.1", 40000)
        self.assertIsInstance(factories[0].buildProtocol(address), Connection)
        self.assertIsInstance(factories[1].buildProtocol(address), Refused)
        self.assertEqual(len({factory.next_session() for factory in factories * 3}), 6)

    def test_may_relay(self) -> None:
        """Networks of relay_from, IPv4 and IPv6; loopback is not among them by itself."""
        factory = TestReceiver(relay_from=["10.0.0.0/8", "2001:db8::/32"]).factory
        for client, may in (("10.1.2.3", True), ("11.0.0.1", False), ("2001:db8::1", True), ("127.0.0.1", False),
                            ("::1", False), ("::ffff:10.0.0.1", True), ("unix", False)):  # fmt: skip
            self.assertIs(factory.may_relay(client), may, client)

    def test_breathe(self) -> None:
        """While mail comes in faster than it goes out, MAIL is answered a little later, and no later than that."""
        queue = MemoryQueue()
        receiver = TestReceiver(queue=queue)
        peer = receiver.session()
        queue.crowded = True
        self.assertEqual(peer.say("MAIL FROM:<a@b.test>"), "")
        receiver.clock.advance(BREATH)
        self.assertEqual(peer.said(), "")
        queue.crowded = False
        receiver.clock.advance(BREATH)
        self.assertEqual(peer.codes(), [250])
        queue.crowded = True
        peer.say("RSET", "MAIL FROM:<a@b.test>")
        for _ in range(BREATHS):
            receiver.clock.advance(BREATH)
        self.assertEqual(peer.codes(), [250, 250])

    def test_sessions(self) -> None:
        """Ids of sessions are not used twice, also when the clock stands still."""
        factory = TestReceiver().factory
        self.assertEqual(len({factory.next_session() for _ in range(1000)}), 1000)

    def test_configure(self) -> None:
        """New settings count from now on, in running sessions too."""
        receiver = TestReceiver()
        peer = receiver.session("MAIL FROM:<>")
        self.assertTrue(peer.say("RCPT TO:<new@example.org>").startswith("550"))
        receiver.factory.configure(
            hostname="mx2.example.org",
            directory=DictDirectory({"new@example.org": ("new@example.org",)}),
            chain=receiver.factory.chain,
            limits=Limits(connections=1, message_size=1000),
            relay_from=(),
            gate=[],
        )
        self.assertTrue(peer.say("RCPT TO:<new@example.org>").startswith("250"))
        self.assertIn("250-SIZE 1000", peer.say("EHLO c"))
        self.assertTrue(receiver.connect().said().startswith("421"))
        peer.vanish()
        self.assertTrue(receiver.connect().said().startswith("220 mx2.example.org"))


class StopTests(SynchronousTestCase):
    """The end (``stop``)."""

    def stop(self, receiver: TestReceiver, seconds: float = 30) -> Deferred[None]:
        """Stop, and let the transports notice."""
        stopped = receiver.factory.stop(seconds)
        for peer in receiver.peers:
            peer.settle()
        return stopped

    def test_nobody(self) -> None:
        """Without connections it is over at once, and nothing ticks."""
        receiver = TestReceiver()
        self.successResultOf(self.stop(receiver))
        self.assertEqual(receiver.clock.getDelayedCalls(), [])

    def test_idle(self) -> None:
        """Idle sessions, in whatever state, get 421 4.3.2; new ones too, as their greeting."""
        receiver = TestReceiver()
        peers = [receiver.connect(), receiver.session(), receiver.session("MAIL FROM:<>"), receiver.session(*MAIL[:2])]
        peers[0].said()
        stopped = self.stop(receiver)
        self.assertEqual([peer.codes() for peer in peers], [[421]] * 4)
        self.successResultOf(stopped)
        self.assertEqual({event.reason for event in receiver.of(SessionClosed)}, {Reason.SHUTTING_DOWN})
        late = receiver.connect()
        self.assertTrue(late.said().startswith("421 4.3.2"))
        self.assertTrue(late.closed)
        self.assertEqual((receiver.connections, receiver.clock.getDelayedCalls()), (0, []))

    def test_in_transfer(self) -> None:
        """Mail in transfer finishes, with 250, and then its session gets 421."""
        receiver = TestReceiver()
        peer = receiver.session(*MAIL)
        peer.say("Subject: x")
        stopped = self.stop(receiver)
        self.assertEqual(peer.said(), "")
        self.assertEqual(peer.say(""), "")
        self.assertNoResult(stopped)
        peer.send(b".\r\nMAIL FROM:<next@elsewhere.example>\r\n")
        self.assertEqual(peer.codes(), [250, 421])
        self.assertEqual(len(receiver.queue.mails), 1)
        self.successResultOf(stopped)
        self.assertEqual(receiver.connections, 0)

    def test_between_chunks(self) -> None:
        """A mail in chunks finishes, too; one that is given up by RSET does not hold the end up."""
        receiver = TestReceiver()
        finishing, resetting = receiver.session(*MAIL[:2]), receiver.session(*MAIL[:2])
        for peer in (finishing, resetting):
            peer.send(b"BDAT 6\r\nA: b\r\n")
            self.assertEqual(peer.codes(), [250])
        stopped = self.stop(receiver)
        finishing.send(b"BDAT 2 LAST\r\n\r\n")
        self.assertEqual(finishing.codes(), [250, 421])
        resetting.say("RSET")
        self.successResultOf(stopped)
        self.assertEqual((len(receiver.queue.mails), receiver.connections), (1, 0))

    def test_commit_waits(self) -> None:
        """A commit under way is waited for, and its 250 is said."""
        receiver = TestReceiver()
        receiver.queue.commits_wait = True
        peer = receiver.session(*MAIL)
        peer.say(*CONTENT)
        stopped = self.stop(receiver)
        self.assertNoResult(stopped)
        receiver.queue.go_on()
        peer.settle()
        self.assertEqual(peer.codes(), [250, 421])
        self.assertEqual(len(receiver.of(MailAccepted)), 1)
        self.successResultOf(stopped)

    def test_policy_waits(self) -> None:
        """A session whose policy thinks ends when it has thought."""
        policy = Thoughtful("rcpt")
        receiver = TestReceiver(policies=[policy])
        peer = receiver.session(*MAIL[:2])
        stopped = self.stop(receiver)
        self.assertNoResult(stopped)
        policy.decide()
        peer.settle()
        self.assertEqual(peer.codes(), [250, 250, 250, 421])
        self.successResultOf(stopped)

    def test_cut(self) -> None:
        """What is not finished in time is cut off, and its mail forgotten."""
        receiver = TestReceiver()
        peer = receiver.session(*MAIL)
        peer.say("Subject: endless")
        stopped = self.stop(receiver, 5)
        receiver.wait(4)
        self.assertNoResult(stopped)
        receiver.wait(2)
        self.successResultOf(stopped)
        self.assertTrue(peer.wire.disconnected)
        self.assertEqual((receiver.queue.begun[0].state, receiver.connections), ("aborted", 0))
        self.assertEqual(receiver.clock.getDelayedCalls(), [])

    def test_client_that_does_not_read(self) -> None:
        """A client that does not read its 421 is cut off; it cannot hold the end up."""
        receiver = TestReceiver()
        peer = receiver.session()
        peer.stop_reading()
        stopped = self.stop(receiver, LINGER / 2)
        self.assertNoResult(stopped)
        receiver.wait(LINGER / 2 + 1)
        self.successResultOf(stopped)
        self.assertEqual(receiver.connections, 0)

    def test_twice(self) -> None:
        """Who asks again waits for the same end."""
        receiver = TestReceiver()
        peer = receiver.session(*MAIL)
        first, second = self.stop(receiver), self.stop(receiver)
        peer.vanish()
        self.successResultOf(first)
        self.successResultOf(second)
