"""Tests of ``twisted_mail_node.dns.transport``."""

from __future__ import annotations

import errno
import socket
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.dns.transport import (
    MAX_FALSE_REPLIES,
    FalseRepliesError,
    Server,
    SocketTransport,
    TransportError,
)

SERVER = Server("192.0.2.53", 53)


class FakeSocket:
    """A UDP socket: what comes is put into ``arrived`` (octets, or an error to raise)."""

    def __init__(self, family: int, connect_error: OSError | None) -> None:
        self.family = family
        self.sent: list[bytes] = []
        self.arrived: list[bytes | OSError] = []
        self.peer: object = None
        self.closed = False
        self._connect_error = connect_error

    def connect(self, peer: object) -> None:
        if self._connect_error is not None:
            raise self._connect_error
        self.peer = peer

    def send(self, octets: bytes) -> None:
        self.sent.append(octets)

    def recv(self, size: int) -> bytes:
        if not self.arrived:
            raise BlockingIOError
        first = self.arrived.pop(0)
        if isinstance(first, OSError):
            raise first
        return first

    def fileno(self) -> int:
        return 99

    def close(self) -> None:
        self.closed = True


def accept(octets: bytes) -> bytes | None:
    if octets == b"broken":
        raise ValueError(octets)
    return octets if octets.startswith(b"good") else None


class DatagramTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.sockets: list[FakeSocket] = []
        self.connect_error: OSError | None = None
        self.transport = SocketTransport(cast(Any, self.reactor), cast(Any, self.reactor), cast(Any, self.open))

    def open(self, family: int) -> FakeSocket:
        self.sockets.append(FakeSocket(family, self.connect_error))
        return self.sockets[-1]

    def ask(self, server: Server = SERVER) -> tuple[Deferred[bytes], FakeSocket]:
        return self.transport.udp(server, b"question", accept), self.sockets[-1]

    def turn(self) -> None:
        """One turn of the reactor in which every socket is readable."""
        for reader in list(self.reactor.getReaders()):
            cast(Any, reader).doRead()

    def assert_closed(self) -> None:
        self.assertEqual(self.reactor.getReaders(), [])
        self.assertTrue(all(found.closed for found in self.sockets))

    def test_reply(self) -> None:
        """The question goes out on a connected socket; the reply ends it and closes the socket."""
        done, found = self.ask()
        self.assertEqual((found.family, found.peer, found.sent), (socket.AF_INET, SERVER, [b"question"]))
        self.turn()
        self.assertNoResult(done)
        found.arrived.append(b"good")
        self.turn()
        self.assertEqual(self.successResultOf(done), b"good")
        self.assert_closed()

    def test_a_socket_each(self) -> None:
        """Each question has its own socket, thus its own source port (RFC 5452 section 9.2)."""
        first, _ = self.ask()
        second, _ = self.ask(Server("2001:db8::53", 53))
        self.assertEqual([found.family for found in self.sockets], [socket.AF_INET, socket.AF_INET6])
        for asked in (first, second):
            asked.cancel()
            self.failureResultOf(asked, CancelledError)
        self.assert_closed()

    def test_false_replies(self) -> None:
        """Datagrams that are no reply to the question are passed over."""
        done, found = self.ask()
        found.arrived += [b"false"] * (MAX_FALSE_REPLIES - 1) + [b"good"]
        self.turn()
        self.assertEqual(self.successResultOf(done), b"good")

    def test_guessing(self) -> None:
        """When too many of them come, UDP is not believed any more."""
        done, found = self.ask()
        found.arrived += [b"false"] * MAX_FALSE_REPLIES + [b"good"]
        self.turn()
        self.failureResultOf(done, FalseRepliesError)
        self.assert_closed()

    def test_unreadable_reply(self) -> None:
        """What reading the reply raises ends the exchange."""
        done, found = self.ask()
        found.arrived.append(b"broken")
        self.turn()
        self.failureResultOf(done, ValueError)
        self.assert_closed()

    def test_refused(self) -> None:
        """An ICMP port unreachable ends the exchange at once."""
        done, found = self.ask()
        found.arrived.append(OSError(errno.ECONNREFUSED, "refused"))
        self.turn()
        self.assertIn("refused the question", str(self.failureResultOf(done, TransportError).value))
        self.assert_closed()

    def test_unreachable(self) -> None:
        """A socket that cannot be connected is closed, and the trouble told."""
        self.connect_error = OSError(errno.ENETUNREACH, "Network is unreachable")
        done, _ = self.ask()
        self.assertIn("Network is unreachable", str(self.failureResultOf(done, TransportError).value))
        self.assert_closed()

    def test_no_socket(self) -> None:
        """No file descriptor left is a trouble like others."""

        def none_left(family: int) -> FakeSocket:
            raise OSError(errno.EMFILE, "Too many open files")

        transport = SocketTransport(cast(Any, self.reactor), cast(Any, self.reactor), cast(Any, none_left))
        done = transport.udp(SERVER, b"question", accept)
        self.assertIn("Too many open files", str(self.failureResultOf(done, TransportError).value))

    def test_reactor_stops(self) -> None:
        """A descriptor the reactor drops ends the exchange."""
        done, _ = self.ask()
        (reader,) = self.reactor.getReaders()
        cast(Any, reader).connectionLost(Failure(ConnectionDone()))
        self.failureResultOf(done, TransportError)
        self.assert_closed()


