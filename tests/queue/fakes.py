"""A spool in memory, a scripted agent and the other parts a queue needs, all on a ``Clock``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from twisted_mail_node.events import Event
from twisted_mail_node.interfaces import IContent, IDeliveryAgent, IIncoming, IRouter, ISpool
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.cause import Cause, Kind
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.queue.attempt import Rewrite
from twisted_mail_node.queue.freezing import Freezes
from twisted_mail_node.queue.limits import Limits
from twisted_mail_node.queue.queue import OutgoingQueue
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.reasons import Reason
from twisted_mail_node.routing import Route
from twisted_mail_node.settings import DestinationRule, QueueSettings
from twisted_mail_node.spool.mail import (
    HELD,
    HELD_BACK,
    NOT_TRIED,
    Attempt,
    Change,
    Entry,
    Filter,
    Mail,
    SpoolError,
    State,
    Tally,
)

E = TypeVar("E")
T = TypeVar("T")

DELIVERED = DeliveryStatus(Action.DELIVERED, "2.0.0", Reason.DELIVERED, "in the mailbox")
RELAYED = DeliveryStatus(Action.RELAYED, "2.0.0", Reason.RELAYED, "250 ok", "mx.example.net", "192.0.2.7:25", True)
LATER = DeliveryStatus(Action.DELAYED, "4.2.1", Reason.REMOTE_DELAYED, "450 4.2.1 later", "mx.example.net", "", True)
REFUSED = DeliveryStatus(Action.FAILED, "5.1.1", Reason.REMOTE_REFUSED, "550 5.1.1 no", "mx.example.net", "", True)
LESS = DeliveryStatus(Action.DELAYED, "4.7.0", Reason.REMOTE_DELAYED, "421 4.7.0 too much", "mx.example.net", "", True)
JOE = Address("joe", "example.org")
UNREACHABLE = DeliveryStatus(Action.DELAYED, "4.4.1", Reason.CONNECT_FAILED, "no connection to 192.0.2.7:25")


def understand(status: DeliveryStatus) -> Cause:
    """A host that says "too much" wants less mail; nothing else is understood."""
    kind = Kind.RATE if "too much" in status.words else Kind.PROTOCOL
    return Cause("cause", kind, status.action is Action.FAILED, "", "", "")


@implementer(IContent)
class Octets:
    """Content in memory."""

    path = None
    eight_bit = False

    def __init__(self, octets: bytes) -> None:
        self.octets: bytes | None = octets
        self.size = len(octets)

    def blocks(self, size: int = 262144) -> Iterator[bytes]:
        yield self.octets or b""


@implementer(IIncoming)
class FakeIncoming:
    """Kept with the commit, at once."""

    def __init__(self, spool: FakeSpool, queue_id: str) -> None:
        self._spool = spool
        self._octets = b""
        self._held = False
        self.queue_id = queue_id
        self.size = 0

    async def write(self, octets: bytes) -> None:
        self._octets += octets
        self.size = len(self._octets)

    def hold(self, why: str) -> None:
        self._held = True

    async def commit(self, envelope: Envelope, header: bytes) -> Mail:
        now = self._spool.clock.seconds()
        state, due = State.HELD if self._held else State.ACTIVE, 0.0
        if envelope.release_at > now and not self._held:
            state, due = State.DELAYED, envelope.release_at
        cause = {State.HELD: HELD, State.DELAYED: HELD_BACK}.get(state, "")
        entries = tuple(
            Entry(number, recipient, state, due, cause=cause) for number, recipient in enumerate(envelope.recipients)
        )
        mail = Mail(self.queue_id, envelope, header, Octets(self._octets), now, entries)
        self._spool.keep(mail)
        return mail

    def abort(self) -> None:
        pass


@implementer(ISpool)
class FakeSpool:
    """Holds to ISpool's word, and complains when the queue does not.

    :ivar breaks: each call that may fail asks it, and fails when it says so.
    :ivar delay: seconds until a call's Deferred fires; 0 is at once.
    :ivar finished: queue ids of mails that went because all was finished.
    """

    def __init__(self, clock: Clock, delay: float = 0.0) -> None:
        self.clock = clock
        self.delay = delay
        self.breaks: Callable[[str], bool] = lambda what: False
        self.mails: dict[str, Mail] = {}
        self.finished: list[str] = []
        self.takes: list[int] = []
        self.tried: dict[str, list[Attempt]] = {}
        self._begun = 0

    def opened_again(self) -> FakeSpool:
        """As the next process finds it: what was active is due now."""
        spool = FakeSpool(self.clock, self.delay)
        spool.breaks, spool.finished, spool._begun = self.breaks, self.finished, self._begun
        for mail in self.mails.values():
            spool.keep(mail)
            active = [entry for entry in mail.entries if entry.state is State.ACTIVE]
            spool._put(mail, *[entry._replace(state=State.DELAYED, due=self.clock.seconds()) for entry in active])
        self.mails = {}
        return spool

    def keep(self, mail: Mail) -> None:
        self.mails[mail.queue_id] = mail

    def entries(self) -> list[Entry]:
        """All recipients of all mails that are kept."""
        return [entry for mail in self.mails.values() for entry in mail.entries]

    def begin(self) -> IIncoming:
        self._begun += 1
        return FakeIncoming(self, f"Q{self._begun}")

    def _answer(self, what: str, work: Callable[[], T]) -> Deferred[T]:
        if self.breaks(what):
            return fail(SpoolError("the disk is on fire"))
        if not self.delay:
            return succeed(work())
        done: Deferred[T] = Deferred()
        self.clock.callLater(self.delay, lambda: done.callback(work()))
        return done

    def record(self, changes: Sequence[Change]) -> Deferred[None]:
        return self._answer("record", lambda: self._record(changes))

    def _record(self, changes: Sequence[Change]) -> None:
        for change in changes:
            mail = self.mails.get(change.queue_id)
            if mail is None:
                continue
            old = mail.entries[change.number]
            assert old.state is State.ACTIVE, f"{change} speaks of a recipient that is not the queue's: {old}"
            assert not change.whole or len(mail.entries) == 1, f"{change} would take other recipients with it"
            new = old._replace(
                state=change.state,
                due=change.due,
                attempts=change.attempts,
                destination=change.destination,
                last=change.last,
                told=change.told,
                cause="" if change.state is State.FINISHED else change.cause,
            )
            self._put(mail, new)
            if change.tried and change.last is not None and change.state is not State.FINISHED:
                attempt = Attempt(change.tried, change.number, change.destination, change.last)
                self.tried.setdefault(change.queue_id, []).append(attempt)
        for queue_id in {change.queue_id for change in changes}:
            mail = self.mails.get(queue_id)
            if mail is not None and all(entry.state is State.FINISHED for entry in mail.entries):
                del self.mails[queue_id]
                self.finished.append(queue_id)

    def _put(self, mail: Mail, *changed: Entry) -> None:
        by_number = {entry.number: entry for entry in changed}
        entries = tuple(by_number.get(entry.number, entry) for entry in mail.entries)
        self.mails[mail.queue_id] = replace(mail, entries=entries)

    def take_due(self, now: float, limit: int) -> Deferred[list[Mail]]:
        return self._answer("take_due", lambda: self._take_due(now, limit))

    def _take_due(self, now: float, limit: int) -> list[Mail]:
        self.takes.append(limit)
        due: list[tuple[float, str]] = []
        for mail in self.mails.values():
            times = [entry.due for entry in mail.entries if entry.state is State.DELAYED and entry.due <= now]
            if times:
                due.append((min(times), mail.queue_id))
        taken = []
        for _, queue_id in sorted(due, key=lambda pair: pair[0])[:limit]:
            mail = self.mails[queue_id]
            active = [
                entry._replace(state=State.ACTIVE)
                for entry in mail.entries
                if entry.state is State.DELAYED and entry.due <= now
            ]
            self._put(mail, *active)
            taken.append(replace(mail, entries=tuple(active)))
        return taken

    def next_due(self) -> Deferred[float | None]:
        return self._answer(
            "next_due",
            lambda: min((entry.due for entry in self.entries() if entry.state is State.DELAYED), default=None),
        )

    def find(self, wanted: Filter) -> Deferred[list[Mail]]:
        return self._answer(
            "find",
            lambda: [mail for mail in self.mails.values() if self._fits(mail, wanted)][: wanted.limit],
        )

    def select(self, wanted: Filter, limit: int, after: str = "") -> Deferred[list[str]]:
        def work() -> list[str]:
            ids = list(self.mails)
            ids = ids[ids.index(after) + 1 :] if after in ids else ids
            return [queue_id for queue_id in ids if not wanted.queue_ids or queue_id in wanted.queue_ids][:limit]

        return self._answer("select", work)

    def tally(self, wanted: Filter) -> Deferred[list[Tally]]:
        """The filter's ids and causes narrow, nothing else."""

        def work() -> list[Tally]:
            counted: dict[tuple[str, str], Tally] = {}
            for mail in self.mails.values():
                if wanted.queue_ids and mail.queue_id not in wanted.queue_ids:
                    continue
                for entry in mail.entries:
                    if entry.state is State.FINISHED or (wanted.causes and entry.cause not in wanted.causes):
                        continue
                    key = entry.destination, entry.cause
                    _, _, count, oldest = counted.get(key, Tally(*key, 0, mail.received))
                    counted[key] = Tally(*key, count + 1, min(oldest, mail.received))
            return sorted(counted.values(), key=lambda one: -one.recipients)

        return self._answer("tally", work)

    def tally_senders(self, wanted: Filter) -> Deferred[list[Tally]]:
        def work() -> list[Tally]:
            counted: dict[str, Tally] = {}
            for mail in self.mails.values():
                sender = str(mail.envelope.reverse_path or "").lower()
                waiting = sum(entry.state is not State.FINISHED for entry in mail.entries)
                _, _, count, oldest = counted.get(sender, Tally(sender, "", 0, mail.received))
                counted[sender] = Tally(sender, "", count + waiting, min(oldest, mail.received))
            return sorted(counted.values(), key=lambda one: -one.recipients)

        return self._answer("tally_senders", work)

    def count(self) -> Deferred[dict[str, int]]:
        states = [entry.state for entry in self.entries()]
        counts = {state.name.lower(): states.count(state) for state in State}
        return self._answer("count", lambda: {"mails": len(self.mails)} | counts)

    def attempts(self, queue_id: str) -> Deferred[list[Attempt]]:
        return self._answer("attempts", lambda: list(self.tried.get(queue_id, ())))

    def _fits(self, mail: Mail, wanted: Filter) -> bool:
        if wanted.queue_ids and mail.queue_id not in wanted.queue_ids:
            return False
        return wanted.state is None or any(entry.state is wanted.state for entry in mail.entries)

    def _known(self, queue_ids: Sequence[str]) -> list[str]:
        return [queue_id for queue_id in queue_ids if queue_id in self.mails]

    def hold(self, queue_ids: Sequence[str]) -> Deferred[list[str]]:
        def work() -> list[str]:
            for queue_id in self._known(queue_ids):
                mail = self.mails[queue_id]
                delayed = [entry for entry in mail.entries if entry.state is State.DELAYED]
                held = [entry._replace(state=State.HELD, cause=entry.cause or HELD) for entry in delayed]
                self._put(mail, *held)
            return self._known(queue_ids)

        return self._answer("hold", work)

    def release(self, queue_ids: Sequence[str], due: float) -> Deferred[list[str]]:
        def work() -> list[str]:
            for queue_id in self._known(queue_ids):
                mail = self.mails[queue_id]
                waiting = [entry for entry in mail.entries if entry.state in (State.DELAYED, State.HELD)]
                cause = {HELD: NOT_TRIED, HELD_BACK: NOT_TRIED}
                released = [
                    entry._replace(state=State.DELAYED, due=due, cause=cause.get(entry.cause, entry.cause))
                    for entry in waiting
                ]
                self._put(mail, *released)
            return self._known(queue_ids)

        return self._answer("release", work)

    def reroute(self, queue_ids: Sequence[str], next_hop: str, due: float) -> Deferred[list[str]]:
        def work() -> list[str]:
            for queue_id in self._known(queue_ids):
                mail = self.mails[queue_id]
                changed = []
                for entry in mail.entries:
                    if entry.state is not State.FINISHED:
                        waits = entry.state is State.DELAYED and entry.cause != HELD_BACK
                        changed.append(entry._replace(next_hop=next_hop, due=due if waits else entry.due))
                self._put(mail, *changed)
            return self._known(queue_ids)

        return self._answer("reroute", work)

    def give_up(self, queue_ids: Sequence[str], status: DeliveryStatus, cause: str, due: float) -> Deferred[list[str]]:
        def work() -> list[str]:
            for queue_id in self._known(queue_ids):
                mail = self.mails[queue_id]
                waiting = [entry for entry in mail.entries if entry.state in (State.DELAYED, State.HELD)]
                given_up = [
                    entry._replace(state=State.DELAYED, due=due)
                    if entry.last is not None and entry.last.action is not Action.DELAYED
                    else entry._replace(state=State.DELAYED, due=due, last=status, cause=cause)
                    for entry in waiting
                ]
                self._put(mail, *given_up)
            return self._known(queue_ids)

        return self._answer("give_up", work)

    def hasten(self, destination: str, now: float, until: float, limit: int, since: float) -> Deferred[int]:
        def work() -> int:
            wanted = [
                (entry.due, mail.queue_id, entry)
                for mail in self.mails.values()
                for entry in mail.entries
                if entry.state is State.DELAYED and entry.destination == destination and now < entry.due <= until
                if not any(one.number == entry.number and one.when > since for one in self.tried.get(mail.queue_id, ()))
            ]
            wanted.sort(key=lambda one: one[:2])
            for _, queue_id, entry in wanted[:limit]:
                self._put(self.mails[queue_id], entry._replace(due=now))
            return len(wanted[:limit])

        return self._answer("hasten", work)

    def remove(self, queue_ids: Sequence[str]) -> Deferred[list[str]]:
        def work() -> list[str]:
            found = self._known(queue_ids)
            for queue_id in found:
                del self.mails[queue_id]
            return found

        return self._answer("remove", work)


@implementer(IRouter)
class FakeRouter:
    """``here.example`` is local, ``nowhere.example`` has no route, all else is relayed to its domain."""

    broken = False
    answer: Deferred[Route] | None = None

    async def route(self, address: Address, envelope: object = None) -> Route:
        if self.answer is not None:
            return await self.answer
        if self.broken:
            raise RuntimeError("the router is broken")
        if address.domain == "here.example":
            return Route("maildir", "here.example")
        if address.domain == "nowhere.example":
            return Route("none", "nobody takes mail for nowhere.example")
        return Route("relay", address.domain)


@implementer(IDeliveryAgent)
class FakeAgent:
    """Answers each request by ``answer``: statuses, an exception, or a Deferred of them. Remembers who was asked.

    :ivar requests: every request, in order.
    :ivar busy: (queue id, address) of each recipient in an attempt right now.
    """

    def __init__(self, answer: Callable[[DeliveryRequest], Any]) -> None:
        self.answer = answer
        self.requests: list[DeliveryRequest] = []
        self.busy: set[tuple[str, str]] = set()
        self.twice: list[tuple[str, str]] = []

    async def deliver(self, request: DeliveryRequest) -> Sequence[DeliveryStatus]:
        self.requests.append(request)
        ours = {(request.queue_id, str(recipient.address)) for recipient in request.recipients}
        self.twice += self.busy & ours
        self.busy |= ours
        try:
            result = self.answer(request)
            if isinstance(result, Deferred):
                result = await result
            if isinstance(result, DeliveryStatus):
                result = [result] * len(request.recipients)
            return result  # type: ignore[no-any-return]
        finally:
            self.busy -= ours


class World:
    """A queue and everything around it.

    :param rewrite: see OutgoingQueue.
    :ivar events: what was published, in order.
    :ivar reports: (queue id, addresses, statuses) of each call of notify.
    """

    def __init__(
        self,
        answer: Callable[[DeliveryRequest], Any],
        *,
        delay: float = 0.0,
        rules: Sequence[DestinationRule] = (),
        exchangers_of: Callable[[str], Awaitable[Sequence[str]]] | None = None,
        freezes: Freezes | None = None,
        after: World | None = None,
        suppressions: Callable[[World], Any] | None = None,
        rewrite: Rewrite | None = None,
        **settings: Any,
    ) -> None:
        """:param delay: of the spool. :param rules: limits of destinations. :param after: what ended before, and left
        its spool. :param settings: of the queue."""
        if after is None:
            self.clock = Clock()
            self.clock.advance(1_000_000.0)
            self.spool = FakeSpool(self.clock, delay)
        else:
            self.clock = after.clock
            self.spool = after.spool.opened_again()
        self.router = FakeRouter()
        self.agent = FakeAgent(answer)
        self.events: list[Event] = []
        self.reports: list[tuple[str, list[tuple[Entry, DeliveryStatus]]]] = []
        self.until: float | None = None
        self.notify_breaks: Callable[[], bool] = lambda: False
        self.chance = 0.5
        queue_settings = QueueSettings(**settings)
        self.limits = Limits(rules, queue_settings)
        self.queue = OutgoingQueue(
            spool=self.spool,
            router=self.router,
            agents={"maildir": self.agent, "relay": self.agent},
            notify=self._notify,
            clock=self.clock,
            publish=self.events.append,
            settings=queue_settings,
            hostname="mx.here.example",
            random=lambda: self.chance,
            suppressions=suppressions(self) if suppressions else None,
            rewrite=rewrite,
            limits=self.limits,
            exchangers_of=exchangers_of,
            freezes=freezes,
            understanding=understand,
        )
        self.queue.start()

    async def _notify(
        self, mail: Mail, told: Sequence[tuple[Entry, DeliveryStatus]], until: float | None = None
    ) -> None:
        if self.notify_breaks():
            raise RuntimeError("the notifier is broken")
        self.reports.append((mail.queue_id, list(told)))
        self.until = until

    def send(
        self, *addresses: str, notify: tuple[str, ...] = (), hold: str = "", octets: bytes = b"x", **fields: Any
    ) -> str:
        """Bring a mail through the queue's door; gives its queue id. Nothing is tried before the clock moves.

        :param fields: of the envelope.
        """
        incoming = self.queue.begin()
        if hold:
            incoming.hold(hold)
        recipients = []
        for text in addresses:
            local_part, _, domain = text.partition("@")
            address = Address(local_part, domain)
            recipients.append(Recipient(address, address, notify))

        async def bring() -> None:
            await incoming.write(octets)
            envelope = Envelope(Address("ann", "here.example"), tuple(recipients), **fields)
            await incoming.commit(envelope, b"Received: x\r\n")

        failures: list[object] = []
        Deferred.fromCoroutine(bring()).addErrback(failures.append)
        assert not failures, failures
        return incoming.queue_id

    def pass_time(self, seconds: float, step: float = 1.0) -> None:
        """Let time pass in steps, as a reactor would."""
        for _ in range(int(seconds / step)):
            self.clock.advance(step)

    def of(self, kind: type[E]) -> list[E]:
        """The published events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]


def mail(**fields: Any) -> Mail:
    """A mail that was accepted at 1000 seconds."""
    return Mail("Q1", Envelope(fields.pop("reverse_path", JOE), (), **fields), b"", Octets(b""), 1000.0, ())
