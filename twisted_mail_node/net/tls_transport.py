"""TLS on our own TCP transports: OpenSSL reads and writes the socket itself (RFC 8446).

Twisted's way puts a protocol between transport and OpenSSL, with two buffers in memory, a wait for the reactor's next
turn before anything is sent, and some thirty calls for a handshake. Here a record that comes is one call, and a reply
leaves at once, as in clear. What the protocol above sees is the same: ``dataReceived``, ``handshakeCompleted``
(``IHandshakeListener``), producers, ``connectionLost`` with OpenSSL's error when the handshake failed.

A transport becomes one of these classes when TLS begins on it, so that connections in clear pay nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from socket import socket
from typing import Any, TypeVar

from OpenSSL import SSL
from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IHandshakeListener, ISSLTransport
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from zope.interface import implementer

from twisted_mail_node.net.tls_openssl import forget_errors, read_one_record, words_of
from twisted_mail_node.net.transport import Client, Server

C = TypeVar("C", bound=SSL.Connection)

#: Octets of content in a record, at most (RFC 8446 section 5.1). Whoever asks OpenSSL for so many leaves nothing in it.
RECORD_MAX = 16384
#: A record of this size or more is probably not the last of what came: look for more at once …
MORE = 4096
#: … up to so many records.
RECORDS = 4


def fits(transport: Any) -> bool:
    """Whether TLS can begin on the transport in this way: it is ours, in clear, and has sent all it was given."""
    return (
        type(transport) in _SECURE
        and transport.connected
        and not transport.TLS
        and not transport.disconnecting
        and not transport._tempDataBuffer
        and len(transport.dataBuffer) == transport.offset
    )


def become_secure(transport: Any, make: Callable[[socket | None], C]) -> C:
    """Begin TLS on a transport that fits.

    :param make: gives OpenSSL's connection, server's or client's side, for the transport's socket.
    """
    connection = make(transport.socket)
    read_one_record(connection)
    is_client = type(transport) is Client
    transport.__class__ = _SECURE[type(transport)]
    transport._tls = connection
    if is_client:
        transport.speak_first()
    return connection


class _Secure:
    """What stands before ``Server`` and ``Client``.

    :ivar _handshaking: what is written waits, and nothing is delivered.
    :ivar _stalled: OpenSSL must send something of its own before it can read on, and the socket is full.
    """

    _tls: Any
    _handshaking = True
    _stalled = False
    _paused = False
    _delivering = False
    _done = False

    # ---- the handshake ---------------------------------------------------------------------------------------

    def speak_first(self: Any) -> None:
        """The client's hello."""
        if self._shake() is not None:
            self.abortConnection()

    def _shake(self: Any) -> Any:
        """Go on with the handshake; gives why the connection is over, if it is."""
        try:
            self._tls.do_handshake()
        except SSL.WantReadError:
            return None
        except SSL.WantWriteError:
            self.startWriting()
            return None
        except SSL.Error as error:
            return _over(error)
        self._handshaking = False
        if IHandshakeListener.providedBy(self.protocol):
            self._delivering = True
            try:
                self.protocol.handshakeCompleted()
            finally:
                self._delivering = False
        if self._tempDataBuffer:
            self.startWriting()
        return self._end() if self._done else None

    # ---- reading ---------------------------------------------------------------------------------------------

    def doRead(self: Any) -> Any:
        """Hand on what came; gives why the connection is over, if it is."""
        if self._handshaking:
            return self._shake()
        why = None
        try:
            data = self._tls.recv(RECORD_MAX)
        except SSL.WantReadError:
            return None
        except SSL.Error as error:
            return self._not_read(error)
        if len(data) >= MORE:
            data, why = self._gather(data)
        self._delivering = True
        try:
            self.protocol.dataReceived(data)
        finally:
            self._delivering = False
        return self._end() if self._done else why

    def _gather(self: Any, data: bytes) -> tuple[bytes, Any]:
        """``data``, and the records that lie behind it already."""
        pieces = [data]
        why = None
        recv = self._tls.recv
        try:
            while len(pieces) < RECORDS and len(pieces[-1]) >= MORE:
                pieces.append(recv(RECORD_MAX))
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            why = self._not_read(error)
        return b"".join(pieces), why

    def _not_read(self: Any, error: SSL.Error) -> Any:
        if isinstance(error, SSL.ZeroReturnError):
            return self._end()  # close_notify: what follows is not ours to read
        if isinstance(error, SSL.WantWriteError):
            self._stalled = True
            self.stopReading()
            self.startWriting()
            return None
        return _over(error)

    def pauseProducing(self: Any) -> None:
        """See IPushProducer."""
        self._paused = True
        super().pauseProducing()  # type: ignore[misc]

    def resumeProducing(self: Any) -> None:
        """See IPushProducer."""
        self._paused = False
        if not self._stalled:
            super().resumeProducing()  # type: ignore[misc]

    # ---- writing ---------------------------------------------------------------------------------------------

    def write(self: Any, data: bytes) -> None:
        """Send at once, if nothing waits. Nothing more is taken after loseConnection, but from a producer."""
        if self.disconnecting and self.producer is None:
            return
        if (
            data
            and self.connected
            and not self._handshaking
            and not self._tempDataBuffer
            and len(self.dataBuffer) == self.offset
            and not self.disconnecting
            and not self._writeDisconnected
        ):
            try:
                sent = self._tls.send(data)
            except SSL.Error:
                forget_errors()
                sent = 0  # full, or lost: doWrite finds out which
            if sent == len(data):
                return
            data = data[sent:]
        FileDescriptor.write(self, data)

    def doWrite(self: Any) -> Any:
        """The socket has room; gives why the connection is over, if it is."""
        if self._handshaking:
            self.stopWriting()
            return self._shake()
        if self._stalled:
            self._stalled = False
            if not self.disconnecting:
                if not self._paused:
                    self.startReading()
                why = self.doRead()
                if why is not None:
                    return why
        return super().doWrite()  # type: ignore[misc]

    def writeSomeData(self: Any, data: bytes) -> Any:
        """Send what OpenSSL takes, a record at a time; gives how many octets, or why the connection is over."""
        view = memoryview(data)[: self.SEND_LIMIT]
        size, sent = len(view), 0
        send = self._tls.send
        try:
            while sent < size:
                sent += send(view[sent:])
        except SSL.WantWriteError:
            pass
        except SSL.Error as error:
            return CONNECTION_LOST if isinstance(_over(error), Exception) else sent
        return sent

    # ---- the end ---------------------------------------------------------------------------------------------

    def loseConnection(self: Any) -> None:
        """Close when all is sent. Before the handshake is completed nothing can be said any more."""
        if self._handshaking:
            self.abortConnection()
        else:
            super().loseConnection()  # type: ignore[misc]

    def _end(self: Any) -> Any:
        """Say close_notify (RFC 8446 section 6.1), and do not wait for the peer's."""
        try:
            self._tls.shutdown()
        except SSL.Error:
            forget_errors()
        return CONNECTION_DONE

    def _postLoseConnection(self: Any) -> Any:
        return self._end()

    def _closeWriteConnection(self: Any) -> None:
        self._end()
        super()._closeWriteConnection()  # type: ignore[misc]

    def connectionLost(self: Any, reason: Any) -> None:
        """The socket is gone, and OpenSSL must not touch its number again."""
        self.__dict__.pop("_tls", None)
        super().connectionLost(reason)  # type: ignore[misc]

    def getPeerCertificate(self: Any) -> Any:
        """See ISSLTransport."""
        return self._tls.get_peer_certificate()


def _over(error: SSL.Error) -> Exception:
    """Why the connection is over: lost, or what OpenSSL says."""
    forget_errors()
    if isinstance(error, (SSL.SysCallError, SSL.ZeroReturnError)) or not words_of(error):
        return CONNECTION_LOST
    return error.with_traceback(None)


@implementer(ISSLTransport)
class SecureServer(_Secure, Server):
    """The server's side of a connection, with TLS."""


@implementer(ISSLTransport)
class SecureClient(_Secure, Client):
    """The client's side of a connection, with TLS."""


_SECURE: dict[type[Any], type[Any]] = {Server: SecureServer, Client: SecureClient}
