"""``mailnode run`` without settings, and the line it prints: pasted into a shell it sends a mail by submission."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
from unittest import SkipTest

from tests.interop.node import BIN, NodeTest, wait_for

PORTS = (2525, 2587, 2465)


class DemoTest(NodeTest):
    """The development node."""

    def setUp(self) -> None:
        if shutil.which("curl") is None:
            raise SkipTest("there is no curl")
        for port in PORTS:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    raise SkipTest(f"port {port} of the development settings is in use") from None

    def test_line_to_paste(self) -> None:
        """Twice: the second start has the same password."""
        node = self.node()
        node.port = PORTS[0]
        for number in (1, 2):
            node.start([BIN / "mailnode", "run"])
            wait_for(lambda: "Stop it:" in node.running.out, "the welcome")
            (line,) = {line for line in node.running.out.splitlines() if line.startswith("Send a mail: ")}
            done = subprocess.run(
                ["sh", "-c", line.removeprefix("Send a mail: ")], cwd=node.place, env=os.environ, capture_output=True,
                text=True, timeout=60, check=False,
            )  # fmt: skip
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            event = wait_for(lambda: node.events("mail-accepted")[number - 1 :], "the mail")[0]  # noqa: B023
            self.assertEqual((event["account"], event["protocol"]), ("demo@mail.test", "ESMTPSA"))
            self.assertTrue(event["tls"].startswith("TLSv1."))
            self.assertEqual(node.stop(), 0)
        file = node.state / "demo-password"
        self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600)
        secret = file.read_text("utf-8").strip()
        self.assertNotIn(secret, node.running.out + node.running.err)
        for path in node.state.rglob("*"):
            if path.is_file() and path != file:
                self.assertNotIn(secret.encode(), path.read_bytes(), path)
