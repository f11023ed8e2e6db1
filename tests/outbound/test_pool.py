"""Tests of twisted_mail_node.outbound.pool: which connection carries what, and when one more is opened."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.outbound.remote import Host, Node, Resolver, takes
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.reasons import Reason

Sent = Deferred[Sequence[DeliveryStatus]]


class PoolTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.node = Node()

    def relayed(self, sent: Sequence[Sent]) -> int:
        """How many of them are relayed."""
        done = [self.successResultOf(one) for one in sent if one.called]
        return sum(status.action is Action.RELAYED for (status,) in done)

    def test_connection_is_kept(self) -> None:
        """A mail that comes within the idle time takes the connection of the one before."""
        self.node.send()
        host = self.node.hosts[0]
        host.greets("PIPELINING")
        takes(host)
        self.node.reactor.advance(9.0)
        sent = self.node.send()
        takes(host)
        self.assertEqual(self.relayed([sent]), 1)
        self.assertEqual(len(self.node.hosts), 1)

    def test_idle_connection_quits(self) -> None:
        """An idle connection says QUIT after ten seconds, waits for the reply, and closes; nothing is left."""
        self.node.send()
        host = self.node.hosts[0]
        host.greets("PIPELINING")
        takes(host)
        self.node.reactor.advance(10.0)
        self.assertEqual(host.heard(), b"QUIT\r\n")
        self.assertFalse(host.is_closed)
        host.says("221 bye")
        self.assertTrue(host.transport.disconnecting)
        self.assertEqual(self.node.relay.status(), [])
        self.assertEqual(self.node.reactor.getDelayedCalls(), [])

    def test_no_answer_to_quit(self) -> None:
        """A host that does not answer QUIT is left after five seconds."""
        self.node.send()
        host = self.node.hosts[0]
        host.greets("PIPELINING")
        takes(host)
        self.node.reactor.pump([10.0, 5.0])
        self.assertTrue(host.transport.aborted)
        self.assertEqual(self.node.relay.status(), [])

    def test_host_closes_idle_connection(self) -> None:
        """A connection the host closes while it idles is forgotten; the next mail opens another."""
        for close in (Host.closes, lambda host: host.says("421 4.4.2 idle too long")):
            node = Node()
            node.send()
            host = node.hosts[0]
            host.greets("PIPELINING")
            takes(host)
            close(host)
            node.send()
            self.assertEqual(len(node.hosts), 2)
            self.assertEqual(node.failed, [])

    def test_few_connections_for_a_burst(self) -> None:
        """Twenty mails are worth two connections, not twenty."""
        sent = [self.node.send() for _ in range(20)]
        self.assertEqual(len(self.node.hosts), 2)
        first, second = self.node.hosts
        first.greets("PIPELINING")
        takes(first, 10)
        second.greets("PIPELINING")
        takes(second, 9)  # one is on its way to the first already
        takes(first)
        self.assertEqual(self.relayed(sent), 20)

    def test_limit(self) -> None:
        """Never more than connections_per_destination, however many wait and however slow the host is."""
        node = Node(connections_per_destination=3)
        for _ in range(200):
            node.send()
        self.assertEqual(len(node.hosts), 3)
        for host in node.hosts:
            host.greets("PIPELINING")
        node.reactor.pump([1.0] * 30)
        self.assertEqual(len(node.hosts), 3)

    def test_slow_host(self) -> None:
        """While a mail waits longer than 0.2 s one more connection is opened at each look."""
        for _ in range(4):
            self.node.send()
        self.assertEqual(len(self.node.hosts), 1)
        self.node.hosts[0].greets("PIPELINING")
        for count in (2, 3, 4):
            self.node.reactor.advance(0.25)
            self.assertEqual(len(self.node.hosts), count)
            self.node.hosts[-1].greets("PIPELINING")
        self.node.reactor.pump([0.25] * 10)
        self.assertEqual(len(self.node.hosts), 4)

    def test_first_come_first_served(self) -> None:
        """Waiting mails are sent in the order of their coming."""
        for number in range(5):
            self.node.send(content=b"%d\r\n" % number)
        host = self.node.hosts[0]
        host.greets("PIPELINING")
        takes(host, 5)
        written = host.transport.all_written
        places = [written.index(b"\r\n%d\r\n.\r\n" % number) for number in range(5)]
        self.assertEqual(places, sorted(places))

    def test_mails_per_connection(self) -> None:
        """After so many mails a connection quits, and another one carries on; LIMITS MAILMAX may say fewer."""
        for settings, extension in ((2, "X"), (100, "LIMITS MAILMAX=2")):
            node = Node(mails_per_connection=settings)
            sent = [node.send() for _ in range(5)]
            for mails in (2, 2, 1):
                host = node.hosts[-1]
                host.greets("PIPELINING", extension)
                takes(host, mails)
                self.assertEqual(host.transport.all_written.endswith(b"QUIT\r\n"), mails == 2)
            self.assertEqual(self.relayed(sent), 5)

    def test_old_connection(self) -> None:
        """A connection takes no mail when what was decided about its host is old; the next mail gets a new one."""
        sent = [self.node.send()]
        host = self.node.hosts[0]
        host.greets("PIPELINING")
        for _ in range(34):
            takes(host)
            self.assertEqual(len(self.node.hosts), 1)
            self.node.reactor.advance(9.0)
            sent.append(self.node.send())
        self.assertEqual(len(self.node.hosts), 2)
        self.assertEqual(self.relayed(sent), 34)
        self.assertTrue(host.transport.all_written.endswith(b"QUIT\r\n"))
        self.assertIn(b"MAIL", self.node.hosts[1].greets("PIPELINING"))

    def test_renewed_while_opening(self) -> None:
        """Settings that change while a connection is being opened count for the mail that waits for it."""
        sent = self.node.send()
        host = self.node.hosts[0]
        self.node.relay.renew()
        self.assertEqual(host.greets("PIPELINING"), b"QUIT\r\n")
        host.says("221 bye")
        self.assertNoResult(sent)
        self.node.hosts[1].greets("PIPELINING")
        takes(self.node.hosts[1])
        self.assertEqual(self.relayed([sent]), 1)

    def test_second_connection_refused(self) -> None:
        """A host that takes one connection only gets one: the mails stay in line for it."""
        sent = [self.node.send() for _ in range(15)]
        first, second = self.node.hosts
        first.greets("PIPELINING")
        second.says("421 4.7.0 too many connections")
        self.node.hosts[-1].says("421 4.7.0 too many connections")  # the second host likewise
        self.node.reactor.advance(1.0)
        self.assertEqual(len(self.node.hosts), 3)
        takes(first, 15)
        self.assertEqual(self.relayed(sent), 15)

    def test_waiting_mails_have_a_deadline(self) -> None:
        """A mail for which no connection had room within its attempt's time is delayed."""
        node = Node(connections_per_destination=1)
        node.send()
        node.hosts[0].greets("PIPELINING")
        second = node.send(deadline=30.0)
        node.reactor.pump([0.25] * 119)
        self.assertNoResult(second)
        node.reactor.pump([0.25] * 2)
        (status,) = self.successResultOf(second)
        self.assertEqual(status[:3], (Action.DELAYED, "4.4.1", Reason.REMOTE_TIMEOUT))

    def test_cancelled(self) -> None:
        """A mail whose attempt was cancelled while it waited is not sent."""
        self.node.send()
        second, third = self.node.send(content=b"second\r\n"), self.node.send(content=b"third\r\n")
        second.cancel()
        self.failureResultOf(second)
        host = self.node.hosts[0]
        host.greets("PIPELINING")
        takes(host, 2)
        self.assertEqual(self.relayed([third]), 1)
        self.assertNotIn(b"second", host.transport.all_written)

    def test_three_times_broken(self) -> None:
        """A mail under which connections break three times is put off, though there are more hosts."""
        table = {("mx", "A"): [f"192.0.2.{n}" for n in range(1, 6)]}
        node = Node(Resolver(table), connections_per_destination=1)
        sent = node.send(next_hop="[mx]")
        for _ in range(3):
            host = node.hosts[-1]
            host.greets("PIPELINING")
            host.closes()
        (status,) = self.successResultOf(sent)
        self.assertEqual(status[:3], (Action.DELAYED, "4.4.2", Reason.CONNECTION_LOST))
        self.assertEqual(len(node.hosts), 3)

    def test_broken_off_by_every_host(self) -> None:
        """When every host broke off with one mail the mails behind it get their own try."""
        first, second = self.node.send(), self.node.send()
        for _ in range(2):
            host = self.node.hosts[-1]
            host.greets("PIPELINING")
            host.closes()
        self.assertIs(self.successResultOf(first)[0].reason, Reason.CONNECTION_LOST)
        self.assertNoResult(second)
        host = self.node.hosts[-1]
        self.assertEqual((len(self.node.hosts), host.ip), (3, "192.0.2.1"))
        host.greets("PIPELINING")
        takes(host)
        self.assertEqual(self.relayed([second]), 1)
