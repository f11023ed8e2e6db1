"""The control socket: what it answers, and that no client can harm the node (attack T39)."""

from __future__ import annotations

import json
import os
import socket
import stat
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from tests.admin.fakes import EagerTransport, FakeNode, mail
from twisted_mail_node.admin import control, orders, queue_orders
from twisted_mail_node.admin.control import ControlFactory, ControlService, ControlSocketError, prepare_place
from twisted_mail_node.admin.orders import Orders
from twisted_mail_node.spool.mail import SpoolError, State


class Case(SynchronousTestCase):
    """A node with two mails, and a client."""

    def setUp(self) -> None:
        self.start()

    def start(self) -> None:
        self.clock: Any = MemoryReactorClock()
        self.node = FakeNode([mail("q1"), mail("q2")])
        self.stopped: list[bool] = []
        self.factory = ControlFactory(
            Orders(self.node, self.clock, lambda: self.stopped.append(True)),
            self.clock,
        )
        self.client, self.transport = self.connect()

    def connect(self) -> tuple[Any, EagerTransport]:
        client, transport = self.factory.buildProtocol(None), EagerTransport()
        client.makeConnection(transport)
        assert isinstance(client, control.ControlProtocol)
        return client, transport

    def take(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.transport.value().splitlines()]
        self.transport.clear()
        return lines

    def ask(self, **request: object) -> list[dict[str, Any]]:
        self.client.dataReceived(json.dumps(request).encode() + b"\n")
        return self.take()


class OrdersTest(Case):
    """What can be ordered."""

    def test_status(self) -> None:
        """status gives what the node says of itself, and its process."""
        self.assertEqual(
            self.ask(command="status"),
            [{"ok": True, "pid": os.getpid(), "hostname": "here.example", "listeners": ["tcp:2525"]}],
        )

    def test_find(self) -> None:
        """queue.find gives one line a mail and one line that ends the answer."""
        first, second, last = self.ask(command="queue.find", state="delayed", limit=7)
        self.assertEqual((first["queue_id"], second["queue_id"], last), ("q1", "q2", {"ok": True, "count": 2}))
        (wanted,) = self.node.queue.wanted
        self.assertEqual((wanted.state, wanted.limit), (State.DELAYED, 7))

    def test_find_with_header(self) -> None:
        """With "header" each mail comes with its header; so many at once as fit into memory."""
        self.patch(queue_orders, "in_thread", lambda reactor, function, *args: _fired(function(*args)))
        found, last = self.ask(command="queue.find", ids=["q1"], header=True, limit=50)
        self.assertEqual(last["ok"], True)
        self.assertEqual(
            found["header"], "Received: by here.example\r\nFrom: joe@here.example\r\nSubject: greetings\r\n"
        )
        (last,) = self.ask(command="queue.find", header=True)
        self.assertEqual(last["ok"], False)

    def test_change(self) -> None:
        """hold, release, retry and remove name what they found and what nobody knows."""
        for order in ("hold", "release", "retry", "remove"):
            found, last = self.ask(command=f"queue.{order}", ids=["q2", "zz", "q2"])
            self.assertEqual(found, {"queue_id": "q2"})
            self.assertEqual(last, {"ok": True, "count": 1, "unknown": ["zz"]})
            self.assertEqual(self.node.queue.ordered.pop(), (order, ["q2", "zz"]))

    def test_change_all(self) -> None:
        """An order for all goes to what the filter finds; without ids or all nothing is touched."""
        *found, last = self.ask(command="queue.hold", all=True, sender="joe")
        self.assertEqual((len(found), last["count"]), (2, 2))
        self.assertEqual(self.node.queue.ordered, [("hold", ["q1", "q2"])])
        (last,) = self.ask(command="queue.remove", sender="joe")
        self.assertEqual((last["ok"], len(self.node.queue.ordered)), (False, 1))

    def test_reload(self) -> None:
        """reload loads; wrong settings are the answer, with every word of theirs."""
        self.assertEqual(self.ask(command="reload"), [{"ok": True}])
        self.node.reload_error = ValueError("hostname holds 5")
        (last,) = self.ask(command="reload")
        self.assertEqual((last["ok"], "hostname holds 5" in last["error"]), (False, True))

    def test_stop(self) -> None:
        """stop answers first and stops then, once."""
        for _ in range(2):
            (last,) = self.ask(command="stop")
            self.assertEqual((last["ok"], self.stopped), (True, []))
        self.clock.advance(orders.STOP_AFTER)
        self.assertEqual(self.stopped, [True])

    def test_spool_refuses(self) -> None:
        """What the spool says is the answer."""
        self.node.queue.error = SpoolError("disk I/O error")
        (last,) = self.ask(command="queue.find")
        self.assertIn("disk I/O error", last["error"])


