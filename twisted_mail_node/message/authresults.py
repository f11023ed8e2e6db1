"""The Authentication-Results header field (RFC 8601): what was checked on arrival, and what came of it. Read, written,
and removed where somebody else wrote it in our name.

``parse`` reads, a value or (``parse_arc``) that of ARC-Authentication-Results, which is the same behind ``i=N;``
(RFC 8617 section 4.1.1).

``field`` writes. What stands in values was chosen by strangers: the octets that some reader could take for the end of
a value, of a comment or of a line become ``?``, even where quotes would do, and so does the beginning of an
encoded-word. Nothing forges a result so (RFC 8601 section 7.1).
"""

from __future__ import annotations

import re
from functools import lru_cache
from unicodedata import normalize

import idna

from twisted_mail_node.message.address import domain_key
from twisted_mail_node.message.authresults_grammar import (
    AuthenticationResults,
    MethodResult,
    Property,
    parse,
    parse_arc,
)
from twisted_mail_node.message.encoding import one_line
from twisted_mail_node.message.header import FOLD_AT, has, without

__all__ = [
    "ARC_NAME",
    "NAME",
    "AuthenticationResults",
    "MethodResult",
    "Property",
    "field",
    "parse",
    "parse_arc",
    "without_ours",
]

NAME = "Authentication-Results"
ARC_NAME = "ARC-Authentication-Results"
#: Octets of a value, a reason or a comment that are written: an address has 506 at most, and a line must not pass 998.
TEXT_MAX = 640
#: Characters of an address with a quoted local-part: no line of 998 octets is too short for it, and its field's name.
ADDRESS_MAX = 220
#: Octets of an authserv-id; it is a domain name, mostly.
ID_MAX = 255
#: Fields of one header section that are read to tell whose they are. Where there are more, naming us is enough.
READ_MAX = 100

_WORD = re.compile(r"[a-z0-9-]{0,63}[a-z0-9]")
_TOKEN = re.compile(r'[^\x00-\x20()<>@,;:\\"/\[\]?=\x7f-\x9f]+')
_ATOMS = r'[^\x00-\x20()<>@,;:\\".\[\]\x7f-\x9f]+'
_DOMAIN = r"[A-Za-z0-9_\u00a0-\U0010ffff-]+(?:\.[A-Za-z0-9_\u00a0-\U0010ffff-]+)*"
_ADDRESS = re.compile(rf"(?:{_ATOMS}(?:\.{_ATOMS})*)?@{_DOMAIN}")
_QUOTED_ADDRESS = re.compile(rf'"[^"]*"@{_DOMAIN}')
_HARMFUL = re.compile(r'[;()"\\]')
_PART = re.compile(r" *[^ ]+")


def field(
    results: AuthenticationResults, name: str = NAME, *, instance: int | None = None, smtputf8: bool = False
) -> bytes:
    """The whole field with its CRLF, one result a line, folded at 78 octets where there are spaces.

    ``parse`` gives the same again, but for characters that became ``?``: control characters, ``;``, ``(``, ``)``,
    ``"`` and backslash (the quotes of an address with a quoted local-part stay), ``=`` of ``=?``, and what is not
    ASCII without ``smtputf8``; and for texts beyond ``TEXT_MAX``, which are cut, and end in ``???`` then.

    :param instance: writes ``i=…;`` first, for ARC-Authentication-Results.
    :raises ValueError: a method, a result, a property or the authserv-id is not what it should be.
    """
    opening = "" if instance is None else f"i={instance}; "
    first = opening + _written_id(results.authserv_id, smtputf8)
    if results.version != 1:
        first += f" {results.version}"
    lines = [_line(found, smtputf8) for found in results.results] or [b" none;"]
    return b"\r\n".join((_folded(f"{name}: {first};"), *lines))[:-1] + b"\r\n"


@lru_cache(maxsize=64)
def _written_id(text: str, smtputf8: bool) -> str:
    if not text or len(text.encode("utf-8", "replace")) > ID_MAX or _clean(text, smtputf8) != text:
        raise ValueError(f"{text[:80]!r} is no authserv-id")
    return text if _TOKEN.fullmatch(text) else f'"{text}"'


@lru_cache(maxsize=2048)
def _line(found: MethodResult, smtputf8: bool) -> bytes:
    """The folded line of a result. Most come again: what is found of a client and a domain is the same for hours."""
    return _folded(f" {_written(found, smtputf8)};")


