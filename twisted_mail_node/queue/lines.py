"""The lines before the destinations: who may wait, who gets the places that become free, and who is sent back.

All lines together are bounded, and so is the part of them that waits for slow destinations: however many of those
there are, a fast one finds room. Counts are kept as mails come and go; nothing here looks at all destinations.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from twisted_mail_node.queue.destination import FAST, Destination, Place, Refusal
from twisted_mail_node.queue.pace import Share

#: Mails that wait in memory for a place, per destination: some seconds' work for a wide window.
WAITING_AT_MOST = 1000
#: ... and for all destinations together: a part of the mails kept in memory, so that the others stay free for the rest.
WAITING_IN_ALL = 5000
#: ... of which so many may wait for slow destinations.
WAITING_FOR_SLOW = 2000
#: A slow destination's line: what it carries in so many seconds, and at least so many mails.
LINE_TIME = 20.0
LINE_AT_LEAST = 50
#: Seconds a mail waits for a place before it goes back to the spool.
WAITING_TIME = 600.0
#: Seconds over which deliveries are counted.
RATE_TIME = 0.5


class Lines:
    """Fills and empties the lines.

    :param random: a random number from 0 to 1, anew at each call.
    :ivar closed: how many destinations are suspended, paused or frozen.
    :ivar crowd: mails that wait for fast destinations: they wait because more comes in than we carry out.
    """

    def __init__(self, clock: IReactorTime, random: Callable[[], float]) -> None:
        self._clock = clock
        self._random = random
        self._waiting = 0
        self.closed = 0
        self.crowd = 0

    async def wait(self, destination: Destination, now: float, priority_class: int, fresh: bool) -> Place | Refusal:
        """A place after a wait, or none. Where the line is full, who is less urgent gives way."""
        if now - destination.rated >= 2 * RATE_TIME:
            self.rate(destination, now)  # nothing was carried out lately: it may have come to a stop
        if self._is_full(destination, fresh):
            last = destination.waiting.give_way(priority_class)
            if last is None:
                return self.busy(destination, now)
            self._gone(destination, last).callback(self.busy(destination, now))
        waiter: Deferred[Place | Refusal] = Deferred()
        destination.waiting.append(waiter, now, priority_class)
        self._waiting += 1
        self.crowd += destination.rate >= FAST
        if destination.share is not None:
            destination.share.waiting += 1
            self.fill(destination)
        return await waiter

    def room(self, destination: Destination) -> int:
        """How long its line may be."""
        if destination.rate >= FAST or (destination.share is not None and destination.share.pace is not None):
            return WAITING_AT_MOST
        return min(max(int(destination.rate * LINE_TIME), LINE_AT_LEAST), WAITING_AT_MOST)

    def _is_full(self, destination: Destination, fresh: bool) -> bool:
        room = self.room(destination)
        if fresh:
            room -= room // 4
        if len(destination.waiting) >= room or self._waiting >= WAITING_IN_ALL:
            return True
        return destination.rate < FAST and self._waiting - self.crowd >= WAITING_FOR_SLOW

    def fill(self, destination: Destination) -> None:
        """Hand free places to who waits. A delivery that ends at once comes back here while we are at it:
        then the loop below goes on with its place, and the stack stays flat."""
        if destination.learning:
            return
        if destination.share is not None:
            if destination.waiting:
                destination.share.line.setdefault(destination)
            self.fill_share(destination.share)
            return
        if destination.filling:
            return
        destination.filling = True
        try:
            while destination.waiting and destination.in_flight < destination.window:
                self._hand_over(destination)
        finally:
            destination.filling = False

    def fill_share(self, share: Share) -> None:
        """Likewise, for all that share places and a pace: each in turn."""
        if share.filling:
            return
        share.filling = True
        try:
            while share.line:
                destination = next(iter(share.line))
                if not destination.waiting or destination.in_flight >= destination.window:
                    del share.line[destination]  # it comes again with whoever leaves it
                    continue
                if not share.take(self._clock.seconds()):
                    break
                del share.line[destination]
                self._hand_over(destination)
                if destination.waiting:
                    share.line.setdefault(destination)
        finally:
            share.filling = False
        if share.line and share.pace is not None and share.in_flight < share.at_most and share.timer is None:
            now = self._clock.seconds()
            share.timer = self._clock.callLater(max(share.pace.next(now) - now, 0.0), self._turn, share)

    def _turn(self, share: Share) -> None:
        share.timer = None
        self.fill_share(share)

    def _hand_over(self, destination: Destination) -> None:
        waiter, share = self._next(destination), destination.share
        if waiter.called:  # the watchdog ended it
            if share is not None:
                share.in_flight -= 1
            return
        destination.in_flight += 1
        waiter.callback(Place(destination, destination.era, destination.pauses, share))

    def has_place(self, destination: Destination) -> bool:
        """Whether somebody waits there though there is a place; there should be nobody (``queue.watchdog``)."""
        share = destination.share
        if not destination.waiting or destination.learning or destination.in_flight >= destination.window:
            return False
        if share is None:
            return True
        now = self._clock.seconds()
        if share.in_flight >= share.at_most or share.timer is not None:
            return False
        return share.pace is None or share.pace.next(now) <= now

    def rate(self, destination: Destination, now: float) -> None:
        """Count anew how fast it is."""
        was_fast = destination.rate >= FAST
        destination.rate = destination.served / (now - destination.rated)
        destination.served, destination.rated, destination.measured = 0, now, True
        is_fast = destination.rate >= FAST
        if is_fast != was_fast:
            self.crowd += len(destination.waiting) if is_fast else -len(destination.waiting)

    def sweep(self, destination: Destination, now: float) -> None:
        """Send back who waited too long, and who came last in the line of a destination that became slow."""
        for waiter in destination.waiting.since(now - WAITING_TIME):
            self._gone(destination, waiter).callback(self.busy(destination, now))
        if now - destination.rated >= 2 * RATE_TIME:
            self.rate(destination, now)
        room = self.room(destination)
        while len(destination.waiting) > room:
            self._gone(destination, destination.waiting.last()).callback(self.busy(destination, now))

    def send_home(self, destination: Destination) -> None:
        """Nobody gets a place now: let nobody wait for one."""
        now = self._clock.seconds()
        while destination.waiting:
            self._next(destination).callback(destination.refuse_closed(now, self.closed))

    def stop(self, destination: Destination) -> None:
        """Wake everyone who waits, with a refusal that says ``stopping``."""
        if destination.share is not None:
            destination.share.stop_timer()
        while destination.waiting:
            refusal = self.busy(destination, self._clock.seconds())
            self._next(destination).callback(refusal._replace(stopping=True))

    def busy(self, destination: Destination, now: float) -> Refusal:
        """There is no room to wait."""
        if destination.share is not None and destination.share.pace is not None:
            return destination.refuse_paced(now)
        return destination.refuse_busy(now, self._random())

    def _next(self, destination: Destination) -> Deferred[Place | Refusal]:
        return self._gone(destination, destination.waiting.popleft())

    def _gone(self, destination: Destination, waiter: Deferred[Place | Refusal]) -> Deferred[Place | Refusal]:
        """Somebody left the line."""
        self._waiting -= 1
        self.crowd -= destination.rate >= FAST
        if destination.share is not None:
            destination.share.waiting -= 1
        return waiter
