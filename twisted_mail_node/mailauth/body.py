"""Hashes of the body (RFC 6376 section 3.7, step 1), made as it arrives, however it is cut.

Whoever checks or makes a signature says before the first octet what it wants (``BodyHashes.want``); the body is then
canonicalized (section 3.4) and hashed once for all of them: at most twice, whatever the signatures ask for.

Nothing waits for the end of the body: of an empty line nobody knows yet whether it is one of those at the end that do
not count. So the state of the hash before such lines is kept beside the state after them.
"""

from __future__ import annotations

import hashlib
from codecs import utf_16_le_decode, utf_16_le_encode
from typing import Any

from twisted_mail_node.mailauth.canonical import single_spaces

#: Octets that are canonicalized at once: so few that they and what is made of them stay in the cache.
PIECE = 32 << 10

_SPACES = bytes.maketrans(b"\t", b" ")
_MARK = b"\x01"
# With eight controls in their place no two octets look like half a surrogate pair, and back.
_CONTROLS, _SURROGATES = b"\x02\x03\x04\x05\x06\x07\x08\x0e", bytes(range(0xD8, 0xE0))
_SWAPPED = bytes.maketrans(_CONTROLS + _SURROGATES, _SURROGATES + _CONTROLS)


class BodyHash:
    """One hash that is wanted.

    :ivar digest: the hash, once the body is finished.
    :ivar length: octets of the whole canonical body, once it is finished.
    :ivar limit: the first so many of them are hashed (l=); ``None`` for all.
    """

    __slots__ = ("digest", "length", "limit")

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.digest = b""
        self.length = 0

    @property
    def unsigned(self) -> int:
        """Octets behind the limit; negative when the body ends before it."""
        return 0 if self.limit is None else self.length - self.limit


class BodyHashes:
    """The hashes of one body.

    ``want`` what is needed, ``feed`` the pieces, ``finish``.
    """

    __slots__ = ("_relaxed", "_simple", "_started")

    def __init__(self) -> None:
        self._simple: _Simple | None = None
        self._relaxed: _Relaxed | None = None
        self._started = False

    def want(self, canonicalization: str, algorithm: str = "sha256", length: int | None = None) -> BodyHash:
        """A hash of the body; for the same wish the same object.

        :param canonicalization: ``simple`` or ``relaxed``.
        :param algorithm: ``sha256``; RFC 8301 section 3.1 leaves no other.
        :param length: hash only so many octets of the canonical body.
        :raises ValueError: there is no such algorithm.
        :raises RuntimeError: the body has begun.
        """
        if self._started:
            raise RuntimeError("a hash is wanted of a body that has begun")
        if algorithm != "sha256":
            raise ValueError(f"no body is hashed with {algorithm!r}")
        if canonicalization == "relaxed":
            if self._relaxed is None:
                self._relaxed = _Relaxed()
            return self._relaxed.want(length)
        if canonicalization != "simple":
            raise ValueError(f"there is no canonicalization {canonicalization!r}")
        if self._simple is None:
            self._simple = _Simple()
        return self._simple.want(length)

    def feed(self, piece: bytes) -> None:
        """The next octets of the body."""
        self._started = True
        if not piece:
            return
        if len(piece) <= PIECE:
            self._feed(piece)
            return
        view = memoryview(piece)
        for start in range(0, len(piece), PIECE):
            self._feed(bytes(view[start : start + PIECE]))

    def _feed(self, piece: bytes) -> None:
        if self._relaxed is not None:
            self._relaxed.feed(piece)
        if self._simple is not None:
            self._simple.feed(piece)

    def finish(self) -> None:
        """The body is complete: the hashes are there."""
        self._started = True
        if self._relaxed is not None:
            self._relaxed.finish()
        if self._simple is not None:
            self._simple.finish()


class _Canonical:
    """A canonical body on its way into a hash. What it is fed has lines as they count, except for empty ones at the
    end."""

    __slots__ = ("_bounded", "_carry", "_hash", "_length", "_marked", "_wanted", "_whole")

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._length = 0
        self._marked: tuple[Any, int] | None = None  # hash and length before the empty lines that end it so far
        self._carry = b""  # octets whose meaning the next ones decide
        self._whole: BodyHash | None = None
        self._wanted: dict[int, BodyHash] = {}
        self._bounded: list[BodyHash] = []  # those whose limit is not reached, the next one last

    def want(self, length: int | None) -> BodyHash:
        if length is None:
            if self._whole is None:
                self._whole = BodyHash(None)
            return self._whole
        wanted = self._wanted.get(length)
        if wanted is None:
            wanted = self._wanted[length] = BodyHash(length)
            self._bounded.append(wanted)
            self._bounded.sort(key=lambda one: -(one.limit or 0))
        return wanted

    def _take(self, octets: bytes) -> None:
        """Canonical octets that do not end within a CRLF."""
        if not octets.endswith(b"\r\n"):
            self._marked = None
            self._update(octets)
            return
        end = _empty_lines(octets)
        if end == 0:
            if self._marked is None:
                self._mark()
            self._update(octets)
            return
        view = memoryview(octets)
        self._update(view[:end])
        self._mark()
        self._update(view[end:])

    def _mark(self) -> None:
        self._marked = self._hash.copy(), self._length

    def _update(self, octets: bytes | memoryview) -> None:
        while self._bounded:
            limit = self._bounded[-1].limit or 0
            missing = limit - self._length
            if missing > len(octets):
                break
            self._hash.update(memoryview(octets)[:missing])
            octets = memoryview(octets)[missing:]
            self._length = limit
            self._bounded.pop().digest = self._hash.digest()
        self._hash.update(octets)
        self._length += len(octets)

    def _end(self, *, nothing: bool) -> None:
        """Empty lines at the end do not count; the last line that does ends in CRLF.

        :param nothing: a body of nothing but empty lines is nothing; else one CRLF.
        """
        if self._marked is not None:
            self._hash, self._length = self._marked
        if self._length or not nothing:
            self._update(b"\r\n")
        digest = self._hash.digest()
        if self._whole is not None:
            self._whole.digest, self._whole.length = digest, self._length
        for wanted in self._wanted.values():
            wanted.length = self._length
            wanted.digest = wanted.digest or digest


