"""The spool in SQLite: the plain blocking statements that keep mails and say what became of them.

``Spool`` calls these in its commit thread; the command line calls them itself while no node runs.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import apsw
from twisted.logger import Logger

from twisted_mail_node.message.precedence import CLASSES, ORDINARY, Turns
from twisted_mail_node.message.status import DeliveryStatus
from twisted_mail_node.spool import attempts, orders, queueid
from twisted_mail_node.spool.codec import FORMAT, encode_status
from twisted_mail_node.spool.database import (
    DAMAGE,
    Connection,
    Damaged,
    make_directories,
    missing,
    open_database,
    set_aside,
    spool_error,
)
from twisted_mail_node.spool.mail import (
    HELD,
    HELD_BACK,
    NOT_TRIED,
    Attempt,
    Change,
    Filter,
    Mail,
    SpoolError,
    State,
    Tally,
)
from twisted_mail_node.spool.orders import SENDER, Found
from twisted_mail_node.spool.reader import COUNT, Reader, load
from twisted_mail_node.spool.statements import blocks, listed, values

#: take_due brings at most this much content into memory at once.
DUE_OCTETS = 16 << 20

#: What is due in a class, the oldest first; the index gives it in this order, so that a long backlog costs no more.
DUE = (
    "SELECT mail, number, size FROM recipient JOIN mail ON id = mail"
    " WHERE state = 1 AND class = ? AND due <= ? ORDER BY due LIMIT ?"
)

#: What was active when a process ended is due again.
RECOVER = (
    f"UPDATE recipient SET state = 1, due = ?, cause = iif(cause = '' AND attempts = 0, '{NOT_TRIED}', cause),"
    f" sender = {SENDER} WHERE state IN (0, 3) AND state = 0"
)
_CHANGE = (
    f"UPDATE recipient SET state = ?, due = ?, attempts = ?, destination = ?, last = ?, told = ?, cause = ?,"
    f" sender = {SENDER} WHERE mail = ? AND number = ?"
)
_FINISH = "UPDATE recipient SET state = 3, cause = '' WHERE (mail, number) IN (VALUES "

T = TypeVar("T")
Row = tuple[int, float, str, bytes, int, int, "bytes | None"]

_log = Logger()


class NewMail(NamedTuple):
    """A mail as it goes into the tables: the columns of ``mail``, its recipients (encoded), and how they begin."""

    row: Row
    recipients: tuple[str, ...]
    state: State
    due: float = 0.0
    priority_class: int = ORDINARY


class Store:
    """The tables.

    :param directory: of the spool; made when ``create``.
    :param create: this is the node itself: make what is missing, set a damaged spool aside.
    :param reached: called with the name of each step; tests end the process there.
    :ivar damaged: set when the spool that was found could not be read and was set aside (attack T18).
    :raises SpoolError: it cannot be opened.
    """

    def __init__(
        self, directory: Path, create: bool = True, reached: Callable[[str], None] = lambda step: None
    ) -> None:
        self.directory = directory
        self.reached = reached
        self.content = directory / "content"
        self.damaged: Damaged | None = None
        self._gone: list[str] = []
        self._turns = Turns()
        self._inside = False
        self._path = path = directory / "spool.sqlite"
        if not create and not path.exists():
            raise SpoolError(f"there is no spool in {directory}")
        try:
            if create:
                make_directories(directory)
            lost = missing(directory)
            try:
                if lost:
                    raise apsw.NotADBError(lost)
                self._open()
            except DAMAGE as error:
                if not create:
                    raise
                self._begin_anew(str(error))
        except (apsw.Error, OSError) as error:
            raise SpoolError(f"the spool {path} cannot be opened: {error}") from error

    def _open(self) -> None:
        self.connection: Connection = open_database(self._path)
        try:
            # Reads for operators and of content have a connection of their own: WAL lets them run beside the writer.
            self._reader = Reader(self._path, self.content)
        except BaseException:
            self.connection.close()
            raise

    def _begin_anew(self, words: str) -> None:
        self.damaged = Damaged(set_aside(self.directory), words)
        self._open()

    def close(self) -> None:
        """Close both connections; the last one folds the WAL into the database."""
        self._reader.close()
        self.connection.close()

    # ---- one transaction -------------------------------------------------------------------------------------

    def transaction(self, work: Callable[[], T]) -> T:
        """Do ``work`` and commit; when this returns it is durable. Inside another transaction it is a part of that.

        :raises SpoolError: nothing of it was done.
        """
        if self._inside:
            return work()
        execute = self.connection.execute
        step = ""
        self._inside = True
        try:
            execute("BEGIN IMMEDIATE")
            self.reached("begun")
            result = work()
            self.reached("written")
            step = "commit"
            execute("COMMIT")
        except BaseException as error:
            self._gone.clear()
            self._roll_back()
            if isinstance(error, apsw.Error):
                failed = spool_error(error)
                failed.unsure = step == "commit" and not failed.full and not self._write_over()
                raise failed from error
            raise
        finally:
            self._inside = False
        self.reached("committed")
        if self._gone:
            self._unlink()
            self.reached("unlinked")
        return result

    def _roll_back(self) -> None:
        if self.connection.in_transaction:  # SQLite has rolled back by itself after some errors
            with suppress(apsw.Error):  # then the next BEGIN fails, and nothing is promised
                self.connection.execute("ROLLBACK")

    def _write_over(self) -> bool:
        """After a COMMIT whose write or sync failed: its frames may stand in the WAL whole, and would count when the
        WAL is read after a crash. Commit something else in their place. Gives whether that is on the disk."""
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.pragma("user_version", FORMAT)
            self.connection.execute("COMMIT")
        except apsw.Error:
            self._roll_back()
            return False
        return True

    def insert(self, mails: Sequence[NewMail]) -> None:
        """Add new mails; part of a transaction."""
        execute = self.connection.execute
        for block in blocks(mails):
            sql = values("INSERT INTO mail VALUES", "(?,?,?,?,?,?,?)", len(block))
            execute(sql, [v for mail in block for v in mail.row])
        rows: list[tuple[object, ...]] = [
            (mail.row[0], number, int(mail.state), mail.due, recipient, mail.priority_class)
            for mail in mails
            for number, recipient in enumerate(mail.recipients)
        ]
        for rows_block in blocks(rows):
            sql = values("INSERT INTO recipient VALUES", "(?,?,?,?,0,'',?,NULL,?,0,'','','')", len(rows_block))
            execute(sql, [v for row in rows_block for v in row])
        for mail in mails:
            if mail.state is not State.ACTIVE:
                cause = HELD if mail.state is State.HELD else HELD_BACK
                execute(f"UPDATE recipient SET cause = ?, sender = {SENDER} WHERE mail = ?", (cause, mail.row[0]))

    def change(self, changes: Sequence[Change]) -> None:
        """Write what became of recipients; part of a transaction. A mail whose recipients are all finished goes."""
        execute = self.connection.execute
        finished: list[int] = []
        mails: dict[int, None] = {}
        whole: list[int] = []
        tried: list[int] = []
        for change in changes:
            number = int(change.queue_id, 16)
            if change.whole:
                whole.append(number)
                if change.attempts > 1:
                    tried.append(number)
            elif change.state is State.FINISHED:
                mails[number] = None
                finished += (number, change.number)
            else:
                execute(
                    _CHANGE,
                    (
                        int(change.state), change.due, change.attempts, change.destination,
                        encode_status(change.last), change.told, change.cause, number, change.number,
                    ),
                )  # fmt: skip
                if change.tried:
                    attempts.keep(self.connection, change)
        for pairs in blocks(range(0, len(finished), 2)):
            execute(
                listed(_FINISH, "(?,?)", len(pairs)),
                finished[pairs[0] : pairs[-1] + 2],
            )
        for block in blocks(list(mails)):
            done = self._forget(block, " AND NOT EXISTS (SELECT 1 FROM recipient WHERE mail = id AND state < 3)")
            for done_block in blocks(done):
                execute(listed("DELETE FROM recipient WHERE mail IN (", "?", len(done_block)), done_block)
                execute(listed("DELETE FROM attempt WHERE mail IN (", "?", len(done_block)), done_block)
        for block in blocks(whole):  # most mails: nobody else needs to be looked for
            self._forget(block)
            execute(listed("DELETE FROM recipient WHERE mail IN (", "?", len(block)), block)
        for block in blocks(tried):
            execute(listed("DELETE FROM attempt WHERE mail IN (", "?", len(block)), block)

    def _forget(self, mails: Sequence[int], where: str = "") -> list[int]:
        """Delete the rows of mails, but not those of their recipients; gives whose they were."""
        rows = self.connection.execute(
            listed("DELETE FROM mail WHERE id IN (", "?", len(mails)) + f"{where} RETURNING id, content IS NULL", mails
        ).fetchall()
        self._gone += [queueid.to_text(row[0]) for row in rows if row[1]]
        return [row[0] for row in rows]

    def _unlink(self) -> None:
        """Delete the content files of mails that are gone; one that stays is deleted at the next start."""
        gone, self._gone = self._gone, []
        for queue_id in gone:
            with suppress(OSError):
                os.unlink(self.content / queue_id)

    # ---- at start --------------------------------------------------------------------------------------------

    def recover(self, now: float) -> tuple[int, int]:
        """Let everything that a process which is gone was working on be due now, and delete files without a row.

        Gives how many mails the spool holds and the largest id. Only for the process that has the node's lock.

        :raises SpoolError: it cannot be read now; a damaged one is set aside instead.
        """
        try:
            return self.transaction(lambda: self._recover(now))
        except SpoolError as error:
            if not isinstance(error.__cause__, DAMAGE):
                raise
            words = str(error.__cause__)
        self.connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self.close()
        try:
            self._begin_anew(words)
        except (apsw.Error, OSError) as error:
            raise SpoolError(f"the spool {self._path} cannot be opened: {error}") from error
        return self.transaction(lambda: self._recover(now))

    def _recover(self, now: float) -> tuple[int, int]:
        execute = self.connection.execute
        execute(RECOVER, (now,)).fetchall()
        count = sum(row[2] for row in execute(COUNT).fetchall())
        largest = execute("SELECT coalesce(max(id), 0) FROM mail").fetchall()[0][0]
        named = {row[0] for row in execute("SELECT id FROM mail WHERE content IS NULL")}
        with os.scandir(self.content) as files:
            for file in files:
                # Only names that we give: lost+found and the like are not ours.
                if queueid.is_text(file.name) and queueid.to_number(file.name) not in named:
                    with suppress(OSError):  # it is tried again at the next start
                        os.unlink(file.path)
        return count, largest

    # ---- what is due -----------------------------------------------------------------------------------------

    def take_due(self, now: float, limit: int) -> list[Mail]:
        """See ISpool; part of a transaction. A mail whose rows cannot be understood is held, and logged."""
        execute = self.connection.execute
        lines = [deque(execute(DUE, (one, now, limit)).fetchall()) for one in CLASSES]
        wanted: dict[int, set[int]] = {}
        octets = 0
        for mail, number, size in self._in_turn(lines, limit):
            if mail not in wanted:
                if octets > DUE_OCTETS:
                    break
                octets += size
                wanted[mail] = set()
            wanted[mail].add(number)
        mails = []
        for mail, numbers in wanted.items():
            try:
                found = load(self.connection, self.content, mail)
            except ValueError:
                _log.failure("{queue_id} in the spool cannot be read; it is held", queue_id=queueid.to_text(mail))
                execute("UPDATE recipient SET state = 2 WHERE mail = ? AND state < 2", (mail,))
                continue
            for number in numbers:
                execute("UPDATE recipient SET state = 0 WHERE mail = ? AND number = ?", (mail, number))
            if found is not None:
                entries = tuple(
                    [entry._replace(state=State.ACTIVE) for entry in found.entries if entry.number in numbers]
                )
                mails.append(Mail(found.queue_id, found.envelope, found.header, found.content, found.received, entries))
        return mails

    def _in_turn(self, lines: Sequence[deque[tuple[int, int, int]]], limit: int) -> Iterable[tuple[int, int, int]]:
        """At most ``limit`` rows of all that are due: each class by its turns, and within it the oldest first."""
        count = sum(map(len, lines))
        if count == len(lines[ORDINARY]):
            return lines[ORDINARY]
        return [lines[self._turns.next(lines)].popleft() for _ in range(min(limit, count))]

    def next_due(self) -> float | None:
        """See ISpool."""
        return self._reader.next_due()

    # ---- for operators ---------------------------------------------------------------------------------------

    def count(self) -> dict[str, int]:
        """How many recipients are in each state, and how many mails there are."""
        return self._reader.count()

    def find(self, wanted: Filter) -> list[Mail]:
        """Mails for an operator, oldest first, with all their recipients; contents are read when wanted."""
        return self._reader.find(wanted)

    def select(self, wanted: Filter, limit: int, after: str = "") -> list[str]:
        """See ISpool."""
        return self._reader.select(wanted, limit, after)

    def tally(self, wanted: Filter) -> list[Tally]:
        """See ISpool."""
        return self._reader.tally(wanted)

    def tally_senders(self, wanted: Filter) -> list[Tally]:
        """See ISpool."""
        return self._reader.tally_senders(wanted)

    def attempts(self, queue_id: str) -> list[Attempt]:
        """See ISpool."""
        return self._reader.attempts(queue_id)

    def hold(self, queue_ids: Sequence[str]) -> list[str]:
        """See ISpool."""
        return self._order(lambda: orders.change(self.connection, orders.HOLD, queue_ids))

    def release(self, queue_ids: Sequence[str], due: float) -> list[str]:
        """See ISpool."""
        return self._order(lambda: orders.change(self.connection, orders.RELEASE, queue_ids, due=due))

    def reroute(self, queue_ids: Sequence[str], next_hop: str, due: float) -> list[str]:
        """See ISpool."""
        return self._order(
            lambda: orders.change(self.connection, orders.REROUTE, queue_ids, next_hop=next_hop, due=due)
        )

    def give_up(self, queue_ids: Sequence[str], status: DeliveryStatus, cause: str, due: float) -> list[str]:
        """See ISpool."""
        last = encode_status(status)
        return self._order(
            lambda: orders.change(self.connection, orders.GIVE_UP, queue_ids, last=last, cause=cause, due=due)
        )

    def waiting_for(
        self, destination: str, now: float, until: float, limit: int, since: float
    ) -> list[tuple[int, int]]:
        """Mail and number of the recipients that ``hasten`` is for; from any thread."""
        return self._reader.waiting_for(destination, now, until, limit, since)

    def hasten(self, rows: Sequence[tuple[int, int]], due: float) -> int:
        """Let these be due, where they are still delayed; gives how many there were."""

        def work() -> int:
            for block in blocks(rows):
                self.connection.execute(
                    listed("UPDATE recipient SET due = ? WHERE state = 1 AND (mail, number) IN (VALUES ", "(?,?)",
                           len(block)),
                    [due, *[value for row in block for value in row]],
                )  # fmt: skip
            return len(rows)

        return self.transaction(work)

    def remove(self, queue_ids: Sequence[str]) -> list[str]:
        """See ISpool."""
        return self._order(lambda: orders.remove(self.connection, queue_ids))

    def _order(self, order: Callable[[], Found]) -> list[str]:
        def work() -> list[str]:
            found, gone = order()
            self._gone += gone
            return found

        return self.transaction(work)


__all__ = ["Damaged", "NewMail", "Store", "spool_error"]
