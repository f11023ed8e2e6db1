"""Macros of SPF records: the domain-spec of a term and the explain-string (RFC 7208 section 7).

A text is read once into pieces, and expanded for each mail. Who publishes the text wants of us what he likes, so both
are bounded: in the number of macros, and in what they may grow to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import NamedTuple
from urllib.parse import quote

from twisted_mail_node.message.address import domain_key

#: Characters of a domain name as text; longer expansions lose labels on the left (RFC 7208 section 7.3).
NAME_MAX = 253
#: Macros of one text. A name has 127 labels at most.
MACROS_MAX = 127
#: Characters of an explanation that anybody reads; a reply has room for them. RFC 7208 section 6.2 lets us choose.
EXPLANATION_MAX = 400
#: Characters of HELO and of a local-part that macros see.
VALUE_MAX = 512
#: Octets of the text that an explanation is made of. It is no place for essays.
EXPLAIN_STRING_MAX = 2048

#: What all terms may use, and what only the explanation may (RFC 7208 section 7.2).
_LETTERS = frozenset("slodipvh")
_EXPLAIN_LETTERS = _LETTERS | frozenset("crt")

_MACRO = re.compile(r"%(?:([%_-])|\{([A-Za-z])([0-9]*)([rR]?)([-.+,/_=]*)\})")
_FIXED = {"%": "%", "_": " ", "-": "%20"}
#: Pieces of a text that may all be expanded, whatever they grow to.
_FEW = 16
#: What is shorter has no label that is too long.
_LABEL_MAX = 64
_MAPPED = b"\0" * 10 + b"\xff\xff"
_TOPLABEL = re.compile(
    r"\.(?:[0-9]*[A-Za-z][A-Za-z0-9]*|[A-Za-z0-9]+-[A-Za-z0-9-]*[A-Za-z0-9])\.?\Z"
)  # both forms begin with a letter or digit, and no other dot stands in them
_IPV4 = re.compile(r"[0-9]+(?:\.[0-9]+){3}\.?\Z")
_UNPRINTABLE = re.compile(r"[^ -~]")
#: RFC 7208 section 4.3: two labels or more, none empty, none longer than 63; and what ends in a number is an address.
_DOMAIN = re.compile(r"(?:[!-\-/-Z^-~]{1,63}\.)+(?![0-9]+\Z)[!-\-/-Z^-~]{1,63}\Z")
#: A name that a question can be made of, whatever its labels hold: spaces may come from HELO.
_ASKABLE = re.compile(r"(?:[ -\-/-~]{1,63}\.)*[ -\-/-~]{1,63}\Z")


class SpfSyntaxError(ValueError):
    """A record, or a part of one, is malformed; the words say what is wrong."""


class Macro(NamedTuple):
    """A macro-expand.

    :ivar letter: lower case.
    :ivar escape: it was an upper-case letter: what it expands to is URL-escaped.
    :ivar parts: right-hand parts to keep; 0 for all.
    :ivar delimiters: ``""`` when the value is not split.
    :ivar plain: it is neither split nor escaped.
    """

    letter: str
    escape: bool
    parts: int
    reverse: bool
    delimiters: str
    plain: bool


class Spec(NamedTuple):
    """A domain-spec.

    :ivar pieces: text and macros in turns.
    :ivar name: the target-name, where no macro is in it; ``""`` when that cannot be a name in the DNS.
    :ivar local: it has the local-part in it: ``%{s}`` or ``%{l}``.
    :ivar client: it has the client's name in it, which costs questions: ``%{p}``.
    """

    pieces: tuple[str | Macro, ...]
    name: str | None
    local: bool = False
    client: bool = False


def domain_spec(text: str) -> Spec:
    """Read a domain-spec of printable ASCII without spaces.

    :raises SpfSyntaxError: the grammar of RFC 7208 section 7.1 does not have it.
    """
    if not text:
        raise SpfSyntaxError("a domain is missing")
    pieces, tail = _pieces(text, _LETTERS)
    if tail:  # it does not end in a macro: then in a dot and a toplabel, with or without another dot
        dot = tail.rfind(".", 0, -1)
        if dot < 0 or not _TOPLABEL.match(tail, dot):
            if _IPV4.match(text):
                raise SpfSyntaxError(f"{cut(text)} is an address, not a domain: addresses stand behind ip4:")
            raise SpfSyntaxError(f"{cut(text)} does not end as the name of a domain does")
    letters = letters_of(pieces)
    if not letters:
        return Spec(pieces, _target_name("".join(map(str, pieces))) or "")
    return Spec(pieces, None, not letters.isdisjoint("sl"), "p" in letters)


def explain_string(text: bytes) -> tuple[str | Macro, ...]:
    """Read the text of an explanation: a TXT record, joined.

    :raises SpfSyntaxError: it is malformed, or too long.
    """
    if len(text) > EXPLAIN_STRING_MAX:
        raise SpfSyntaxError("the explanation is too long")
    string = text.decode("latin-1")
    if _UNPRINTABLE.search(string):
        raise SpfSyntaxError("the explanation holds something else than printable ASCII")
    return _pieces(string, _EXPLAIN_LETTERS)[0]


def letters_of(pieces: Sequence[str | Macro]) -> frozenset[str]:
    """The macro letters in a text."""
    return frozenset([piece.letter for piece in pieces if isinstance(piece, Macro)])


def check_macros(text: str) -> None:
    """Whether a macro-string is well-formed, for modifiers that we do not know.

    :raises SpfSyntaxError: it is not.
    """
    _pieces(text, _EXPLAIN_LETTERS)


def expand_name(spec: Spec, values: Mapping[str, str]) -> str | None:
    """The target-name, in lower case; ``None`` when it cannot be a name in the DNS.

    :param values: by letter; those of the macros at least.
    """
    if spec.name is not None:
        return spec.name or None
    pieces = spec.pieces
    if len(pieces) <= _FEW:
        texts = []
        for piece in pieces:
            if isinstance(piece, str):
                texts.append(piece)
            else:
                texts.append(values[piece.letter] if piece.plain else _value(piece, values))
        return _target_name("".join(texts))
    # From the right, since it is the left that is cut: no more is made than can be used.
    found: list[str] = []
    length = 0
    for piece in reversed(pieces):
        text = piece if isinstance(piece, str) else _value(piece, values)
        found.append(text)
        length += len(text)
        if length > NAME_MAX + 1:
            break
    found.reverse()
    return _target_name("".join(found))


def expand_explanation(pieces: Sequence[str | Macro], values: Mapping[str, str]) -> str:
    """One line of printable US-ASCII, bounded (RFC 7208 section 6.2). What came with the mail may hold anything."""
    found = ""
    for piece in pieces:
        found += piece if isinstance(piece, str) else _value(piece, values)
        if len(found) > EXPLANATION_MAX:
            break
    return _UNPRINTABLE.sub("?", found)[:EXPLANATION_MAX].strip(" ")


def cut(text: str, most: int = 100) -> str:
    """A text of others for a sentence of ours: bounded, one line, printable ASCII."""
    text = text if len(text) <= most else text[: most - 3] + "..."
    return _UNPRINTABLE.sub("?", text)


def _pieces(text: str, letters: frozenset[str]) -> tuple[tuple[str | Macro, ...], str]:
    """The pieces, and what stands behind the last macro-expand (``%%``, ``%_`` and ``%-`` are some, too)."""
    if "%" not in text:
        return ((text,) if text else ()), text
    pieces: list[str | Macro] = []
    literal = ""
    at = found = 0
    while (percent := text.find("%", at)) >= 0:
        match = _MACRO.match(text, percent)
        if match is None:
            raise SpfSyntaxError(f"{cut(text[percent:], 12)} is no macro")
        found += 1
        if found > MACROS_MAX:
            raise SpfSyntaxError(f"there are more than {MACROS_MAX} macros in one text")
        literal += text[at:percent]
        if match[1]:
            literal += _FIXED[match[1]]
        else:
            if literal:
                pieces.append(literal)
                literal = ""
            pieces.append(_macro(match, letters))
        at = match.end()
    if literal + text[at:]:
        pieces.append(literal + text[at:])
    return tuple(pieces), text[at:]


def _macro(match: re.Match[str], letters: frozenset[str]) -> Macro:
    letter, digits, reverse, delimiters = match.group(2, 3, 4, 5)
    if letter.lower() not in letters:
        known = letter.lower() in _EXPLAIN_LETTERS
        raise SpfSyntaxError(f"{cut(match[0])} is {'for explanations only' if known else 'no macro'}")
    parts = 0
    if digits:
        significant = digits.lstrip("0")
        if not significant:  # RFC 7208 section 7.3: "the value MUST be nonzero"
            raise SpfSyntaxError(f"{cut(match[0])} keeps nothing")
        parts = int(significant) if len(significant) <= 4 else 0  # no value has so many
    split = (delimiters or ".") if digits or reverse or delimiters else ""
    escape = letter.isupper()
    return Macro(letter.lower(), escape, parts, bool(reverse), split, not split and not escape)


def _value(macro: Macro, values: Mapping[str, str]) -> str:
    """What a macro expands to (RFC 7208 section 7.3)."""
    letter, escape, keep, reverse, delimiters, _ = macro
    value = values[letter]
    if delimiters:
        first = delimiters[0]
        if len(delimiters) > 1:
            for other in set(delimiters):
                value = value.replace(other, first)
        parts = value.split(first)
        if reverse:
            parts.reverse()
        value = ".".join(parts[-keep:])
    # All but what RFC 3986 section 2.3 calls unreserved is escaped.
    return quote(value, safe="", errors="replace") if escape else value


def _target_name(name: str) -> str | None:
    """A name for a question, out of the text of a domain (RFC 7208 sections 4.8 and 7.3)."""
    name = name.removesuffix(".")
    if len(name) > NAME_MAX:
        # Label by label from the left: what is left begins behind the first dot that leaves at most 253.
        dot = name.find(".", len(name) - NAME_MAX - 1)
        if dot < 0:
            return None
        name = name[dot + 1 :]
    # A name that no question can be made of is one that does not exist: RFC 7208 section 4.8 leaves it to us.
    if len(name) < _LABEL_MAX:
        good = (
            name.isascii() and name.isprintable() and name[:1] not in ("", ".") and name[-1] != "." and ".." not in name
        )
    else:
        good = _ASKABLE.match(name) is not None
    return name.lower() if good else None


@lru_cache(maxsize=4096)
def is_domain(name: str) -> bool:
    """Whether check_host() takes a name for a domain (RFC 7208 section 4.3)."""
    return len(name) <= NAME_MAX and _DOMAIN.match(name) is not None


def well_formed(domain: str) -> str | None:
    """The spelling that is asked for; ``None`` when RFC 7208 section 4.3 calls it malformed."""
    return _well_formed(domain) if len(domain) <= NAME_MAX + 1 else None


@lru_cache(maxsize=4096)
def _well_formed(domain: str) -> str | None:
    if domain.endswith(".."):
        return None
    try:
        name = domain_key(domain)
    except ValueError:
        return None
    return name if is_domain(name) else None


class Client(NamedTuple):
    """A client's address.

    :ivar text: in its usual spelling; that of an IPv4 address is the only one.
    """

    number: int
    is_ip6: bool
    text: str


def read_client(text: str) -> Client | None:
    """An address; ``None`` when it is none. An IPv4-mapped IPv6 address is an IPv4 address (RFC 7208 section 5)."""
    try:
        if ":" not in text:
            return Client(int.from_bytes(inet_pton(AF_INET, text), "big"), False, text)
        octets = inet_pton(AF_INET6, text.partition("%")[0])  # a zone means something to us only
    except (OSError, ValueError):
        return None
    if octets.startswith(_MAPPED):
        return Client(int.from_bytes(octets[12:], "big"), False, inet_ntop(AF_INET, octets[12:]))
    return Client(int.from_bytes(octets, "big"), True, inet_ntop(AF_INET6, octets))


class MacroValues(dict[str, str]):
    """What macros stand for, by letter (RFC 7208 sections 7.2 and 7.3); each is made when it is first wanted.

    ``d`` and ``p`` are put in by who evaluates a record.
    """

    __slots__ = ("_mail",)

    def __init__(self, client: Client, sender: str, helo: str, receiver: str, now: float) -> None:
        self._mail = client, sender, helo, receiver, now

    def __missing__(self, letter: str) -> str:
        value = self[letter] = self._make(letter)
        return value

    def _make(self, letter: str) -> str:
        client, sender, helo, receiver, now = self._mail
        if letter == "i":
            return ".".join(f"{client.number:032X}") if client.is_ip6 else client.text
        if letter == "v":
            return "ip6" if client.is_ip6 else "in-addr"
        if letter == "l":
            return sender.rpartition("@")[0][:VALUE_MAX] or "postmaster"  # RFC 7208 section 4.3
        if letter == "o":
            return _a_labels(sender.rpartition("@")[2])
        if letter == "s":
            return f"{self['l']}@{self['o']}"
        if letter == "h":
            return _a_labels(helo)
        if letter == "c":
            return client.text
        if letter == "r":
            return receiver or "unknown"
        if letter == "t":
            return str(int(now))
        raise KeyError(letter)


def _a_labels(domain: str) -> str:
    """A domain as macros see it (RFC 8616 section 4)."""
    domain = domain[:VALUE_MAX]
    return domain if domain.isascii() else well_formed(domain) or domain
