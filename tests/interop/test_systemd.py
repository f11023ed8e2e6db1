"""Socket activation: a node that listens on what systemd bound for it (sd_listen_fds)."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.interop.mails import plain
from tests.interop.node import BIN, START_TIME, Node, NodeTest
from tests.interop.wire import Client, send

#: What systemd does between its fork and its exec: the sockets become 3, 4 …, and LISTEN_PID is this process.
ACTIVATE = """
import fcntl, os, socket, sys
with socket.socket(socket.AF_UNIX) as giver:
    giver.connect(sys.argv[1])
    _, numbers, _, _ = socket.recv_fds(giver, 1, 10)
numbers = [fcntl.fcntl(number, fcntl.F_DUPFD, 20) for number in numbers]
for at, number in enumerate(numbers):
    os.dup2(number, 3 + at, inheritable=True)
    os.close(number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(numbers)), LISTEN_FDNAMES=sys.argv[2])
os.execv(sys.argv[3], sys.argv[3:])
"""


class SystemdTest(NodeTest):
    """A node with sockets of systemd."""

    def listening(self, family: int, where: Any) -> socket.socket:
        """A socket as systemd makes it."""
        place = socket.socket(family, socket.SOCK_STREAM)
        self.addCleanup(place.close)
        place.bind(where)
        place.listen(16)
        return place

    def activated(self, node: Node, command: Sequence[str | Path]) -> list[str | Path]:
        """The command, started as systemd does; it is given the sockets once."""
        path = node.place / "giver.sock"
        path.unlink(missing_ok=True)
        giver = socket.socket(socket.AF_UNIX)
        giver.bind(str(path))
        giver.listen(1)
        giver.settimeout(START_TIME)

        def give() -> None:
            with giver, giver.accept()[0] as taker:
                socket.send_fds(taker, [b"x"], [place.fileno() for place in self.sockets])

        thread = threading.Thread(target=give)
        thread.start()
        self.addCleanup(thread.join)
        return [sys.executable, "-c", ACTIVATE, path, self.names, *command]

    def make(self) -> tuple[Node, Path]:
        """A node with three sockets: IPv4, IPv6 and unix."""
        node = self.node()
        path = node.place / "mail.sock"
        first = self.listening(socket.AF_INET, ("127.0.0.1", node.port))
        second = self.listening(socket.AF_INET6, ("::1", 0))
        third = self.listening(socket.AF_UNIX, str(path))
        self.sockets, self.names = [first, second, third], "smtp:smtp6:local"
        self.port6: int = second.getsockname()[1]
        listeners = "".join(
            f'[[listener]]\nkind = "mx"\ntls = "none"\nendpoint = "systemd:domain={domain}:name={name}"\n'
            for domain, name in (("INET6", "smtp6"), ("UNIX", "local"))
        )
        node.write(tables=listeners)
        text = node.config.read_text("utf-8")
        ours = f"tcp:{node.port}:interface=127.0.0.1"
        self.assertIn(ours, text)
        node.config.write_text(text.replace(ours, "systemd:domain=INET:name=smtp"), "utf-8")
        return node, path

    def greeted(self, family: int, where: Any) -> bool:
        """Whether somebody greets there."""
        with socket.socket(family) as client:
            client.settimeout(START_TIME)
            client.connect(where)
            return client.recv(100).startswith(b"220 ")

    def test_run_and_twistd(self) -> None:
        """``mailnode run`` and ``twistd -n`` listen on all of them; a client that came before the node is greeted; the
        sockets outlive the node."""
        node, path = self.make()
        commands: tuple[list[str | Path], ...] = (
            [BIN / "mailnode", "run", "-c", node.config],
            [BIN / "twistd", "-n", "--pidfile=", "--logfile=-", "mailnode", "-c", node.config],
        )
        for command in commands:
            with socket.create_connection(("127.0.0.1", node.port), START_TIME) as early:
                node.start(self.activated(node, command))
                self.assertTrue(early.recv(100).startswith(b"220 "))
            self.assertTrue(self.greeted(socket.AF_INET6, ("::1", self.port6)))
            self.assertTrue(self.greeted(socket.AF_UNIX, str(path)))
            send(node.port, plain(str(command[0])))
            node.wait_mail("joe", having=str(command[0]).encode())
            with Client(node.port) as client:
                client.must("NOOP")
            self.assertIn(node.stop(), (0, -signal.SIGTERM))  # twistd ends by the signal, as Twisted has it
            self.assertNotIn("Traceback", node.running.out + node.running.err)
            self.assertTrue(path.is_socket())

    def test_not_passed(self) -> None:
        """Without systemd, and with a name it does not know, the node ends with code 1 and a sentence."""
        node, _ = self.make()
        run: list[str | Path] = [BIN / "mailnode", "run", "-c", node.config]
        self.names = "smtp:smtp6:other"
        for command, words in ((run, "(passed: none)"), (self.activated(node, run), "(passed: smtp, smtp6, other)")):
            process = node.launch(command)
            self.assertEqual(process.wait(START_TIME), 1)
            self.assertIn("mailnode: the node cannot start: systemd passed no socket", process.err)
            self.assertIn(words, process.err)
            self.assertNotIn("Traceback", process.err)
