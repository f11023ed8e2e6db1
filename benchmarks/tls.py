"""What TLS and sign-ins cost: handshakes a second, mails a second over TLS, other sessions' replies beside sign-ins.

``python benchmarks/tls.py`` measures the node; ``--peer postfix`` measures Debian's Postfix in the same run, turn by
turn, with the same certificate. Loopback only; ``benchmarks/README.rst`` says how to read the figures.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import identity, machine, measure
from benchmarks.load import Load
from benchmarks.logins import Logins
from benchmarks.measure import Point, Result
from benchmarks.pace import Pace
from benchmarks.receive import one_run
from benchmarks.servers import LOCAL, Node, NotAvailable, Postfix, Server

PARTS = ("handshakes", "mails", "logins")
POINTS = (
    "1024:50:new:starttls,1024:50:new:starttls:resumed,10240:50:new:starttls,10240:50:new:starttls:resumed,"
    "10240:50:new:implicit,10240:50:new:implicit:resumed"
)
#: Clients that shake hands at the same time: enough that the server always has one waiting.
HANDSHAKERS = 20
#: Who signs in, with a password made for the run.
USER, PASSWORD = "v@local.test", "correct horse battery staple"


def servers_of(chosen: argparse.Namespace, workdir: Path, kind: str) -> list[Server]:
    """The servers, with a certificate of this kind."""
    place = workdir / kind
    place.mkdir(exist_ok=True)
    place.chmod(0o755)
    certificate = identity.make(place, kind)
    peers = [Postfix(place, certificate) for name in dict.fromkeys(chosen.peer) if name == "postfix"]
    return [Node(place, identity=certificate), *peers]


# ---- handshakes ----------------------------------------------------------------------------------------------


def handshakes(chosen: argparse.Namespace, workdir: Path) -> None:
    """Handshakes of TLS 1.3 for each kind of key; for the first also resumed ones."""
    found: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    running: list[tuple[str, Server]] = []
    kinds = chosen.keys.split(",")
    try:
        for kind in kinds:
            running += [(kind, server) for server in measure.started(servers_of(chosen, workdir, kind))]
        for number in range(1, chosen.reps + 1):
            for resume in (False, True):
                for kind, server in running:
                    if resume and kind != kinds[0]:
                        continue
                    what = identity.KINDS[kind] + ", resumed" * resume
                    shaken = shake(server, chosen.secs, resume)
                    found.setdefault((what, server.name), []).append(shaken)
                    print(f"run {number}: {server.name}, {what}: {shaken[0]:.0f}/s", file=sys.stderr, flush=True)
    finally:
        for _, server in running:
            server.stop()
    rows = [["server", "key", "handshakes/s", "CPU ms", "gen. ms", "p50 ms", "p99 ms", "resumed"]]
    for (what, name), runs in found.items():
        rate, cpu, generator, p50, p99, resumed = (statistics.median(column) for column in zip(*runs, strict=True))
        figures = [f"{rate:.0f}", *(f"{one:.2f}" for one in (cpu, generator, p50, p99)), f"{resumed:.0%}"]
        rows.append([name, what, *figures])
    print("Handshakes, TLS 1.3")
    measure.print_table(rows)
    print()


def shake(server: Server, seconds: float, resume: bool) -> tuple[float, ...]:
    """Handshakes a second; CPU of one in the server and in the generator, and how long one took, in milliseconds; the
    share of resumed ones."""
    command = [
        *(sys.executable, str(Path(__file__).with_name("load_tls.py")), "--handshakes", "--target", server.implicit),
        *("--rcpt", LOCAL, "--sessions", str(HANDSHAKERS), "--mails", "1000000", "--seconds", str(seconds), "--new"),
        *(["--resume"] if resume else []),
    ]
    cpu = machine.cpu_seconds(server.pid)
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=seconds + 30, check=True)
    load: Load = json.loads(done.stdout)
    time.sleep(0.3)
    spent = machine.cpu_seconds(server.pid) - cpu
    if load["words"]:
        print(f"{server.name}: {load['words']}", file=sys.stderr)
    number = max(load["accepted"], 1)
    times = (load["p50"] * 1e3, load["p99"] * 1e3)
    rate = load["accepted"] / (load["ended"] - load["started"])
    return rate, spent / number * 1e3, load["cpu"] / number * 1e3, *times, load["resumed"] / number


# ---- mails ---------------------------------------------------------------------------------------------------


def mails(chosen: argparse.Namespace, workdir: Path, points: Sequence[Point]) -> None:
    """Mails over TLS into a Maildir, with a new connection for each, full and resumed."""
    kind = chosen.keys.split(",")[0]

    def run(server: Server, point: Point) -> Result:
        return one_run(server, point, chosen)

    found = measure.in_turns(servers_of(chosen, workdir, kind), points, chosen.reps, run)
    print(f"Mails over TLS 1.3, {identity.KINDS[kind]}")
    measure.print_results(found, "in Maildir/s")
    measure.print_ratios(found, "in Maildir")
    print()


# ---- sign-ins ------------------------------------------------------------------------------------------------


def logins(chosen: argparse.Namespace, workdir: Path) -> None:
    """How long others wait for a reply, with and without sign-ins beside them. The node only."""
    from twisted_mail_node.directory.passwords import hash_password

    place = workdir / "logins"
    place.mkdir()
    port = machine.free_port()
    certificate = identity.make(place, "ecdsa")
    extra = f"""
[[account]]
address = "{USER}"
password = "{hash_password(PASSWORD)}"

