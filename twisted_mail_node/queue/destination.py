"""One remote next hop: what is known about it, and what it says when there is no place for a mail.

``queue.destinations`` decides; this is what it decides about. Whoever gets no place is told when to come again, and
these times are spread: however many mails wait for a dead host, only so many of them come back in a second to hear
that it is still dead. What comes back costs the spool one reading and one record.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple

from twisted.internet.defer import Deferred

from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.queue.line import Line
from twisted_mail_node.queue.retry import jittered
from twisted_mail_node.reasons import Reason

if TYPE_CHECKING:
    from twisted_mail_node.queue.limits import Limit
    from twisted_mail_node.queue.pace import Share

#: Seconds until a mail is due again that found no room to wait.
BUSY_TIME = 45.0
#: Deliveries a second from which on a destination is fast: what waits for it goes soon, and is worth keeping in memory.
FAST = 50.0
#: Mails a second that come back from one closed destination ...
RETURNS = 20.0
#: ... and from all of them together.
RETURNS_IN_ALL = 200.0
#: Seconds until a mail for a frozen destination is looked at again, unless it is thawed before.
FROZEN_TIME = 6 * 3600.0


class Refusal(NamedTuple):
    """No place: the recipients are due again at ``due``; ``stopping`` when nothing shall be recorded at all."""

    status: DeliveryStatus
    due: float
    stopping: bool = False


class Destination:
    """What is known about one next hop.

    :ivar in_flight: places taken since ``era`` began; a suspension begins a new one.
    :ivar until: end of the suspension or pause, 0 when there is none. It stays set while the probe is under way.
    :ivar closed: why ``until`` is set.
    :ivar frozen: an operator's words; ``None``: it is not frozen.
    :ivar pauses: pauses the host asked for so far; who took a place before one cannot ask for another.
    :ivar careful: the window grows slowly up to here, for the host asked for less.
    :ivar promised: the last time that was given to a mail which went back to the spool.
    :ivar promising: since when there are such times to come.
    :ivar learning: its exchangers are asked for; until they are known nobody gets a place.
    """

    __slots__ = (
        "back_off",
        "careful",
        "closed",
        "deferred",
        "delivered",
        "era",
        "exchangers",
        "failures",
        "fetched",
        "fetching",
        "filling",
        "frozen",
        "in_flight",
        "learn_at",
        "learning",
        "limit",
        "measured",
        "name",
        "pauses",
        "promised",
        "promising",
        "rate",
        "rated",
        "served",
        "share",
        "steps",
        "until",
        "used",
        "waiting",
        "window",
        "window_most",
        "words",
    )

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.window = self.window_most = 1
        self.in_flight = 0
        self.waiting: Line[Deferred[Place | Refusal]] = Line()
        self.limit: Limit | None = None
        self.share: Share | None = None
        self.exchangers: tuple[str, ...] | None = None
        self.learning = False
        self.learn_at = inf  #: when to ask for the exchangers again, where they could not be found out
        self.failures = 0
        self.until = 0.0
        self.closed = Reason.SUSPENDED
        self.frozen: str | None = None
        self.back_off = 0.0
        self.pauses = 0
        self.careful = 0
        self.steps = 0  #: successes since the window grew
        self.words = ""
        self.era = 0
        self.used = now
        self.filling = False
        self.promised = self.promising = 0.0
        self.fetching = False
        self.fetched = 0.0  #: when
        self.served = 0  #: deliveries since ``rated``
        self.rated = now
        self.rate = FAST  #: deliveries a second, lately; until we know better it counts as fast
        self.measured = False
        self.delivered = self.deferred = 0  #: recipients

    @property
    def idle(self) -> bool:
        """Nobody is in flight or waits."""
        return not self.in_flight and not self.waiting and not self.learning

    def state(self, now: float) -> str:
        """``frozen``, ``suspended``, ``slowed``, ``paced`` or ``open``."""
        if self.frozen is not None:
            return "frozen"
        if self.until > now:
            return str(self.closed)
        pace = self.share.pace if self.share is not None else None
        if pace is not None and pace.next(now) > now:
            return "paced"
        return "open"

    def told(self, now: float) -> dict[str, object]:
        """What an operator sees."""
        limit, share = self.limit, self.share
        pace = share.pace if share is not None else None
        state = self.state(now)
        until: float | None = None
        if state == "paced":
            assert pace is not None
            until = pace.next(now)
        elif self.until > now and self.frozen is None:
            until = self.until
        return {
            "destination": self.name,
            "window": self.window,
            "in_flight": self.in_flight,
            "waiting": len(self.waiting),
            "state": state,
            "until": until,
            "rate": round(self.rate, 1) if self.measured else 0.0,
            "delivered": self.delivered,
            "deferred": self.deferred,
            "words": self.frozen if self.frozen is not None else self.words,
            "limit": "" if limit is None else limit.why,
            "rates": [] if limit is None else [str(rate) for rate in limit.rates],
            "left": None if pace is None else pace.left(now),
        }

    def widen(self) -> None:
        """A success: one wider. Where the host asked for less, after as many successes as the window is wide."""
        if self.window < self.careful:
            self.steps += 1
            if self.steps < self.window:
                return
        self.steps = 0
        self.window += 1

    def expect(self, now: float, until: float) -> None:
        """Mails may have gone back to the spool that come until then."""
        if self.promised <= now:
            self.promising = now
        self.promised = max(self.promised, until)

    def promise(self, now: float, earliest: float, a_second: float) -> float:
        """The next of the times at which mails come back, ``a_second`` of them in a second."""
        if self.promised <= now:
            self.promising = now
        self.promised = max(self.promised, earliest) + 1.0 / a_second
        return self.promised

    def refuse_closed(self, now: float, closed: int) -> Refusal:
        """It is frozen, suspended or paused: due after that, in turn.

        :param closed: how many destinations are.
        """
        a_second = min(RETURNS, RETURNS_IN_ALL / max(closed, 1))
        if self.frozen is not None:
            words = f"an operator has stopped mail to {self.name}" + (f": {self.frozen}" if self.frozen else "")
            status = DeliveryStatus(Action.DELAYED, "4.3.2", Reason.FROZEN, words)
            return Refusal(status, self.promise(now, now + FROZEN_TIME, a_second))
        if self.closed is Reason.SLOWED:
            words = f"{self.name} asked for less mail at a time: {self.words}"
            status = DeliveryStatus(Action.DELAYED, "4.4.5", Reason.SLOWED, words)
        else:
            words = f"{self.name} did not answer lately: {self.words}"
            status = DeliveryStatus(Action.DELAYED, "4.4.1", Reason.SUSPENDED, words)
        return Refusal(status, self.promise(now, self.until, a_second))

    def refuse_paced(self, now: float) -> Refusal:
        """The rate is used up: due when it is its turn."""
        assert self.share is not None and self.limit is not None
        rates = ", ".join(str(rate) for rate in self.limit.rates)
        words = f"mail to {self.name} goes at {rates} ({self.limit.why})"
        status = DeliveryStatus(Action.DELAYED, "4.4.5", Reason.PACED, words)
        return Refusal(status, self.share.promise(now))

    def refuse_busy(self, now: float, chance: float) -> Refusal:
        """Its line is full: due when the line will have gone, as far as can be told.

        :param chance: a random number from 0 to 1.
        """
        words = f"too many mails wait for {self.name}"
        seconds = BUSY_TIME if self.rate < FAST else len(self.waiting) / self.rate
        due = self.promise(now, now + jittered(seconds, chance), max(self.rate, RETURNS))
        return Refusal(DeliveryStatus(Action.DELAYED, "4.4.5", Reason.DESTINATION_BUSY, words), due)


class Place(NamedTuple):
    """The right to one delivery; given back with ``Destinations.leave``."""

    destination: Destination
    era: int
    pauses: int = 0
    share: Share | None = None
