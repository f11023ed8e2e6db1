"""How fast mail goes on: from SMTP sessions on this machine through the spool to a next hop on this machine.

``python benchmarks/relay.py`` measures the node; ``--peer postfix`` measures Debian's Postfix in the same run, turn
by turn, and prints the ratio. Loopback only; ``benchmarks/README.rst`` says how to read the figures.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import measure
from benchmarks.load import loopback
from benchmarks.measure import Point, Result
from benchmarks.servers import REMOTE, Node, Server, SinkProcess

POINTS = "10240:50:kept"


def one_run(server: Server, sink: SinkProcess, point: Point, chosen: argparse.Namespace) -> Result:
    """Two short runs to learn the rate, then the one that counts."""
    how = {"smtp_source": chosen.generator == "smtp-source", "pipelining": chosen.pipelining}
    mails = 2 * point.sessions
    for share in (4, 1):
        sink.begin()
        trial = measure.run(server, point, mails, chosen.rcpt, lambda: sink.mails, **how)
        mails = measure.mails_for(trial.arrived, point, chosen.secs / share, chosen.max)
    measure.settle()
    sink.begin()
    result = measure.run(server, point, mails, chosen.rcpt, lambda: sink.mails, **how)
    return dataclasses.replace(result, connections=sink.sessions)


def main() -> None:
    """Read the command line, measure, print."""
    options = measure.common_options("Measures how fast mail is relayed, on this machine only.", POINTS)
    options.add_argument("--rcpt", default=REMOTE, help="with --target: the recipient (%(default)s)")
    options.add_argument("--own-sink", action="store_true", help="our own sink even where smtp-sink is installed")
    chosen = options.parse_args()
    points = measure.parsed_points(options, chosen)
    with measure.Workdir(chosen.workdir) as workdir:
        sink = SinkProcess(own=chosen.own_sink)
        try:
            if chosen.target:
                print(f"the target must relay {chosen.rcpt} to 127.0.0.1:{sink.port}", file=sys.stderr)
                servers: list[Server] = [Server(workdir, loopback(chosen.target)[1], chosen.pid)]
                servers[0].host = loopback(chosen.target)[0]
            else:
                extra = chosen.settings.read_text() if chosen.settings else ""
                servers = [Node(workdir, chosen.workers, extra), *measure.peers(chosen.peer, workdir)]
            for server in servers:
                server.sink_port = sink.port
            found = measure.in_turns(
                servers, points, chosen.reps, lambda server, point: one_run(server, sink, point, chosen)
            )
        finally:
            sink.stop()
    print(f"relayed to {sink.name}")
    measure.print_results(found, "relayed/s", connections=True)
    measure.print_ratios(found, "relayed")


if __name__ == "__main__":
    main()
