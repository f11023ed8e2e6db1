"""What MAIL says of time: when a mail may go at the earliest (RFC 4865), and when it shall have arrived (RFC 2852)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.reply import Reply

if TYPE_CHECKING:
    from twisted_mail_node.message.envelope import ByMode
    from twisted_mail_node.smtp.extensions import MailParameters


class Times(NamedTuple):
    """In seconds since the epoch, as an Envelope has them."""

    release_at: float = 0.0
    deliver_by: float = 0.0
    by_mode: ByMode = ""
    by_trace: bool = False


NO_TIMES = Times()


def times(parameters: MailParameters, now: float) -> Times:
    """What the parameters mean at the moment of MAIL."""
    by = parameters.by
    if by is None and not parameters.hold_for and not parameters.hold_until:
        return NO_TIMES
    release_at = now + parameters.hold_for if parameters.hold_for else parameters.hold_until
    if by is None:
        return Times(release_at)
    return Times(release_at, now + by.seconds, by.mode, by.trace)


def times_refused(wanted: Times, now: float, longest: float) -> Reply | None:
    """501 when a mail is to be held longer than ``longest`` seconds, or until a time that is over (RFC 4865).

    And when it is to be returned before it may go: then it could never arrive.
    """
    if not wanted.release_at:
        return None
    held = wanted.release_at - now
    if held > longest:
        return _refused(f"A mail can be held back here for at most {longest:.0f} seconds ({longest / 86400:.3g} days)")
    if held < 0:
        return _refused("HOLDUNTIL names a time that is over; name a later one, or leave it out")
    if wanted.by_mode == "R" and wanted.deliver_by <= wanted.release_at:
        return _refused("By the time that BY names the mail would still be held back; give it more time")
    return None


def _refused(words: str) -> Reply:
    return Reply.make(501, "5.5.4", words, Reason.BAD_PARAMETER)
