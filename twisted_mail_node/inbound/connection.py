"""One SMTP connection, told by one coroutine from its greeting to its end (RFC 5321 section 3.1 to 3.8).

The transport brings octets, ``smtp.server`` makes events of them, and ``_story`` takes these one after the other.
Replies gather until the story needs more octets, so a pipelined group is answered in one write and in order, also
when one of its decisions had to wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IHandshakeListener, IProtocol, IPushProducer, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_mail_node.events import CommandRefused, SessionClosed, SessionOpened, SessionRefused
from twisted_mail_node.inbound import authentication, presenting, replies, securing
from twisted_mail_node.inbound.replies import Ending
from twisted_mail_node.inbound.securing import handshake_failed
from twisted_mail_node.inbound.transaction import Transaction
from twisted_mail_node.policy.verdict import Asked, Refuse, Verdict
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.occurrence import (
    Auth,
    Chunk,
    Content,
    Data,
    EndOfChunk,
    EndOfContent,
    Hello,
    MailFrom,
    Plain,
    RcptTo,
    StartTls,
    Wrong,
    XClient,
)
from twisted_mail_node.smtp.reply import Reply
from twisted_mail_node.smtp.server import ServerSession
from twisted_mail_node.waiting import Led, pause

if TYPE_CHECKING:
    from twisted_mail_node.inbound.factory import ESMTPFactory

#: Octets that may wait in memory while a decision is awaited; then the transport is paused.
AHEAD_MAX = 65536
#: A client that does nothing but EHLO, NOOP, RSET, VRFY or HELP is sent away after so many times ``limits.errors``.
IDLE_COMMANDS = 5
#: Seconds a client has to read our last words; one that does not is cut off.
LINGER = 30.0


@implementer(IHandshakeListener, IProtocol, IPushProducer)
class Connection:
    """The protocol of one connection; ``ESMTPFactory`` makes it.

    :ivar deadline: when the client must have said something (``clock.seconds()``); 0 while it is not its turn.
    :ivar opened: when the connection came.
    :ivar client: address of the client as text; another's after a PROXY header or XCLIENT.
    :ivar peer: address of who speaks, whomever it says XCLIENT of; that of the client behind a PROXY header.
    :ivar counted: the address this connection is counted for, ``None``: only among all.
    :ivar wire: the session as the wire has it.
    :ivar asked: what is known of the session, for policies; each transaction begins with a copy.
    :ivar out: replies that are not sent yet.
    :ivar secured: the TLS handshake is completed.
    :ivar guesses: wrong passwords in this session.
    :ivar resting: whatever the client says now is kept for later, see ``inbound.resting``.
    """

    __slots__ = (
        "_errors", "_led", "_lost", "_mails", "_reading", "_standing", "_writable", "asked", "client", "counted",
        "deadline", "ending", "factory", "guesses", "opened", "out", "peer", "resting", "secured", "session",
        "transaction", "transport", "wire",
    )  # fmt: skip

    def __init__(self, factory: ESMTPFactory, client: str) -> None:
        self.factory = factory
        self.client = self.peer = client
        self.counted: str | None = client
        self.session = factory.next_session()
        self.wire = ServerSession(factory.offers(client))
        self.asked = Asked(self.session, factory.kind, client, factory.may_relay(client))
        self.transaction: Transaction | None = None
        self._standing: Verdict | None = None  # Discard or Hold, said before MAIL: it stands for every mail
        self.out: list[bytes] = []
        self._errors = 0.0
        self._mails = 0
        self._reading = True
        self._writable = True
        self._led: Led | None = None
        self._lost = False  # the transport is gone; that of a TLS session cannot even be written to any more
        self.secured = False
        self.guesses = 0
        self.resting = False
        self.transport: Any = None
        self.ending: Reason | None = None
        self.opened = factory.clock.seconds()
        self.deadline = 0.0

    # ---- what the transport calls ----------------------------------------------------------------------------

    def makeConnection(self, transport: ITransport) -> None:
        self.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        transport = self.transport
        if hasattr(transport, "setTcpNoDelay"):
            transport.setTcpNoDelay(True)
        transport.registerProducer(self, True)
        self.factory.opened(self)
        self._led = Led(self._story(), self._ended)
        self._led.start()

    def dataReceived(self, data: bytes) -> None:
        wire, led = self.wire, self._led
        if led is None:
            return
        wire.receive(data)
        if led.paused and self._writable and not self.resting:
            led.resume()
        elif wire.buffered > AHEAD_MAX and self._reading:
            self._reading = False
            self.transport.pauseProducing()

    def handshakeCompleted(self) -> None:
        """The TLS handshake is over, and went well."""
        self.secured = True
        self.wake()

    def wake(self) -> None:
        """What the story waited for has happened, if it waits without a Deferred."""
        if self._led is not None:
            self._led.resume()

    def connectionLost(self, reason: Failure) -> None:
        led, self._led = self._led, None
        self._lost = True
        if self.securing:
            handshake_failed(self, reason)
        if self.ending is None:
            self.ending = Reason.CONNECTION_LOST
        if led is not None:
            led.throw(Ending(None, self.ending))
        self.factory.closed(self)
        self.factory.publish(
            SessionClosed(
                self.session, self.client, self.ending, self._mails,
                round(self.factory.clock.seconds() - self.opened, 3),
            )
        )  # fmt: skip

    def pauseProducing(self) -> None:
        """The client does not read: say nothing more for now."""
        self._writable = False

    def resumeProducing(self) -> None:
        self._writable = True
        if self._led is not None and self._led.paused:
            self._led.resume()

    def stopProducing(self) -> None:
        """The transport is gone; connectionLost follows."""

    # ---- what the factory calls ------------------------------------------------------------------------------

    def end(self, reply: Reply, reason: Reason) -> None:
        """End the session now if it waits for the client, else as soon as the mail in transfer is through."""
        if self.ending is None:
            self.ending = reason
        led = self._led
        if led is not None and led.paused:
            led.throw(Ending(reply, reason))

    @property
    def in_transfer(self) -> bool:
        """A mail's content is coming in, or is being kept."""
        return self.transaction is not None and self.transaction.reader is not None

    @property
    def securing(self) -> bool:
        """A TLS handshake is under way."""
        return self.asked.tls is not None and not self.secured

    def late(self, now: float) -> None:
        """Called now and then: end the session if its time is over."""
        if self.deadline and now > self.deadline:
            if self.securing:
                self.ending = self.ending or Reason.TIMEOUT
            if self._led is None or self.securing:
                self.transport.abortConnection()  # the story is over, but the client does not read its end
            else:
                self.end(replies.TIMEOUT, Reason.TIMEOUT)
        elif now - self.opened > self.factory.limits.session_time:
            self.end(replies.DEADLINE, Reason.SESSION_DEADLINE)
            if self._led is not None and not self._led.paused:
                # It waits for something of ours that takes for ever; nothing was promised.
                self.transport.abortConnection()

    # ---- the story -------------------------------------------------------------------------------------------

    async def _story(self) -> None:
        if self.factory.is_proxy(self.client):
            await presenting.read_proxy(self)
        self.factory.publish(SessionOpened(self.session, self.factory.kind, self.client))
        if self.factory.tls_mode == "implicit":
            await securing.handshake(self)
        await self.greet()
        wire = self.wire
        while True:
            event = wire.next_event()
            if event is None:
                await self.octets()
                continue
            await _STEPS[type(event)](self, event)

    async def greet(self) -> None:
        """The greeting, or a refusal; once more after XCLIENT."""
        factory, asked = self.factory, self.asked
        verdict = await factory.chain.ask("connect", asked)
        if isinstance(verdict, Refuse):
            reply = verdict.reply
            self._publish_refused(reply, verdict.reason)
            raise Ending(reply._replace(code=554) if reply.is_permanent else reply, verdict.reason)
        self._standing = verdict
        self.out.append(factory.greeting)

    async def _hello(self, event: Hello) -> None:
        factory, asked = self.factory, self.asked
        self.abandon()
        self.count_error(1 / IDLE_COMMANDS)
        asked.helo, asked.extended = event.name, event.extended
        verdict = await factory.chain.ask("helo", asked)
        if isinstance(verdict, Refuse):
            self.refuse(verdict.reply, "EHLO", verdict.reason)
            return
        self._standing = verdict or self._standing
        self.wire.answer(replies.RESET)
        self.out.append(factory.ehlo(self.wire.offers) if event.extended else factory.helo)

    async def _mail(self, event: MailFrom) -> None:
        if 0 < self.factory.limits.mails_per_session <= self._mails:
            raise Ending(replies.TOO_MANY_MAILS, Reason.POLICY)
        await self.factory.breathe()
        asked = self.asked
        asked = Asked(
            asked.session, asked.listener, asked.client, asked.may_relay, asked.helo, asked.extended, notes=asked.notes,
            tls=asked.tls, submitter=asked.submitter,
        )  # fmt: skip
        transaction = Transaction(self.factory, asked, self._standing)
        reply = await transaction.mail(event)
        if reply.code < 400:
            self.transaction = transaction
            self.out.append(self.wire.answer(reply))
        else:
            self.refuse(reply, "MAIL")

    async def _rcpt(self, event: RcptTo) -> None:
        assert self.transaction is not None
        reply = await self.transaction.rcpt(event)
        self.out.append(self.wire.answer(reply))
        if reply.code >= 400:
            self.count_error(1 / IDLE_COMMANDS)

    async def _data(self, event: Data) -> None:
        assert self.transaction is not None
        self.out.append(self.wire.answer(replies.START_INPUT))
        self.transaction.begin()

    async def _content(self, event: Content) -> None:
        transaction = self.transaction
        if transaction is not None and transaction.reader is not None:
            await transaction.reader.take(event.octets)

    async def _end_of_content(self, event: EndOfContent) -> None:
        transaction = self.transaction
        assert transaction is not None and transaction.reader is not None
        if event.octets:
            await transaction.reader.take(event.octets)
        await self._finish(transaction, event.bare)

    async def _chunk(self, event: Chunk) -> None:
        """BDAT (RFC 3030): its octets come whatever the answer will be."""
        transaction = self.transaction
        if transaction is not None and event.refusal is None and transaction.reader is None:
            transaction.begin()
        await self._read_chunk(event)

    async def _read_chunk(self, chunk: Chunk) -> None:
        wire, transaction = self.wire, self.transaction
        while True:
            event = wire.next_event()
            if event is None:
                await self.octets()
            elif isinstance(event, EndOfChunk):
                break
            elif isinstance(event, Content) and chunk.refusal is None and transaction is not None:
                assert transaction.reader is not None
                await transaction.reader.take(event.octets)
        if chunk.refusal is not None:
            self.refuse(chunk.refusal, "BDAT")
            return
        assert transaction is not None and transaction.reader is not None
        if chunk.last or transaction.reader.refusal is not None:
            # A chunk that cannot be taken ends the transaction; those that follow are out of order (section 3).
            await self._finish(transaction, event.bare)
        else:
            self.out.append(wire.answer(Reply(250, "2.0.0", (f"{chunk.size} octets",))))

    async def _finish(self, transaction: Transaction, bare: bool) -> None:
        assert transaction.reader is not None
        self.deadline = 0.0
        reply = await transaction.finish(transaction.reader, bare)
        self.transaction = None
        self.wire.end_transaction()
        self.out.append(reply.octets())
        if reply.code < 400:
            self._mails += 1
            self._errors = 0.0
        else:
            self.count_error()
        if self.ending is not None:
            raise Ending(replies.SHUTTING_DOWN, self.ending)

    async def _plain(self, event: Plain) -> None:
        match event.verb:
            case "NOOP":
                reply = replies.NOOP
            case "RSET":
                self.abandon()
                reply = replies.RESET
            case "VRFY":
                reply = replies.VRFY if event.argument else replies.VRFY_WHAT
            case "EXPN":
                reply = replies.EXPN
            case "HELP":
                reply = replies.HELP
            case _:
                raise Ending(replies.BYE, Reason.QUIT)
        self.out.append(self.wire.answer(reply))
        self.count_error(1 / IDLE_COMMANDS)

    async def _wrong(self, event: Wrong) -> None:
        self.refuse(event.reply, event.command)
        if event.close:
            raise Ending(None, event.reply.reason or Reason.SYNTAX)
        if event.command == "DATA" and self.wire.buffered:
            # Something follows a refused DATA at once: it may be content, and must not run as commands (T02).
            raise Ending(None, Reason.BAD_SEQUENCE)

    # ---- what the steps share --------------------------------------------------------------------------------

    async def silence(self, seconds: float) -> None:
        """Wait until something happens on the connection: octets come, or a handshake is completed."""
        self.deadline = self.factory.clock.seconds() + seconds
        await pause
        self.deadline = 0.0

    async def octets(self) -> None:
        """Send the replies, and wait until the client has said more."""
        self.flush()
        if self.ending is not None and (self.ending is Reason.CONNECTION_LOST or not self.in_transfer):
            raise Ending(replies.SHUTTING_DOWN, self.ending)
        factory = self.factory
        limits = factory.limits
        self.deadline = factory.clock.seconds() + (limits.data_time if self.in_transfer else limits.command_time)
        if not self._reading and self._writable:
            self._reading = True
            self.transport.resumeProducing()
        await pause
        self.deadline = 0.0

    def flush(self) -> None:
        out = self.out
        if out and not self._lost:
            self.transport.write(out[0] if len(out) == 1 else b"".join(out))
            out.clear()

    def refuse(self, reply: Reply, command: str, reason: Reason | None = None) -> None:
        self.out.append(self.wire.answer(reply))
        self.factory.publish(
            CommandRefused(self.session, self.client, command, reason or reply.reason or Reason.POLICY, str(reply))
        )
        self.count_error()

    def _publish_refused(self, reply: Reply, reason: Reason) -> None:
        self.factory.publish(SessionRefused(self.session, self.factory.kind, self.client, reason, str(reply)))

    def count_error(self, weight: float = 1) -> None:
        self._errors += weight
        if self._errors > self.factory.limits.errors:
            raise Ending(replies.TOO_MANY_ERRORS, Reason.TOO_MANY_ERRORS)

    def forgive(self) -> None:
        """The client has shown that it means well: its errors do not count any more."""
        self._errors = 0.0
        self.guesses = 0

    def abandon(self) -> None:
        transaction, self.transaction = self.transaction, None
        if transaction is not None:
            transaction.abandon()
            self.wire.end_transaction()

    def _ended(self, error: BaseException | None) -> None:
        """The story is over: say the last word and close."""
        self._led = None
        if self.transaction is not None:
            self.transaction.abandon()
            self.transaction = None
        reply: Reply | None = None
        if isinstance(error, Ending):
            reply = error.reply
            if self.ending is None:
                self.ending = error.reason
        elif error is not None:
            self.factory.log.failure("a session broke", Failure(error))
            reply, self.ending = replies.BROKEN, Reason.INTERNAL
        if self._lost:
            return
        if reply is not None:
            self.out.append(reply.octets())
        self.flush()
        self.deadline = self.factory.clock.seconds() + LINGER
        self.transport.unregisterProducer()
        self.transport.loseConnection()


_STEPS: dict[type[Any], Any] = {
    Hello: Connection._hello,
    MailFrom: Connection._mail,
    RcptTo: Connection._rcpt,
    Data: Connection._data,
    Chunk: Connection._chunk,
    Content: Connection._content,
    EndOfContent: Connection._end_of_content,
    Plain: Connection._plain,
    Wrong: Connection._wrong,
    StartTls: securing.start_tls,
    Auth: authentication.authenticate,
    XClient: presenting.xclient,
}
