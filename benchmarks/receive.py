"""How fast mail comes in: from SMTP sessions on this machine into a Maildir.

``python benchmarks/receive.py`` measures the node; ``--peer postfix`` measures Debian's Postfix in the same run, turn
by turn, and prints the ratio. Loopback only; ``benchmarks/README.rst`` says how to read the figures.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import measure
from benchmarks.load import loopback
from benchmarks.measure import Point, Result
from benchmarks.servers import LOCAL, Node, NotAvailable, Server

POINTS = "10240:50:kept,10240:50:new,102400:50:new,1048576:10:new"


def one_run(server: Server, point: Point, chosen: argparse.Namespace) -> Result:
    """A short run to learn the rate, then the one that counts, into a new Maildir."""
    how = {"smtp_source": chosen.generator == "smtp-source", "pipelining": chosen.pipelining}
    arrived = None if server.maildir is None else server.delivered
    mails = 2 * point.sessions
    for _ in range(2):
        server.fresh_maildir()
        base = server.delivered()
        trial = measure.run(server, point, mails, chosen.rcpt, arrived and (lambda: server.delivered() - base), **how)
        mails = measure.mails_for(trial.arrived or trial.accepted, point, chosen.secs / 4, chosen.max)
    mails = measure.mails_for(trial.arrived or trial.accepted, point, chosen.secs, chosen.max)
    server.fresh_maildir()
    base = server.delivered()
    measure.settle()
    return measure.run(server, point, mails, chosen.rcpt, arrived and (lambda: server.delivered() - base), **how)


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
        results: list[Result] = []
        running: list[Server] = []
        try:
            running = measure.started(servers)
            for number in range(chosen.reps):
                for point in points:
                    for server in running:
                        results.append(one_run(server, point, chosen))
                        print(
                            f"run {number + 1}: {results[-1].server}, {point}: {results[-1].arrived:.0f}/s",
                            file=sys.stderr,
                        )
        except NotAvailable as reason:
            raise SystemExit(str(reason)) from None
        finally:
            for server in running:
                server.stop()
    found = sorted(measure.medians(results), key=lambda one: points.index(one.point))
    measure.print_results(found, "in Maildir/s")
    measure.print_ratios(found, "in Maildir")


if __name__ == "__main__":
    main()
