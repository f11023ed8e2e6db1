"""The control socket: a unix socket in ``state_dir`` through which an operator asks the running node.

Only the owner may use it (mode 0600 before the first connection can be taken). ``admin/messages`` says what the lines
look like, ``admin/orders`` what can be ordered. Whatever a client sends, the node goes on.
"""

from __future__ import annotations

import os
import socket
import stat
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IDelayedCall, IListeningPort, IPullProducer, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_mail_node.admin.messages import REQUEST_MAX, RequestError, Shape, decode, encode
from twisted_mail_node.admin.orders import Node, Orders
from twisted_mail_node.admin.queue_orders import Result
from twisted_mail_node.waiting import DeadlineError, within

_log = Logger()

#: Clients at once: a few shells and a monitor. More are told so and closed.
CLIENTS_MAX = 32
#: Seconds a client may be silent, or not read its answer.
IDLE_TIME = 30.0
#: Seconds an order may take: a listing of a large spool takes a few.
ORDER_TIME = 50.0
#: Requests a client may send ahead of their answers.
REQUESTS_AHEAD = 100
#: Octets of answer made at a time; the next are made when these have left.
PIECE_SIZE = 64 * 1024
#: Octets of a unix socket's path (unix(7): 108 with the NUL at its end).
PATH_MAX = 107
#: Seconds to find out whether another node answers on the socket.
LOOK_TIME = 2.0


class ControlSocketError(OSError):
    """The control socket cannot be made; the sentence says why and what to do."""


@implementer(IPullProducer)
class _Sending:
    """Sends lines as fast as the client reads them. ``done`` fires when all have left, or nobody reads any more."""

    def __init__(self, connection: ControlProtocol, lines: Iterator[Shape]) -> None:
        self._connection = connection
        self._lines = lines
        self.done: Deferred[None] = Deferred()

    def resumeProducing(self) -> None:
        self._connection.wait(IDLE_TIME)
        pieces: list[bytes] = []
        size = 0
        for line in self._lines:
            piece = encode(line)
            pieces.append(piece)
            size += len(piece)
            if size >= PIECE_SIZE:
                break
        if pieces:
            self._connection.transport.write(b"".join(pieces))  # type: ignore[union-attr]
        else:
            self._connection.transport.unregisterProducer()  # type: ignore[union-attr]
            self.stopProducing()

    def stopProducing(self) -> None:
        if not self.done.called:
            self.done.callback(None)


class ControlProtocol(LineOnlyReceiver):
    """One client: requests are answered one after the other."""

    delimiter = b"\n"
    MAX_LENGTH = REQUEST_MAX

    def __init__(self, factory: ControlFactory) -> None:
        self._factory = factory
        self._timer: IDelayedCall | None = None
        self._requests: deque[bytes] = deque()
        self._busy = False
        self._gone = False

    def connectionMade(self) -> None:
        self._factory.clients.add(self)
        if len(self._factory.clients) > CLIENTS_MAX:
            self._refuse(f"the node has {CLIENTS_MAX} operators' connections already; try again")
        else:
            self.wait(IDLE_TIME)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._gone = True
        self._requests.clear()
        self._factory.clients.discard(self)
        self.wait(None)

    def wait(self, seconds: float | None) -> None:
        """Let the client be silent that long from now; ``None``: as long as we are busy ourselves."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self._factory.clock.callLater(seconds, self._expired) if seconds is not None else None

    def _expired(self) -> None:
        self.transport.abortConnection()  # type: ignore[union-attr]

    def lineReceived(self, line: bytes) -> None:
        if self._gone or not line.strip():
            return
        self.wait(IDLE_TIME)
        self._requests.append(line)
        if len(self._requests) > REQUESTS_AHEAD:
            self._refuse("too many requests at once")
        elif not self._busy:
            self._busy = True
            Deferred.fromCoroutine(self._answer_all()).addErrback(self._broken)

    def lineLengthExceeded(self, line: bytes) -> None:
        if not self._gone:
            self._refuse(f"a request has at most {REQUEST_MAX} octets")

    def _refuse(self, words: str) -> None:
        self._gone = True
        self._requests.clear()
        self.transport.write(encode({"ok": False, "error": words}))  # type: ignore[union-attr]
        self.transport.loseConnection()  # type: ignore[union-attr]
        self.wait(IDLE_TIME)

    async def _answer_all(self) -> None:
        transport: Any = self.transport
        transport.pauseProducing()
        try:
            while self._requests and not self._gone:
                self.wait(None)
                result = await self._carry_out(self._requests.popleft())
                if self._gone:
                    return
                self.wait(IDLE_TIME)
                sending = _Sending(self, chain(result.items, (result.last,)))
                transport.registerProducer(sending, False)
                await sending.done
        finally:
            self._busy = False
        if not self._gone:
            transport.resumeProducing()

    async def _carry_out(self, line: bytes) -> Result:
        try:
            request = decode(line)
            items, last = await within(self._factory.clock, ORDER_TIME, self._factory.orders.carry_out(request))
        except RequestError as error:
            return Result((), {"ok": False, "error": str(error)})
        except DeadlineError:
            return Result((), {"ok": False, "error": f"the order was not carried out within {ORDER_TIME:g} s"})
        except Exception:
            _log.failure("an order through the control socket broke")
            return Result((), {"ok": False, "error": "something broke in the node; its log says what"})
        return Result(items, {"ok": True, **last})

    def _broken(self, failure: Failure) -> None:
        _log.failure("an answer through the control socket broke", failure)
        self.transport.abortConnection()  # type: ignore[union-attr]


class ControlFactory(Factory):
    """Makes the clients' protocols and counts them."""

    noisy = False

    def __init__(self, orders: Orders, clock: IReactorTime) -> None:
        self.orders = orders
        self.clock = clock
        self.clients: set[ControlProtocol] = set()

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return ControlProtocol(self)


