"""The wire below an outbound connection: writes, replies in their order, and one coarse timer for all that is awaited.

A story (one coroutine) runs above it; everything that happens here resumes the story, which then looks what it was.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any, NamedTuple

from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_mail_node.outbound.job import Broken
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp import client
from twisted_mail_node.smtp.replies import ReplyError, ReplyReader
from twisted_mail_node.smtp.reply import Reply
from twisted_mail_node.waiting import Led, pause

#: Seconds an unused connection stays open: long enough for a burst's next mail, short for the host that keeps it.
IDLE_TIME = 10.0
#: Seconds the host has to answer QUIT.
QUIT_TIME = 5.0


class Times(NamedTuple):
    """Seconds we wait for the host; the defaults are those of RFC 5321 section 4.5.3.2.

    :ivar greeting: for the greeting, and for the reply to EHLO.
    :ivar block: for one block of content to be taken.
    :ivar end: for the reply to the end of the content.
    :ivar handshake: for a TLS handshake to end.
    """

    greeting: float = 300.0
    mail: float = 300.0
    rcpt: float = 300.0
    data: float = 120.0
    block: float = 180.0
    end: float = 600.0
    idle: float = IDLE_TIME
    quit: float = QUIT_TIME
    handshake: float = 30.0


@implementer(IPushProducer)
class Wire(Protocol, ABC):
    """Asks and hears. A subclass has the story.

    :param reactor: provides IReactorTime, and IReactorThreads for large content.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._reader = ReplyReader()
        self._replies: list[Reply] = []
        self._broken: Broken | None = None
        self._full = False  # the transport wants no more octets for now
        self._timer: IDelayedCall | None = None
        self._deadline = 0.0
        self._late = False
        self._led: Led

    @abstractmethod
    def _story(self) -> Coroutine[Any, Any, None]:
        """What this connection is for."""

    @abstractmethod
    def _ended(self, error: BaseException | None) -> None:
        """The story is over."""

    @abstractmethod
    def _expires(self) -> float | None:
        """When all waiting ends, whatever it is for (the clock's seconds)."""

    # what Twisted calls

    def connectionMade(self) -> None:
        no_delay = getattr(self.transport, "setTcpNoDelay", None)
        if no_delay is not None:
            no_delay(True)
        self._led = Led(self._story(), self._ended)
        self._led.start()

    def dataReceived(self, data: bytes) -> None:
        try:
            self._replies += self._reader.feed(data)
        except ReplyError as error:
            self._break(Broken(Reason.BAD_REPLY, "4.5.0", str(error)))
        else:
            self._led.resume()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._break(Broken(Reason.CONNECTION_LOST, "4.4.2", "the host closed the connection"))

    def pauseProducing(self) -> None:
        self._full = True

    def resumeProducing(self) -> None:
        self._full = False
        self._led.resume()

    def stopProducing(self) -> None:
        self._full = False

    # what the story calls

    def _write(self, octets: bytes) -> None:
        self._wire().write(octets)

    def _wire(self) -> Any:
        """The transport. ITransport does not tell of producers and of breaking off."""
        return self.transport

    def _ask(self, octets: bytes) -> None:
        """Write something that wants a reply."""
        self._check_silence()
        self._write(octets)

    def _check_silence(self) -> None:
        """A reply that answers nothing would be taken for the answer to what we write next: mail could be lost.

        :raises Broken: there is one, or the connection is over.
        """
        if self._replies:
            reply = self._replies[0]
            if reply.code == 421:
                raise _closing(reply)
            raise Broken(Reason.BAD_REPLY, "4.5.0", f"the host spoke out of turn: {reply}")
        if self._broken is not None:
            raise self._broken

    async def _goodbye(self, seconds: float) -> None:
        """QUIT (RFC 5321 section 4.1.1.10), and ``seconds`` for the reply."""
        self._write(client.QUIT)
        try:
            await self._reply(seconds)
        except Broken:
            pass  # it would not even say goodbye

    async def _reply(self, seconds: float) -> Reply:
        """The next reply, which may take ``seconds``. :raises Broken: there is none, or it is 421."""
        replies = self._replies
        if not replies:
            self._arm(seconds)
            while not replies:
                if self._broken is not None:
                    raise self._broken
                if self._late:
                    raise Broken(Reason.REMOTE_TIMEOUT, "4.4.2", "the host did not answer in time")
                await pause
        reply = replies.pop(0)
        if reply.code == 421:
            raise _closing(reply)
        return reply

    async def _room(self, seconds: float) -> None:
        """Wait until the transport takes more content. A host that refuses it before its end is believed.

        :raises Broken: the connection is over, or the host spoke.
        """
        self._arm(seconds)
        while True:
            if self._replies or self._broken is not None:
                reply = await self._reply(seconds)
                words = f"the host answered before the content had ended: {reply}"
                raise Broken(Reason.BAD_REPLY, "4.5.0", words, None if reply.is_positive else reply)
            if self._late:
                raise Broken(Reason.REMOTE_TIMEOUT, "4.4.2", "the host took no more of the content")
            if not self._full:
                return
            await pause

    def _break(self, broken: Broken) -> None:
        """The connection is over; replies that came before are still heard."""
        if self._broken is None:
            self._broken = broken
        if self.transport is not None:
            self._led.resume()

    def _close(self, at_once: bool) -> None:
        """Close the transport and stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at_once:
            self._wire().abortConnection()
        else:
            self._wire().loseConnection()

    # time

    def _arm(self, seconds: float) -> None:
        """What we now wait for may take ``seconds``, and no longer than everything may."""
        now = self._reactor.seconds()
        deadline = now + seconds
        expires = self._expires()
        if expires is not None and expires < deadline:
            deadline = expires
        self._deadline = deadline
        self._late = False
        timer = self._timer
        if timer is None:
            self._timer = self._reactor.callLater(max(deadline - now, 0.0), self._tick)
        elif timer.getTime() > deadline:
            timer.reset(max(deadline - now, 0.0))

    def _tick(self) -> None:
        """The one timer: it went off early when the deadline has moved since, and is simply set again."""
        left = self._deadline - self._reactor.seconds()
        self._timer = None
        if left > 0.0:
            self._timer = self._reactor.callLater(left, self._tick)
        else:
            self._late = True
            self._led.resume()


def _closing(reply: Reply) -> Broken:
    """421 (RFC 5321 section 3.8): the host closes the connection."""
    return Broken(Reason.REMOTE_DELAYED, reply.enhanced or "4.3.2", str(reply), reply)
