"""The servers under test: our node, Debian's Postfix, or one that runs already; each starts and stops the same way.

Every server takes mail for ``u@local.test`` into a Maildir and relays mail for ``u@remote.test`` to the sink.
Only processes that were started here are ended. Nothing is deleted while measuring: ext4 does not use the inodes of
deleted files again for some minutes and creates files several times slower meanwhile, so Maildirs are moved aside.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from benchmarks import machine
from benchmarks.identity import Identity

LOCAL = "u@local.test"
REMOTE = "u@remote.test"
#: Seconds a server may take to start, and to stop before it is killed.
START = 20.0
STOP = 30.0


class NotAvailable(Exception):
    """The server cannot be measured here; the sentence says why."""


class Server:
    """A server that runs already: nothing is known of it but its address, and what the command line tells."""

    name = "target"

    def __init__(self, workdir: Path, port: int = 0, pid: int = 0, maildir: Path | None = None) -> None:
        self.workdir = workdir
        self.host = "127.0.0.1"
        self.port = port
        self.implicit_port = 0
        self.pid = pid
        self.maildir = maildir
        self.sink_port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._aside = 0

    @property
    def target(self) -> str:
        """host:port."""
        return f"{self.host}:{self.port}"

    @property
    def implicit(self) -> str:
        """host:port where TLS comes first. :raises NotAvailable: there is none."""
        if not self.implicit_port:
            raise NotAvailable(f"{self.name} has no port with TLS from the first octet here")
        return f"{self.host}:{self.implicit_port}"

    @property
    def pids(self) -> list[int]:
        """The first process of each tree of processes that works for it; none when that is not known."""
        return [self.pid] if self.pid else []

    def start(self) -> None:
        """Start it and wait for its greeting. :raises NotAvailable: it cannot run here."""

    def stop(self) -> None:
        """Stop what ``start`` started."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process = None

    def fresh_maildir(self) -> None:
        """Let the next mail find no Maildir: the old one is moved aside. Only in our own working directory."""
        if self.maildir is None or self.workdir not in self.maildir.parents or not self.maildir.exists():
            return
        self._aside += 1
        aside = self.workdir / "aside"
        aside.mkdir(exist_ok=True)
        self.maildir.rename(aside / f"{self.name}.{self._aside}")

    def delivered(self) -> int:
        """Mails in the Maildir now."""
        return 0 if self.maildir is None else machine.files_in(self.maildir / "new")

    def _spawn(self, command: list[str], log: Path) -> None:
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        self.pid = self.process.pid
        process = self.process
        if machine.wait_for(lambda: process.poll() is not None or machine.greets(self.port), START) is None:
            self.stop()
            raise NotAvailable(f"{self.name} did not greet within {START:.0f} s; see {log}")
        if process.poll() is not None:
            self.process = None
            words = log.read_text(errors="replace").strip().splitlines()[-3:]
            raise NotAvailable(f"{self.name} ended at once: {' / '.join(words)}")


