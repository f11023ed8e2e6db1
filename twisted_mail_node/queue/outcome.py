"""What an attempt came to: delivery statuses become events, changes for the spool, and recipients to report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from twisted.internet.interfaces import IReactorTime

from twisted_mail_node.events import Publish, RecipientDelayed, RecipientDelivered, RecipientFailed, RecipientRelayed
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.queue.destinations import Refusal
from twisted_mail_node.queue.retry import delay, expired, is_over
from twisted_mail_node.spool.mail import Change, Entry, Mail, State


class Outcome(NamedTuple):
    """What is to be done now.

    :ivar changes: to be recorded.
    :ivar finals: recipients that became final and are to be reported before they are finished: those that failed,
        and those that were delivered or relayed when NOTIFY=SUCCESS asked for it (RFC 3461 section 4.1).
    """

    changes: list[Change]
    finals: list[tuple[Entry, DeliveryStatus]]


class Outcomes:
    """Decides about each recipient and says so.

    :param retry: the retry schedule, seconds.
    :param lifetime: seconds after which a mail that is still delayed is given up.
    :param random: a random number from 0 to 1, anew at each call.
    """

    def __init__(
        self,
        *,
        clock: IReactorTime,
        publish: Publish,
        retry: Sequence[float],
        lifetime: float,
        random: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._publish = publish
        self._retry = retry
        self._lifetime = lifetime
        self._random = random

    def tried(
        self, mail: Mail, destination: str, entries: Iterable[Entry], statuses: Iterable[DeliveryStatus]
    ) -> Outcome:
        """An attempt came to ``statuses``, one for each entry (or to none at all: the mail is gone)."""
        now = self._clock.seconds()
        changes: list[Change] = []
        finals: list[tuple[Entry, DeliveryStatus]] = []
        for entry, status in zip(entries, statuses, strict=False):
            attempts = entry.attempts + 1
            action = status.action
            if action is Action.DELAYED:
                due = now + delay(attempts, self._retry, self._random())
                if is_over(mail.received, self._lifetime, due):
                    finals.append(self._give_up(mail, entry, attempts, destination, expired(status)))
                else:
                    changes.append(self._put_off(mail, entry, attempts, due, destination, status))
                continue
            if action is Action.FAILED:
                finals.append(self._give_up(mail, entry, attempts, destination, status))
                continue
            self._done(mail, entry, destination, status, now)
            if "SUCCESS" in entry.recipient.notify:
                finals.append((entry._replace(attempts=attempts, destination=destination, last=status), status))
            else:
                changes.append(Change(mail.queue_id, entry.number, State.FINISHED, 0.0, attempts, destination, status))
        return Outcome(changes, finals)

    def refused(self, mail: Mail, destination: str, entries: Iterable[Entry], refusal: Refusal) -> Outcome:
        """No attempt was made: delayed until the refusal's time, or expired in the words of the last attempt."""
        changes: list[Change] = []
        finals: list[tuple[Entry, DeliveryStatus]] = []
        over = is_over(mail.received, self._lifetime, refusal.due)
        for entry in entries:
            if over:
                status = expired(entry.last or refusal.status)
                finals.append(self._give_up(mail, entry, entry.attempts, destination, status))
            else:
                changes.append(self._put_off(mail, entry, entry.attempts, refusal.due, destination, refusal.status))
        return Outcome(changes, finals)

    def reported_later(self, entries: Iterable[Entry]) -> Outcome:
        """These were final before, but could not be reported: nothing is said again."""
        return Outcome([], [(entry, entry.last) for entry in entries if entry.last is not None])

    def _done(self, mail: Mail, entry: Entry, destination: str, status: DeliveryStatus, now: float) -> None:
        recipient = str(entry.recipient.address)
        seconds = now - mail.received
        if status.action is Action.RELAYED:
            host, address, words = status.remote_host, status.remote_address, status.words
            self._publish(
                RecipientRelayed(mail.queue_id, recipient, destination, host, address, words, seconds, status.reason)
            )
        else:
            self._publish(RecipientDelivered(mail.queue_id, recipient, destination, seconds, status.reason))

    def _put_off(
        self, mail: Mail, entry: Entry, attempts: int, due: float, destination: str, status: DeliveryStatus
    ) -> Change:
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
            )
        )
        # What a host said is worth more than that we did not ask it.
        last = status if attempts > entry.attempts else entry.last or status
        return Change(mail.queue_id, entry.number, State.DELAYED, due, attempts, destination, last)

    def _give_up(
        self, mail: Mail, entry: Entry, attempts: int, destination: str, status: DeliveryStatus
    ) -> tuple[Entry, DeliveryStatus]:
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
            )
        )
        return entry._replace(attempts=attempts, destination=destination, last=status), status
