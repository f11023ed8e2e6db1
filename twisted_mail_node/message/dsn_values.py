"""The values a DSN is made of, and how what others said is made safe to stand in it."""

from __future__ import annotations

import re
from typing import NamedTuple

from twisted_mail_node.message.encoding import one_line
from twisted_mail_node.message.envelope import Recipient
from twisted_mail_node.message.status import Action, DeliveryStatus

#: Characters of what a host said that are repeated, twice for each recipient; replies of thousands of lines exist.
WORDS_MAX = 2_000

_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}\Z")
_STATUS_UNKNOWN = {Action.FAILED: "5.0.0", Action.DELAYED: "4.0.0"}


class Outcome(NamedTuple):
    """One recipient in a DSN.

    :ivar will_retry_until: for a delayed one, when we give up (seconds since the epoch), ``None`` when not known.
    :ivar tried: when the last attempt was made (seconds since the epoch), ``None`` when not known.
    """

    recipient: Recipient
    status: DeliveryStatus
    will_retry_until: float | None = None
    tried: float | None = None


class Part(NamedTuple):
    """A part of the DSN: its media type, transfer encoding and description, and the octets as they are sent."""

    kind: str
    encoding: str
    description: str
    octets: bytes


def words(outcome: Outcome) -> str:
    """What was said, on one line, not too long, and without the address that an alias leads to: who wrote to the alias
    is not told who stands behind it (RFC 3464 section 4.2)."""
    recipient, text = outcome.recipient, one_line(outcome.status.words)
    if recipient.address != recipient.original:
        hidden = one_line(str(recipient.address))
        text = re.sub(re.escape(hidden), lambda found: one_line(str(recipient.original)), text, flags=re.IGNORECASE)
    return text if len(text) <= WORDS_MAX else text[:WORDS_MAX] + "..."


def code(status: DeliveryStatus) -> str:
    """The enhanced status code; RFC 3461 section 6.3 (g): x.0.0 where there is none."""
    return status.status if _STATUS.match(status.status) else _STATUS_UNKNOWN.get(status.action, "2.0.0")
