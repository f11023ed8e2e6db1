"""Asks a running node through its control socket. Blocking and without Twisted: for the command line."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from twisted_mail_node.admin.messages import SOCKET_NAME, RequestError, Shape, decode, encode

#: Seconds the node may take for the next piece of its reply. A node that is busy answers within a few.
ANSWER_TIME = 60.0
#: Seconds until somebody takes the connection: the node is on this machine.
CONNECT_TIME = 5.0
#: Octets of one line of a reply: a mail with thousands of recipients.
LINE_MAX = 64 * 1024 * 1024
#: The file in ``state_dir`` that a node holds locked while it lives.
LOCK_NAME = "node.lock"
_READ_SIZE = 256 * 1024


class NodeNotRunning(Exception):
    """Nobody listens on the control socket."""


class ControlError(Exception):
    """The node answered, and said no; or the answer did not come."""


class Answer(NamedTuple):
    """The reply to one request: its items, and the line that ends it."""

    items: list[Shape]
    last: Shape


class ControlClient:
    """The way to one node.

    :param state_dir: the node's ``state_dir``.
    :param answer_time: seconds the node may take for the next piece of a reply.
    """

    def __init__(self, state_dir: Path, answer_time: float = ANSWER_TIME) -> None:
        self.path = state_dir / SOCKET_NAME
        self._answer_time = answer_time

    def is_running(self) -> bool:
        """Whether a node listens.

        :raises ControlError: somebody may listen, but we may not ask (permissions).
        """
        try:
            self._connect().close()
        except NodeNotRunning:
            return False
        return True

    def ask(self, command: str, **arguments: object) -> Answer:
        """Send one request and read its reply.

        :raises NodeNotRunning: nobody listens.
        :raises ControlError: the node refused, or did not answer in time.
        """
        with self._connect() as connection:
            connection.settimeout(self._answer_time)
            try:
                connection.sendall(encode({"command": command, **arguments}))
            except OSError:
                pass  # the node may have said why before it closed: read that
            items: list[Shape] = []
            for message in self._messages(connection):
                if "ok" not in message:
                    items.append(message)
                elif message["ok"]:
                    return Answer(items, message)
                else:
                    raise ControlError(str(message.get("error", "the node refused without a word")))
        raise ControlError("the node closed the connection before its answer was complete")

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(CONNECT_TIME)
        try:
            connection.connect(str(self.path))
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            raise NodeNotRunning(f"no node is running here: nobody listens on {self.path}") from None
        except TimeoutError:
            connection.close()
            raise ControlError(f"the node at {self.path} takes no connection; is it stopped or very busy?") from None
        except OSError as error:
            connection.close()
            reason = error.strerror or str(error)
            raise ControlError(f"the node's socket {self.path} cannot be used: {reason}") from None
        return connection

    def _messages(self, connection: socket.socket) -> Iterator[Shape]:
        pieces: list[bytes] = []
        size = 0
        while True:
            try:
                piece = connection.recv(_READ_SIZE)
            except TimeoutError:
                raise ControlError(f"the node did not answer within {self._answer_time:g} s") from None
            except OSError:
                return
            if not piece:
                return
            pieces.append(piece)
            size += len(piece)
            if b"\n" not in piece:
                if size > LINE_MAX:
                    raise ControlError("the node's answer is too long")
                continue
            *lines, rest = b"".join(pieces).split(b"\n")
            pieces, size = [rest], len(rest)
            for line in lines:
                try:
                    yield decode(line)
                except RequestError:
                    raise ControlError("the node's answer cannot be read; is it of another version?") from None


def wait_until_gone(client: ControlClient, seconds: float) -> bool:
    """Whether the node ended within ``seconds`` and gave its state directory back; looks ten times a second."""
    end = time.monotonic() + seconds
    while client.is_running() or _is_locked(client.path.with_name(LOCK_NAME)):
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def _is_locked(lock: Path) -> bool:
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False
