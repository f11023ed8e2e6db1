"""One measurement: bring so many mails to a server, wait until they have arrived, and say what it took."""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine
from benchmarks.load import Load, loopback
from benchmarks.servers import NotAvailable, Postfix, Server

#: Seconds the generator may take for one point, and the mails may take to arrive after that.
LOAD_TIME = 90.0
DRAIN_TIME = 60.0
#: No more arrivals for so long: the rest is not coming.
STUCK_TIME = 15.0
#: Seconds to make a file above which ext4 is looking for inodes that were not deleted just now; 20 µs are usual.
SLOW_CREATE = 100e-6
#: Octets of one point in all, so that the disk is not filled.
OCTETS_MAX = 1_500_000_000


@dataclass(frozen=True)
class Point:
    """What is brought: octets of a mail, parallel sessions, and whether a connection is kept for many mails.

    :ivar tls: ``starttls``, ``implicit``, or ``""`` for none. :ivar resumed: earlier TLS sessions are resumed.
    """

    size: int
    sessions: int
    kept: bool
    tls: str = ""
    resumed: bool = False

    @classmethod
    def parse(cls, text: str) -> Point:
        """From ``10240:50:kept`` or ``10240:50:new``, with TLS ``10240:50:new:starttls`` or ``:implicit``, and perhaps
        ``:resumed`` behind it. :raises ValueError: it is none of them."""
        size, sessions, mode, *tls = text.split(":")
        if mode not in ("kept", "new"):
            raise ValueError(f"{mode!r} is neither kept nor new")
        if tls[:1] not in ([], ["starttls"], ["implicit"]) or tls[1:] not in ([], ["resumed"]):
            raise ValueError(f"{':'.join(tls)!r} is not starttls or implicit, and perhaps resumed")
        return cls(int(size), int(sessions), mode == "kept", "".join(tls[:1]), len(tls) == 2)

    def __str__(self) -> str:
        size = f"{self.size >> 20} MiB" if self.size >= 1 << 20 else f"{self.size / 1024:g} KiB"
        tls = f", {self.tls}" if self.tls else ""
        return f"{size}, {self.sessions} sessions, {'kept' if self.kept else 'new'}{tls}{' resumed' * self.resumed}"


@dataclass(frozen=True)
class Result:
    """What a run came to: rates in mails a second, CPU in milliseconds a mail, times in milliseconds, memory in MiB."""

    server: str
    point: Point
    mails: int
    accepted: float
    arrived: float
    cpu: float
    generator: float
    p50: float
    p99: float
    memory: float
    missing: int
    connections: int = 0
    resumed: int = 0
    words: str = ""


def generate(
    server: Server,
    point: Point,
    mails: int,
    rcpt: str,
    *,
    smtp_source: bool = False,
    pipelining: bool = False,
    letters: Path | None = None,
) -> Load:
    """Bring ``mails`` mails, in a process of its own.

    :param letters: a directory of mails to bring by turns.
    """
    if smtp_source and letters:
        raise NotAvailable("smtp-source brings one mail only; take the own generator")
    if smtp_source and point.tls:
        raise NotAvailable("smtp-source knows no TLS; take the own generator")
    if smtp_source:
        return _smtp_source(server, point, mails, rcpt)
    command = [
        sys.executable,
        str(Path(__file__).with_name("load_tls.py" if point.tls else "load.py")),
        *("--target", server.implicit if point.tls == "implicit" else server.target, "--rcpt", rcpt),
        *("--size", str(point.size), "--sessions", str(point.sessions)),
        *("--mails", str(mails), "--seconds", str(LOAD_TIME)),
        *([] if point.kept else ["--new"]),
        *(["--pipelining"] if pipelining else []),
        *(["--implicit"] if point.tls == "implicit" else []),
        *(["--resume"] if point.resumed else []),
        *(["--letters", str(letters)] if letters else []),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=LOAD_TIME + 30, check=True)
    load: Load = json.loads(done.stdout)
    return load


def _smtp_source(server: Server, point: Point, mails: int, rcpt: str) -> Load:
    found = shutil.which("smtp-source", path="/usr/sbin:/usr/bin")
    if found is None:
        raise NotAvailable("smtp-source is not installed (it comes with Postfix)")
    command = [found, *(["-d"] if point.kept else []), "-s", str(min(point.sessions, mails)), "-m", str(mails)]
    command += ["-l", str(point.size), "-f", "joe@client.test", "-t", rcpt, server.target]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, timeout=LOAD_TIME)
        words = done.stderr.decode(errors="replace").strip()[-160:] if done.returncode else ""
    except subprocess.TimeoutExpired:
        words = "smtp-source did not end in time"
    ended = time.monotonic()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Load(
        accepted=0 if words else mails,
        refused=0,
        lost=mails if words else 0,
        started=started,
        ended=ended,
        cpu=cpu,
        p50=0.0,
        p99=0.0,
        longest=0.0,
        words=words,
        resumed=0,
    )


