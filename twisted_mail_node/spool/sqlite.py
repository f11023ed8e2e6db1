"""The spool's tables in SQLite, and the plain blocking statements on them.

``Spool`` calls these in its commit thread; the command line calls them itself while no node runs. Statements take
many rows at once: each step into SQLite gives the interpreter's lock away and must wait to get it back, so one
statement for sixteen mails is much cheaper than sixteen.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import apsw

from twisted_mail_node.interfaces import IContent
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.spool import queueid
from twisted_mail_node.spool.codec import (
    FORMAT,
    decode_envelope,
    decode_recipient,
    decode_status,
    encode_status,
)
from twisted_mail_node.spool.content import FileContent, InlineContent, RowContent
from twisted_mail_node.spool.mail import Change, Entry, Filter, Mail, SpoolError, State

#: WAL pages after which a commit copies them into the database. 1000 keeps the 99th percentile of commits short.
CHECKPOINT_PAGES = 1000
#: Rows one statement takes at most; each number of rows is a statement of its own, compiled once.
BLOCK = 64
#: Compiled statements kept: five kinds of BLOCK sizes, and some.
STATEMENTS = 400
#: Seconds to wait for another process that holds the write lock (the command line while the node is down).
BUSY = 10.0
#: take_due brings at most this much content into memory at once.
DUE_OCTETS = 16 << 20

_SCHEMA = """
CREATE TABLE mail(
    id INTEGER PRIMARY KEY,           -- the queue id as a number
    received REAL NOT NULL,           -- seconds since the epoch
    envelope TEXT NOT NULL,           -- codec.encode_envelope
    header BLOB NOT NULL,             -- trace fields put before the content
    size INTEGER NOT NULL,            -- octets of the content
    eight_bit INTEGER NOT NULL,       -- the content has octets above 127
    content BLOB                      -- NULL: it lies in the file content/<queue id>
);
CREATE TABLE recipient(
    mail INTEGER NOT NULL,
    number INTEGER NOT NULL,          -- its place in the envelope
    state INTEGER NOT NULL,           -- spool.mail.State
    due REAL NOT NULL,
    attempts INTEGER NOT NULL,
    destination TEXT NOT NULL,
    recipient TEXT NOT NULL,          -- codec.encode_recipient
    last TEXT,                        -- codec.encode_status
    PRIMARY KEY(mail, number)
) WITHOUT ROWID;
CREATE INDEX recipient_due ON recipient(due) WHERE state = 1;
"""

T = TypeVar("T")
#: apsw's own types give every column as "any SQLite value"; the rows' real types stand in the schema above.
Connection: TypeAlias = Any
Row = tuple[int, float, str, bytes, int, int, "bytes | None"]


class NewMail(NamedTuple):
    """A mail as it goes into the tables: the columns of ``mail``, its recipients (encoded), and their state."""

    row: Row
    recipients: tuple[str, ...]
    state: State


class Damaged(NamedTuple):
    """A spool that could not be read was moved to ``path``."""

    path: Path
    words: str


class Store:
    """The tables.

    :param directory: of the spool; made when ``create``.
    :param reached: called with the name of each step; tests end the process there.
    :ivar damaged: set when the database that was found could not be read and was set aside (attack T18).
    :raises SpoolError: it cannot be opened.
    """

    def __init__(
        self, directory: Path, create: bool = True, reached: Callable[[str], None] = lambda step: None
    ) -> None:
        self.directory = directory
        self.reached = reached
        self._gone: list[str] = []
        self.content = directory / "content"
        self.damaged: Damaged | None = None
        self._reader_lock = threading.Lock()
        path = directory / "spool.sqlite"
        if create:
            self.content.mkdir(mode=0o700, parents=True, exist_ok=True)
        elif not path.exists():
            raise SpoolError(f"there is no spool in {directory}")
        try:
            self.connection: Connection = _open(path)
        except (apsw.NotADBError, apsw.CorruptError) as error:
            self.damaged = Damaged(_set_aside(path), str(error))
            self.connection = _open(path)
        except apsw.Error as error:
            raise SpoolError(f"the spool {path} cannot be opened: {error}") from error
        # Reads for operators and of content have a connection of their own: WAL lets them run beside the writer.
        self._reader: Connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        self._reader.set_busy_timeout(int(BUSY * 1000))

    def close(self) -> None:
        """Close both connections; the last one folds the WAL into the database."""
        with self._reader_lock:
            self._reader.close()
        self.connection.close()

    # ---- one transaction -------------------------------------------------------------------------------------

    def transaction(self, work: Callable[[], T]) -> T:
        """Do ``work`` and commit; when this returns it is durable. Inside another transaction it is a part of that.

        :raises SpoolError: nothing of it was done.
        """
        if self.connection.in_transaction:
            return work()
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            self.reached("begun")
            result = work()
            self.reached("written")
            self.connection.execute("COMMIT")
        except BaseException as error:
            self._gone.clear()
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            if isinstance(error, apsw.Error):
                raise spool_error(error) from error
            raise
        self.reached("committed")
        if self._gone:
            self._unlink()
            self.reached("unlinked")
        return result

    def insert(self, mails: Sequence[NewMail]) -> None:
        """Add new mails; part of a transaction."""
        execute = self.connection.execute
        for block in _blocks(mails):
            execute(_values("INSERT INTO mail VALUES", 7, len(block)), [v for mail in block for v in mail.row])
        rows: list[tuple[object, ...]] = [
            (mail.row[0], number, int(mail.state), 0.0, 0, "", recipient, None)
            for mail in mails
            for number, recipient in enumerate(mail.recipients)
        ]
        for rows_block in _blocks(rows):
            execute(_values("INSERT INTO recipient VALUES", 8, len(rows_block)), [v for row in rows_block for v in row])

    def change(self, changes: Sequence[Change]) -> None:
        """Write what became of recipients; part of a transaction. A mail whose recipients are all finished goes."""
        execute = self.connection.execute
        finished: list[int] = []
        mails: dict[int, None] = {}
        for change in changes:
            number = int(change.queue_id, 16)
            if change.state is State.FINISHED:
                mails[number] = None
                finished += (number, change.number)
            else:
                execute(
                    "UPDATE recipient SET state = ?, due = ?, attempts = ?, destination = ?, last = ?"
                    " WHERE mail = ? AND number = ?",
                    (
                        int(change.state), change.due, change.attempts, change.destination,
                        encode_status(change.last), number, change.number,
                    ),
                )  # fmt: skip
        for pairs in _blocks(range(0, len(finished), 2)):
            execute(
                _listed("UPDATE recipient SET state = 3 WHERE (mail, number) IN (VALUES ", "(?,?)", len(pairs)),
                finished[pairs[0] : pairs[-1] + 2],
            )
        for block in _blocks(list(mails)):
            rows = execute(
                _listed("DELETE FROM mail WHERE id IN (", "?", len(block))
                + " AND NOT EXISTS (SELECT 1 FROM recipient WHERE mail = id AND state < 3)"
                " RETURNING id, content IS NULL",
                block,
            ).fetchall()
            done = [row[0] for row in rows]
            self._gone += [queueid.to_text(row[0]) for row in rows if row[1]]
            for done_block in _blocks(done):
                execute(_listed("DELETE FROM recipient WHERE mail IN (", "?", len(done_block)), done_block)

    def _unlink(self) -> None:
        """Delete the content files of mails that are gone; one that stays is deleted at the next start."""
        gone, self._gone = self._gone, []
        for queue_id in gone:
            with suppress(OSError):
                os.unlink(self.content / queue_id)

    # ---- at start --------------------------------------------------------------------------------------------

    def recover(self, now: float) -> tuple[int, int]:
        """Let everything that a process which is gone was working on be due now, and delete files without a row.

        Gives how many mails the spool holds and the largest id.
        """

        def work() -> tuple[int, int]:
            execute = self.connection.execute
            execute("UPDATE recipient SET state = 1, due = ? WHERE state = 0", (now,))
            count, largest = execute("SELECT count(*), coalesce(max(id), 0) FROM mail").fetchall()[0]
            named = {row[0] for row in execute("SELECT id FROM mail WHERE content IS NULL")}
            for file in os.scandir(self.content):
                if queueid.to_number(file.name) not in named:
                    os.unlink(file.path)
            return count, largest

        return self.transaction(work)

    # ---- what is due -----------------------------------------------------------------------------------------

    def take_due(self, now: float, limit: int) -> list[Mail]:
        """See ISpool; part of a transaction."""
        execute = self.connection.execute
        due = execute(
            "SELECT mail, number, size FROM recipient JOIN mail ON id = mail"
            " WHERE state = 1 AND due <= ? ORDER BY due LIMIT ?",
            (now, limit),
        ).fetchall()
        wanted: dict[int, list[int]] = {}
        octets = 0
        for mail, number, size in due:
            if mail not in wanted:
                if octets > DUE_OCTETS:
                    break
                octets += size
                wanted[mail] = []
            wanted[mail].append(number)
        mails = []
        for mail, numbers in wanted.items():
            for number in numbers:
                execute("UPDATE recipient SET state = 0 WHERE mail = ? AND number = ?", (mail, number))
            found = self._load(self.connection, mail, with_content=True)
            if found is not None:
                entries = tuple(
                    entry._replace(state=State.ACTIVE) for entry in found.entries if entry.number in set(numbers)
                )
                mails.append(Mail(found.queue_id, found.envelope, found.header, found.content, found.received, entries))
        return mails

    def next_due(self) -> float | None:
        """See ISpool."""
        with self._reader_lock:
            row = self._reader.execute("SELECT min(due) FROM recipient WHERE state = 1").fetchall()[0]
        return None if row[0] is None else float(row[0])

    # ---- for operators ---------------------------------------------------------------------------------------

    def count(self) -> dict[str, int]:
        """How many recipients are in each unfinished state, and how many mails there are."""
        with self._reader_lock:
            rows = self._reader.execute("SELECT state, count(*) FROM recipient GROUP BY state").fetchall()
            mails = self._reader.execute("SELECT count(*) FROM mail").fetchall()[0][0]
        counts = {State(state).name.lower(): number for state, number in rows}
        return {"mails": mails} | {state.name.lower(): counts.get(state.name.lower(), 0) for state in State}

    def find(self, wanted: Filter) -> list[Mail]:
        """Mails for an operator, oldest first, with all their recipients; contents are read when wanted."""
        conditions, values = ["1"], list[object]()
        if wanted.queue_ids:
            numbers = [queueid.to_number(text) for text in wanted.queue_ids]
            conditions.append(f"id IN ({','.join('?' * len(numbers))})")
            values += numbers
        if wanted.sender:
            null = wanted.sender == "<>"
            conditions.append(
                "json_extract(envelope, '$[0]') IS NULL"
                if null
                else "instr(lower(json_extract(envelope, '$[0][0]') || '@' || json_extract(envelope, '$[0][1]')), ?)"
            )
            values += [] if null else [wanted.sender.lower()]
        narrow: list[str] = []
        if wanted.destination:
            narrow.append("destination = ?")
            values.append(wanted.destination)
        if wanted.state is not None:
            narrow.append("state = ?")
            values.append(int(wanted.state))
        if wanted.recipient:
            narrow.append("instr(lower(json_extract(recipient, '$[0]') || '@' || json_extract(recipient, '$[1]')), ?)")
            values.append(wanted.recipient.lower())
        if narrow:
            conditions.append(f"EXISTS (SELECT 1 FROM recipient WHERE mail = id AND {' AND '.join(narrow)})")
        sql = f"SELECT id FROM mail WHERE {' AND '.join(conditions)} ORDER BY id LIMIT ?"
        with self._reader_lock:
            ids = [row[0] for row in self._reader.execute(sql, (*values, wanted.limit)).fetchall()]
            found = [self._load(self._reader, mail, with_content=False) for mail in ids]
        return [mail for mail in found if mail is not None]

    def hold(self, queue_ids: Sequence[str]) -> list[str]:
        """See ISpool."""
        return self._set(queue_ids, "UPDATE recipient SET state = 2 WHERE mail = ? AND state = 1", ())

    def release(self, queue_ids: Sequence[str], due: float) -> list[str]:
        """See ISpool."""
        sql = "UPDATE recipient SET state = 1, due = ? WHERE mail = ? AND state IN (1, 2)"
        return self._set(queue_ids, sql, (due,))

    def remove(self, queue_ids: Sequence[str]) -> list[str]:
        """See ISpool."""

        def work() -> list[str]:
            found = self._known(queue_ids)
            for text in found:
                number = queueid.to_number(text)
                self.connection.execute("DELETE FROM recipient WHERE mail = ?", (number,))
                self.connection.execute("DELETE FROM mail WHERE id = ?", (number,))
            self._gone += found
            return found

        return self.transaction(work)

    def _set(self, queue_ids: Sequence[str], sql: str, values: tuple[object, ...]) -> list[str]:
        def work() -> list[str]:
            found = self._known(queue_ids)
            for text in found:
                self.connection.execute(sql, (*values, queueid.to_number(text)))
            return found

        return self.transaction(work)

    def _known(self, queue_ids: Sequence[str]) -> list[str]:
        known = "SELECT 1 FROM mail WHERE id = ?"
        return [text for text in queue_ids if self.connection.execute(known, (queueid.to_number(text),)).fetchall()]

    # ---- rows to values --------------------------------------------------------------------------------------

    def _load(self, connection: Connection, mail: int, with_content: bool) -> Mail | None:
        column = "content" if with_content else "content IS NULL"
        rows = connection.execute(
            f"SELECT received, envelope, header, size, eight_bit, {column} FROM mail WHERE id = ?", (mail,)
        ).fetchall()
        if not rows:
            return None
        received, envelope_text, header, size, eight_bit, content = rows[0]
        entries: list[Entry] = []
        for number, state, due, attempts, destination, recipient, last in connection.execute(
            "SELECT number, state, due, attempts, destination, recipient, last FROM recipient"
            " WHERE mail = ? ORDER BY number",
            (mail,),
        ).fetchall():
            decoded = decode_recipient(recipient)
            entries.append(Entry(number, decoded, State(state), due, attempts, destination, decode_status(last)))
        queue_id = queueid.to_text(mail)
        recipients: tuple[Recipient, ...] = tuple(entry.recipient for entry in entries)
        envelope: Envelope = decode_envelope(envelope_text, recipients)
        kept: IContent
        if with_content and content is not None:
            kept = InlineContent(content, bool(eight_bit))
        elif (with_content and content is None) or (not with_content and content):
            kept = FileContent(self.content / queue_id, size, bool(eight_bit))
        else:
            kept = RowContent(lambda: self._content(mail), size, bool(eight_bit))
        return Mail(queue_id, envelope, header, kept, received, tuple(entries))

    def _content(self, mail: int) -> bytes | None:
        with self._reader_lock:
            rows = self._reader.execute("SELECT content FROM mail WHERE id = ?", (mail,)).fetchall()
        return rows[0][0] if rows else None


def spool_error(error: apsw.Error) -> SpoolError:
    """SQLite's error as ours: a full disk is told apart (452 rather than 451)."""
    return SpoolError(f"the spool failed: {error}", full=isinstance(error, apsw.FullError))