def _written(found: MethodResult, smtputf8: bool) -> str:
    words = [_word(found.method), "" if found.version == 1 else f"/{found.version}", "=", _word(found.result)]
    if found.comment:
        words.append(f" ({_clean(found.comment, smtputf8)})")
    if found.reason:
        words.append(f" reason={_value(found.reason, smtputf8)}")
    for ptype, name, value in found.properties:
        words.append(f" {_word(ptype)}.{_word(name)}={_value(value, smtputf8)}")
    return "".join(words)


def _word(text: str) -> str:
    if not _WORD.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is no keyword in lower case")
    return text


def _value(text: str, smtputf8: bool) -> str:
    if _QUOTED_ADDRESS.fullmatch(text) and len(text) <= ADDRESS_MAX:
        unquoted = text.replace('"', "")
        if "=?" not in text and _clean(unquoted, smtputf8) == unquoted:
            return text
    text = _clean(text, smtputf8)
    if _TOKEN.fullmatch(text) or (_ADDRESS.fullmatch(text) and text[0] != "?"):  # =? would begin an encoded-word
        return text
    return f'"{text}"'


def _clean(text: str, smtputf8: bool) -> str:
    """The text without what could be taken for the end of anything."""
    text = _HARMFUL.sub("?", one_line(text))
    octets = text.encode("utf-8" if smtputf8 else "ascii", "replace").replace(b"=?", b"??")
    if len(octets) > TEXT_MAX:
        octets = octets[: TEXT_MAX - 3].decode("utf-8", "ignore").encode() + b"???"
    return octets.decode()


def _folded(line: str) -> bytes:
    """One line of the field, with CRLF before some of its spaces. No part is longer than a line may be."""
    done: list[bytes] = []
    begun = b""
    for part in _PART.findall(line):
        octets = part.encode()
        if begun and len(begun) + len(octets) > FOLD_AT and not begun.endswith(b"Results:"):
            done.append(begun)
            begun = octets
        else:
            begun += octets
    done.append(begun)
    return b"\r\n".join(done)


def without_ours(header: bytes, authserv_id: str) -> bytes:
    """The header section without the Authentication-Results fields that claim to be ours (RFC 8601 section 5); the
    same object when it has none. The others stay octet for octet.

    A field is ours when its authserv-id is, in any case and however it is quoted, whatever its version. One that
    cannot be read is ours when our name stands anywhere in it, or might, in an encoded-word.
    """
    if not has(header, b"Authentication-Results"):
        return header
    names = _names(authserv_id)
    read = 0

    def claims(value: bytes) -> bool:
        nonlocal read
        if not _mentions(value, names):
            return False
        read += 1
        if read > READ_MAX:
            return True
        try:
            claimed = parse(value).authserv_id
        except ValueError:
            return True
        plain = _plain(claimed.partition("/")[0]).strip(".")
        return "=?" in claimed or plain in names or not plain

    return without(header, b"Authentication-Results", claims)


@lru_cache(maxsize=16)
def _names(authserv_id: str) -> frozenset[str]:
    """The spellings of our name: as it is, in A-labels and in U-labels."""
    names = {_plain(authserv_id).strip(".")}
    for spell in (domain_key, idna.decode):
        try:
            names.add(_plain(spell(authserv_id)).strip("."))
        except (ValueError, UnicodeError):
            pass
    names.discard("")
    if not names:
        raise ValueError("an authserv-id needs a letter or a digit")
    return frozenset(names)


_PLAIN = re.compile(r"[^\w.-]+")
_NOT_PLAIN = bytes(octet for octet in range(128) if not (chr(octet).isalnum() or chr(octet) in "_.-"))


def _plain(text: str) -> str:
    """Letters, digits, ``.``, ``-`` and ``_`` only, in lower case, as the laxest reader would see it."""
    return _PLAIN.sub("", normalize("NFKC", text).casefold())


def _mentions(value: bytes, names: frozenset[str]) -> bool:
    if b"=?" in value:
        return True
    if value.isascii():
        plain = value.lower().translate(None, _NOT_PLAIN).decode("ascii")
    else:
        plain = _plain(value.decode("utf-8", "ignore"))
    return any(name in plain for name in names)