def run(
    server: Server,
    point: Point,
    mails: int,
    rcpt: str,
    arrived: Callable[[], int] | None,
    *,
    smtp_source: bool = False,
    pipelining: bool = False,
    letters: Path | None = None,
) -> Result:
    """Bring ``mails`` mails and wait for them.

    :param arrived: how many of them are at their end; ``None`` when that cannot be seen.
    """
    cpu = sum(map(machine.cpu_seconds, server.pids))
    load = generate(server, point, mails, rcpt, smtp_source=smtp_source, pipelining=pipelining, letters=letters)
    seconds = max(load["ended"] - load["started"], 1e-6)
    missing, rate = 0, 0.0
    if arrived is not None:
        count, moved = arrived(), time.monotonic()
        end = moved + DRAIN_TIME
        while count < load["accepted"] and time.monotonic() < end and time.monotonic() - moved < STUCK_TIME:
            time.sleep(0.02)
            if (now := arrived()) != count:
                count, moved = now, time.monotonic()
        missing = max(load["accepted"] - count, 0)
        rate = count / max(moved - load["started"], seconds)
        time.sleep(0.3)  # what a server still does after the last delivery belongs to the mails, too
    spent = sum(map(machine.cpu_seconds, server.pids)) - cpu
    done = max(load["accepted"], 1)
    return Result(
        server=server.name,
        point=point,
        mails=mails,
        accepted=load["accepted"] / seconds,
        arrived=rate,
        cpu=spent / done * 1e3,
        generator=load["cpu"] / done * 1e3,
        p50=load["p50"] * 1e3,
        p99=load["p99"] * 1e3,
        memory=sum(map(machine.pss, server.pids)) / 2**20,
        missing=missing + load["refused"] + load["lost"],
        resumed=load["resumed"],
        words=load["words"],
    )


def mails_for(rate: float, point: Point, seconds: float, most: int) -> int:
    """How many mails take about ``seconds`` at ``rate``, within what a point may take."""
    return int(max(point.sessions, min(rate * seconds, most, OCTETS_MAX / point.size)))


def medians(results: Sequence[Result]) -> list[Result]:
    """One result for each server and point, each figure the median of its runs."""
    groups: dict[tuple[str, Point], list[Result]] = {}
    for result in results:
        groups.setdefault((result.server, result.point), []).append(result)
    fields = ("accepted", "arrived", "cpu", "generator", "p50", "p99", "memory")
    found = []
    for (server, point), group in groups.items():
        middle = {field: statistics.median(getattr(one, field) for one in group) for field in fields}
        counts = {field: sum(getattr(one, field) for one in group) for field in ("mails", "missing", "resumed")}
        connections = int(statistics.median(one.connections for one in group))
        words = next((one.words for one in group if one.words), "")
        found.append(Result(server, point, **middle, **counts, connections=connections, words=words))
    return found


def print_results(results: Sequence[Result], end: str, connections: bool = False) -> None:
    """The table. :param end: what the column of arrivals is called."""
    head = ["server", "point", "mails", "accepted/s", end, "CPU ms", "gen. ms", "p50 ms", "p99 ms", "MiB", "missing"]
    resumed = any(one.point.resumed for one in results)
    head += ["resumed"] * resumed + ["connections"] * connections
    rows = [head]
    for one in results:
        row = [one.server, str(one.point), str(one.mails), _rate(one.accepted), _rate(one.arrived)]
        row += [f"{value:.2f}" if value else "-" for value in (one.cpu, one.generator, one.p50, one.p99)]
        row += [f"{one.memory:.0f}" if one.memory else "-", str(one.missing)]
        rows.append(row + [str(one.resumed)] * resumed + [str(one.connections)] * connections)
    print_table(rows)
    for one in results:
        if one.words:
            print(f"{one.server}, {one.point}: {one.words}")


def _rate(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value else "-"


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Rows under each other; the first is the head, words stand left and figures right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        pairs = enumerate(zip(row, widths, strict=True))
        cells = [cell.ljust(width) if at < 2 else cell.rjust(width) for at, (cell, width) in pairs]
        print("  ".join(cells).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))
    sys.stdout.flush()


