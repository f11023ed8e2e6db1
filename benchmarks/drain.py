"""How a queue empties: many mails to one host, to a thousand hosts at once, and to a host that is far away.

``python benchmarks/drain.py`` fills the spool of a node that does not run, starts it, and looks how long it takes until
our sink has everything. Loopback only; ``benchmarks/README.rst`` says how to read the figures.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine, measure
from benchmarks.filled import Queued, fill
from benchmarks.servers import Node, SinkProcess
from benchmarks.sink import place_of
from twisted_mail_node.message.address import Address

#: Seconds until a run that does not end is given up.
LONGEST = 300.0
#: Connections to a far host, and its distance there and back in seconds.
CONNECTIONS, LATENCY = 20, 0.05


class Row(NamedTuple):
    """A line of the table."""

    part: str
    mails: int
    seconds: float
    rate: float
    cpu: float
    memory: float
    connections: int
    words: str


class Drained(Node):
    """A node whose spool has mail before it starts."""

    def fill(self, mails: Iterator[Queued], size: int) -> int:
        """Put mail there; gives how many."""
        self._state.mkdir(exist_ok=True)
        return fill(self._state / "spool", mails, size)


def one_run(
    workdir: Path,
    part: str,
    mails: Callable[[], Iterator[Queued]],
    sink: SinkProcess,
    size: int,
    extra: str,
    words: str,
) -> Row:
    """Fill, start, wait."""
    node = Drained(workdir, 1, extra)
    node.sink_port = sink.port
    count = node.fill(mails(), size)
    sink.begin()
    began = time.monotonic()
    node.start()
    try:
        started = time.monotonic()
        first = machine.wait_for(lambda: sink.mails > 0, LONGEST)
        if first is None or machine.wait_for(lambda: sink.mails >= count, LONGEST) is None:
            raise SystemExit(f"{part}: {sink.mails} of {count} mails arrived within {LONGEST:.0f} s")
        seconds = time.monotonic() - started
        cpu, memory = machine.cpu_seconds(node.pid), machine.pss(node.pid) / 2**20
    finally:
        node.stop()
    print(f"{part}: {count} mails, {seconds:.1f} s ({started - began:.1f} s to start)", file=sys.stderr)
    return Row(part, count, seconds, count / seconds, 1000.0 * cpu / count, memory, sink.sessions, words)


def to_one(count: int) -> Iterator[Queued]:
    """All for one host, due at different times before now, as after an outage."""
    return (Queued(Address("u", "remote.test"), age=3600.0, due=-1.0 - number / count) for number in range(count))


def to_many(count: int, hosts: int) -> Iterator[Queued]:
    """The same for many hosts, by turns."""
    return (
        Queued(Address("u", f"host{number % hosts}.test"), age=3600.0, due=-1.0 - number / count)
        for number in range(count)
    )


def routes_to(hosts: int, port: int) -> str:
    """A route to each of many hosts."""
    return "".join(
        f'[[route]]\ndomain = "host{number}.test"\nnext_hop = "[{place_of(number)}]:{port}"\n'
        for number in range(hosts)
    )


def main() -> None:
    """Read the command line, measure, print."""
    options = argparse.ArgumentParser(description="Measures how a queue empties, on this machine only.")
    options.add_argument("--mails", type=int, default=100_000, help="mails in the queue (%(default)s)")
    options.add_argument("--hosts", type=int, default=1000, help="hosts of the second part (%(default)s)")
    options.add_argument("--far", type=int, default=6000, help="mails of the third part (%(default)s)")
    options.add_argument("--size", type=int, default=10_240, help="octets of a mail (%(default)s)")
    options.add_argument("--parts", default="one,many,far", help="which of one, many, far (%(default)s)")
    options.add_argument("--workdir", type=Path, default=None, help="where to work; what lies there is kept")
    chosen = options.parse_args()
    rows = []
    with measure.Workdir(chosen.workdir) as workdir:
        for part in chosen.parts.split(","):
            place = workdir / part
            place.mkdir()
            if part == "one":
                sink, extra, words = SinkProcess(own=True), "", "one host"
                mails: Callable[[], Iterator[Queued]] = lambda: to_one(chosen.mails)  # noqa: E731
            elif part == "many":
                sink = SinkProcess(places=chosen.hosts)
                extra, words = routes_to(chosen.hosts, sink.port), f"{chosen.hosts} hosts"
                mails = lambda: to_many(chosen.mails, chosen.hosts)  # noqa: E731
            elif part == "far":
                sink = SinkProcess(latency=LATENCY)
                extra = f"[queue]\nconnections_per_destination = {CONNECTIONS}\nmails_per_connection = 1000\n"
                most = CONNECTIONS / LATENCY
                words = f"{LATENCY * 1000:.0f} ms away: at most {most:.0f}/s over {CONNECTIONS} connections"
                mails = lambda: to_one(chosen.far)  # noqa: E731
            else:
                options.error(f"there is no part {part!r}")
            try:
                rows.append(one_run(place, part, mails, sink, chosen.size, extra, words))
            finally:
                sink.stop()
            shutil.rmtree(place / "node" / "spool", ignore_errors=True)
    table: list[list[str]] = [["part", "mails", "seconds", "mails/s", "CPU ms", "MiB", "connections", "to"]]
    for row in rows:
        numbers = [f"{row.mails}", f"{row.seconds:.1f}", f"{row.rate:.0f}", f"{row.cpu:.2f}", f"{row.memory:.0f}"]
        table.append([row.part, *numbers, f"{row.connections}", row.words])
    measure.print_table(table)


if __name__ == "__main__":
    main()
