"""When a delayed recipient is tried again, and when we give up (RFC 5321 section 4.5.4.1). Pure functions.

A sender may have set a time of its own (Deliver By, RFC 2852): then it is returned (mode ``R``), or the sender is
told and we go on (mode ``N``). A mail that its sender held back (RFC 4865) begins to age when it is let go.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.reasons import Reason

if TYPE_CHECKING:
    from twisted_mail_node.message.envelope import Envelope
    from twisted_mail_node.spool.mail import Mail

#: Each delay is made up to this part shorter or longer, so that mails delayed together do not come back together.
JITTER = 0.15

#: RFC 3463 X.4.7, delivery time expired.
EXPIRED_STATUS = "5.4.7"


def jittered(seconds: float, chance: float) -> float:
    """``seconds`` made up to ``JITTER`` shorter or longer.

    :param chance: a random number from 0 to 1.
    """
    return seconds * (1.0 - JITTER + 2.0 * JITTER * chance)


def delay(attempts: int, retry: Sequence[float], chance: float) -> float:
    """Seconds to wait after ``attempts`` attempts: the schedule's steps in turn, then the last one again.

    :param attempts: attempts made so far, this one included.
    :param retry: the schedule, seconds, not empty.
    """
    return jittered(retry[min(max(attempts, 1), len(retry)) - 1], chance)


def begin(mail: Mail) -> float:
    """Since when the mail ages (seconds since the epoch)."""
    return max(mail.received, mail.envelope.release_at)


def end(mail: Mail, lifetime: float) -> float:
    """When the mail is given up (seconds since the epoch)."""
    return begin(mail) + lifetime


def put_off_until(mail: Mail, due: float, now: float, lifetime: float) -> float:
    """When a recipient comes again for which no attempt was made: ``due``, and once more before it is given up."""
    last = end(mail, lifetime)
    return last if now < last < due else due


def expired(last: DeliveryStatus) -> DeliveryStatus:
    """What a delay becomes when the lifetime is over: failed, and still in the words of the last attempt."""
    return last._replace(action=Action.FAILED, status=EXPIRED_STATUS, reason=Reason.EXPIRED)


def in_time(envelope: Envelope, due: float, now: float) -> float:
    """``due``, or the time that the sender set, where that comes before it."""
    by = envelope.deliver_by
    return by if now < by < due else due


def is_too_late(envelope: Envelope, now: float) -> bool:
    """True when the sender wants it back instead of delivered now (RFC 2852 section 4.1, mode ``R``)."""
    return envelope.by_mode == "R" and envelope.deliver_by <= now


def not_in_time(last: DeliveryStatus | None) -> DeliveryStatus:
    """What becomes of a recipient who was not reached in time: failed, in the words of the last attempt if any."""
    if last is None:
        return DeliveryStatus(Action.FAILED, EXPIRED_STATUS, Reason.NOT_IN_TIME, Reason.NOT_IN_TIME.meaning)
    return last._replace(action=Action.FAILED, status=EXPIRED_STATUS, reason=Reason.NOT_IN_TIME)
