"""How local-parts are compared, and what a mailbox is called on the disk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256
from typing import Generic, TypeVar

from twisted_mail_node.message.address import Address, domain_key, folded

T = TypeVar("T")

#: The longest name a directory entry may have on Linux's file systems.
NAME_MAX = 255

_SAFE = re.compile(r"[A-Za-z0-9_+=@~,-][A-Za-z0-9_+=@~,.-]*\Z", re.ASCII)
_UNSAFE = re.compile(rb"[^A-Za-z0-9_+=@~,.-]|\A\.")


class ByAddress(Generic[T]):
    """Values by address: exact spelling first, then whatever differs only in case."""

    def __init__(self) -> None:
        self._exact: dict[tuple[str, str], T] = {}
        self._folded: dict[tuple[str, str], T] = {}

    def add(self, address: Address, value: T) -> None:
        """Keep a value; the first of an address stays. :raises ValueError: the domain is no domain name."""
        domain = domain_key(address.domain)
        self._exact.setdefault((domain, address.local_part), value)
        self._folded.setdefault((domain, folded(address.local_part)), value)

    def find(self, domain: str, local_part: str) -> T | None:
        """The value of an address; ``domain`` in its look-up spelling."""
        found = self._exact.get((domain, local_part))
        return found if found is not None else self._folded.get((domain, folded(local_part)))

    def __iter__(self) -> Iterator[T]:
        return iter(self._exact.values())

    def __len__(self) -> int:
        return len(self._exact)


def file_name(text: str) -> str:
    """One directory name for a local-part or a domain, different for each: never empty, hidden, ``..`` or too long.

    What is not plain ASCII is percent-encoded (RFC 3986 section 2.1) as UTF-8; a leading dot too. A name that would be
    too long ends in ``%=`` and a digest instead.
    """
    if len(text) <= NAME_MAX and _SAFE.match(text):
        return text
    octets = text.encode("utf-8", "surrogatepass")
    name = _UNSAFE.sub(lambda match: b"%%%02X" % match[0][0], octets).decode("ascii")
    if not name:
        return "%="
    if len(name) <= NAME_MAX:
        return name
    digest = sha256(octets).hexdigest()
    return f"{name[: NAME_MAX - len(digest) - 2]}%={digest}"
