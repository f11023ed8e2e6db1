"""Tests of twisted_mail_node.net.listening: what is bound before it is listened on, and what systemd bound."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet import endpoints, reactor, tcp, unix
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python.systemd import ListenFDs
from twisted.trial.unittest import SynchronousTestCase, TestCase

from twisted_mail_node.net.listening import bind, listen
from twisted_mail_node.net.transport import Server


class Hello(Protocol):
    """Says who connected, and closes."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(type(self.transport).__name__.encode())
        self.transport.loseConnection()


class Place:
    """A directory with a short name: a unix socket's path has at most 107 octets."""

    def __init__(self, case: SynchronousTestCase) -> None:
        place = tempfile.TemporaryDirectory(prefix="mn-")
        case.addCleanup(place.cleanup)
        self.path = Path(place.name) / "s"


class BindTests(SynchronousTestCase):
    """Taking a place."""

    def taken(self, endpoint: str) -> socket.socket:
        """What was bound; it is closed in the end."""
        place = bind(endpoint)
        assert place is not None
        self.addCleanup(place.close)
        return place

    def test_tcp(self) -> None:
        """A port of one address, IPv4 or IPv6; who connects waits there."""
        for endpoint, host in (("tcp:0:interface=127.0.0.1", "127.0.0.1"), (r"tcp6:0:interface=\:\:1", "::1")):
            place = self.taken(endpoint)
            self.assertEqual(place.getsockname()[0], host)
            socket.create_connection(place.getsockname()[:2], 5).close()
            self.assertFalse(os.get_inheritable(place.fileno()))

    def test_everywhere(self) -> None:
        """Without an interface it is every address."""
        self.assertEqual(self.taken("tcp:0").getsockname()[0], "0.0.0.0")
        self.assertEqual(self.taken("tcp6:0:backlog=5").getsockname()[0], "::")

    def test_in_use(self) -> None:
        """A port in use is the same error as when Twisted finds it out."""
        port = self.taken("tcp:0:interface=127.0.0.1").getsockname()[1]
        error = self.assertRaises(CannotListenError, bind, f"tcp:{port}:interface=127.0.0.1")
        self.assertEqual((error.interface, error.port), ("127.0.0.1", port))
        self.assertIn("in use", str(error.socketError))

    def test_unix(self) -> None:
        """A unix socket has the mode of the endpoint from its first instant; the process's umask stays as it was."""
        place = Place(self)
        before = os.umask(0o027)
        self.addCleanup(os.umask, before)
        self.taken(f"unix:{place.path}:mode=620")
        self.assertEqual(stat.S_IMODE(place.path.stat().st_mode), 0o620)
        self.assertEqual(os.umask(0o027), 0o027)
        other = Place(self)
        self.taken(f"unix:{other.path}")
        self.assertEqual(stat.S_IMODE(other.path.stat().st_mode), 0o666)

    def test_unix_left_over(self) -> None:
        """A socket that nobody listens on any more is replaced; one in use, and any other file, is not."""
        place = Place(self)
        first = self.taken(f"unix:{place.path}")
        self.assertRaises(CannotListenError, bind, f"unix:{place.path}")
        first.close()
        self.taken(f"unix:{place.path}")
        file = Place(self)
        file.path.write_text("mine")
        self.assertRaises(CannotListenError, bind, f"unix:{file.path}")
        link = Place(self)
        link.path.symlink_to(place.path)
        self.assertRaises(CannotListenError, bind, f"unix:{link.path}")
        self.assertEqual((file.path.read_text(), link.path.is_symlink()), ("mine", True))

    def test_systemd(self) -> None:
        """What systemd bound need not be bound."""
        self.assertIsNone(bind("systemd:domain=INET:name=smtp"))


def pass_on(case: SynchronousTestCase, number: int) -> None:
    """systemd passed this descriptor under the name ``smtp``."""
    case.patch(endpoints._SystemdParser, "_sddaemon", ListenFDs([number], ("smtp",)))
    environment = mock.patch.dict(os.environ, {"LISTEN_FDNAMES": "smtp"})
    environment.start()
    case.addCleanup(environment.stop)


