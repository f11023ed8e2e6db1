"""Decides what becomes of a mail by what was found out about its sender, and writes it down for all to see.

What is written: Authentication-Results (RFC 8601), ``X-Quarantine`` where the mail is suspicious, an event, and a count
for the reports to the author's domain (DMARC).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from twisted_mail_node.events import Publish
from twisted_mail_node.events_checked import MailChecked
from twisted_mail_node.inbound.verification import Verification, Verifier
from twisted_mail_node.mailauth.outcome import Outcome, authentication_results
from twisted_mail_node.message.address import domain_key
from twisted_mail_node.message.authresults import field as results_field
from twisted_mail_node.message.header import field
from twisted_mail_node.net.limits import network_of
from twisted_mail_node.policy.checks import Checks, Decision
from twisted_mail_node.policy.putting_off import PuttingOff
from twisted_mail_node.policy.verdict import Asked
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.reply import Reply

#: The field of a mail in quarantine: which check, and in words why.
QUARANTINE = "X-Quarantine"


class Judged(NamedTuple):
    """A mail that was checked."""

    outcome: Outcome
    decision: Decision
    authserv_id: str

    @property
    def refusal(self) -> Reply | None:
        """Of a mail that is not taken."""
        return self.decision.reply

    @property
    def quarantine(self) -> str:
        """What the envelope says of it."""
        return self.decision.method if self.decision.action == "quarantine" else ""

    def fields(self) -> bytes:
        """The header fields it gets: Authentication-Results first."""
        fields = results_field(authentication_results(self.authserv_id, self.outcome))
        if self.quarantine:
            fields += field(QUARANTINE, f"{self.decision.method}; {self.decision.words}")
        return fields


class Judge:
    """Judges mails of all listeners.

    :param authserv_id: our name in Authentication-Results.
    :param count: takes outcomes and what was done, for reports.
    """

    def __init__(
        self,
        verifier: Verifier,
        checks: Checks,
        putting_off: PuttingOff,
        *,
        authserv_id: str,
        publish: Publish,
        count: Callable[[Outcome, Decision], None] = lambda outcome, decision: None,
    ) -> None:
        self._verifier = verifier
        self._checks = checks
        self._putting_off = putting_off
        self._authserv_id = authserv_id
        self._publish = publish
        self._count = count

    def begin(self, asked: Asked) -> Verification | None:
        """A mail transaction begins; ``None``: its mail is not checked."""
        return self._verifier.begin(asked)

    async def judge(self, verification: Verification, asked: Asked, queue_id: str, seconds: float) -> Judged:
        """The content is complete. What is refused for good is counted here, what is taken by ``taken``.

        :param queue_id: the mail's, if it is taken.
        :param seconds: how long the DNS may still take.
        """
        outcome = await verification.finish(seconds)
        domains = {domain_key(one.original.domain) for one in asked.recipients}
        decision = self._checks.decide(outcome, domains)
        if decision.reason is Reason.CHECK_LATER and decision.reply is not None:
            mail = (network_of(asked.client), outcome.reverse_path, outcome.author.domain)
            if not self._putting_off.first(mail):
                decision = self._checks.decide(outcome, domains, later=False)
        if decision.reply is not None and decision.reason is not Reason.CHECK_LATER:
            self._count(outcome, decision)
        self._publish(_event(asked, queue_id, outcome, decision))
        return Judged(outcome, decision, self._authserv_id)

    def taken(self, judged: Judged) -> None:
        """The mail is in the spool: it counts now, and only now, for a client may come again."""
        self._count(judged.outcome, judged.decision)


def _event(asked: Asked, queue_id: str, outcome: Outcome, decision: Decision) -> MailChecked:
    return MailChecked(
        asked.session, queue_id, asked.client, outcome.author.domain, str(outcome.iprev.result),
        str(outcome.helo_spf.result), str(outcome.spf.result), str(outcome.dkim_result), str(outcome.dmarc.result),
        str(outcome.arc.result), decision.action, decision.reason, decision.words,
    )  # fmt: skip
