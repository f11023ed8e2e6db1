"""What a long backlog costs: a spool of very many mails that wait, and a node that starts with it.

``python benchmarks/backlog.py`` writes a spool of a million delayed mails, then starts the node on it and measures:
the start, the memory, listings and counts through the control socket, and how soon a new mail arrives meanwhile.
The mails are small (``--size``, 500 octets): contents of 10 KiB would take 10 GB of disk and change nothing of what is
measured here, for a mail that waits is not read. All lies below /var/tmp and is removed at the end.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine, measure
from benchmarks.idle import probe
from benchmarks.servers import LOCAL, Node
from twisted_mail_node.admin.control_client import ControlClient, ControlError
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.reasons import Reason
from twisted_mail_node.spool import queueid
from twisted_mail_node.spool.codec import encode_envelope, encode_recipient
from twisted_mail_node.spool.mail import Change, State
from twisted_mail_node.spool.sqlite import NewMail, Store

DESTINATIONS = 200
SENDERS = 5000
DAY = 86400.0
#: Mails written in one transaction.
GROUP = 5000
#: Octets on the disk that a mail takes beside its content: rows, indexes, one attempt; and room for the WAL.
OVERHEAD = 1800
ROOM = 2 << 30
#: Seconds a mail may take through the node.
ARRIVAL_TIME = 30.0
PROBES = 20

#: Causes and what stands behind them.
CAUSES = {
    "mailbox-full": (Reason.REMOTE_DELAYED, "4.2.2", "452 4.2.2 The recipient's mailbox is over its quota"),
    "greylisted": (Reason.REMOTE_DELAYED, "4.7.1", "450 4.7.1 Greylisted, please try again in 300 seconds"),
    "rate-limited": (Reason.REMOTE_DELAYED, "4.7.28", "421 4.7.28 Too many mails from this address, try again later"),
    "host-busy": (Reason.REMOTE_DELAYED, "4.3.2", "421 4.3.2 Too busy"),
    "mailbox-unavailable": (Reason.REMOTE_DELAYED, "4.2.1", "450 4.2.1 The mailbox is disabled for now"),
    "poor-reputation": (Reason.REMOTE_DELAYED, "4.7.0", "421 4.7.0 Deferred because of the reputation of the address"),
    "connect-failed": (Reason.CONNECT_FAILED, "4.4.1", "no connection to 192.0.2.7:25: timed out"),
    "dns-failed": (Reason.DNS_FAILED, "4.4.3", "the DNS answered SERVFAIL"),
    "suspended": (Reason.SUSPENDED, "4.4.1", "the destination did not answer lately"),
    "remote-timeout": (Reason.REMOTE_TIMEOUT, "4.4.2", "no reply to RCPT within 300 s"),
    "tls-failed": (Reason.TLS_FAILED, "4.7.5", "the certificate is not good: it has expired"),
    "host-not-ready": (Reason.HOST_NOT_READY, "4.3.2", "421 4.3.2 Not ready"),
    "destination-busy": (Reason.DESTINATION_BUSY, "4.4.5", "too many mails wait for the destination"),
    "spf-failed": (Reason.REMOTE_DELAYED, "4.7.23", "451 4.7.23 SPF cannot be checked now"),
    "beyond-the-host": (Reason.REMOTE_DELAYED, "4.4.0", "451 4.4.0 The system behind this host does not answer"),
}


def backlog(number: int, size: int, now: float) -> Iterator[tuple[NewMail, Change]]:
    """Mails and what became of them: the oldest five days old, all tried before and due in some hours; one in fifty
    is held. Destinations and causes are as unequal as they are in life."""
    chance = random.Random(1)
    content = (b"Subject: hello\r\n\r\n" + b"x" * 70 + b"\r\n") * (size // 90 + 1)
    header = b"Received: from client.example by mx.local.test with ESMTP; Sat, 1 Jan 2022 00:00:00 +0000\r\n"
    destinations = [f"mx{place}.backlog.test" for place in range(DESTINATIONS)]
    weights = [1 / (place + 3) for place in range(DESTINATIONS)]
    causes = [
        (cause, DeliveryStatus(Action.DELAYED, status, reason, words, "mx.backlog.test", "192.0.2.7:25", True))
        for cause, (reason, status, words) in CAUSES.items()
    ]
    ages = sorted((chance.uniform(60, 4.8 * DAY) for _ in range(number)), reverse=True)
    for place, age in enumerate(ages):
        destination = chance.choices(destinations, weights)[0]
        cause, last = causes[min(int(chance.expovariate(0.25)), len(causes) - 1)]
        to = Address(f"user{place}", destination.partition(".")[2])
        sender = Address(f"sender{chance.randrange(SENDERS)}", "client.test")
        recipients = (Recipient(to, to),)
        envelope = Envelope(sender, recipients, client="192.0.2.9", helo="client.test", protocol="ESMTP")
        identity = queueid.at_time(now - age) + (place << queueid.WORKER_BITS)
        row = (identity, now - age, encode_envelope(envelope), header, size, 0, content[:size])
        state = State.HELD if chance.random() < 0.02 else State.DELAYED
        due, attempts = now + chance.uniform(2, 8) * 3600, 1 + int(age / DAY * 4)
        change = Change(
            queueid.to_text(identity), 0, state, due, attempts, destination, last, False, cause, now - age / attempts
        )
        yield NewMail(row, tuple(map(encode_recipient, recipients)), State.ACTIVE), change


def build(directory: Path, number: int, size: int) -> None:
    """Write the spool. Its commits are not synced here: a crash of this machine would only cost the benchmark."""
    store = Store(directory)
    store.connection.pragma("synchronous", "off")
    store.connection.pragma("cache_size", -400_000)
    mails = backlog(number, size, time.time())

    def write(group: list[tuple[NewMail, Change]]) -> None:
        store.insert([mail for mail, _ in group])
        store.change([change for _, change in group])

    while group := list(islice(mails, GROUP)):
        store.transaction(lambda group=group: write(group))  # type: ignore[misc]
    store.close()


def forget(directory: Path) -> None:
    """Have the kernel drop what it has of the files from memory, so that the start reads the disk."""
    for path in directory.iterdir():
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    started = time.monotonic()
    work()
    return time.monotonic() - started


def memory(pid: int, field: str) -> float:
    """MiB by ``/proc/PID/status``: ``VmRSS`` now, ``VmHWM`` at most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def asked(client: ControlClient, command: str, **arguments: object) -> str:
    """Milliseconds until the whole answer was there, the median of three, and how many lines it had."""
    times = []
    try:
        for _ in range(3):
            started = time.monotonic()
            lines = len(client.ask(command, **arguments).items)
            times.append(time.monotonic() - started)
    except ControlError as error:
        return f"- ({error})"
    return f"{sorted(times)[1] * 1e3:.0f} ms, {lines} lines"


