"""What the machine says of a server: CPU time and memory of its processes, files in a Maildir, free ports."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """The process ``root`` and all its descendants that live now."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat(int(name))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(name))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def _stat(pid: int) -> list[str]:
    """Fields of /proc/<pid>/stat from the state on; empty when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def cpu_seconds(root: int) -> float:
    """CPU time of the process tree, with children that ended and were waited for."""
    ticks = 0
    for pid in tree(root):
        fields = _stat(pid)
        if fields:
            ticks += sum(map(int, fields[11:15]))
    return ticks / _TICK


def pss(root: int) -> int:
    """Memory of the process tree in octets: private pages and its share of the shared ones."""
    kib = 0
    for pid in tree(root):
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    kib += int(line.split()[1])
        except OSError:
            continue
    return kib * 1024


def files_in(directory: Path) -> int:
    """How many files lie there; 0 when there is no such directory."""
    try:
        return len(os.listdir(directory))
    except FileNotFoundError:
        return 0


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def wait_for(done: Callable[[], bool], seconds: float, step: float = 0.05) -> float | None:
    """Ask until it is done: the moment on the monotonic clock, or ``None`` when the time is up."""
    end = time.monotonic() + seconds
    while True:
        if done():
            return time.monotonic()
        if time.monotonic() > end:
            return None
        time.sleep(step)


def greets(port: int) -> bool:
    """True when a server says 220 at 127.0.0.1."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as sock:
            return sock.recv(512).startswith(b"220")
    except OSError:
        return False


def new_workdir(below: Path | None = None) -> Path:
    """A directory of our own, by default on a real disk, which users of other servers may pass through."""
    if below is not None:
        below.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix="mailnode-bench-", dir=below or "/var/tmp")).resolve()
    path.chmod(0o755)
    return path


def create_time(directory: Path, files: int = 500) -> float:
    """Seconds it takes to make one file in a new ``directory``. The files stay: see the trap in servers.py."""
    directory.mkdir()
    started = time.monotonic()
    for number in range(files):
        (directory / str(number)).touch()
    return (time.monotonic() - started) / files