class Node(Server):
    """Our node, from the virtual environment this script runs in.

    :param extra: more settings. :param identity: its certificate, for STARTTLS and a port with implicit TLS.
    :param names: the port of a name server at 127.0.0.1. Then this machine is a stranger to the node, whose mail is
        checked, and may not relay.
    """

    name = "node"

    def __init__(
        self, workdir: Path, workers: int = 1, extra: str = "", identity: Identity | None = None, names: int = 0
    ) -> None:
        super().__init__(workdir, machine.free_port())
        self._names = names
        self._identity = identity
        if identity is not None:
            self.implicit_port = machine.free_port()
            extra += f"""
[[certificate]]
chain = "{identity.chain}"
key = "{identity.key}"

[[listener]]
kind = "mx"
endpoint = "tcp:{self.implicit_port}:interface=127.0.0.1:backlog=2000"
tls = "implicit"
"""
        self._state = workdir / "node"
        self._workers = workers
        self._extra = extra
        self.maildir = self._state / "mail" / "local.test" / "u"

    def start(self) -> None:
        """See Server."""
        binary = Path(sys.executable).parent / "mailnode"
        if not binary.exists():
            raise NotAvailable(f"{binary} is missing: install the project into this environment first")
        self._state.mkdir(exist_ok=True)
        settings = self.workdir / "settings.toml"
        settings.write_text(f"""\
hostname = "mx.local.test"
state_dir = "{self._state}"
workers = {self._workers}
relay_from = [{"" if self._names else '"127.0.0.0/8"'}]

[limits]
connections = 20000
connections_per_address = 20000
message_size = "100M"

[[listener]]
kind = "mx"
endpoint = "tcp:{self.port}:interface=127.0.0.1:backlog=2000"
tls = "{"starttls" if self._identity else "none"}"

[[domain]]
name = "local.test"

[[account]]
address = "{LOCAL}"

[[route]]
domain = "remote.test"
next_hop = "[127.0.0.1]:{self.sink_port or 9}"

{_CHECKING.format(port=self._names) if self._names else ""}
{self._extra}
""")
        self._spawn([str(binary), "run", "-c", str(settings)], self.workdir / "node.log")


_CHECKING = """\
[resolver]
servers = ["127.0.0.1:{port}"]

[verification]
exempt = []
"""
_POSTFIX = """\
compatibility_level = 3.6
queue_directory = {spool}
data_directory = {data}
command_directory = /usr/sbin
daemon_directory = {daemons}
mail_owner = postfix
setgid_group = postdrop
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.local.test
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
virtual_mailbox_domains = local.test
virtual_mailbox_base = {mail}
virtual_mailbox_maps = static:u/
virtual_mailbox_limit = 0
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
relay_domains = remote.test
transport_maps = inline:{{remote.test=relay:[127.0.0.1]:{sink}}}
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_peername_lookup = no
smtp_tls_security_level = none
message_size_limit = 104857600
maillog_file = {log}
maillog_file_prefixes = /var
"""
_POSTFIX_TLS = """\
smtpd_tls_security_level = may
smtpd_tls_chain_files = {key}, {chain}
"""


class Postfix(Server):
    """Debian's Postfix with a configuration and a spool of its own; its defaults otherwise. Needs root.

    :param identity: its certificate, for STARTTLS and a port with implicit TLS.
    """

    name = "postfix"
    #: More lines of main.cf.
    extra = ""

    def __init__(self, workdir: Path, identity: Identity | None = None) -> None:
        super().__init__(workdir, machine.free_port())
        self.maildir = workdir / "postfix-mail" / "u"
        self._identity = identity
        if identity is not None:
            self.implicit_port = machine.free_port()

    def start(self) -> None:
        """See Server."""
        postconf = shutil.which("postconf", path="/usr/sbin:/usr/bin")
        prototype = Path("/etc/postfix/master.cf.proto")
        if postconf is None or not prototype.exists():
            raise NotAvailable("Postfix is not installed")
        if os.getuid() != 0:
            raise NotAvailable("Postfix starts as root only")
        daemons = subprocess.run([postconf, "-dh", "daemon_directory"], capture_output=True, text=True).stdout.strip()
        config, spool, data = (self.workdir / f"postfix-{name}" for name in ("config", "spool", "data"))
        for directory in (config, spool, data):
            directory.mkdir(exist_ok=True)
        shutil.chown(data, "postfix")
        assert self.maildir is not None
        nobody = pwd.getpwnam("nobody")
        uid, gid = nobody.pw_uid, nobody.pw_gid
        self.maildir.parent.mkdir(exist_ok=True)
        os.chown(self.maildir.parent, uid, gid)
        log = self.workdir / "postfix.log"
        log.touch()
        shutil.chown(log, "postfix")
        (config / "main.cf").write_text(
            _POSTFIX.format(
                spool=spool,
                data=data,
                daemons=daemons,
                mail=self.maildir.parent,
                uid=uid,
                gid=gid,
                sink=self.sink_port or 9,
                log=log,
            )
            + (_POSTFIX_TLS.format(chain=self._identity.chain, key=self._identity.key) if self._identity else "")
            + self.extra
        )
        (config / "master.cf").write_text(_master(prototype.read_text(), self.port, self.implicit_port))
        for name in ("postfix-files", "dynamicmaps.cf"):
            if (Path("/etc/postfix") / name).exists():
                shutil.copy(Path("/etc/postfix") / name, config)
        for name in ("postfix-files.d", "dynamicmaps.cf.d"):
            if (Path("/etc/postfix") / name).is_dir():
                shutil.copytree(Path("/etc/postfix") / name, config / name, dirs_exist_ok=True)
        checked = subprocess.run(["/usr/sbin/postfix", "-c", str(config), "check"], capture_output=True, text=True)
        if checked.returncode != 0:
            raise NotAvailable(f"Postfix does not like its settings: {checked.stderr.strip()[-300:]}")
        self._spawn([f"{daemons}/master", "-c", str(config), "-s"], self.workdir / "postfix.out")


