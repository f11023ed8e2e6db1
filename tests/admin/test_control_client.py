"""The blocking side of the control socket: it ends in an answer or in a sentence, whatever the node does."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.admin.fakes import Bridge, FakeNode, mail
from twisted_mail_node.admin.control_client import ControlClient, ControlError, NodeNotRunning, wait_until_gone


class ClientTest(SynchronousTestCase):
    """One client."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.directory = Path(place.name)
        self.client = ControlClient(self.directory)

    def answered(self, octets: bytes, closed: bool = True) -> None:
        """The node will answer this to whatever is asked."""
        ours, theirs = socket.socketpair()
        self.addCleanup(theirs.close)
        theirs.sendall(octets)
        if closed:
            theirs.shutdown(socket.SHUT_WR)
        self.patch(self.client, "_connect", lambda: ours)

    def test_real_protocol(self) -> None:
        """Client and node understand each other."""
        node = FakeNode([mail(f"q{number}") for number in range(300)])
        self.patch(self.client, "_connect", lambda: Bridge(node))
        items, last = self.client.ask("queue.find", limit=1000)
        self.assertEqual((len(items), items[7]["queue_id"], last), (300, "q7", {"ok": True, "count": 300}))
        error = self.assertRaises(ControlError, self.client.ask, "dance")
        self.assertIn("unknown command", str(error))

    def test_every_cut(self) -> None:
        """An answer is understood wherever the network cut it."""
        octets = b'{"queue_id":"q1"}\n{"ok":true}\n'

        class Pieces:
            def __init__(self, cut: int) -> None:
                self.pieces = [octets[:cut], octets[cut:]]

            def recv(self, size: int) -> bytes:
                return self.pieces.pop(0) if self.pieces else b""

        for cut in range(1, len(octets)):
            pieces: Any = Pieces(cut)
            self.assertEqual(list(self.client._messages(pieces)), [{"queue_id": "q1"}, {"ok": True}])

    def test_nobody(self) -> None:
        """No socket, or one of a dead node: no node is running."""
        self.assertRaises(NodeNotRunning, self.client.ask, "status")
        self.assertFalse(self.client.is_running())
        dead = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        dead.bind(os.fspath(self.client.path))
        dead.close()
        self.assertRaises(NodeNotRunning, self.client.ask, "status")

    def test_gone(self) -> None:
        """A node that closed its socket is gone only when it gave the state directory back."""
        self.assertTrue(wait_until_gone(self.client, 0.0))
        with open(self.directory / "node.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.assertFalse(wait_until_gone(self.client, -1.0))
        self.assertTrue(wait_until_gone(self.client, 0.0))

    def test_long_path(self) -> None:
        """A state_dir too long for a unix socket is said, and no traceback."""
        client = ControlClient(self.directory / ("x" * 120))
        error = self.assertRaises(ControlError, client.ask, "status")
        self.assertIn("cannot be used", str(error))

    def test_cut_off(self) -> None:
        """A node that dies in the middle of its answer is noticed."""
        for octets in (b"", b'{"queue_id":"q1"}\n', b'{"queue_id":"q1"}\n{"ok":tr'):
            self.answered(octets)
            error = self.assertRaises(ControlError, self.client.ask, "status")
            self.assertIn("before its answer was complete", str(error))

    def test_nonsense(self) -> None:
        """An answer that is no JSON is a sentence."""
        self.answered(b"220 mx.example ESMTP\r\n")
        error = self.assertRaises(ControlError, self.client.ask, "status")
        self.assertIn("cannot be read", str(error))

    def test_silence(self) -> None:
        """A node that says nothing is not waited for longer than we said."""
        self.client = ControlClient(self.directory, answer_time=0.001)
        self.answered(b"", closed=False)
        error = self.assertRaises(ControlError, self.client.ask, "status")
        self.assertIn("did not answer within", str(error))
