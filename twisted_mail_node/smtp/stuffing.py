"""Makes content fit for DATA (RFC 5321 section 4.5.2): doubles the dot that begins a line, and ends with CRLF dot CRLF.

The last guard against smuggling on the way out: a CR or LF that stands alone never passes, for some servers take it
for a line end and what follows for commands. Whoever unstuffs the result has the content again, octet for octet
(and a CRLF at its end, if it had none).
"""

from __future__ import annotations

from twisted_mail_node.smtp.transparency import has_bare_newline


class BareNewlineError(ValueError):
    """The content holds a CR without LF or an LF without CR: only BINARYMIME can carry it (RFC 3030)."""

    def __init__(self) -> None:
        super().__init__("the content holds a bare CR or LF")


def refuse_bare_newlines(content: bytes) -> None:
    """:raises BareNewlineError: a whole ``content`` has a CR or LF that is not half of a CRLF."""
    if has_bare_newline(content):
        raise BareNewlineError


def stuffed(content: bytes) -> bytes:
    """A whole content as it follows the 354, its end included. It must have passed ``refuse_bare_newlines``."""
    # One octet is looked for many times faster than three, and three from the end faster than from the beginning.
    if b"." in content and content.rfind(b"\r\n.") >= 0:
        content = content.replace(b"\r\n.", b"\r\n..")
    if content.startswith(b"."):
        content = b"." + content
    if not content or content.endswith(b"\r\n"):
        return content + b".\r\n"
    return content + b"\r\n.\r\n"


class Stuffer:
    """The same for content that comes in pieces, cut anywhere.

    :param dots: False checks the line ends only, as BDAT needs it.
    """

    __slots__ = ("_cr", "_dots", "_line_start")

    def __init__(self, dots: bool = True) -> None:
        self._dots = dots
        self._cr = False  # the last piece ended in CR, which waits here until we know what follows it
        self._line_start = True

    def feed(self, piece: bytes) -> bytes:
        """The piece as it goes on the wire; a CR at its end comes with the next one.

        :raises BareNewlineError: nothing of the piece may be sent, nor the end: break the connection off.
        """
        if self._cr:
            piece = b"\r" + piece
        self._cr = piece.endswith(b"\r")
        if self._cr:
            piece = piece[:-1]
        if not piece:
            return b""
        refuse_bare_newlines(piece)
        if not self._dots:
            return piece
        starts, self._line_start = self._line_start, piece.endswith(b"\r\n")
        if b"\r\n." in piece:
            piece = piece.replace(b"\r\n.", b"\r\n..")
        return b"." + piece if starts and piece[0] == 0x2E else piece

    def finish(self) -> bytes:
        """What stands after the last piece: the end of DATA, or nothing.

        :raises BareNewlineError: the content ends in a bare CR.
        """
        if self._cr:
            raise BareNewlineError
        if not self._dots:
            return b""
        return b".\r\n" if self._line_start else b"\r\n.\r\n"
