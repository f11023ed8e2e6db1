"""The part of a DSN that people read: what happened, what the other side said, and what they can do."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from twisted_mail_node.message import trace
from twisted_mail_node.message.cause import understand
from twisted_mail_node.message.dsn_values import Outcome, Part, words
from twisted_mail_node.message.encoding import one_line, quoted_printable, transfer
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.reasons import Reason

#: Lines are this wide.
WIDTH = 76

_OPENINGS = {
    Action.FAILED: "Your mail could not be delivered to the recipients named below, and we have given up on them. "
    "Recipients who are not named here are not affected.",
    Action.DELAYED: "Your mail could not be delivered to the recipients named below yet. We go on trying; "
    "you need not send it again.",
}
_DONE = "You asked to be told. This is what became of your mail for the recipients named below."
_RETURNED = (
    "A mail could be neither delivered to the recipients named below nor returned, for its sender is nobody whom mail "
    "can reach. It was most likely a report itself. Nobody but you is told."
)
_OUTCOMES = {
    Action.DELIVERED: "The mail lies in the mailbox.",
    Action.RELAYED: "The mail was passed on to a host that may not report on it: you will hear no more from us.",
    Action.EXPANDED: "The mail was passed on to the addresses behind this one. You will hear of them only if something "
    "goes wrong.",
}
_ENDS = {
    Reason.EXPIRED: "We have tried for as long as we keep mail.",
    Reason.NOT_IN_TIME: "It was to be delivered by a time that has passed, and was not tried after it.",
}


def for_person(
    hostname: str, kind: Action, outcomes: Sequence[Outcome], original_queue_id: str, *, returned: bool
) -> Part:
    """The part.

    :param kind: what the DSN tells.
    :param returned: it is for the postmaster: the mail could not be returned.
    """
    blocks = [f"This is the mail system of {hostname}.", filled(_RETURNED if returned else _OPENINGS.get(kind, _DONE))]
    blocks += dict.fromkeys(_told(outcome, returned) for outcome in outcomes)  # an alias of many may fail in one way
    name = one_line(original_queue_id)
    if returned:
        blocks.append(filled(f"The event log knows the mail as {name}." if name else "The event log knows more."))
    else:
        name = f", and name the mail {name}" if name else ""
        blocks.append(filled(f"If you need help, write to postmaster@{hostname}{name}."))
    text = "\n\n".join(blocks) + "\n"
    octets = text.replace("\n", "\r\n").encode("utf-8")
    if transfer(octets) == "7bit":
        return Part("text/plain; charset=us-ascii", "7bit", "What happened", octets)
    return Part("text/plain; charset=utf-8", "quoted-printable", "What happened", quoted_printable(octets))


def _told(outcome: Outcome, returned: bool) -> str:
    status = outcome.status
    lines = [f"<{one_line(str(outcome.recipient.original))}>"]
    if status.action in _OUTCOMES:
        lines.append(filled(_OUTCOMES[status.action], 2))
        return "\n".join(lines)
    cause = understand(status)
    lines.append(filled(cause.title, 2))
    said = words(outcome)
    if status.from_remote:
        lines += [filled(_who(status), 2), filled(said, 6)]
    elif said and said != cause.title:
        lines.append(filled(said, 2))
    if status.reason in _ENDS:
        lines.append(filled(_ENDS[status.reason], 2))
    if status.action is Action.FAILED:
        lines.append(filled(f"What you can do: {cause.operator if returned else cause.advice}", 2))
    elif outcome.will_retry_until is not None:
        lines.append(filled(f"We go on trying until {trace.date(outcome.will_retry_until)}.", 2))
    return "\n".join(lines)


def _who(status: DeliveryStatus) -> str:
    where = f" ({one_line(status.remote_address)})" if status.remote_address else ""
    return f"The host {one_line(status.remote_host) or 'there'}{where} said:"


def filled(text: str, indent: int = 0) -> str:
    """A paragraph in lines of ``WIDTH``."""
    margin = " " * indent
    return textwrap.fill(
        text, WIDTH, initial_indent=margin, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False
    )
