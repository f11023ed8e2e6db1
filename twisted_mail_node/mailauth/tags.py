"""Tag=value lists (RFC 6376 section 3.2): the values of DKIM-Signature and of the ARC fields, and key records.

``read`` takes a list apart; the rest reads the kinds of values that several tags share.
"""

from __future__ import annotations

import re
from binascii import Error, a2b_base64
from math import inf

from twisted_mail_node.message.address import domain_key

#: Tags of a list. Signatures and keys have about ten, and all are compared with each other.
TAGS_MAX = 100
#: Octets of a list. An h= that names 1000 fields has some 20 000.
LIST_MAX = 64 << 10
#: Characters of what they wrote that a sentence quotes.
SHOWN_MAX = 60
#: RFC 1035 section 2.3.4: characters of a domain name.
DOMAIN_MAX = 253

_PLAIN = bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))
_CONTROL = re.compile(r"[\x80-\x9f\u2028\u2029]")
# RFC 5321 section 4.1.2: sub-domain. Some selectors and domains that are used have underscores: names of the DNS may.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_SELECTOR = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})+\Z")
_DIGITS = re.compile(r"[0-9]{1,76}\Z")


class TagError(ValueError):
    """A list, or a value in it, that is not what it must be; the sentence says why."""


def shown(text: str) -> str:
    """So much of what they wrote as fits a sentence, in printable ASCII and on one line."""
    return ascii(text if len(text) <= SHOWN_MAX else text[:SHOWN_MAX] + "...")


def read(octets: bytes) -> dict[str, str]:
    """The tags of a list with their values: unfolded, without white space around them, else as they stand.

    :param octets: a field's value, with its folding; or a TXT record, its strings joined.
    :raises TagError: it is no tag=value list (RFC 6376 section 3.2), or a tag stands in it twice.
    """
    if len(octets) > LIST_MAX:
        raise TagError(f"it has more than {LIST_MAX} octets")
    octets = octets.replace(b"\r\n", b"").replace(b"\t", b" ")
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise TagError("it has octets that are neither ASCII nor UTF-8") from None
    if octets.translate(None, _PLAIN) or (not text.isascii() and _CONTROL.search(text)):
        raise TagError("it has control characters")
    specs = text.split(";", TAGS_MAX + 1)
    if not specs[-1].strip(" "):  # a last semicolon
        specs.pop()
    if len(specs) > TAGS_MAX:
        raise TagError(f"it has more than {TAGS_MAX} tags")
    tags: dict[str, str] = {}
    for spec in specs:
        name, equals, value = spec.partition("=")
        name = name.strip(" ")
        if not equals or not (name.isascii() and name.isidentifier()) or name[0] == "_":
            raise TagError(f"a part of it is not of the form tag=value: {shown(spec.strip(' '))}")
        if name in tags:  # RFC 6376 section 3.2: void as a whole
            raise TagError(f"the tag {name}= stands in it twice")
        tags[name] = value.strip(" ")
    if not tags:
        raise TagError("it is empty")
    return tags


def without_white(text: str) -> str:
    """A value without the white space in it."""
    return text.replace(" ", "").replace("\t", "")


def base64_of(text: str) -> bytes:
    """The octets that base64 stands for; white space in it is ignored (RFC 6376 section 2.10).

    :raises TagError: it is not base64.
    """
    try:
        return a2b_base64(without_white(text).encode("ascii"), strict_mode=True)
    except (Error, UnicodeEncodeError):
        raise TagError("it is not base64") from None


def domain_of(text: str) -> str:
    """A domain name in look-up spelling: lower case, A-labels. It has two labels at least (RFC 6376 section 3.5).

    :raises TagError: it is none.
    """
    return _name(text, _DOMAIN, "domain name")


def selector_of(text: str) -> str:
    """A selector (RFC 6376 section 3.1) in look-up spelling.

    :raises TagError: it is none.
    """
    return _name(text, _SELECTOR, "selector")


def _name(text: str, pattern: re.Pattern[str], what: str) -> str:
    try:
        name = domain_key(text) if not text.endswith(".") else ""
    except ValueError:
        name = ""
    if len(name) > DOMAIN_MAX or not pattern.match(name):
        raise TagError(f"{shown(text)} is no {what}")
    return name


def listed(text: str) -> list[str]:
    """The parts of a list with colons, without white space around them."""
    return [part.strip(" ") for part in text.split(":")]


def number_of(text: str) -> int:
    """An unsigned number of at most 76 digits.

    :raises TagError: it is none.
    """
    if not _DIGITS.match(text):
        raise TagError(f"{shown(text)} is no number")
    return int(text)


def time_of(text: str) -> float:
    """A time, seconds since the epoch. More than 12 digits are infinity (RFC 6376 section 3.5, t=).

    :raises TagError: it is none.
    """
    number = number_of(text)
    return inf if len(text) > 12 else float(number)
