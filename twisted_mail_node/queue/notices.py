"""When a sender is told of a delay: at the ages that the settings name (RFC 3461 section 4.1), and at the time that the
sender set (BY in mode ``N``, RFC 2852 section 4.1). Pure functions.

No wait goes beyond an age at which a notice is due: the attempt comes at that age instead, and when it puts the
recipient off, or nothing is tried there (a suspended destination), the notice goes with it. So a notice is never later
than the first attempt, made or refused, after its age; for what an operator holds nobody is told.

What was told is kept for each recipient as one number (``Entry.told``): its lowest bit says that the time of BY was,
the bits above it are the age in seconds up to which delays were. Other ages in the settings are obeyed from there on.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

from twisted_mail_node.queue.retry import begin

if TYPE_CHECKING:
    from twisted_mail_node.message.envelope import Recipient
    from twisted_mail_node.message.status import DeliveryStatus
    from twisted_mail_node.spool.mail import Entry, Mail

#: In ``Entry.told``: the sender was told that the time of BY has passed.
BY_TOLD = 1
#: RFC 3463 X.4.7, delivery time expired; we go on.
LATE_STATUS = "4.4.7"


def told_now(mail: Mail, entry: Entry, ages: Sequence[float], now: float) -> int:
    """What ``Entry.told`` is once the sender was told what is to be told now; as it is, when that is nothing.

    Several ages that passed while nothing was tried are one notice.
    """
    told = entry.told
    if is_to_be_told(mail, entry, now):
        told |= BY_TOLD
    if wants_delays(mail, entry.recipient):
        age = now - begin(mail)
        passed = max((ceil(one) for one in ages if ceil(one) <= age), default=0)
        if passed > told >> 1:
            told = passed << 1 | told & 1
    return told


def is_to_be_told(mail: Mail, entry: Entry, now: float) -> bool:
    """True when the sender is to hear now that the recipient was not reached in time, and that we go on (mode ``N``).

    Once for each recipient; NOTIFY=NEVER is obeyed. A time that had passed before the mail came was told by who
    brought it.
    """
    envelope = mail.envelope
    return (
        envelope.by_mode == "N"
        and mail.received < envelope.deliver_by <= now
        and not entry.told & BY_TOLD
        and envelope.reverse_path is not None
        and "NEVER" not in entry.recipient.notify
    )


def late(status: DeliveryStatus) -> DeliveryStatus:
    """The status in the DSN that says so."""
    return status._replace(status=LATE_STATUS)


def not_beyond_a_notice(mail: Mail, entry: Entry, ages: Sequence[float], due: float, now: float) -> float:
    """``due``, or the next age at which the sender is to be told, where that comes before it."""
    if ages and wants_delays(mail, entry.recipient):
        since = begin(mail)
        for one in ages:
            if now < since + ceil(one) < due:
                due = since + ceil(one)
    return due


def wants_delays(mail: Mail, recipient: Recipient) -> bool:
    """Whether the sender is to be told of delays: NOTIFY names DELAY, or is not there (RFC 3461 section 4.1 leaves
    that to us). Nobody can be told about the null reverse-path."""
    notify = recipient.notify
    return mail.envelope.reverse_path is not None and (not notify or "DELAY" in notify)
