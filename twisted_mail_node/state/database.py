"""The database of what the node has learned: ``state_dir/state.sqlite``, with one thread that writes.

No mail lies here. What is lost with the last second before a crash is learned again, so commits do not wait for the
disk (``synchronous=NORMAL``: the file stays whole, the newest writes may be missing). Each part that keeps something
has a table of its own: it names it in ``tables``, reads it once at its start, answers from memory, and writes behind.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

import apsw
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from twisted.python.failure import Failure

#: The database's name below ``state_dir``.
STATE_NAME = "state.sqlite"
#: Seconds to wait for another process that writes (the command line while the node is down).
BUSY = 5.0

Row: TypeAlias = tuple[Any, ...]

_log = Logger()


class StateError(ValueError):
    """The database cannot be used; the sentence says why."""


class StateDatabase:
    """The database.

    :param path: of its file; made when missing, moved aside when it is damaged (attack T18).
    :param reactor: results come back in its thread.
    :ivar damaged: where a database that could not be read was moved to.
    :ivar words: what was wrong with it.
    :raises StateError: it cannot be opened.
    """

    def __init__(self, path: Path, reactor: IReactorFromThreads) -> None:
        self._reactor = reactor
        self.damaged: Path | None = None
        self.words = ""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                self._connection = _open(path)
            except (apsw.NotADBError, apsw.CorruptError) as error:
                self.words = str(error)
                self.damaged = path.with_name(f"{path.name}.damaged-{int(time.time())}")
                _log.error("{path} is damaged ({error}); it is moved aside", path=str(path), error=error)
                os.rename(path, self.damaged)
                for name in (f"{path.name}-wal", f"{path.name}-shm"):
                    with suppress(OSError):
                        os.unlink(path.with_name(name))
                self._connection = _open(path)
        except (apsw.Error, OSError) as error:
            raise StateError(f"{path} cannot be opened: {error}") from error
        self._writer = ThreadPoolExecutor(1, "state-database")
        # apsw refuses a connection that is busy in another thread: one part may write while another still reads
        self._free = Lock()
        self._closed = False

    def tables(self, schema: str) -> None:
        """Make tables that are missing (``CREATE TABLE IF NOT EXISTS …``). Blocks; for the start."""
        self._run(schema)

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """Rows, at once. Blocks; for the start."""
        return self._run(sql, values)

    def write(self, sql: str, values: Sequence[Any] = ()) -> None:
        """Have a statement carried out soon, in the order of the calls. A failure is logged."""
        if not self._closed:
            self._writer.submit(self._carry_out, sql, values)

    def ask(self, sql: str, values: Sequence[Any] = ()) -> Deferred[list[Row]]:
        """Rows, after everything that was written before.

        :raises StateError: (as failure) they cannot be read.
        """
        answer: Deferred[list[Row]] = Deferred()
        if self._closed:
            answer.errback(StateError("the database is closed"))
        else:
            self._writer.submit(self._look, sql, values, answer)
        return answer

    def close(self) -> None:
        """Write what waits, and close. Blocks."""
        if not self._closed:
            self._closed = True
            self._writer.shutdown(wait=True)
            self._connection.close()

    def _run(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        with self._free:
            rows: list[Row] = self._connection.execute(sql, values).fetchall()
            return rows

    def _carry_out(self, sql: str, values: Sequence[Any]) -> None:
        try:
            self._run(sql, values)
        except Exception:  # text that cannot be written, too: who writes does not wait, and nobody else would tell
            _log.failure("something learned could not be kept: {sql}", sql=sql)

    def _look(self, sql: str, values: Sequence[Any], answer: Deferred[list[Row]]) -> None:
        try:
            rows = self._run(sql, values)
        except Exception as error:  # whatever it is: somebody waits
            failure = Failure(StateError(f"the state database failed: {error}"))
            self._reactor.callFromThread(answer.errback, failure)
        else:
            self._reactor.callFromThread(answer.callback, rows)


def _open(path: Path) -> Any:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(int(BUSY * 1000))
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "normal")
        # Most of it is read at the start anyway; a page found damaged only then would keep the node from starting.
        found = connection.execute("PRAGMA quick_check(1)").fetchall()
        if found != [("ok",)]:
            raise apsw.CorruptError(str(found[0][0]))
    except BaseException:
        connection.close()
        raise
    return connection
