"""Root is given up: low ports are bound by root, and everything else is done and owned by the user it becomes."""

from __future__ import annotations

import os
import pwd
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from unittest import SkipTest

from tests.interop.mails import plain
from tests.interop.node import BIN, START_TIME, Node, NodeTest, greeting_of, wait_for
from tests.interop.wire import send

NOBODY = "nobody"


def low_port() -> int:
    """A port below 1024 of 127.0.0.1 that nobody listens on."""
    for port in range(1023, 600, -1):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise SkipTest("no free port below 1024")


def users(pid: int) -> set[int]:
    """Real, effective, saved and file system user of a process, and its groups likewise."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    return {int(one) for kind in ("Uid", "Gid") for one in re.findall(rf"{kind}:\s+(.*)", status)[0].split()}


def runs_python(user: pwd.struct_passwd) -> bool:
    """Whether somebody may run the interpreter that runs us, with what it needs."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", "import ssl, twisted"], user=user.pw_uid, group=user.pw_gid, extra_groups=(),
            cwd="/", capture_output=True, timeout=60, check=False,
        )  # fmt: skip
    except OSError:
        return False
    return done.returncode == 0


class PrivilegesTest(NodeTest):
    """``twistd --uid``."""

    def setUp(self) -> None:
        if os.geteuid() != 0:
            raise SkipTest("only root can give root up")
        self.user = pwd.getpwnam(NOBODY)
        if not runs_python(self.user):
            raise SkipTest(f"{NOBODY} may not run {sys.executable}: a directory above it is closed to others")

    def start(self, node: Node, *words: str) -> int:
        """Start it as root, to become nobody; gives its process id once it greets."""
        node.place.chmod(0o755)  # nobody must find its settings and its state in there
        command: list[str | Path] = [BIN / "twistd", "-n", "--pidfile=", "--logfile=-", "--uid", NOBODY, *words]
        node.start([*command, "mailnode", "-c", node.config])
        return node.running.pid

    def stop(self, node: Node) -> None:
        """It ends in order; and then by the signal, as Twisted has it."""
        self.assertEqual(node.stop(), -signal.SIGTERM)
        node.wait_event("node-stopped")

    def test_given_up(self) -> None:
        """A port below 1024 and a unix socket; when the first client is greeted nobody is root any more, a mail is
        taken and delivered, no file of the node is root's, and it ends in order."""
        node = self.node()
        node.port = low_port()
        path = node.place / "mail.sock"
        node.write(tables=f'[[listener]]\nkind = "mx"\nendpoint = "unix:{path}:mode=660"\ntls = "none"\n')
        node.state.mkdir(0o700)
        os.chown(node.state, self.user.pw_uid, self.user.pw_gid)
        pid = self.start(node, "--gid", str(self.user.pw_gid))
        self.assertNotIn(0, users(pid))
        self.assertEqual(path.stat().st_uid, 0)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(path))
            self.assertTrue(client.recv(100).startswith(b"220 "))
        send(node.port, plain("low"))
        node.wait_mail("joe", having=b"low")
        self.assertEqual([one for child in node.running.children() for one in users(child) if one == 0], [])
        for file in [node.state, *node.state.rglob("*")]:
            self.assertEqual(file.lstat().st_uid, self.user.pw_uid, file)
        node.running.signal(signal.SIGHUP)
        node.wait_event("settings-loaded")
        self.stop(node)
        self.assertEqual(greeting_of(node.port), "")
        self.assertNotIn("Traceback", node.running.out + node.running.err)

    def test_again(self) -> None:
        """It can be started again: the ports are free, and what is left of its unix socket is replaced."""
        node = self.node()
        path = node.place / "mail.sock"
        node.write(tables=f'[[listener]]\nkind = "mx"\nendpoint = "unix:{path}"\ntls = "none"\n')
        node.state.mkdir(0o700)
        os.chown(node.state, self.user.pw_uid, self.user.pw_gid)
        for _ in range(2):
            self.start(node)
            self.stop(node)

    def test_state_of_root(self) -> None:
        """A state directory that the user cannot use is a sentence and code 1, not a node that works as root."""
        node = self.node()
        node.place.chmod(0o755)
        node.state.mkdir(0o700)
        command: list[str | Path] = [BIN / "twistd", "-n", "--pidfile=", "--logfile=-", "--uid", NOBODY]
        process = node.launch([*command, "mailnode", "-c", node.config])
        self.assertEqual(process.wait(START_TIME), 1)
        self.assertIn("mailnode: the node cannot start: ", process.out)
        self.assertIn("Permission denied", process.out)
        self.assertEqual(list(node.state.iterdir()), [])

    def test_port_in_use(self) -> None:
        """A port in use is told in the sentence that it always is, with code 1."""
        node = self.node()
        with socket.create_server(("127.0.0.1", node.port)):
            process = node.launch([BIN / "twistd", "-n", "--pidfile=", "--logfile=-", "mailnode", "-c", node.config])
            self.assertEqual(process.wait(START_TIME), 1)
        self.assertIn(f"cannot listen on 127.0.0.1, port {node.port}: Address already in use.", process.out)

    def test_root_is_told(self) -> None:
        """``mailnode run`` as root says how to do better."""
        node = self.node().start()
        wait_for(lambda: "twistd -n --uid mailnode" in node.running.out, "the warning")
        self.assertEqual(node.stop(), 0)
