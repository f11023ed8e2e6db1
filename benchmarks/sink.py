"""Takes mail over SMTP on this machine and keeps none of it: the next hop of the relaying benchmark.

With ``--latency`` it answers as a host far away would, each reply so many seconds after what it answers; with
``--places`` it listens on so many loopback addresses, as many hosts.

Speaks EHLO, PIPELINING (RFC 2920) and DATA, and prints ``sess=… quit=… mesg=…`` on standard output as Postfix's
``smtp-sink -c`` does. It looks for the end of the content only, so it costs little; it is no model of a server.
"""

from __future__ import annotations

import argparse
import heapq
import os
import resource
import select
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.load import loopback

#: Seconds between two reports.
REPORT = 0.02
_END = b"\r\n.\r\n"
_GREETING = b"220 sink.test ESMTP\r\n"
_EHLO = b"250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 0\r\n"


class _Session:
    __slots__ = ("content", "rest", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.rest = b""
        self.content = False


class Sink:
    """The listening socket and its sessions."""

    def __init__(self, address: tuple[str, int], places: int = 1, latency: float = 0.0) -> None:
        self._epoll = select.epoll()
        self._listeners: dict[int, socket.socket] = {}
        self._latency = latency
        self._late: list[tuple[float, int, _Session, bytes]] = []  # replies on their way, the next one first
        self._number = 0
        for place in range(places):
            listener = socket.create_server((place_of(place), address[1]) if place else address, backlog=2000)
            listener.setblocking(False)
            self._listeners[listener.fileno()] = listener
            self._epoll.register(listener.fileno(), select.EPOLLIN)
        self._open: dict[int, _Session] = {}
        self.sessions = self.quits = self.mails = 0

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(next(iter(self._listeners.values())).getsockname()[1])

    def run(self) -> None:
        """Serve until killed, or until who started it is gone."""
        reported = (-1, -1, -1)
        parent = os.getppid()
        while os.getppid() == parent:
            deadline = time.monotonic() + REPORT
            while (left := deadline - time.monotonic()) > 0:
                if self._late:
                    left = min(left, max(0.0, self._late[0][0] - time.monotonic()))
                for fd, _ in self._epoll.poll(left, 256):
                    session = self._open.get(fd)
                    if session is None:
                        self._accept(self._listeners[fd])
                    else:
                        self._serve(session)
                self._arrive()
            now = (self.sessions, self.quits, self.mails)
            if now != reported:
                reported = now
                sys.stdout.write("sess={} quit={} mesg={}\r".format(*now))
                sys.stdout.flush()

    def _say(self, session: _Session, octets: bytes) -> None:
        """Send it, now or as late as it would come from far away."""
        if not self._latency:
            session.sock.send(octets)
            return
        self._number += 1
        heapq.heappush(self._late, (time.monotonic() + self._latency, self._number, session, octets))

    def _arrive(self) -> None:
        """Send what is on its way and should be there."""
        now = time.monotonic()
        while self._late and self._late[0][0] <= now:
            _, _, session, octets = heapq.heappop(self._late)
            try:
                session.sock.send(octets)
            except OSError:
                pass  # it is gone

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(100):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            session = self._open[sock.fileno()] = _Session(sock)
            self._epoll.register(sock.fileno(), select.EPOLLIN)
            self.sessions += 1
            self._say(session, _GREETING)

    def _serve(self, session: _Session) -> None:
        try:
            octets = session.sock.recv(262144)
            if octets:
                replies = self._replies(session, session.rest + octets)
                if replies:
                    self._say(session, replies)
            if octets and not (replies and replies.endswith(b"221 bye\r\n")):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        del self._open[session.sock.fileno()]
        session.sock.close()

    def _replies(self, session: _Session, octets: bytes) -> bytes:
        replies: list[bytes] = []
        while octets:
            if session.content:
                # A content that is one dot only begins after DATA's own line end.
                end = octets.find(_END)
                if end < 0:
                    octets = octets[-(len(_END) - 1) :]
                    break
                octets = octets[end + len(_END) :]
                session.content = False
                self.mails += 1
                replies.append(b"250 2.0.0 taken\r\n")
                continue
            line, found, after = octets.partition(b"\r\n")
            if not found:
                break
            octets = after
            verb = line[:4].upper()
            if verb == b"DATA":
                session.content = True
                octets = b"\r\n" + octets
                replies.append(b"354 go on\r\n")
            elif verb == b"EHLO":
                replies.append(_EHLO)
            elif verb == b"QUIT":
                self.quits += 1
                replies.append(b"221 bye\r\n")
            else:
                replies.append(b"250 2.0.0 ok\r\n")
        session.rest = octets
        return b"".join(replies)


def place_of(number: int) -> str:
    """The address of one of many places; the first is 127.0.0.1."""
    if not number:
        return "127.0.0.1"
    return f"127.1.{number // 250}.{number % 250 + 1}"


def main() -> None:
    """Read the command line and serve."""
    options = argparse.ArgumentParser(description="Takes mail on this machine and keeps none.")
    options.add_argument("address", help="host:port, a loopback address")
    options.add_argument("--places", type=int, default=1, help="loopback addresses to listen on (%(default)s)")
    options.add_argument("--latency", type=float, default=0.0, help="seconds until a reply arrives (%(default)s)")
    chosen = options.parse_args()
    try:
        address = loopback(chosen.address)
    except ValueError as error:
        options.error(str(error))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        Sink(address, chosen.places, chosen.latency).run()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
