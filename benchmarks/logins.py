"""Signs in again and again over implicit TLS, from several connections at a time, until its time is up; prints JSON.

Each connection signs in once by AUTH PLAIN with the right password, so the server compares as many as it can.
"""

from __future__ import annotations

import argparse
import base64
import json
import socket
import ssl
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import TypedDict

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.load import loopback
from benchmarks.load_tls import lenient


class Logins(TypedDict):
    """What a run came to; ``p50`` seconds from AUTH to its reply."""

    signed_in: int
    refused: int
    seconds: float
    p50: float
    words: str


class _Client(threading.Thread):
    def __init__(self, target: tuple[str, int], context: ssl.SSLContext, auth: bytes, end: float) -> None:
        super().__init__(daemon=True)
        self._target, self._context, self._auth, self._end = target, context, auth, end
        self.times: list[float] = []
        self.refused = 0
        self.words = ""

    def run(self) -> None:
        ticket: ssl.SSLSession | None = None
        while time.monotonic() < self._end and self.refused < 10:
            try:
                plain = socket.create_connection(self._target, 20)
                with plain, self._context.wrap_socket(plain, session=ticket) as sock:
                    self._session(sock)
                    ticket = sock.session
            except OSError as error:
                self.refused += 1
                self.words = self.words or str(error)

    def _session(self, sock: ssl.SSLSocket) -> None:
        reply = _reply(sock)
        for command in (b"EHLO client.test", self._auth):
            sent = time.monotonic()
            sock.sendall(command + b"\r\n")
            reply = _reply(sock)
        if reply.startswith(b"235"):
            self.times.append(time.monotonic() - sent)
        else:
            self.refused += 1
            self.words = self.words or reply.decode("utf-8", "replace").strip()
        sock.sendall(b"QUIT\r\n")
        _reply(sock)


def _reply(sock: ssl.SSLSocket) -> bytes:
    """The last line of a reply. :raises OSError: the connection was closed."""
    octets = b""
    while True:
        more = sock.recv(4096)
        if not more:
            raise OSError("the server closed the connection")
        octets += more
        last = octets[octets.rfind(b"\n", 0, -1) + 1 :]
        if last.endswith(b"\n") and last[3:4] != b"-":
            return last


def main() -> None:
    """Read the command line, sign in, print the result as JSON."""
    options = argparse.ArgumentParser(description="Signs in to an SMTP server on this machine again and again.")
    options.add_argument("--target", required=True, help="host:port of implicit TLS, a loopback address")
    options.add_argument("--user", required=True, help="the account's address")
    options.add_argument("--password", required=True, help="its password; only ever one that was made for this")
    options.add_argument("--clients", type=int, default=8, help="connections at a time (%(default)s)")
    options.add_argument("--seconds", type=float, default=5, help="how long (%(default)s)")
    chosen = options.parse_args()
    try:
        target = loopback(chosen.target)
    except ValueError as error:
        options.error(str(error))
    auth = b"AUTH PLAIN " + base64.b64encode(f"\0{chosen.user}\0{chosen.password}".encode())
    started = time.monotonic()
    clients = [_Client(target, lenient(), auth, started + chosen.seconds) for _ in range(chosen.clients)]
    for client in clients:
        client.start()
    for client in clients:
        client.join(chosen.seconds + 60)
    times = [one for client in clients for one in client.times]
    found = Logins(
        signed_in=len(times),
        refused=sum(client.refused for client in clients),
        seconds=time.monotonic() - started,
        p50=statistics.median(times) if times else 0.0,
        words=next((client.words for client in clients if client.words), ""),
    )
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
