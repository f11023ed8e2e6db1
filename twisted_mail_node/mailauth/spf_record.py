"""Reads SPF records: ``v=spf1`` and its directives and modifiers (RFC 7208 sections 4.5, 4.6.1, 5, 6 and 12).

The whole record is read before anything of it is evaluated, so that an error anywhere is found (section 4.6). What was
read is kept: the same few records come again and again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_pton
from typing import NamedTuple

from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.mailauth.spf_macros import Spec, SpfSyntaxError, check_macros, cut, domain_spec

#: Octets of a record. RFC 7208 section 3.4 advises 450; the longest that are meant are some thousand.
RECORD_MAX = 8192
#: Terms of a record; the longest that are meant have half as many. Reading one takes some microseconds.
RECORD_TERMS_MAX = 400
#: Characters of a term that are told.
TERM_MAX = 120
#: Records that are kept, read, of up to ``_SHORT`` octets, and longer ones. What is read of an octet can take 60.
_KEPT, _SHORT, _KEPT_LONG = 512, 1024, 32

_BEGINNINGS = frozenset((b"v=spf1", b"v=spf1 "))
_QUALIFIERS = {"": Result.PASS, "+": Result.PASS, "-": Result.FAIL, "~": Result.SOFTFAIL, "?": Result.NEUTRAL}
_DIRECTIVE = re.compile(r"([-+?~]?)(all|include|a|mx|ptr|ip4|ip6|exists)(?![^:/])(.*)\Z", re.ASCII | re.IGNORECASE)
_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9._-]*)=(.*)\Z")
_LENGTHS = re.compile(r"(?:/(0|[1-9][0-9]{0,2}))?(?://(0|[1-9][0-9]{0,2}))?\Z")
_NETWORK = re.compile(r":([0-9A-Fa-f.:]+)(?:/(0|[1-9][0-9]{0,2}))?\Z")
#: What people write instead.
_MEANT = {
    "ip": "ip4",
    "ipv4": "ip4",
    "ipv6": "ip6",
    "all.": "all",
    "prt": "ptr",
    "exist": "exists",
    "inlcude": "include",
}


class Directive(NamedTuple):
    """A mechanism with its qualifier; the modifiers ``redirect`` and ``exp``, too.

    :ivar kind: the name, in lower case; ``ip`` for both ip4 and ip6, whose network and shifts are of their family.
    :ivar result: what check_host() returns when it matches.
    :ivar text: as the record has it, bounded.
    :ivar network: of ip4 and ip6: the high-order bits that are compared, as a number.
    :ivar shift4: low-order bits of an IPv4 address that are not compared; ``shift6`` is that of IPv6 addresses.
    :ivar spec: the domain-spec; ``None`` for the domain itself.
    """

    kind: str
    result: Result
    text: str
    network: int = 0
    shift4: int = 0
    shift6: int = 0
    spec: Spec | None = None


class SpfRecord(NamedTuple):
    """A record, read.

    :ivar ip4: the directives that can match an IPv4 client, up to the first ``all``.
    :ivar ip6: those that can match an IPv6 client.
    :ivar redirect: ``None``, too, when there is an ``all`` (RFC 7208 section 6.1).
    :ivar problem: what is malformed, as the end of a sentence; then nothing else counts.
    """

    ip4: tuple[Directive, ...] = ()
    ip6: tuple[Directive, ...] = ()
    redirect: Directive | None = None
    explanation: Directive | None = None
    problem: str = ""


def select(records: Sequence[bytes]) -> list[bytes]:
    """Those of a domain's TXT records that are SPF records (RFC 7208 section 4.5)."""
    return [record for record in records if record[:7].lower() in _BEGINNINGS]


def read_record(octets: bytes) -> SpfRecord:
    """Read a record that ``select`` gave."""
    if len(octets) <= _SHORT:
        return _read_short(octets)
    return _read_long(octets) if len(octets) <= RECORD_MAX else _TOO_LONG


_TOO_LONG = SpfRecord(problem=f"it is longer than {RECORD_MAX} octets")


def _read(octets: bytes) -> SpfRecord:
    try:
        return _terms(octets)
    except SpfSyntaxError as error:
        return SpfRecord(problem=str(error))


_read_short = lru_cache(maxsize=_KEPT)(_read)
_read_long = lru_cache(maxsize=_KEPT_LONG)(_read)


