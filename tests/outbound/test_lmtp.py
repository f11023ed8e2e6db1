"""Tests of LMTP (RFC 2033) to a message store: a reply for each recipient, and connections that break amid them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.outbound.remote import Content, Host, Node, Resolver, joes
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Recipient
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.outbound.need import demand_of, stays_here
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.reasons import Reason

SOCKET = "unix:/run/dovecot/lmtp"
CHUNKING = ("PIPELINING", "CHUNKING")


class StoreTest(SynchronousTestCase):
    """A message store that the test plays."""

    def setUp(self) -> None:
        self.node = Node(Resolver({}))

    def send(
        self, *recipients: Address | Recipient, hop: str = SOCKET, **more: Any
    ) -> Deferred[Sequence[DeliveryStatus]]:
        return self.node.send(*recipients, next_hop=hop, way={"transport": "lmtp"}, **more)

    def store(self, *extensions: str) -> Host:
        """The last connection, introduced."""
        host = self.node.hosts[-1]
        assert host.says("220 store LMTP ready") == b"LHLO mx.example.org\r\n"
        self.said = host.offers(*extensions)
        return host

    def told(self, sent: Deferred[Sequence[DeliveryStatus]]) -> list[tuple[str, str]]:
        """Action and reason of each recipient."""
        return [(str(status.action), str(status.reason)) for status in self.successResultOf(sent)]


DONE = ("delivered", "delivered")


class DialogueTests(StoreTest):
    """What is said."""

    def test_data(self) -> None:
        """LHLO, one group of commands, the reverse-path for Return-Path, and one reply for each who was accepted."""
        sent = self.send(*joes(3))
        self.assertEqual(self.node.hosts[0].ip, "/run/dovecot/lmtp")
        store = self.store("PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES")
        self.assertEqual(
            self.said,
            b"MAIL FROM:<ann@example.org>\r\nRCPT TO:<joe0@example.net>\r\nRCPT TO:<joe1@example.net>\r\n"
            b"RCPT TO:<joe2@example.net>\r\nDATA\r\n",
        )
        self.assertTrue(
            store.says("250 ok", "250 ok", "550 5.1.1 nobody", "250 ok", "354 go").endswith(b"hello\r\n.\r\n")
        )
        store.says("250 2.0.0 <joe0> saved")
        self.assertNoResult(sent)
        store.says("452 4.2.2 joe2 is full")
        first, second, third = self.successResultOf(sent)
        self.assertEqual(first[:4], (Action.DELIVERED, "2.0.0", Reason.DELIVERED, "250 2.0.0 <joe0> saved"))
        self.assertEqual((first.remote_host, first.remote_address), ("localhost", SOCKET))
        self.assertEqual(second[:3], (Action.FAILED, "5.1.1", Reason.REMOTE_REFUSED))
        self.assertEqual(third[:3], (Action.DELAYED, "4.2.2", Reason.REMOTE_DELAYED))

    def test_bdat(self) -> None:
        """BDAT LAST is answered for each recipient, too; it is sent when it is known who was accepted."""
        sent = self.send(*joes(2))
        store = self.store(*CHUNKING)
        self.assertNotIn(b"BDAT", self.said)
        self.assertIn(b"BDAT", store.says("250 ok", "250 ok", "250 ok"))
        store.says("250 saved")
        self.assertNoResult(sent)
        store.says("554 5.6.0 virus")
        self.assertEqual(self.told(sent), [DONE, ("failed", "remote-refused")])

    def test_without_pipelining(self) -> None:
        """A store that offers nothing is asked one command after the other."""
        sent = self.send(*joes(2))
        store = self.store()
        for reply in ("250 ok", "250 ok", "250 ok"):
            self.assertEqual(store.heard(), b"")
            self.assertTrue(self.said)
            self.said = store.says(reply)
        self.assertEqual(self.said, b"DATA\r\n")
        store.says("354 go")
        store.says("250 a", "250 b")
        self.assertEqual(self.told(sent), [DONE, DONE])

    def test_large(self) -> None:
        """Large content goes in pieces; the replies count the same."""
        sent = self.send(*joes(2), content=Content(b"x" * 78 + b"\r\n", on_disk=True))
        for extensions in (("PIPELINING",), CHUNKING):
            store = self.store(*extensions)
            store.says("250 ok", "250 ok", "250 ok", *(["354 go"] if extensions != CHUNKING else []))
            store.says("250 a", "250 b")
            self.assertEqual(self.told(sent), [DONE, DONE])
            self.node = Node(Resolver({}))
            sent = self.send(*joes(2), content=Content(b"x" * 78 + b"\r\n", on_disk=True))

    def test_next_mail(self) -> None:
        """The next mail's commands go with the end of this one's content; its replies come behind all of this one's."""
        first, second = self.send(*joes(2)), self.send(*joes(1))
        store = self.store("PIPELINING")
        self.assertIn(b".\r\nMAIL", store.says("250 ok", "250 ok", "250 ok", "354 go"))
        store.says("250 a", "250 b", "250 ok", "250 ok", "354 go")
        self.assertEqual(self.told(first), [DONE, DONE])
        store.says("250 c")
        self.assertEqual(self.told(second), [DONE])

    def test_reply_for_the_refused(self) -> None:
        """A store that answers the content for who was refused, too, does not refuse the next mail by that."""
        first, second = self.send(*joes(2)), self.send(*joes(1))
        store = self.store("PIPELINING")
        self.assertTrue(store.says("250 ok", "250 ok", "550 5.1.1 nobody", "354 go").endswith(b"\r\n.\r\n"))
        store.says("250 saved", "550 5.1.1 nobody")
        self.assertEqual(self.told(first), [DONE, ("failed", "remote-refused")])
        self.assertNoResult(second)
        store.closes()
        again = self.store("PIPELINING")
        self.assertIsNot(again, store)
        again.says("250 ok", "250 ok", "354 go")
        again.says("250 saved")
        self.assertEqual(self.told(second), [DONE])

    def test_null_reverse_path(self) -> None:
        """A bounce keeps its null reverse-path."""
        self.send(sender=None)
        self.store("PIPELINING")
        self.assertIn(b"MAIL FROM:<>\r\n", self.said)

    def test_nobody(self) -> None:
        """Without an accepted recipient DATA is refused (RFC 2033 section 4.2); the connection goes on."""
        sent = self.send(*joes(1))
        store = self.store("PIPELINING")
        store.says("250 ok", "550 5.1.1 nobody", "503 5.5.1 no recipients")
        self.assertEqual(self.told(sent), [("failed", "remote-refused")])
        again = self.send(*joes(1))
        self.assertTrue(store.heard().startswith(b"RSET\r\nMAIL"))
        store.says("250 ok", "250 ok", "250 ok", "354 go")
        store.says("250 saved")
        self.assertEqual(self.told(again), [DONE])

    def test_content_for_nobody(self) -> None:
        """A store that wants content for no recipient would give nobody knows how many replies: it is left."""
        sent = self.send(*joes(1))
        store = self.store("PIPELINING")
        store.says("250 ok", "550 5.1.1 nobody", "354 go")
        self.assertTrue(store.transport.aborted)
        self.assertEqual(self.told(sent), [("failed", "remote-refused")])

    def test_data_refused(self) -> None:
        """A refusal of DATA is one reply, and everybody's."""
        sent = self.send(*joes(2))
        store = self.store("PIPELINING")
        store.says("250 ok", "250 ok", "250 ok", "451 4.3.0 later")
        self.assertEqual(self.told(sent), [("delayed", "remote-delayed")] * 2)

    def test_lhlo_refused(self) -> None:
        """A host that does not know LHLO is not greeted with HELO: it does not speak LMTP. No mail goes back for that,
        nor for a store that greets with 5yz."""
        sent = self.send()
        host = self.node.hosts[0]
        host.says("220 hi")
        host.says("500 5.5.1 what")
        self.assertNotIn(b"HELO", host.transport.all_written)
        self.assertEqual(self.told(sent), [("delayed", "host-not-ready")])
        sent = self.send()
        self.node.hosts[1].says("554 5.3.0 no")
        self.assertEqual(self.told(sent), [("delayed", "host-not-ready")])

    def test_no_dsn(self) -> None:
        """Delivery is told of by us, so a store that offers DSN is not asked to."""
        joe = Address("joe", "example.net")
        sent = self.send(Recipient(joe, joe, ("SUCCESS",), "rfc822;joe@example.net"), envid="e")
        store = self.store("PIPELINING", "DSN")
        self.assertNotIn(b"NOTIFY", self.said)
        self.assertNotIn(b"ENVID", self.said)
        store.says("250 ok", "250 ok", "354 go")
        store.says("250 saved")
        self.assertFalse(self.successResultOf(sent)[0].dsn_passed_on)

    def test_tcp(self) -> None:
        """Over TCP there is STARTTLS as anywhere, with LHLO again after it."""
        self.send(hop="[192.0.2.7]:24")
        host = self.node.hosts[0]
        self.assertEqual((host.ip, host.port), ("192.0.2.7", 24))
        host.says("220 hi")
        host.offers("STARTTLS")
        host.says("220 go")
        self.assertEqual(host.completes(), b"LHLO mx.example.org\r\n")

    def test_mixed_pools(self) -> None:
        """SMTP and LMTP to the same place are two things."""
        self.send(hop="[192.0.2.7]:24")
        self.node.send(next_hop="[192.0.2.7]:24")
        said = [host.says("220 hi")[:4] for host in self.node.hosts]
        self.assertEqual(said, [b"LHLO", b"EHLO"])


