"""How this package asks the DNS: by whatever is passed in that looks like this. ``dns.resolver`` does."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Protocol


class NoAnswerError(Exception):
    """No usable answer (time-out, SERVFAIL, a malformed reply): trying again later may help. What every check of this
    package calls a temperror."""


class Records(Protocol):
    """An answer. Empty ``records`` and ``exists`` False (NXDOMAIN) are answers, too."""

    @property
    def records(self) -> Sequence[Any]:
        """A, AAAA, CNAME, PTR and NS as text without a trailing dot; TXT as ``bytes``, the strings of a record
        joined; MX with ``preference`` and ``host``."""

    @property
    def exists(self) -> bool:
        """False when the name itself does not exist."""

    @property
    def ttl(self) -> int:
        """Seconds the answer may be kept."""


class Resolver(Protocol):
    """Asks the DNS. ``IResolver`` in the words of this package."""

    def query(self, name: str, rdtype: str) -> Awaitable[Records]:
        """Records of ``name``; CNAMEs are followed.

        :raises NoAnswerError: none, for now.
        """
