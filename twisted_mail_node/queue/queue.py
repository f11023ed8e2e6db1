"""The outgoing queue: the door through which every mail enters, and the one place that decides when it is tried.

A mail that was just committed is tried from what is in memory, one reactor turn later (so that the client has its
250 first); the spool is not read for it. What is in memory is bounded: beyond it a new mail is recorded as due at
once, and comes back through the schedule, in the order of the due times. Nothing else is kept here but the
destinations: a mail that waits for its next attempt lies in the spool alone.
"""

from __future__ import annotations

import random as randomness
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_mail_node.events import MailHeld, Publish
from twisted_mail_node.events_outbound import WorkStuck
from twisted_mail_node.interfaces import IDeliveryAgent, IIncoming, IMailQueue, IRouter, ISpool
from twisted_mail_node.message.cause import Cause, understand
from twisted_mail_node.message.status import DeliveryStatus
from twisted_mail_node.message.trace import date
from twisted_mail_node.queue.arriving import Arriving
from twisted_mail_node.queue.attempt import ATTEMPT_GRACE, NOTIFY_TIME, ROUTE_TIME, Attempts, Notify, Rewrite
from twisted_mail_node.queue.destinations import WAITING_TIME, Destinations
from twisted_mail_node.queue.fetching import Fetching
from twisted_mail_node.queue.freezing import Freezes, Freezing
from twisted_mail_node.queue.limits import Limits
from twisted_mail_node.queue.operated import Operated
from twisted_mail_node.queue.operator import Operator
from twisted_mail_node.queue.outcome import Outcomes
from twisted_mail_node.queue.progress import Progress, Stage
from twisted_mail_node.queue.schedule import SLICE, Schedule
from twisted_mail_node.queue.watchdog import Watchdog
from twisted_mail_node.reasons import Reason
from twisted_mail_node.spool.mail import Mail
from twisted_mail_node.waiting import Led

if TYPE_CHECKING:
    from twisted_mail_node.settings import QueueSettings
    from twisted_mail_node.state.suppressions import Suppressions

#: Mails in work at once, waiting for a place included: about 40 MB of envelopes and coroutines.
MAILS_AT_MOST = 10_000
#: What a mail costs in memory beside its content, octets.
MAIL_WEIGHT = 2048
#: The part of both bounds that new mails may fill; the rest is kept for what the schedule brings, so that neither
#: starves the other.
FRESH_PART = 0.75
#: New mails whose attempts begin in one reactor turn: some milliseconds.
BEGUN_AT_ONCE = 200
#: Mails that may wait for destinations that are fast, before those who bring more are asked to pause.
CROWD = 300
#: The part of the memory for new mails that local deliveries may fill before that.
CROWDED_PART = 0.4
#: Seconds between two looks at who waits too long for a place, and which agent takes too long.
SWEEP_TIME = 60.0

_log = Logger()


class _Work(Progress):
    """A mail in memory from its acceptance (or its due time) to its last record."""

    __slots__ = ("led", "mail", "queue", "weight")

    def __init__(self, queue: OutgoingQueue, mail: Mail) -> None:
        super().__init__()
        self.queue = queue
        self.mail = mail
        self.led: Led | None = None
        octets = mail.content.octets
        self.weight = MAIL_WEIGHT + (len(octets) if octets is not None else 0)

    @property
    def queue_id(self) -> str:  # type: ignore[override]
        """See Progress."""
        return self.mail.queue_id

    def begin(self) -> None:
        """Tell the attempt's story."""
        self.led = led = Led(self.queue.carry(self), self.ended)
        led.start()

    def end(self) -> None:
        """Cancel what the attempt waits for."""
        if self.led is not None:
            self.led.cancel()

    def ended(self, failure: BaseException | None) -> None:
        """The attempt's story is over."""
        self.queue.forget(self, failure)