[[listener]]
kind = "submission"
endpoint = "tcp:{port}:interface=127.0.0.1:backlog=2000"
tls = "implicit"
"""
    (node,) = measure.started([Node(place, extra=extra, identity=certificate)])
    found: dict[bool, list[tuple[Pace, Logins | None]]] = {False: [], True: []}
    try:
        paced(node, chosen, 1.0)
        for number in range(1, chosen.reps + 1):
            for beside in (False, True) if number % 2 else (True, False):
                client = _sign_in(f"127.0.0.1:{port}", chosen.secs + 1) if beside else None
                time.sleep(0.5)
                pace = paced(node, chosen, chosen.secs)
                done: Logins | None = json.loads(client.communicate(timeout=chosen.secs + 60)[0]) if client else None
                found[beside].append((pace, done))
                words = f"beside {done['signed_in'] / done['seconds']:.0f} sign-ins/s" if done else "alone"
                print(f"run {number}: p99 {pace['command_p99'] * 1e3:.1f} ms, {words}", file=sys.stderr)
                problem = pace["load"]["words"] or (done["words"] if done else "")
                if problem:
                    print(f"node: {problem}", file=sys.stderr)
    finally:
        node.stop()
    _print_logins(found, chosen)


def paced(server: Server, chosen: argparse.Namespace, seconds: float) -> Pace:
    """Mails at a steady pace, in a process of its own."""
    command = [
        *(sys.executable, str(Path(__file__).with_name("pace.py")), "--target", server.target, "--rcpt", LOCAL),
        *("--sessions", str(chosen.sessions), "--rate", str(chosen.rate), "--seconds", str(seconds)),
        *("--mails", "1000000"),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=seconds + 30, check=True)
    pace: Pace = json.loads(done.stdout)
    return pace


def _sign_in(target: str, seconds: float) -> subprocess.Popen[bytes]:
    command = [
        *(sys.executable, str(Path(__file__).with_name("logins.py")), "--target", target, "--user", USER),
        *("--password", PASSWORD, "--seconds", str(seconds)),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def _print_logins(found: dict[bool, list[tuple[Pace, Logins | None]]], chosen: argparse.Namespace) -> None:
    rows = [["", "", "mails/s", "command p50 ms", "p99 ms", "content p50 ms", "p99 ms", "sign-ins/s", "p50 ms"]]
    worst: dict[bool, list[float]] = {}
    for beside, runs in found.items():
        times = [
            statistics.median(column) * 1e3
            for column in zip(
                *(
                    (pace["command_p50"], pace["command_p99"], pace["content_p50"], pace["content_p99"])
                    for pace, _ in runs
                ),
                strict=True,
            )
        ]
        loads = [pace["load"] for pace, _ in runs]
        rate = statistics.median(load["accepted"] / (load["ended"] - load["started"]) for load in loads)
        signed = [done for _, done in runs if done]
        row = ["beside sign-ins" if beside else "alone", "", f"{rate:.0f}", *(f"{one:.2f}" for one in times)]
        if signed:
            row.append(f"{statistics.median(done['signed_in'] / done['seconds'] for done in signed):.1f}")
            row.append(f"{statistics.median(done['p50'] for done in signed) * 1e3:.0f}")
        else:
            row += ["-", "-"]
        rows.append(row)
        worst[beside] = [times[1], times[3]]
    print(f"Replies to {chosen.sessions} sessions at {chosen.rate:g} mails/s of 10 KiB, without and with sign-ins")
    measure.print_table(rows)
    more = [beside - alone for beside, alone in zip(worst[True], worst[False], strict=True)]
    print(f"more at p99: {more[0]:.2f} ms for commands, {more[1]:.2f} ms for contents")
    if not all(pace["privileged"] for runs in found.values() for pace, _ in runs):
        print("The generator could not run before all others (it takes root): its own waiting is in these times.")


def main() -> None:
    """Read the command line, measure, print."""
    options = argparse.ArgumentParser(description="Measures what TLS and sign-ins cost, on this machine only.")
    options.add_argument("--parts", default=",".join(PARTS), help="what is measured (%(default)s)")
    options.add_argument("--points", default=POINTS, help="as for receive.py, with TLS (%(default)s)")
    options.add_argument("--keys", default="ecdsa,rsa", help="kinds of keys; mails take the first (%(default)s)")
    options.add_argument("--reps", type=int, default=3, help="runs; medians are printed (%(default)s)")
    options.add_argument("--secs", type=float, default=4, help="seconds a run is meant to take (%(default)s)")
    options.add_argument("--max", type=int, default=40000, help="mails of one run at most (%(default)s)")
    options.add_argument("--peer", action="append", choices=["postfix"], default=[], help="measure this one, too")
    options.add_argument("--rate", type=float, default=100, help="mails a second beside the sign-ins (%(default)s)")
    options.add_argument("--sessions", type=int, default=50, help="sessions beside the sign-ins (%(default)s)")
    options.add_argument(
        "--workdir", type=Path, help="work below it and keep what is there (default: /var/tmp, removed at the end)"
    )
    options.set_defaults(target=None, rcpt=LOCAL, generator="own", pipelining=False)
    chosen = options.parse_args()
    points = measure.parsed_points(options, chosen)
    parts = chosen.parts.split(",")
    if wrong := [part for part in parts if part not in PARTS] + [
        kind for kind in chosen.keys.split(",") if kind not in identity.KINDS
    ]:
        options.error(f"not known: {', '.join(wrong)}")
    try:
        with measure.Workdir(chosen.workdir) as workdir:
            for part, run in (("handshakes", handshakes), ("logins", logins)):
                if part in parts:
                    run(chosen, workdir)
            if "mails" in parts:
                mails(chosen, workdir, points)
    except NotAvailable as reason:
        raise SystemExit(str(reason)) from None


if __name__ == "__main__":
    main()