class ControlService(Service):
    """Listens on the control socket while the node runs.

    :param path: the socket: ``state_dir / SOCKET_NAME``.
    :param stop: what ``mailnode stop`` calls; without it ``reactor.stop``, which stops the node's service in order.
    """

    name = "control"

    def __init__(self, node: Node, path: Path, reactor: Any, stop: Callable[[], object] | None = None) -> None:
        self.path = path
        self._reactor = reactor
        self._factory = ControlFactory(Orders(node, reactor, stop or reactor.stop), reactor)
        self._port: IListeningPort | None = None

    def startService(self) -> None:
        """Listen.

        :raises ControlSocketError: another node answers there, or the directory is not safe.
        """
        prepare_place(self.path)
        try:
            # Twisted sets the mode between bind and listen: nobody else can connect in between.
            self._port = self._reactor.listenUNIX(os.fspath(self.path), self._factory, mode=0o600)
        except Exception as error:
            raise ControlSocketError(f"the control socket {self.path} cannot be made: {error}") from error
        super().startService()  # type: ignore[no-untyped-call]

    def stopService(self) -> Deferred[None]:
        """Stop listening and close every client; the socket is removed."""
        super().stopService()  # type: ignore[no-untyped-call]
        for client in list(self._factory.clients):
            client.transport.loseConnection()  # type: ignore[union-attr]
        if self._port is None:
            return succeed(None)
        port, self._port = self._port, None
        stopped: Deferred[None] = Deferred.fromCoroutine(_stop(port))
        return stopped


async def _stop(port: IListeningPort) -> None:
    try:
        outcome = port.stopListening()
        if outcome is not None:
            await outcome
    except FileNotFoundError:
        pass  # somebody removed the socket before us


def prepare_place(path: Path) -> None:
    """Make the socket's directory (mode 0700) and remove a socket that a dead node left behind.

    :raises ControlSocketError: another node answers; or others may write into the directory; or there is something
        that is no socket; or the path is too long for one.
    """
    if len(os.fsencode(path)) > PATH_MAX:
        raise ControlSocketError(f"{path} is longer than a unix socket's path may be; choose a shorter state_dir")
    directory = path.parent
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
    except OSError as error:
        raise ControlSocketError(f"the directory {directory} cannot be used: {error.strerror}") from error
    if status.st_uid not in (0, os.geteuid()):
        raise ControlSocketError(f"the directory {directory} belongs to another user; give the node one of its own")
    if stat.S_IMODE(status.st_mode) & 0o022:
        raise ControlSocketError(f"others may write into {directory}; say: chmod go-w {directory}")
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ControlSocketError(f"{path} is in the way: it is not a socket")
    if _somebody_answers(path):
        raise ControlSocketError(f"another node is running here: it answers on {path}")
    path.unlink(missing_ok=True)


def _somebody_answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(LOOK_TIME)
        try:
            connection.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # a full backlog, or no permission: somebody is there
    return True
