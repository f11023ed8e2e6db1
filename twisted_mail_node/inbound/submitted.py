"""The content of a submitted mail: line ends and header are put right before they reach the spool (RFC 6409).

The header section is held back until it is complete, at most ``limits.header_size`` octets; the body goes on to the
spool as it comes. Sizes are those of what the client sent.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from twisted_mail_node.inbound.content import BARE_NEWLINE, HEADER_TOO_LARGE, TOO_LARGE, ContentReader
from twisted_mail_node.inbound.newlines import Newlines
from twisted_mail_node.inbound.repair import LINES_MAX, HeaderError, repaired, says_nothing_of_mime
from twisted_mail_node.message.authresults import without_ours
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.reply import Reply
from twisted_mail_node.smtp.transparency import has_bare_newline

if TYPE_CHECKING:
    from twisted_mail_node.interfaces import IIncoming
    from twisted_mail_node.message.envelope import Body
    from twisted_mail_node.settings import Limits

NO_BORDER = Reply.make(
    550,
    "5.6.0",
    "Nobody could be sure where the header ends: a line in it is no field; put an empty line before the body",
    Reason.BAD_FROM,
)


class SubmittedReader(ContentReader):
    """Takes the content of one submitted mail.

    :param repair: a bare CR or LF becomes CRLF; else it refuses the mail.
    :param binary: BODY=BINARYMIME (RFC 3030): the body is no text, and its octets stay as they are.
    :param smtputf8: the header may hold UTF-8.
    :param strict: the header must end where everybody sees it end, for it tells whose the mail is.
    :ivar eight_bit: the body has an octet above 127.
    """

    __slots__ = ("_binary", "_decoder", "_is_utf8", "_newlines", "_smtputf8", "_strict", "eight_bit")

    def __init__(
        self,
        incoming: IIncoming,
        limits: Limits,
        *,
        repair: bool,
        binary: bool,
        smtputf8: bool,
        strict: bool,
        authserv_id: str = "",
    ) -> None:
        super().__init__(incoming, limits, authserv_id)
        self._newlines = Newlines() if repair and not binary else None
        self._binary = binary
        self._smtputf8 = smtputf8
        self._strict = strict
        self._decoder: codecs.IncrementalDecoder | None = None
        self._is_utf8 = True
        self.eight_bit = False

    async def take(self, octets: bytes) -> None:
        """A piece of content. Returns when the next may come; never raises."""
        self.size += len(octets)
        if self.refusal is None and self.size > self._limits.message_size:
            self.refuse(TOO_LARGE)
        if self.refusal is None:
            await self._go_on(octets if self._newlines is None else self._newlines.take(octets))

    async def _go_on(self, octets: bytes) -> None:
        reader = self._header
        if reader.done:
            await self._body(octets)
            return
        if not reader.feed(octets):
            return
        if reader.too_large:
            self.refuse(HEADER_TOO_LARGE)
            return
        await self._head(reader.header, reader.rest)

    async def _head(self, header: bytes, body: bytes) -> None:
        """The header section is complete: put it right, and let it go with what came behind it."""
        if header.count(b"\r\n") > LINES_MAX:
            self.refuse(HEADER_TOO_LARGE)
        elif self._binary and has_bare_newline(header):
            self.refuse(BARE_NEWLINE)  # the body alone is binary (RFC 3030 section 3)
        elif self._strict and header and body and not (b"\r\n" + header).endswith(b"\r\n\r\n"):
            self.refuse(NO_BORDER)
        else:
            try:
                self.header = without_ours(repaired(header, self._smtputf8), self._authserv_id)
            except HeaderError as error:
                self.refuse(error.reply)
                return
            if not self._binary and says_nothing_of_mime(self.header):
                self._decoder = codecs.getincrementaldecoder("utf-8")()
            await self._write(self.header)
            await self._body(body)

    async def _body(self, octets: bytes) -> None:
        if not self.eight_bit and not octets.isascii():
            self.eight_bit = True
        if self.eight_bit:
            self._decode(octets)
        await self._write(octets)

    def _decode(self, octets: bytes, final: bool = False) -> None:
        if self._decoder is not None and self._is_utf8:
            try:
                self._decoder.decode(octets, final)
            except UnicodeDecodeError:
                self._is_utf8 = False

    async def finish(self, bare: bool) -> bytes:
        """Nothing more comes; gives the header section as it went to the spool."""
        if self.refusal is None and self._newlines is not None:
            bare = False
            await self._go_on(self._newlines.end())
        if self.refusal is None and not self._header.done:
            header = self._header.finish()
            await self._head(header, self._header.rest)
        if self.eight_bit:
            self._decode(b"", final=True)
        self._judge(bare, self.header)
        return self.header

    def body(self, body: Body) -> Body:
        """What the envelope says of the body: 8BITMIME (RFC 6152), if that is what came, whatever the client said."""
        return "8BITMIME" if self.eight_bit and body == "7BIT" else body

    @property
    def charset(self) -> str:
        """What the body must be said to be in, when its header tells nothing of it and it is not ASCII; else ``""``.

        ``unknown-8bit`` (RFC 1428) is the honest word for what is no UTF-8.
        """
        if self._decoder is None or not self.eight_bit:
            return ""
        return "utf-8" if self._is_utf8 else "unknown-8bit"
