"""A real node in a process of its own, on free ports of loopback, with its state in a directory of its own.

    node = Node(tables='[[alias]]\\naddress = "all@here.test"\\nto = ["joe@here.test"]\\n')
    node.start()              # returns when it answers 220
    ...
    node.stop()               # SIGTERM; gives the exit code

Everything has a deadline. ``close`` ends the process, however it is, and removes the directory. ``NodeTest`` closes
what its tests made; a node that the tests of a class share is stopped when the next class begins, or trial ends.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
#: Seconds until a node answers 220; a machine with other work on it takes a few.
START_TIME = 30.0
#: Seconds until a node that was told to stop has ended: longer than it gives mail in transfer.
STOP_TIME = 60.0
#: Seconds for a command of ``mailnode``.
COMMAND_TIME = 60.0
#: Seconds to wait for something to happen, where a test does not say otherwise.
WAIT = 20.0

T = TypeVar("T")
_ports: set[int] = set()


class NodeError(AssertionError):
    """The node did not do what it should; its output is in the words."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, and that was not given before."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in _ports:
            _ports.add(port)
            return port


def wait_for(what: Callable[[], T], words: str = "what was waited for", seconds: float = WAIT) -> T:
    """Ask ``what`` again and again until it gives something true, and give that. :raises NodeError: it never does."""
    end = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        if time.monotonic() > end:
            raise NodeError(f"{words} did not happen within {seconds:g} s; the last: {found!r}")
        time.sleep(0.02)


def greeting_of(port: int, host: str = "127.0.0.1") -> str:
    """The first line a server says; ``""`` when nobody listens."""
    try:
        with socket.create_connection((host, port), timeout=2) as connection:
            return connection.recv(512).decode("ascii", "replace")
    except OSError:
        return ""


