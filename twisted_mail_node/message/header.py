"""The header section of a mail as octets (RFC 5322 section 2.2): where it ends, its fields, and new fields.

One meaning for everyone, verifier, policy and store alike. A line is what CRLF ends. A line is a *field* when it
begins with a name (1 to 998 of ``!`` to ``~`` without ``:``), perhaps spaces or tabs (RFC 5322 section 4.5), and a
colon. It is a *continuation* when it begins with a space or a tab and stands below a field or another continuation,
even when nothing else is on it. The header section ends after the first empty line, which belongs to it, or directly
before the first line that is none of these (an mbox ``From`` line, a name without a colon): that line and all below
are the body.

Everything here is one or a few C-speed passes: a header of 500 000 lines costs milliseconds (but see ``fields``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from twisted_mail_node.message.encoding import LINE_MAX, one_line, unstructured

#: RFC 5322 section 2.1.1: lines we make have at most 78 octets where the words allow it.
FOLD_AT = 78

_FIELD = rb"[!-9;-~]{1,998}+[ \t]{0,998}+:"
_PART = rb"[!-9;-~]{1,998}+[ \t]{0,998}+\Z|\r?\Z"  # what may still become a field, or the empty line
_BEGIN = re.compile(_FIELD)
_BEGIN_OR_PART = re.compile(_FIELD + rb"|" + _PART)
_END = re.compile(rb"\r\n(?![\t ]|" + _FIELD + rb")")
_END_SEEN = re.compile(rb"\r\n(?![\t ]|" + _FIELD + rb"|" + _PART + rb")")
_GOOD = re.compile(rb"\r\n(?:[\t ]|" + _FIELD + rb")")
_BETWEEN = re.compile(rb"\r\n(?![\t ])")
_NAME = re.compile(r"[!-9;-~]{1,76}")
_WORD = re.compile(r" *[^ ]+")


class Field(NamedTuple):
    """One header field.

    :ivar name: as it was written, without the colon and spaces before it.
    :ivar value: everything behind the colon, folding kept, without the last CRLF.
    :ivar raw: the whole field, without the last CRLF.
    """

    name: bytes
    value: bytes
    raw: bytes

    @property
    def unfolded(self) -> bytes:
        """The value on one line (RFC 5322 section 2.2.3), without white space around it."""
        return self.value.replace(b"\r\n", b"").strip(b" \t")


def border(octets: bytes) -> int:
    """The offset where the header section ends and the body starts, in content that is complete.

    ``octets[:border]`` holds the empty line, if there is one. Content without a body gives its length. Where content
    comes in pieces use ``HeaderReader``: a piece may end in the middle of a line.
    """
    if not _BEGIN.match(octets):
        return 2 if octets.startswith(b"\r\n") else 0
    return _after(octets, _END.search(octets))


def _after(octets: bytes | bytearray, end: re.Match[bytes] | None) -> int:
    if end is None:
        return len(octets)
    offset = end.end()
    return offset + 2 if octets.startswith(b"\r\n", offset) else offset


@lru_cache(maxsize=256)
def _needles(name: bytes) -> tuple[bytes, tuple[bytes, ...], tuple[bytes, ...]]:
    """What to look for in a header in lower case: a line start and the name; how it goes on; the same on line one."""
    key = name.lower()
    openings = (key + b":", key + b" ", key + b"\t")
    return b"\r\n" + key, tuple(b"\r\n" + opening for opening in openings), openings


def count(header: bytes, name: bytes) -> int:
    """How many fields of this name (any case) a header section has."""
    low = header.lower()
    start, (colon, space, tab), openings = _needles(name)
    found = low.count(colon)
    if low.count(start) != found:  # "Received :", or another name that begins so
        found += low.count(space) + low.count(tab)
    return found + low.startswith(openings)


def has(header: bytes, name: bytes) -> bool:
    """True when a header section has a field of this name (any case)."""
    return _find(header, name) >= 0


def first(header: bytes, name: bytes) -> bytes | None:
    """The value of the topmost field of this name (any case), unfolded and stripped; ``None`` without one."""
    start = _find(header, name)
    if start < 0:
        return None
    end = _BETWEEN.search(header, start)
    raw = header[start : end.start()] if end else header[start:]
    return raw.partition(b":")[2].replace(b"\r\n", b"").strip(b" \t")


def _find(header: bytes, name: bytes) -> int:
    low = header.lower()
    start, needles, openings = _needles(name)
    if low.startswith(openings):
        return 0
    if start not in low:
        return -1
    return min((at + 2 for needle in needles if (at := low.find(needle)) >= 0), default=-1)


def fields(header: bytes) -> list[Field]:
    """All fields of a header section (``octets[:border(octets)]``), in their order.

    Makes an object for each: some 0.8 µs a field. To look for one name use ``count``, ``has`` or ``first``.
    """
    found: list[Field] = []
    for raw in _BETWEEN.split(header):
        name, colon, value = raw.partition(b":")
        if not colon:
            break
        found.append(Field(name.rstrip(b" \t"), value, raw))
    return found


def without(header: bytes, name: bytes, which: Callable[[bytes], bool] | None = None) -> bytes:
    """The header section without the fields of this name (any case); the same object when it has none.

    :param which: of these, only those for whose value (everything behind the colon, folding kept) it is true.
    """
    if not has(header, name):
        return header
    key = name.lower()
    kept: list[bytes] = []
    removed = False
    for raw in _BETWEEN.split(header):
        found, _, value = raw.partition(b":")
        if found.rstrip(b" \t").lower() == key and (which is None or which(value)):
            removed = True
        else:
            kept.append(raw)
    return b"\r\n".join(kept) if removed else header


def field(name: str, value: str, *, smtputf8: bool = False) -> bytes:
    """A new field with its CRLF, folded at 78 octets where its words allow it, and never above 998.

    Control characters become ``?``. Text outside ASCII is encoded (RFC 2047), or kept as UTF-8 for ``smtputf8``.
    Addresses outside ASCII are never encoded: give them with ``smtputf8`` (RFC 6532), or not at all.

    :raises ValueError: ``name`` is no field name.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no field name")
    text = one_line(value).strip(" ")
    if not smtputf8:
        text = unstructured(text)
    lines: list[bytes] = []
    line = name.encode("ascii") + b":"
    opening = True
    for found in _WORD.findall(text):
        word = found.encode("utf-8")
        if opening or len(word) >= LINE_MAX:
            word = b" " + word.lstrip(b" ")
        if len(line) + len(word) > (LINE_MAX if opening else FOLD_AT):
            lines.append(line)
            line = b""
        while len(word) > LINE_MAX:  # no words end here: a cut within one is the lesser evil
            cut = LINE_MAX
            while word[cut] & 0xC0 == 0x80:
                cut -= 1
            lines.append(word[:cut])
            word = b" " + word[cut:]
        line += word
        opening = False
    lines.append(line)
    return b"\r\n".join(lines) + b"\r\n"


