"""Reads the replies of a remote host (RFC 5321 section 4.2) out of whatever pieces the network brings.

Lenient where that does no harm (a bare LF ends a line, the text may be empty, any text in any encoding), strict where
the meaning of what follows would be in doubt: then ``ReplyError``, after which the connection is of no more use.
"""

from __future__ import annotations

import re
from functools import lru_cache

from twisted_mail_node.smtp.reply import Reply, printable

#: RFC 5321 section 4.5.3.1.5 allows 512 octets a line; some hosts put whole explanations on one.
REPLY_LINE_MAX = 2048
#: Lines of one reply: an EHLO reply has some 20, a long refusal a few more.
REPLY_LINES_MAX = 100
#: Octets of one reply in all; what is refused in so many words is kept in the spool and shown in a DSN.
REPLY_MAX = 16384
#: Octets of the text of replies that are kept ready made.
_KNOWN_MAX = 64

# A code is 2yz to 5yz (RFC 5321 section 4.2.1); after it stands a space, a hyphen or the end of the line.
_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?\Z", re.DOTALL)
# RFC 2034 section 3: class.subject.detail, before the text.
_ENHANCED = re.compile(r"([245])\.[0-9]{1,3}\.[0-9]{1,3}(?: +|\Z)")


class ReplyError(ValueError):
    """What came is no reply, or is longer than any reply we take. The words quote no more than a piece of it."""


def _text(octets: bytes) -> str:
    if octets.isascii():
        text = octets.decode("ascii")
        return text if text.isprintable() else printable(text)
    return printable(octets.decode("utf-8", "replace"))


def make_reply(code: bytes, lines: list[bytes]) -> Reply:
    """A reply from its code and what stood behind it on each line.

    An enhanced status code counts only when its class is that of the reply (RFC 2034 section 4); else it is text.
    """
    texts = [_text(line) for line in lines]
    match = _ENHANCED.match(texts[0])
    if match is None or match[1] != chr(code[0]):
        return Reply(int(code), "", tuple(texts))
    enhanced = match[0].rstrip()
    mark = enhanced + " "
    rest = (text[len(mark) :].lstrip(" ") if f"{text} ".startswith(mark) else text for text in texts)
    return Reply(int(code), enhanced, tuple(rest))


@lru_cache(maxsize=512)
def _known(code: bytes, text: bytes) -> Reply:
    """A reply of one short line. A host says the same few of them for every mail."""
    return make_reply(code, [text])


class ReplyReader:
    """Octets in, replies out. One for each connection."""

    __slots__ = ("_buffer", "_code", "_lines", "_size")

    def __init__(self) -> None:
        self._buffer = b""  # the beginning of a line
        self._code = b""  # of the reply whose lines are being gathered
        self._lines: list[bytes] = []
        self._size = 0

    @property
    def is_amid(self) -> bool:
        """A reply has begun and not ended."""
        return bool(self._buffer or self._lines)

    def feed(self, octets: bytes) -> list[Reply]:
        """The replies that ``octets`` complete, in order.

        :raises ReplyError: no reply, or too long. Replies completed before it in the same piece are lost with it,
            for nothing that such a host says is worth much.
        """
        if self._buffer:
            octets = self._buffer + octets
        lines = octets.split(b"\n")
        self._buffer = lines.pop()
        replies: list[Reply] = []
        for line in lines:
            reply = self._line(line[:-1] if line.endswith(b"\r") else line)
            if reply is not None:
                replies.append(reply)
        if len(self._buffer) > REPLY_LINE_MAX:
            raise ReplyError(f"a reply line is longer than {REPLY_LINE_MAX} octets")
        return replies

    def _line(self, line: bytes) -> Reply | None:
        if len(line) > REPLY_LINE_MAX:
            raise ReplyError(f"a reply line is longer than {REPLY_LINE_MAX} octets")
        match = _LINE.match(line)
        if match is None:
            raise ReplyError(f"this is no reply: {_text(line[:60])!r}")
        code, mark, text = match.groups()
        if not self._lines:
            if mark != b"-":
                text = text or b""
                return _known(code, text) if len(text) <= _KNOWN_MAX else make_reply(code, [text])
            self._code = code
        elif code != self._code:
            # RFC 5321 section 4.2.1: the code is the same on every line. Which reply would the next line belong to?
            raise ReplyError(f"the lines of one reply begin with {self._code.decode()} and {code.decode()}")
        self._lines.append(text or b"")
        self._size += len(line)
        if len(self._lines) > REPLY_LINES_MAX or self._size > REPLY_MAX:
            raise ReplyError(f"a reply has more than {REPLY_LINES_MAX} lines or {REPLY_MAX} octets")
        if mark == b"-":
            return None
        gathered, self._lines, self._size = self._lines, [], 0
        return make_reply(code, gathered)