def print_ratios(results: Sequence[Result], end: str) -> None:
    """How often the node's rate is the other's, and its CPU time the other's, point by point."""
    node = {one.point: one for one in results if one.server == "node"}
    rows = [["against", "point", "accepted", end, "CPU"]]
    for one in results:
        ours = node.get(one.point)
        if one.server != "node" and ours is not None:
            pairs = ((ours.accepted, one.accepted), (ours.arrived, one.arrived), (ours.cpu, one.cpu))
            rows.append([one.server, str(one.point), *(f"x {a / b:.2f}" if a and b else "-" for a, b in pairs)])
    if len(rows) > 1:
        print("\nThe node against the others (rates: more is better; CPU a mail: less is better)")
        print_table(rows)


def common_options(description: str, points: str, peers: Sequence[str] = ("postfix",)) -> argparse.ArgumentParser:
    """The options that receive.py and relay.py share."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--points", default=points, help="octets:sessions:kept|new, with commas (%(default)s)")
    options.add_argument("--reps", type=int, default=3, help="runs of each point; medians are printed (%(default)s)")
    options.add_argument("--secs", type=float, default=5, help="seconds a run is meant to take (%(default)s)")
    options.add_argument("--max", type=int, default=40000, help="mails of one run at most (%(default)s)")
    options.add_argument("--peer", action="append", choices=peers, default=[], help="measure this one, too")
    options.add_argument("--target", help="host:port of a server that runs already, instead of starting the node")
    options.add_argument("--pid", type=int, default=0, help="with --target: its first process, for CPU and memory")
    options.add_argument("--workers", type=int, default=1, help="the node's processes (%(default)s)")
    options.add_argument("--settings", type=Path, help="a file with more settings for the node")
    options.add_argument("--generator", choices=["own", "smtp-source"], default="own", help="who brings the mail")
    options.add_argument("--pipelining", action="store_true", help="MAIL, RCPT and DATA together (own generator)")
    options.add_argument(
        "--workdir", type=Path, help="work below it and keep what is there (default: /var/tmp, removed at the end)"
    )
    return options


def parsed_points(options: argparse.ArgumentParser, chosen: argparse.Namespace) -> list[Point]:
    """The points asked for; ends with a sentence when one is wrong, or the target is not on this machine."""
    try:
        if chosen.target:
            loopback(chosen.target)
        return [Point.parse(text) for text in chosen.points.split(",")]
    except ValueError as error:
        options.error(str(error))


class Workdir:
    """A new directory to work in. Below the one that was named it is kept; otherwise it is removed at the end."""

    def __init__(self, named: Path | None) -> None:
        self._keep = named is not None
        self.path = machine.new_workdir(named)

    def __enter__(self) -> Path:
        create = machine.create_time(self.path / "probe")
        if create > SLOW_CREATE:
            print(
                f"Making a file takes {create * 1e6:.0f} µs here. Many files were deleted in the last minutes, or the"
                " disk is busy: these figures will be too low. See Traps in benchmarks/README.rst.",
                file=sys.stderr,
            )
        return self.path

    def __exit__(self, *_: object) -> None:
        if not self._keep:
            shutil.rmtree(self.path, ignore_errors=True)


def started(servers: Sequence[Server]) -> list[Server]:
    """Start them all; says why for each that cannot be measured here. :raises SystemExit: none of them runs."""
    running = []
    for server in servers:
        try:
            server.start()
        except NotAvailable as reason:
            print(f"{server.name} is left out: {reason}", file=sys.stderr)
        else:
            running.append(server)
    if not running:
        raise SystemExit("nothing to measure")
    return running


def peers(names: Sequence[str], workdir: Path) -> list[Server]:
    """The other servers asked for."""
    return [Postfix(workdir) for _ in dict.fromkeys(names)]


def in_turns(
    servers: Sequence[Server], points: Sequence[Point], reps: int, one_run: Callable[[Server, Point], Result]
) -> list[Result]:
    """The medians of ``reps`` runs. Servers and points take turns, so that a slow minute of the machine hits all."""
    results: list[Result] = []
    running: list[Server] = []
    try:
        running = started(servers)
        for number in range(1, reps + 1):
            for point in points:
                for server in running:
                    results.append(one_run(server, point))
                    rate = results[-1].arrived or results[-1].accepted
                    print(f"run {number}: {server.name}, {point}: {rate:.0f}/s", file=sys.stderr, flush=True)
    except NotAvailable as reason:
        raise SystemExit(str(reason)) from None
    finally:
        for server in running:
            server.stop()
    return sorted(medians(results), key=lambda one: points.index(one.point))


def settle() -> None:
    """Let the disk finish what was written before."""
    os.sync()
    time.sleep(0.2)