class LoopbackTests(SynchronousTestCase):
    def test_another_source(self) -> None:
        """With real sockets, what another socket sends to our port is not heard, however good it looks."""
        server, stranger = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        self.addCleanup(server.close)
        self.addCleanup(stranger.close)
        server.settimeout(5)
        server.bind(("127.0.0.1", 0))
        stranger.bind(("127.0.0.1", 0))
        reactor = MemoryReactorClock()
        transport = SocketTransport(cast(Any, reactor), cast(Any, reactor))
        done = transport.udp(Server(*server.getsockname()), b"question", accept)
        (reader,) = reactor.getReaders()
        octets, ours = server.recvfrom(100)
        self.assertEqual(octets, b"question")
        stranger.sendto(b"good evil", ours)
        cast(Any, reader).doRead()
        self.assertNoResult(done)
        server.sendto(b"good", ours)
        cast(Any, reader).doRead()
        self.assertEqual(self.successResultOf(done), b"good")
        self.assertEqual(reactor.getReaders(), [])


class StreamTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        transport = SocketTransport(cast(Any, self.reactor), cast(Any, self.reactor))
        self.done = transport.tcp(SERVER, b"question", accept, 5.0)
        host, port, self.factory, timeout, _ = self.reactor.tcpClients[0]
        self.assertEqual((host, port, timeout), ("192.0.2.53", 53, 5.0))

    def connect(self) -> tuple[Any, StringTransport]:
        stream = cast(Any, self.factory).buildProtocol(None)
        wire = StringTransport()
        stream.makeConnection(wire)
        return stream, wire

    def test_reply_at_every_cut(self) -> None:
        """The question goes out with its length; the reply is read wherever the network cuts it."""
        octets = b"\0\x08good tcp"
        for cut in range(len(octets)):
            self.setUp()
            stream, wire = self.connect()
            self.assertEqual(wire.value(), b"\0\x08question")
            stream.dataReceived(octets[:cut])
            self.assertNoResult(self.done)
            stream.dataReceived(octets[cut:])
            self.assertEqual(self.successResultOf(self.done), b"good tcp")
            self.assertTrue(wire.disconnecting)
            cast(Any, self.factory).clientConnectionLost(None, Failure(ConnectionDone()))

    def test_another_reply(self) -> None:
        """A reply to another question ends the exchange; the connection brought only ours."""
        stream, _ = self.connect()
        stream.dataReceived(b"\0\x05other")
        self.failureResultOf(self.done, TransportError)
        stream.dataReceived(b"\0\x04good")

    def test_unreadable_reply(self) -> None:
        """What reading the reply raises ends the exchange."""
        stream, _ = self.connect()
        stream.dataReceived(b"\0\x06broken")
        self.failureResultOf(self.done, ValueError)

    def test_not_connected(self) -> None:
        """A refused connection is a trouble with words."""
        cast(Any, self.factory).clientConnectionFailed(None, Failure(ConnectionRefusedError()))
        self.assertIn("cannot be reached by TCP", str(self.failureResultOf(self.done, TransportError).value))

    def test_lost(self) -> None:
        """A connection that ends too early is a trouble with words."""
        stream, _ = self.connect()
        stream.dataReceived(b"\0\x08good")
        cast(Any, self.factory).clientConnectionLost(None, Failure(ConnectionDone()))
        self.assertIn("without a reply", str(self.failureResultOf(self.done, TransportError).value))

    def test_cancelled(self) -> None:
        """Cancelling closes the connection, and what comes late is not heard."""
        stream, _ = self.connect()
        self.done.cancel()
        self.failureResultOf(self.done, CancelledError)
        self.assertTrue(self.reactor.connectors[0].stoppedConnecting or self.reactor.connectors[0]._disconnected)
        stream.dataReceived(b"\0\x04good")
