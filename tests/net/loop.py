"""Two ends of TCP connections over loopback in one thread: a small reactor that runs until something is there.

``Ends`` listens with a protocol that begins TLS; ``Peer`` is a client that speaks TLS by hand, octet by octet.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from OpenSSL import SSL
from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.posixbase import _DisconnectSelectableMixin
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.threads import ThreadsAtOnce
from twisted_mail_node.interfaces import ITlsSession
from twisted_mail_node.net import transport as our_transport

#: Seconds for anything over loopback to happen.
PATIENCE = 10.0


class Loop(_DisconnectSelectableMixin, ThreadsAtOnce):
    """A reactor for tests: sockets are real, time stands still, threads run at once."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()
        self.addReader, self.addWriter = self.readers.add, self.writers.add
        self.removeReader, self.removeWriter = self.readers.discard, self.writers.discard

    def turn(self) -> None:
        """One look at the sockets."""
        self.advance(0)
        readable, writable, _ = select.select(list(self.readers), list(self.writers), [], 0.001)
        for ready, waiting, name in ((readable, self.readers, "doRead"), (writable, self.writers, "doWrite")):
            for one in ready:
                if one in waiting:
                    try:
                        why = getattr(one, name)()
                    except Exception as error:
                        why = error
                    if why:
                        self._disconnectSelectable(one, why, name == "doRead")

    def until(self, there: Callable[[], object]) -> None:
        """Run until something is there."""
        end = time.monotonic() + PATIENCE
        while not there():
            if time.monotonic() > end:
                raise AssertionError("what was waited for did not come")
            self.turn()

    def some(self, turns: int = 20) -> None:
        """Let everything happen that is about to."""
        for _ in range(turns):
            self.turn()


