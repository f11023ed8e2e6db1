"""TCP transports that send at once what they are given, when nothing waits before it.

Twisted's own puts every write into a buffer and sends it in the reactor's next turn, which costs two ``epoll_ctl``
and a turn for each reply. A reply nearly always fits into the socket's buffer: one ``send`` then does it all. What
does not fit goes Twisted's way, with its producers and its order.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IConnector, IListeningPort, IProtocol, IProtocolFactory
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure


class _AtOnce:
    """The ``write`` that goes before that of ``tcp.Server`` and ``tcp.Client``."""

    def write(self: Any, data: bytes) -> None:
        if (
            self.connected
            and not self._tempDataBuffer
            and len(self.dataBuffer) == self.offset
            and not self.TLS
            and not self.disconnecting
            and not self._writeDisconnected
        ):
            try:
                sent = self.socket.send(data)
            except OSError:
                sent = 0  # full, or lost: Twisted's way finds out which
            if sent == len(data):
                return
            data = data[sent:]
        super().write(data)  # type: ignore[misc]


class Server(_AtOnce, tcp.Server):
    """The server's side of a connection. It also closes at once, where its protocol says so about what it just read
    (QUIT) and nothing waits to be sent; Twisted's own takes two ``epoll_ctl`` and another turn for that."""

    _delivering = False
    _done = False

    def doRead(self) -> Any:
        """Hand on what came; tells the reactor why the connection is over, if it is."""
        try:
            data = self.socket.recv(self.bufferSize)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not data:
            return CONNECTION_DONE
        self._delivering = True
        try:
            self.protocol.dataReceived(data)
        finally:
            self._delivering = False
        return CONNECTION_DONE if self._done else None

    def loseConnection(self) -> None:
        """Close when all is sent."""
        if (
            self._delivering
            and self.connected
            and not self.disconnecting
            and not self._tempDataBuffer
            and len(self.dataBuffer) == self.offset
            and not self.TLS
            and not self._writeDisconnected
            and self.producer is None
        ):
            self.disconnecting = True
            self._done = True
        else:
            super().loseConnection()  # type: ignore[no-untyped-call]


class Client(_AtOnce, tcp.Client):
    """The client's side of a connection."""


class _Connector(tcp.Connector):
    def _makeTransport(self) -> tcp.Client:
        return Client(self.host, self.port, self.bindAddress, self, self.reactor)  # type: ignore[no-untyped-call]


def listen(reactor: Any, endpoint: str, factory: IProtocolFactory) -> Deferred[IListeningPort]:
    """Listen as the endpoint string says (``tcp:2525:interface=127.0.0.1``).

    :raises CannotListenError: (as failure) the port is taken or not ours to take.
    """

    def listening(port: Any) -> Any:
        if type(port) is tcp.Port:  # not one of unix sockets, which has a transport of its own
            port.transport = Server
        return port

    waiting = serverFromString(reactor, endpoint).listen(factory)
    return cast("Deferred[IListeningPort]", waiting.addCallback(listening))


class _OneConnection(ClientFactory):
    noisy = False

    def __init__(self, protocol: IProtocol, connected: Deferred[IProtocol]) -> None:
        self._protocol = protocol
        self._connected: Deferred[IProtocol] | None = connected

    def buildProtocol(self, addr: object) -> Any:
        protocol, connected = self._protocol, self._connected
        self._connected = None
        if connected is not None:
            # after connectionMade, which the transport calls when we have returned
            connected.callback(protocol)
        return protocol

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        connected, self._connected = self._connected, None
        if connected is not None:
            connected.errback(reason)


def connect_unix(reactor: Any, path: str, protocol: IProtocol, timeout: float) -> Deferred[IProtocol]:
    """Connect to a unix socket; fires with ``protocol`` when the connection stands.

    :param timeout: seconds.
    :raises ConnectError: (as failure) refused, not there, not allowed, timed out or cancelled.
    """
    connected: Deferred[IProtocol] = Deferred(lambda _: connector.stopConnecting())
    try:
        connector = reactor.connectUNIX(path, _OneConnection(protocol, connected), timeout)
    except OSError as error:  # no socket can be made
        connected.errback(ConnectError(error.errno, str(error)))
    return connected


def connect(
    reactor: Any, host: str, port: int, protocol: IProtocol, timeout: float, bind_address: str | None = None
) -> Deferred[IProtocol]:
    """Connect to an IP address; fires with ``protocol`` when the connection stands.

    :param timeout: seconds.
    :param bind_address: the source address, ``None`` lets the system choose.
    :raises ConnectError: (as failure) refused, unreachable, timed out or cancelled.
    """
    connected: Deferred[IProtocol] = Deferred(lambda _: connector.stopConnecting())
    bind = (bind_address, 0) if bind_address else None
    factory = _OneConnection(protocol, connected)
    try:
        connector = _Connector(host, port, factory, timeout, bind, reactor)
        connector.connect()
    except OSError as error:
        if not connected.called:
            connected.errback(ConnectError(error.errno, str(error)))
    return connected