class HarmTest(Case):
    """What clients may do wrong."""

    def test_nonsense(self) -> None:
        """A malformed request is answered with a sentence, and the next one is carried out."""
        for line in (b"x", b"[]", b"5", b"{", b"\xff\xfe", b'{"command": 5}', b'{"command": "halt"}', b'"status"'):
            self.client.dataReceived(line + b"\r\n")
            (last,) = self.take()
            self.assertEqual((last["ok"], bool(last["error"])), (False, True))
        self.assertEqual(self.ask(command="status")[0]["ok"], True)
        self.assertFalse(self.transport.disconnecting)

    @settings(max_examples=60)
    @given(st.lists(st.binary(max_size=80), max_size=8), st.integers(1, 40))
    def test_anything(self, lines: list[bytes], cut: int) -> None:
        """Whatever octets come, in whatever pieces, another client is served afterwards and nothing was stopped."""
        self.start()
        octets = b"\n".join(lines) + b"\n"
        for start in range(0, len(octets), cut):
            self.client.dataReceived(octets[start : start + cut])
        self.client, self.transport = self.connect()
        self.assertEqual(self.ask(command="status")[0]["ok"], True)
        self.assertEqual(self.stopped, [])

    def test_every_cut(self) -> None:
        """A request is understood wherever it is cut."""
        octets = b'{"command": "queue.hold", "ids": ["q1"]}\n'
        for cut in range(1, len(octets)):
            self.client.dataReceived(octets[:cut])
            self.client.dataReceived(octets[cut:])
            self.assertEqual([line.get("count") for line in self.take()], [None, 1])

    def test_long_line(self) -> None:
        """An endless line is refused and the connection closed; what was sent is not kept."""
        for _ in range(3):
            self.client.dataReceived(b"x" * 40_000)
        (last,) = self.take()
        self.assertEqual((last["ok"], self.transport.disconnecting), (False, True))

    def test_flood(self) -> None:
        """Requests far ahead of their answers are refused."""
        self.node.queue.waiting = Deferred()
        self.client.dataReceived(b'{"command": "queue.find"}\n' + b"{}\n" * 1000)
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(len(self.take()), 1)

    def test_pipelined(self) -> None:
        """Requests sent together are answered in their order."""
        self.client.dataReceived(b'{"command": "status"}\n{"command": "x"}\n{"command": "queue.find"}\n')
        self.assertEqual([line.get("ok") for line in self.take()], [True, False, None, None, True])

    def test_break(self) -> None:
        """An order that breaks is logged with its traceback and answered; the connection goes on."""
        self.node.queue.error = KeyError("oh")
        (last,) = self.ask(command="queue.find")
        self.assertEqual((last["ok"], "log" in last["error"]), (False, True))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertEqual(self.ask(command="status")[0]["ok"], True)

    def test_silent(self) -> None:
        """A silent client is cut off."""
        self.clock.advance(control.IDLE_TIME)
        self.assertTrue(self.transport.aborted)

    def test_does_not_read(self) -> None:
        """A client that does not read its answer is cut off; no more than a piece of it was made."""
        self.node.queue.mails = [mail(f"q{number}") for number in range(2000)]
        self.transport.reading = False
        self.client.dataReceived(b'{"command": "queue.find", "limit": 5000}\n')
        assert self.transport.producer is not None
        self.transport.producer.resumeProducing()
        self.assertLess(len(self.transport.value()), control.PIECE_SIZE + 2000)
        self.clock.advance(control.IDLE_TIME)
        self.assertTrue(self.transport.aborted)

    def test_large_listing(self) -> None:
        """A large listing comes whole."""
        self.node.queue.mails = [mail(f"q{number}") for number in range(2000)]
        *found, last = self.ask(command="queue.find", limit=5000)
        self.assertEqual((len(found), last), (2000, {"ok": True, "count": 2000}))

    def test_slow_order(self) -> None:
        """An order that takes too long is answered so."""
        self.node.queue.waiting = Deferred()
        self.assertEqual(self.ask(command="queue.find"), [])
        self.clock.advance(control.ORDER_TIME)
        (last,) = self.take()
        self.assertIn("not carried out", last["error"])

    def test_gone_meanwhile(self) -> None:
        """A client that leaves while its order is carried out harms nothing and leaves no timer."""
        self.node.queue.waiting = Deferred()
        self.ask(command="queue.find")
        self.client.connectionLost()
        self.node.queue.waiting.callback([])
        self.assertEqual((self.take(), self.clock.getDelayedCalls()), ([], []))

    def test_many_clients(self) -> None:
        """The 33rd client is told so and closed; when one leaves there is room again."""
        clients = [self.connect() for _ in range(control.CLIENTS_MAX - 1)]
        self.assertFalse(clients[-1][1].disconnecting)
        late, transport = self.connect()
        self.assertEqual((transport.disconnecting, json.loads(transport.value())["ok"]), (True, False))
        late.connectionLost()
        clients[0][0].connectionLost()
        self.assertFalse(self.connect()[1].disconnecting)


