"""Header fields as signatures cover them: canonicalized (RFC 6376 section 3.4), chosen by h=, joined (section 3.7).

For DKIM-Signature and for the fields of ARC alike::

    fields = HeaderFields(header)
    octets = fields.signed_octets(names, own, "relaxed")
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from twisted_mail_node.message.header import Field, fields

#: Runs of spaces that become one space, in this order; twos are then replaced until none are left: three times at most
#: for a run of 64 KiB. So spaces cost as many passes at most, each at the speed of C.
RUNS = (1024, 64, 12, 4)

#: Octets that are so few that the longest run of spaces among them takes twelve passes at most.
_SHORT = 4096
#: Names of an h= that is remembered.
_REMEMBERED = 100

_TABS = bytes.maketrans(b"\t", b" ")
_SIGNATURE_TAG = re.compile(rb"(?:\A|;)[ \t\r\n]*+b[ \t\r\n]*+=")


def single_spaces(octets: bytes) -> bytes:
    """Runs of spaces become one space, in a bounded number of passes (a test counts)."""
    for run in RUNS if len(octets) > _SHORT else ():
        octets = octets.replace(b" " * run, b" ")
    while b"  " in octets:
        octets = octets.replace(b"  ", b" ")
    return octets


def relaxed(field: Field) -> bytes:
    """A field by the "relaxed" algorithm (RFC 6376 section 3.4.2), without the CRLF at its end."""
    return _joined(field.name.lower(), field.value.replace(b"\r\n", b"").replace(b"\t", b" "))


def _joined(key: bytes, value: bytes) -> bytes:
    """:param value: unfolded, with spaces for tabs."""
    if b"  " in value:
        value = single_spaces(value)
    return b"%b:%b" % (key, value.strip(b" "))


def simple(field: Field) -> bytes:
    """A field by the "simple" algorithm (RFC 6376 section 3.4.1), without the CRLF at its end."""
    return field.raw


def emptied(field: Field) -> Field:
    """A signature's field with the value of its b= and all white space around it deleted (RFC 6376 section 3.7).

    :param field: with one b= (``tags.read`` has seen to that); without one it stays as it is.
    """
    kept = _emptied(field.value)
    return Field(field.name, kept, field.raw[: len(field.raw) - len(field.value)] + kept)


def _emptied(value: bytes) -> bytes:
    start = value.rfind(b"b=") + 2
    if start < 2 or not value[: start - 2].rstrip(b" \t\r\n").endswith(b";"):  # in another tag, or with a space
        found = _SIGNATURE_TAG.search(value)
        if found is None:
            return value
        start = found.end()
    end = value.find(b";", start)
    return value[:start] + (value[end:] if end >= 0 else b"")


def signed_octets(chosen: Iterable[Field], own: Field, canonicalization: str) -> bytes:
    """What a signature signs: the chosen fields in their order, and its own with b= emptied, which has no CRLF
    (RFC 6376 section 3.7).

    :param canonicalization: ``simple`` or ``relaxed``, of the header.
    """
    canonical = relaxed if canonicalization == "relaxed" else simple
    lines = [canonical(field) for field in chosen]
    lines.append(canonical(emptied(own)))
    return b"\r\n".join(lines)


@lru_cache(maxsize=256)
def _turns(names: tuple[bytes, ...]) -> tuple[tuple[bytes, int], ...]:
    """Each name with how often it has stood there up to here."""
    counts: dict[bytes, int] = {}
    found = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        found.append((name, counts[name]))
    return tuple(found)


class HeaderFields:
    """The fields of a header section, found by name from the bottom up, and canonicalized once, however many
    signatures cover them.

    They are those of ``message.header.fields``: one meaning for everybody (a test compares).
    """

    __slots__ = ("_canonical", "_fields", "_header", "_pairs", "_places")

    def __init__(self, header: bytes) -> None:
        self._header = header
        self._fields: list[Field] | None = None
        self._canonical: dict[int, bytes] = {}
        pairs: list[tuple[bytes, bytes]] = []
        places: dict[bytes, list[int]] = {}
        for line in header.translate(_TABS).replace(b"\r\n ", b" ").split(b"\r\n"):
            name, colon, value = line.partition(b":")
            if not colon:
                break
            key = name.rstrip(b" ").lower()
            if key in places:
                places[key].append(len(pairs))
            else:
                places[key] = [len(pairs)]
            pairs.append((key, value))
        self._pairs = pairs
        self._places = places

    @property
    def fields(self) -> list[Field]:
        """All of them as they stand there, from the top down."""
        if self._fields is None:
            self._fields = fields(self._header)
        return self._fields

    def field(self, place: int) -> Field:
        """The field that stands there, counted from the top."""
        return self.fields[place]

    def value(self, place: int) -> bytes:
        """The value of a field, unfolded, with spaces for tabs."""
        return self._pairs[place][1]

    def canonical(self, place: int) -> bytes:
        """A field by the "relaxed" algorithm, without the CRLF at its end."""
        found = self._canonical[place] = _joined(*self._pairs[place])
        return found

    def places(self, name: bytes) -> list[int]:
        """Where the fields of this name (in lower case) stand, from the top down."""
        return self._places.get(name, [])

    def choose(self, names: Sequence[bytes], own: int | None = None) -> list[Field]:
        """The fields that h= names, in its order: see ``choose_places``."""
        return [self.fields[place] for place in self.choose_places(names, own)]

    def choose_places(self, names: Sequence[bytes], own: int | None = None) -> list[int]:
        """Where the fields stand that h= names, in its order (RFC 6376 section 5.4.2): each time a name stands there it
        takes the lowest field of that name that is not yet taken; a name without one left takes nothing.

        :param names: in lower case.
        :param own: where the signature's own field stands, which no name takes.
        """
        all_places = self._places
        if own is not None and (key := self._pairs[own][0]) in names:
            all_places = {**all_places, key: [place for place in all_places[key] if place != own]}
        chosen: list[int] = []
        for name, turn in _turns(tuple(names)) if len(names) <= _REMEMBERED else _turns.__wrapped__(tuple(names)):
            places = all_places.get(name)
            if places is not None and turn <= len(places):
                chosen.append(places[-turn])
        return chosen

    def signed_octets(self, names: Sequence[bytes], own: int | Field, canonicalization: str) -> bytes:
        """What a signature of this header signs: the fields that its h= names, and its own (RFC 6376 section 3.7).

        :param names: in lower case.
        :param own: where its field stands, or the field when it does not stand here yet.
        :param canonicalization: ``simple`` or ``relaxed``, of the header.
        """
        chosen = self.choose_places(names, own if isinstance(own, int) else None)
        if canonicalization == "relaxed":
            known, canonical = self._canonical, self.canonical
            lines = [known.get(place) or canonical(place) for place in chosen]
            if isinstance(own, int):
                key, value = self._pairs[own]
                lines.append(_joined(key, _emptied(value)))
            else:
                lines.append(relaxed(emptied(own)))
        else:
            lines = [self.fields[place].raw for place in chosen]
            lines.append(emptied(self.fields[own] if isinstance(own, int) else own).raw)
        return b"\r\n".join(lines)
