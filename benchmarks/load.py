"""Brings mail to an SMTP server on this machine, over many parallel sessions, as cheaply as Python can.

One process, one epoll loop, precomputed octets: about 40 µs of CPU for a mail of 10 KiB, so that the server under test
keeps the machine to itself. By itself: ``python benchmarks/load.py --target 127.0.0.1:2525 --rcpt joe@example.org``
prints one JSON object. The other benchmarks start it so, in a process of its own. ``--letters`` names a directory of
mails to bring by turns instead of one made of X; the name of each file is its reverse-path, a dot and a number.
"""

from __future__ import annotations

import argparse
import gc
import ipaddress
import json
import resource
import select
import socket
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

#: Sessions one process may hold open; above it the count of descriptors is the limit, not the server.
SESSIONS_MAX = 10_000
#: Give up after so many refused mails or lost connections.
ERRORS_MAX = 1000
#: Sources 127.0.0.1 to 127.0.0.16: enough ports for connections that were just closed.
SOURCES = 16

#: Where a session is: what it waits for.
GREETING, EHLO, MAIL, RCPT, DATA, PIPELINED, CONTENT, QUIT = range(8)


class Load(TypedDict):
    """What a run came to. Times are in seconds; ``started`` and ``ended`` on the machine's monotonic clock."""

    accepted: int
    refused: int
    lost: int
    started: float
    ended: float
    cpu: float
    p50: float
    p99: float
    longest: float
    words: str
    resumed: int


def loopback(target: str) -> tuple[str, int]:
    """Host and port of ``host:port``. :raises ValueError: it is not an IPv4 address of this machine's loopback."""
    host, _, port = target.rpartition(":")
    if not ipaddress.IPv4Address(host).is_loopback:
        raise ValueError(f"{host} is not a loopback address; benchmarks stay on this machine")
    return host, int(port)


