"""The ARC Sets of a mail (RFC 8617 section 4.2): its three kinds of header fields, told apart and put in order.

``collect`` is made for what strangers send: what is no chain becomes a sentence, nothing is raised, and no more fields
are read than fifty sets have.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from twisted_mail_node.mailauth.canonical import HeaderFields
from twisted_mail_node.mailauth.tags import TagError, domain_of, read, shown
from twisted_mail_node.message.header import Field, has

#: RFC 8617 section 4.2.1: instances are numbered from 1 to 50.
INSTANCE_MAX = 50

#: The fields of a set in the order in which a seal signs them (RFC 8617 section 5.1.1).
KINDS = ("ARC-Authentication-Results", "ARC-Message-Signature", "ARC-Seal")
#: More fields than the largest chain has: not read.
FIELDS_MAX = INSTANCE_MAX * len(KINDS)

_PLAIN = re.compile(rb"[ \t\r\n]*i[ \t\r\n]*=[ \t\r\n]*([0-9]{1,2})[ \t\r\n]*;")
_SPACE = re.compile(rb"[ \t\r\n]*")
_PAREN = re.compile(rb"\\.|[()]", re.DOTALL)
_NUMBER = re.compile(rb"[0-9]{1,2}(?![0-9])")


class Part(NamedTuple):
    """One field of a chain.

    :ivar kind: its place in ``KINDS``.
    :ivar place: its place among the fields of the header.
    :ivar tags: of a message signature or a seal.
    :ivar payload: of authentication results: what stands behind the instance.
    """

    kind: int
    instance: int
    place: int
    field: Field
    tags: dict[str, str]
    payload: bytes = b""

    @property
    def name(self) -> str:
        """The name of the field."""
        return KINDS[self.kind]

    @property
    def domain(self) -> str:
        """d= in the spelling of look-ups; quoted when it is no domain."""
        written = self.tags.get("d", "")
        try:
            return domain_of(written)
        except TagError:
            return shown(written)

    @property
    def status(self) -> str:
        """cv=, in lower case (RFC 8617 section 3.9: literal text of ABNF is of any case)."""
        return _bare(self.tags.get("cv", "").encode()).decode("ascii", "replace").lower()


class ArcSet(NamedTuple):
    """The fields of one instance."""

    results: Part
    message: Part
    seal: Part

    @property
    def instance(self) -> int:
        """From 1 on."""
        return self.seal.instance


class Chain(NamedTuple):
    """What ARC fields a mail has.

    :ivar sets: in order of their instances, when the structure is that of a chain; else none.
    :ivar highest: the highest instance that is named anywhere; 0 without ARC.
    :ivar problem: why this is no chain; then ``sets`` is empty.
    :ivar ended: nobody may add a set: the newest seal says that the chain failed, or all fifty instances are used.
    """

    sets: tuple[ArcSet, ...] = ()
    highest: int = 0
    problem: str = ""
    ended: bool = False


def there(header: bytes) -> bool:
    """Whether a header section has any field of ARC."""
    return b"arc-" in header.lower() and any(has(header, name.encode("ascii")) for name in KINDS)


def collect(fields: HeaderFields) -> Chain:
    """Steps 1 to 3 of RFC 8617 section 5.2: the sets are collected, and their structure is that of a chain."""
    found = [(kind, place) for kind, name in enumerate(KINDS) for place in fields.places(name.lower().encode("ascii"))]
    if not found:
        return Chain()
    if len(found) > FIELDS_MAX:
        return Chain((), INSTANCE_MAX, f"there are more ARC fields than {INSTANCE_MAX} sets have", True)
    parts: list[Part] = []
    problem = ""
    for kind, place in found:
        try:
            parts.append(_part(kind, place, fields.fields[place]))
        except ValueError as error:
            problem = problem or str(error)
    highest = max((part.instance for part in parts), default=0)
    if highest > INSTANCE_MAX:
        return Chain((), highest, f"instance {highest} is above the {INSTANCE_MAX} that are allowed", True)
    broken = [part for part in parts if part.instance == highest and part.kind == 2 and part.status == "fail"]
    if broken:
        said = f"the seal of instance {highest} ({broken[0].domain}) says that the chain was broken already"
        return Chain((), highest, said, True)
    sets, wrong = _sets(parts, highest)
    problem = problem or wrong
    return Chain(() if problem else sets, highest, problem, highest == INSTANCE_MAX)


def _sets(parts: list[Part], highest: int) -> tuple[tuple[ArcSet, ...], str]:
    """The sets; or what is wrong with their structure."""
    of: dict[tuple[int, int], Part] = {}
    for part in parts:
        if of.setdefault((part.instance, part.kind), part) is not part:
            return (), f"instance {part.instance} has more than one {part.name}"
    sets: list[ArcSet] = []
    for instance in range(1, highest + 1):
        for kind, name in enumerate(KINDS):
            if (instance, kind) not in of:
                return (), f"instance {instance} has no {name}"
        sets.append(ArcSet(of[instance, 0], of[instance, 1], of[instance, 2]))
    for instance, each in enumerate(sets, 1):
        wanted = "pass" if instance > 1 else "none"
        if each.seal.status != wanted:
            return (), f"the seal of instance {instance} ({each.seal.domain}) must say cv={wanted}, and does not"
    return tuple(sets), ""


def _part(kind: int, place: int, field: Field) -> Part:
    """:raises ValueError: it has no instance, or its tags are no tags."""
    try:
        number, payload = _leading(field.value)
        if kind == 0:
            return Part(kind, _instance(number), place, field, {}, payload)
        # RFC 8617 sections 4.1.2 and 4.1.3 want the instance first. Others write their tags in any order.
        tags = read(payload if number else field.value)
        if number and "i" in tags:
            raise ValueError("it has two instances")
        return Part(kind, _instance(number or _bare(tags.get("i", "").encode())), place, field, tags)
    except ValueError as error:
        raise ValueError(f"an {KINDS[kind]} field cannot be read: {error}") from error


def _leading(value: bytes) -> tuple[bytes, bytes]:
    """``instance [CFWS] ";"`` at the beginning of a value (RFC 8617 section 3.9): its number, and what follows. The
    number is empty when the value does not begin so."""
    plain = _PLAIN.match(value)
    if plain:
        return plain[1], value[plain.end() :]
    at = _after_cfws(value, 0)
    if value.startswith(b"i", at):
        at = _after_cfws(value, at + 1)
        if value.startswith(b"=", at):
            number = _NUMBER.match(value, _after_cfws(value, at + 1))
            if number and value.startswith(b";", at := _after_cfws(value, number.end())):
                return number[0], value[at + 1 :]
    return b"", value


def _bare(value: bytes) -> bytes:
    """A value without the comments before it, which ``[CFWS] position`` and ``[CFWS] chain-status`` allow."""
    return value[_after_cfws(value, 0) :]


def _instance(number: bytes) -> int:
    """:raises ValueError: it is no instance."""
    if not _NUMBER.fullmatch(number):
        raise ValueError("it has no instance of one or two digits")
    if not int(number):
        raise ValueError("instances begin at 1")
    return int(number)


def _after_cfws(value: bytes, at: int) -> int:
    """Where comments and folding white space end that begin at ``at`` (RFC 5322 section 3.2.2)."""
    while True:
        at = _space_end(value, at)
        if not value.startswith(b"(", at):
            return at
        depth = 0
        for found in _PAREN.finditer(value, at):
            depth += {b"(": 1, b")": -1}.get(found[0], 0)
            if not depth:
                at = found.end()
                break
        else:
            return at


def _space_end(value: bytes, at: int) -> int:
    found = _SPACE.match(value, at)
    return found.end() if found else at
