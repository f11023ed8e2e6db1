"""What signed-in users may send (RFC 6409): from their own addresses only, as many mails an hour as they may.

It stands in the gate of submission listeners, behind ``relaying``, which lets only those in who have signed in, and
clients in ``relay_from``. The latter are bound to no address, for nobody knows who they are.

A user may write neither a reverse-path (RFC 6409 section 6.1 allows that rule) nor a From, Sender, Resent-From or
Resent-Sender that is another's. The fields must have one reading only: where two programs may see two different
authors, what we checked would not be what somebody is shown.
"""

from __future__ import annotations

import re
from math import ceil

from twisted.internet.interfaces import IReactorTime

from twisted_mail_node.interfaces import ISubmitter
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.header import Field, count, fields, first
from twisted_mail_node.policy.pace import Pace
from twisted_mail_node.policy.verdict import Asked, Policy, Refuse, Verdict
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import SubmissionSettings
from twisted_mail_node.smtp.mailboxes import VALUE_MAX, MailboxError, mailboxes
from twisted_mail_node.smtp.reply import Reply

#: A line that goes on and looks like From: programs that strip white space take it for the field.
_HIDDEN_FROM = re.compile(rb"\r\n[ \t]+from[ \t]*:", re.IGNORECASE)
_OTHERS = (b"Sender", b"Resent-From", b"Resent-Sender")


class Submission(Policy):
    """The policy of submission.

    :ivar settings: may be set anew; what was counted stays.
    :param clock: seconds for the count of mails; need not be those of the wall clock.
    """

    name = "submission"

    def __init__(self, settings: SubmissionSettings, clock: IReactorTime) -> None:
        self.settings = settings
        self._pace = Pace(clock)

    async def mail(self, asked: Asked) -> Verdict | None:
        """The reverse-path is the user's own, or null, as in read receipts (RFC 8098 section 3)."""
        submitter = asked.submitter
        if submitter is None:
            return None
        path = asked.reverse_path or submitter.account  # who was disabled meanwhile has no null one either
        if not submitter.may_use(path):
            return _not_yours("send from", path, submitter)
        return self._too_many(submitter)

    async def rcpt(self, asked: Asked) -> Verdict | None:
        """The user's own bound on recipients: 452, for the client sends the rest in another mail.

        RFC 5321 section 4.5.3.1.10.
        """
        submitter = asked.submitter
        if submitter is None or len(asked.recipients) < submitter.recipients:
            return None
        words = f"Your mails may have {submitter.recipients} recipients each; send the rest in another"
        return _refuse(452, "4.5.3", words, Reason.TOO_MANY_RECIPIENTS)

    async def content(self, asked: Asked) -> Verdict | None:
        """Who wrote it, as its header says; and the mail counts."""
        submitter = asked.submitter
        if submitter is None:
            return None
        verdict = self._author(asked.header, submitter) or self._others(asked.header, submitter)
        verdict = verdict or self._too_many(submitter)  # other sessions may have sent since MAIL
        if verdict is None:
            self._pace.count(str(submitter.account))
        return verdict

    def _author(self, header: bytes, submitter: ISubmitter) -> Refuse | None:
        """Exactly one From field (RFC 5322 section 3.6.2), and all its mailboxes are the user's own."""
        number = count(header, b"From")
        if _HIDDEN_FROM.search(header):
            return _ambiguous("a line that begins with a space looks like another From field")
        if number > 1:
            return _ambiguous(f"the mail has {number} From fields; it may have one")
        value = first(header, b"From")
        if value is not None:
            return _checked(Field(b"From", value, b""), submitter)
        if self.settings.add_from and submitter.account.is_ascii:
            account = submitter.account
            return None if submitter.may_use(account) else _not_yours("write as From:", account, submitter)
        return _ambiguous("the mail has no From field; set your address in your mail program")

    def _others(self, header: bytes, submitter: ISubmitter) -> Refuse | None:
        """Sender and the fields of who resends; each mail has at most one Sender."""
        if not any(count(header, name) for name in _OTHERS):
            return None
        if count(header, b"Sender") > 1:
            return _ambiguous("the mail has more than one Sender field; it may have one")
        names = [name.lower() for name in _OTHERS]
        found = [field for field in fields(header) if field.name.lower() in names]
        if sum(len(field.value) for field in found) > VALUE_MAX:
            return _ambiguous("the mail has too many Sender and Resent- fields")
        return next((refusal for field in found if (refusal := _checked(field, submitter))), None)

    def _too_many(self, submitter: ISubmitter) -> Refuse | None:
        """450: temporarily blocked for policy reasons (RFC 5321 section 4.2.3)."""
        wait = self._pace.wait_of(str(submitter.account), submitter.mails_per_hour)
        if not wait:
            return None
        minutes = ceil(wait / 60)
        words = (
            f"You have sent {submitter.mails_per_hour} mails within an hour, which is all your account may; "
            f"try again in {minutes} minute{'s' if minutes > 1 else ''}"
        )
        return _refuse(450, "4.7.1", words, Reason.TOO_MANY_MAILS)


def _checked(field: Field, submitter: ISubmitter) -> Refuse | None:
    """Every mailbox of the field is the user's own, and there is one."""
    name = field.name.decode("ascii")
    try:
        found = mailboxes(field.value, plain=True)
    except MailboxError as error:
        return _ambiguous(f"the field {name} cannot be understood: {error}")
    if not found:
        return _ambiguous(f"the field {name} names nobody; write your address there")
    for address in found:
        if not submitter.may_use(address):
            return _not_yours(f"write as {name}:", address, submitter)
    return None


def _not_yours(what: str, address: Address, submitter: ISubmitter) -> Refuse:
    if not submitter.may_use(submitter.account):
        words = f"The account {_shown(submitter.account)} may not send any more: it is disabled; ask your postmaster"
        return _refuse(550, "5.7.1", words, Reason.ACCOUNT_DISABLED)
    words = (
        f"You may not {what} <{_shown(address)}>: it is not an address of {_shown(submitter.account)}.\n"
        "Choose your own address in your mail program, or let your postmaster give you that one."
    )
    return _refuse(550, "5.7.1", words, Reason.NOT_YOUR_ADDRESS)


def _ambiguous(words: str) -> Refuse:
    return _refuse(550, "5.6.0", f"Nobody could be sure who wrote this: {words}", Reason.BAD_FROM)


def _refuse(code: int, enhanced: str, words: str, reason: Reason) -> Refuse:
    """In ASCII: who has not said SMTPUTF8 is told nothing else (RFC 6531 section 3.7.4)."""
    words = words.encode("ascii", "backslashreplace").decode("ascii")
    return Refuse(Reply.make(code, enhanced, words, reason), reason)


def _shown(address: Address) -> str:
    return str(address)[:120]
