"""Mails in a time: when the next one may begin so that a destination's rates are kept to, and who shares them.

Exact over the clock: within no span of a rate's seconds do more than its mails begin. A mail may begin when as many
seconds have passed since the one that was ``mails`` before it; so what a rate allows may go at once, and then it is
waited for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IDelayedCall

from twisted_mail_node.settings_routes import Rate

if TYPE_CHECKING:
    from twisted_mail_node.queue.destination import Destination

#: Times remembered for one rate. A larger rate is kept to within a part of its time: 5000 an hour as 1000 in each
#: twelve minutes, which is the same or a little less.
TIMES_AT_MOST = 1000


class _Kept:
    """One rate, and when its last mails began."""

    __slots__ = ("mails", "seconds", "times")

    def __init__(self, rate: Rate, times: Sequence[float] = ()) -> None:
        parts = -(-rate.mails // TIMES_AT_MOST)
        self.mails = rate.mails // parts
        self.seconds = rate.seconds / parts
        self.times = deque(times, maxlen=self.mails)  #: the oldest first


class Pace:
    """Keeps to rates.

    :param rates: all of them are kept to; at least one.
    :ivar interval: seconds from one mail to the next when mails go evenly.
    """

    def __init__(self, rates: Sequence[Rate]) -> None:
        self._kept: tuple[_Kept, ...] = ()
        self.interval = 0.0
        self.set(rates)

    def set(self, rates: Sequence[Rate]) -> None:
        """Let other rates be in force. What began counts for them, as far as it is remembered."""
        begun: Sequence[float] = ()
        for kept in self._kept:
            if len(kept.times) > len(begun):
                begun = kept.times
        self._kept = tuple([_Kept(rate, begun) for rate in rates])
        self.interval = max(kept.seconds / kept.mails for kept in self._kept)

    def next(self, now: float) -> float:
        """When the next mail may begin; ``now`` or earlier: at once."""
        first = 0.0
        for kept in self._kept:
            times = kept.times
            if len(times) == kept.mails:
                if times[-1] > now:  # the clock was set back
                    back = times[-1] - now
                    kept.times = times = deque([time - back for time in times], maxlen=kept.mails)
                first = max(first, times[0] + kept.seconds)
        return first

    def count(self, now: float) -> None:
        """A mail begins."""
        for kept in self._kept:
            kept.times.append(now)

    def remembers(self, now: float) -> bool:
        """Whether any mail that began still counts."""
        return any(kept.times and kept.times[-1] > now - kept.seconds for kept in self._kept)

    def left(self, now: float) -> int:
        """How many mails may begin at once."""
        return min(kept.mails - sum(time > now - kept.seconds for time in kept.times) for kept in self._kept)


class Share:
    """What next hops with one ``Limit.key`` have in common: places, and a pace.

    :ivar at_most: mails in flight to all of them.
    :ivar line: those of them in whose line somebody waits for a turn; they have it one after the other.
    :ivar waiting: mails in their lines.
    :ivar promised: the last time that was given to a mail which went back to the spool for the pace's sake.
    :ivar timer: goes off when the pace allows the next mail.
    """

    __slots__ = (
        "_rates",
        "at_most",
        "filling",
        "in_flight",
        "key",
        "line",
        "members",
        "pace",
        "promised",
        "timer",
        "waiting",
    )

    def __init__(self, key: str) -> None:
        self.key = key
        self.at_most = 0
        self.in_flight = 0
        self.waiting = 0
        self.pace: Pace | None = None
        self.line: dict[Destination, None] = {}
        self.members: dict[Destination, None] = {}
        self.promised = 0.0
        self.timer: IDelayedCall | None = None
        self.filling = False
        self._rates: tuple[Rate, ...] = ()

    def take(self, now: float) -> bool:
        """Take a place and a turn, where there is one now."""
        if self.in_flight >= self.at_most:
            return False
        pace = self.pace
        if pace is not None:
            if pace.next(now) > now:
                return False
            pace.count(now)
        self.in_flight += 1
        return True

    def obey(self, at_most: int, rates: Sequence[Rate]) -> None:
        """Let other bounds be in force."""
        self.at_most = at_most
        if tuple(rates) == self._rates:
            return
        self._rates = tuple(rates)
        self.stop_timer()
        self.promised = 0.0
        if not rates:
            self.pace = None
        elif self.pace is None:
            self.pace = Pace(rates)
        else:
            self.pace.set(rates)

    def wait(self, now: float) -> float:
        """Seconds that whoever joins the line now waits for its turn; 0 without a pace."""
        pace = self.pace
        if pace is None:
            return 0.0
        return max(pace.next(now) - now, 0.0) + self.waiting * pace.interval

    def promise(self, now: float) -> float:
        """The time of a turn after all that were promised and all who wait."""
        assert self.pace is not None
        interval = self.pace.interval
        self.promised = max(self.promised + interval, now + self.wait(now))
        return self.promised

    def stop_timer(self) -> None:
        """The timer is not wanted any more."""
        timer, self.timer = self.timer, None
        if timer is not None and timer.active():
            timer.cancel()
