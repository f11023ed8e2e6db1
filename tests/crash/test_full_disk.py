"""A disk that is really full: mails are refused for now, none that was accepted is lost, and room mends all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.crash.crashed import PATIENCE, ROOT

#: A file system in memory that only the child sees, and that goes with it.
MOUNT = 'mount -t tmpfs -o size=16m none "$0" || exit 99; exec "$1" -m tests.crash.full_disk "$0"'


class FullDiskTests(SynchronousTestCase):
    def test_life(self) -> None:
        """What is accepted before, during and after the full disk is there; what is refused is refused as full."""
        unshare = shutil.which("unshare")
        if unshare is None or os.getuid() != 0:
            raise SkipTest("a file system of one's own needs root and unshare")
        place = Path(self.mktemp()).absolute()
        place.mkdir(parents=True)
        ended = subprocess.run(
            [unshare, "-m", "sh", "-c", MOUNT, str(place), sys.executable],
            capture_output=True,
            cwd=ROOT,
            timeout=PATIENCE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        if ended.returncode in (1, 99) and b"Traceback" not in ended.stderr and not ended.stdout:
            raise SkipTest("a file system cannot be mounted here")
        self.assertEqual(ended.returncode, 0, ended.stderr.decode())
        self.look([line.split() for line in ended.stdout.decode().splitlines()])

    def look(self, said: list[list[str]]) -> None:
        """Compare what was promised with what was found."""
        kept = {words[2]: words[1] for words in said if words[0] == "kept"}
        found = {words[2]: words[1] for words in said if words[0] == "found"}
        refused = [words[1:] for words in said if words[0] == "refused"]
        del kept["first"]  # finished in the end
        self.assertEqual(found, kept)
        self.assertGreater(len(kept), 50)
        self.assertIn("large-again", kept)
        self.assertIn("small-again", kept)
        self.assertGreaterEqual({name for name, _ in refused}, {"large", "small"})
        self.assertEqual({full for _, full in refused}, {"True"})
        self.assertIn(["step", "content", "0"], said)
