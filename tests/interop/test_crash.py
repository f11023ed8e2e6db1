"""The promise: what was answered with 250 lies in a Maildir in the end, however often the node is killed meanwhile."""

from __future__ import annotations

import re
import socket
import threading
import time

from tests.interop.node import NodeTest, wait_for

#: Mails of the run, and seconds after which no more are brought if the machine is slow.
MAILS, SENDING_TIME = 20_000, 24.0
#: The node is killed each time another so many were acknowledged.
KILLS = (4_000, 11_000)
#: On a slow machine it is killed after so many seconds at the latest.
KILL_TIME = 8.0
SESSIONS = 16
#: Mails that must have been acknowledged, so that the test says something.
LEAST = 1_000
_NUMBER = re.compile(rb"X-Number: (\d+)\n")
_WHO = ("joe", "ann", "demo")


class Senders:
    """Sessions in threads that bring numbered mails, and note every number that was acknowledged."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._lock = threading.Lock()
        self._next = 0
        self._end = time.monotonic() + SENDING_TIME
        self.acknowledged: list[int] = []
        self.refused: list[str] = []
        self._threads = [threading.Thread(target=self._send, daemon=True) for _ in range(SESSIONS)]
        for thread in self._threads:
            thread.start()

    def finished(self) -> bool:
        """Every session has ended."""
        return not any(thread.is_alive() for thread in self._threads)

    def wait(self, count: int) -> None:
        """Until so many are acknowledged, all are, or ``KILL_TIME`` is over."""
        end = time.monotonic() + KILL_TIME
        while len(self.acknowledged) < count and not self.finished() and time.monotonic() < end:
            time.sleep(0.01)

    def _take(self) -> int | None:
        with self._lock:
            if self._next >= MAILS or time.monotonic() > self._end:
                return None
            self._next += 1
            return self._next

    def _send(self) -> None:
        while (number := self._take()) is not None:
            try:
                with socket.create_connection(("127.0.0.1", self._port), 10) as connection:
                    self._session(connection, number)
                    return
            except OSError:
                time.sleep(0.05)  # killed, or not there yet; the number that was under way was not acknowledged

    def _session(self, connection: socket.socket, first: int) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = connection.makefile("rb")

        def reply() -> bytes:
            while True:
                line = reader.readline()
                if not line:
                    raise ConnectionResetError
                if line[3:4] != b"-":
                    return line

        reply()
        connection.sendall(b"EHLO client.test\r\n")
        reply()
        number: int | None = first
        while number is not None:
            # one mail in twenty is too large for a row of the spool
            body = b"a line of some forty octets, and so on\r\n" * (8000 if number % 400 == 0 else 20)
            content = b"Subject: one of many\r\nX-Number: %d\r\n\r\n" % number + body
            who = _WHO[number % len(_WHO)].encode()
            connection.sendall(
                b"MAIL FROM:<a@b.test>\r\nRCPT TO:<%s@here.test>\r\nBDAT %d LAST\r\n" % (who, len(content)) + content
            )
            replies = [reply(), reply(), reply()]
            if replies[2].startswith(b"250 "):
                self.acknowledged.append(number)
            else:
                self.refused.append(replies[2].decode())
            number = self._take()


class CrashTest(NodeTest):
    """SIGKILL under load."""

    def test_nothing_is_lost(self) -> None:
        """20 000 mails while the node is killed twice and started again: every acknowledged mail is delivered."""
        here = self.node(tables="[limits]\nconnections_per_address = 1000\n").start()
        senders = Senders(here.port)
        for count in KILLS:
            senders.wait(count)
            here.kill()
            here.start()
        wait_for(senders.finished, "the end of all sessions", SENDING_TIME + 10)
        wait_for(lambda: not here.queue(), "an empty queue", 40)
        self.assertEqual(here.stop(), 0)
        found: dict[int, int] = {}
        for who in _WHO:
            for path in (here.maildir(who) / "new").iterdir():
                with open(path, "rb") as file:
                    number = _NUMBER.search(file.read(4096))
                assert number is not None, path
                found[int(number[1])] = found.get(int(number[1]), 0) + 1
        acknowledged = senders.acknowledged
        self.assertEqual(sorted(set(acknowledged) - set(found)), [])
        self.assertGreater(len(acknowledged), LEAST)
        self.assertEqual(senders.refused, [])
        # A mail may come twice, when it was delivered and the kill came before that was recorded; not thrice.
        self.assertLessEqual(max(found.values()), 1 + len(KILLS))
        self.assertEqual(here.queue(), [])
        files = [path.name for path in (here.state / "spool").rglob("*") if path.is_file()]
        self.assertEqual(files, ["spool.sqlite"])
