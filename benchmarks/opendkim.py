"""Debian's Postfix with OpenDKIM as its milter: what checks DKIM, and only that, in front of many a Maildir.

OpenDKIM runs as its package has it, with settings and a socket of its own. It does not write to syslog, which favours
it. libunbound inside asks the name server of the run once for each key and keeps the answer. ``Nameservers`` takes
libunbound's ``address@port``, which its manual does not say. (With a file for ``ResolverConfiguration`` OpenDKIM 2.11.0
breaks as soon as two mails come at a time: it reads the file for each of them, and libunbound's reader of settings is
not made for that. And libunbound would answer for ``test.`` by itself, RFC 6761: hence domains below ``example.``)
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from benchmarks import machine
from benchmarks.servers import START, STOP, NotAvailable, Postfix

#: What comes from InternalHosts is for signing, and by default that is 127.0.0.1: here it is nobody.
_OPENDKIM = """\
Mode v
Socket local:{socket}
UserID postfix
UMask 007
Syslog no
AuthservID mx.local.test
InternalHosts {nobody}
PidFile {pid}
Nameservers 127.0.0.1@{port}
"""
_MILTER = """\
smtpd_milters = unix:{socket}
milter_default_action = tempfail
"""


class PostfixOpendkim(Postfix):
    """Postfix, and OpenDKIM beside it.

    :param names: the port of a name server at 127.0.0.1.
    """

    name = "postfix+opendkim"

    def __init__(self, workdir: Path, names: int) -> None:
        own = workdir / "opendkim"
        own.mkdir()
        super().__init__(own)
        self._names = names
        self._milter: subprocess.Popen[bytes] | None = None

    @property
    def pids(self) -> list[int]:
        """See Server."""
        return [*super().pids, *([self._milter.pid] if self._milter else [])]

    def start(self) -> None:
        """See Server."""
        found = shutil.which("opendkim", path="/usr/sbin:/usr/bin")
        if found is None:
            raise NotAvailable("OpenDKIM is not installed (apt-get install opendkim)")
        if os.getuid() != 0:
            raise NotAvailable("Postfix starts as root only")
        place = self.workdir / "milter"
        place.mkdir()
        shutil.chown(place, "postfix")
        socket, nobody, settings = (place / name for name in ("socket", "nobody", "settings"))
        nobody.write_text("192.0.2.1\n")
        settings.write_text(_OPENDKIM.format(socket=socket, nobody=nobody, pid=place / "pid", port=self._names))
        self.extra = _MILTER.format(socket=socket)
        with (self.workdir / "opendkim.out").open("wb") as output:
            self._milter = subprocess.Popen(
                [found, "-f", "-x", str(settings)], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        milter = self._milter
        if machine.wait_for(lambda: milter.poll() is not None or socket.exists(), START) is None or milter.poll():
            words = (self.workdir / "opendkim.out").read_text(errors="replace").strip()[-200:]
            self.stop()
            raise NotAvailable(f"OpenDKIM did not start: {words}")
        try:
            super().start()
        except NotAvailable:
            self.stop()
            raise

    def stop(self) -> None:
        """See Server."""
        super().stop()
        if self._milter is None:
            return
        self._milter.terminate()
        try:
            self._milter.wait(STOP)
        except subprocess.TimeoutExpired:
            self._milter.kill()
            self._milter.wait()
        self._milter = None
