"""A mail transaction (RFC 5321 section 3.3), told as a story: MAIL, RCPT …, the content, and the promise.

Each step gives the reply; sending it is the connection's part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from twisted_mail_node.events import MailAccepted, MailDiscarded, MailRefused, RecipientRefused
from twisted_mail_node.inbound.content import DISK_FULL, ContentReader, spool_refusal
from twisted_mail_node.inbound.expanding import expanded
from twisted_mail_node.inbound.repair import missing_fields
from twisted_mail_node.inbound.submitted import SubmittedReader
from twisted_mail_node.inbound.times import NO_TIMES, times, times_refused
from twisted_mail_node.mailauth.outcome import signed_in
from twisted_mail_node.message.authresults import field as results_field
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.message.tls_required import is_tls_optional
from twisted_mail_node.message.trace import received
from twisted_mail_node.policy.chain import Stage
from twisted_mail_node.policy.verdict import Asked, Discard, Hold, Refuse, Verdict
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.extensions import NO_MAIL_PARAMETERS, MailParameters
from twisted_mail_node.smtp.occurrence import MailFrom, RcptTo
from twisted_mail_node.smtp.reply import Reply
from twisted_mail_node.spool.mail import SpoolError
from twisted_mail_node.threads import in_thread
from twisted_mail_node.waiting import DeadlineError, within

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorThreads

    from twisted_mail_node.inbound.factory import ESMTPFactory
    from twisted_mail_node.inbound.judging import Judged
    from twisted_mail_node.inbound.verification import Verification
    from twisted_mail_node.mailauth.dkim_key import SigningKey
    from twisted_mail_node.message.address import Address

#: Seconds a seal may take, in a thread that others use too.
SEAL_TIME = 30.0

MAIL_OK = Reply.make(250, "2.1.0", "Sender OK", Reason.ACCEPTED)
RCPT_OK = Reply.make(250, "2.1.5", "Recipient OK", Reason.ACCEPTED)
TOO_MANY_RECIPIENTS = Reply.make(
    452, "4.5.3", "Too many recipients for one mail; send the rest in another", Reason.TOO_MANY_RECIPIENTS
)
SIZE_REFUSED = Reply.make(552, "5.3.4", "The message is larger than this server takes", Reason.MESSAGE_TOO_LARGE)
DISCARDED = Reply.make(250, "2.0.0", "OK", Reason.DISCARDED)
DIRECTORY_FAILED = Reply.make(451, "4.3.0", "The address cannot be looked up now; try again later", Reason.INTERNAL)


class Transaction:
    """One mail transaction of one session.

    :param standing: what a policy said before MAIL; Discard and Hold count for this mail too.
    :ivar asked: what the policies are shown; belongs to this transaction from MAIL on.
    """

    __slots__ = (
        "_aliases", "_authserv_id", "_discard", "_factory", "_hold", "_judge", "_judged", "_parameters", "_seen",
        "_times", "_verification", "asked", "reader",
    )  # fmt: skip

    def __init__(self, factory: ESMTPFactory, asked: Asked, standing: Verdict | None = None) -> None:
        self._factory = factory
        self._parameters = NO_MAIL_PARAMETERS
        self._times = NO_TIMES
        self._seen: set[Address] = set()
        self._aliases: dict[Address, Recipient] = {}
        self._hold = ""
        self._discard: Discard | None = None
        # These stay to the end, though the settings may be read anew meanwhile: who began to check a mail judges it,
        # and the name in its field is the one whose forgeries were taken out.
        self._judge = factory.judge
        self._authserv_id = factory.authserv_id
        self._verification: Verification | None = None
        self._judged: Judged | None = None
        self.asked = asked
        self.reader: ContentReader | None = None
        self._noted(standing)

    async def mail(self, command: MailFrom) -> Reply:
        """MAIL (RFC 5321 section 4.1.1.2)."""
        factory, parameters = self._factory, command.parameters
        self._parameters = parameters
        if parameters.size > factory.limits.message_size:
            return SIZE_REFUSED
        if not factory.has_room(parameters.size):
            return DISK_FULL
        self.asked.reverse_path = command.reverse_path
        refusal = await self._decided("mail")
        if refusal is None and (parameters.hold_for or parameters.hold_until or parameters.by is not None):
            refusal = self._timed(parameters)
        if refusal is None and self._judge is not None:
            self._verification = self._judge.begin(self.asked)
        return refusal or MAIL_OK

    def _timed(self, parameters: MailParameters) -> Reply | None:
        """When it may go and shall have arrived, counted from MAIL (RFC 2852, RFC 4865)."""
        now = self._factory.now()
        self._times = times(parameters, now)
        return times_refused(self._times, now, self._factory.submission.future_release)

    async def rcpt(self, command: RcptTo) -> Reply:
        """RCPT (RFC 5321 section 4.1.1.3)."""
        factory, asked = self._factory, self.asked
        reply = await self._recipient(command)
        if reply.code >= 400 and reply.reason is not None:
            factory.publish(
                RecipientRefused(
                    asked.session, asked.client, path_text(asked.reverse_path), str(command.forward_path),
                    reply.reason, str(reply),
                )
            )  # fmt: skip
        return reply

    async def _recipient(self, command: RcptTo) -> Reply:
        factory, asked = self._factory, self.asked
        if len(asked.recipients) + len(self._aliases) >= factory.limits.recipients:
            return TOO_MANY_RECIPIENTS
        forward_path = command.forward_path
        try:
            resolution = await within(
                factory.clock, factory.limits.policy_time, factory.directory.resolve(forward_path)
            )
        except Exception:
            factory.log.failure("the directory failed for {address}", address=str(forward_path))
            return DIRECTORY_FAILED
        asked.forward_path, asked.resolution = forward_path, resolution
        refusal = await self._decided("rcpt")
        if refusal is not None:
            return refusal
        parameters, alias = expanded(forward_path, resolution, command.parameters)
        if alias is not None:
            self._aliases.setdefault(forward_path, alias)
        for target in resolution.targets:
            if target not in self._seen:
                self._seen.add(target)
                asked.recipients.append(Recipient(target, forward_path, *parameters))
        return RCPT_OK

    def begin(self) -> ContentReader:
        """The content is about to come."""
        factory, asked, parameters = self._factory, self.asked, self._parameters
        ours = asked.listener == "submission" or asked.may_relay
        incoming = (factory.signed if ours else factory.queue).begin()
        if asked.listener == "submission":
            self.reader = SubmittedReader(
                incoming, factory.limits, repair=factory.submission.bare_newlines == "repair",
                binary=parameters.body == "BINARYMIME", smtputf8=parameters.smtputf8,
                strict=asked.submitter is not None, authserv_id=self._authserv_id,
            )  # fmt: skip
        else:
            seal = self._sealing_key() is not None
            self.reader = ContentReader(incoming, factory.limits, self._authserv_id, self._verification, seal)
        return self.reader

    async def finish(self, reader: ContentReader, bare: bool) -> Reply:
        """The content is complete: decide, and keep it. **A 250 from here is the durable promise.**"""
        asked = self.asked
        asked.header = await reader.finish(bare and self._parameters.body != "BINARYMIME")
        asked.size = reader.size
        if reader.refusal is None and self._verification is not None:
            await self._verified(reader, self._verification)
        if reader.refusal is None:
            refusal = await self._decided("content")
            if refusal is not None:
                reader.refuse(refusal)
        if self._verification is not None:
            self._verification.cancel()  # what nobody waits for any more is not asked on
        if reader.refusal is not None:
            return self._refused(reader.refusal)
        if self._discard is not None:
            reader.incoming.abort()
            return self._discarded(self._discard)
        if self._hold:
            reader.incoming.hold(self._hold)
        try:
            return await self._keep(reader)
        except SpoolError as error:
            return self._refused(spool_refusal(error))

    async def _verified(self, reader: ContentReader, verification: Verification) -> None:
        """Find out who sent it; a mail that is not what it says may be refused."""
        asked, seconds = self.asked, self._factory.limits.policy_time
        assert self._judge is not None
        judged = await self._judge.judge(verification, asked, reader.incoming.queue_id, seconds)
        self._judged, asked.outcome = judged, judged.outcome
        if judged.refusal is not None:
            reader.refuse(judged.refusal)

    async def _decided(self, stage: Stage) -> Reply | None:
        """What the gate, and if it has no opinion the chain, say at a stage: the reply of a refusal, else ``None``."""
        factory = self._factory
        verdict: Verdict | None
        for ask in factory.gate[stage]:
            verdict = await ask(self.asked)
            if verdict is not None:
                break
        else:
            verdict = await factory.chain.ask(stage, self.asked) if factory.chain.cares(stage) else None
        return None if verdict is None else self._noted(verdict)

    async def _keep(self, reader: ContentReader) -> Reply:
        factory, asked, parameters = self._factory, self.asked, self._parameters
        recipients = tuple(asked.recipients)
        aliases = tuple(self._aliases.values())
        queue_id = reader.incoming.queue_id
        now = factory.now()
        protocol = _protocol(asked, parameters.smtputf8)
        tls = "" if asked.tls is None else str(asked.tls)
        account = "" if asked.submitter is None else str(asked.submitter.account)
        envelope = Envelope(
            asked.reverse_path, recipients + aliases, reader.body(parameters.body), parameters.smtputf8, parameters.ret,
            parameters.envid, asked.client, asked.helo, protocol, asked.session, asked.listener, account, tls,
            parameters.require_tls, *self._times, parameters.priority,
            not parameters.require_tls and is_tls_optional(asked.header),  # RFC 8689 section 4.1
            self._judged.quarantine if self._judged is not None else "",
        )  # fmt: skip
        header = self._found_out(account) + received(
            hostname=factory.hostname,
            helo=asked.helo,
            client=asked.client,
            protocol=protocol,
            queue_id=queue_id,
            recipient=recipients[0].original if len(recipients) == 1 else None,
            when=now,
            extra=tls,
            priority=parameters.priority,
        )
        if isinstance(reader, SubmittedReader):
            header += self._missing_fields(reader, now)
        if not asked.header:
            # The content begins with its body; without this line it would go on in our Received field (attack T07).
            header += b"\r\n"
        header = await self._seal(header, now) + header
        await reader.incoming.commit(envelope, header)
        # At this instant the mail is accepted.
        if self._judge is not None and self._judged is not None:
            self._judge.taken(self._judged)
        factory.publish(
            MailAccepted(
                asked.session, queue_id, asked.client, asked.helo, protocol, path_text(asked.reverse_path),
                tuple([str(recipient.address) for recipient in recipients]), reader.size, Reason.ACCEPTED,
                account, tls,
            )
        )  # fmt: skip
        return Reply(250, "2.0.0", ("Queued as " + queue_id,), Reason.ACCEPTED)

    def _found_out(self, account: str) -> bytes:
        """Authentication-Results, and ``X-Quarantine``. Whose account it was is for our own people only."""
        factory, asked = self._factory, self.asked
        if self._judged is not None:
            return self._judged.fields()
        if account and all(factory.directory.is_local(one.address.domain) for one in asked.recipients):
            return results_field(signed_in(self._authserv_id, account))
        return b""

    def _sealing_key(self) -> SigningKey | None:
        """The key of a seal (ARC): of a mail that was checked, and that an alias leads to another host."""
        factory = self._factory
        if self._verification is None:
            return None
        for one in self.asked.recipients:
            if not factory.directory.is_local(one.address.domain):
                return factory.sealing_key(one.original.domain)
        return None

    async def _seal(self, header: bytes, now: float) -> bytes:
        """Our seal, for the hosts this mail is forwarded to (RFC 8617 section 5.1)."""
        key, verification, judged = self._sealing_key(), self._verification, self._judged
        if key is None or verification is None or judged is None:
            return b""
        args = header + self.asked.header, judged.outcome, self._authserv_id, key, now
        if not key.slow:
            return verification.seal(*args)
        clock = self._factory.clock
        sealing = in_thread(cast("IReactorThreads", clock), verification.seal, *args)
        try:
            return await within(clock, SEAL_TIME, sealing)
        except DeadlineError:  # it goes on without
            return b""

    def _missing_fields(self, reader: SubmittedReader, now: float) -> bytes:
        """What a submitted mail lacks (RFC 6409 section 8)."""
        factory, submitter = self._factory, self.asked.submitter
        return missing_fields(
            reader.header,
            now=now,
            hostname=factory.hostname,
            queue_id=reader.incoming.queue_id,
            author=submitter.account if submitter is not None and factory.submission.add_from else None,
            charset=reader.charset,
        )

    def abandon(self) -> None:
        """The transaction ended without a promise (RSET, a lost connection …)."""
        if self.reader is not None:
            self.reader.incoming.abort()
        if self._verification is not None:
            self._verification.cancel()

    def _noted(self, verdict: Verdict | None) -> Reply | None:
        """Remember Discard and Hold for the end; give the reply of a refusal."""
        if isinstance(verdict, Refuse):
            reply = verdict.reply
            return reply if reply.reason is not None else reply._replace(reason=verdict.reason)
        if isinstance(verdict, Discard):
            self._discard = verdict
        elif isinstance(verdict, Hold):
            self._hold = verdict.evidence or str(verdict.reason)
        return None

    def _refused(self, reply: Reply) -> Reply:
        asked = self.asked
        self._factory.publish(
            MailRefused(
                asked.session, asked.client, path_text(asked.reverse_path),
                tuple([str(recipient.address) for recipient in asked.recipients]), asked.size,
                reply.reason or Reason.POLICY, str(reply),
            )
        )  # fmt: skip
        return reply

    def _discarded(self, verdict: Discard) -> Reply:
        asked = self.asked
        self._factory.publish(
            MailDiscarded(
                asked.session, asked.client, path_text(asked.reverse_path),
                tuple([str(recipient.address) for recipient in asked.recipients]), asked.size,
                verdict.reason, verdict.evidence,
            )
        )  # fmt: skip
        return DISCARDED


def path_text(path: Address | None) -> str:
    """A reverse-path for logs; the null one is ``<>``."""
    return "<>" if path is None else str(path)


def _protocol(asked: Asked, smtputf8: bool) -> str:
    """The with-clause of Received: RFC 3848, and RFC 6531 section 4.3 for SMTPUTF8."""
    if not asked.extended:
        return "SMTP"
    name = "UTF8SMTP" if smtputf8 else "ESMTP"
    return name + ("S" if asked.tls is not None else "") + ("A" if asked.submitter is not None else "")
