"""One attempt to deliver a mail, told from the routes of its recipients to the record of what became of them.

    route each recipient            -> groups with the same agent, next hop and TLS level, carried side by side
    a place in the window           -> (remote only) or: put off without an attempt
    agent.deliver(request)          -> one delivery status for each recipient, or the end of its time
    settle                          -> delivered, relayed: finished; delayed: due again; failed: reported, then finished
                                       later than its sender wants it (RFC 2852): reported, then due again or finished
    gathering                       -> what all groups have to report, in one DSN of each kind
    spool.record                    -> the next group commit

At any instant the spool knows each recipient as active (we are at it; a crash lets it be due again), as delayed, or
as finished; what an agent delivered and we had not yet recorded is delivered once more after a crash, never less.
A DSN is committed before the recipient is finished. When that fails, the recipient is recorded as delayed with its
final status in ``last``: at its due time only the report is repeated, not the delivery.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_mail_node.events import MailFinished, Publish
from twisted_mail_node.interfaces import IDeliveryAgent, IRouter, ISpool
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.message.precedence import class_of
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.queue.destinations import Destinations, Refusal
from twisted_mail_node.queue.gathering import Gathering
from twisted_mail_node.queue.operator import rerouted
from twisted_mail_node.queue.outcome import Outcome, Outcomes, put_off
from twisted_mail_node.queue.progress import Progress, Stage
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.queue.retry import is_too_late, jittered, not_in_time
from twisted_mail_node.queue.watch import Watch
from twisted_mail_node.reasons import Reason
from twisted_mail_node.routing import Route
from twisted_mail_node.spool.mail import Change, Entry, Filter, Mail, State
from twisted_mail_node.state.suppressions import status_of
from twisted_mail_node.waiting import within

if TYPE_CHECKING:
    from twisted_mail_node.state.suppressions import Suppressions


class Notify(Protocol):
    """Tells the sender what became of recipients; ends when the DSNs are committed."""

    def __call__(
        self, mail: Mail, told: Sequence[tuple[Entry, DeliveryStatus]], until: float | None = None
    ) -> Awaitable[None]:
        """:param until: when we give up those who are delayed (seconds since the epoch)."""


#: Seconds beyond an attempt's deadline after which we stop waiting for an agent that does not keep to it.
ATTEMPT_GRACE = 60.0
#: Seconds for a route: a look-up in memory, or in whatever a router of someone else's asks.
ROUTE_TIME = 60.0
#: Seconds for a DSN to be made and committed.
NOTIFY_TIME = 300.0
#: Seconds until a report that failed is tried again.
NOTIFY_AGAIN = 300.0
#: Seconds until the spool is asked again to do what it could not.
SPOOL_AGAIN = 10.0
#: Agents that need no place in a window: they do not leave this machine.
WITHOUT_WINDOW = frozenset({"maildir"})

_ACTION_DELAYED = Action.DELAYED
BROKEN = DeliveryStatus(Action.DELAYED, "4.3.0", Reason.INTERNAL, "something broke here; we try again")
ROUTER_BROKEN = DeliveryStatus(Action.DELAYED, "4.3.0", Reason.INTERNAL, "no route could be found out; we try again")

#: A recipient that only stands for an alias (RFC 3461 section 5.2.7.3).
EXPANDED = DeliveryStatus(Action.EXPANDED, "2.0.0", Reason.EXPANDED, Reason.EXPANDED.meaning)

#: The time that the sender set has passed (RFC 2852 section 4.1).
TOO_LATE = not_in_time(None)

_log = Logger()

#: How a group of recipients goes on: by a route; with a status that is known already; ``None``: only to be reported.
_Way = Route | DeliveryStatus | None
Rewrite = Callable[[Envelope, Recipient], Address | None]


class Attempts:
    """Makes attempts.

    :ivar under_way: watches over the agents; to be swept now and then.

    :param attempt_time: seconds an attempt may last; the agent's own steps have shorter deadlines.
    :param gone: tells whether an operator removed the mail since the attempt began.
    :param alone: tells whether the attempt that asks is the only one for its mail now.
    :param due_at: is told when something was recorded that is due at that time.
    :param random: a random number from 0 to 1, anew at each call.
    :param suppressions: knows addresses on other hosts that are not tried any more.
    :param rewrite: gives the reverse-path that a recipient's next hop is told, ``None`` for the mail's own.
    """

    def __init__(
        self,
        *,
        spool: ISpool,
        router: IRouter,
        agents: Mapping[str, IDeliveryAgent],
        notify: Notify,
        destinations: Destinations,
        clock: IReactorTime,
        publish: Publish,
        outcomes: Outcomes,
        attempt_time: float,
        gone: Callable[[str], bool],
        alone: Callable[[str], bool],
        due_at: Callable[[float], None],
        random: Callable[[], float],
        suppressions: Suppressions | None = None,
        rewrite: Rewrite | None = None,
    ) -> None:
        self._spool = spool
        self._router = router
        self._agents = agents
        self._notify = notify
        self._destinations = destinations
        self._clock = clock
        self._publish = publish
        self._outcomes = outcomes
        self._deadline = attempt_time
        self.under_way = Watch(clock, attempt_time + ATTEMPT_GRACE)
        self._gone = gone
        self._alone = alone
        self._due_at = due_at
        self._random = random
        self._suppressions = suppressions
        self._rewrite = rewrite
        self._naps: set[Deferred[None]] = set()
        self._unsure: set[str] = set()  #: mails that may have left the spool while another attempt went on
        self._gatherings: set[Gathering] = set()
        self._hurried = False
        self._stopped = False
        self.local_octets = 0  #: content in memory that is being delivered on this machine

    async def carry(self, mail: Mail, at: Progress) -> None:
        """Try every entry of ``mail`` once. Ends when all is recorded; raises nothing.

        :param at: is kept up to date, for the watchdog.
        """
        entries = mail.entries
        at.stage = Stage.ROUTING
        at.since = 0.0
        if len(entries) == 1:  # most mails, and much cheaper than what follows
            finished = await self._close(
                mail, await self._carry_group(mail, await self._way(mail, entries[0]), entries, at), at
            )
        else:
            groups: dict[_Way, list[Entry]] = {}
            for entry in entries:
                groups.setdefault(await self._way(mail, entry), []).append(entry)
            finished = await self._carry_groups(mail, groups, at)
            at.stage = Stage.ASKING
            at.since = 0.0
        if finished == len(mail.envelope.recipients) and not self._gone(mail.queue_id):
            self._publish(MailFinished(mail.queue_id, self._clock.seconds() - mail.received))
        elif finished == len(entries) or mail.queue_id in self._unsure:
            await self._ask_whether_finished(mail)

    async def put_back(self, mail: Mail) -> None:
        """Nobody has room for it now: let it be due at once, in the order of its coming."""
        due = mail.received
        await self._record([put_off(mail.queue_id, entry, due, entry.last) for entry in mail.entries])

    def hurry(self) -> None:
        """The node is about to stop: report and record what is through without waiting for the rest of its mail."""
        self._hurried = True
        for gathering in list(self._gatherings):
            gathering.hurry()

    def stop(self) -> None:
        """Give up waiting for a spool that does not record."""
        self._stopped = True
        for nap in list(self._naps):
            nap.callback(None)

    async def _way(self, mail: Mail, entry: Entry) -> _Way:
        """How this recipient goes on."""
        last = entry.last
        if last is not None and last.action is not _ACTION_DELAYED:
            return None
        if entry.recipient.expanded:
            return EXPANDED
        if mail.envelope.deliver_by and is_too_late(mail.envelope, self._clock.seconds()):
            return TOO_LATE
        address = entry.recipient.address
        try:
            route = await within(self._clock, ROUTE_TIME, self._router.route(address, mail.envelope))
        except Exception:
            _log.failure("no route for {address}", address=str(address))
            return ROUTER_BROKEN
        if entry.next_hop:
            route = rerouted(route, entry.next_hop)
        if route.agent == "none":
            words = route.next_hop or f"no rule says where mail for {address.domain} goes"
            return DeliveryStatus(Action.FAILED, "5.4.4", Reason.NO_ROUTE, words)
        if self._suppressions is not None and route.agent not in WITHOUT_WINDOW:
            suppressed = self._suppressions.find(address)
            if suppressed is not None:
                return status_of(suppressed)
        if self._rewrite is not None and address != entry.recipient.original:
            return route._replace(reverse_path=self._rewrite(mail.envelope, entry.recipient))
        return route

    async def _carry_groups(self, mail: Mail, groups: Mapping[_Way, Sequence[Entry]], at: Progress) -> int:
        """Carry all groups, side by side; gives how many recipients are finished and recorded so."""
        if len(groups) == 1:
            ((way, entries),) = groups.items()
            return await self._close(mail, await self._carry_group(mail, way, entries, at), at)
        at.stage = Stage.PARTS
        at.since = 0.0
        telling = Progress()
        at.parts = [*[Progress() for _ in groups], telling]
        gathering = Gathering(self._clock, lambda outcome: self._tell(mail, outcome, telling))
        if self._hurried:
            gathering.hurry()
        self._gatherings.add(gathering)

        async def carry(way: _Way, entries: Sequence[Entry], part: Progress) -> int:
            outcome = await self._carry_group(mail, way, entries, part)
            part.stage = Stage.RECORDING
            part.since = 0.0
            finished = await self._record(outcome.changes)
            part.stage = Stage.ENDED
            gathering.add(outcome)
            return finished

        telling.stage = Stage.ENDED
        for (way, entries), part in zip(groups.items(), at.parts, strict=False):
            part.story = Deferred.fromCoroutine(carry(way, entries, part))
        try:
            finished = sum(await gatherResults([part.story for part in at.parts if part.story is not None]))
            return finished + await gathering.end()
        finally:
            self._gatherings.discard(gathering)

    async def _carry_group(self, mail: Mail, way: _Way, entries: Sequence[Entry], at: Progress) -> Outcome:
        """Carry recipients that go the same way; gives what it came to. Raises nothing."""
        try:
            if way is None:
                return self._outcomes.reported_later(entries)
            if way is TOO_LATE:
                return self._outcomes.too_late(mail, entries)
            if isinstance(way, DeliveryStatus):
                return self._outcomes.tried(mail, "", entries, [way] * len(entries))
            at.destination = way.next_hop
            if way.agent in WITHOUT_WINDOW:
                octets = mail.content.octets
                weight = len(octets) if octets is not None else 0
                self.local_octets += weight
                at.stage = Stage.AGENT
                at.since = 0.0
                statuses = await self._deliver(mail, way, entries)
                self.local_octets -= weight
            else:
                at.stage = Stage.WAITING
                at.since = 0.0
                fresh = not entries[0].due
                place = await self._destinations.enter(way.next_hop, class_of(mail.envelope.priority), fresh)
                if isinstance(place, Refusal):
                    if place.stopping:
                        return Outcome([], [], [])
                    return self._outcomes.refused(mail, way.next_hop, entries, place)
                if mail.envelope.deliver_by and is_too_late(mail.envelope, self._clock.seconds()):  # it waited
                    self._destinations.leave(place, ())
                    return self._outcomes.too_late(mail, entries)
                at.stage = Stage.AGENT
                at.since = 0.0
                statuses = await self._deliver(mail, way, entries)  # raises nothing, so the place is given back
                self._destinations.leave(place, statuses)
            return self._outcomes.tried(mail, way.next_hop, entries, statuses)
        except Exception:
            _log.failure("an attempt for {queue_id} broke", queue_id=mail.queue_id)
        where = way.next_hop if isinstance(way, Route) else ""
        return self._outcomes.tried(mail, where, entries, [BROKEN] * len(entries))

    async def _deliver(self, mail: Mail, route: Route, entries: Sequence[Entry]) -> Sequence[DeliveryStatus]:
        """The agent's statuses; whatever breaks is a delay for all. None at all when an operator removed the mail."""
        if self._gone(mail.queue_id):
            return ()
        try:
            agent = self._agents[route.agent]
            request = DeliveryRequest(
                mail.queue_id,
                _told(mail.envelope, route.reverse_path),
                tuple([entry.recipient for entry in entries]),
                mail.header,
                mail.content,
                route.next_hop,
                self._deadline,
                route.tls,
                route.transport,
                route.credentials,
                route.source,
            )
            statuses = await self.under_way.over(agent.deliver(request))
            if len(statuses) != len(entries):
                raise TypeError(f"{len(statuses)} delivery statuses for {len(entries)} recipients")
            for status in statuses:
                if not isinstance(status, DeliveryStatus):
                    raise TypeError(f"not a delivery status: {status!r}")
            return statuses
        except Exception:
            _log.failure(
                "agent {agent} broke with {queue_id} to {next_hop}",
                agent=route.agent,
                queue_id=mail.queue_id,
                next_hop=route.next_hop,
            )
            return [BROKEN] * len(entries)

    async def _close(self, mail: Mail, outcome: Outcome, at: Progress) -> int:
        """Record what is decided, tell what is to be told; gives how many recipients are finished now."""
        at.stage = Stage.RECORDING
        at.since = 0.0
        finished = await self._record(outcome.changes)
        return finished + await self._tell(mail, outcome, at)

    async def _tell(self, mail: Mail, outcome: Outcome, at: Progress) -> int:
        """Report what is final or late, record that; gives how many recipients are finished now."""
        _, finals, notices = outcome
        finished = 0
        if finals:
            at.stage = Stage.REPORTING
            at.since = 0.0
            reported = await self._report(mail, finals)
            at.stage = Stage.RECORDING
            at.since = 0.0
            finished = await self._record(reported)
        if notices:
            at.stage = Stage.REPORTING
            at.since = 0.0
            noticed = await self._tell_of_delay(mail, notices)
            at.stage = Stage.RECORDING
            at.since = 0.0
            await self._record(noticed)
        at.stage = Stage.ENDED
        return finished

    async def _report(self, mail: Mail, finals: list[tuple[Entry, DeliveryStatus]]) -> list[Change]:
        """Have the sender told; the changes say finished, or that the report is to be tried again."""
        queue_id = mail.queue_id
        try:
            if not self._gone(queue_id):
                await within(self._clock, NOTIFY_TIME, self._notify(mail, finals))
        except Exception:
            _log.failure("nobody could be told what became of {queue_id}; tried again later", queue_id=queue_id)
            due = self._clock.seconds() + jittered(NOTIFY_AGAIN, self._random())
            return [put_off(queue_id, entry, due, status) for entry, status in finals]
        return [
            Change(queue_id, entry.number, State.FINISHED, 0.0, entry.attempts, entry.destination, status)
            for entry, status in finals
        ]

    async def _tell_of_delay(self, mail: Mail, notices: list[tuple[Entry, DeliveryStatus, Change]]) -> list[Change]:
        """Have the sender told that these are late; the changes say that it was, or the next attempt tells it."""
        queue_id = mail.queue_id
        changes = [change for _, _, change in notices]
        try:
            if not self._gone(queue_id):
                told = [(entry, status) for entry, status, _ in notices]
                await within(
                    self._clock,
                    NOTIFY_TIME,
                    self._notify(mail, told, self._outcomes.end_of(mail, notices)),
                )
        except Exception:
            _log.failure("nobody could be told that {queue_id} is late; tried again later", queue_id=queue_id)
            return changes
        return [change._replace(told=entry.told) for entry, _, change in notices]

    async def _record(self, changes: list[Change]) -> int:
        """Have the spool write; again and again when it cannot, for nobody else will speak of these recipients.

        The spool's answer has no deadline: where the disk hangs there is nothing else to be done. Gives how many are
        finished; 0 when the node stops before it succeeded: they stay active, and are due at the next start.
        """
        while changes:
            try:
                await self._spool.record(changes)
                break
            except Exception:
                _log.failure("what became of {queue_id} could not be recorded", queue_id=changes[0].queue_id)
            if self._stopped:
                return 0
            await self._nap(SPOOL_AGAIN)
        finished = 0
        for change in changes:
            if change.state is State.FINISHED:
                finished += 1
            else:
                self._due_at(change.due)
        return finished

    async def _ask_whether_finished(self, mail: Mail) -> None:
        """Other recipients of the mail were not ours to try, or are finished since: the spool knows.

        Recipients that are due at different times may be in attempts at once; the attempt that ends last asks.
        """
        queue_id = mail.queue_id
        if not self._alone(queue_id):
            self._unsure.add(queue_id)
            return
        self._unsure.discard(queue_id)
        if not await self._is_kept(queue_id) and not self._gone(queue_id):
            self._publish(MailFinished(queue_id, self._clock.seconds() - mail.received))

    async def _is_kept(self, queue_id: str) -> bool:
        """Whether the spool still has the mail; asked until it answers, or the node stops."""
        while True:
            try:
                return bool(await self._spool.find(Filter(queue_ids=(queue_id,), limit=1)))
            except Exception:
                _log.failure("the spool does not say whether {queue_id} is finished", queue_id=queue_id)
            if self._stopped:
                return True
            await self._nap(SPOOL_AGAIN)

    async def _nap(self, seconds: float) -> None:
        nap: Deferred[None] = Deferred()
        timer = self._clock.callLater(seconds, nap.callback, None)
        self._naps.add(nap)
        await nap
        self._naps.discard(nap)
        if timer.active():
            timer.cancel()


def _told(envelope: Envelope, reverse_path: Address | None) -> Envelope:
    """The envelope as the next hop is told it."""
    return envelope if reverse_path is None else replace(envelope, reverse_path=reverse_path)
