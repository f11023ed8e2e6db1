"""The content of one incoming mail: pieces go to the spool as they arrive; size, header and hops are watched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted_mail_node.message.authresults import without_ours
from twisted_mail_node.message.header import HeaderReader, count
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.reply import Reply
from twisted_mail_node.smtp.transparency import has_bare_newline
from twisted_mail_node.spool.mail import SpoolError

if TYPE_CHECKING:
    from twisted_mail_node.inbound.verification import Verification
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

    :param authserv_id: our name in Authentication-Results: fields that claim it are taken out (RFC 8601 section 5);
        ``""``: none is.
    :param verification: is shown the mail as the client sent it.
    :param seal: a seal of ours is wanted (ARC).
    :ivar refusal: what is wrong, ``None`` while all is well.
    :ivar header: the header section as it goes to the spool.
    """

    __slots__ = (
        "_authserv_id",
        "_header",
        "_limits",
        "_seal",
        "_verification",
        "header",
        "incoming",
        "refusal",
        "size",
    )

    def __init__(
        self,
        incoming: IIncoming,
        limits: Limits,
        authserv_id: str = "",
        verification: Verification | None = None,
        seal: bool = False,
    ) -> None:
        self.incoming = incoming
        self._limits = limits
        self._header = HeaderReader(limits.header_size)
        self._authserv_id = authserv_id
        self._verification = verification
        self._seal = seal
        self.refusal: Reply | None = None
        self.size = 0
        self.header = b""

    async def take(self, octets: bytes) -> None:
        """A piece of content. Returns when the next may come; never raises."""
        self.size += len(octets)
        if self.refusal is not None:
            return
        if self.size > self._limits.message_size:
            self.refuse(TOO_LARGE)
            return
        reader = self._header
        if reader.done:
            if self._verification is not None:
                self._verification.feed(octets)
            await self._write(octets)
        elif reader.feed(octets):
            if reader.too_large:
                self.refuse(HEADER_TOO_LARGE)
            else:
                await self._begin(reader.header, reader.rest)

    async def _begin(self, header: bytes, body: bytes, all_there: bool = False) -> None:
        """The header section is complete; ``body`` came with it. ``all_there``: nothing follows."""
        if has_bare_newline(header):
            self.refuse(BARE_NEWLINE)  # in BINARYMIME, too: the body alone is binary (RFC 3030 section 3)
            return
        ends = header.endswith(b"\r\n\r\n") or header == b"\r\n"
        if self._verification is not None:
            # Content may end with its last field (RFC 5322 section 3.5): nobody can doubt where that header ends.
            closed = not ends and all_there and not body and (not header or header.endswith(b"\r\n"))
            self._verification.header(header + b"\r\n" if closed else header, self._seal)
            self._verification.feed(body)
        self.header = without_ours(header, self._authserv_id) if self._authserv_id else header
        if body and header and not ends:
            # A line that is no field ended the header: with this, it ends there for everybody (attack T07).
            self.header += b"\r\n"
        await self._write(self.header + body)

    async def _write(self, octets: bytes) -> None:
        if self.refusal is None and octets:
            try:
                await self.incoming.write(octets)
            except SpoolError as error:
                self.refuse(spool_refusal(error))

    def body(self, body: Body) -> Body:
        """What the envelope says of the body: what the client said."""
        return body

    async def finish(self, bare: bool) -> bytes:
        """Nothing more comes; gives the header section. ``bare``: a bare CR or LF was in it where none may be."""
        if self.refusal is None and not self._header.done:
            header = self._header.finish()
            await self._begin(header, self._header.rest, all_there=True)
        self._judge(bare, self.header)
        return self.header

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
