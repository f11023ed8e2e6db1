"""Tests of twisted_mail_node.net.reactor: what comes for our transports goes straight to them."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.python import log
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.net.reactor import LeanReactor
from twisted_mail_node.net.tls_transport import SecureServer
from twisted_mail_node.net.transport import Server


class Hearing(Protocol):
    """Keeps what came."""

    def __init__(self) -> None:
        self.said = b""
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        if data == b"break":
            raise RuntimeError("broken")
        self.said += data

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.lost = reason


class LeanReactorTests(SynchronousTestCase):
    """One turn at a time, over a pair of sockets."""

    def setUp(self) -> None:
        make: Any = LeanReactor
        self.reactor = make()
        self.addCleanup(self.reactor._poller.close)
        self.ours, self.theirs = socket.socketpair()
        self.addCleanup(self.theirs.close)
        self.protocol = Hearing()
        self.transport: Any = Server(self.ours, self.protocol, ("", 0), None, 1, self.reactor)  # type: ignore[arg-type]
        self.protocol.makeConnection(self.transport)
        self.addCleanup(self.ours.close)
        self.around: list[object] = []
        real: Any = log.callWithLogger

        def callWithLogger(selectable: object, *args: Any) -> Any:
            self.around.append(selectable)
            return real(selectable, *args)

        self.patch(log, "callWithLogger", callWithLogger)

    def test_straight(self) -> None:
        """In clear and with TLS, an octet that comes takes no way around."""
        self.theirs.send(b"EHLO")
        self.reactor.doPoll(1.0)
        self.assertEqual((self.protocol.said, self.around), (b"EHLO", []))

        class Tls:
            def recv(tls, size: int) -> bytes:
                return self.ours.recv(size)

        self.transport.__class__ = SecureServer
        self.transport._tls, self.transport._handshaking = Tls(), False
        self.theirs.send(b" x")
        self.reactor.doPoll(1.0)
        self.assertEqual((self.protocol.said, self.around), (b"EHLO x", []))

    def test_others(self) -> None:
        """Twisted's own transports go Twisted's way."""

        class Other(Server):
            pass

        self.transport.__class__ = Other
        self.theirs.send(b"EHLO")
        self.reactor.doPoll(1.0)
        self.assertEqual((self.protocol.said, self.around), (b"EHLO", [self.transport]))

    def test_end(self) -> None:
        """The end of a connection, and a protocol that breaks, end it."""
        self.theirs.close()
        self.reactor.doPoll(1.0)
        assert self.protocol.lost is not None
        self.assertTrue(self.protocol.lost.check(ConnectionDone))

    def test_broken(self) -> None:
        """A protocol that breaks is logged and loses its connection."""
        self.theirs.send(b"break")
        self.reactor.doPoll(1.0)
        assert self.protocol.lost is not None
        self.assertTrue(self.protocol.lost.check(RuntimeError))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
