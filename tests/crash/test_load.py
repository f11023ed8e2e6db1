"""Many mails, a kill at a moment nobody chose: whatever was answered is there, whole."""

from __future__ import annotations

import random
import signal
import time

from tests.crash.crashed import PATIENCE, CrashCase, begin

#: Lives of the process, one after the other on the same spool.
LIVES = 4


class LoadTests(CrashCase):
    def test_killed_under_load(self) -> None:
        """Every id that was answered is there with its content, unless it was being finished; nothing is torn."""
        promised: dict[str, str] = {}
        finishing: set[str] = set()
        for _ in range(LIVES):
            child = begin(self.directory, "-", 1)
            assert child.stdout is not None
            line = child.stdout.readline()  # it works
            time.sleep(random.uniform(0.2, 1.0))
            child.kill()
            out, errors = child.communicate(timeout=PATIENCE)
            self.assertEqual(child.returncode, -signal.SIGKILL, errors.decode())
            lines = (line + out).decode().split("\n")[:-1]  # the last may be cut short: then it was not said
            for kind, queue_id, name in map(str.split, lines):
                if kind == "kept":
                    promised[name] = queue_id
                else:
                    finishing.add(name)
            found = self.restart()
            self.check_integrity()
            self._close()
            for name, queue_id in promised.items():
                if name not in finishing:
                    self.assertEqual(found[name].queue_id, queue_id)
            for name, mail in found.items():
                self.assertEqual(mail.content.size, int(name.rpartition("-")[2]))
        self.assertGreater(len(promised), 50)
        self.assertTrue(finishing)
