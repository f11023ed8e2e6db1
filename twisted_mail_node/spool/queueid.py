"""Queue ids: short, unique and in order of time; a number in the spool, hexadecimal digits everywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable

#: Seconds since 1970 at which our count of microseconds begins: 2020-01-01. It keeps ids at 14 digits.
EPOCH = 1_577_836_800
#: The low bits tell processes that share a spool apart.
WORKER_BITS = 6


class QueueIds:
    """Gives queue ids.

    :param worker: number of this process among those that share the spool, 0 to 63.
    """

    def __init__(self, worker: int = 0, now: Callable[[], float] = time.time) -> None:
        if not 0 <= worker < 1 << WORKER_BITS:
            raise ValueError(f"worker {worker} is not between 0 and {(1 << WORKER_BITS) - 1}")
        self._worker = worker
        self._now = now
        self._last = 0

    def next(self) -> int:
        """A number larger than every one given before, also when the clock was set back."""
        self._last = max(self._last + 1, int((self._now() - EPOCH) * 1_000_000))
        return self._last << WORKER_BITS | self._worker

    def after(self, number: int) -> None:
        """From now on give numbers larger than ``number``, which is in the spool already."""
        self._last = max(self._last, number >> WORKER_BITS)


def at_time(seconds: float) -> int:
    """The smallest id that is given at this time (seconds since the epoch) or later."""
    return max(int((seconds - EPOCH) * 1_000_000), 0) << WORKER_BITS


def to_text(number: int) -> str:
    """The queue id as people see it."""
    return f"{number:014x}"


def is_text(text: str) -> bool:
    """True for what ``to_text`` gives, in this and no other spelling: the name of a content file."""
    number = to_number(text)
    return number is not None and to_text(number) == text


def to_number(text: str) -> int | None:
    """The number of a queue id, ``None`` when the text is none."""
    try:
        number = int(text, 16)
    except ValueError:
        return None
    return number if 0 <= number < 1 << 63 else None
