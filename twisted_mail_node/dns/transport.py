"""Carries one question to one DNS server and its reply back, by UDP or TCP (RFC 1035 section 4.2).

Each question has a socket of its own, so the kernel picks a random source port for it, and the socket is connected, so
that the kernel drops what comes from elsewhere (RFC 5452 section 9). The sockets are plain read descriptors and not
``listenUDP`` ports, because a port writes two lines into the log each time.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Generic, NamedTuple, Protocol, TypeVar

from twisted.internet import protocol
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IConnector, IReactorFDSet, IReactorTCP, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

T = TypeVar("T")

#: Octets read of a datagram: well above the 1232 we ask for.
_DATAGRAM = 4096
#: So many datagrams that are no reply to the question mean that someone is guessing; TCP cannot be guessed.
MAX_FALSE_REPLIES = 16


class Server(NamedTuple):
    """A DNS server: an IPv4 or IPv6 address and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class TransportError(Exception):
    """The server was not reached; the sentence goes on after the server's name."""


class FalseRepliesError(TransportError):
    """Too many datagrams came that were no reply to the question: ask again by TCP."""


#: Reads a reply; ``None`` when the octets are no reply to the question. Its exceptions end the exchange.
Accept = Callable[[bytes], T | None]


class Transport(Protocol):
    """What the resolver needs. Both Deferreds may be cancelled; the caller has the clock."""

    def udp(self, server: Server, octets: bytes, accept: Accept[T]) -> Deferred[T]:
        """Send a datagram. :raises TransportError: (as failure) not sent, or refused."""

    def tcp(self, server: Server, octets: bytes, accept: Accept[T], timeout: float) -> Deferred[T]:
        """Ask on a connection. :raises TransportError: (as failure) no connection, or none that brought a reply."""


class SocketTransport:
    """A ``Transport`` over real sockets.

    :param readers: the reactor, as it watches sockets.
    :param connections: the reactor, as it opens connections.
    :param open_socket: makes the non-blocking UDP socket for an address family.
    """

    def __init__(
        self,
        readers: IReactorFDSet,
        connections: IReactorTCP,
        open_socket: Callable[[socket.AddressFamily], socket.socket] | None = None,
    ) -> None:
        self._readers = readers
        self._connections = connections
        self._open_socket = open_socket or _open_udp_socket

    def udp(self, server: Server, octets: bytes, accept: Accept[T]) -> Deferred[T]:
        """See ``Transport``."""
        return _Datagram(self._readers, self._open_socket, server, accept).send(octets)

    def tcp(self, server: Server, octets: bytes, accept: Accept[T], timeout: float) -> Deferred[T]:
        """See ``Transport``."""
        connection = _Connection(octets, accept)
        connection.connector = self._connections.connectTCP(server.host, server.port, connection, timeout=timeout)
        return connection.done


def _open_udp_socket(family: socket.AddressFamily) -> socket.socket:
    return socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)


@implementer(IReadDescriptor)
class _Datagram(Generic[T]):
    """One datagram out, one reply in. The socket is closed as soon as the outcome is known."""

    def __init__(
        self,
        reactor: IReactorFDSet,
        open_socket: Callable[[socket.AddressFamily], socket.socket],
        server: Server,
        accept: Accept[T],
    ) -> None:
        self._reactor = reactor
        self._open_socket = open_socket
        self._server = server
        self._accept = accept
        self._socket: socket.socket | None = None
        self._false_replies = 0
        self._done: Deferred[T] = Deferred(lambda _: self._close())

    def send(self, octets: bytes) -> Deferred[T]:
        done = self._done
        try:
            self._socket = self._open_socket(socket.AF_INET6 if ":" in self._server.host else socket.AF_INET)
            self._socket.connect(self._server)
            self._socket.send(octets)
        except OSError as error:
            self._fail(_in_words(error))
        else:
            self._reactor.addReader(self)
        return done

    def fileno(self) -> int:
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        return "DNS"

    def doRead(self) -> None:
        while self._socket is not None:
            try:
                octets = self._socket.recv(_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._fail(_in_words(error))
                return
            try:
                reply = self._accept(octets)
            except Exception as error:
                self._close()
                self._done.errback(error)
                return
            if reply is not None:
                self._close()
                self._done.callback(reply)
                return
            self._false_replies += 1
            if self._false_replies >= MAX_FALSE_REPLIES:
                self._fail(FalseRepliesError(f"did not answer, but {self._false_replies} false replies came"))

    def connectionLost(self, reason: Failure) -> None:
        """The reactor stops, or the descriptor broke."""
        if self._socket is not None:
            self._fail(TransportError(f"was lost: {reason.getErrorMessage()}"))

    def _fail(self, error: TransportError) -> None:
        self._close()
        self._done.errback(error)

    def _close(self) -> None:
        if self._socket is not None:
            self._reactor.removeReader(self)
            self._socket.close()
            self._socket = None


def _in_words(error: OSError) -> TransportError:
    if isinstance(error, ConnectionRefusedError):
        return TransportError("refused the question: nothing listens there")
    return TransportError(f"cannot be asked: {error.strerror or error}")


class _Stream(protocol.Protocol):
    """The octets of a connection until the one reply is whole; two octets of length stand before it."""

    def __init__(self, octets: bytes, received: Callable[[bytes], None]) -> None:
        self._octets = octets
        self._received = received
        self._buffer = bytearray()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(len(self._octets).to_bytes(2, "big") + self._octets)

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) < 2:
            return
        end = 2 + int.from_bytes(self._buffer[:2], "big")
        if len(self._buffer) >= end:
            self._received(bytes(self._buffer[2:end]))
            self._buffer.clear()
            assert self.transport is not None
            self.transport.loseConnection()


class _Connection(protocol.ClientFactory, Generic[T]):
    """One connection, one question."""

    noisy = False
    connector: IConnector | None = None

    def __init__(self, octets: bytes, accept: Accept[T]) -> None:
        self._octets = octets
        self._accept = accept
        self._ended = False
        self.done: Deferred[T] = Deferred(lambda _: self._abandon())

    def buildProtocol(self, addr: IAddress | None) -> _Stream:
        return _Stream(self._octets, self._take)

    def _take(self, octets: bytes) -> None:
        if self._ended:
            return
        try:
            reply = self._accept(octets)
        except Exception as error:
            self._fail(error)
            return
        if reply is None:
            self._fail(TransportError("sent a reply to another question by TCP"))
            return
        self._ended = True
        self.done.callback(reply)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        self._fail(TransportError(f"cannot be reached by TCP: {reason.getErrorMessage()}"))

    def clientConnectionLost(self, connector: IConnector, reason: Failure) -> None:
        self._fail(TransportError("closed the TCP connection without a reply"))

    def _fail(self, error: Exception) -> None:
        if not self._ended:
            self._ended = True
            self.done.errback(error)

    def _abandon(self) -> None:
        self._ended = True
        if self.connector is not None:
            self.connector.disconnect()
