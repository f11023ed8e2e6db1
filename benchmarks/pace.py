"""Brings mail at a steady pace, far below what a server can take, and measures how long each reply takes.

By itself: ``python benchmarks/pace.py --target 127.0.0.1:2525 --rcpt joe@example.org --rate 100`` prints JSON.
Where it may, it runs before all others (SCHED_FIFO): what it waits for the CPU is not the server's time.
"""

from __future__ import annotations

import heapq
import json
import os
import select
import sys
import time
from pathlib import Path
from typing import Any, TypedDict

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.load import DATA, MAIL, RCPT, Generator, Load, Session, chosen_of, command_line


class Pace(TypedDict):
    """What a run came to: seconds from a command to its reply, and from a content's last octet to its reply."""

    load: Load
    command_p50: float
    command_p99: float
    content_p50: float
    content_p99: float
    privileged: bool


class PacedGenerator(Generator):
    """Sessions that are kept, and begin their next mail when its time has come.

    :param rate: mails a second, over all sessions.
    """

    def __init__(self, target: tuple[str, int], *, rate: float, **how: Any) -> None:
        super().__init__(target, **{**how, "kept": True})
        self._rate = rate
        self._due: list[tuple[float, int]] = []
        self._asked: dict[int, float] = {}
        self._first_due = 0.0
        self._planned = 0
        self.commands: list[float] = []

    def _begin(self, session: Session) -> None:
        """Wait for the session's turn: mails are planned one after the other."""
        self._first_due = self._first_due or time.monotonic()
        heapq.heappush(self._due, (self._first_due + self._planned / self._rate, session.sock.fileno()))
        self._planned += 1

    def _step(self, session: Session) -> None:
        state, now = session.state, time.monotonic()
        super()._step(session)
        if state in (MAIL, RCPT, DATA) and session.state != state:
            self.commands.append(now - self._asked[session.sock.fileno()])
        self._asked[session.sock.fileno()] = time.monotonic()

    def run(self) -> Load:
        """Like Generator's, with mails begun by the clock."""
        cpu = time.process_time()
        started = time.monotonic()
        end = started + self._seconds
        for _ in range(self._sessions):
            self._connect()
        while self._open and (now := time.monotonic()) < end and self.lost + self.refused == 0:
            while self._due and self._due[0][0] <= now:
                fd = heapq.heappop(self._due)[1]
                if fd in self._open:
                    super()._begin(self._open[fd])
                    self._asked[fd] = time.monotonic()
            wait = min(self._due[0][0], end) - now if self._due else end - now
            # epoll counts whole milliseconds; the last one is waited for by looking again.
            for fd, event in self._epoll.poll(max(wait - 0.001, 0), 512):
                session = self._open[fd]
                try:
                    if session.rest is not None and event & select.EPOLLOUT:
                        self._go_on(session)
                    if event & ~select.EPOLLOUT:
                        self._step(session)
                except self.again:
                    pass
                except OSError as error:
                    self._lose(session, str(error))
        return self._found(started, cpu)


def _share(found: list[float], hundredths: int) -> float:
    found = sorted(found) or [0.0]
    return found[len(found) * hundredths // 100]


def main() -> None:
    """Read the command line, bring the mails, print the result as JSON."""
    options = command_line("Brings mail to an SMTP server on this machine at a steady pace and prints JSON.")
    options.add_argument("--rate", type=float, default=100, help="mails a second (%(default)s)")
    chosen, how = chosen_of(options)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        privileged = True
    except OSError:
        privileged = False
    generator = PacedGenerator(rate=chosen.rate, **how)
    load = generator.run()
    commands, contents = generator.commands, generator.latencies
    found = Pace(
        load=load, privileged=privileged,
        command_p50=_share(commands, 50), command_p99=_share(commands, 99),
        content_p50=_share(contents, 50), content_p99=_share(contents, 99),
    )  # fmt: skip
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
