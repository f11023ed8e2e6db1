"""A mail on its way in: the spool's, and at its commit the queue learns of it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from zope.interface import implementer

from twisted_mail_node.interfaces import IIncoming
from twisted_mail_node.message.envelope import Envelope
from twisted_mail_node.spool.mail import Mail, State


class Door(Protocol):
    """The queue, to whom a committed mail is brought."""

    def accept(self, mail: Mail) -> None:
        """It is to be tried."""

    def held(self, mail: Mail, words: str) -> None:
        """It waits for an operator."""

    def held_back(self, mail: Mail) -> None:
        """Its sender holds it back."""


@implementer(IIncoming)
class Arriving:
    """The spool's incoming mail; its ``commit`` ends with the queue knowing the mail."""

    __slots__ = ("_incoming", "_queue", "_why", "abort", "write")

    def __init__(self, queue: Door, incoming: IIncoming) -> None:
        self._queue = queue
        self._incoming = incoming
        self._why = ""
        self.write: Callable[[bytes], Coroutine[Any, Any, None]] = incoming.write
        self.abort: Callable[[], None] = incoming.abort

    @property
    def queue_id(self) -> str:
        """See IIncoming."""
        return self._incoming.queue_id

    @property
    def size(self) -> int:
        """See IIncoming."""
        return self._incoming.size

    def hold(self, why: str) -> None:
        """See IIncoming."""
        self._incoming.hold(why)
        self._why = why or "held"

    async def commit(self, envelope: Envelope, header: bytes) -> Mail:
        """See IIncoming."""
        mail = await self._incoming.commit(envelope, header)
        if self._why:
            self._queue.held(mail, self._why)
        elif mail.entries[0].state is State.DELAYED:
            self._queue.held_back(mail)
        else:
            self._queue.accept(mail)
        return mail
