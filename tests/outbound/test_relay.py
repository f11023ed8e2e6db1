"""Tests of twisted_mail_node.outbound.relay: from the next hop to a host that is ready, and the end of it all."""

from __future__ import annotations

from unittest import mock

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.outbound.remote import TWO_HOSTS, Content, Node, Resolver
from twisted_mail_node.dns.answer import MX, Answer, DNSError
from twisted_mail_node.interfaces import IDeliveryAgent
from twisted_mail_node.message.envelope import Envelope
from twisted_mail_node.message.status import Action
from twisted_mail_node.outbound.need import NO_NEED, Need
from twisted_mail_node.outbound.security import Security
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.reasons import Reason


class Silent(Resolver):
    """Does not answer."""

    async def query(self, name: str, rdtype: str) -> Answer:
        raise DNSError("no answer")


class NextHopTests(SynchronousTestCase):
    def test_interface(self) -> None:
        """It is a delivery agent."""
        self.assertTrue(verifyObject(IDeliveryAgent, Node().relay))

    def test_exchangers(self) -> None:
        """A domain's best mail exchanger is asked, at port 25."""
        node = Node()
        node.send()
        self.assertEqual([(host.ip, host.port) for host in node.hosts], [("192.0.2.1", 25)])

    def test_literals(self) -> None:
        """A next hop in brackets is that host, without the DNS."""
        for next_hop, where in (
            ("[192.0.2.7]", ("192.0.2.7", 25)),
            ("[127.0.0.1]:2525", ("127.0.0.1", 2525)),
            ("[IPv6:2001:db8::1]:26", ("2001:db8::1", 26)),
        ):
            node = Node(Silent({}))
            sent = node.send(next_hop=next_hop)
            self.assertEqual([(host.ip, host.port) for host in node.hosts], [where])
            node.hosts[0].greets("PIPELINING")
            node.hosts[0].says("250 ok", "550 no", "554 no")
            address = f"[{where[0]}]:{where[1]}" if ":" in where[0] else f"{where[0]}:{where[1]}"
            self.assertEqual(self.successResultOf(sent)[0].remote_address, address)

    def test_host_in_brackets(self) -> None:
        """A name in brackets is looked up without its mail exchangers."""
        node = Node(Resolver({("mx.example.net", "A"): ("192.0.2.9",)}))
        node.send(next_hop="[mx.example.net]:2525")
        self.assertEqual([(host.ip, host.port) for host in node.hosts], [("192.0.2.9", 2525)])

    def test_nonsense(self) -> None:
        """A next hop that is none delays the mail."""
        (status,) = self.successResultOf(Node().send(next_hop="[oops"))
        self.assertEqual(status[:3], (Action.DELAYED, "4.3.5", Reason.NO_ROUTE))

    def test_no_exchanger(self) -> None:
        """Where the DNS says that there is nobody, that is the status: final or not."""
        null = Resolver({("example.net", "MX"): (MX(0, ""),)})
        for resolver, wanted in (
            (null, (Action.FAILED, "5.1.10", Reason.NULL_MX)),
            (Resolver({}), (Action.FAILED, "5.1.2", Reason.NO_SUCH_DOMAIN)),
            (Silent({}), (Action.DELAYED, "4.4.3", Reason.DNS_FAILED)),
        ):
            node = Node(resolver)
            (status,) = self.successResultOf(node.send())
            self.assertEqual(status[:3], wanted)
            self.assertEqual((node.hosts, node.relay.status()), ([], []))

    def test_exchanger_names(self) -> None:
        """The names of a next hop's mail exchangers, for limits that go by them; none where there are none,
        and ``None`` where they cannot be found out now."""
        domain = Node().relay
        for relay, next_hop, wanted in (
            (domain, "example.net", ["mx1.example.net", "mx2.example.net"]),
            (domain, "[MX.example.net]:25", ["mx.example.net"]),
            (domain, "[oops", []),
            (Node(Silent({})).relay, "example.net", None),
            (Node(Resolver({})).relay, "example.net", []),
        ):
            names = self.successResultOf(Deferred.fromCoroutine(relay.exchanger_names(next_hop)))
            self.assertEqual(None if names is None else list(names), wanted)

    def test_exchanger_names_before_us(self) -> None:
        """Where we are an exchanger ourselves, limits go by the hosts that mail is sent to: those before us."""
        table = {
            ("example.net", "MX"): (MX(10, "mx1.example.net"), MX(20, "mx.example.org"), MX(30, "mx.big.example")),
            ("mx1.example.net", "A"): ("192.0.2.1",),
            ("mx.example.org", "A"): ("192.0.2.2",),
            ("mx.big.example", "A"): ("192.0.2.3",),
        }
        relay = Node(Resolver(table)).relay
        names = self.successResultOf(Deferred.fromCoroutine(relay.exchanger_names("example.net")))
        self.assertEqual(names, ["mx1.example.net"])

    def test_resolver_breaks(self) -> None:
        """A resolver that breaks delays the mail and is logged."""

        class Broken(Resolver):
            async def query(self, name: str, rdtype: str) -> Answer:
                raise RuntimeError("broken")

        (status,) = self.successResultOf(Node(Broken({})).send())
        self.assertEqual(status[:3], (Action.DELAYED, "4.3.0", Reason.INTERNAL))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_no_recipients(self) -> None:
        """A request without recipients needs no connection."""
        node = Node()
        request = DeliveryRequest("q1", Envelope(None), (), b"", Content(b""), "example.net", 60.0)
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(node.relay.deliver(request))), [])
        self.assertEqual((node.hosts, node.relay.status()), ([], []))


