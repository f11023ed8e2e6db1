"""Only recipients that exist, and whose mailbox has room, are taken for local domains."""

from __future__ import annotations

from collections.abc import Callable

from twisted_mail_node.message.address import Address
from twisted_mail_node.policy.verdict import Asked, Policy, Refuse, Verdict
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.reply import Reply

UNKNOWN = Reply.make(550, "5.1.1", "No such recipient here", Reason.UNKNOWN_RECIPIENT)
LOOP = Reply.make(550, "5.4.6", "The aliases of this address lead in a circle", Reason.ALIAS_LOOP)


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
            loop = resolution.problem is Reason.ALIAS_LOOP
            return Refuse(LOOP, Reason.ALIAS_LOOP) if loop else Refuse(UNKNOWN, Reason.UNKNOWN_RECIPIENT)
        if len(resolution.targets) == 1 and self._is_full(resolution.targets[0]):
            return Refuse(self._full, Reason.MAILBOX_FULL)
        return None
