"""When the spool is asked for what is due: the next due time, one timer, and slices of a bounded size.

Nothing of the backlog is kept here but the time of its first mail. A slice is taken when that time has come and
there is room for it; when there is none, whoever finishes a mail says so (``room_made``) and the taking goes on.
A reading that fails is tried again soon, and even a time noted wrongly delays nothing for longer than
``LONGEST_SLEEP``.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twisted_mail_node.interfaces import ISpool
from twisted_mail_node.spool.mail import Mail

#: Mails read at once: a reactor turn of some milliseconds, at most 25 MB of content that lies in the spool's rows.
SLICE = 100
#: Seconds until the spool is asked again after it failed.
AGAIN = 5.0
#: Seconds after which the spool is asked in any case: the clock was set, or another process changed something.
LONGEST_SLEEP = 60.0
#: Seconds between two readings of which the first brought nothing though something was due.
SHORTEST_SLEEP = 1.0

_log = Logger()


class Schedule:
    """Asks the spool for what is due, and feeds it to the attempts.

    :param room: how many mails may be taken now.
    :param feed: takes a mail over; called in the order of the due times.
    """

    def __init__(
        self, *, spool: ISpool, clock: IReactorTime, room: Callable[[], int], feed: Callable[[Mail], None]
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._room = room
        self._feed = feed
        self._timer: IDelayedCall | None = None
        self._noted: float | None = None  #: the earliest due time we were told of during a reading
        self._reading = False
        self._running = False
        self.next_reading: float | None = None  #: when the spool is asked again, None while that is not settled
        self.full = False  #: something is due, but there was no room for it
        self._since = 0.0  #: when the reading under way began

    def start(self) -> None:
        """Begin with what is due now."""
        self._running = True
        self._wake()

    def stop(self) -> None:
        """Take nothing more. What a reading under way still brings stays active in the spool until the next start."""
        self._running = False
        self._cancel()

    def due_at(self, due: float) -> None:
        """Something was recorded that is due at ``due`` (seconds since the epoch)."""
        if self._reading:
            if self._noted is None or due < self._noted:
                self._noted = due
        elif self._running and not self.full and (self.next_reading is None or due < self.next_reading):
            self._sleep_until(due)

    def room_made(self) -> None:
        """There is room again: go on where we stopped."""
        if self.full:
            self.full = False
            self._wake()

    def overdue(self, now: float, in_work: bool) -> tuple[str, float]:
        """What it should have done before now, and since when it should have, in seconds; ``("", 0)``: nothing.

        :param in_work: some mail is in work, whose end makes room.
        """
        if not self._running:
            return "", 0.0
        if self._reading:
            return "reading", now - self._since
        if self.full:
            return ("", 0.0) if in_work else ("room", LONGEST_SLEEP)
        if self._timer is None or not self._timer.active() or self.next_reading is None:
            return "schedule", LONGEST_SLEEP
        return ("schedule", now - self.next_reading) if self.next_reading < now else ("", 0.0)

    def wake(self) -> None:
        """Look now, whatever was planned."""
        self.full = False
        self._wake()

    def _sleep_until(self, due: float) -> None:
        self._cancel()
        seconds = min(max(due - self._clock.seconds(), 0.0), LONGEST_SLEEP)
        self.next_reading = due
        self._timer = self._clock.callLater(seconds, self._wake)

    def _cancel(self) -> None:
        timer, self._timer, self.next_reading = self._timer, None, None
        if timer is not None and timer.active():
            timer.cancel()

    def _wake(self) -> None:
        self._cancel()
        if self._running and not self._reading:
            self._reading = True
            self._since = self._clock.seconds()
            Deferred.fromCoroutine(self._read())

    async def _read(self) -> None:
        """Take slices until nothing more is due or no room is left, then sleep until the next due time."""
        self._noted = None
        due: float | None = None
        try:
            brought = await self._take()
            if self._running and not self.full:
                due = await self._spool.next_due()
                if due is not None and not brought:
                    due = max(due, self._clock.seconds() + SHORTEST_SLEEP) if due <= self._clock.seconds() else due
        except Exception:
            _log.failure("the spool does not say what is due; asked again soon")
            due = self._clock.seconds() + AGAIN
        finally:
            self._reading = False
        if self._running and not self.full:
            times = [self._clock.seconds() + LONGEST_SLEEP, due, self._noted]
            self._sleep_until(min([time for time in times if time is not None]))

    async def _take(self) -> int:
        """Feed what is due, slice by slice; gives how many mails the last slice brought.

        No deadline here: what ``take_due`` brings is marked active, and would be lost until the next start if we
        stopped waiting for it.
        """
        while self._running:
            limit = min(SLICE, self._room())
            if limit <= 0:
                self.full = True
                return 0
            mails = await self._spool.take_due(self._clock.seconds(), limit)
            if not self._running:
                break
            for mail in mails:
                self._feed(mail)
            if len(mails) < limit:
                return len(mails)
        return 0
