"""Who gets a place at which remote next hop: how many deliveries go there at once, how fast, and when none do.

A window grows by one with each success and closes to one at a failure of the connection itself. After some of
these in a row the destination is suspended: its mails are put off without an attempt, so that a dead host costs
nobody else a place. When the suspension ends the first mail is the probe, and the others wait for what it finds.
A host that asks for less mail (``Kind.RATE``) is paused likewise, and its window opens slowly afterwards. Limits of
the settings bound the window and set a pace; an operator may freeze a destination.
Those who wait for a place go by their priority (``queue.line``). Slow destinations have short lines, so that they fill
neither the memory nor the spool's time; what was sent back for their sake is fetched again (``queue.fetching``) when
they can take it. There is no timer here but one for each pace that somebody waits for: whoever owns this calls
``sweep`` now and then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from math import inf

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_mail_node.events import DestinationChanged, Publish
from twisted_mail_node.message.cause import Cause, understand
from twisted_mail_node.message.precedence import ORDINARY, URGENT
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.queue.destination import FROZEN_TIME, Destination, Place, Refusal
from twisted_mail_node.queue.hearing import hear
from twisted_mail_node.queue.limits import Limit, Limits
from twisted_mail_node.queue.lines import RATE_TIME, WAITING_TIME, Lines
from twisted_mail_node.queue.pace import Share
from twisted_mail_node.queue.retry import jittered
from twisted_mail_node.reasons import Reason
from twisted_mail_node.waiting import within

__all__ = ["WAITING_TIME", "Destination", "Destinations", "Place", "Refusal"]

#: Deliveries in flight to a destination we know nothing about yet: what Postfix and others allow a host by default.
WINDOW_AT_FIRST = 20
#: ... and to one that takes all we bring: 20 connections, each with a few mails lined up behind the one it carries.
WINDOW_AT_MOST = 200
#: The connections that this is meant for; limits with more or fewer make it wider or narrower.
CONNECTIONS = 20
#: Seconds a mail waits for its turn at a paced destination rather than go back to the spool; half of it when it is new,
#: so that what comes back for its turn finds room.
PACE_WAIT = 60.0
#: Failures of the connection in a row, without any answer between them, until the destination is suspended.
FAILURES_AT_MOST = 3
#: Seconds of the first suspension; each further one lasts twice as long, up to the longest.
SUSPENSION_AT_FIRST = 60.0
SUSPENSION_AT_MOST = 1800.0
#: Seconds of the first pause of a host that asks for less; each further one without a success lasts twice as long.
PAUSE_AT_FIRST = 60.0
#: Half of what is fetched at once at most: some tenths of a second's work for a fast destination.
FETCHED = 500
#: Seconds that are waited for the names of exchangers.
EXCHANGERS_TIME = 30.0
#: Seconds until they are asked for again when they could not be found out.
EXCHANGERS_AGAIN = 300.0
#: Seconds after which an idle destination is forgotten.
FORGET_AFTER = 7200.0
#: Destinations remembered; beyond, the oldest idle ones are forgotten at once.
DESTINATIONS_AT_MOST = 20_000
#: How many of the oldest are looked at to find an idle one: bounds the work of one ``enter``.
_LOOKED_AT = 50
#: Destinations that ``status`` lists, the busiest first.
LISTED_AT_MOST = 1000

_RELAYED = Action.RELAYED
_log = Logger()


class Destinations:
    """All destinations that have work, failed lately, or were busy lately.

    :param limits: what holds for each.
    :param random: a random number from 0 to 1, anew at each call.
    :param exchangers_of: names of a next hop's mail exchangers, ``None`` where they cannot be found out now; asked when
        a rule depends on them.
    :param understanding: what stands behind a status.
    :param fetch: is told of a destination that can take mails which went back to the spool, and how many.
    """

    def __init__(
        self,
        *,
        clock: IReactorTime,
        publish: Publish,
        random: Callable[[], float],
        limits: Limits,
        exchangers_of: Callable[[str], Awaitable[Sequence[str] | None]] | None = None,
        understanding: Callable[[DeliveryStatus], Cause] = understand,
        fetch: Callable[[Destination, int], None] = lambda destination, room: None,
    ) -> None:
        self._clock = clock
        self._publish = publish
        self._random = random
        self._limits = limits
        self._exchangers_of = exchangers_of
        self._understand = understanding
        self._fetch = fetch
        self._known: dict[str, Destination] = {}
        self._shares: dict[str, Share] = {}
        self._lines = Lines(clock, random)

    @property
    def crowd(self) -> int:
        """Mails that wait for fast destinations: they wait because more comes in than we carry out."""
        return self._lines.crowd

    async def enter(self, next_hop: str, priority_class: int = ORDINARY, fresh: bool = False) -> Place | Refusal:
        """A place in the window of ``next_hop``: at once, after a wait in line (``WAITING_TIME`` at most), or none.

        Where the line is full, who is less urgent gives way.

        :param priority_class: see ``message.precedence``.
        :param fresh: the mail did not come from the spool: it lets those that did go first.
        """
        now = self._clock.seconds()
        destination = self._known.get(next_hop) or self._meet(next_hop, now)
        destination.used = now
        if now >= destination.learn_at:
            self._learn(destination)
        if destination.until > now or destination.frozen is not None:
            return destination.refuse_closed(now, self._lines.closed)
        share = destination.share
        if share is not None and share.pace is not None:
            behind = fresh and priority_class != URGENT
            wait = max(share.wait(now), share.promised - now if behind else 0.0)
            if wait > (PACE_WAIT / 2 if behind else PACE_WAIT):
                return destination.refuse_paced(now)
        free = destination.in_flight < destination.window and not destination.waiting and not destination.learning
        if free and (share is None or (not share.line and share.take(now))):
            destination.in_flight += 1
            return Place(destination, destination.era, destination.pauses, share)
        return await self._lines.wait(destination, now, priority_class, fresh)

    def leave(self, place: Place, statuses: Sequence[DeliveryStatus]) -> None:
        """Give the place back with what the attempt came to; ``()`` when there was none."""
        destination, era, pauses, share = place
        destination.used = now = self._clock.seconds()
        destination.served += 1
        if now - destination.rated >= RATE_TIME:
            self._lines.rate(destination, now)
        ours = era == destination.era
        if ours:
            destination.in_flight -= 1
        if share is not None:
            share.in_flight -= 1
        answer: bool | None = True
        failure = slower = None
        if len(statuses) == 1 and statuses[0].action is _RELAYED:  # most attempts, told apart here for speed
            destination.delivered += 1
        else:
            answer, failure, slower, delivered, deferred = hear(statuses, self._understand)
            destination.delivered += delivered
            destination.deferred += deferred
        if slower is not None:
            if ours and pauses == destination.pauses:
                self._slow(destination, slower)
        elif answer is not None:
            destination.failures = 0
            slowed = destination.closed is Reason.SLOWED
            if destination.until and (not slowed or (answer and pauses == destination.pauses)):
                self._open(destination)
            if answer and destination.window < destination.window_most:
                destination.widen()
            if destination.promised > now:
                self._look_back(destination, now)
        elif ours and failure is not None:
            self._fail(destination, failure)
        if destination.waiting or share is not None:
            self._lines.fill(destination)
            if share is not None and share is not destination.share:  # other rules hold since it took the place
                self._lines.fill_share(share)

    def limit_of(self, next_hop: str) -> Limit | None:
        """What holds for a destination that is known now; or where nobody knows where a mail goes, for ``""``."""
        known = self._known.get(next_hop)
        if known is not None:
            return known.limit
        return None if next_hop else self._limits.anywhere

    def probe(self, next_hop: str) -> None:
        """An operator wants to know: end a suspension now, so that the next mail is the probe."""
        destination = self._known.get(next_hop)
        if destination is not None and destination.until:
            destination.until = min(destination.until, self._clock.seconds())

    def freeze(self, next_hop: str, words: str) -> None:
        """Nothing is tried there until ``thaw``; what is in flight goes on."""
        destination = self._known.get(next_hop) or self._meet(next_hop, self._clock.seconds())
        if destination.frozen is None:
            self._lines.closed += not destination.until
            self._publish(DestinationChanged(next_hop, "frozen", destination.window, words))
        destination.frozen = words
        self._lines.send_home(destination)

    def thaw(self, next_hop: str) -> None:
        """Try again, beginning with what was put off meanwhile."""
        destination = self._known.get(next_hop)
        if destination is None or destination.frozen is None:
            return
        now = self._clock.seconds()
        destination.frozen = None
        self._lines.closed -= not destination.until
        self._publish(
            DestinationChanged(next_hop, "thawed", destination.window, "an operator lets mail go there again")
        )
        destination.expect(now, now + 2 * FROZEN_TIME)  # what the process before this one put off comes back, too
        self._look_back(destination, now)

    def limits_changed(self) -> None:
        """The limits were reloaded: let them hold for those that are known, too."""
        for destination in list(self._known.values()):
            self._obey(destination)
            if self._limits.by_exchangers and destination.exchangers is None:
                self._learn(destination)
            self._lines.fill(destination)

    def sweep(self) -> None:
        """Send back who waited too long, forget who is idle. To be called about once a minute."""
        now = self._clock.seconds()
        for destination in list(self._known.values()):
            self._lines.sweep(destination, now)
            if not destination.idle:
                continue
            if destination.promised > now and destination.until <= now:
                self._look_back(destination, now)  # nobody came by whose answer would have led here
            elif max(destination.used, destination.until) + FORGET_AFTER <= now and destination.frozen is None:
                pace = destination.share.pace if destination.share is not None else None
                if pace is None or not pace.remembers(now):  # 100 a day are not 100 anew after two quiet hours
                    self._forget(destination)

    def stop(self) -> None:
        """Wake everyone who waits, with a refusal that says ``stopping``."""
        for destination in list(self._known.values()):
            self._lines.stop(destination)

    def status(self) -> list[dict[str, object]]:
        """What is known of each, the busiest first."""
        now = self._clock.seconds()
        busiest = sorted(self._known.values(), key=lambda known: (-known.in_flight - len(known.waiting), -known.until))
        return [known.told(now) for known in busiest[:LISTED_AT_MOST]]

    def unserved(self) -> list[Destination]:
        """Those where somebody waits though there is a place; there should be none (``queue.watchdog``)."""
        return [known for known in self._known.values() if self._lines.has_place(known)]

    def serve(self, destination: Destination) -> None:
        """Hand out the free places of a destination."""
        self._lines.fill(destination)

    # -- what is known

    def _meet(self, name: str, now: float) -> Destination:
        if len(self._known) >= DESTINATIONS_AT_MOST:
            oldest = [known for known, _ in zip(self._known.values(), range(_LOOKED_AT), strict=False)]
            for known in oldest:
                del self._known[known.name]
                if known.idle and known.frozen is None:
                    self._known[known.name] = known
                    self._forget(known)
                    break
                self._known[known.name] = known  # to the end of the line
        destination = self._known[name] = Destination(name, now)
        self._obey(destination)
        destination.window = min(WINDOW_AT_FIRST, destination.window_most)
        if self._limits.by_exchangers:
            self._learn(destination)
        return destination

    def _forget(self, destination: Destination) -> None:
        del self._known[destination.name]
        self._lines.closed -= bool(destination.until)
        destination.until = 0.0  # a delivery from before its suspension may still come back
        self._join(destination, None)

    def _obey(self, destination: Destination) -> None:
        """Let the limits of the settings hold."""
        limit = destination.limit = self._limits.of(destination.name, destination.exchangers)
        destination.window_most = max(WINDOW_AT_MOST * limit.connections // CONNECTIONS, 1)
        destination.window = min(destination.window, destination.window_most)
        share: Share | None = None
        if limit.rates or limit.key != destination.name:
            share = self._shares.get(limit.key)
            if share is None:
                share = self._shares[limit.key] = Share(limit.key)
            share.obey(destination.window_most, limit.rates)
        self._join(destination, share)

    def _join(self, destination: Destination, share: Share | None) -> None:
        """Let it be one of those that share ``share``; whoever is in flight there now is not counted."""
        old = destination.share
        if old is not None and old is not share:
            old.line.pop(destination, None)
            old.members.pop(destination, None)
            old.waiting -= len(destination.waiting)
            if not old.members:
                old.stop_timer()
                self._shares.pop(old.key, None)
        if share is not None and share is not old:
            share.members[destination] = None
            share.waiting += len(destination.waiting)
            if destination.waiting:
                share.line[destination] = None
        destination.share = share

    def _learn(self, destination: Destination) -> None:
        """Have the names of its exchangers looked up; meanwhile its mails wait in line."""
        if self._exchangers_of is not None and not destination.learning:
            destination.learning = True
            destination.learn_at = inf
            Deferred.fromCoroutine(self._ask_exchangers(destination, self._exchangers_of))

    async def _ask_exchangers(
        self, destination: Destination, exchangers_of: Callable[[str], Awaitable[Sequence[str] | None]]
    ) -> None:
        names: Sequence[str] | None = None
        try:
            names = await within(self._clock, EXCHANGERS_TIME, exchangers_of(destination.name))
        except Exception:
            _log.failure("the exchangers of {name} could not be found out", name=destination.name)
        if names is None:
            destination.learn_at = self._clock.seconds() + EXCHANGERS_AGAIN
        else:
            destination.exchangers = tuple(names)
        destination.learning = False
        if self._known.get(destination.name) is destination:
            self._obey(destination)
            self._lines.fill(destination)

    # -- what an attempt says

    def _fail(self, destination: Destination, status: DeliveryStatus) -> None:
        destination.window = 1
        destination.failures += 1
        destination.words = status.words
        if not destination.until and destination.failures < FAILURES_AT_MOST:
            return
        self._close(destination, Reason.SUSPENDED, SUSPENSION_AT_FIRST, status)
        destination.failures = 0
        destination.era += 1
        destination.in_flight = 0

    def _slow(self, destination: Destination, status: DeliveryStatus) -> None:
        """The host asked for less: half the window at the first time, one mail when it asks again; after a pause."""
        destination.careful = max(destination.window, destination.careful if destination.back_off else 0)
        destination.window = 1 if destination.back_off else max(destination.window // 2, 1)
        destination.pauses += 1
        self._close(destination, Reason.SLOWED, PAUSE_AT_FIRST, status)

    def _close(self, destination: Destination, why: Reason, shortest: float, status: DeliveryStatus) -> None:
        back_off = min(max(2.0 * destination.back_off, shortest), SUSPENSION_AT_MOST)
        destination.back_off = back_off
        self._lines.closed += not destination.until and destination.frozen is None
        destination.until = self._clock.seconds() + jittered(back_off, self._random())
        destination.closed = why
        destination.words = status.words
        self._publish(DestinationChanged(destination.name, str(why), destination.window, status.words))
        self._lines.send_home(destination)

    def _open(self, destination: Destination) -> None:
        self._lines.closed -= destination.frozen is None
        words = "the destination answers again" if destination.closed is Reason.SUSPENDED else "it takes mail again"
        destination.until = destination.back_off = 0.0
        destination.words = ""
        self._publish(DestinationChanged(destination.name, "open", destination.window, words))

    def _look_back(self, destination: Destination, now: float) -> None:
        """Have fetched what went back to the spool for the sake of this destination, as much as its line has room:
        one mail as a probe, and under a pace no more than soon have their turn."""
        if destination.frozen is not None or destination.until > now:
            return
        share = destination.share
        room = 1 if destination.until else min(self._lines.room(destination), FETCHED) // 2 - len(destination.waiting)
        if share is not None and share.pace is not None:
            wait = share.wait(now)
            turns = int((PACE_WAIT / 2 - wait) / share.pace.interval) if wait else max(share.pace.left(now), 1)
            room = min(room, turns)
        if room > 0:
            self._fetch(destination, room)
