"""Takes mail over SMTP on this machine and keeps none of it: the next hop of the relaying benchmark.

Speaks EHLO, PIPELINING (RFC 2920) and DATA, and prints ``sess=… quit=… mesg=…`` on standard output as Postfix's
``smtp-sink -c`` does. It looks for the end of the content only, so it costs little; it is no model of a server.
"""

from __future__ import annotations

import argparse
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

    def __init__(self, address: tuple[str, int]) -> None:
        self._listener = socket.create_server(address, backlog=2000)
        self._listener.setblocking(False)
        self._epoll = select.epoll()
        self._epoll.register(self._listener.fileno(), select.EPOLLIN)
        self._open: dict[int, _Session] = {}
        self.sessions = self.quits = self.mails = 0

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def run(self) -> None:
        """Serve until killed, or until who started it is gone."""
        reported = (-1, -1, -1)
        parent = os.getppid()
        while os.getppid() == parent:
            deadline = time.monotonic() + REPORT
            while (left := deadline - time.monotonic()) > 0:
                for fd, _ in self._epoll.poll(left, 256):
                    session = self._open.get(fd)
                    if session is None:
                        self._accept()
                    else:
                        self._serve(session)
            now = (self.sessions, self.quits, self.mails)
            if now != reported:
                reported = now
                sys.stdout.write("sess={} quit={} mesg={}\r".format(*now))
                sys.stdout.flush()

    def _accept(self) -> None:
        for _ in range(100):
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open[sock.fileno()] = _Session(sock)
            self._epoll.register(sock.fileno(), select.EPOLLIN)
            self.sessions += 1
            sock.send(_GREETING)

    def _serve(self, session: _Session) -> None:
        try:
            octets = session.sock.recv(262144)
            if octets:
                replies = self._replies(session, session.rest + octets)
                if replies:
                    session.sock.send(replies)
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


def main() -> None:
    """Read the command line and serve."""
    options = argparse.ArgumentParser(description="Takes mail on this machine and keeps none.")
    options.add_argument("address", help="host:port, a loopback address")
    chosen = options.parse_args()
    try:
        address = loopback(chosen.address)
    except ValueError as error:
        options.error(str(error))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        Sink(address).run()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