class PassedTests(SynchronousTestCase):
    """What systemd passed, when it is not what the settings say."""

    def refused(self, endpoint: str) -> str:
        """The sentence."""
        failure = self.failureResultOf(listen(MemoryReactorClock(), endpoint, Factory()), ValueError)
        return str(failure.value)

    def test_nothing(self) -> None:
        """Without systemd there is nothing."""
        words = self.refused("systemd:domain=INET:name=smtp")
        self.assertIn("no socket smtp (passed: none)", words)
        self.assertIn("FileDescriptorName=", words)
        self.assertIn("no socket number 0", self.refused("systemd:domain=INET:index=0"))

    def test_another(self) -> None:
        """A socket of another name or number, of another kind, and a file that is no socket."""
        stream = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(stream.close)
        self.addCleanup(datagram.close)
        with open(os.devnull, "rb") as file:
            for number, domain, words in (
                (stream.fileno(), "INET", "is of AF_INET6 and SOCK_STREAM, the settings say AF_INET"),
                (stream.fileno(), "UNIX", "the settings say AF_UNIX"),
                (datagram.fileno(), "INET", "SOCK_DGRAM"),
                (file.fileno(), "INET", "is no socket"),
            ):
                pass_on(self, number)
                self.assertIn(words, self.refused(f"systemd:domain={domain}:name=smtp"))
                self.assertIn("(passed: smtp)", self.refused("systemd:domain=INET:name=smpt"))
                self.assertIn("no socket number 1", self.refused("systemd:domain=INET:index=1"))
                os.fstat(number)  # it is still open


class ListenTests(TestCase):
    """Listening on it."""

    timeout = 10

    async def said(self, endpoint: str, bound: socket.socket | None) -> str:
        """What a client hears of who serves it; the port is closed then."""
        factory: Any = Factory.forProtocol(Hello)
        port: Any = await listen(reactor, endpoint, factory, bound)
        try:
            address = port.socket.getsockname()
            client = socket.socket(port.socket.family)
            client.settimeout(5)
            client.connect(address[:2] if isinstance(address, tuple) else address)
            pool: Any = reactor
            with client:
                heard: Deferred[bytes] = Deferred()
                pool.callInThread(lambda: pool.callFromThread(heard.callback, client.recv(100)))
                return (await heard).decode()
        finally:
            await maybeDeferred(port.stopListening)

    async def test_kinds(self) -> None:
        """Bound before or now: TCP connections are those that write at once, unix ones are Twisted's."""
        for endpoint, kind in (("tcp:0:interface=127.0.0.1", Server), (r"tcp6:0:interface=\:\:1", Server)):
            for bound in (bind(endpoint), None):
                self.assertEqual(await self.said(endpoint, bound), kind.__name__)
        for before in (True, False):
            place = Place(self)
            endpoint = f"unix:{place.path}"
            self.assertEqual(await self.said(endpoint, bind(endpoint) if before else None), unix.Server.__name__)
            self.assertFalse(place.path.exists())

    async def test_transport(self) -> None:
        """The transport of an adopted port is ours, not only one of its name."""
        endpoint = "tcp:0:interface=127.0.0.1"
        for bound in (bind(endpoint), None):
            port: Any = await listen(reactor, endpoint, Factory(), bound)
            self.assertIs(port.transport, Server)
            self.assertIs(type(port), tcp.Port)
            await maybeDeferred(port.stopListening)

    async def test_not_ours_any_more(self) -> None:
        """A path that this user may not remove in the end does not keep the port from closing."""
        place = Place(self)
        port: Any = await listen(reactor, f"unix:{place.path}", Factory(), bind(f"unix:{place.path}"))

        def refuse(path: bytes) -> None:
            raise PermissionError(13, "Permission denied")

        self.patch(os, "unlink", refuse)
        number = port.socket.fileno()
        await maybeDeferred(port.stopListening)
        self.assertRaises(OSError, os.fstat, number)

    async def test_systemd(self) -> None:
        """Sockets of systemd, of all kinds; the path of its unix socket stays, for systemd listens on it itself."""
        place = Place(self)
        for endpoint, domain in (("tcp:0:interface=127.0.0.1", "INET"), (r"tcp6:0:interface=\:\:1", "INET6"),
                                 (f"unix:{place.path}:mode=600", "UNIX")):  # fmt: skip
            bound = bind(endpoint)
            assert bound is not None
            pass_on(self, bound.detach())
            self.assertEqual(await self.said(f"systemd:domain={domain}:name=smtp", None), "Server")
        self.assertEqual(stat.S_IMODE(place.path.stat().st_mode), 0o600)
