"""Somebody on the line between a client and a server: records what passes, changes it, or cuts it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

#: Changes octets on their way to the client.
Change = Callable[[bytes], bytes]

_TIME = 30.0


def strip_starttls(octets: bytes) -> bytes:
    """The attack on opportunistic TLS: the offer does not arrive."""
    return octets.replace(b"STARTTLS", b"XXXXXXXX")


def inject(octets: bytes) -> bytes:
    """The attack on STARTTLS: another answer arrives with its 220, in the clear (RFC 3207 section 6)."""
    return octets + b"250-mx.there.test\r\n250 SIZE\r\n" if octets.startswith(b"220 2.0.0") else octets


class Between:
    """Forwards connections to a port of loopback.

    :param port: where the server listens. :param change: what the client hears instead.
    :param own_port: where it listens itself; any if not given. :param address: likewise, of loopback.
    :ivar port: where it listens. :ivar said: what clients said, in all connections.
    """

    def __init__(self, port: int, change: Change = bytes, own_port: int = 0, address: str = "127.0.0.1") -> None:
        self._to = port
        self._change = change
        self._said: list[bytes] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._socket = socket.create_server((address, own_port))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def said(self) -> bytes:
        """What clients said."""
        return b"".join(self._said)

    def close(self) -> None:
        """Listen no more, and cut all connections."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with self._lock:
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._to), _TIME)
            except OSError:
                client.close()
                continue
            for one in (client, server):
                one.settimeout(_TIME)
                with self._lock:
                    self._open.add(one)
            threading.Thread(target=self._pass_on, args=(client, server, self._record), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(server, client, self._change), daemon=True).start()

    def _record(self, octets: bytes) -> bytes:
        self._said.append(octets)
        return octets

    def _pass_on(self, source: socket.socket, target: socket.socket, change: Change) -> None:
        try:
            while octets := source.recv(65536):
                target.sendall(change(octets))
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        finally:
            source.close()
            with self._lock:
                self._open.discard(source)
