"""Debian's Dovecot as a message store, with settings and mail of its own; a test without it is skipped."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.interop.node import Process, free_port, wait_for

DOVECOT = Path("/usr/sbin/dovecot")
START_TIME = 20.0

SETTINGS = """\
base_dir = {place}/run
state_dir = {place}/state
log_path = {place}/dovecot.log
protocols = lmtp
ssl = no
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
first_valid_uid = 1
mail_location = maildir:{place}/mail/%n
auth_username_format = %Lu
recipient_delimiter = +
passdb {{
  driver = passwd-file
  args = {place}/users
}}
userdb {{
  driver = passwd-file
  args = {place}/users
}}
service lmtp {{
  unix_listener {place}/lmtp {{
    mode = 0600
    user = {owner}
  }}
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
service anvil {{
  chroot =
}}
"""


class Dovecot:
    """It takes mail for some people by LMTP, over a unix socket and a port.

    :param people: their addresses.
    :ivar socket: the socket's path. :ivar port: of 127.0.0.1.
    """

    def __init__(self, *people: str) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="dc-", dir="/var/tmp"))
        self.socket = self.place / "lmtp"
        self.port = free_port()
        self._people = people
        self._process: Process | None = None

    def begin(self) -> Dovecot:
        """Start it. :raises SkipTest: it cannot run here."""
        if not DOVECOT.exists() or not Path("/usr/lib/dovecot/lmtp").exists():
            self.end()
            raise SkipTest("no Dovecot with LMTP here: apt-get install dovecot-core dovecot-lmtpd")
        # As root it gives its processes other users; it takes no mail for root.
        is_root = os.geteuid() == 0
        owner = pwd.getpwuid(os.geteuid())
        user = pwd.getpwnam("nobody") if is_root else owner
        group = subprocess.run(["id", "-gn", user.pw_name], capture_output=True, text=True, check=True).stdout.strip()
        self.place.chmod(0o755)
        (self.place / "mail").mkdir()
        lines = [f"{who}:{{PLAIN}}x:{user.pw_uid}:{user.pw_gid}::{self.place}/mail::\n" for who in self._people]
        (self.place / "users").write_text("".join(lines), "ascii")
        if is_root:
            os.chown(self.place / "mail", user.pw_uid, user.pw_gid)
        config = self.place / "dovecot.conf"
        text = SETTINGS.format(place=self.place, user=user.pw_name, group=group, owner=owner.pw_name, port=self.port)
        config.write_text(text, "ascii")
        self._process = Process([DOVECOT, "-F", "-c", config], self.place, "dovecot")
        wait_for(self._answers, "a greeting of Dovecot", START_TIME)
        return self

    def _answers(self) -> bool:
        if self._process is not None and self._process.code is not None:
            words = self._process.err
            self.end()
            raise SkipTest(f"Dovecot does not run here: {words[-300:]}")
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                return connection.recv(100).startswith(b"220 ")
        except OSError:
            return False

    def end(self) -> None:
        """Stop it, and remove what it left."""
        if self._process is not None:
            self._process.signal(15)
            self._process.wait(20)
            self._process.kill()
            self._process = None
        shutil.rmtree(self.place, ignore_errors=True)

    def mails(self, who: str) -> list[bytes]:
        """What lies in somebody's mailbox."""
        new = self.place / "mail" / who / "new"
        return [path.read_bytes() for path in new.iterdir()] if new.is_dir() else []

    def log(self) -> str:
        """What it wrote."""
        path = self.place / "dovecot.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""