def _open(path: Path) -> Connection:
    connection = apsw.Connection(str(path), statementcachesize=STATEMENTS)
    try:
        connection.set_busy_timeout(int(BUSY * 1000))
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "full")
        connection.pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        version = connection.pragma("user_version")
        if version > FORMAT:
            raise SpoolError(f"{path} was written by a newer version (format {version}; this one knows {FORMAT})")
        if version == 0:
            connection.execute("BEGIN IMMEDIATE").fetchall()
            if connection.pragma("user_version") == 0:
                connection.execute(_SCHEMA).fetchall()
                connection.pragma("user_version", FORMAT)
            connection.execute("COMMIT").fetchall()
        connection.execute("SELECT id FROM mail LIMIT 1").fetchall()
        connection.execute("SELECT mail FROM recipient LIMIT 1").fetchall()
        os.chmod(path, 0o600)
    except BaseException:
        connection.close()
        raise
    return connection


def _set_aside(path: Path) -> Path:
    """Move a database that cannot be read out of the way, with its WAL; nothing is deleted."""
    aside = path.with_name(f"{path.name}.damaged-{int(time.time())}")
    for suffix in ("", "-wal", "-shm"):
        source = path.with_name(path.name + suffix)
        if source.exists():
            os.rename(source, aside.with_name(aside.name + suffix))
    return aside


def _blocks(rows: Sequence[T]) -> Iterable[Sequence[T]]:
    """``rows`` in slices of at most BLOCK."""
    return [rows[at : at + BLOCK] for at in range(0, len(rows), BLOCK)]


_texts: dict[tuple[str, int], str] = {}


def _values(start: str, columns: int, rows: int) -> str:
    """``start (?,?,…),(?,?,…)…`` with ``rows`` rows."""
    text = _texts.get((start, rows))
    if text is None:
        row = f"({','.join('?' * columns)})"
        text = _texts[start, rows] = f"{start} {','.join([row] * rows)}"
    return text


def _listed(start: str, row: str, rows: int) -> str:
    """``start row,row,…)``."""
    text = _texts.get((start, rows))
    if text is None:
        text = _texts[start, rows] = f"{start}{','.join([row] * rows)})"
    return text
