"""The database of what was learned, without its thread: everything is carried out at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred

from twisted_mail_node.state.database import Row, StateDatabase


class StateAtOnce(StateDatabase):
    """For tests with a clock of their own.

    :ivar writes: statements carried out.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, None)  # type: ignore[arg-type]
        self.writes = 0

    def write(self, sql: str, values: Sequence[Any] = ()) -> None:
        self.writes += 1
        self._carry_out(sql, values)

    def ask(self, sql: str, values: Sequence[Any] = ()) -> Deferred[list[Row]]:
        return maybeDeferred(self._run, sql, values)
