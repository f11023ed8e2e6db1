"""How fast senders are checked and mail is signed: DKIM beside dkimpy, SPF beside pyspf, and the rest by itself.

``python benchmarks/mailauth.py`` prints one table. No network and no reactor: the DNS is a dictionary for everyone. Who
is compared takes turns, and each says the same of each mail before anything is measured; medians are printed.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.measure import print_table

#: Seconds one turn takes at least; a row takes two turns for each repetition.
TURN = 0.2
#: Each is a module ``mailauth_…`` with a function ``rows``.
PARTS = ("dkim", "spf", "rest")

Work = Callable[[], object]


class Row(NamedTuple):
    """One thing that is done, by us and perhaps by another.

    :ivar ours: does it once. :ivar other: does it once, or ``None`` where nobody is compared.
    :ivar wanted: how many times as fast as the other we mean to be.
    """

    what: str
    ours: Work
    other: Work | None = None
    wanted: float = 0.0


class Took(NamedTuple):
    """Seconds for one time, medians of the turns; 0 for nobody."""

    ours: float
    other: float


def per_call(work: Work, seconds: float) -> float:
    """CPU seconds of one call: calls until ``seconds`` are over, at least one."""
    calls, end = 0, time.perf_counter() + seconds
    started = time.process_time()
    while not calls or time.perf_counter() < end:
        work()
        calls += 1
    return (time.process_time() - started) / calls


def measured(row: Row, reps: int, seconds: float) -> Took:
    """Turn by turn, so that a slow moment of the machine hits both."""
    ours: list[float] = []
    other: list[float] = []
    for number in range(reps + 1):
        found = per_call(row.ours, seconds)
        beside = per_call(row.other, seconds) if row.other else 0.0
        if number:  # the first turn fills caches
            ours.append(found)
            other.append(beside)
    return Took(statistics.median(ours), statistics.median(other))


def print_found(found: Sequence[tuple[Row, Took]], peer: dict[str, str]) -> None:
    """The table. :param peer: who is compared, by the first word of what is done."""
    rows = [["what", "beside", "ours µs", "theirs µs", "ours/s", "times as fast", "wanted"]]
    for row, took in found:
        beside = peer.get(row.what.split()[0], "") if row.other else ""
        ratio = f"{took.other / took.ours:.1f}" if row.other else "-"
        theirs = f"{took.other * 1e6:.0f}" if row.other else "-"
        wanted = f"{row.wanted:g}" if row.wanted else "-"
        rows.append([row.what, beside, f"{took.ours * 1e6:.0f}", theirs, f"{1 / took.ours:.0f}", ratio, wanted])
    print_table(rows)


def main() -> None:
    """Read the command line, measure, print."""
    options = argparse.ArgumentParser(description="Measures how fast senders are checked and mail is signed.")
    options.add_argument("--parts", default=",".join(PARTS), help="which, with commas (%(default)s)")
    options.add_argument("--reps", type=int, default=5, help="turns that count; medians are printed (%(default)s)")
    options.add_argument("--secs", type=float, default=TURN, help="seconds of a turn (%(default)s)")
    options.add_argument("--only", default="", help="rows that have this in their name")
    chosen = options.parse_args()
    unknown = set(chosen.parts.split(",")) - set(PARTS)
    if unknown:
        options.error(f"there is no part {', '.join(sorted(unknown))}")
    found = []
    for part in chosen.parts.split(","):
        for row in importlib.import_module(f"benchmarks.mailauth_{part}").rows():
            if chosen.only in row.what:
                found.append((row, measured(row, chosen.reps, chosen.secs)))
                print(row.what, file=sys.stderr, flush=True)
    print_found(found, {"DKIM": "dkimpy", "ARC": "dkimpy", "SPF": "pyspf"})


if __name__ == "__main__":
    main()
