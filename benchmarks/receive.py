"""How fast mail comes in: from SMTP sessions on this machine into a Maildir.

``python benchmarks/receive.py`` measures the node; ``--peer postfix`` measures Debian's Postfix in the same run, turn
by turn, and prints the ratio. Loopback only; ``benchmarks/README.rst`` says how to read the figures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import measure
from benchmarks.load import loopback
from benchmarks.measure import Point, Result
from benchmarks.servers import LOCAL, Node, Server

POINTS = "10240:50:kept,10240:50:new,102400:50:new,1048576:10:new"


def one_run(server: Server, point: Point, chosen: argparse.Namespace) -> Result:
    """Two short runs to learn the rate, then the one that counts, into a new Maildir."""
    how = {"smtp_source": chosen.generator == "smtp-source", "pipelining": chosen.pipelining}
    mails = 2 * point.sessions
    for share in (4, 1):
        server.fresh_maildir()
        trial = measure.run(server, point, mails, chosen.rcpt, arrivals(server), **how)
        mails = measure.mails_for(trial.arrived or trial.accepted, point, chosen.secs / share, chosen.max)
    server.fresh_maildir()
    measure.settle()
    return measure.run(server, point, mails, chosen.rcpt, arrivals(server), **how)


def arrivals(server: Server) -> Callable[[], int] | None:
    """Counts the mails that arrive from now on; ``None`` when the Maildir is not known."""
    if server.maildir is None:
        return None
    base = server.delivered()
    return lambda: server.delivered() - base


def main() -> None:
    """Read the command line, measure, print."""
    options = measure.common_options("Measures how fast mail comes in, on this machine only.", POINTS)
    options.add_argument("--maildir", type=Path, help="with --target: where its mail for --rcpt arrives")
    options.add_argument("--rcpt", default=LOCAL, help="with --target: the recipient (%(default)s)")
    chosen = options.parse_args()
    points = measure.parsed_points(options, chosen)
    with measure.Workdir(chosen.workdir) as workdir:
        if chosen.target:
            servers: list[Server] = [Server(workdir, loopback(chosen.target)[1], chosen.pid, chosen.maildir)]
            servers[0].host = loopback(chosen.target)[0]
        else:
            extra = chosen.settings.read_text() if chosen.settings else ""
            servers = [Node(workdir, chosen.workers, extra), *measure.peers(chosen.peer, workdir)]
        found = measure.in_turns(servers, points, chosen.reps, lambda server, point: one_run(server, point, chosen))
    measure.print_results(found, "in Maildir/s")
    measure.print_ratios(found, "in Maildir")


if __name__ == "__main__":
    main()