def _terms(octets: bytes) -> SpfRecord:
    if not octets.isascii():
        raise SpfSyntaxError("it holds octets that are not ASCII")
    text = octets.decode("ascii")
    if not text.isprintable():
        raise SpfSyntaxError("it holds a control character")
    directives: list[Directive] = []
    families: list[str] = []
    modifiers: dict[str, Directive] = {}
    terms = [term for term in text[6:].split(" ") if term]
    if len(terms) > RECORD_TERMS_MAX:
        raise SpfSyntaxError(f"it has more than {RECORD_TERMS_MAX} terms")
    for term in terms:
        match = _DIRECTIVE.match(term)
        if match is not None:
            directives.append(_directive(term, *match.groups()))
            families.append(match[2][2:] if match[2][:2].lower() == "ip" else "46")
            continue
        match = _MODIFIER.match(term)
        if match is None:
            raise SpfSyntaxError(_unknown(term))
        _modifier(term, match[1].lower(), match[2], modifiers)
    redirect = modifiers.get("redirect")
    for at, directive in enumerate(directives):
        if directive.kind == "all":
            del directives[at + 1 :]  # RFC 7208 section 5.1: what follows is never reached
            redirect = None
            break
    return SpfRecord(
        tuple([each for each, family in zip(directives, families, strict=False) if family != "6"]),
        tuple([each for each, family in zip(directives, families, strict=False) if family != "4"]),
        redirect,
        modifiers.get("exp"),
    )


def _modifier(term: str, name: str, value: str, modifiers: dict[str, Directive]) -> None:
    """RFC 7208 section 6: the two that are defined may stand there once, all others are passed over."""
    try:
        if name not in ("redirect", "exp"):
            check_macros(value)
        elif name in modifiers:
            raise SpfSyntaxError("it is there twice")
        else:
            modifiers[name] = Directive(name, Result.NEUTRAL, cut(term, TERM_MAX), spec=domain_spec(value))
    except SpfSyntaxError as error:
        raise SpfSyntaxError(f"in {cut(term)!r}: {error}") from None


def _directive(term: str, qualifier: str, mechanism: str, rest: str) -> Directive:
    result = _QUALIFIERS[qualifier]
    kind = mechanism.lower()
    try:
        if kind in ("ip4", "ip6"):
            return _network(cut(term, TERM_MAX), result, kind, rest)
        if kind == "all":
            if rest:
                raise SpfSyntaxError("nothing may follow all")
            return Directive(kind, result, term)
        shift4 = shift6 = 0
        if kind in ("a", "mx"):
            lengths = _LENGTHS.search(rest)
            assert lengths is not None  # it matches at the end at least
            if lengths[0]:
                shift4 = _shift(lengths[1], 32)
                shift6 = _shift(lengths[2], 128)
                rest = rest[: lengths.start()]
        if rest[:1] == "/":
            raise SpfSyntaxError(f"{cut(rest)} is no prefix length")
        if not rest and kind in ("include", "exists"):
            raise SpfSyntaxError("a domain is missing")
        spec = domain_spec(rest[1:]) if rest else None
    except SpfSyntaxError as error:
        raise SpfSyntaxError(f"in {cut(term)!r}: {error}") from None
    return Directive(kind, result, cut(term, TERM_MAX), 0, shift4, shift6, spec)


def _network(text: str, result: Result, kind: str, rest: str) -> Directive:
    match = _NETWORK.match(rest)
    size, family = (32, AF_INET) if kind == "ip4" else (128, AF_INET6)
    try:
        if match is None:
            raise OSError
        number = int.from_bytes(inet_pton(family, match[1]), "big")
    except OSError:
        raise SpfSyntaxError(f"{cut(rest[1:])!r} is no {'IPv4' if size == 32 else 'IPv6'} network") from None
    shift = _shift(match[2], size)
    return Directive("ip", result, text, number >> shift, shift, shift)


def _shift(length: str | None, size: int) -> int:
    if length is None:
        return 0
    if int(length) > size:
        raise SpfSyntaxError(f"a prefix length is at most {size}, not {length}")
    return size - int(length)


def _unknown(term: str) -> str:
    name = re.split("[:/=]", term.lstrip("+-?~"), maxsplit=1)[0].lower()
    if name in ("redirect", "exp"):
        return f"{cut(term)} is no mechanism: {name} is written with an equals sign, and without a qualifier"
    words = f"{cut(term)} is neither a mechanism nor a modifier"
    if name in _MEANT:
        return f"{words} ({_MEANT[name]} is meant?)"
    return f"{words} (terms are parted by spaces, not by commas)" if "," in term else words
