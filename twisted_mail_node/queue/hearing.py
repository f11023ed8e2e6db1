"""What an attempt's delivery statuses say about the host: it answers, its connections fail, it asks for less mail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from twisted_mail_node.message.cause import Cause, Kind
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.reasons import Reason

#: The connection failed: says something about the host, nothing about the mail.
CONNECTION_FAILURES = frozenset(
    {
        Reason.CONNECT_FAILED,
        Reason.HOST_NOT_READY,
        Reason.HOST_REFUSED,
        Reason.DNS_FAILED,
        Reason.REMOTE_TIMEOUT,
        Reason.BAD_REPLY,
        Reason.SIGN_IN_REFUSED,
        Reason.NO_SOURCE,
    }
)
#: Delays that say nothing about the host.
_NEUTRAL = frozenset({Reason.INTERNAL, Reason.UNCERTAIN, Reason.STORE_FAILED})


class Heard(NamedTuple):
    """What was said.

    :ivar answer: True when the host took or refused a recipient for good, False when it only said later, None when it
        said nothing.
    :ivar failure: how the connection failed.
    :ivar slower: the host asks for less mail.
    :ivar delivered: recipients it took.
    :ivar deferred: recipients to be tried again.
    """

    answer: bool | None
    failure: DeliveryStatus | None
    slower: DeliveryStatus | None
    delivered: int
    deferred: int


def hear(statuses: Sequence[DeliveryStatus], understanding: Callable[[DeliveryStatus], Cause]) -> Heard:
    """What these statuses say."""
    answer: bool | None = None
    failure: DeliveryStatus | None = None
    slower: DeliveryStatus | None = None
    delivered = deferred = 0
    for status in statuses:
        action = status.action
        if action is Action.RELAYED or action is Action.DELIVERED:
            delivered += 1
            answer = True
            continue
        if action is Action.DELAYED:
            deferred += 1
            if status.reason in CONNECTION_FAILURES:
                failure = failure or status
            elif status.reason not in _NEUTRAL:
                answer = answer or False
        else:
            answer = True
        if status.from_remote and slower is None and understanding(status).kind is Kind.RATE:
            slower = status
    return Heard(answer, failure, slower, delivered, deferred)