@implementer(IMailQueue)
class OutgoingQueue(Operated):
    """Takes mails in, tries them, and lets an operator see and change what waits.

    :param agents: delivery agents by the name a route calls them (``maildir``, ``relay``).
    :param notify: tells the sender of recipients that became final; returns after the DSN is committed.
    :param hostname: the node's name, shown by ``status``.
    :param limits: what holds for each destination; none: as ``settings`` say.
    :param exchangers_of: names of a next hop's mail exchangers, for limits that go by them; ``None`` where they
        cannot be found out now.
    :param freezes: where it is kept which destinations are frozen.
    :param understanding: what stands behind a delivery status.
    :param random: a random number from 0 to 1, anew at each call.
    :param suppressions: addresses that are not tried any more.
    :param rewrite: gives the reverse-path that a recipient's next hop is told (SRS), ``None`` for the mail's own.
    """

    def __init__(
        self,
        *,
        spool: ISpool,
        router: IRouter,
        agents: Mapping[str, IDeliveryAgent],
        notify: Notify,
        clock: IReactorTime,
        publish: Publish,
        settings: QueueSettings,
        hostname: str,
        random: Callable[[], float] = randomness.random,
        suppressions: Suppressions | None = None,
        rewrite: Rewrite | None = None,
        limits: Limits | None = None,
        exchangers_of: Callable[[str], Awaitable[Sequence[str] | None]] | None = None,
        freezes: Freezes | None = None,
        understanding: Callable[[DeliveryStatus], Cause] = understand,
    ) -> None:
        self.hostname = hostname
        self._spool = spool
        self._clock = clock
        self._publish = publish
        self._memory = settings.memory
        self._fresh_memory = int(settings.memory * FRESH_PART)
        self._schedule = Schedule(spool=spool, clock=clock, room=self._room, feed=self._feed)
        self._fetching = Fetching(spool=spool, clock=clock, due_at=self._schedule.due_at)
        self._destinations = Destinations(
            clock=clock,
            publish=publish,
            random=random,
            limits=limits if limits is not None else Limits((), settings),
            exchangers_of=exchangers_of,
            understanding=understanding,
            fetch=self._fetching.fetch,
        )
        self._freezing = Freezing(destinations=self._destinations, kept=freezes, now=clock.seconds)
        outcomes = Outcomes(
            clock=clock,
            publish=publish,
            retry=settings.retry,
            lifetime=settings.lifetime,
            random=random,
            suppressions=suppressions,
            ages=settings.delay_notices,
            limit_of=self._destinations.limit_of,
        )
        self._attempts = Attempts(
            spool=spool,
            router=router,
            agents=agents,
            notify=notify,
            destinations=self._destinations,
            clock=clock,
            publish=publish,
            outcomes=outcomes,
            attempt_time=settings.attempt_time,
            gone=self._is_gone,
            alone=self._is_alone,
            due_at=self._schedule.due_at,
            random=random,
            suppressions=suppressions,
            rewrite=rewrite,
        )
        self._operator = Operator(
            spool=spool,
            clock=clock,
            publish=publish,
            due_at=self._schedule.due_at,
            probe=self._destinations.probe,
            removed=self._forget_when_done,
        )
        self._fresh: deque[_Work] = deque()
        self._beginning: IDelayedCall | None = None
        self._sweeping: IDelayedCall | None = None
        self._works: dict[_Work, None] = {}
        self._working: dict[str, int] = {}  #: queue id -> how many of its Mail values are in work
        self._removed: set[str] = set()  #: of these, what an operator removed meanwhile
        self._mails = 0
        self._octets = 0
        self._stopping = False
        self._idle: Deferred[None] | None = None
        self._watchdog = Watchdog(
            clock=clock,
            publish=publish,
            spool=spool,
            schedule=self._schedule,
            destinations=self._destinations,
            works=self._works.keys(),
            working=self._working.keys(),
            deadlines={
                Stage.ROUTING: ROUTE_TIME,
                Stage.WAITING: WAITING_TIME,
                Stage.AGENT: settings.attempt_time + ATTEMPT_GRACE,
                Stage.REPORTING: NOTIFY_TIME,
            },
            begin=self._see_to_fresh,
        )

    # -- the life of the queue

    def start(self) -> Deferred[None]:
        """Begin with what the spool says is due. (What was active when the last process ended is due at once: the
        spool sees to that when it is opened.)"""
        self._freezing.start()
        self._schedule.start()
        self._sweeping = self._clock.callLater(SWEEP_TIME, self._sweep)
        return succeed(None)

    def stop(self, seconds: float) -> Deferred[None]:
        """Begin nothing more, and wait up to ``seconds`` for attempts under way. What is not finished then stays
        active in the spool, and is due at the next start."""
        self._stopping = True
        self._schedule.stop()
        self._fetching.stop()
        for timer in (self._beginning, self._sweeping):
            if timer is not None and timer.active():
                timer.cancel()
        self._beginning = self._sweeping = None
        while self._fresh:
            self.forget(self._fresh.popleft(), None)
        self._destinations.stop()
        self._attempts.hurry()
        return Deferred.fromCoroutine(self._end(seconds))

    async def _end(self, seconds: float) -> None:
        if self._mails:
            idle: Deferred[None] = Deferred()
            self._idle = idle
            timer = self._clock.callLater(seconds, self._become_idle)
            await idle
            if timer.active():
                timer.cancel()
        self._attempts.stop()

    def _become_idle(self) -> None:
        idle, self._idle = self._idle, None
        if idle is not None:
            idle.callback(None)

    def _sweep(self) -> None:
        self._sweeping = self._clock.callLater(SWEEP_TIME, self._sweep)
        for look in (self._destinations.sweep, self._attempts.under_way.sweep, self._watchdog.look):
            try:
                look()
            except Exception:
                _log.failure("a look at what waits broke")

    # -- mails come in

    @property
    def crowded(self) -> bool:
        """See IMailQueue. What waits for a slow or dead destination does not count: that is no reason to pause."""
        return self._destinations.crowd > CROWD or self._attempts.local_octets > CROWDED_PART * self._fresh_memory

    def begin(self) -> IIncoming:
        """A new incoming mail."""
        return Arriving(self, self._spool.begin())

    def accept(self, mail: Mail) -> None:
        """A mail was committed, with all its recipients active: try it, soon and from memory. Raises nothing."""
        if self._stopping:
            return  # active in the spool: due at the next start
        if self._mails >= MAILS_AT_MOST * FRESH_PART or (self._octets >= self._fresh_memory and self._mails):
            Led(self._attempts.put_back(mail), _log_failure).start()
            return
        self._fresh.append(self._remember(mail))
        if self._beginning is None:
            self._beginning = self._clock.callLater(0, self._begin_fresh)

    def held(self, mail: Mail, words: str) -> None:
        """A mail was committed as held."""
        self._publish(MailHeld(mail.queue_id, Reason.HELD, words))

    def held_back(self, mail: Mail) -> None:
        """A mail was committed that its sender has held back (RFC 4865): it comes with the schedule."""
        due = mail.envelope.release_at
        self._publish(MailHeld(mail.queue_id, Reason.HELD, f"its sender holds it back until {date(due)}"))
        self._schedule.due_at(due)

    def _see_to_fresh(self) -> None:
        """The watchdog's: somebody waits to begin though no turn is planned?"""
        if self._fresh and self._beginning is None and not self._stopping:
            work = self._fresh[0]
            self._publish(WorkStuck(work.mail.queue_id, "", str(Stage.BEGINNING), 0.0))
            self._begin_fresh()

    def _begin_fresh(self) -> None:
        self._beginning = None
        fresh = self._fresh
        for _ in range(min(len(fresh), BEGUN_AT_ONCE)):
            work = fresh.popleft()
            work.begin()
        if fresh and self._beginning is None:
            self._beginning = self._clock.callLater(0, self._begin_fresh)

    def _feed(self, mail: Mail) -> None:
        """The schedule brings a mail that is due."""
        self._remember(mail).begin()

    def carry(self, work: _Work) -> Coroutine[Any, Any, None]:
        """The story of its attempt."""
        return self._attempts.carry(work.mail, work)

    def _remember(self, mail: Mail) -> _Work:
        work = _Work(self, mail)
        self._mails += 1
        self._octets += work.weight
        self._works[work] = None
        queue_id = mail.queue_id
        self._working[queue_id] = self._working.get(queue_id, 0) + 1
        return work

    def forget(self, work: _Work, failure: BaseException | None) -> None:
        """A mail leaves the memory. ``failure`` would be a defect of ours: its recipients stay active until the
        next start."""
        if failure is not None:
            _log_failure(failure)
        work.led = None  # they hold each other
        del self._works[work]
        self._mails -= 1
        self._octets -= work.weight
        queue_id = work.mail.queue_id
        left = self._working[queue_id] - 1
        if left:
            self._working[queue_id] = left
        else:
            del self._working[queue_id]
            self._removed.discard(queue_id)
        if self._schedule.full and (not self._mails or self._room() >= SLICE):
            self._schedule.room_made()
        if not self._mails:
            self._become_idle()

    def _room(self) -> int:
        """How many due mails may be taken into memory now; one in any case when it is empty."""
        if self._octets >= self._memory:
            return 0 if self._mails else 1
        return MAILS_AT_MOST - self._mails

    def _forget_when_done(self, queue_id: str) -> None:
        """An operator removed the mail: nothing comes of an attempt under way."""
        if queue_id in self._working:
            self._removed.add(queue_id)

    def _is_gone(self, queue_id: str) -> bool:
        return queue_id in self._removed

    def _is_alone(self, queue_id: str) -> bool:
        return self._working.get(queue_id) == 1

    def limits_changed(self) -> None:
        """The limits were reloaded."""
        self._destinations.limits_changed()

    def status(self) -> dict[str, object]:
        """What is in memory: mails and octets in work, the next reading of the spool, the destinations."""
        return {
            "hostname": self.hostname,
            "mails": self._mails,
            "octets": self._octets,
            "not_begun": len(self._fresh),
            "backlog_waits_for_room": self._schedule.full,
            "next_reading": self._schedule.next_reading,
            "destinations": self._destinations.status(),
        }


def _log_failure(failure: BaseException | None) -> None:
    if failure is not None:
        _log.failure(
            "an attempt broke; its mail is due at the next start",
            failure=Failure(failure),
        )
