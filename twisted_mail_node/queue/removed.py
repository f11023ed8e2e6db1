"""What recipients come to that an operator gives up: a final status, for their senders are told."""

from __future__ import annotations

from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.reasons import Reason

#: RFC 3463 section 3.1: no detail of its codes says that a person decided it.
REMOVED_STATUS = "5.0.0"
#: What senders are told where the operator gives no words of their own.
REMOVED_WORDS = "the postmaster of this host removed the mail from its queue"


def removed(words: str = "") -> DeliveryStatus:
    """The status.

    :param words: why, for the sender; ``""`` for those above.
    """
    return DeliveryStatus(Action.FAILED, REMOVED_STATUS, Reason.REMOVED, words or REMOVED_WORDS)
