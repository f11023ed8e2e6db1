"""Brings back from the spool what went there for a destination's sake, when the destination can take it.

Mails that a suspended, paused, frozen or crowded destination sent away are due at times that are spread widely
(``queue.destination``). When it answers again they need not wait for these: some are let be due now, as many as its
line has room for, the first due first; with the next answers come the next. What is delayed at that destination for a
reason of its own and due within that span may come earlier, too, but once at most: what was tried since mails were sent
away keeps its time. Else a host that answers all of a backlog with "later" would hear of each mail again and again.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twisted_mail_node.interfaces import ISpool
from twisted_mail_node.queue.destination import Destination

#: Seconds between two fetchings for one destination.
FETCH_AGAIN = 0.25

_log = Logger()


class Fetching:
    """Asks the spool.

    :param due_at: is told that something is due at that time.
    """

    def __init__(self, *, spool: ISpool, clock: IReactorTime, due_at: Callable[[float], None]) -> None:
        self._spool = spool
        self._clock = clock
        self._due_at = due_at
        self._later: dict[Destination, int] = {}  #: those that were fetched for a moment ago
        self._timer: IDelayedCall | None = None
        self._stopped = False

    def stop(self) -> None:
        """Fetch nothing more."""
        self._stopped = True
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def fetch(self, destination: Destination, limit: int) -> None:
        """Let up to ``limit`` recipients of this destination be due now, or in a moment."""
        if self._stopped or destination.fetching:
            return
        now = self._clock.seconds()
        if now - destination.fetched < FETCH_AGAIN:
            self._later[destination] = limit
            if self._timer is None:
                self._timer = self._clock.callLater(FETCH_AGAIN, self._fetch_later)
            return
        self._later.pop(destination, None)
        destination.fetching = True
        destination.fetched = now
        Deferred.fromCoroutine(self._fetch(destination, limit, now))

    def _fetch_later(self) -> None:
        self._timer = None
        later, self._later = self._later, {}
        for destination, limit in later.items():
            if destination.frozen is None and destination.until <= self._clock.seconds():
                self.fetch(destination, limit)

    async def _fetch(self, destination: Destination, limit: int, now: float) -> None:
        until = destination.promised
        try:
            found = await self._spool.hasten(destination.name, now, until, limit, destination.promising)
        except Exception:
            _log.failure("what waits for {name} could not be fetched; it comes by itself", name=destination.name)
            return
        finally:
            destination.fetching = False
        if found < limit and destination.promised == until:
            destination.promised = now  # that was all
        if found:
            self._due_at(now)