class HeaderReader:
    """Collects the header section from content that comes in pieces, however they are cut.

    ``while not reader.feed(chunk): …``, and ``reader.finish()`` where the content ends.

    :ivar header: the header section as ``border`` means it, once done.
    :ivar too_large: no end within ``limit`` octets; ``header`` is then the first ``limit`` octets.
    :ivar rest: what came in behind it, with the last piece: the beginning of the body.
    :ivar done: nothing more is collected.
    """

    __slots__ = ("_begun", "_buffer", "_from", "_limit", "done", "header", "rest", "too_large")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._from = 0
        self._begun = False
        self.header = self.rest = b""
        self.too_large = False
        self.done = False

    def feed(self, chunk: bytes) -> bool:
        """Take the next piece of content; True when the header section is known (or known to be too large)."""
        if self.done:
            return True
        buffer = self._buffer
        room = self._limit - len(buffer)
        buffer += chunk[:room]
        end = self._look()
        if end < 0 and len(buffer) >= self._limit:
            self.too_large = True
            end = self._limit
        return self._end(end, chunk[room:]) if end >= 0 else False

    def finish(self) -> bytes:
        """The content is complete: the header section, whatever was undecided."""
        if not self.done:
            self._end(border(bytes(self._buffer)))
        return self.header

    def _end(self, offset: int, more: bytes = b"") -> bool:
        buffer = memoryview(self._buffer)
        self.header = bytes(buffer[:offset])
        self.rest = bytes(buffer[offset:]) + more
        self._buffer = bytearray()
        self.done = True
        return True

    def _look(self) -> int:
        """The border, or -1 while more octets may change it. No octet is looked at more than a bounded number of
        times: what is known to be good lies before ``_from``."""
        buffer = self._buffer
        if not self._begun:
            if not _BEGIN_OR_PART.match(buffer):
                return 2 if buffer.startswith(b"\r\n") else 0
            if not _BEGIN.match(buffer):
                return -1
            self._begun = True
        found = _END_SEEN.search(buffer, self._from)
        if found:
            return _after(buffer, found)
        last = buffer.rfind(b"\r\n", self._from)
        self._from = last if last >= 0 and not _GOOD.match(buffer, last) else len(buffer) - 1
        return -1
