"""How text and odd octets become lines of a mail: one safe line, RFC 2047 encoded-words, RFC 2045 quoted-printable.

What others said (a HELO, a reply, an address) passes ``one_line`` before it stands in a header field or a report:
it can then neither end the line nor turn its direction on a screen.
"""

from __future__ import annotations

import binascii
import re
from typing import Literal

#: RFC 5322 section 2.1.1: a line has at most 998 octets without its CRLF.
LINE_MAX = 998
#: Octets of text in one encoded-word: 60 of base64 and 12 around them stay below RFC 2047's 75.
_WORD_OCTETS = 45
#: C0, DEL, C1, zero-width and direction marks, line separators, and surrogates, which UTF-8 cannot hold.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*\Z")
_LONG_LINE = re.compile(rb"[^\n]{1000}")
_UNITEXT = re.compile(r"[^!-*,-<>-\[\]-~]")

Transfer = Literal["7bit", "8bit", "binary"]


def one_line(text: str) -> str:
    """``text`` with tabs as spaces and every other control or direction character as ``?``: always a single line."""
    return _UNSAFE.sub("?", text.replace("\t", " "))


def encoded_words(text: str) -> str:
    """All of ``text`` as encoded-words of at most 75 octets, separated by spaces (RFC 2047 section 2)."""
    words: list[str] = []
    piece = b""
    for character in text:
        octets = character.encode("utf-8", "replace")
        if len(piece) + len(octets) > _WORD_OCTETS:
            words.append(_encoded_word(piece))
            piece = b""
        piece += octets
    if piece:
        words.append(_encoded_word(piece))
    return " ".join(words)


def _encoded_word(octets: bytes) -> str:
    return f"=?utf-8?b?{binascii.b2a_base64(octets, newline=False).decode('ascii')}?="


def unstructured(text: str) -> str:
    """Text for a Subject and the like (RFC 2047 section 5 rule 1): only what is not ASCII is encoded, and what only
    looks like an encoded-word, so that it is not decoded by mistake."""
    if text.isascii() and "=?" not in text:
        return text
    done: list[str] = []
    strange: list[str] = []
    for word in text.split(" "):
        if not word.isascii() or "=?" in word:
            strange.append(word)
            continue
        if strange:
            done.append(encoded_words(" ".join(strange)))
            strange = []
        done.append(word)
    if strange:
        done.append(encoded_words(" ".join(strange)))
    return " ".join(done)


def phrase(text: str, *, smtputf8: bool = False) -> str:
    """A display-name (RFC 5322 section 3.4): atoms as they are, else quoted, else encoded (RFC 2047 rule 3)."""
    text = one_line(text)
    if _ATOMS.match(text) and "=?" not in text:
        return text
    if smtputf8 or (text.isascii() and "=?" not in text):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return encoded_words(text)


def unitext(text: str) -> str:
    r"""ASCII for an address or a word that has more: ``\x{HEX}`` of RFC 6533 section 3 (utf-8-addr-xtext)."""
    return _UNITEXT.sub(lambda found: f"\\x{{{ord(found[0]):02X}}}", text)


def transfer(octets: bytes) -> Transfer:
    """Which Content-Transfer-Encoding the octets need as they are (RFC 2045 section 2.7 to 2.9): ``binary`` with a
    NUL, a bare CR or LF, or a line of more than 998 octets; ``8bit`` with an octet above 127; else ``7bit``."""
    ends = octets.count(b"\r\n")
    if b"\0" in octets or octets.count(b"\n") != ends or octets.count(b"\r") != ends or _too_long(octets):
        return "binary"
    return "7bit" if octets.isascii() else "8bit"


def _too_long(octets: bytes) -> bool:
    # 1000 octets without LF are 999 and a CR, or more; a last line without CRLF may hide 999.
    return _LONG_LINE.search(octets) is not None or len(octets) - octets.rfind(b"\n") - 1 > LINE_MAX


#: RFC 2045 section 6.7: octets of an encoded line, with the "=" at its end.
_QUOTED_MAX = 76


def quoted_printable(octets: bytes) -> bytes:
    """RFC 2045 section 6.7: CRLF stays a line end, everything else that could suffer on the way is encoded."""
    lines = [
        b"=\r\n".join(map(_cut, binascii.b2a_qp(line, quotetabs=False, istext=False, header=False).split(b"=\n")))
        for line in octets.split(b"\r\n")
    ]
    return b"\r\n".join(lines)


def _cut(line: bytes) -> bytes:
    """Python takes a bare LF, which it encodes, for the end of a line, and lets one octet too many stand before it."""
    if len(line) < _QUOTED_MAX:
        return line
    last = 3 if line[-3:-2] == b"=" else 1
    return line[:-last] + b"=\r\n" + line[-last:]