class PlaceTest(SynchronousTestCase):
    """Where the socket is."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.directory = Path(place.name) / "state"
        self.path = self.directory / "control.sock"

    def listen(self) -> socket.socket:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.addCleanup(listening.close)
        listening.bind(str(self.path))
        listening.listen(1)
        return listening

    def test_made(self) -> None:
        """A missing directory is made for us alone."""
        prepare_place(self.path)
        self.assertEqual(stat.S_IMODE(self.directory.stat().st_mode), 0o700)

    def test_dead_node(self) -> None:
        """The socket of a dead node is removed; that of a living one is not."""
        prepare_place(self.path)
        listening = self.listen()
        error = self.assertRaises(ControlSocketError, prepare_place, self.path)
        self.assertIn("another node is running", str(error))
        self.assertTrue(self.path.exists())
        listening.close()
        prepare_place(self.path)
        self.assertFalse(self.path.exists())

    def test_open_directory(self) -> None:
        """A directory that others may write into is refused."""
        self.directory.mkdir()
        self.directory.chmod(0o777)
        error = self.assertRaises(ControlSocketError, prepare_place, self.path)
        self.assertIn("chmod go-w", str(error))

    def test_long_path(self) -> None:
        """A path too long for a socket is refused with a sentence."""
        error = self.assertRaises(ControlSocketError, prepare_place, self.directory / ("x" * 120))
        self.assertIn("shorter state_dir", str(error))

    def test_no_socket(self) -> None:
        """A file in the socket's place is never removed."""
        self.directory.mkdir(mode=0o700)
        self.path.write_text("precious")
        self.assertRaises(ControlSocketError, prepare_place, self.path)
        self.assertEqual(self.path.read_text(), "precious")

    def test_service(self) -> None:
        """The service listens with mode 0600, and stopping it closes the clients."""
        reactor: Any = MemoryReactorClock()
        reactor.stop = lambda: None
        service = ControlService(FakeNode(), self.path, reactor)
        service.startService()
        ((address, factory, _backlog, mode, _pid),) = reactor.unixServers
        self.assertEqual((address, mode), (str(self.path), 0o600))
        client, transport = factory.buildProtocol(None), EagerTransport()
        client.makeConnection(transport)
        self.successResultOf(service.stopService())
        self.assertTrue(transport.disconnecting)


def _fired(value: Any) -> Deferred[Any]:
    fired: Deferred[Any] = Deferred()
    fired.callback(value)
    return fired
