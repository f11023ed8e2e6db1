"""Lines of a zone file (RFC 1035 section 5.1): the records a domain should publish, each under a comment that says what
it is for. Owner names are absolute, so that a line means the same wherever it is pasted.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from twisted_mail_node.smtp.reply import printable

#: Seconds. An hour: short enough that a mistake is mended soon.
TTL = 3600
#: Octets of one string of a TXT record (RFC 1035 section 3.3); longer texts are several strings, read as one.
STRING_MAX = 255
#: Columns of a comment.
COLUMNS = 110


class ZoneLine(NamedTuple):
    """A record.

    :ivar owner: in A-labels, without its last dot.
    :ivar value: as a zone file writes it; of TXT the text itself, one character an octet.
    :ivar purpose: what it is for.
    :ivar live: False where it is only shown: it belongs in another zone, or should not be published as things are.
    """

    owner: str
    rdtype: str
    value: str
    purpose: str
    live: bool = True

    @property
    def data(self) -> str:
        """Its data as a zone file writes it."""
        return quoted(self.value) if self.rdtype == "TXT" else self.value

    def __str__(self) -> str:
        """As a sentence names it: without TTL and class."""
        return f"{self.owner}. {self.rdtype} {self.data}"


class Remark(NamedTuple):
    """Words that no record goes with; each of them is a paragraph, but for those that begin with a space."""

    words: tuple[str, ...]


Line = ZoneLine | Remark


def quoted(text: str) -> str:
    """The text of a TXT record as character-strings of a zone file (RFC 1035 section 5.1)."""
    pieces = [text[at : at + STRING_MAX] for at in range(0, len(text), STRING_MAX)] or [""]
    return " ".join('"' + "".join(map(_character, piece)) + '"' for piece in pieces)


def _character(one: str) -> str:
    if one in '"\\':
        return f"\\{one}"
    return one if " " <= one <= "~" else f"\\{ord(one):03d}"


def zone_text(lines: Iterable[Line]) -> str:
    """The lines as a zone file has them, with an empty one between two."""
    return "\n".join("\n".join(_written(line)) + "\n" for line in lines)


def _written(line: Line) -> Iterator[str]:
    if isinstance(line, Remark):
        for words in line.words:
            yield from comment(words)
        return
    yield from comment(line.purpose)
    yield f"{'' if line.live else '; '}{line.owner}. {TTL} IN {line.rdtype} {line.data}"


def comment(words: str) -> list[str]:
    """A sentence as lines of comment; what begins with a space is kept as it is."""
    words = printable(words)
    if words.startswith(" "):
        return [f"; {words}"]
    return [f"; {part}" for part in textwrap.wrap(words, COLUMNS, break_long_words=False, break_on_hyphens=False)]


def as_shape(line: ZoneLine) -> dict[str, object]:
    """A record as JSON."""
    return {
        "name": f"{line.owner}.",
        "ttl": TTL,
        "type": line.rdtype,
        "data": line.data,
        "purpose": line.purpose,
        "publish": line.live,
    }
