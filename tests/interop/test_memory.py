"""A large mail never lies in memory as a whole: not when it comes, when it is delivered, or when it goes on."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from tests.interop.mails import plain
from tests.interop.node import Node, NodeTest
from tests.interop.test_relaying import relay_to
from tests.interop.wire import Client, added_to, send

MIB = 1 << 20
#: The largest mail that the settings' default allows.
SIZE = 50 * MIB
#: What one such mail may add to a process.
MORE = 8 * MIB
_LINE = b".a line of sixty-four octets, with a dot to be doubled in front\r\n"
#: Seconds between two looks at a process, where the kernel does not tell the highest it ever had.
LOOK_EVERY = 0.02


def large_mail() -> bytes:
    """A content of ``SIZE`` octets."""
    content = plain("large", _LINE * (SIZE // len(_LINE)))[: SIZE - 2] + b"\r\n"
    return content.removesuffix(b"\r\n").rstrip(b"\r\n").ljust(SIZE - 2, b"x") + b"\r\n"


def _field(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"/proc/{pid}/status has no {name}")


class Memory:
    """The memory of a process while something happens.

    :ivar before: octets at its beginning.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._most = 0
        self._exact = True
        try:
            # 5: forget the highest so far (proc_pid_clear_refs(5))
            Path(f"/proc/{self._pid}/clear_refs").write_text("5")
        except OSError:
            self._exact = False
        self.before = _field(self._pid, "VmRSS")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._ended.wait(LOOK_EVERY):
            self._most = max(self._most, _field(self._pid, "VmRSS"))

    def added(self) -> int:
        """The most that was added until now; the end."""
        self._ended.set()
        self._thread.join(10)
        if self._exact:
            self._most = max(self._most, _field(self._pid, "VmHWM"))
        return self._most - self.before


def all_of(node: Node) -> list[Memory]:
    """The memory of a node's processes: itself, and those it started."""
    return [Memory(pid) for pid in (node.running.pid, *node.running.children())]


class MemoryTest(NodeTest):
    """50 MiB."""

    def setUp(self) -> None:
        self.content = large_mail()
        self.assertEqual(len(self.content), SIZE)

    def bounded(self, name: str, memories: list[Memory]) -> None:
        """No process of a node has more than ``MORE`` more."""
        for memory in memories:
            added = memory.added()
            words = f"{name} added {added / MIB:.1f} MiB to {memory.before / MIB:.0f} MiB"
            self.assertLessEqual(added, MORE, words)

    def warm(self, node: Node, to: str) -> None:
        """Let a node do once what it will do: threads and caches are there then."""
        for chunks in (0, 1 << 20):
            queue_id = send(node.port, plain("warm", _LINE * 20_000), [to], chunks=chunks)
            node.wait_event("mail-finished", queue_id=queue_id)

    def test_in(self) -> None:
        """In by DATA, by BDAT in pieces and by one BDAT, into the Maildir: at most 8 MiB more."""
        here = self.node().start()
        self.warm(here, "joe@here.test")
        for name, chunks in (("DATA", 0), ("BDAT, pieces", 1 << 20), ("BDAT at once", 1 << 30)):
            with self.subTest(way=name):
                memories = all_of(here)
                queue_id = send(here.port, self.content, chunks=chunks)
                here.wait_event("mail-finished", queue_id=queue_id)
                self.bounded(name, memories)
                added_to(here.wait_mail("joe", having=b" id " + queue_id.encode()), self.content)
        self.assertEqual(here.stop(), 0)

    def test_out(self) -> None:
        """In, and out to another node by BDAT: neither the one nor the other has more than 8 MiB more."""
        there = self.node(domain="there.test", tables='[limits]\nmessage_size = "60M"\n').start()
        here = relay_to(there.port)
        self.addCleanup(here.close)
        here.start()
        self.warm(here, "demo@there.test")
        memories = (all_of(here), all_of(there))
        queue_id = send(here.port, self.content, ["demo@there.test"])
        here.wait_event("recipient-relayed", queue_id=queue_id)
        mail = there.wait_mail("demo", having=b" id " + queue_id.encode())
        for processes, name in zip(memories, ("the sender", "the receiver"), strict=True):
            self.bounded(name, processes)
        added_to(mail, self.content)

    def test_slow_next_hop(self) -> None:
        """A next hop that reads nothing of a mail does not make us hold it in memory."""
        import socket

        with socket.create_server(("127.0.0.1", 0)) as listening:
            here = relay_to(listening.getsockname()[1])
            self.addCleanup(here.close)
            here.start()
            self.warm(here, "joe@here.test")
            send(here.port, self.content, ["demo@there.test"])
            listening.settimeout(20)
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(20)
                memories = all_of(here)
                connection.sendall(b"220 slow.test\r\n")
                connection.recv(100)
                connection.sendall(b"250-slow.test\r\n250-CHUNKING\r\n250 PIPELINING\r\n")
                connection.recv(1)
                connection.sendall(b"250 ok\r\n250 ok\r\n")
                time.sleep(1.5)
                self.bounded("the sender", memories)

    def test_slow_client(self) -> None:
        """A client that sends one command after the other and reads no reply does not fill our memory."""
        here = self.node().start()
        self.warm(here, "joe@here.test")
        memories = all_of(here)
        with Client(here.port) as client:
            client._socket.setblocking(False)
            end = time.monotonic() + 3
            sent = 0
            while time.monotonic() < end and sent < SIZE:
                try:
                    sent += client._socket.send(b"VRFY joe\r\n" * 4096)
                except BlockingIOError:
                    time.sleep(0.01)
                except OSError:
                    break  # too many idle commands: sent away
            self.bounded(f"after {sent} octets it", memories)

    if not os.path.exists("/proc/self/status"):
        skip = "there is no /proc here"