def _master(prototype: str, port: int, implicit_port: int) -> str:
    """Debian's master.cf with our listeners, and without chroot (the spool is a new directory)."""
    lines = []
    for line in prototype.splitlines():
        if re.match(r"smtp\s+inet", line):
            line = f"127.0.0.1:{port} inet n - n - - smtpd"
            if implicit_port:
                line += f"\n127.0.0.1:{implicit_port} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes"
        elif not line.startswith("postlog"):
            line = re.sub(r"^([a-z0-9:.]+\s+(?:inet|unix)\s+[-yn]\s+[-yn]\s+)y", r"\1n", line)
        lines.append(line)
    return "\n".join(lines) + "\n"


class SinkProcess:
    """The next hop: ``smtp-sink`` where it is installed, else our own.

    :param own: ours in any case; ``places`` and ``latency`` (see ``sink.py``) need it.
    """

    def __init__(self, own: bool = False, places: int = 1, latency: float = 0.0) -> None:
        self.port = machine.free_port()
        found = None if own or places > 1 or latency else shutil.which("smtp-sink", path="/usr/sbin:/usr/bin")
        if found:
            command = [found, "-c", *(["-u", "nobody"] if os.getuid() == 0 else []), f"127.0.0.1:{self.port}", "2000"]
        else:
            command = [sys.executable, str(Path(__file__).with_name("sink.py")), f"127.0.0.1:{self.port}"]
            command += ["--places", str(places), "--latency", str(latency)]
        self.name = Path(command[0]).name if found else "sink.py"
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self._process.stdout is not None
        self._last = b""
        # It counts every mail on its standard output: who does not read it at once brings it to a stop.
        self._reader = threading.Thread(target=self._follow, args=(self._process.stdout.fileno(),), daemon=True)
        self._reader.start()
        if machine.wait_for(lambda: machine.greets(self.port), START) is None:
            self.stop()
            raise NotAvailable("the sink did not greet")
        time.sleep(0.1)
        self._base = self._read()

    def _read(self) -> tuple[int, int]:
        found = re.findall(rb"sess=(\d+) quit=\d+ mesg=(\d+)", self._last)
        return (int(found[-1][0]), int(found[-1][1])) if found else (0, 0)

    def _follow(self, fd: int) -> None:
        while octets := os.read(fd, 65536):
            self._last = (self._last + octets)[-300:]

    def begin(self) -> None:
        """Count from now."""
        self._base = self._read()

    @property
    def mails(self) -> int:
        """Mails since ``begin``."""
        return self._read()[1] - self._base[1]

    @property
    def sessions(self) -> int:
        """Connections since ``begin``."""
        return self._read()[0] - self._base[0]

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(STOP)
