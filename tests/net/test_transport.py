"""Tests of twisted_mail_node.net.transport."""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet import tcp
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IListeningPort, IProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.net.transport import Client, Server, _AtOnce, connect, listen


class Socket:
    """Takes ``room`` octets, then raises."""

    def __init__(self, room: int, error: OSError) -> None:
        self.room = room
        self.error = error
        self.sent = b""

    def send(self, data: bytes) -> int:
        """See socket."""
        if self.room <= 0:
            raise self.error
        taken = data[: self.room]
        self.room -= len(taken)
        self.sent += taken
        return len(taken)


class Buffering:
    """Twisted's way: keeps what is written."""

    def __init__(self, sock: Socket) -> None:
        self.socket = sock
        self.connected = True
        self.disconnecting = False
        self.TLS = False
        self.dataBuffer = b""
        self.offset = 0
        self._tempDataBuffer: list[bytes] = []
        self._writeDisconnected = False

    def write(self, data: bytes) -> None:
        """Keep it."""
        self._tempDataBuffer.append(data)


class Transport(_AtOnce, Buffering):
    """What is tested, over both."""


FULL = BlockingIOError(errno.EAGAIN, "full")


class WriteTests(SynchronousTestCase):
    """Writes that leave at once."""

    def test_at_once(self) -> None:
        """What the socket takes never waits."""
        sock = Socket(100, FULL)
        transport = Transport(sock)
        transport.write(b"250 OK\r\n")
        transport.write(b"221 Bye\r\n")
        self.assertEqual((sock.sent, transport._tempDataBuffer), (b"250 OK\r\n221 Bye\r\n", []))

    def test_rest(self) -> None:
        """What it does not take goes Twisted's way, once and in order; nothing overtakes it."""
        sock = Socket(5, FULL)
        transport = Transport(sock)
        transport.write(b"0123456789")
        sock.room = 100
        transport.write(b"abc")
        self.assertEqual((sock.sent, transport._tempDataBuffer), (b"01234", [b"56789", b"abc"]))

    def test_behind_buffer(self) -> None:
        """While the main buffer holds something, nothing is sent before it."""
        sock = Socket(100, FULL)
        transport = Transport(sock)
        transport.dataBuffer, transport.offset = b"waiting", 3
        transport.write(b"abc")
        self.assertEqual((sock.sent, transport._tempDataBuffer), (b"", [b"abc"]))
        transport._tempDataBuffer.clear()
        transport.offset = len(transport.dataBuffer)
        transport.write(b"def")
        self.assertEqual(sock.sent, b"def")

    def test_errors(self) -> None:
        """A full or a broken socket is Twisted's to find out: nothing is raised."""
        for error in (FULL, ConnectionResetError(errno.ECONNRESET, "gone"), InterruptedError()):
            transport = Transport(Socket(0, error))
            transport.write(b"abc")
            self.assertEqual(transport._tempDataBuffer, [b"abc"])

    def test_not_when(self) -> None:
        """Not on TLS, not when closing, not when closed for writing, not when unconnected."""
        for name, value in (("TLS", True), ("disconnecting", True), ("_writeDisconnected", True), ("connected", False)):
            sock = Socket(100, FULL)
            transport = Transport(sock)
            setattr(transport, name, value)
            transport.write(b"abc")
            self.assertEqual((sock.sent, transport._tempDataBuffer), (b"", [b"abc"]), name)

    def test_places(self) -> None:
        """Twisted's transports have every attribute that is looked at, so that a new Twisted is noticed here."""
        for kind in (Server, Client):
            self.assertTrue(issubclass(kind, tcp.Connection))
            self.assertIs(kind.write, _AtOnce.write)
        made = Server.__new__(Server)
        for name in ("connected", "disconnecting", "TLS", "dataBuffer", "offset", "_writeDisconnected"):
            self.assertTrue(hasattr(made, name), name)


class ListenTests(SynchronousTestCase):
    """Listening as an endpoint string says."""

    def test_tcp(self) -> None:
        """A TCP port makes our transports."""
        reactor = MemoryReactorClock()
        made: list[Any] = []

        def listenTCP(port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
            made.append((port, interface))
            return tcp.Port(port, factory, backlog, interface, reactor)

        self.patch(reactor, "listenTCP", listenTCP)
        port: Any = self.successResultOf(listen(reactor, "tcp:2525:interface=127.0.0.1", Factory()))
        self.assertEqual(made, [(2525, "127.0.0.1")])
        self.assertIs(port.transport, Server)

    def test_other(self) -> None:
        """Any other port is left as it is."""
        port = self.successResultOf(listen(MemoryReactorClock(), "tcp:2525", Factory()))
        self.assertTrue(IListeningPort.providedBy(port))
        self.assertFalse(isinstance(port, tcp.Port))


class ConnectTests(SynchronousTestCase):
    """Connecting to an address."""

    def setUp(self) -> None:
        self.connectors: list[Any] = []
        test = self

        class Connector:
            def __init__(self, host: str, port: int, factory: Any, timeout: float, bind: Any, reactor: Any) -> None:
                self.asked = (host, port, timeout, bind)
                self.factory = factory
                self.stopped = False
                test.connectors.append(self)

            def connect(self) -> None:
                if self.asked[0] == "broken":
                    raise OSError(errno.EADDRNOTAVAIL, "no such source")

            def stopConnecting(self) -> None:
                self.stopped = True

        self.patch(__import__("twisted_mail_node.net.transport", fromlist=["_Connector"]), "_Connector", Connector)

    def connect(self, host: str = "192.0.2.7", **more: Any) -> tuple[Protocol, Deferred[IProtocol]]:
        """Begin to connect."""
        protocol = Protocol()
        return protocol, connect(None, host, 25, protocol, 30.0, **more)

    def test_connected(self) -> None:
        """Fires with the protocol; one that is given up afterwards is not told twice."""
        protocol, connecting = self.connect(bind_address="192.0.2.1")
        (connector,) = self.connectors
        self.assertEqual(connector.asked, ("192.0.2.7", 25, 30.0, ("192.0.2.1", 0)))
        self.assertIs(connector.factory.buildProtocol(IPv4Address("TCP", "192.0.2.7", 25)), protocol)
        self.assertIs(self.successResultOf(connecting), protocol)
        connector.factory.clientConnectionFailed(connector, None)

    def test_failed(self) -> None:
        """Refused or timed out: the failure is passed on."""
        _, connecting = self.connect()
        (connector,) = self.connectors
        from twisted.python.failure import Failure

        connector.factory.clientConnectionFailed(connector, Failure(ConnectError()))
        self.failureResultOf(connecting, ConnectError)

    def test_at_once(self) -> None:
        """What cannot even be tried is a ConnectError, too."""
        _, connecting = self.connect("broken")
        self.failureResultOf(connecting, ConnectError)

    def test_cancelled(self) -> None:
        """Cancelling stops the attempt."""
        _, connecting = self.connect()
        connecting.cancel()
        self.assertTrue(self.connectors[0].stopped)
        self.failureResultOf(connecting, CancelledError)
