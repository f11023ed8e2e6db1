"""What mail to a host that works pays for a large backlog to hosts that do not: latency and rate, with and without it.

``python benchmarks/fairness.py`` runs the node three times: with an empty spool; with ``--mails`` mails to a port where
nobody listens; with as many to a host that takes connections and never says a word. Each time mails come at a steady
pace, as soon as the node listens and again later, and then as fast as it takes them; all of them go to a sink on this
machine. How long each took from its acceptance to the sink's reply stands in the event log. Loopback only.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine, measure
from benchmarks.filled import Queued, fill
from benchmarks.servers import REMOTE, Node, SinkProcess
from twisted_mail_node.message.address import Address

#: Time-outs that let the silent host fail within the run.
SETTINGS = """
[queue]
connect_time = "2s"
greeting_time = "2s"

[[route]]
domain = "dead.test"
next_hop = "[127.0.0.1]:{port}"
"""


class Phase(NamedTuple):
    """What one phase came to: mails, their latencies in milliseconds, mails a second, and the node's CPU."""

    name: str
    mails: int
    p50: float
    p99: float
    longest: float
    rate: float
    cpu: float
    put_off: float


class Silent:
    """Takes connections and never says a word. The kernel takes them; nobody accepts."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port = int(self._listener.getsockname()[1])

    def stop(self) -> None:
        """Close it."""
        self._listener.close()


def backlog(mails: int) -> Iterator[Queued]:
    """Mails for the host that does not work, due now."""
    return (Queued(Address("u", "dead.test"), Address("joe", "client.test"), age=1.0) for _ in range(mails))


class Log:
    """The node's event log, read on from where we were."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def new(self) -> list[dict[str, Any]]:
        """Events since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._at)
            octets = file.read()
        whole = octets.rfind(b"\n") + 1
        self._at += whole
        return [json.loads(line) for line in octets[:whole].splitlines()]


def phase(name: str, node: Node, log: Log, sink: SinkProcess, command: list[str], seconds: float) -> Phase:
    """Bring mails with ``command`` and wait until they have arrived."""
    log.new()
    sink.begin()
    cpu, began = machine.cpu_seconds(node.pid), time.monotonic()
    done = subprocess.run(
        [sys.executable, *command, "--target", node.target, "--rcpt", REMOTE, "--seconds", str(seconds)],
        stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    accepted = found.get("load", found)["accepted"]
    machine.wait_for(lambda: sink.mails >= accepted, 60.0)
    lasted = time.monotonic() - began
    used = machine.cpu_seconds(node.pid) - cpu
    time.sleep(0.3)  # the log is written within a tenth of a second
    events = log.new()
    took = sorted(
        event["seconds"] * 1000.0
        for event in events
        if event["event"] == "recipient-relayed" and event["recipient"] == REMOTE
    ) or [float("nan")]
    put_off = sum(event["event"] == "recipient-delayed" for event in events)
    return Phase(
        name, len(took), took[len(took) // 2], took[len(took) * 99 // 100], took[-1], len(took) / lasted,
        used / lasted, put_off / lasted,
    )  # fmt: skip


def run(name: str, workdir: Path, sink: SinkProcess, port: int, mails: int, chosen: argparse.Namespace) -> list[Phase]:
    """One node: its phases."""
    workdir.mkdir()
    node = Node(workdir, 1, SETTINGS.format(port=port))
    node.sink_port = sink.port
    state = workdir / "node"
    if mails:
        state.mkdir()
        fill(state / "spool", backlog(mails), 2048)
    measure.settle()
    here = Path(__file__).parent
    size = ["--size", "10240", "--mails", "1000000"]
    paced = [str(here / "pace.py"), "--rate", str(chosen.rate), "--sessions", "20", *size]
    fast = [str(here / "load.py"), "--sessions", "50", *size]
    node.start()
    try:
        log = Log(state / "log" / "mail.jsonl")
        found = [phase(f"{name}: at the start, {chosen.rate:g}/s", node, log, sink, paced, chosen.secs)]
        time.sleep(chosen.later)
        found.append(phase(f"{name}: {chosen.later:g} s later", node, log, sink, paced, chosen.secs))
        found.append(phase(f"{name}: as fast as it goes", node, log, sink, fast, chosen.secs))
    finally:
        node.stop()
    return found


def main() -> None:
    """Read the command line, measure, print."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--mails", type=int, default=100_000, help="the backlog (%(default)s)")
    options.add_argument("--rate", type=float, default=100.0, help="mails a second of the steady pace (%(default)s)")
    options.add_argument("--secs", type=float, default=10.0, help="seconds of a phase (%(default)s)")
    options.add_argument("--later", type=float, default=30.0, help="seconds between the first phases (%(default)s)")
    options.add_argument("--workdir", type=Path, help="work below this directory, and keep what lies there")
    chosen = options.parse_args()
    silent = Silent()
    with measure.Workdir(chosen.workdir) as workdir:
        sink = SinkProcess(own=True)
        try:
            found = run("no backlog", workdir / "none", sink, machine.free_port(), 0, chosen)
            found += run("nobody listens", workdir / "dead", sink, machine.free_port(), chosen.mails, chosen)
            found += run("silent host", workdir / "silent", sink, silent.port, chosen.mails, chosen)
        finally:
            sink.stop()
            silent.stop()
    print(f"backlog of {chosen.mails} mails; {os.cpu_count()} cores")
    print(f"{'':44} {'mails':>6} {'p50 ms':>7} {'p99 ms':>7} {'max ms':>7} {'mails/s':>8} {'CPU':>5} {'put off/s':>9}")
    for one in found:
        print(
            f"{one.name:44} {one.mails:6} {one.p50:7.1f} {one.p99:7.1f} {one.longest:7.1f} {one.rate:8.0f}"
            f" {one.cpu:5.2f} {one.put_off:9.0f}"
        )


if __name__ == "__main__":
    main()
