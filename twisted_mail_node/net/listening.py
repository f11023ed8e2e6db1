"""Listening: sockets that are bound while the process is still root, that systemd bound, or that Twisted binds now.

``bind`` takes a place before root is given up; ``listen`` lets a factory have the connections that come there.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred, execute
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.python.failure import Failure

from twisted_mail_node.net import transport
from twisted_mail_node.settings_endpoint import parts

#: Connections that wait to be accepted, where the endpoint does not say; as Twisted's.
BACKLOG = 50
#: Who may connect to a unix socket, where the endpoint does not say; as Twisted's.
MODE = "666"

_FAMILIES = {"INET": socket.AF_INET, "INET6": socket.AF_INET6, "UNIX": socket.AF_UNIX}


def bind(endpoint: str) -> socket.socket | None:
    """Take the place that an endpoint string names: clients that come wait there until ``listen``.

    Call it before root is given up, for ports below 1024 and for unix sockets in directories of root. ``None``: there
    is nothing to take, for systemd has done it.

    :raises CannotListenError: the place is taken, or not ours to take.
    """
    kind, given = parts(endpoint)
    if kind == "systemd":
        return None
    if kind == "unix":
        where: Any = given["address"]
        family = socket.AF_UNIX
    else:
        where = (given.get("interface", ""), int(given["port"]))
        family = socket.AF_INET6 if kind == "tcp6" else socket.AF_INET
    place = socket.socket(family, socket.SOCK_STREAM)
    try:
        place.setblocking(False)
        if kind == "unix":
            _bind_path(place, where, int(given.get("mode", MODE), 8))
        else:
            place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            place.bind(where)
        place.listen(int(given.get("backlog", BACKLOG)))
    except OSError as error:
        place.close()
        interface, port = (None, where) if kind == "unix" else where
        raise CannotListenError(interface, port, error) from error
    return place


def listen(
    reactor: Any, endpoint: str, factory: IProtocolFactory, bound: socket.socket | None = None
) -> Deferred[IListeningPort]:
    """Listen as the endpoint string says.

    :param bound: what ``bind`` gave for the same endpoint; it is ours from now on. Without it, it is bound now.
    :raises CannotListenError: (as failure) the place is taken, or not ours to take.
    :raises ValueError: (as failure) systemd did not pass such a socket.
    """
    if bound is not None:
        return execute(_adopt, reactor, bound, factory)
    kind, given = parts(endpoint)
    if kind == "systemd":
        return execute(lambda: _adopt(reactor, _passed(reactor, endpoint, given), factory, keep=True))
    return transport.listen(reactor, endpoint, factory)


def place_of(address: Any) -> str:
    """Where a port listens, as people write it."""
    host = getattr(address, "host", None)
    if host is None:
        return str(getattr(address, "name", address))
    return f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"


def first_failure(failure: Failure) -> Failure:
    """Why the first of several ports could not be had (``gatherResults``)."""
    error: Any = failure.value
    cause: Failure = error.subFailure
    return cause


def _bind_path(place: socket.socket, path: str, mode: int) -> None:
    """Bind a unix socket, also where one lies that nobody listens on any more."""
    before = os.umask(0o777 & ~mode)
    try:
        try:
            place.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_left_over(path):
                raise
            os.unlink(path)
            place.bind(path)
    finally:
        os.umask(before)


def _is_left_over(path: str) -> bool:
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) == errno.ECONNREFUSED


def _passed(reactor: Any, endpoint: str, given: dict[str, str]) -> socket.socket:
    """A socket that systemd passed to this process (sd_listen_fds). Twisted took the list of them out of the
    environment when it was imported, and knows their numbers."""
    which, domain = given.get("name") or f"number {given['index']}", given["domain"]
    try:
        adopted: Any = serverFromString(reactor, endpoint)
    except LookupError:
        there = os.environ.get("LISTEN_FDNAMES", "").replace(":", ", ") or "none"
        raise ValueError(
            f"systemd passed no socket {which} (passed: {there}); the .socket unit must name it with "
            "FileDescriptorName=, and the service must be started by it"
        ) from None
    try:
        place = socket.socket(fileno=adopted.fileno)
    except OSError as error:
        raise ValueError(f"what systemd passed as {which} is no socket: {error.strerror}") from None
    family, kind = place.family, place.type
    if family != _FAMILIES[domain] or kind != socket.SOCK_STREAM:
        place.detach()
        found = f"{socket.AddressFamily(family).name} and {socket.SocketKind(kind).name}"
        raise ValueError(f"what systemd passed as {which} is of {found}, the settings say AF_{domain}")
    place.setblocking(False)
    return place


def _adopt(reactor: Any, place: socket.socket, factory: IProtocolFactory, keep: bool = False) -> IListeningPort:
    """Let the reactor listen on a socket that listens already; it gets a descriptor of its own.

    :param keep: the path of a unix socket is left where it is in the end.
    """
    port: Any
    with place:
        if place.family == socket.AF_UNIX:
            port = _BoundUnixPort(place, factory, reactor, keep)
            port.startListening()
        else:
            port = reactor.adoptStreamPort(place.fileno(), place.family, factory)
            if type(port) is tcp.Port:
                port.transport = transport.Server
    result: IListeningPort = port
    return result


class _BoundUnixPort(unix.Port):
    """Listens on a unix socket that was bound before. Twisted's own would change the mode of its path, which need not
    be ours any more, and would not close it in the end where it cannot remove its path."""

    def __init__(self, place: socket.socket, factory: IProtocolFactory, reactor: Any, keep: bool) -> None:
        path = os.fsencode(place.getsockname())
        super().__init__(path, factory, reactor=reactor)
        self._preexistingSocket = place.dup()
        self._path = b"" if keep or path.startswith(b"\0") else path

    def startListening(self) -> None:
        tcp.Port.startListening(self)

    def connectionLost(self, reason: Failure) -> None:
        if self._path:
            with suppress(OSError):
                os.unlink(self._path)
        tcp.Port.connectionLost(self, reason)
