"""The content of one incoming mail: pieces go to the spool as they arrive; size, header and hops are watched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted_mail_node.message.header import HeaderReader, count
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.reply import Reply
from twisted_mail_node.spool.mail import SpoolError

if TYPE_CHECKING:
    from twisted_mail_node.interfaces import IIncoming
    from twisted_mail_node.message.envelope import Body
    from twisted_mail_node.settings import Limits

TOO_LARGE = Reply.make(552, "5.3.4", "The message is larger than this server takes", Reason.MESSAGE_TOO_LARGE)
HEADER_TOO_LARGE = Reply.make(552, "5.3.4", "The header is larger than this server takes", Reason.HEADER_TOO_LARGE)
BARE_NEWLINE = Reply.make(
    550, "5.6.0", "The message holds a bare CR or LF; lines end in CR LF (RFC 5321 section 2.3.8)", Reason.BARE_NEWLINE
)
TOO_MANY_HOPS = Reply.make(554, "5.4.6", "Too many hops: this mail seems to be in a loop", Reason.TOO_MANY_HOPS)
SPOOL_FAILED = Reply.make(451, "4.3.0", "The mail could not be kept; please try again later", Reason.SPOOL_FAILED)
DISK_FULL = Reply.make(452, "4.3.1", "No room to keep the mail; please try again later", Reason.DISK_FULL)


class ContentReader:
    """Takes the content of one mail.

    Once something is wrong, nothing more is kept, and the octets that still come are read and forgotten: what
    follows the content must not be taken for commands (attack T02).

    :ivar refusal: what is wrong, ``None`` while all is well.
    """

    __slots__ = ("_header", "_limits", "incoming", "refusal", "size")

    def __init__(self, incoming: IIncoming, limits: Limits) -> None:
        self.incoming = incoming
        self._limits = limits
        self._header = HeaderReader(limits.header_size)
        self.refusal: Reply | None = None
        self.size = 0

    async def take(self, octets: bytes) -> None:
        """A piece of content. Returns when the next may come; never raises."""
        self.size += len(octets)
        if self.refusal is not None:
            return
        if self.size > self._limits.message_size:
            self.refuse(TOO_LARGE)
            return
        reader = self._header
        if not reader.done and reader.feed(octets) and reader.too_large:
            self.refuse(HEADER_TOO_LARGE)
            return
        try:
            await self.incoming.write(octets)
        except SpoolError as error:
            self.refuse(spool_refusal(error))

    def body(self, body: Body) -> Body:
        """What the envelope says of the body: what the client said."""
        return body

    async def finish(self, bare: bool) -> bytes:
        """Nothing more comes; gives the header section. ``bare``: a bare CR or LF was in it where none may be."""
        header = self._header.finish()
        self._judge(bare, header)
        return header

    def _judge(self, bare: bool, header: bytes) -> None:
        if self.refusal is None:
            if bare:
                self.refuse(BARE_NEWLINE)
            elif count(header, b"Received") > self._limits.hops:
                self.refuse(TOO_MANY_HOPS)

    def refuse(self, reply: Reply) -> None:
        """Give the mail up; the first refusal is the one that is told."""
        if self.refusal is None:
            self.refusal = reply
        self.incoming.abort()


def spool_refusal(error: SpoolError) -> Reply:
    """A full disk is 452, anything else 451; never 5yz: the mail may be fine (house rule 7)."""
    return DISK_FULL if error.full else SPOOL_FAILED