def runs(pid: int) -> bool:
    """Whether there is a process with this id that has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Process:
    """A child process with its output in files; it never outlives the test run.

    :ivar pid: its process id, while it runs.
    """

    def __init__(
        self, command: Sequence[str | Path], place: Path, name: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self._out, self._err = place / f"{name}.out", place / f"{name}.err"
        inherited = {key: value for key, value in os.environ.items() if key != "MAILNODE_SETTINGS"}
        with open(self._out, "ab") as out, open(self._err, "ab") as err:
            self._child = subprocess.Popen(
                [str(word) for word in command],
                cwd=place,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=inherited | dict(environment or {}),
                start_new_session=True,
            )
        self.pid = self._child.pid
        atexit.register(self.kill)

    @property
    def out(self) -> str:
        """What it said on standard output."""
        return self._out.read_text("utf-8", "replace")

    @property
    def err(self) -> str:
        """What it said on standard error."""
        return self._err.read_text("utf-8", "replace")

    @property
    def code(self) -> int | None:
        """Its exit code, ``None`` while it runs."""
        return self._child.poll()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._child.send_signal(number)

    def interrupt(self) -> None:
        """What Ctrl-C in its terminal does: SIGINT to it and to every process it started."""
        os.killpg(self.pid, signal.SIGINT)

    def children(self) -> list[int]:
        """The processes it started."""
        return [int(one) for one in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text("ascii").split()]

    def wait(self, seconds: float = STOP_TIME) -> int:
        """Wait until it ends; gives its exit code. :raises NodeError: it does not; it is killed then."""
        try:
            return self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise NodeError(f"process {self.pid} still ran after {seconds:g} s\n{self.out}\n{self.err}") from None

    def kill(self) -> None:
        """End it now, if it still runs, and wait for the processes it started: they end by themselves then."""
        if self._child.poll() is None:
            children = self.children()
            self._child.kill()
            self._child.wait(10)
            wait_for(lambda: not any(map(runs, children)), f"the end of its processes {children}")
        atexit.unregister(self.kill)


class Node:
    """One node: its settings, its state, its process.

    :param domain: its local domain, in which joe, ann and demo have accounts.
    :param top: TOML keys at the top of the settings. :param tables: TOML tables behind what is there in any case.
    :ivar port: of its ``mx`` listener.
    """

    def __init__(self, *, domain: str = "here.test", top: str = "", tables: str = "", retry: str = "1h") -> None:
        # Not below trial's directory: a unix socket's path has at most 107 octets.
        self.place = Path(tempfile.mkdtemp(prefix="mn-"))
        self.domain = domain
        self.port = free_port()
        self.state = self.place / "var"
        self.config = self.place / "settings.toml"
        self.process: Process | None = None
        self.environment: dict[str, str] = {}
        self._retry = retry
        self.write(top=top, tables=tables)

    def write(self, *, top: str = "", tables: str = "") -> None:
        """Write the settings."""
        people = "".join(map(self.account, ("joe", "ann", "demo")))
        queue = "" if "[queue]" in tables else f'[queue]\nretry = ["{self._retry}"]\n'
        self.config.write_text(
            f'hostname = "mx.{self.domain}"\nstate_dir = "{self.state}"\n{top}\n'
            f'[[listener]]\nkind = "mx"\nendpoint = "tcp:{self.port}:interface=127.0.0.1"\n'
            f'[[domain]]\nname = "{self.domain}"\nsubaddress_separator = "+"\n{people}{queue}{tables}\n',
            "utf-8",
        )

    def account(self, who: str) -> str:
        """The table of an account."""
        return f'[[account]]\naddress = "{who}@{self.domain}"\n'

    # ---- its life --------------------------------------------------------------------------------------------

    def start(self, command: Sequence[str | Path] | None = None, environment: Mapping[str, str] | None = None) -> Node:
        """Start it, by ``mailnode run`` or another command; returns when it answers 220."""
        self.launch(command, environment)
        wait_for(self._answers, f"a greeting on port {self.port}", START_TIME)
        return self

    def launch(
        self, command: Sequence[str | Path] | None = None, environment: Mapping[str, str] | None = None
    ) -> Process:
        """Start it and do not wait."""
        command = command or (BIN / "mailnode", "run", "-c", self.config)
        self.process = Process(command, self.place, "node", {**self.environment, **(environment or {})})
        return self.process

    def _answers(self) -> bool:
        process = self.running
        if process.code is not None:
            raise NodeError(f"the node ended with {process.code}\n{process.out}\n{process.err}")
        return greeting_of(self.port).startswith("220 ")

    @property
    def running(self) -> Process:
        """Its process. :raises NodeError: it was not started."""
        if self.process is None:
            raise NodeError("the node was not started")
        return self.process

    def stop(self) -> int:
        """SIGTERM; gives the exit code."""
        self.running.signal(signal.SIGTERM)
        return self.running.wait()

    def kill(self) -> None:
        """SIGKILL: the end a power cut makes."""
        self.running.kill()

    def close(self) -> None:
        """End the process, however it is, and remove all it left."""
        if self.process is not None:
            self.process.kill()
        shutil.rmtree(self.place, ignore_errors=True)

    # ---- what it did -----------------------------------------------------------------------------------------

    def command(self, *words: str, code: int | None = 0, seconds: float = COMMAND_TIME) -> str:
        """Run ``mailnode`` with these words and the node's settings; gives its standard output.

        :param code: the exit code it must have; ``None``: any; then standard error is given, too.
        """
        environment = {**os.environ, "MAILNODE_SETTINGS": str(self.config), "PYTHONUNBUFFERED": "1"}
        done = subprocess.run(
            [str(BIN / "mailnode"), *words],
            cwd=self.place,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if code is None:
            return done.stdout + done.stderr
        if done.returncode != code:
            raise NodeError(f"mailnode {' '.join(words)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout if code == 0 else done.stderr

    def queue(self) -> list[dict[str, Any]]:
        """What ``mailnode queue list --json`` says."""
        found: list[dict[str, Any]] = json.loads(self.command("queue", "list", "--json"))
        return found

    def wait_queue(self, number: int = 0, state: str = "", seconds: float = WAIT) -> list[dict[str, Any]]:
        """Wait until so many mails are in the queue, all recipients in ``state``; gives them."""

        def there() -> list[list[dict[str, Any]]]:
            mails = self.queue()
            states = {one["state"] for mail in mails for one in mail["recipients"]}
            return [mails] if len(mails) == number and (not state or states <= {state}) else []

        return wait_for(there, f"{number} mails in the queue ({state or 'in any state'})", seconds)[0]

    def maildir(self, who: str = "joe") -> Path:
        """Where the mail of an account is."""
        return self.state / "mail" / self.domain / who

    def mails(self, who: str = "joe") -> list[bytes]:
        """The mails in the account's ``new``, in no order."""
        new = self.maildir(who) / "new"
        return [path.read_bytes() for path in new.iterdir()] if new.is_dir() else []

    def wait_mail(self, who: str = "joe", having: bytes = b"", seconds: float = WAIT) -> bytes:
        """Wait for a mail that holds these octets; gives it."""

        def there() -> list[bytes]:
            return [mail for mail in self.mails(who) if having in mail]

        return wait_for(there, f"a mail for {who} with {having[:60]!r}", seconds)[0]

    def events(self, name: str = "") -> list[dict[str, Any]]:
        """The lines of its event log, all or those of one event."""
        path = self.state / "log" / "mail.jsonl"
        lines = path.read_text("ascii").splitlines() if path.exists() else []
        return [event for event in map(json.loads, lines) if not name or event["event"] == name]

    def wait_event(self, name: str, seconds: float = WAIT, **fields: object) -> dict[str, Any]:
        """Wait for an event with these fields; gives it."""

        def there() -> list[dict[str, Any]]:
            return [one for one in self.events(name) if all(one.get(key) == value for key, value in fields.items())]

        return wait_for(there, f"the event {name} {fields}", seconds)[0]


_shared: dict[str, tuple[Node, ...]] = {}


def _end_shared() -> None:
    """Stop the nodes that the last class shared. :raises NodeError: one did not end with 0."""
    while _shared:
        name, nodes = _shared.popitem()
        for node in nodes:
            running = node.process is not None and node.process.code is None
            code = node.stop() if running else 0
            err = node.process.err if node.process is not None else ""
            node.close()
            if code:
                raise NodeError(f"a node of {name} ended with {code}\n{err}")


atexit.register(_end_shared)


class NodeTest(SynchronousTestCase):
    """A test that has nodes of its own, or shares some with the tests of its class."""

    timeout = 120

    def node(self, **settings: Any) -> Node:
        """A node of this test, not started; it is closed when the test ends."""
        node = Node(**settings)
        self.addCleanup(node.close)
        return node

    def shared(self, make: Callable[[], tuple[Node, ...]]) -> tuple[Node, ...]:
        """The nodes of this class: started by the first test that asks, stopped before another class has its own."""
        name = f"{type(self).__module__}.{type(self).__qualname__}"
        if name not in _shared:
            _end_shared()
            nodes = make()
            try:
                for node in nodes:
                    node.start()
            except BaseException:
                for node in nodes:
                    node.close()
                raise
            _shared[name] = nodes
        return _shared[name]
