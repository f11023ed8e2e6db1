"""Reads where a domain wants reports about TLS: the TXT record of ``_smtp._tls.DOMAIN`` (RFC 8460 section 3)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import unquote

from twisted_mail_node.message.address import Address
from twisted_mail_node.smtp.grammar import GrammarError, parse_address

#: Places that get a report; a record may name as many as it likes, and a domain must not make us write to hundreds.
PLACES_MAX = 3
#: Characters of a place.
PLACE_MAX = 500

_VERSION = re.compile(rb"v=TLSRPTv1[ \t]*;")
_FIELD = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,31})=(.*)\Z", re.DOTALL)
_URI = re.compile(r"[!-~]+\Z")


class Place(NamedTuple):
    """Where a report goes.

    :ivar uri: as the record has it.
    :ivar address: of a ``mailto:`` URI; ``None`` for ``https:``.
    """

    uri: str
    address: Address | None


def places_of(records: Sequence[object]) -> tuple[Place, ...]:
    """Where reports go; empty where the domain wants none. Exactly one record must begin with the version, and it must
    be right as a whole.

    Places of other schemes, and those that cannot be read, are passed over.

    :param records: each with its strings joined; what is no ``bytes`` is passed over.
    """
    ours = [record for record in records if isinstance(record, bytes) and _VERSION.match(record)]
    if len(ours) != 1 or not ours[0].isascii():
        return ()
    parts = [part.strip(" \t") for part in ours[0].decode("ascii").split(";")[1:]]
    fields = [_FIELD.match(part) for part in parts if part]
    places: list[Place | None] = []
    for field in fields:
        if field is None:
            return ()  # as a whole it is no record
        if field[1] == "rua" and not places:
            places = [read_place(uri.strip(" \t")) for uri in field[2].split(",")]
    return tuple(dict.fromkeys(place for place in places if place is not None))[:PLACES_MAX]


def read_place(uri: str) -> Place | None:
    """The place a URI names; ``None`` when we cannot write there."""
    if len(uri) > PLACE_MAX or not _URI.match(uri):
        return None
    scheme, _, rest = uri.partition(":")
    if scheme.lower() == "https" and rest.startswith("//"):
        return Place(uri, None)
    if scheme.lower() != "mailto":
        return None
    try:
        # what a mailto URI may say beside the address (RFC 6068: subject and the like) is not for us
        address = parse_address(unquote(rest.partition("?")[0], errors="strict"))
    except (GrammarError, UnicodeDecodeError):
        return None
    return Place(uri, address) if address.is_ascii else None
