"""Looks each minute whether everything in memory goes on, names what does not, and ends what can be ended.

Every wait of the queue has a deadline of its own; this is for the day when one of them does not hold. A stage is timed
from the first look that saw it, so the attempts pay nothing for it; a look costs about a microsecond a mail.
Some waits cannot be ended: for the spool to write, there is nothing else to be done. They are named all the same.
Now and then the spool is asked for recipients that are active though nobody works on them: they are put back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_mail_node.events import Publish
from twisted_mail_node.events_outbound import WorkStuck
from twisted_mail_node.interfaces import ISpool
from twisted_mail_node.queue.destinations import Destinations
from twisted_mail_node.queue.outcome import put_off
from twisted_mail_node.queue.progress import Progress, Stage
from twisted_mail_node.queue.schedule import Schedule
from twisted_mail_node.spool.mail import Filter, State

#: Seconds beyond a wait's own deadline: its own ending comes first, and is seen at the look after that.
GRACE = 180.0
#: Seconds a mail may wait for the spool, or for its turn to begin, or the schedule for the spool.
SPOOL_TIME = 300.0
#: Looks from one question to the spool to the next.
LOOKS = 10
#: Mails that one question to the spool may bring.
ASKED_AT_MOST = 1000
#: Stages that end when what they wait for is cancelled.
_ENDABLE = frozenset({Stage.ROUTING, Stage.WAITING, Stage.AGENT, Stage.REPORTING})

_log = Logger()


class Watchdog:
    """Looks.

    :param works: the mails in memory now.
    :param working: their queue ids.
    :param deadlines: seconds that a stage may last by its own deadline.
    :param begin: begins what has not begun; for when that was forgotten.
    """

    def __init__(
        self,
        *,
        clock: IReactorTime,
        publish: Publish,
        spool: ISpool,
        schedule: Schedule,
        destinations: Destinations,
        works: Collection[Progress],
        working: Collection[str],
        deadlines: Mapping[Stage, float],
        begin: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._publish = publish
        self._spool = spool
        self._schedule = schedule
        self._destinations = destinations
        self._works = works
        self._working = working
        self._begin = begin
        self._deadlines = {stage: deadlines.get(stage, SPOOL_TIME) + GRACE for stage in Stage}
        self._looks = 0
        self._asking = False
        self._suspected: set[tuple[str, int]] = set()

    def look(self) -> None:
        """To be called once a minute."""
        now = self._clock.seconds()
        for work in list(self._works):
            if work.stage is not Stage.PARTS:
                self._look_at(work, work, now)
            for part in work.parts:
                self._look_at(work, part, now)
        for destination in self._destinations.unserved():
            self._publish(WorkStuck("", destination.name, "line", 0.0))
            self._destinations.serve(destination)
        what, seconds = self._schedule.overdue(now, bool(self._works))
        if what and seconds > (SPOOL_TIME if what == "reading" else 0.0):
            self._publish(WorkStuck("", "", what, round(seconds, 3)))
            self._schedule.wake()
        self._begin()
        self._looks += 1
        if self._looks % LOOKS == 0 and not self._asking:
            self._asking = True
            Deferred.fromCoroutine(self._ask())

    def _look_at(self, work: Progress, at: Progress, now: float) -> None:
        if not at.since:
            at.since = now
            at.named = self._deadlines[at.stage]
            return
        seconds = now - at.since
        if at.stage is Stage.ENDED or seconds < at.named:
            return
        at.named = 2 * seconds
        self._publish(WorkStuck(work.queue_id, at.destination, str(at.stage), round(seconds, 3)))
        if at.stage in _ENDABLE:
            at.end()

    async def _ask(self) -> None:
        """Put back what the spool holds as active, at two questions in a row, while nobody works on it."""
        before = set(self._working)
        try:
            mails = await self._spool.find(Filter(state=State.ACTIVE, limit=ASKED_AT_MOST))
            found = {
                (mail.queue_id, entry.number): (mail, entry)
                for mail in mails
                if mail.queue_id not in before and mail.queue_id not in self._working
                for entry in mail.entries
                if entry.state is State.ACTIVE
            }
            sure = self._suspected & set(found)
            self._suspected = set(found) - sure
            now = self._clock.seconds()
            changes = []
            for one in sure:
                mail, entry = found[one]
                self._publish(WorkStuck(mail.queue_id, entry.destination, "forgotten", round(now - mail.received, 3)))
                changes.append(put_off(mail.queue_id, entry, now, entry.last))
            if changes:
                await self._spool.record(changes)
                self._schedule.due_at(now)
        except Exception:
            _log.failure("the spool does not say what it holds as active; asked again later")
        finally:
            self._asking = False