class HostTests(SynchronousTestCase):
    def test_connection_refused(self) -> None:
        """A host that cannot be connected to is followed by the next, and an event tells."""
        node = Node()
        node.down = {"192.0.2.1"}
        node.send()
        self.assertEqual([host.ip for host in node.hosts], ["192.0.2.2"])
        (event,) = node.failed
        self.assertEqual(event[:4], ("example.net", "mx1.example.net", "192.0.2.1:25", "connect-failed"))

    def test_all_refused(self) -> None:
        """When no host can be connected to the mail is delayed."""
        node = Node()
        node.down = {"192.0.2.1", "192.0.2.2"}
        (status,) = self.successResultOf(node.send())
        self.assertEqual(status[:3], (Action.DELAYED, "4.4.1", Reason.CONNECT_FAILED))
        self.assertEqual(status.remote_host, "mx2.example.net")
        self.assertEqual(len(node.failed), 2)
        self.assertEqual(node.relay.status(), [])

    def test_greeting(self) -> None:
        """A greeting of 4yz or 5yz, 421, none at all, or nonsense: the next host is tried."""
        for greeting, reason in (
            ("450 4.3.2 not now", "host-not-ready"),
            ("421 4.3.2 not now", "host-not-ready"),
            ("554 5.7.1 blocked", "host-refused"),
            ("HTTP/1.1 400 Bad Request", "bad-reply"),
        ):
            node = Node()
            node.send()
            node.hosts[0].says(greeting)
            self.assertTrue(node.hosts[0].is_closed)
            self.assertEqual([event.reason for event in node.failed], [reason])
            self.assertEqual(node.hosts[1].ip, "192.0.2.2")
        node = Node()
        node.send()
        node.hosts[0].closes()
        self.assertEqual([event.reason for event in node.failed], ["host-not-ready"])

    def test_silent_host(self) -> None:
        """A host that does not greet within five minutes is left."""
        node = Node()
        node.send()
        node.reactor.pump([60.0] * 4 + [59.0])
        self.assertEqual(len(node.hosts), 1)
        node.reactor.advance(2.0)
        self.assertTrue(node.hosts[0].transport.aborted)
        self.assertEqual(node.hosts[1].ip, "192.0.2.2")

    def test_every_greeting_5yz(self) -> None:
        """Only when every host greets with 5yz is the mail returned, with the last one's words."""
        node = Node()
        sent = node.send()
        node.hosts[0].says("554 no mail here")
        node.hosts[1].says("521 5.7.1 nor here")
        (status,) = self.successResultOf(sent)
        self.assertEqual(status[:4], (Action.FAILED, "5.7.1", Reason.HOST_REFUSED, "521 5.7.1 nor here"))
        self.assertTrue(status.from_remote)

    def test_one_greeting_4yz(self) -> None:
        """When one of them may take the mail later, it is delayed."""
        for first, second in (("450 later", "554 no"), ("554 no", "450 later")):
            node = Node()
            sent = node.send()
            node.hosts[0].says(first)
            node.hosts[1].says(second)
            (status,) = self.successResultOf(sent)
            self.assertEqual((status.action, status.status[0]), (Action.DELAYED, "4"))

    def test_ehlo_refused(self) -> None:
        """A host that refuses EHLO and HELO is not ready."""
        node = Node()
        node.send()
        node.hosts[0].says("220 hi")
        self.assertIn(b"HELO", node.hosts[0].says("500 what"))
        node.hosts[0].says("550 no")
        self.assertEqual([event.reason for event in node.failed], ["host-refused"])

    def test_ehlo_delayed(self) -> None:
        """4yz to EHLO is no reason for HELO."""
        node = Node()
        node.send()
        node.hosts[0].says("220 hi")
        self.assertEqual(node.hosts[0].says("451 later"), b"")
        self.assertEqual([event.reason for event in node.failed], ["host-not-ready"])


