"""Counts in memory, and writes behind: every minute, in pieces, so that no reactor turn is long.

Memory holds a minute of counting; a crash loses it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_mail_node.state.database import StateDatabase

#: Days are counted in UTC.
DAY = 86_400
#: Seconds until what was counted is written, and rows written in one reactor turn (some milliseconds).
FLUSH_AFTER = 60.0
FLUSH_ROWS = 200
#: Rows that wait in memory; with more they are written at once.
ROWS_MAX = 5_000


class Kind(NamedTuple):
    """Something that is counted.

    :ivar sql: adds rows, which come as one JSON array of arrays.
    :ivar row: makes the row of a key and its number.
    """

    sql: str
    row: Callable[[Any, int], list[object]]


class Behind:
    """Counts of several kinds.

    :param kinds: by name.
    """

    def __init__(self, state: StateDatabase, clock: IReactorTime, kinds: Mapping[str, Kind]) -> None:
        self._state = state
        self._clock = clock
        self._kinds = kinds
        self._counts: dict[str, dict[Any, int]] = {name: {} for name in kinds}
        self._timer: IDelayedCall | None = None

    def count(self, kind: str, key: Any) -> None:
        """One more of these."""
        counts = self._counts[kind]
        counts[key] = counts.get(key, 0) + 1
        if len(counts) >= ROWS_MAX:
            self._write_some()
        elif self._timer is None:
            self._timer = self._clock.callLater(FLUSH_AFTER, self._flush)

    def stop(self) -> None:
        """Write what was counted. Counting may go on."""
        while self._waits():
            self._write_some()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    async def written(self) -> None:
        """Everything counted so far is on its way to the database."""
        while self._waits():
            self._write_some()
            turn: Deferred[None] = Deferred()
            self._clock.callLater(0, turn.callback, None)
            await turn

    async def of_day(
        self, table: str, columns: str, day: int, domain: str, order: str, limit: int
    ) -> list[tuple[Any, ...]]:
        """Rows of a day, of one domain or (``""``) of all; those of a domain in this order.

        :raises StateError: the database failed.
        """
        await self.written()
        which, values = ("AND domain = ? ", (domain,)) if domain else ("", ())
        return await self._state.ask(
            f"SELECT {columns} FROM {table} WHERE day = ? {which}ORDER BY domain, {order} LIMIT ?",
            (day, *values, limit),
        )

    def _waits(self) -> bool:
        return any(self._counts.values())

    def _flush(self) -> None:
        """Write a piece; the rest in the next turns."""
        self._timer = None
        self._write_some()
        if self._waits():
            self._timer = self._clock.callLater(0, self._flush)

    def _write_some(self) -> None:
        for name, counts in self._counts.items():
            keys = list(islice(counts, FLUSH_ROWS))
            if keys:
                kind = self._kinds[name]
                self._state.write(kind.sql, (json.dumps([kind.row(key, counts.pop(key)) for key in keys]),))
