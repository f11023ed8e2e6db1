"""What idle sessions cost: memory of each, and how soon a new session is served beside them.

Opens sessions from 127.0.0.2 upwards, says EHLO in each and leaves them. Loopback only.
"""

from __future__ import annotations

import argparse
import resource
import select
import socket
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine, measure
from benchmarks.load import loopback
from benchmarks.servers import LOCAL, Node, Server

#: Sessions that are being opened at the same time, and seconds all may take.
IN_FLIGHT = 200
OPEN_TIME = 120.0
PROBES = 15


class IdleSessions:
    """The open sessions."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._epoll = select.epoll()
        self._open: dict[int, tuple[socket.socket, bytes]] = {}
        self._said: set[int] = set()
        self._count = 0
        self.served = 0
        self.closed = 0

    def open(self, wanted: int) -> None:
        """Open until ``wanted`` are served, or the time is up."""
        end = time.monotonic() + OPEN_TIME
        while self.served < wanted and time.monotonic() < end and self.closed < 100:
            while len(self._open) < wanted and len(self._open) - self.served < IN_FLIGHT:
                self._connect()
            for fd, _ in self._epoll.poll(0.2, 512):
                self._read(fd)

    def _connect(self) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
        sock.bind((f"127.0.0.{2 + self._count % 100}", 0))
        self._count += 1
        try:
            sock.connect(self._target)
        except BlockingIOError:
            pass
        self._open[sock.fileno()] = (sock, b"")
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _read(self, fd: int) -> None:
        sock, before = self._open[fd]
        try:
            octets = sock.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            octets = b""
        if not octets:
            del self._open[fd]
            self._said.discard(fd)
            sock.close()
            self.closed += 1
            return
        octets = before + octets
        lines = octets.splitlines(keepends=True)
        if not lines[-1].endswith(b"\n") or lines[-1][3:4] == b"-":
            self._open[fd] = (sock, octets)
            return
        self._open[fd] = (sock, b"")
        if fd in self._said:
            self.served += lines[-1].startswith(b"250")
        elif lines[-1].startswith(b"220"):
            self._said.add(fd)
            sock.send(b"EHLO idle.test\r\n")

    def close(self) -> None:
        """Close all."""
        for sock, _ in self._open.values():
            sock.close()


def probe(target: tuple[str, int], rcpt: str) -> tuple[float, float]:
    """Seconds until the greeting of a new session, and until a mail in it is accepted. :raises OSError: it was not."""
    started = time.monotonic()
    with socket.create_connection(target, timeout=20) as sock, sock.makefile("rb") as replies:
        greeted = 0.0
        commands = (b"EHLO probe.test", b"MAIL FROM:<joe@client.test>", b"RCPT TO:<%s>" % rcpt.encode(), b"DATA")
        for command in (b"", *commands, b"Subject: probe\r\n\r\nhello\r\n."):
            if command:
                sock.sendall(command + b"\r\n")
            while (line := replies.readline())[3:4] == b"-":
                pass
            if line[:1] not in (b"2", b"3"):
                raise OSError(line.decode("utf-8", "replace").strip() or "the connection was closed")
            greeted = greeted or time.monotonic() - started
        accepted = time.monotonic() - started
        sock.sendall(b"QUIT\r\n")
        return greeted, accepted


def measured(server: Server, sessions: int, rcpt: str) -> list[str]:
    """One row of the table."""
    target = (server.host, server.port)
    probe(target, rcpt)
    time.sleep(1)
    before = machine.pss(server.pid) if server.pid else 0
    cpu = machine.cpu_seconds(server.pid) if server.pid else 0.0
    idle = IdleSessions(target)
    started = time.monotonic()
    idle.open(sessions)
    seconds = time.monotonic() - started
    time.sleep(1)
    after = machine.pss(server.pid) if server.pid else 0
    spent = machine.cpu_seconds(server.pid) - cpu if server.pid else 0.0
    try:
        probes = [probe(target, rcpt) for _ in range(PROBES)]
        times = [f"{statistics.median(column) * 1e3:.1f}" for column in zip(*probes, strict=True)]
        times.append(f"{max(accepted for _, accepted in probes) * 1e3:.1f}")
    except OSError as error:
        print(f"{server.name} does not serve a new session: {error}", file=sys.stderr)
        times = ["-"] * 3
    idle.close()
    each = f"{(after - before) / max(idle.served, 1) / 1024:.1f}" if server.pid else "-"
    row = [server.name, str(sessions), str(idle.served), str(idle.closed), f"{seconds:.1f}", f"{spent:.2f}"]
    return [*row, f"{before / 2**20:.0f}", f"{after / 2**20:.0f}", each, *times]


def main() -> None:
    """Read the command line, measure, print."""
    options = argparse.ArgumentParser(description="Measures what idle sessions cost, on this machine only.")
    options.add_argument("--sessions", type=int, default=10_000, help="how many (%(default)s)")
    options.add_argument("--target", help="host:port of a server that runs already, instead of starting the node")
    options.add_argument("--pid", type=int, default=0, help="with --target: its first process, for memory")
    options.add_argument("--rcpt", default=LOCAL, help="with --target: a recipient for the probes (%(default)s)")
    options.add_argument(
        "--workdir", type=Path, help="work below it and keep what is there (default: /var/tmp, removed at the end)"
    )
    chosen = options.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if chosen.sessions > hard - 100:
        options.error(f"this process may open {hard} files; ask for fewer sessions")
    with measure.Workdir(chosen.workdir) as workdir:
        server: Server = Node(workdir)
        if chosen.target:
            try:
                host, port = loopback(chosen.target)
            except ValueError as error:
                options.error(str(error))
            server = Server(workdir, port, chosen.pid)
            server.host = host
        measure.started([server])
        try:
            row = measured(server, chosen.sessions, chosen.rcpt)
        finally:
            server.stop()
    head = ["server", "wanted", "served", "closed", "seconds", "CPU s", "MiB before", "MiB after", "KiB each"]
    measure.print_table([[*head, "greeting ms", "mail ms", "slowest ms"], row])


if __name__ == "__main__":
    main()
