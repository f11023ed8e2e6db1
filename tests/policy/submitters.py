"""Somebody who signed in, for tests of submission."""

from __future__ import annotations

from zope.interface import implementer

from tests.inbound.receiving import Peer, TestReceiver
from twisted_mail_node.inbound.connection import Connection
from twisted_mail_node.interfaces import ISubmitter
from twisted_mail_node.message.address import Address
from twisted_mail_node.policy.chain import by_stage
from twisted_mail_node.policy.submission import Submission
from twisted_mail_node.settings import SubmissionSettings


def address(text: str) -> Address:
    """An address from text without quotes."""
    local, _, domain = text.rpartition("@")
    return Address(local, domain)


@implementer(ISubmitter)
class Submitter:
    """Who signed in.

    :param own: the account, and more addresses that it has.
    """

    def __init__(self, *own: str, recipients: int = 200, mails_per_hour: int = 0) -> None:
        self.account = address((own or ("joe@example.org",))[0])
        self.recipients = recipients
        self.mails_per_hour = mails_per_hour
        self._own = {address(text) for text in own or ("joe@example.org", "sales@example.org")}

    def may_use(self, address: Address) -> bool:
        return address in self._own


class SubmissionReceiver(TestReceiver):
    """A receiver whose listener is for submission.

    :param settings: of ``[submission]``.
    """

    def __init__(self, settings: SubmissionSettings | None = None, **fields: object) -> None:
        super().__init__(kind="submission", **fields)  # type: ignore[arg-type]
        self.factory.submission = settings or SubmissionSettings()
        for stage, asks in by_stage((Submission(self.factory.submission, self.clock),)).items():
            self.factory.gate[stage] += asks

    def signed_in(self, submitter: Submitter | None = None, *lines: str) -> Peer:
        """A session in which somebody has signed in and said these lines; what was answered is forgotten."""
        peer = self.session()
        connection = peer.protocol
        assert isinstance(connection, Connection)
        connection.asked.submitter = submitter or Submitter()
        if lines:
            peer.say(*lines)
        return peer

    def submit(self, content: bytes, submitter: Submitter | None = None, parameters: str = "") -> str:
        """Somebody who has signed in submits this content; gives the answer."""
        peer = self.signed_in(submitter)
        path = "" if submitter is None and parameters == "null" else str((submitter or Submitter()).account)
        peer.say(f"MAIL FROM:<{path}>{'' if parameters == 'null' else parameters}", "RCPT TO:<ann@example.org>")
        if "BINARYMIME" in parameters:
            peer.send(b"BDAT %d LAST\r\n" % len(content) + content)
        else:
            peer.say("DATA")
            peer.send(content + (b"" if content.endswith(b"\r\n") else b"\r\n") + b".\r\n")
        return peer.said()
