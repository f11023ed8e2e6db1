"""The protocol of a client that is one too many: it hears why, and the connection closes."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import ITransport
from twisted.python.failure import Failure

from twisted_mail_node.smtp.reply import Reply


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