class NeedsTests(StoreTest):
    """What a mail asked for on its way, when it has arrived."""

    def test_require_tls(self) -> None:
        """REQUIRETLS does not keep a mail from a store on this machine; to one elsewhere it counts."""
        sent = self.send(require_tls=True)
        store = self.store("PIPELINING")
        self.assertNotIn(b"REQUIRETLS", self.said)
        store.says("250 ok", "250 ok", "354 go")
        store.says("250 saved")
        self.assertEqual(self.told(sent), [DONE])
        elsewhere = self.send(hop="[192.0.2.7]:24", require_tls=True)
        host = self.node.hosts[-1]
        host.says("220 hi")
        self.assertEqual(host.offers("PIPELINING"), b"QUIT\r\n")
        host.says("221 bye")
        self.assertEqual(self.told(elsewhere), [("failed", "requiretls")])

    def test_deliver_by(self) -> None:
        """A store needs not know Deliver By: the mail is delivered there, in time."""
        sent = self.send(deliver_by=self.node.reactor.seconds() + 60, by_mode="R")
        store = self.store("PIPELINING")
        self.assertNotIn(b" BY=", self.said)
        store.says("250 ok", "250 ok", "354 go")
        store.says("250 saved")
        self.assertEqual(self.told(sent), [DONE])

    def test_stays_here(self) -> None:
        """Sockets and loopback addresses are this machine; names are not, whatever they stand for."""
        for hop, wanted in (
            (SOCKET, True),
            ("[127.0.0.1]:24", True),
            ("[IPv6:::1]:24", True),
            ("[192.0.2.7]:24", False),
            ("[localhost]:24", False),
            ("localhost", False),
        ):
            self.assertIs(stays_here(hop), wanted, hop)

    def test_demand(self) -> None:
        """What is spoken, who signs in and where we come from are part of what is asked."""
        request = self.node  # only for its mail
        sent: list[DeliveryRequest] = []

        async def deliver(one: DeliveryRequest) -> list[DeliveryStatus]:
            sent.append(one)
            return []

        request.relay.deliver = deliver  # type: ignore[method-assign, assignment]
        self.node.send(next_hop=SOCKET, way={"transport": "lmtp", "credentials": "route[1]", "source": "bulk"})
        self.assertEqual(demand_of(sent[0]), (SOCKET, "opportunistic", False, "lmtp", "route[1]", "bulk", False))


