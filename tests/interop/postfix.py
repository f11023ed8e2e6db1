"""Debian's Postfix on ports, with settings and a spool of its own; a test without it is skipped."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SkipTest

from benchmarks import servers
from benchmarks.identity import Identity
from tests.net.authority import Issued


class Postfix(servers.Postfix):
    """It takes mail for ``u@local.test``, and relays that for ``u@remote.test`` to a port of this machine.

    :param more: settings (main.cf) beside its own. :param issued: its certificate. :param next_port: of that relay.
    """

    def __init__(self, more: str = "", issued: Issued | None = None, next_port: int = 0) -> None:
        place = Path(tempfile.mkdtemp(prefix="pf-", dir="/var/tmp"))  # its log must be below /var
        place.chmod(0o755)  # it delivers as nobody
        identity = None
        if issued is not None:
            identity = Identity(place / "postfix.crt", place / "postfix.key")
            issued.put_two(*identity)
        super().__init__(place, identity)
        self.sink_port = next_port
        self._more = more

    def begin(self) -> Postfix:
        """Start it. :raises SkipTest: it cannot run here."""
        try:
            self.start()
        except servers.NotAvailable as error:
            self.end()
            raise SkipTest(str(error)) from None
        return self

    def end(self) -> None:
        """Stop it, and remove what it left."""
        self.stop()
        shutil.rmtree(self.workdir, ignore_errors=True)

    def _spawn(self, command: list[str], log: Path) -> None:
        with open(self.workdir / "postfix-config" / "main.cf", "a", encoding="ascii") as settings:
            settings.write(self._more)
        super()._spawn(command, log)

    def mails(self) -> list[bytes]:
        """What lies in the Maildir."""
        if self.maildir is None or not self.maildir.exists():
            return []
        return [path.read_bytes() for path in (self.maildir / "new").iterdir()]

    def log(self) -> str:
        """What it wrote about its mail."""
        return (self.workdir / "postfix.log").read_text("utf-8", "replace")

    def queue(self) -> str:
        """What ``postqueue -p`` says, with the words of the last attempts."""
        command = ["/usr/sbin/postqueue", "-c", str(self.workdir / "postfix-config"), "-p"]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout
