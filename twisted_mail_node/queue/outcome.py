"""What an attempt came to: delivery statuses become events, changes for the spool, and recipients to report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from twisted.internet.interfaces import IReactorTime

from twisted_mail_node.events import (
    Publish,
    RecipientDelayed,
    RecipientDelivered,
    RecipientFailed,
    RecipientRelayed,
)
from twisted_mail_node.events_outbound import RecipientExpanded
from twisted_mail_node.message.cause import understand
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.queue.destinations import Refusal
from twisted_mail_node.queue.limits import Limit
from twisted_mail_node.queue.notices import BY_TOLD, late, not_beyond_a_notice, told_now
from twisted_mail_node.queue.retry import (
    delay,
    end,
    expired,
    in_time,
    is_too_late,
    not_in_time,
    put_off_until,
)
from twisted_mail_node.spool.mail import NOT_TRIED, Change, Entry, Mail, State

if TYPE_CHECKING:
    from twisted_mail_node.state.suppressions import Suppressions


class Outcome(NamedTuple):
    """What is to be done now.

    :ivar changes: to be recorded.
    :ivar finals: recipients that became final and are to be reported before they are finished: those that failed,
        those that were delivered or relayed when NOTIFY=SUCCESS asked for it (RFC 3461 section 4.1), and those that
        were relayed when BY did (RFC 2852 section 4.1.4).
    :ivar notices: recipients whose delay is to be reported, with what the sender is told of then in ``Entry.told``;
        when it was, the change that goes with each is to be recorded with that.
    """

    changes: list[Change]
    finals: list[tuple[Entry, DeliveryStatus]]
    notices: list[tuple[Entry, DeliveryStatus, Change]]


class Outcomes:
    """Decides about each recipient and says so.

    :param retry: the retry schedule, seconds, where a destination has none of its own.
    :param lifetime: likewise, seconds after which a mail that is still delayed is given up.
    :param ages: seconds at which the sender of a mail that is still delayed is told.
    :param limit_of: what holds for a destination, as far as it is known; for ``""``: nobody knows where a mail goes.
    :param random: a random number from 0 to 1, anew at each call.
    :param suppressions: is told of recipients that became final.
    """

    def __init__(
        self,
        *,
        clock: IReactorTime,
        publish: Publish,
        retry: Sequence[float],
        lifetime: float,
        ages: Sequence[float] = (),
        random: Callable[[], float],
        suppressions: Suppressions | None = None,
        limit_of: Callable[[str], Limit | None] = lambda destination: None,
    ) -> None:
        self._clock = clock
        self._publish = publish
        self._retry = retry
        self._lifetime = lifetime
        self._ages = ages
        self._random = random
        self._suppressions = suppressions
        self._limit_of = limit_of

    def end(self, mail: Mail, destination: str = "") -> float:
        """When the mail is given up at this destination (seconds since the epoch)."""
        return end(mail, self._lifetime_at(destination))

    def end_of(self, mail: Mail, notices: Iterable[tuple[Entry, DeliveryStatus, Change]]) -> float | None:
        """When all of these are given up; ``None``: not all at the same time, for their destinations differ."""
        ends = {self.end(mail, entry.destination) for entry, _, _ in notices}
        return ends.pop() if len(ends) == 1 else None

    def _lifetime_at(self, destination: str) -> float:
        limit = self._limit_of(destination)
        return self._lifetime if limit is None else limit.lifetime

    def _delay(self, attempts: int, destination: str) -> float:
        limit = self._limit_of(destination)
        return delay(attempts, self._retry if limit is None else limit.retry, self._random())

    def tried(
        self, mail: Mail, destination: str, entries: Iterable[Entry], statuses: Iterable[DeliveryStatus]
    ) -> Outcome:
        """An attempt came to ``statuses``, one for each entry (or to none at all: the mail is gone)."""
        now = self._clock.seconds()
        outcome = Outcome([], [], [])
        changes, finals, _ = outcome
        traced = bool(mail.envelope.by_mode)
        alone = len(mail.envelope.recipients) == 1
        for entry, status in zip(entries, statuses, strict=False):
            attempts = entry.attempts + 1
            action = status.action
            if action is Action.DELAYED:
                due = now + self._delay(attempts, destination)
                self._delayed(outcome, mail, entry, attempts, due, destination, status)
                continue
            if action is Action.FAILED:
                finals.append(self._give_up(mail, entry, attempts, destination, status))
                continue
            self._done(mail, entry, destination, status, now)
            if "SUCCESS" in entry.recipient.notify or (traced and action is Action.RELAYED):
                finals.append((entry._replace(attempts=attempts, destination=destination, last=status), status))
            else:
                changes.append(
                    Change(
                        mail.queue_id, entry.number, State.FINISHED, 0.0, attempts, destination, status,
                        whole=alone,
                    )
                )  # fmt: skip
        return outcome

    def refused(self, mail: Mail, destination: str, entries: Iterable[Entry], refusal: Refusal) -> Outcome:
        """No attempt was made: delayed until the refusal's time, or given up in the words of the last attempt."""
        outcome = Outcome([], [], [])
        due = put_off_until(mail, refusal.due, self._clock.seconds(), self._lifetime_at(destination))
        for entry in entries:
            self._delayed(outcome, mail, entry, entry.attempts, due, destination, refusal.status)
        return outcome

    def too_late(self, mail: Mail, entries: Iterable[Entry]) -> Outcome:
        """The time that the sender set has passed, and no attempt is made any more."""
        finals = [
            self._give_up(mail, entry, entry.attempts, entry.destination, not_in_time(entry.last)) for entry in entries
        ]
        return Outcome([], finals, [])

    def reported_later(self, entries: Iterable[Entry]) -> Outcome:
        """These were final before, but could not be reported: nothing is said again."""
        return Outcome([], [(entry, entry.last) for entry in entries if entry.last is not None], [])

    def _delayed(
        self, outcome: Outcome, mail: Mail, entry: Entry, attempts: int, due: float, destination: str,
        status: DeliveryStatus,
    ) -> None:  # fmt: skip
        """Put off, or given up when the next attempt would come too late."""
        now = self._clock.seconds()
        until = self.end(mail, destination)
        destination = destination or entry.destination  # where it went before tells more than nothing
        # What a host said is worth more than that we did not ask it.
        tried = attempts > entry.attempts
        last = status if tried or not entry.attempts else entry.last or status
        if is_too_late(mail.envelope, now):
            outcome.finals.append(self._give_up(mail, entry, attempts, destination, not_in_time(last)))
            return
        due = in_time(mail.envelope, due, now)
        if due > until:
            outcome.finals.append(self._give_up(mail, entry, attempts, destination, expired(last)))
            return
        due = not_beyond_a_notice(mail, entry, self._ages, due, now)
        change = self._put_off(mail, entry, attempts, due, destination, status, last)
        if tried:
            change = change._replace(tried=now)
        told = told_now(mail, entry, self._ages, now)
        if told != entry.told:
            about = late(last) if (told ^ entry.told) & BY_TOLD else last
            outcome.notices.append(
                (entry._replace(attempts=attempts, destination=destination, told=told), about, change)
            )
        else:
            outcome.changes.append(change)

    def _done(self, mail: Mail, entry: Entry, destination: str, status: DeliveryStatus, now: float) -> None:
        self._note(entry, status)
        recipient = str(entry.recipient.address)
        seconds = now - mail.received
        if status.action is Action.RELAYED:
            self._publish(
                RecipientRelayed(
                    mail.queue_id,
                    recipient,
                    destination,
                    status.remote_host,
                    status.remote_address,
                    status.words,
                    seconds,
                    status.reason,
                    status.tls,
                    status.source,
                )
            )
        elif status.action is Action.EXPANDED:
            self._publish(RecipientExpanded(mail.queue_id, recipient, status.reason))
        else:
            self._publish(RecipientDelivered(mail.queue_id, recipient, destination, seconds, status.reason))

    def _put_off(
        self, mail: Mail, entry: Entry, attempts: int, due: float, destination: str, status: DeliveryStatus,
        last: DeliveryStatus,
    ) -> Change:  # fmt: skip
        cause = understand(last).code
        self._publish(
            RecipientDelayed(
                mail.queue_id,
                str(entry.recipient.address),
                destination,
                status.remote_host,
                status.status,
                status.reason,
                status.words,
                attempts,
                due,
                cause,
                status.source,
            )
        )
        return Change(mail.queue_id, entry.number, State.DELAYED, due, attempts, destination, last, entry.told, cause)

    def _give_up(
        self, mail: Mail, entry: Entry, attempts: int, destination: str, status: DeliveryStatus
    ) -> tuple[Entry, DeliveryStatus]:
        self._note(entry, status)
        cause = understand(status).code
        self._publish(
            RecipientFailed(
                mail.queue_id,
                str(entry.recipient.address),
                destination,
                status.remote_host,
                status.status,
                status.reason,
                status.words,
                attempts,
                cause,
                status.source,
            )
        )
        return entry._replace(attempts=attempts, destination=destination, last=status, cause=cause), status

    def _note(self, entry: Entry, status: DeliveryStatus) -> None:
        if self._suppressions is not None:
            self._suppressions.note(entry.recipient.address, status)


def put_off(queue_id: str, entry: Entry, due: float, last: DeliveryStatus | None) -> Change:
    """Due again, and nothing else about it changes."""
    cause = entry.cause or (NOT_TRIED if last is None else understand(last).code)
    return Change(
        queue_id, entry.number, State.DELAYED, due, entry.attempts, entry.destination, last, entry.told, cause
    )
