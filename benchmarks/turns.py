"""How long the node's reactor is held up: turns while one session brings 50 MiB, and others bring small mails.

``python benchmarks/turns.py`` starts the node with a reactor that looks at the clock before and after each wait for
something to happen. What lies between two waits is a turn: all that was read, decided, hashed and written then, and
what was due. Nobody else is served meanwhile. ``--stacks`` prints where the node was in turns that lasted long.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from array import array
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import checks, measure
from benchmarks.load import Load
from benchmarks.mails import mail_of
from benchmarks.servers import LOCAL, Node, NotAvailable
from benchmarks.signing import signature

#: Seconds no turn should last.
WANTED = 0.050
#: Sessions that bring small mails meanwhile, and octets of such a mail.
BESIDE = 5
SMALL = 10_240
RUNS = (
    "nothing,prose relaxed/relaxed,prose simple/simple,base64 relaxed/relaxed,base64 simple/simple,"
    "spaces relaxed/relaxed,empty relaxed/relaxed"
)


class TimedNode(Node):
    """The node under a reactor that keeps the lengths of its turns.

    :param stacks: look where it is when a turn lasts long.
    """

    def __init__(self, workdir: Path, names: int, stacks: bool, extra: str) -> None:
        super().__init__(workdir, extra=extra, names=names)
        self._turns = workdir / "turns"
        self._how = ["--stacks"] if stacks else []

    def _spawn(self, command: list[str], log: Path) -> None:
        timed = str(Path(__file__).with_name("turns_node.py"))
        super()._spawn([sys.executable, timed, str(self._turns), *self._how, *command[1:]], log)

    def turns(self, since: float, until: float) -> list[tuple[float, float]]:
        """Length and CPU time of those that began then; it has to have ended."""
        found = array("d")
        with self._turns.open("rb") as file:
            found.frombytes(file.read())
        each = zip(found[::3], found[1::3], found[2::3], strict=True)
        return [(length, cpu) for began, length, cpu in each if since <= began < until]


class Found(NamedTuple):
    """What a run came to. Times in seconds."""

    what: str
    turns: list[tuple[float, float]]
    large: Load | None
    small: Load


def one_run(place: Path, checked: checks.Checked, what: str, chosen: argparse.Namespace) -> Found:
    """A new node; large mails one after the other, and small ones beside them, for so many seconds."""
    place.mkdir()
    large = place / "large"
    if what != "nothing":
        kind, how = what.split()
        domain = checked.domains[0]
        mail = mail_of(chosen.size, domain.name, kind=kind)
        large.mkdir()
        (large / f"bounces@{domain.name}.0").write_bytes(signature(mail, domain, canonicalization=how) + mail)
    node = TimedNode(place, checked.names.port, chosen.stacks, chosen.settings.read_text() if chosen.settings else "")
    node.start()
    processes = []
    try:
        since = time.monotonic()
        processes.append(bring(node, checked.letters(SMALL), BESIDE, 10_000_000, chosen.secs))
        if what != "nothing":
            processes.append(bring(node, large, 1, chosen.times, chosen.secs))
        loads: list[Load] = [json.loads(one.communicate(timeout=chosen.secs + 60)[0]) for one in processes]
        until = time.monotonic()
        time.sleep(1)  # what was accepted last is delivered
        if not chosen.unchecked:
            prove(node, chosen.size if what != "nothing" else 0)
    finally:
        for one in processes:
            one.kill()
        node.stop()
    if chosen.stacks:
        print(f"{what}:\n{(place / 'node.log').read_text(errors='replace')}", file=sys.stderr)
    return Found(what, node.turns(since, until), loads[1] if len(loads) > 1 else None, loads[0])


def bring(node: Node, letters: Path, sessions: int, mails: int, seconds: float) -> subprocess.Popen[bytes]:
    """``load.py`` in its own process."""
    command = [sys.executable, str(Path(__file__).with_name("load.py")), "--target", node.target, "--rcpt", LOCAL]
    command += ["--letters", str(letters), "--sessions", str(sessions), "--mails", str(mails)]
    return subprocess.Popen([*command, "--seconds", str(seconds)], stdout=subprocess.PIPE)


def prove(node: Node, size: int) -> None:
    """Each large mail and many of the small ones were checked. :raises NotAvailable: one was not."""
    checks.prove(node)
    assert node.maildir is not None
    large = [path for path in (node.maildir / "new").iterdir() if size and path.stat().st_size > size // 2]
    for path in large:
        with path.open("rb") as file:
            missing = checks.lacking(file.read(65536), checks.methods_of(node))
        if missing:
            raise NotAvailable(f"no figure: a large mail was delivered without {', '.join(missing)}")
    if size and not large:
        raise NotAvailable("no figure: no large mail was delivered in time")


def print_found(found: list[Found]) -> None:
    """The table."""
    rows = [["beside small mails", "turns", "longest ms", "its CPU ms", "most CPU ms", "p99.9 ms"]]
    rows[0] += ["over 50 ms", "by CPU", "large", "s each", "small/s", "p99 ms", "longest ms"]
    for one in found:
        lengths = sorted(length for length, _ in one.turns)
        longest, cpu = max(one.turns, default=(0.0, 0.0))
        large = one.large
        row = [one.what, str(len(lengths)), f"{longest * 1e3:.1f}", f"{cpu * 1e3:.1f}"]
        row += [f"{max((spent for _, spent in one.turns), default=0.0) * 1e3:.1f}"]
        row += [f"{lengths[len(lengths) * 999 // 1000] * 1e3:.1f}" if lengths else "-"]
        row += [str(sum(length > WANTED for length in lengths)), str(sum(spent > WANTED for _, spent in one.turns))]
        row += [str(large["accepted"]) if large else "-"]
        row += [
            f"{(large['ended'] - large['started']) / large['accepted']:.1f}" if large and large["accepted"] else "-"
        ]
        small = one.small
        row += [f"{small['accepted'] / (small['ended'] - small['started']):.0f}"]
        rows.append([*row, f"{small['p99'] * 1e3:.1f}", f"{small['longest'] * 1e3:.1f}"])
    measure.print_table(rows)
    for one in found:
        for load in (one.small, one.large):
            if load and load["words"]:
                print(f"{one.what}: {load['words']}")


def main() -> None:
    """Read the command line, measure, print."""
    options = argparse.ArgumentParser(description="Measures the turns of the node's reactor beside large mails.")
    options.add_argument("--runs", default=RUNS, help="large mails beside small ones, with commas (%(default)s)")
    options.add_argument("--size", type=int, default=50 << 20, help="octets of a large mail (%(default)s)")
    options.add_argument("--times", type=int, default=5, help="large mails of a run at most (%(default)s)")
    options.add_argument("--secs", type=float, default=15, help="seconds of a run (%(default)s)")
    options.add_argument("--settings", type=Path, help="a file with more settings for the node")
    options.add_argument("--stacks", action="store_true", help="look where it is in turns that last long")
    options.add_argument("--unchecked", action="store_true", help="a node that does not check, too")
    options.add_argument("--workdir", type=Path, help="work below it and keep what is there")
    chosen = options.parse_args()
    found = []
    with measure.Workdir(chosen.workdir) as workdir:
        checked = checks.Checked(workdir, LOCAL)
        try:
            for number, what in enumerate(chosen.runs.split(",")):
                found.append(one_run(workdir / str(number), checked, what, chosen))
                print(what, file=sys.stderr, flush=True)
        except NotAvailable as reason:
            raise SystemExit(str(reason)) from None
        finally:
            checked.stop()
    print_found(found)


if __name__ == "__main__":
    main()
