"""The Author Domain of a mail: the domain in its From field (RFC 9989 section 5.3.1, before it RFC 7489 section 6.6.1).

Whoever reads the mail believes From, so it must mean one thing to everybody: to us, to every reader of mail, and to
every other check. Where two readers might see two authors there is no author here, but a sentence that says why (RFC
9989 section 11.5). Nothing is repaired, nothing is guessed.

Names beside addresses are of no account: what they pretend cannot be told by a machine (RFC 9989 section 11.4). But
some readers decode encoded-words first, or look for angle brackets first, and find the author then: names that hold
such addresses make a mail one without an author.
"""

from __future__ import annotations

import binascii
import re
from contextlib import suppress
from encodings import normalize_encoding
from encodings.aliases import aliases
from functools import lru_cache
from typing import NamedTuple

from twisted_mail_node.message.address import domain_key
from twisted_mail_node.message.encoding import one_line
from twisted_mail_node.message.header import count
from twisted_mail_node.smtp.mailboxes import VALUE_MAX, MailboxError, mailboxes, tokens

#: Domains of a From field that tells no sure author; honest ones hold two.
MENTIONED_MAX = 5
#: Octets of a From field that is remembered with its domain; hardly any is longer.
REMEMBERED_MAX = 512

_END = re.compile(rb"\r\n(?![ \t])")
_EMPTY_LINE = re.compile(rb"\r\n[ \t]+(?:\r\n|\Z)")
_CLOSE_COMMENT = re.compile(rb"@[^@()<>,;\"\s]*\(")
_ENCODED_WORD = re.compile(r"=\?([^?\s]+)\?([BbQq])\?([^?]*)\?=(?:[ \t\r\n]+(?==\?))?")
_AT = re.compile(r"@\s*([^\s\"(),:;<>@\[\\\]]*\.[^\s\"(),:;<>@\[\\\]]+)")
#: Codecs of Python for character sets, by all their names. Only these are asked for: Python searches long for one that
#: it does not have, and remembers for ever that it has none.
_CODECS = {name: codec for alias, codec in aliases.items() for name in (alias, codec) if codec not in ("mbcs", "oem")}
_NUMERIC = re.compile(r"[0-9.]+|(?:.*\.)?(?:[0-9]+|0x[0-9a-f]+)")


class Author(NamedTuple):
    """Who wrote it, as far as DMARC goes.

    :ivar domain: in lower case and A-labels; ``""`` when there is no sure one.
    :ivar problem: why not, as a sentence; ``""`` means that there is exactly one From field with one sure domain.
    :ivar grave: the problem is one that no honest program makes: where the header section ends, or which field is
        From, depends on who reads it.
    :ivar mentioned: without a sure domain, those that some reader may take for the author's.
    """

    domain: str
    problem: str
    grave: bool = False
    mentioned: tuple[str, ...] = ()


def author(header: bytes) -> Author:
    """The author's domain.

    :param header: the whole header section, with the empty line at its end (``message.header``). Without that line it
        has been ended by a line that is no field, below which other readers would go on.
    """
    if not header.endswith(b"\r\n\r\n") and header != b"\r\n":
        return Author("", "The header section does not end with an empty line.", True)
    if header.count(b"\n") != header.count(b"\r\n") or header.count(b"\r") != header.count(b"\r\n") or b"\0" in header:
        return Author("", "The header section holds a CR or LF alone, or a NUL.", True)
    fields = count(header, b"From")
    if fields != 1:
        return Author("", f"There are {fields} From fields.", True) if fields else Author("", "There is no From field.")
    start = _start(header.lower())
    if start < 0:
        return Author("", "White space stands between From and its colon.", True)
    end = _END.search(header, start)
    assert end is not None
    value = header[start : end.start()]
    return _remembered(value) if len(value) <= REMEMBERED_MAX else _known(value)


def _start(low: bytes) -> int:
    """Where the value of the From field begins, in a header section in lower case; -1 without ``from:``."""
    if low.startswith(b"from:"):
        return 5
    found = low.find(b"\r\nfrom:")
    return found + 7 if found >= 0 else -1


def _known(value: bytes) -> Author:
    """The domain of a From field's value, or those that it mentions."""
    if len(value) > VALUE_MAX:  # so many authors has no honest mail, and looking for their domains would take long
        return Author("", f"From is longer than {VALUE_MAX} octets.", True)
    found = _read(value)
    if not found.problem:
        return found
    domains = _mentioned(value)
    return found._replace(grave=len(domains) > MENTIONED_MAX, mentioned=domains[:MENTIONED_MAX])


def _mentioned(value: bytes) -> tuple[str, ...]:
    """All domains behind an @, encoded-words decoded or not: one more than ``MENTIONED_MAX`` at most."""
    text = value.decode("utf-8", "replace")
    decoded = _ENCODED_WORD.sub(lambda found: _decoded(*found.groups()), text)
    domains: dict[str, None] = {}
    for found in _AT.finditer(one_line(f"{text} {decoded}" if decoded != text else text)):
        with suppress(ValueError):
            domains[domain_key(found[1].strip("'."))] = None
        if len(domains) > MENTIONED_MAX:
            break
    return tuple(domains)


def _read(value: bytes) -> Author:
    """The domain of a From field's value."""
    if _EMPTY_LINE.search(value + b"\r\n"):
        return Author("", "From: a line of it is empty.")
    try:
        found = mailboxes(value, plain=True)
        domains = {domain_key(address.domain) for address in found}
    except (MailboxError, ValueError) as error:
        return Author("", f"From: {error}.")
    if len(domains) != 1:
        return Author("", "From: addresses of different domains." if domains else "From: it has no address.")
    if any("=?" in address.local_part or one_line(address.local_part) != address.local_part for address in found):
        return Author("", "From: an address holds an encoded-word, or characters that cannot be seen.")
    if b'"' in value and any(_deceives(token.text) for token in tokens(value) if token.kind == "quoted"):
        return Author("", "From: quotes stand around what looks like another address.")
    if _CLOSE_COMMENT.search(value):
        return Author("", "From: a comment stands close behind a domain.")
    (domain,) = domains
    if domain[:1] in ("", "[") or _NUMERIC.fullmatch(domain):
        return Author("", "From: an IP address is no domain.")
    if b"=?" in value and not _harmless(value.decode(), domain):
        return Author("", "From: an encoded-word holds an address.")
    return Author(domain, "")


def _deceives(quoted: str) -> bool:
    """Whether one who looks for brackets first, or does not know backslashes, finds an address in a quoted string."""
    return "@" in quoted and ("<" in quoted or "\\" in quoted)


_remembered = lru_cache(maxsize=2048)(_known)


def _harmless(text: str, domain: str) -> bool:
    """Whether, with its encoded-words decoded (RFC 2047), a text shows no addresses but those of this domain."""
    decoded = _ENCODED_WORD.sub(lambda found: _decoded(*found.groups()), text)
    for found in _AT.findall(one_line(decoded)):
        try:
            if domain_key(found) != domain:
                return False
        except ValueError:
            return False
    return True


def _decoded(charset: str, encoding: str, text: str) -> str:
    codec = _CODECS.get(normalize_encoding(charset.partition("*")[0]).lower(), "latin-1")
    octets = text.encode("utf-8")
    try:
        octets = binascii.a2b_base64(octets + b"==") if encoding in "Bb" else binascii.a2b_qp(octets, header=True)
        return octets.decode(codec, "replace")
    except LookupError:
        return octets.decode("latin-1")
    except ValueError:  # broken base64, which others read somehow
        return "@?.?"
