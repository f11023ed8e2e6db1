"""The window of each remote next hop: how many deliveries go there at once, and when none do.

A window grows by one with each success and closes to one at a failure of the connection itself. After some of
these in a row the destination is suspended: its mails are put off without an attempt, so that a dead host costs
nobody else a place. When the suspension ends the first mail is the probe, and the others wait for what it finds.
Those who wait for a place go by their priority (``queue.line``).
Times are the clock's; there is no timer here: whoever owns this calls ``sweep`` now and then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from twisted_mail_node.events import DestinationChanged, Publish
from twisted_mail_node.message.precedence import ORDINARY
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.queue.line import Line
from twisted_mail_node.queue.retry import jittered
from twisted_mail_node.reasons import Reason

#: Deliveries in flight to a destination we know nothing about yet: what Postfix and others allow a host by default.
WINDOW_AT_FIRST = 20
#: ... and to one that takes all we bring: 20 connections, each with a few mails lined up behind the one it carries.
WINDOW_AT_MOST = 200
#: Mails that wait in memory for a place, per destination: some seconds' work for a wide window.
WAITING_AT_MOST = 1000
#: ... and for all destinations together: a part of the mails kept in memory, so that the others stay free for the rest.
WAITING_IN_ALL = 5000
#: Seconds a mail waits for a place before it goes back to the spool.
WAITING_TIME = 600.0
#: Seconds until a mail is due again that found no room to wait.
BUSY_TIME = 45.0
#: Deliveries a second from which on a destination is fast: what waits for it goes soon, and is worth keeping in memory.
FAST = 50.0
#: Seconds over which deliveries are counted.
RATE_TIME = 0.5
#: Failures of the connection in a row, without any answer between them, until the destination is suspended.
FAILURES_AT_MOST = 3
#: Seconds of the first suspension; each further one lasts twice as long, up to the longest.
SUSPENSION_AT_FIRST = 60.0
SUSPENSION_AT_MOST = 1800.0
#: Seconds after which an idle destination is forgotten.
FORGET_AFTER = 7200.0
#: Destinations remembered; beyond, the oldest idle ones are forgotten at once.
DESTINATIONS_AT_MOST = 20_000
#: How many of the oldest are looked at to find an idle one: bounds the work of one ``enter``.
_LOOKED_AT = 50
#: Destinations that ``status`` lists, the busiest first.
LISTED_AT_MOST = 1000

#: The connection failed: says something about the host, nothing about the mail.
CONNECTION_FAILURES = frozenset(
    {
        Reason.CONNECT_FAILED,
        Reason.HOST_NOT_READY,
        Reason.HOST_REFUSED,
        Reason.DNS_FAILED,
        Reason.REMOTE_TIMEOUT,
        Reason.BAD_REPLY,
        Reason.SIGN_IN_REFUSED,
        Reason.NO_SOURCE,
    }
)
#: Delays that say nothing about the host.
_NEUTRAL = frozenset({Reason.INTERNAL, Reason.UNCERTAIN, Reason.STORE_FAILED})


class Refusal(NamedTuple):
    """No place: the recipients are due again at ``due``; ``stopping`` when nothing shall be recorded at all."""

    status: DeliveryStatus
    due: float
    stopping: bool = False


class Destination:
    """What is known about one next hop.

    :ivar in_flight: places taken since ``era`` began; a suspension begins a new one.
    :ivar until: end of the suspension, 0 when there is none. It stays set while the probe is under way.
    """

    __slots__ = (
        "back_off",
        "era",
        "failures",
        "filling",
        "in_flight",
        "name",
        "rate",
        "rated",
        "served",
        "until",
        "used",
        "waiting",
        "window",
        "words",
    )

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.window = WINDOW_AT_FIRST
        self.in_flight = 0
        self.waiting: Line[Deferred[Place | Refusal]] = Line()
        self.failures = 0
        self.until = 0.0
        self.back_off = 0.0
        self.words = ""
        self.era = 0
        self.used = now
        self.filling = False
        self.served = 0  #: deliveries since ``rated``
        self.rated = now
        self.rate = FAST  #: deliveries a second, lately; until we know better it counts as fast

    @property
    def idle(self) -> bool:
        """Nobody is in flight or waits."""
        return not self.in_flight and not self.waiting


class Place(NamedTuple):
    """The right to one delivery; given back with ``Destinations.leave``."""

    destination: Destination
    era: int


class Destinations:
    """All destinations that have work, failed lately, or were busy lately.

    :param random: a random number from 0 to 1, anew at each call.
    """

    def __init__(self, *, clock: IReactorTime, publish: Publish, random: Callable[[], float]) -> None:
        self._clock = clock
        self._publish = publish
        self._random = random
        self._known: dict[str, Destination] = {}
        self._waiting = 0
        #: Mails that wait for fast destinations: they wait because more comes in than we carry out.
        self.crowd = 0

    async def enter(self, next_hop: str, priority_class: int = ORDINARY) -> Place | Refusal:
        """A place in the window of ``next_hop``: at once, after a wait in line (``WAITING_TIME`` at most), or none.

        Where the line is full, who is less urgent gives way.

        :param priority_class: see ``message.precedence``.
        """
        now = self._clock.seconds()
        destination = self._known.get(next_hop) or self._meet(next_hop, now)
        destination.used = now
        if destination.until > now:
            return self._suspended(destination)
        if destination.in_flight < destination.window and not destination.waiting:
            destination.in_flight += 1
            return Place(destination, destination.era)
        if len(destination.waiting) >= WAITING_AT_MOST or self._waiting >= WAITING_IN_ALL:
            last = destination.waiting.give_way(priority_class)
            if last is None:
                return self._busy(destination)
            self._gone(destination, last).callback(self._busy(destination))
        waiter: Deferred[Place | Refusal] = Deferred()
        if now - destination.rated >= 2 * RATE_TIME:
            self._rate(destination, now)  # nothing was carried out lately: it may have come to a stop
        destination.waiting.append(waiter, now, priority_class)
        self._waiting += 1
        self.crowd += destination.rate >= FAST
        return await waiter

    def leave(self, place: Place, statuses: Sequence[DeliveryStatus]) -> None:
        """Give the place back with what the attempt came to; ``()`` when there was none."""
        destination, era = place
        destination.used = now = self._clock.seconds()
        destination.served += 1
        if now - destination.rated >= RATE_TIME:
            self._rate(destination, now)
        ours = era == destination.era
        if ours:
            destination.in_flight -= 1
        answer = _answer(statuses)
        if answer is None:
            failure = next((status for status in statuses if status.reason in CONNECTION_FAILURES), None)
            if ours and failure is not None:
                self._fail(destination, failure)
        else:
            destination.failures = 0
            if destination.until:
                self._open(destination)
            if answer and destination.window < WINDOW_AT_MOST:
                destination.window += 1
        self._fill(destination)

    def probe(self, next_hop: str) -> None:
        """An operator wants to know: end a suspension now, so that the next mail is the probe."""
        destination = self._known.get(next_hop)
        if destination is not None and destination.until:
            destination.until = min(destination.until, self._clock.seconds())

    def sweep(self) -> None:
        """Send back who waited too long, forget who is idle. To be called about once a minute."""
        now = self._clock.seconds()
        for destination in list(self._known.values()):
            for waiter in destination.waiting.since(now - WAITING_TIME):
                self._gone(destination, waiter).callback(self._busy(destination))
            if now - destination.rated >= 2 * RATE_TIME:
                self._rate(destination, now)
            if destination.idle and max(destination.used, destination.until) + FORGET_AFTER <= now:
                self._known.pop(destination.name, None)

    def stop(self) -> None:
        """Wake everyone who waits, with a refusal that says ``stopping``."""
        for destination in list(self._known.values()):
            while destination.waiting:
                self._next(destination).callback(self._busy(destination)._replace(stopping=True))

    def status(self) -> list[dict[str, object]]:
        """Window, deliveries in flight, mails waiting and end of the suspension of each, the busiest first."""
        now = self._clock.seconds()
        busiest = sorted(self._known.values(), key=lambda known: (-known.in_flight - len(known.waiting), -known.until))
        return [
            {
                "destination": known.name,
                "window": known.window,
                "in_flight": known.in_flight,
                "waiting": len(known.waiting),
                "suspended_until": known.until if known.until > now else None,
                "words": known.words,
            }
            for known in busiest[:LISTED_AT_MOST]
        ]

    def _meet(self, name: str, now: float) -> Destination:
        if len(self._known) >= DESTINATIONS_AT_MOST:
            oldest = [known for known, _ in zip(self._known.values(), range(_LOOKED_AT), strict=False)]
            for known in oldest:
                del self._known[known.name]
                if known.idle:
                    break
                self._known[known.name] = known  # to the end of the line
        destination = self._known[name] = Destination(name, now)
        return destination

    def _fail(self, destination: Destination, status: DeliveryStatus) -> None:
        destination.window = 1
        destination.failures += 1
        destination.words = status.words
        if not destination.until and destination.failures < FAILURES_AT_MOST:
            return
        back_off = min(max(2.0 * destination.back_off, SUSPENSION_AT_FIRST), SUSPENSION_AT_MOST)
        destination.back_off = back_off
        destination.until = self._clock.seconds() + jittered(back_off, self._random())
        destination.failures = 0
        destination.era += 1
        destination.in_flight = 0
        self._publish(DestinationChanged(destination.name, "suspended", destination.window, status.words))
        while destination.waiting:
            self._next(destination).callback(self._suspended(destination))

    def _open(self, destination: Destination) -> None:
        destination.until = destination.back_off = 0.0
        destination.words = ""
        self._publish(DestinationChanged(destination.name, "open", destination.window, "the destination answers again"))

    def _fill(self, destination: Destination) -> None:
        """Hand free places to who waits. A delivery that ends at once comes back here while we are at it:
        then the loop below goes on with its place, and the stack stays flat."""
        if destination.filling:
            return
        destination.filling = True
        try:
            while destination.waiting and destination.in_flight < destination.window:
                destination.in_flight += 1
                self._next(destination).callback(Place(destination, destination.era))
        finally:
            destination.filling = False

    def _rate(self, destination: Destination, now: float) -> None:
        """Count anew how fast it is."""
        was_fast = destination.rate >= FAST
        destination.rate = destination.served / (now - destination.rated)
        destination.served, destination.rated = 0, now
        is_fast = destination.rate >= FAST
        if is_fast != was_fast:
            self.crowd += len(destination.waiting) if is_fast else -len(destination.waiting)

    def _next(self, destination: Destination) -> Deferred[Place | Refusal]:
        return self._gone(destination, destination.waiting.popleft())

    def _gone(self, destination: Destination, waiter: Deferred[Place | Refusal]) -> Deferred[Place | Refusal]:
        """Somebody left the line."""
        self._waiting -= 1
        self.crowd -= destination.rate >= FAST
        return waiter

    def _suspended(self, destination: Destination) -> Refusal:
        """Due when the suspension ends, spread a little, so that they do not all come in one moment."""
        words = f"{destination.name} did not answer lately: {destination.words}"
        spread = BUSY_TIME * self._random()
        return Refusal(
            DeliveryStatus(Action.DELAYED, "4.4.1", Reason.SUSPENDED, words),
            destination.until + spread,
        )

    def _busy(self, destination: Destination) -> Refusal:
        """Due when its line will have gone, as far as can be told."""
        words = f"too many mails wait for {destination.name}"
        seconds = BUSY_TIME if destination.rate < FAST else len(destination.waiting) / destination.rate
        return Refusal(
            DeliveryStatus(Action.DELAYED, "4.4.5", Reason.DESTINATION_BUSY, words),
            self._clock.seconds() + jittered(seconds, self._random()),
        )


def _answer(statuses: Sequence[DeliveryStatus]) -> bool | None:
    """True when the host took or refused a recipient for good, False when it only said later, None when it said
    nothing."""
    answer: bool | None = None
    for status in statuses:
        if status.action is not Action.DELAYED:
            return True
        if status.reason not in CONNECTION_FAILURES and status.reason not in _NEUTRAL:
            answer = False
    return answer
