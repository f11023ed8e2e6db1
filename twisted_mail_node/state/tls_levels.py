"""The best protection that was reached with a domain, kept for good: ``outbound.pin`` never goes below it.

A level is raised, never lowered, until somebody forgets it. At that instant nothing is lost: after a crash the last
levels may be missing, and are reached anew.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted_mail_node.state.database import StateDatabase

#: Levels, the least first.
LEVELS = ("encrypted", "verified", "dane")
#: Domains remembered, some 150 octets of memory each. New ones beyond that are not pinned.
DOMAINS_MAX = 200_000

_SCHEMA = "CREATE TABLE IF NOT EXISTS tls_levels (domain TEXT PRIMARY KEY, level TEXT NOT NULL, since REAL NOT NULL)"


class TlsLevels:
    """What was reached with which domain.

    :param now: seconds since the epoch.
    """

    def __init__(self, state: StateDatabase, now: Callable[[], float]) -> None:
        self._state = state
        self._now = now
        state.tables(_SCHEMA)
        rows = state.read("SELECT domain, level FROM tls_levels")
        self._levels: dict[str, str] = {domain: level for domain, level in rows if level in LEVELS}

    def of(self, domain: str) -> str:
        """One of ``LEVELS``; ``""`` when nothing is known."""
        return self._levels.get(domain, "")

    def reached(self, domain: str, level: str) -> None:
        """A connection had this level; the best one is kept."""
        known = self._levels.get(domain)
        if known is None:
            if len(self._levels) >= DOMAINS_MAX:
                return
        elif LEVELS.index(level) <= LEVELS.index(known):
            return
        self._levels[domain] = level
        self._state.write("INSERT OR REPLACE INTO tls_levels VALUES (?, ?, ?)", (domain, level, self._now()))

    def forget(self, domain: str) -> str:
        """Forget a domain; gives what was known of it, ``""``: nothing."""
        known = self._levels.pop(domain, "")
        if known:
            self._state.write("DELETE FROM tls_levels WHERE domain = ?", (domain,))
        return known

    def all(self) -> dict[str, str]:
        """Every domain and its level."""
        return dict(self._levels)
