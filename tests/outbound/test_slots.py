"""Tests of twisted_mail_node.outbound.slots, and of pools that share a limit of connections."""

from __future__ import annotations

from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.outbound.remote import Node, Resolver, takes
from twisted_mail_node.dns.answer import MX
from twisted_mail_node.message.status import Action
from twisted_mail_node.outbound.pool import OPEN_AGAIN
from twisted_mail_node.outbound.slots import SLOT_TIME, NoSlot, Slot, Slots
from twisted_mail_node.queue.limits import Limits
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import DestinationRule, QueueSettings


class Someone:
    """Takes slots."""

    def __init__(self) -> None:
        self.in_need = True
        self.idle = 0
        self.asked = 0

    def give_way(self) -> bool:
        self.asked += 1
        if not self.idle:
            return False
        self.idle -= 1
        return True


class SlotsTests(SynchronousTestCase):
    """Slots by themselves."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.slots = Slots(self.clock)
        self.one, self.other = Someone(), Someone()

    def take(self, owner: Someone, most: int = 1, key: str = "k") -> Deferred[Slot]:
        return Deferred.fromCoroutine(self.slots.take(owner, key, most))

    def test_at_once(self) -> None:
        """As many as there are, at once; each key has its own."""
        taken = [self.take(self.one, 2), self.take(self.other, 2), self.take(self.one, 2, "another")]
        for slot in taken:
            self.successResultOf(slot)
        self.assertNoResult(self.take(self.one, 2))
        self.assertEqual(self.slots.status(), {"k": (2, 2, 1), "another": (1, 2, 0)})

    def test_in_turn(self) -> None:
        """Who waited first is next, though another asks the moment a slot comes free."""
        first = self.successResultOf(self.take(self.one))
        second, third = self.take(self.other), self.take(self.one)
        first.give_back()
        slot = self.successResultOf(second)
        self.assertNoResult(third)
        slot.give_back()
        self.successResultOf(third).give_back()
        self.assertEqual(self.slots.status(), {})

    def test_given_back_twice(self) -> None:
        """A slot that is given back twice is one slot."""
        slot = self.successResultOf(self.take(self.one))
        slot.give_back()
        slot.give_back()
        self.successResultOf(self.take(self.one))
        self.assertNoResult(self.take(self.other))

    def test_makes_room(self) -> None:
        """Who waits has one idle connection closed, of whoever has one."""
        self.successResultOf(self.take(self.one, 2))
        self.successResultOf(self.take(self.other, 2))
        self.other.idle = 2
        self.take(self.one, 2)
        self.assertEqual((self.one.asked, self.other.asked, self.other.idle), (1, 1, 1))

    def test_deadline(self) -> None:
        """Nobody waits longer than ten minutes; the words tell the limit."""
        self.successResultOf(self.take(self.one))
        waiting = self.take(self.other)
        self.clock.advance(SLOT_TIME)
        error = self.failureResultOf(waiting, NoSlot).value
        self.assertIn("all 1 connections", str(error))
        self.assertFalse(error.needless)
        self.assertEqual((self.clock.getDelayedCalls(), self.slots.status()), ([], {"k": (1, 1, 0)}))

    def test_not_needed(self) -> None:
        """Who needs none any more gives its turn to the next."""
        slot = self.successResultOf(self.take(self.one))
        gone, next_one = self.take(self.other), self.take(self.one)
        self.other.in_need = False
        slot.give_back()
        self.assertTrue(self.failureResultOf(gone, NoSlot).value.needless)
        self.successResultOf(next_one)

    def test_withdrawn(self) -> None:
        """Who withdraws waits no more, keeps what it has, and troubles nobody else."""
        self.successResultOf(self.take(self.one))
        mine, theirs = self.take(self.one), self.take(self.other)
        self.slots.withdraw(self.one, "k")
        self.assertTrue(self.failureResultOf(mine, NoSlot).value.needless)
        self.assertNoResult(theirs)
        self.assertTrue(self.slots.is_wanted("k"))
        self.slots.withdraw(self.other, "k")
        self.failureResultOf(theirs, NoSlot)
        self.assertFalse(self.slots.is_wanted("k"))

    def test_more(self) -> None:
        """A limit that has grown counts for those who wait, too."""
        self.successResultOf(self.take(self.one))
        waiting = self.take(self.other)
        last = self.take(self.one, 3)
        self.successResultOf(waiting)
        self.successResultOf(last)

    @given(st.lists(st.tuples(st.sampled_from(("take", "back", "withdraw", "needless", "time")), st.integers(0, 2)),
                    max_size=60), st.integers(1, 3))  # fmt: skip
    def test_exact(self, steps: list[tuple[str, int]], most: int) -> None:
        """Whatever happens, never more are in use than there are, none is lost, and nobody waits beside a free one."""
        clock = Clock()
        slots = Slots(clock)
        owners = [Someone() for _ in range(3)]
        held: list[Slot] = []
        waiting: list[Deferred[Any]] = []

        def granted(slot: Slot) -> None:
            held.append(slot)

        for what, number in steps:
            owner = owners[number]
            if what == "take":
                owner.in_need = True
                asked: Deferred[Any] = Deferred.fromCoroutine(slots.take(owner, "k", most))
                waiting.append(asked.addCallbacks(granted, lambda failure: failure.trap(NoSlot)))
            elif what == "back" and held:
                held.pop(number % len(held)).give_back()
            elif what == "withdraw":
                slots.withdraw(owner, "k")
            elif what == "needless":
                owner.in_need = False
            else:
                clock.advance(SLOT_TIME / 3)
            used, _, left = slots.status().get("k", (0, most, 0))
            self.assertEqual(used, len(held))
            self.assertLessEqual(used, most)
            self.assertFalse(left and used < most)
            self.assertEqual(left, sum(not one.called for one in waiting))
        for slot in held:
            slot.give_back()
            held = []
        clock.advance(SLOT_TIME)
        self.assertTrue(all(one.called for one in waiting))


#: Two domains with the same host.
SHARED = Resolver(
    {
        ("a.example", "MX"): (MX(10, "mx.big.example"), MX(20, "mx2.big.example")),
        ("b.example", "MX"): (MX(10, "mx.big.example"),),
        ("mx.big.example", "A"): ("192.0.2.1",),
        ("mx2.big.example", "A"): ("192.0.2.2",),
    }
)


class PoolsTests(SynchronousTestCase):
    """Pools that share a limit."""

    def node(self, connections: int = 1, mails: int = 100) -> Node:
        rule = DestinationRule(exchangers=(".big.example",), connections=connections, mails_per_connection=mails)
        return Node(SHARED, {"limits": Limits((rule,), QueueSettings())})

    def test_by_exchangers(self) -> None:
        """Two domains with the same exchangers share the connections of the rule that names these; when the first
        has gone, and not before, the second connects."""
        node = self.node()
        first, second = node.send(next_hop="a.example"), node.send(next_hop="b.example")
        (host,) = node.hosts
        host.greets("PIPELINING")
        takes(host)
        self.successResultOf(first)
        self.assertIn(b"QUIT\r\n", host.transport.all_written)  # it idled, and somebody waits
        self.assertEqual(len(node.hosts), 1)
        host.says("221 bye")
        self.assertEqual(len(node.hosts), 1)
        host.closes()
        self.assertEqual(len(node.hosts), 2)
        node.hosts[1].greets("PIPELINING")
        takes(node.hosts[1])
        self.successResultOf(second)

    def test_idle_makes_room(self) -> None:
        """A connection that idles already is closed for another pool's mail."""
        node = self.node()
        node.send(next_hop="a.example")
        host = node.hosts[0]
        host.greets("PIPELINING")
        takes(host)
        self.assertEqual(host.heard(), b"")
        node.send(next_hop="b.example")
        self.assertEqual(host.heard(), b"QUIT\r\n")
        host.says("221 bye")
        host.closes()
        self.assertEqual(len(node.hosts), 2)

    def test_fair(self) -> None:
        """A pool that always has mail gives its connection up after ten mails when another waits for it, and then waits
        itself; no mail is lost over it."""
        node = self.node()
        busy = [node.send(next_hop="a.example") for _ in range(15)]
        other = node.send(next_hop="b.example")
        first = node.hosts[0]
        first.greets("PIPELINING")
        for _ in range(10):
            takes(first)
        self.assertTrue(first.transport.all_written.endswith(b"QUIT\r\n"))
        first.says("221 bye")
        first.closes()
        second = node.hosts[1]
        second.greets("PIPELINING")
        takes(second)
        self.assertEqual(self.successResultOf(other)[0].action, Action.RELAYED)
        second.says("221 bye")
        second.closes()
        third = node.hosts[2]
        third.greets("PIPELINING")
        for _ in range(5):
            takes(third)
        self.assertEqual([self.successResultOf(one)[0].action for one in busy], [Action.RELAYED] * 15)

    def test_alone(self) -> None:
        """... and keeps it when nobody else waits."""
        node = self.node()
        for _ in range(30):
            node.send(next_hop="a.example")
        node.hosts[0].greets("PIPELINING")
        for _ in range(30):
            takes(node.hosts[0])
        self.assertNotIn(b"QUIT", node.hosts[0].transport.all_written)

    def test_levels_share(self) -> None:
        """Mail to one next hop of which different things are asked shares its limit, too."""
        rule = DestinationRule(domains=("a.example",), connections=1)
        node = Node(SHARED, {"limits": Limits((rule,), QueueSettings())})
        node.send(next_hop="a.example")
        node.send(next_hop="a.example", level="none")
        self.assertEqual(len(node.hosts), 1)

    def test_next_host(self) -> None:
        """When a host is not ready, the next one is connected to when the connection to the first is gone."""
        node = self.node()
        node.send(next_hop="a.example")
        node.hosts[0].says("554 no")
        self.assertEqual(len(node.hosts), 1)
        node.hosts[0].closes()
        self.assertEqual([host.ip for host in node.hosts], ["192.0.2.1", "192.0.2.2"])

    def test_mails_per_connection(self) -> None:
        """The rule says after how many mails a connection is changed."""
        node = self.node(mails=1)
        node.send(next_hop="a.example")
        node.send(next_hop="a.example")
        host = node.hosts[0]
        host.greets("PIPELINING")
        takes(host)
        self.assertIn(b"QUIT\r\n", host.transport.all_written)

    def test_waits_too_long(self) -> None:
        """Mail that finds no slot in ten minutes is delayed, and the words tell the limit."""
        node = self.node()
        node.send(next_hop="a.example")
        waits = node.send(next_hop="b.example")
        node.reactor.pump([0.25] * 40)
        node.hosts[0].greets("PIPELINING")
        node.hosts[0].says("250 ok", "250 ok", "354 go")
        node.reactor.pump([0.25] * 2359)
        self.assertNoResult(waits)
        node.reactor.advance(0.25)
        (status,) = self.successResultOf(waits)
        self.assertIs(status.reason, Reason.DESTINATION_BUSY)
        self.assertIn("all 1 connections", status.words)

    def test_all_gone(self) -> None:
        """When all is done nothing is left: no pool, no timer."""
        node = self.node()
        for domain in ("a.example", "b.example"):
            node.send(next_hop=domain)
        for number in range(2):
            host = node.hosts[number]
            host.greets("PIPELINING")
            takes(host)
            node.reactor.advance(10.0)
            host.says("221 bye")
            host.closes()
        self.assertEqual((node.relay.status(), node.reactor.getDelayedCalls()), ([], []))

    def test_closing(self) -> None:
        """A node that stops does not wait for slots."""
        node = self.node()
        node.send(next_hop="a.example")
        waits = node.send(next_hop="b.example")
        closed = Deferred.fromCoroutine(node.relay.close(10.0))
        self.assertIs(self.successResultOf(waits)[0].reason, Reason.SHUTTING_DOWN)
        self.successResultOf(closed)

    def test_no_socket(self) -> None:
        """Where no socket can be made for a while, the places are given back, and mail goes as soon as one can."""
        node = self.node()
        way = {"transport": "lmtp"}
        with mock.patch.object(node, "_connect", side_effect=OSError(24, "Too many open files")):
            for _ in range(3):
                sent = node.send(next_hop="unix:/run/l", way=way)
                (status,) = self.successResultOf(sent)
                self.assertEqual((status.action, status.reason), (Action.DELAYED, Reason.CONNECT_FAILED))
                self.assertIn("Too many open files", status.words)
                node.reactor.advance(OPEN_AGAIN)
        node.send(next_hop="unix:/run/l", way=way)
        self.assertEqual(len(node.hosts), 1)
        node.hosts[0].closes()
        self.successResultOf(Deferred.fromCoroutine(node.relay.close(10.0)))
