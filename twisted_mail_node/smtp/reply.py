"""An SMTP reply (RFC 5321 section 4.2): a code, an enhanced status code (RFC 2034) and lines of text.

We make them as a server (``octets``) and read them as a client (``smtp.client``); both sides use this value.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from twisted_mail_node.reasons import Reason

#: RFC 5321 section 4.5.3.1.5: a reply line has at most 512 octets with its CRLF.
LINE_MAX = 512
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """``text`` without control characters and direction marks, so that it stays one line wherever it is shown."""
    return _UNPRINTABLE.sub("?", text)


class Reply(NamedTuple):
    """One reply.

    :ivar code: the three digits.
    :ivar enhanced: ``2.1.0`` and so on; ``""`` where RFC 2034 puts none (greeting, EHLO, 354).
    :ivar text: the lines, without codes, at least one.
    :ivar reason: why we gave it; remote replies carry none.
    """

    code: int
    enhanced: str
    text: tuple[str, ...]
    reason: Reason | None = None

    @classmethod
    def make(cls, code: int, enhanced: str, text: str, reason: Reason | None = None) -> Reply:
        """A reply of one or more lines (cut at ``\\n``); each is made printable and short enough for one line."""
        room = LINE_MAX - 8 - len(enhanced)
        lines: list[str] = []
        for line in text.split("\n"):
            line = printable(line)
            if len(line) > room or not line.isascii():
                line = line.encode("utf-8")[:room].decode("utf-8", "ignore")
            lines.append(line)
        return cls(code, enhanced, tuple(lines), reason)

    @property
    def is_positive(self) -> bool:
        """2yz: done."""
        return 200 <= self.code < 300

    @property
    def is_temporary(self) -> bool:
        """4yz: try again later."""
        return 400 <= self.code < 500

    @property
    def is_permanent(self) -> bool:
        """5yz: do not try again."""
        return 500 <= self.code < 600

    def octets(self) -> bytes:
        """The reply as it stands on the wire; the enhanced code is repeated on each line (RFC 2034 section 4)."""
        code, enhanced, text, _ = self
        mark = f"{enhanced} " if enhanced else ""
        if len(text) == 1:
            return f"{code} {mark}{text[0]}\r\n".encode()
        last = len(text) - 1
        return "".join(f"{code}{' ' if n == last else '-'}{mark}{line}\r\n" for n, line in enumerate(text)).encode()

    def __str__(self) -> str:
        """On one line, for logs and DSNs: ``550 5.1.1 No such user here``."""
        mark = f"{self.enhanced} " if self.enhanced else ""
        return f"{self.code} {mark}{' '.join(self.text)}".rstrip()
