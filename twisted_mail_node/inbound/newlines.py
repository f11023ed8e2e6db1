"""Puts line ends right in what mail programs submit (RFC 6409 section 8): a bare CR or LF becomes CRLF, the only line
end there is (RFC 5321 section 2.3.8).

On submission only, and before the content is stored: what leaves us has one kind of line end, and no server behind us
can take a bare one for the end of the mail. Whole pieces are replaced at once; only a CR at the end of a piece waits.
"""

from __future__ import annotations

from twisted_mail_node.smtp.transparency import has_bare_newline


class Newlines:
    """Repairs content that comes in pieces, cut anywhere."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open = False  # the last piece ended in CR, which waits for what follows it

    def take(self, octets: bytes) -> bytes:
        """The piece, repaired."""
        if self._open:
            octets = b"\r" + octets
        self._open = octets.endswith(b"\r")
        if self._open:
            octets = octets[:-1]
        if not has_bare_newline(octets):
            return octets
        return octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")

    def end(self) -> bytes:
        """What is left when nothing more comes: a CR was the last octet."""
        left = b"\r\n" if self._open else b""
        self._open = False
        return left