def arrival(node: Node) -> float:
    """Seconds from the first octet of a new session until its mail lies in the Maildir."""
    before = node.delivered()
    started = time.monotonic()
    probe((node.host, node.port), LOCAL)
    seen = machine.wait_for(lambda: node.delivered() > before, ARRIVAL_TIME, 0.001)
    if seen is None:
        raise OSError(f"the mail did not arrive within {ARRIVAL_TIME:.0f} s")
    return seen - started


def measured(workdir: Path, number: int, size: int) -> list[list[str]]:
    """The rows of the table."""
    node = Node(workdir)
    spool = workdir / "node" / "spool"
    spool.parent.mkdir()
    built = timed(lambda: build(spool, number, size))
    octets = sum(path.stat().st_size for path in spool.iterdir() if path.is_file())
    rows = [["mails in the spool", f"{number:,}"], ["spool on the disk, MiB", f"{octets / 2**20:,.0f}"]]
    rows.append(["(writing it, s)", f"{built:.1f}"])
    for name in ("nothing of it in memory", "again"):
        if name != "again":
            forget(spool)
        rows.append([f"start to the greeting, {name}, s", f"{timed(node.start):.2f}"])
        if name != "again":
            node.stop()
    try:
        client = ControlClient(workdir / "node")
        rows.append(["memory of the node after that, MiB", f"{memory(node.pid, 'VmRSS'):.0f}"])
        alone = sorted(arrival(node) for _ in range(PROBES))
        rows.append(["a new mail is in its Maildir, median and worst, ms", _ms(alone)])
        for cause in ("mailbox-full", "spf-failed"):
            arguments = {"causes": [cause], "limit": 1000}
            rows.append([f"list 1000 by cause ({cause})", asked(client, "queue.find", **arguments)])
        rows.append(["list 1000 by destination", asked(client, "queue.find", destination="mx100.backlog.test")])
        rows.append(["list 1000 by sender", asked(client, "queue.find", sender="sender4711@")])
        rows.append(["list the oldest 1000", asked(client, "queue.find", limit=1000)])
        for by in ("cause", "destination", "sender"):
            rows.append([f"count by {by}", asked(client, "queue.tally", by=by)])
        rows.append(["status", asked(client, "status")])
        rows.append(["memory of the node at most, MiB", f"{memory(node.pid, 'VmHWM'):.0f}"])
    finally:
        node.stop()
    return rows


def _ms(seconds: list[float]) -> str:
    return f"{seconds[len(seconds) // 2] * 1e3:.1f} {seconds[-1] * 1e3:.1f}"


def main() -> None:
    """Read the command line, measure, print."""
    options = argparse.ArgumentParser(description="Measures what a long backlog costs, on this machine only.")
    options.add_argument("--mails", type=int, default=1_000_000, help="mails that wait (%(default)s)")
    options.add_argument("--size", type=int, default=500, help="octets of each content (%(default)s)")
    options.add_argument(
        "--workdir", type=Path, help="work below it and keep what is there (default: /var/tmp, removed at the end)"
    )
    chosen = options.parse_args()
    needed = chosen.mails * (chosen.size + OVERHEAD) + ROOM
    free = shutil.disk_usage(chosen.workdir or "/var/tmp").free
    if free < needed:
        options.error(f"it takes {needed / 1e9:.1f} GB of disk, and {free / 1e9:.1f} GB are free: fewer --mails")
    with measure.Workdir(chosen.workdir) as workdir:
        rows = measured(workdir, chosen.mails, chosen.size)
    measure.print_table([["what", "measured"], *rows])


if __name__ == "__main__":
    main()
