"""When a delayed recipient is tried again, and when we give up (RFC 5321 section 4.5.4.1). Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.reasons import Reason

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


def is_over(received: float, lifetime: float, due: float) -> bool:
    """True when a next attempt at ``due`` would come after the mail's lifetime (all in seconds)."""
    return received + lifetime < due


def expired(last: DeliveryStatus) -> DeliveryStatus:
    """What a delay becomes when the lifetime is over: failed, and still in the words of the last attempt."""
    return last._replace(action=Action.FAILED, status=EXPIRED_STATUS, reason=Reason.EXPIRED)
