"""``mailnode run`` under a reactor that keeps the length of each of its turns: what ``turns.py`` starts.

The reactor is the node's own. Only its poller is wrapped: a turn is what lies between the end of one wait and the
beginning of the next. When the node ends, three doubles for each turn are written: when it began (monotonic clock), its
length on the clock, and the CPU time its thread took.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from array import array
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

#: Turns that are kept: 240 MB. Later ones are not.
TURNS_MAX = 10_000_000
#: Seconds after which a turn is looked into with --stacks, and between two looks.
LOOKED_INTO = 0.025
_LOOK = 0.005
#: Frames of a stack that are printed.
_FRAMES = 7


class TimedPoller:
    """An epoll object that looks at the clock."""

    def __init__(self, poller: Any) -> None:
        self._poller = poller
        self._poll = poller.poll
        self.turns = array("d")
        self.woke = 0.0
        self._cpu = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._poller, name)

    def poll(self, *how: Any) -> Any:
        """The turn ends, and the next begins when something happened."""
        woke = self.woke
        if woke:
            self.woke = 0.0
            if len(self.turns) < 3 * TURNS_MAX:
                self.turns.extend((woke, time.monotonic() - woke, time.thread_time() - self._cpu))
        try:
            return self._poll(*how)
        finally:
            self._cpu = time.thread_time()
            self.woke = time.monotonic()


def watch(poller: TimedPoller, main: int, found: Counter[str]) -> None:
    """Look where the reactor's thread is in turns that last long."""
    while True:
        time.sleep(_LOOK)
        woke = poller.woke
        if woke and time.monotonic() - woke > LOOKED_INTO:
            frame = sys._current_frames().get(main)
            if frame is not None and poller.woke == woke:
                frames = traceback.extract_stack(frame)[-_FRAMES:]
                found[" > ".join(f"{Path(one.filename).name}:{one.lineno} {one.name}" for one in frames)] += 1


def main() -> None:
    """``turns_node.py TURNS [--stacks] run -c SETTINGS``"""
    turns, *arguments = sys.argv[1:]
    stacks = "--stacks" in arguments
    from twisted_mail_node.admin.cli import main as mailnode
    from twisted_mail_node.net.reactor import install

    reactor = install()
    poller = reactor._poller = TimedPoller(reactor._poller)
    found: Counter[str] = Counter()
    if stacks:
        main_thread = threading.main_thread().ident
        assert main_thread is not None
        threading.Thread(target=watch, args=(poller, main_thread, found), daemon=True).start()
    try:
        mailnode([one for one in arguments if one != "--stacks"])
    finally:
        with Path(turns).open("wb") as file:
            poller.turns.tofile(file)
        for words, count in found.most_common(12):
            print(f"long turn, seen {count} times: {words}", file=sys.stderr)


if __name__ == "__main__":
    main()