def content_of(size: int, rcpt: str) -> bytes:
    """A mail of ``size`` octets (at least its header), and the final dot."""
    header = (
        f"From: <joe@client.test>\r\nTo: <{rcpt}>\r\nSubject: benchmark\r\nMessage-ID: <benchmark@client.test>\r\n\r\n"
    )
    line = b"X" * 76 + b"\r\n"
    room = max(size - len(header) - 2, 0)
    body = line * (room // len(line)) + b"X" * (room % len(line)) + b"\r\n"
    return header.encode() + body + b".\r\n"


class Brought(NamedTuple):
    """A mail as it goes over the wire: MAIL (when pipelining also RCPT and DATA); the content with its final dot."""

    first: bytes
    content: bytes


_NOTHING = Brought(b"", b"")


def letters_in(directory: Path) -> list[tuple[str, bytes]]:
    """Reverse-paths, and contents with the final dot, of what lies there. :raises ValueError: nothing does."""
    found = []
    for path in sorted(directory.iterdir(), key=lambda path: int(path.suffix[1:])):
        mail = path.read_bytes().replace(b"\r\n.", b"\r\n..")
        found.append((path.stem, mail + (b".\r\n" if mail.endswith(b"\r\n") else b"\r\n.\r\n")))
    if not found:
        raise ValueError(f"no mails lie in {directory}")
    return found


class Session:
    """One connection, and what it waits for."""

    __slots__ = ("buffer", "letter", "rest", "sent", "sock", "state", "wait")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.letter = _NOTHING
        self.state = GREETING
        self.buffer = b""
        self.rest: memoryview | None = None
        self.sent = 0.0
        self.wait = 0  # replies of the pipelined group still to come


class Generator:
    """Runs the sessions.

    :param mails: how many to bring. :param seconds: stop after that time in any case.
    :param kept: one connection for many mails; otherwise a new connection for each.
    :param pipelining: MAIL, RCPT and DATA in one segment (RFC 2920).
    :param letters: a directory of mails to bring by turns; ``size`` means nothing then.
    :ivar resumed: TLS sessions that were resumed; a subclass counts them.
    """

    #: What a socket raises that has nothing to say now.
    again: tuple[type[OSError], ...] = (BlockingIOError, InterruptedError)

    def __init__(
        self,
        target: tuple[str, int],
        *,
        rcpt: str,
        size: int,
        sessions: int,
        mails: int,
        seconds: float,
        kept: bool,
        pipelining: bool = False,
        letters: Path | None = None,
    ) -> None:
        self._target = target
        self._sessions = min(sessions, mails, SESSIONS_MAX)
        self._mails = mails
        self._seconds = seconds
        self._kept = kept
        self._pipelining = pipelining
        self._rcpt = b"RCPT TO:<%s>\r\n" % rcpt.encode()
        rest = self._rcpt + b"DATA\r\n" if pipelining else b""
        mails_of = letters_in(letters) if letters else [("joe@client.test", content_of(size, rcpt))]
        self._letters = [Brought(b"MAIL FROM:<%s>\r\n" % path.encode() + rest, mail) for path, mail in mails_of]
        self._epoll = select.epoll()
        self._open: dict[int, Session] = {}
        self._begun = 0
        self._connected = 0
        self.accepted = self.refused = self.lost = self.resumed = 0
        self.latencies: list[float] = []
        self.words = ""

    def _connect(self) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self._kept:
            sock.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
            sock.bind((f"127.0.0.{1 + self._connected % SOURCES}", 0))
        self._connected += 1
        try:
            sock.connect(self._target)
        except BlockingIOError:
            pass
        self._open[sock.fileno()] = Session(sock)
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _close(self, session: Session) -> None:
        del self._open[session.sock.fileno()]
        session.sock.close()
        if self._begun < self._mails and self.lost + self.refused < ERRORS_MAX:
            self._connect()

    def run(self) -> Load:
        """Bring all mails. Returns when each has its final reply, or time is up."""
        gc.disable()
        cpu = time.process_time()
        started = time.monotonic()
        end = started + self._seconds
        for _ in range(self._sessions):
            self._connect()
        poll, sessions, step = self._epoll.poll, self._open, self._step
        while sessions and (now := time.monotonic()) < end and self.lost + self.refused < ERRORS_MAX:
            for fd, event in poll(end - now, 512):
                session = sessions.get(fd)
                if session is None:
                    continue
                try:
                    if session.rest is not None and event & select.EPOLLOUT:
                        self._go_on(session)
                    if event & ~select.EPOLLOUT:
                        step(session)
                except self.again:
                    pass
                except OSError as error:
                    self._lose(session, str(error))
        return self._found(started, cpu)

    def _found(self, started: float, cpu: float) -> Load:
        """Close what is open, and sum up. :param cpu: this process's CPU time when it began."""
        ended = time.monotonic()
        for session in list(self._open.values()):
            session.sock.close()
        found = sorted(self.latencies) or [0.0]
        return Load(
            accepted=self.accepted,
            refused=self.refused,
            lost=self.lost,
            started=started,
            ended=ended,
            cpu=time.process_time() - cpu,
            p50=found[len(found) // 2],
            p99=found[len(found) * 99 // 100],
            longest=found[-1],
            words=self.words,
            resumed=self.resumed,
        )

    def _lose(self, session: Session, words: str) -> None:
        if session.state != QUIT:
            self.lost += 1
            self.words = self.words or words
        self._close(session)

    def _refuse(self, session: Session, reply: bytes) -> None:
        self.refused += 1
        self.words = self.words or reply.decode("utf-8", "replace").strip()
        self._close(session)

    def _step(self, session: Session) -> None:
        """Replies came: look whether the last is whole, and say what comes next."""
        octets = session.sock.recv(4096)
        if not octets:
            self._lose(session, "the server closed the connection")
            return
        if session.buffer:
            octets = session.buffer + octets
            session.buffer = b""
        if not octets.endswith(b"\n"):
            session.buffer = octets
            return
        state = session.state
        if state == PIPELINED:
            session.wait -= octets.count(b"\n")
            if session.wait > 0:
                return
            if not octets[octets.rfind(b"\n", 0, -1) + 1 :].startswith(b"354"):
                self._refuse(session, octets)
                return
            self._send_content(session)
        elif state == CONTENT:
            if octets[:3] != b"250":
                self._refuse(session, octets)
                return
            self.latencies.append(time.monotonic() - session.sent)
            self.accepted += 1
            if self._kept and self._begun < self._mails:
                self._begin(session)
            else:
                session.state = QUIT
                session.sock.send(b"QUIT\r\n")
        elif state == DATA:
            if octets[:3] != b"354":
                self._refuse(session, octets)
                return
            self._send_content(session)
        elif state in (MAIL, RCPT):
            if octets[:1] != b"2":
                self._refuse(session, octets)
                return
            session.state = state + 1
            session.sock.send(self._rcpt if state == MAIL else b"DATA\r\n")
        elif state == QUIT:
            self._close(session)
        else:
            last = octets[octets.rfind(b"\n", 0, -1) + 1 :]
            if last[3:4] == b"-":
                session.buffer = octets
            elif last[:1] != b"2":
                self._refuse(session, octets)
            elif state == GREETING:
                session.state = EHLO
                session.sock.send(b"EHLO client.test\r\n")
            else:
                self._begin(session)

    def _begin(self, session: Session) -> None:
        if self._begun >= self._mails:
            session.state = QUIT
            session.sock.send(b"QUIT\r\n")
            return
        session.letter = self._letters[self._begun % len(self._letters)]
        self._begun += 1
        session.state = PIPELINED if self._pipelining else MAIL
        session.wait = 3
        session.sock.send(session.letter.first)

    def _send_content(self, session: Session) -> None:
        session.state = CONTENT
        content = session.letter.content
        sent = session.sock.send(content)
        if sent < len(content):
            session.rest = memoryview(content)[sent:]
            self._epoll.modify(session.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
        session.sent = time.monotonic()

    def _go_on(self, session: Session) -> None:
        assert session.rest is not None
        session.rest = session.rest[session.sock.send(session.rest) :]
        if not session.rest:
            session.rest = None
            session.sent = time.monotonic()
            self._epoll.modify(session.sock.fileno(), select.EPOLLIN)


def command_line(description: str) -> argparse.ArgumentParser:
    """The options of every generator."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--target", required=True, help="host:port, a loopback address")
    options.add_argument("--rcpt", required=True, help="the recipient of every mail")
    options.add_argument("--size", type=int, default=10240, help="octets of a mail (%(default)s)")
    options.add_argument("--sessions", type=int, default=50, help="parallel sessions (%(default)s)")
    options.add_argument("--mails", type=int, default=1000, help="how many (%(default)s)")
    options.add_argument("--seconds", type=float, default=60, help="stop after that time (%(default)s)")
    options.add_argument("--new", action="store_true", help="a new connection for each mail")
    options.add_argument("--pipelining", action="store_true", help="MAIL, RCPT and DATA together (RFC 2920)")
    options.add_argument("--letters", type=Path, help="a directory of mails to bring by turns")
    return options


def chosen_of(options: argparse.ArgumentParser) -> tuple[argparse.Namespace, dict[str, Any]]:
    """The command line, and what it means for ``Generator``. Lets this process open as many files as it may."""
    chosen = options.parse_args()
    try:
        target = loopback(chosen.target)
    except ValueError as error:
        options.error(str(error))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return chosen, {
        "target": target, "rcpt": chosen.rcpt, "size": chosen.size, "sessions": chosen.sessions,
        "mails": chosen.mails, "seconds": chosen.seconds, "kept": not chosen.new, "pipelining": chosen.pipelining,
        "letters": chosen.letters,
    }  # fmt: skip


def main() -> None:
    """Read the command line, bring the mails, print the result as JSON."""
    _, how = chosen_of(command_line("Brings mail to an SMTP server on this machine and prints JSON."))
    json.dump(Generator(**how).run(), sys.stdout)


if __name__ == "__main__":
    main()
