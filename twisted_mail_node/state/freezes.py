"""Destinations that an operator froze, kept over restarts (``queue.freezing``)."""

from __future__ import annotations

from twisted_mail_node.state.database import StateDatabase

_TABLE = """
CREATE TABLE IF NOT EXISTS freeze(
    destination TEXT PRIMARY KEY,   -- the next hop
    words TEXT NOT NULL,            -- the operator's
    since REAL NOT NULL             -- seconds since the epoch
) WITHOUT ROWID;
"""


class Freezes:
    """The table.

    :param state: the node's database.
    """

    def __init__(self, state: StateDatabase) -> None:
        self._state = state
        state.tables(_TABLE)

    def all(self) -> list[tuple[str, str, float]]:
        """Destination, words, and since when, of each. Blocks; for the start."""
        return [
            (str(destination), str(words), float(since))
            for destination, words, since in self._state.read("SELECT destination, words, since FROM freeze")
        ]

    def add(self, destination: str, words: str, since: float) -> None:
        """Remember one, or its new words."""
        self._state.write("INSERT OR REPLACE INTO freeze VALUES(?, ?, ?)", (destination, words, since))

    def drop(self, destination: str) -> None:
        """Forget one."""
        self._state.write("DELETE FROM freeze WHERE destination = ?", (destination,))