class _Simple(_Canonical):
    """RFC 6376 section 3.4.3: empty lines at the end are ignored; a CRLF at the end is added."""

    __slots__ = ()

    def feed(self, piece: bytes) -> None:
        if self._carry:
            piece = self._carry + piece
            self._carry = b""
        if piece.endswith(b"\r"):
            self._carry = b"\r"
            piece = piece[:-1]
        if piece:
            self._take(piece)

    def finish(self) -> None:
        if self._carry:
            self._take(self._carry)
        self._end(nothing=False)


class _Relaxed(_Canonical):
    """RFC 6376 section 3.4.4: beside that, white space within lines becomes one space, and none is left at their end;
    a body without any line stays empty."""

    __slots__ = ()

    def feed(self, piece: bytes) -> None:
        if self._carry:
            piece = self._carry + piece
        if b"\t" in piece:
            piece = piece.translate(_SPACES)
        if b" " in piece:
            piece = _spaced(piece)
        carried = 1 if piece.endswith((b"\r", b" ")) else 0
        if piece.endswith(b" \r"):
            carried = 2
        self._carry = piece[len(piece) - carried :] if carried else b""
        if carried:
            piece = piece[:-carried]
        if piece:
            self._take(piece)

    def finish(self) -> None:
        rest = self._carry.removesuffix(b" ")
        if rest:
            self._take(rest)
        self._end(nothing=True)


def _empty_lines(octets: bytes) -> int:
    """Where the CRLFs begin that stand at the end, one after the other."""
    stripped = octets.rstrip(b"\r\n")
    tail = octets[len(stripped) :]
    if tail == b"\r\n":
        return len(stripped)
    feeds, returns = tail[::-1][::2], tail[::-1][1::2]
    lines = min(len(feeds) - len(feeds.lstrip(b"\n")), len(returns) - len(returns.lstrip(b"\r")))
    return len(octets) - 2 * lines


def _spaced(piece: bytes) -> bytes:
    """Spaces as they count: runs become one, and none stands before CRLF."""
    if piece.isascii():
        return _of_text(piece)
    if _MARK in piece:
        return _slowly(piece)
    try:
        return _of_text(piece.translate(_SWAPPED)).translate(_SWAPPED)
    except UnicodeDecodeError:
        return _slowly(piece)


def _of_text(piece: bytes) -> bytes:
    """Two octets are found three times as fast as one 16-bit character, where every sixth octet is a space: so the
    pairs that begin at even places are looked at, then the others.
    """
    even = utf_16_le_decode(piece, "strict", False)[0]
    odd = utf_16_le_decode(memoryview(piece)[1:], "strict", False)[0]
    pairs = even.count("\u2020") + odd.count("\u2020")
    last = "\u0d20" in even or "\u0d20" in odd
    if pairs:
        parts = piece.rsplit(b"  ") if pairs << 6 < len(piece) else []  # two are found faster from the end
        if len(parts) - 1 == pairs:  # no run is longer than two
            piece = b" ".join(parts)
        elif _MARK in piece:
            piece = single_spaces(piece)
        else:
            piece = _marked(piece, even)
    if last:
        piece = b"\r\n".join(piece.split(b" \r\n"))  # replace() searches twice
    return piece


def _marked(piece: bytes, even: str) -> bytes:
    """In each pair of spaces the first becomes a mark, and marks are taken out: as many passes for any runs."""
    found = even.replace("\u2020", "\u2001")
    piece = utf_16_le_encode(found)[0] + piece[2 * len(found) :]
    odd = utf_16_le_decode(memoryview(piece)[1:], "strict", False)[0]
    found = odd.replace("\u2020", "\u2001").replace("\u0120", "\u0101")
    return (piece[:1] + utf_16_le_encode(found)[0] + piece[1 + 2 * len(found) :]).translate(None, _MARK)


def _slowly(piece: bytes) -> bytes:
    """For pieces that are no text."""
    return single_spaces(piece).replace(b" \r\n", b"\r\n")
