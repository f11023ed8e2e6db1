"""One SMTP connection, told by one coroutine from its greeting to its end (RFC 5321 section 3.1 to 3.8).

The transport brings octets, ``smtp.server`` makes events of them, and ``_story`` takes these one after the other.
Replies gather until the story needs more octets, so a pipelined group is answered in one write and in order, also
when one of its decisions had to wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IProtocol, IPushProducer, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_mail_node.events import CommandRefused, SessionClosed, SessionOpened, SessionRefused
from twisted_mail_node.inbound.transaction import Transaction
from twisted_mail_node.policy.verdict import Asked, Refuse, Verdict
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.extensions import ehlo_lines
from twisted_mail_node.smtp.reply import Reply
from twisted_mail_node.smtp.server import (
    Chunk,
    Content,
    Data,
    EndOfChunk,
    EndOfContent,
    Hello,
    MailFrom,
    Occurrence,
    Plain,
    RcptTo,
    ServerSession,
    Wrong,
)
from twisted_mail_node.waiting import Led, pause

if TYPE_CHECKING:
    from twisted_mail_node.inbound.factory import ESMTPFactory

#: Octets that may wait in memory while a decision is awaited; then the transport is paused.
AHEAD_MAX = 65536
#: A client that does nothing but EHLO, NOOP, RSET, VRFY or HELP is sent away after so many times ``limits.errors``.
IDLE_COMMANDS = 5
#: Seconds a client has to read our last words; one that does not is cut off.
LINGER = 30.0

START_INPUT = Reply.make(354, "", "Send the message; end with CR LF . CR LF")
RESET = Reply.make(250, "2.0.0", "OK")
NOOP = Reply.make(250, "2.0.0", "OK")
BYE = Reply.make(221, "2.0.0", "Bye", Reason.QUIT)
VRFY = Reply.make(252, "2.5.0", "Cannot verify, but will take mail and try to deliver it")
VRFY_WHAT = Reply.make(501, "5.5.4", "VRFY what?", Reason.SYNTAX)
EXPN = Reply.make(502, "5.5.1", "EXPN is not offered here", Reason.NOT_IMPLEMENTED)
HELP = Reply.make(214, "2.0.0", "EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT (RFC 5321)")
TIMEOUT = Reply.make(421, "4.4.2", "Nothing came for too long; goodbye", Reason.TIMEOUT)
DEADLINE = Reply.make(421, "4.4.2", "This session has lasted too long; goodbye", Reason.SESSION_DEADLINE)
SHUTTING_DOWN = Reply.make(421, "4.3.2", "The server is stopping; please try again soon", Reason.SHUTTING_DOWN)
TOO_MANY_ERRORS = Reply.make(421, "4.7.0", "Too many errors; goodbye", Reason.TOO_MANY_ERRORS)
TOO_MANY_MAILS = Reply.make(421, "4.5.3", "Enough mails for one session; please connect again", Reason.POLICY)
BROKEN = Reply.make(421, "4.3.0", "Something broke here; please try again later", Reason.INTERNAL)
REFUSALS = {
    Reason.TOO_MANY_CONNECTIONS: Reply.make(
        421, "4.3.2", "All our connections are in use; please try again later", Reason.TOO_MANY_CONNECTIONS
    ),
    Reason.TOO_MANY_FROM_ADDRESS: Reply.make(
        421, "4.7.0", "Too many connections from your address", Reason.TOO_MANY_FROM_ADDRESS
    ),
    Reason.SHUTTING_DOWN: SHUTTING_DOWN,
}


class _Ending(Exception):
    """Ends the story with a last reply."""

    def __init__(self, reply: Reply | None, reason: Reason) -> None:
        super().__init__(str(reason))
        self.reply = reply
        self.reason = reason


@implementer(IProtocol, IPushProducer)
class Connection:
    """The protocol of one connection; ``ESMTPFactory`` makes it.

    :ivar deadline: when the client must have said something (``clock.seconds()``); 0 while it is not its turn.
    :ivar opened: when the connection came.
    """

    __slots__ = (
        "_asked", "_client", "_errors", "_factory", "_led", "_mails", "_out", "_reading", "_session", "_standing",
        "_transaction", "_wire", "_writable", "deadline", "ending", "opened", "transport",
    )  # fmt: skip

    def __init__(self, factory: ESMTPFactory, client: str) -> None:
        self._factory = factory
        self._client = client
        self._session = factory.next_session()
        self._wire = ServerSession()
        self._asked = Asked(self._session, factory.kind, client, factory.may_relay(client))
        self._transaction: Transaction | None = None
        self._standing: Verdict | None = None  # Discard or Hold, said before MAIL: it stands for every mail
        self._out: list[bytes] = []
        self._errors = 0.0
        self._mails = 0
        self._reading = True
        self._writable = True
        self._led: Led | None = None
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
        self._factory.opened(self)
        self._led = Led(self._story(), self._ended)
        self._led.start()

    def dataReceived(self, data: bytes) -> None:
        wire, led = self._wire, self._led
        if led is None:
            return
        wire.receive(data)
        if led.paused and self._writable:
            led.resume()
        elif wire.buffered > AHEAD_MAX and self._reading:
            self._reading = False
            self.transport.pauseProducing()

    def connectionLost(self, reason: Failure) -> None:
        led, self._led = self._led, None
        if self.ending is None:
            self.ending = Reason.CONNECTION_LOST
        if led is not None:
            led.throw(_Ending(None, self.ending))
        self._factory.closed(self, self._client)
        self._factory.publish(
            SessionClosed(
                self._session, self._client, self.ending, self._mails,
                round(self._factory.clock.seconds() - self.opened, 3),
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
            led.throw(_Ending(reply, reason))

    @property
    def in_transfer(self) -> bool:
        """A mail's content is coming in, or is being kept."""
        return self._transaction is not None and self._transaction.reader is not None

    def late(self, now: float) -> None:
        """Called now and then: end the session if its time is over."""
        if self.deadline and now > self.deadline:
            if self._led is None:
                self.transport.abortConnection()  # the story is over, but the client does not read its end
            else:
                self.end(TIMEOUT, Reason.TIMEOUT)
        elif now - self.opened > self._factory.limits.session_time:
            self.end(DEADLINE, Reason.SESSION_DEADLINE)
            if self._led is not None and not self._led.paused:
                # It waits for something of ours that takes for ever; nothing was promised.
                self.transport.abortConnection()

    # ---- the story -------------------------------------------------------------------------------------------

    async def _story(self) -> None:
        await self._greet()
        wire = self._wire
        while True:
            event = wire.next_event()
            if event is None:
                await self._octets()
                continue
            await _STEPS[type(event)](self, event)

    async def _greet(self) -> None:
        factory, asked = self._factory, self._asked
        factory.publish(SessionOpened(self._session, factory.kind, self._client))
        verdict = await factory.chain.ask("connect", asked)
        if isinstance(verdict, Refuse):
            reply = verdict.reply
            self._publish_refused(reply, verdict.reason)
            raise _Ending(reply._replace(code=554) if reply.is_permanent else reply, verdict.reason)
        self._standing = verdict
        self._out.append(factory.greeting)

    async def _hello(self, event: Hello) -> None:
        factory, asked = self._factory, self._asked
        self._abandon()
        self._count_error(1 / IDLE_COMMANDS)
        asked.helo, asked.extended = event.name, event.extended
        verdict = await factory.chain.ask("helo", asked)
        if isinstance(verdict, Refuse):
            self._refuse(verdict.reply, "EHLO", verdict.reason)
            return
        self._standing = verdict or self._standing
        self._wire.answer(RESET)
        self._out.append(factory.ehlo if event.extended else factory.helo)

    async def _mail(self, event: MailFrom) -> None:
        if 0 < self._factory.limits.mails_per_session <= self._mails:
            raise _Ending(TOO_MANY_MAILS, Reason.POLICY)
        await self._factory.breathe()
        asked = self._asked
        asked = Asked(
            asked.session, asked.listener, asked.client, asked.may_relay, asked.helo, asked.extended, notes=asked.notes
        )
        transaction = Transaction(self._factory, asked, self._standing)
        reply = await transaction.mail(event)
        if reply.code < 400:
            self._transaction = transaction
            self._out.append(self._wire.answer(reply))
        else:
            self._refuse(reply, "MAIL")

    async def _rcpt(self, event: RcptTo) -> None:
        assert self._transaction is not None
        reply = await self._transaction.rcpt(event)
        self._out.append(self._wire.answer(reply))
        if reply.code >= 400:
            self._count_error(1 / IDLE_COMMANDS)

    async def _data(self, event: Data) -> None:
        assert self._transaction is not None
        self._out.append(self._wire.answer(START_INPUT))
        self._transaction.begin()

    async def _content(self, event: Content) -> None:
        transaction = self._transaction
        if transaction is not None and transaction.reader is not None:
            await transaction.reader.take(event.octets)

    async def _end_of_content(self, event: EndOfContent) -> None:
        transaction = self._transaction
        assert transaction is not None and transaction.reader is not None
        if event.octets:
            await transaction.reader.take(event.octets)
        await self._finish(transaction, event.bare)

    async def _chunk(self, event: Chunk) -> None:
        """BDAT (RFC 3030): its octets come whatever the answer will be."""
        transaction = self._transaction
        if transaction is not None and event.refusal is None and transaction.reader is None:
            transaction.begin()
        await self._read_chunk(event)

    async def _read_chunk(self, chunk: Chunk) -> None:
        wire, transaction = self._wire, self._transaction
        while True:
            event = wire.next_event()
            if event is None:
                await self._octets()
            elif isinstance(event, EndOfChunk):
                break
            elif isinstance(event, Content) and chunk.refusal is None and transaction is not None:
                assert transaction.reader is not None
                await transaction.reader.take(event.octets)
        if chunk.refusal is not None:
            self._refuse(chunk.refusal, "BDAT")
            return
        assert transaction is not None and transaction.reader is not None
        if chunk.last or transaction.reader.refusal is not None:
            # A chunk that cannot be taken ends the transaction; those that follow are out of order (section 3).
            await self._finish(transaction, event.bare)
        else:
            self._out.append(wire.answer(Reply(250, "2.0.0", (f"{chunk.size} octets",))))

    async def _finish(self, transaction: Transaction, bare: bool) -> None:
        assert transaction.reader is not None
        self.deadline = 0.0
        reply = await transaction.finish(transaction.reader, bare)
        self._transaction = None
        self._wire.end_transaction()
        self._out.append(reply.octets())
        if reply.code < 400:
            self._mails += 1
            self._errors = 0.0
        else:
            self._count_error()
        if self.ending is not None:
            raise _Ending(SHUTTING_DOWN, self.ending)

    async def _plain(self, event: Plain) -> None:
        match event.verb:
            case "NOOP":
                reply = NOOP
            case "RSET":
                self._abandon()
                reply = RESET
            case "VRFY":
                reply = VRFY if event.argument else VRFY_WHAT
            case "EXPN":
                reply = EXPN
            case "HELP":
                reply = HELP
            case _:
                raise _Ending(BYE, Reason.QUIT)
        self._out.append(self._wire.answer(reply))
        self._count_error(1 / IDLE_COMMANDS)

    async def _wrong(self, event: Wrong) -> None:
        self._refuse(event.reply, event.command)
        if event.close:
            raise _Ending(None, event.reply.reason or Reason.SYNTAX)
        if event.command == "DATA" and self._wire.buffered:
            # Something follows a refused DATA at once: it may be content, and must not run as commands (T02).
            raise _Ending(None, Reason.BAD_SEQUENCE)

    # ---- what the steps share --------------------------------------------------------------------------------

    async def _octets(self) -> None:
        """Send the replies, and wait until the client has said more."""
        self._flush()
        if self.ending is not None and (self.ending is Reason.CONNECTION_LOST or not self.in_transfer):
            raise _Ending(SHUTTING_DOWN, self.ending)
        factory = self._factory
        limits = factory.limits
        self.deadline = factory.clock.seconds() + (limits.data_time if self.in_transfer else limits.command_time)
        if not self._reading and self._writable:
            self._reading = True
            self.transport.resumeProducing()
        await pause
        self.deadline = 0.0

    def _flush(self) -> None:
        out = self._out
        if out:
            self.transport.write(out[0] if len(out) == 1 else b"".join(out))
            out.clear()

    def _refuse(self, reply: Reply, command: str, reason: Reason | None = None) -> None:
        self._out.append(self._wire.answer(reply))
        self._factory.publish(
            CommandRefused(self._session, self._client, command, reason or reply.reason or Reason.POLICY, str(reply))
        )
        self._count_error()

    def _publish_refused(self, reply: Reply, reason: Reason) -> None:
        self._factory.publish(SessionRefused(self._session, self._factory.kind, self._client, reason, str(reply)))

    def _count_error(self, weight: float = 1) -> None:
        self._errors += weight
        if self._errors > self._factory.limits.errors:
            raise _Ending(TOO_MANY_ERRORS, Reason.TOO_MANY_ERRORS)

    def _abandon(self) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            transaction.abandon()
            self._wire.end_transaction()

    def _ended(self, error: BaseException | None) -> None:
        """The story is over: say the last word and close."""
        self._led = None
        if self._transaction is not None:
            self._transaction.abandon()
            self._transaction = None
        reply: Reply | None = None
        if isinstance(error, _Ending):
            reply = error.reply
            if self.ending is None:
                self.ending = error.reason
        elif error is not None:
            self._factory.log.failure("a session broke", Failure(error))
            reply, self.ending = BROKEN, Reason.INTERNAL
        if self.ending is Reason.CONNECTION_LOST:
            return
        if reply is not None:
            self._out.append(reply.octets())
        self._flush()
        self.deadline = self._factory.clock.seconds() + LINGER
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
}


class Refused:
    """Says one reply to a client that is one too many, and closes."""

    __slots__ = ("_reply", "transport")

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.transport: Any = None

    def makeConnection(self, transport: ITransport) -> None:
        self.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        self.transport.write(self._reply.octets())
        self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """Not listened to any more."""

    def connectionLost(self, reason: Failure) -> None:
        """As it should be."""


def capabilities(hostname: str, message_size: int, recipients: int, mails: int) -> bytes:
    """The answer to EHLO (RFC 5321 section 4.1.1.1)."""
    lines = ehlo_lines(message_size=message_size, recipients=recipients, mails=mails)
    return Reply(250, "", (hostname, *lines)).octets()


__all__ = ["REFUSALS", "Connection", "Occurrence", "Refused", "capabilities"]
