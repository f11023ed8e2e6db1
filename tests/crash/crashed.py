"""The parent's side of a crash test: starts the child, waits for its death, and looks at what it left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.crash.child import HEADER, content_of, envelope_of
from twisted_mail_node.spool.mail import Attempt, Entry, Filter, Mail
from twisted_mail_node.spool.sqlite import Store

#: Seconds a child may live before something is wrong.
PATIENCE = 60.0
#: The wall clock at the start after the crash.
RESTART = 3_000_000_000.0
ROOT = Path(__file__).parents[2]


def begin(directory: Path, step: str, times: int, *lines: str) -> subprocess.Popen[bytes]:
    """Start a child."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "tests.crash.child", str(directory), step, str(times), *lines],
        bufsize=0,  # communicate() does not see what a buffer holds
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
    )


class CrashCase(SynchronousTestCase):
    """A test with a child that died in ``self.directory``.

    :ivar said: the lines it said before its death.
    :ivar store: the spool as it is found, opened by ``find`` (without the recovery) and by ``restart``.
    """

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.said: list[str] = []
        self.store: Store | None = None
        self.addCleanup(self._close)

    def _close(self) -> None:
        if self.store is not None:
            self.store.close()
            self.store = None

    def die(self, step: str, *lines: str, times: int = 1) -> None:
        """Have a child do what the lines say and die at this step of the last."""
        child = begin(self.directory, step, times, *lines)
        out, errors = child.communicate(timeout=PATIENCE)
        self.assertEqual(child.returncode, -signal.SIGKILL, errors.decode() or f"it never reached {step}")
        self.said = out.decode().splitlines()

    def acknowledged(self, name: str) -> bool:
        """The spool had answered that this mail is kept."""
        return any(line.startswith("kept ") and line.endswith(f" {name}") for line in self.said)

    def done(self, order: str, name: str) -> bool:
        """The spool had answered that this is done."""
        return f"done {order} {name}" in self.said

    @property
    def files(self) -> int:
        """How many content files there are."""
        return len(list((self.directory / "content").iterdir()))

    def find(self) -> dict[str, Mail]:
        """The mails in the spool by name, each of them whole."""
        if self.store is None:
            self.store = Store(self.directory)
            self.assertIsNone(self.store.damaged)
        mails: dict[str, Mail] = {}
        for mail in self.store.find(Filter(limit=100_000)):
            name = mail.envelope.recipients[0].address.local_part
            self.assertNotIn(name, mails)
            mails[name] = mail
            self.assertEqual((mail.envelope, mail.header), (envelope_of(name), HEADER))
            self.assertEqual(b"".join(mail.content.blocks()), content_of(name, mail.content.size))
        return mails

    def restart(self) -> dict[str, Mail]:
        """The mails after the start that follows a crash."""
        self.find()
        assert self.store is not None
        count, _ = self.store.recover(RESTART)
        mails = self.find()
        self.assertEqual(count, len(mails))
        return mails

    def entries(self, name: str) -> tuple[Entry, ...]:
        """The recipients of a mail after the start."""
        return self.restart()[name].entries

    def attempts(self, name: str) -> list[Attempt]:
        """The attempts that are kept of a mail."""
        queue_id = self.find()[name].queue_id
        assert self.store is not None
        return self.store.attempts(queue_id)

    def check_integrity(self) -> None:
        """SQLite finds nothing wrong."""
        assert self.store is not None
        self.assertEqual(self.store.connection.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