class BrokenTests(StoreTest):
    """Connections that end amid the replies."""

    def broken(self, replies: Sequence[str], end: str) -> list[tuple[str, str]]:
        """Four recipients, some replies, and the end."""
        self.node = Node(Resolver({}))
        sent = self.send(*joes(4))
        store = self.store("PIPELINING")
        store.says("250 ok", *["250 ok"] * 4, "354 go")
        if replies:
            store.says(*replies)
        if end == "421":
            store.says("421 4.3.2 shutting down")
        elif end == "silence":
            self.node.reactor.pump([60.0] * 10)
        elif end == "nonsense":
            store.says("what?")
        else:
            store.closes()
        self.assertEqual(len(self.node.hosts), 1, "nobody is sent it again within the attempt")
        return self.told(sent)

    def test_uncertain(self) -> None:
        """Who has a reply keeps it and gets the mail no second time; the others may or may not have it."""
        for end in ("closed", "silence", "nonsense"):
            told = self.broken(["250 saved", "550 no"], end)
            self.assertEqual(told, [DONE, ("failed", "remote-refused")] + [("delayed", "uncertain")] * 2, end)

    def test_closing(self) -> None:
        """421 amid the replies delays those who have none."""
        told = self.broken(["250 saved", "451 later"], "421")
        self.assertEqual(told, [DONE] + [("delayed", "remote-delayed")] * 3)

    @given(st.lists(st.sampled_from((250, 251, 450, 452, 550, 554)), max_size=4),
           st.sampled_from(("closed", "silence", "421")))  # fmt: skip
    def test_any(self, codes: list[int], end: str) -> None:
        """However many replies came, each counts for its recipient, and nobody is delivered to twice or forgotten."""
        told = self.broken([f"{code} x" for code in codes], end)
        wanted = {2: DONE, 4: ("delayed", "remote-delayed"), 5: ("failed", "remote-refused")}
        self.assertEqual(told[: len(codes)], [wanted[code // 100] for code in codes])
        self.assertTrue(all(action == "delayed" for action, _ in told[len(codes) :]))
        self.assertEqual(len(told), 4)
