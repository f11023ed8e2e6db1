"""How fast mail comes in: from SMTP sessions on this machine into a Maildir.

``python benchmarks/receive.py`` measures the node; ``--peer postfix`` measures Debian's Postfix in the same run, turn
by turn, and prints the ratio. ``--checks`` brings signed mail and lets the node check it (SPF, DKIM, DMARC, ARC), and
Postfix with OpenDKIM. Loopback only; ``benchmarks/README.rst`` says how to read the figures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import checks, measure
from benchmarks.load import loopback
from benchmarks.measure import Point, Result
from benchmarks.opendkim import PostfixOpendkim
from benchmarks.servers import LOCAL, Node, Server

POINTS = "10240:50:kept,10240:50:new,102400:50:new,1048576:10:new"
PEERS = ["postfix", "postfix+opendkim"]


def one_run(server: Server, point: Point, chosen: argparse.Namespace, checked: checks.Checked | None = None) -> Result:
    """Two short runs to learn the rate, then the one that counts, into a new Maildir."""
    how: dict[str, Any] = {"smtp_source": chosen.generator == "smtp-source", "pipelining": chosen.pipelining}
    if checked is not None:
        how["letters"] = checked.letters(point.size)
    mails = 2 * point.sessions
    for share in (4, 1):
        server.fresh_maildir()
        trial = measure.run(server, point, mails, chosen.rcpt, arrivals(server), **how)
        mails = measure.mails_for(trial.arrived or trial.accepted, point, chosen.secs / share, chosen.max)
    server.fresh_maildir()
    measure.settle()
    result = measure.run(server, point, mails, chosen.rcpt, arrivals(server), **how)
    if checked is not None and server.name != "postfix":
        checks.prove(server)
    return result


def arrivals(server: Server) -> Callable[[], int] | None:
    """Counts the mails that arrive from now on; ``None`` when the Maildir is not known."""
    if server.maildir is None:
        return None
    base = server.delivered()
    return lambda: server.delivered() - base


def servers_of(chosen: argparse.Namespace, workdir: Path, checked: checks.Checked | None) -> list[Server]:
    """Who is measured."""
    if chosen.target:
        target = Server(workdir, loopback(chosen.target)[1], chosen.pid, chosen.maildir)
        target.host = loopback(chosen.target)[0]
        return [target]
    extra = chosen.settings.read_text() if chosen.settings else ""
    names = checked.names.port if checked else 0
    others = measure.peers([name for name in chosen.peer if name == "postfix"], workdir)
    if "postfix+opendkim" in chosen.peer:
        others.append(PostfixOpendkim(workdir, names))
    return [Node(workdir, chosen.workers, extra, names=names), *others]


def main() -> None:
    """Read the command line, measure, print."""
    options = measure.common_options("Measures how fast mail comes in, on this machine only.", POINTS, PEERS)
    options.add_argument("--checks", action="store_true", help="signed mail, whose senders are checked")
    options.add_argument("--maildir", type=Path, help="with --target: where its mail for --rcpt arrives")
    options.add_argument("--rcpt", default=LOCAL, help="with --target: the recipient (%(default)s)")
    chosen = options.parse_args()
    points = measure.parsed_points(options, chosen)
    with measure.Workdir(chosen.workdir) as workdir:
        checked = checks.Checked(workdir, chosen.rcpt) if chosen.checks or "postfix+opendkim" in chosen.peer else None
        try:
            found = measure.in_turns(
                servers_of(chosen, workdir, checked),
                points,
                chosen.reps,
                lambda server, point: one_run(server, point, chosen, checked),
            )
        finally:
            if checked is not None:
                checked.stop()
    measure.print_results(found, "in Maildir/s")
    measure.print_ratios(found, "in Maildir")


if __name__ == "__main__":
    main()
