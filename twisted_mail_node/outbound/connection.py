"""A connection to a host that takes mail: introduction, then one mail transaction after the other, as one coroutine.

With PIPELINING (RFC 2920) a mail costs one round trip: the end of a mail's content and the commands of the next mail
go out in the same write; with CHUNKING (RFC 3030) a small mail goes out whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.outbound.introduction import Introduction, Tls
from twisted_mail_node.outbound.job import Broken, Job
from twisted_mail_node.outbound.need import Need
from twisted_mail_node.outbound.signing_in import NO_PLAN, Plan
from twisted_mail_node.outbound.transaction import RECIPIENTS_MAX, Transaction, Way, plan
from twisted_mail_node.outbound.wire import Times
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp import client
from twisted_mail_node.smtp.reply import Reply
from twisted_mail_node.smtp.stuffing import BareNewlineError
from twisted_mail_node.threads import in_thread
from twisted_mail_node.waiting import pause

#: Seconds after which a connection takes no more mail: TLSA records and policies change, and what was decided about a
#: host holds for those who came before.
AGE_MAX = 300.0

_log = Logger()


class Owner(Protocol):
    """Who gives a connection its work: the pool."""

    def take(self, connection: RelayConnection) -> Job | None:
        """The next job that waits, if any."""

    def parked(self, connection: RelayConnection) -> None:
        """The connection has nothing to do; ``run`` gives it a job."""

    def put_back(self, job: Job, connection: RelayConnection, broken: Broken | None) -> None:
        """The job has recipients in ``todo`` that this connection will not send."""

    def leaving(self, connection: RelayConnection) -> None:
        """The connection takes no more jobs. May be told more than once."""

    def quitting(self, connection: RelayConnection) -> None:
        """The connection has left in order and given back what it had; QUIT follows."""

    def gone(self, connection: RelayConnection) -> None:
        """The connection has ended. Told once, the last thing of all."""


class RelayConnection(Introduction):
    """One connection. Its other parameters are those of ``Introduction``.

    :param mails_max: transactions until we close it.
    :param lost: called when the transport is gone: after that the host has no connection of ours here.
    :ivar introduced: fires when the host is ready for mail; fails with ``Broken`` when it will not be.
    :ivar own_ip: the IP address of our end, ``""`` before it stands.
    :ivar mails: transactions begun.
    :ivar finished: transactions that the host answered to the end.
    """

    def __init__(
        self,
        owner: Owner,
        *,
        hostname: str,
        reactor: Any,
        host: str,
        address: str,
        mails_max: int,
        times: Times,
        need: Need,
        tls: Tls | None,
        plan: Plan = NO_PLAN,
        lost: Callable[[], None] = lambda: None,
    ) -> None:
        self.introduced: Deferred[None] = Deferred()
        self.own_ip = ""
        self.mails = self.finished = 0
        self._now = reactor.seconds
        self._owner = owner
        self._lost = lost
        self._mails_max = mails_max
        self._recipients_max = RECIPIENTS_MAX
        self._leaving = False
        self._until = 0.0
        self._dirty = False  # the host has a transaction that came to nothing
        self._rest: Job | None = None  # has recipients for a transaction after the one under way
        self._current: Transaction | None = None
        self._following: Transaction | None = None
        super().__init__(
            hostname=hostname, reactor=reactor, host=host, address=address, need=need, tls=tls, times=times, plan=plan
        )

    def connectionMade(self) -> None:
        self.own_ip = str(getattr(self._wire().getHost(), "host", ""))
        super().connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._lost()

    # what others call

    def run(self, job: Job) -> None:
        """Work for a parked connection."""
        self._rest = job
        self._led.resume()

    def leave(self) -> None:
        """Take no more jobs, and QUIT when those under way are done."""
        self._leaving = True
        self._led.resume()

    def abort(self) -> None:
        """End at once."""
        self._break(Broken(Reason.SHUTTING_DOWN, "4.3.2", "the node is stopping"))

    # the story

    async def _story(self) -> None:
        try:
            await self._introduce()
            offered = self._offered
            self._mails_max = min(self._mails_max, offered.mail_max or self._mails_max)
            self._recipients_max = min(RECIPIENTS_MAX, offered.rcpt_max or RECIPIENTS_MAX)
            self._until = self._now() + AGE_MAX
            self.introduced.callback(None)
            while True:
                transaction = self._next()
                if transaction is None and not await self._parked():
                    break
                while transaction is not None:
                    transaction = await self._transfer(transaction)
            await self._quit()
        except Broken as broken:
            self._end(broken)
        except Exception:
            _log.failure("a connection to {address} broke", address=self.address)
            self._end(Broken(Reason.INTERNAL, "4.3.0", "something broke in the node"))
        else:
            self._end(None)

    def _next(self) -> Transaction | None:
        """What is to be sent next: the rest of the job in hand, or the job that has waited longest."""
        while not self._leaving and self.mails < self._mails_max and self._now() < self._until:
            job = self._rest or self._owner.take(self)
            self._rest = None
            if job is None:
                return None
            transaction = plan(job, self._offered, self._recipients_max, self.peer, self._now)
            if job.todo:
                self._rest = job
            if transaction is not None:
                self.mails += 1
                return transaction
        self._leaving = True
        return None

    async def _parked(self) -> bool:
        """Wait for a job; False when it is time to go."""
        if self._leaving:
            return False
        self._owner.parked(self)
        self._arm(self._times.idle)
        while self._rest is None:
            # A host that speaks now says 421, or something that answers nothing: either way it has ended here.
            if self._broken is not None or self._replies or self._late or self._leaving:
                return False
            await pause
        return True

    async def _transfer(self, transaction: Transaction) -> Transaction | None:
        """One mail transaction; gives the next one when its commands are already on their way."""
        self._current, self._following = transaction, None
        data: Reply | None
        if self._offered.pipelining:
            data = await self._group(transaction)
        else:
            data = await self._step_by_step(transaction)
        if transaction.later:
            job = transaction.job
            job.todo[:0] = transaction.later
            self._rest = job
        if data is not None and data.is_positive:
            raise Broken(Reason.BAD_REPLY, "4.5.0", f"the host answered DATA with {data}")
        way = transaction.way
        if way is Way.AT_ONCE:
            transaction.content = True
            await self._final(transaction)
        elif not transaction.accepted:
            await self._nobody(transaction, data)
        elif data is not None and data.code != 354:
            transaction.finish(data)
            self._dirty = True
        else:
            await self._send(transaction)
            await self._final(transaction)
        self._current = None
        self.finished += 1
        return self._following

    async def _group(self, transaction: Transaction) -> Reply | None:
        """The replies to a group of commands (RFC 2920), as far as DATA; the group is written unless it has been."""
        doubtful = transaction.opened and self._dirty  # written before it was known that RSET is needed
        if not transaction.opened:
            self._check_silence()
            self._write(self._opening(transaction))
        if transaction.reset:
            await self._reply(self._times.mail)
        reply = await self._reply(self._times.mail)
        if doubtful and reply.code == 503:
            raise Broken(Reason.BAD_REPLY, "4.5.0", f"after content it had refused the host answered {reply}", reply)
        transaction.mail_answered(reply)
        for number in transaction.numbers:
            transaction.rcpt_answered(number, await self._reply(self._times.rcpt))
        return await self._reply(self._times.data) if transaction.way is Way.DATA else None

    async def _step_by_step(self, transaction: Transaction) -> Reply | None:
        """The same for a host without PIPELINING: each command waits for the reply to the one before."""
        transaction.opened = True
        if self._dirty:
            self._dirty = False
            self._ask(client.RSET)
            await self._reply(self._times.mail)
        mail, *rcpts = transaction.commands
        self._ask(mail)
        transaction.mail_answered(await self._reply(self._times.mail))
        if transaction.mail_refused:
            return None
        for number, rcpt in zip(transaction.numbers, rcpts, strict=True):
            self._ask(rcpt)
            transaction.rcpt_answered(number, await self._reply(self._times.rcpt))
        if transaction.way is not Way.DATA or not transaction.accepted:
            return None
        self._ask(client.DATA)
        return await self._reply(self._times.data)

    async def _nobody(self, transaction: Transaction, data: Reply | None) -> None:
        """No recipient was accepted. A host that wants the content all the same gets none (RFC 2920 section 3.1)."""
        if data is not None and data.code == 354:
            if transaction.per_recipient:
                # RFC 2033 section 4.2 wants 503 here: how many replies would such a host give?
                raise Broken(Reason.BAD_REPLY, "4.5.0", "the host wants content for no recipient")
            self._ask(client.LONE_DOT)
            await self._reply(self._times.end)
        elif not transaction.mail_refused:
            self._dirty = True

    async def _send(self, transaction: Transaction) -> None:
        """The content and, in the same write, the opening of the next mail."""
        self._check_silence()
        transaction.content = True
        whole = transaction.whole
        if whole is None:
            await self._stream(transaction)
            return
        transaction.sent = True
        self._write(whole + self._follow())

    async def _stream(self, transaction: Transaction) -> None:
        """Content that is too large for one write: read in a thread, written as fast as the host takes it."""
        pieces = transaction.pieces()
        self._wire().registerProducer(self, True)
        try:
            if transaction.way is Way.CHUNK:
                self._write(client.bdat(transaction.size))
            while True:
                piece, last = await in_thread(self._reactor, next, pieces)
                await self._room(self._times.block)
                if last:
                    transaction.sent = True
                    piece += self._follow()
                self._write(piece)
                if last:
                    return
        except (BareNewlineError, OSError) as error:
            # The host waits for more and must not get it: without the end it has no mail (RFC 5321 section 4.1.1.4).
            transaction.settle(_unreadable(error))
            raise Broken(Reason.INTERNAL, "4.3.0", str(error)) from error
        finally:
            self._full = False
            self._wire().unregisterProducer()

    def _follow(self) -> bytes:
        """The opening of the next mail, when one waits (RFC 2920 section 3.1); ``b""`` otherwise."""
        current = self._current
        if not self._offered.pipelining:
            return b""
        if current is not None and current.per_recipient and len(current.accepted) < len(current.numbers):
            # Some stores give a reply for who was refused, too: it would be taken for one to the next mail's MAIL.
            return b""
        self._following = following = self._next()
        return b"" if following is None else self._opening(following)

    def _opening(self, transaction: Transaction) -> bytes:
        transaction.opened = True
        if transaction.way is Way.AT_ONCE:
            transaction.sent = True
        if not self._dirty:
            return transaction.opening()
        self._dirty = False
        transaction.reset = True
        return client.RSET + transaction.opening()

    async def _final(self, transaction: Transaction) -> None:
        """The reply to the end of the content: the mail is the host's, or it is not."""
        if transaction.per_recipient:
            await self._finals(transaction)
            return
        reply = await self._reply(self._times.end)
        if transaction.accepted:
            if 300 <= reply.code < 400:
                raise Broken(Reason.BAD_REPLY, "4.5.0", f"the host answered the content with {reply}")
            transaction.finish(reply)
        # RFC 3030 section 2: a failed BDAT leaves a state that only RSET clears.
        if not reply.is_positive and transaction.way is not Way.DATA:
            self._dirty = not transaction.mail_refused

    async def _finals(self, transaction: Transaction) -> None:
        """LMTP: one reply for each accepted recipient, in the order of their RCPT commands (RFC 2033 section 4.2).

        Who has a reply has it for good: when the connection breaks, only the others are uncertain.
        """
        for number in transaction.accepted:
            reply = await self._reply(self._times.end)
            if 300 <= reply.code < 400:
                raise Broken(Reason.BAD_REPLY, "4.5.0", f"the host answered the content with {reply}")
            transaction.recipient_finished(number, reply)
            if not reply.is_positive and transaction.way is not Way.DATA:
                self._dirty = True  # RFC 3030 section 2, as above

    async def _quit(self) -> None:
        rest, self._rest = self._rest, None
        self._owner.leaving(self)
        if rest is not None:
            self._owner.put_back(rest, self, None)
        self._owner.quitting(self)
        if self._broken is None:
            self._write(client.QUIT)
            self._replies.clear()
            await self._reply(self._times.quit)

    # the end

    def _end(self, broken: Broken | None) -> None:
        """Say what became of every mail in hand, and close."""
        if not self.introduced.called:
            self.introduced.errback(broken or Broken(Reason.SHUTTING_DOWN, "4.3.2", "the node is stopping"))
        jobs: list[Job] = []
        for transaction in (self._current, self._following):
            if transaction is None or broken is None:
                continue
            self._settle(transaction, broken)
            if transaction.job.todo and transaction.job not in jobs:
                jobs.append(transaction.job)
        if self._rest is not None and self._rest not in jobs:
            jobs.append(self._rest)
        self._current = self._following = self._rest = None
        self._owner.leaving(self)
        for job in reversed(jobs):
            self._owner.put_back(job, self, broken)
        self._close(at_once=broken is not None)

    def _settle(self, transaction: Transaction, broken: Broken) -> None:
        """What a broken connection means for a transaction: by how far it had come."""
        if transaction.content and broken.reply is not None:
            transaction.finish(broken.reply)  # 421, or a refusal of the content
        elif transaction.sent and broken.reply is None:
            words = f"{broken.words} after the content had been sent"
            host, address, tls, _, source = self.peer
            status = DeliveryStatus(
                Action.DELAYED, "4.4.2", Reason.UNCERTAIN, words, host, address, tls=tls, source=source
            )
            transaction.settle(status)
        else:
            transaction.give_back()

    def _ended(self, error: BaseException | None) -> None:
        self._owner.gone(self)

    def _expires(self) -> float | None:
        return None if self._current is None else self._current.job.expires


def _unreadable(error: Exception) -> DeliveryStatus:
    """Content that turned out not to be what it should be while it was sent."""
    if isinstance(error, BareNewlineError):
        return DeliveryStatus(Action.FAILED, "5.6.3", Reason.BARE_NEWLINE, str(error))
    return DeliveryStatus(Action.DELAYED, "4.3.0", Reason.INTERNAL, f"the content cannot be read: {error}")
