"""Only recipients that exist, and whose mailbox has room, are taken for local domains; and, for reverse-paths that we
rewrote, only bounces (attack T28: else they would be a way through us to others)."""

from __future__ import annotations

from collections.abc import Callable

from twisted_mail_node.message.address import Address
from twisted_mail_node.policy.verdict import Asked, Policy, Refuse, Verdict
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.reply import Reply

UNKNOWN = Reply.make(550, "5.1.1", "No such recipient here", Reason.UNKNOWN_RECIPIENT)
FORGED = Reply.make(550, "5.1.1", "No such recipient here: this SRS address is forged or damaged", Reason.SRS_FORGED)
EXPIRED = Reply.make(550, "5.1.1", "No such recipient here: this SRS address has expired", Reason.SRS_EXPIRED)
BOUNCES_ONLY = Reply.make(550, "5.7.1", "Only bounces, with MAIL FROM:<>, may go to this address", Reason.BOUNCES_ONLY)
LOOP = Reply.make(550, "5.4.6", "The aliases of this address lead in a circle", Reason.ALIAS_LOOP)

_PROBLEMS = {
    Reason.ALIAS_LOOP: Refuse(LOOP, Reason.ALIAS_LOOP),
    Reason.SRS_FORGED: Refuse(FORGED, Reason.SRS_FORGED),
    Reason.SRS_EXPIRED: Refuse(EXPIRED, Reason.SRS_EXPIRED),
}
_UNKNOWN = Refuse(UNKNOWN, Reason.UNKNOWN_RECIPIENT)


class Recipients(Policy):
    """The recipient policy.

    :param is_full: tells at once whether a mailbox is over its quota.
    :param full_code: 452 (the sender tries again) or 552 (the sender is told at once).
    """

    name = "recipients"

    def __init__(self, is_full: Callable[[Address], bool], full_code: int = 452) -> None:
        self._is_full = is_full
        words = "The recipient's mailbox is full"
        self._full = Reply.make(full_code, "4.2.2" if full_code < 500 else "5.2.2", words, Reason.MAILBOX_FULL)

    async def rcpt(self, asked: Asked) -> Verdict | None:
        resolution = asked.resolution
        if resolution is None or not resolution.local:
            return None
        if not resolution.targets:
            return _UNKNOWN if resolution.problem is None else _PROBLEMS.get(resolution.problem, _UNKNOWN)
        if resolution.returns and asked.reverse_path is not None:
            return Refuse(BOUNCES_ONLY, Reason.BOUNCES_ONLY)
        if len(resolution.targets) == 1 and self._is_full(resolution.targets[0]):
            return Refuse(self._full, Reason.MAILBOX_FULL)
        return None
