"""An Address is a mailbox name of RFC 5321 section 4.1.2: a local-part and a domain.

The wire's parser (``smtp.grammar``) makes them; nothing else in the node reads an address out of octets.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple
from unicodedata import normalize

import idna

_DOT_STRING = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+"
                         r"(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+)*\Z")  # fmt: skip


class Address(NamedTuple):
    """A mailbox name.

    :ivar local_part: as its owner means it: without quotes and backslashes, case kept (RFC 5321 section 2.4).
    :ivar domain: folded to lower case; an address literal keeps its brackets (``[192.0.2.1]``,
        ``[IPv6:2001:db8::1]``); ``""`` only for the bare ``<postmaster>`` of RFC 5321 section 4.5.1.
    """

    local_part: str
    domain: str

    def __str__(self) -> str:
        """The address in its wire form, quoted where RFC 5321 section 4.1.2 needs it, without angle brackets."""
        return _written(*self)

    @property
    def is_ascii(self) -> bool:
        """False when passing it on needs SMTPUTF8 (RFC 6531)."""
        return self.local_part.isascii() and self.domain.isascii()


@lru_cache(maxsize=8192)
def _written(local: str, domain: str) -> str:
    if not _DOT_STRING.match(local):
        local = '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{local}@{domain}" if domain else local


@lru_cache(maxsize=4096)
def domain_key(domain: str) -> str:
    """The one spelling of a domain that look-ups use: A-labels in lower case (RFC 5890), no trailing dot.

    :raises ValueError: the domain cannot be written in A-labels.
    """
    domain = domain.rstrip(".").lower()
    if domain.isascii():
        return domain
    try:
        return idna.encode(domain, uts46=True).decode("ascii").lower()
    except idna.IDNAError as error:
        raise ValueError(f"{domain!r} is not a domain name: {error}") from error


def folded(local_part: str) -> str:
    """The spelling in which local-parts that differ only in case are the same.

    RFC 5321 section 2.4 lets the receiving host decide; people expect ``Joe@`` to reach ``joe@``. A letter outside
    ASCII never becomes one inside it (U+212A would be ``k``): it could be another's address.
    """
    if local_part.isascii():
        return local_part.lower()
    lower = normalize("NFC", local_part.lower())
    return local_part if lower.isascii() else lower