class CloseTests(SynchronousTestCase):
    def close(self, node: Node, seconds: float = 10.0) -> Deferred[None]:
        return Deferred.fromCoroutine(node.relay.close(seconds))

    def test_nothing_to_do(self) -> None:
        """Without connections it ends at once, and later mails are delayed."""
        node = Node()
        self.successResultOf(self.close(node))
        self.assertIs(self.successResultOf(node.send())[0].reason, Reason.SHUTTING_DOWN)

    def test_idle_connections_quit(self) -> None:
        """Idle connections say QUIT."""
        node = Node()
        node.send()
        host = node.hosts[0]
        host.greets("PIPELINING")
        host.says("250 ok", "250 ok", "354 go")
        host.says("250 ok")
        closed = self.close(node)
        self.assertEqual(host.heard(), b"QUIT\r\n")
        self.assertNoResult(closed)
        host.says("221 bye")
        self.successResultOf(closed)
        self.assertEqual(node.reactor.getDelayedCalls(), [])

    def test_transfer_ends(self) -> None:
        """A mail in transfer is finished first; the mails that wait go back to the queue at once."""
        node = Node(connections_per_destination=1)
        first = node.send()
        node.hosts[0].greets("PIPELINING")
        second = node.send()
        closed = self.close(node)
        self.assertIs(self.successResultOf(second)[0].reason, Reason.SHUTTING_DOWN)
        node.hosts[0].says("250 ok", "250 ok", "354 go")
        self.assertEqual(node.hosts[0].says("250 ok"), b"QUIT\r\n")
        self.assertIs(self.successResultOf(first)[0].action, Action.RELAYED)
        node.hosts[0].says("221 bye")
        self.successResultOf(closed)

    def test_late_transfer(self) -> None:
        """What is not finished in time is broken off: delayed before the dot, uncertain after it."""
        for replies, reason in (((), Reason.SHUTTING_DOWN), (("250 ok", "250 ok", "354 go"), Reason.UNCERTAIN)):
            node = Node()
            sent = node.send()
            node.hosts[0].greets("PIPELINING")
            node.hosts[0].says(*replies) if replies else None
            closed = self.close(node)
            node.reactor.advance(10.0)
            self.successResultOf(closed)
            self.assertTrue(node.hosts[0].transport.aborted)
            (status,) = self.successResultOf(sent)
            self.assertEqual((status.action, status.reason), (Action.DELAYED, reason))

    def test_greeting_outstanding(self) -> None:
        """A host that has not greeted yet is left at once."""
        node = Node(TWO_HOSTS)
        sent = node.send()
        self.successResultOf(self.close(node))
        self.assertIs(self.successResultOf(sent)[0].reason, Reason.SHUTTING_DOWN)
        self.assertEqual(len(node.hosts), 1)
        self.assertTrue(node.hosts[0].transport.aborted)

    def test_look_up_outstanding(self) -> None:
        """While the DNS was asked for a host's protection the node began to stop: no connection is made."""
        node = Node(TWO_HOSTS)
        waiting: Deferred[Need] = Deferred()
        with mock.patch.object(Security, "need", lambda *asked: waiting):
            sent = node.send()
            closed = self.close(node)
            self.assertIs(self.successResultOf(sent)[0].reason, Reason.SHUTTING_DOWN)
            waiting.callback(NO_NEED)
        self.successResultOf(closed)
        self.assertEqual((node.hosts, node.failed), ([], []))