@implementer(IHandshakeListener, IPushProducer)
class End(Protocol):
    """One end of a connection, as a protocol of ours has it.

    :ivar secure: begins TLS on a transport.
    :ivar said: what came, joined.
    :ivar pauses: how often it was told to be silent.
    """

    session: ITlsSession
    sent_first = b""

    def __init__(self, secure: Callable[[Any], ITlsSession] | None, at_once: bool = True) -> None:
        self.secure = secure
        self.at_once = at_once
        self.completed = 0
        self.said = b""
        self.pieces: list[int] = []
        self.pauses = 0
        self.silent = False
        self.lost: Failure | None = None
        self.heard: Callable[[bytes], None] = lambda data: None
        self.when_completed: Callable[[], None] = lambda: None

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)  # type: ignore[union-attr]
        if self.at_once:
            self.begin()

    def begin(self) -> None:
        """Begin TLS."""
        assert self.secure is not None
        self.session = self.secure(self.transport)

    def handshakeCompleted(self) -> None:
        self.completed += 1
        self.when_completed()

    def dataReceived(self, data: bytes) -> None:
        self.said += data
        self.pieces.append(len(data))
        self.heard(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.lost = reason

    def pauseProducing(self) -> None:
        self.pauses += 1
        self.silent = True

    def resumeProducing(self) -> None:
        self.silent = False

    def stopProducing(self) -> None:
        self.silent = True


class Ends:
    """Listens; every connection gets an ``End``.

    :param ours: with our transports, else with Twisted's.
    """

    def __init__(
        self, test: Any, secure: Callable[[Any], ITlsSession], ours: bool = True, at_once: bool = True
    ) -> None:
        self.loop = Loop()
        self.made: list[End] = []
        self._ours = ours
        test.patch(__import__("twisted.protocols.tls", fromlist=["tls"]), "_get_default_clock", lambda: self.loop)
        factory = Factory()

        def build(address: object) -> End:
            self.made.append(End(secure, at_once))
            return self.made[-1]

        factory.buildProtocol = build  # type: ignore[method-assign, assignment]
        self.port = tcp.Port(0, factory, 50, "127.0.0.1", self.loop)
        self.port.transport = our_transport.Server if ours else tcp.Server
        self.port.startListening()
        test.addCleanup(self.close)
        self._peers: list[Any] = []

    @property
    def number(self) -> int:
        """The port's number."""
        return int(self.port.getHost().port)

    def connect(self, end: End) -> End:
        """Our own client's end of a new connection."""
        connected: list[Any] = []
        kind = our_transport._Connector if self._ours else tcp.Connector
        factory = our_transport._OneConnection(end, Deferred(connected.append))
        connector = kind("127.0.0.1", self.number, factory, 30.0, None, self.loop)
        connector.connect()
        self.loop.until(lambda: end.connected)
        self._peers.append(end)
        return end

    def clear(self, peer: Peer, size: int) -> bytes:
        """The next so many octets that come to a client in clear."""
        said = bytearray()

        def enough() -> bool:
            with suppress(BlockingIOError):
                said.extend(peer.socket.recv(min(1 << 20, size - len(said))))
            return len(said) == size

        self.loop.until(enough)
        return bytes(said)

    def peer(self, context: SSL.Context | None = None, **more: Any) -> Peer:
        """A client that speaks TLS by hand."""
        peer = Peer(self, context, **more)
        self._peers.append(peer)
        return peer

    def close(self) -> None:
        """Close every socket."""
        self.port.stopListening()
        for end in [*self.made, *self._peers]:
            if isinstance(end, Peer):
                end.socket.close()
            elif end.connected and end.transport is not None and end.lost is None:
                end.transport.abortConnection()
        self.loop.some(3)


class Peer:
    """A TLS client whose octets go by hand.

    :ivar tls: OpenSSL's connection, on buffers in memory.
    :ivar said: what the server said.
    :ivar over: the server closed the socket.
    """

    def __init__(
        self, ends: Ends, context: SSL.Context | None = None, name: bytes = b"", session: SSL.Session | None = None
    ) -> None:
        self.loop = ends.loop
        self.socket = socket.create_connection(("127.0.0.1", ends.number))
        self.socket.setblocking(False)
        self.tls = SSL.Connection(context or SSL.Context(SSL.TLS_CLIENT_METHOD))
        self.tls.set_connect_state()
        if name:
            self.tls.set_tlsext_host_name(name)
        if session is not None:
            self.tls.set_session(session)
        self.said = b""
        self.closed = self.over = False
        self.error: SSL.Error | None = None
        self.completed = False

    def handshake(self) -> Peer:
        """Until it is completed."""
        self.loop.until(lambda: self.look().completed or self.error or self.over)
        if self.error is not None:
            raise self.error
        return self

    def look(self) -> Peer:
        """Send what OpenSSL has to send, and take what came."""
        try:
            if not self.completed:
                self.tls.do_handshake()
                self.completed = True
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            self.error = self.error or error
        self.flush()
        try:
            octets = self.socket.recv(1 << 16)
            if octets:
                self.tls.bio_write(octets)
            else:
                self.over = True
        except BlockingIOError:
            pass
        except OSError:
            self.over = True
        if self.completed:
            try:
                while True:
                    self.said += self.tls.recv(1 << 16)
            except SSL.WantReadError:
                pass
            except SSL.ZeroReturnError:
                self.closed = True
            except SSL.Error as error:
                self.error = self.error or error
        return self

    def flush(self) -> None:
        """Send what OpenSSL has to send."""
        try:
            while octets := self.tls.bio_read(1 << 16):
                self.raw(octets)
        except SSL.Error:
            pass

    def raw(self, octets: bytes) -> None:
        """Send octets as they are."""
        view = memoryview(octets)
        while view:
            try:
                view = view[self.socket.send(view) :]
            except BlockingIOError:
                self.loop.turn()
            except OSError:
                self.over = True
                return

    def say(self, octets: bytes) -> None:
        """Send octets under TLS."""
        while octets:
            octets = octets[self.tls.send(octets) :]
            self.flush()

    def until(self, there: Callable[[], object]) -> None:
        """Go on until something is there."""
        self.loop.until(lambda: self.look() and there())

    def until_said(self, words: bytes) -> None:
        """Go on until the server has said this."""
        self.until(lambda: words in self.said)
