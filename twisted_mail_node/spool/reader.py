"""Reading the spool: rows become mails, for the schedule and for operators.

``Reader`` has a connection of its own and may be called from any thread, beside the thread that commits.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import apsw
from twisted.logger import Logger

from twisted_mail_node.interfaces import IContent
from twisted_mail_node.message.envelope import Recipient
from twisted_mail_node.message.precedence import CLASSES
from twisted_mail_node.spool import queueid
from twisted_mail_node.spool.codec import decode_envelope, decode_recipient, decode_status
from twisted_mail_node.spool.content import FileContent, InlineContent, RowContent
from twisted_mail_node.spool.database import Connection, open_reader, spool_error
from twisted_mail_node.spool.mail import Entry, Filter, Mail, SpoolError, State

T = TypeVar("T")

#: The next due time of each class; one look into the index for each.
NEXT_DUE = " UNION ALL ".join(f"SELECT min(due) FROM recipient WHERE state = 1 AND class = {one}" for one in CLASSES)

#: The delayed recipients of a destination within a span of due times, each class by the index, merged by due time.
WAITING_FOR = (
    "SELECT mail, number FROM ("
    + " UNION ALL ".join(
        f"SELECT mail, number, due, destination FROM recipient WHERE state = 1 AND class = {one} AND due > ?1"
        " AND due <= ?2 AND destination = ?3"
        for one in CLASSES
    )
    + ") ORDER BY due LIMIT ?4"
)

_log = Logger()


class Reader:
    """Looks at what the spool holds.

    :param path: of the database, which exists.
    :param contents: directory of the content files.
    :raises apsw.Error: it cannot be opened.
    """

    def __init__(self, path: Path, contents: Path) -> None:
        self._contents = contents
        self._lock = threading.Lock()
        self._connection: Connection = open_reader(path)

    def close(self) -> None:
        """Waits for the reading under way."""
        with self._lock:
            self._connection.close()

    def _reading(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._lock:
                return work(self._connection)
        except apsw.Error as error:
            raise spool_error(error) from error

    def next_due(self) -> float | None:
        """See ISpool."""
        rows = self._reading(lambda connection: connection.execute(NEXT_DUE).fetchall())
        return min([float(row[0]) for row in rows if row[0] is not None], default=None)

    def count(self) -> dict[str, int]:
        """How many recipients are in each state, and how many mails there are (each has one recipient number 0)."""
        sql = "SELECT state, count(*), sum(number = 0) FROM recipient GROUP BY state"
        rows = self._reading(lambda connection: connection.execute(sql).fetchall())
        counts = {State(state): number for state, number, _ in rows}
        return {"mails": sum(row[2] for row in rows)} | {state.name.lower(): counts.get(state, 0) for state in State}

    def waiting_for(self, destination: str, now: float, until: float, limit: int) -> list[tuple[int, int]]:
        """Delayed recipients of a destination that are due after ``now`` and until ``until``, the first due first."""
        values = (now, until, destination, limit)
        rows = self._reading(lambda connection: connection.execute(WAITING_FOR, values).fetchall())
        return [(mail, number) for mail, number in rows]

    def find(self, wanted: Filter) -> list[Mail]:
        """See ISpool. A mail whose rows cannot be understood is left out, and logged."""
        sql, values = _search(wanted)

        def work(connection: Connection) -> list[Mail]:
            ids = [row[0] for row in connection.execute(sql, values).fetchall()]
            found: list[Mail] = []
            for mail in ids:
                try:
                    kept = load(connection, self._contents, mail, self._content)
                except ValueError:
                    _log.failure("{queue_id} in the spool cannot be read", queue_id=queueid.to_text(mail))
                    continue
                if kept is not None:
                    found.append(kept)
            return found

        return self._reading(work)

    def _content(self, mail: int) -> bytes | None:
        sql = "SELECT content FROM mail WHERE id = ?"
        try:
            rows = self._reading(lambda connection: connection.execute(sql, (mail,)).fetchall())
        except SpoolError as error:
            raise OSError(str(error)) from error
        return rows[0][0] if rows else None


def _search(wanted: Filter) -> tuple[str, list[object]]:
    """The statement that gives the ids of the mails wanted, and its values."""
    conditions, values = ["1"], list[object]()
    if wanted.queue_ids:
        conditions.append("id IN (SELECT value FROM json_each(?))")
        values.append(json.dumps([queueid.to_number(text) for text in wanted.queue_ids]))
    if wanted.sender == "<>":
        conditions.append("json_extract(envelope, '$[0]') IS NULL")
    elif wanted.sender:
        conditions.append(
            "instr(lower(json_extract(envelope, '$[0][0]') || '@' || json_extract(envelope, '$[0][1]')), ?)"
        )
        values.append(_lower(wanted.sender))
    narrow: list[str] = []
    if wanted.destination:
        narrow.append("destination = ?")
        values.append(wanted.destination)
    if wanted.state is not None:
        narrow.append("state = ?")
        values.append(int(wanted.state))
    if wanted.recipient:
        narrow.append("instr(lower(json_extract(recipient, '$[0]') || '@' || json_extract(recipient, '$[1]')), ?)")
        values.append(_lower(wanted.recipient))
    if narrow:
        conditions.append(f"EXISTS (SELECT 1 FROM recipient WHERE mail = id AND {' AND '.join(narrow)})")
    values.append(wanted.limit)
    return f"SELECT id FROM mail WHERE {' AND '.join(conditions)} ORDER BY id LIMIT ?", values


def _lower(text: str) -> str:
    """ASCII letters in lower case and no others, as SQLite's ``lower`` does."""
    return text.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


def load(
    connection: Connection, contents: Path, mail: int, later: Callable[[int], bytes | None] | None = None
) -> Mail | None:
    """A mail with all its recipients, ``None`` when the spool has it not.

    :param later: reads the content of a mail when it is wanted; ``None``: read it now.
    :raises ValueError: its rows are damaged.
    """
    column = "content" if later is None else "NULL"
    rows = connection.execute(
        f"SELECT received, envelope, header, size, eight_bit, content IS NULL, {column} FROM mail WHERE id = ?",
        (mail,),
    ).fetchall()
    if not rows:
        return None
    received, envelope_text, header, size, eight_bit, in_file, octets = rows[0]
    entries: list[Entry] = []
    for number, state, due, attempts, destination, recipient, last, told in connection.execute(
        "SELECT number, state, due, attempts, destination, recipient, last, told FROM recipient"
        " WHERE mail = ? ORDER BY number",
        (mail,),
    ).fetchall():
        decoded = decode_recipient(recipient)
        status = decode_status(last)
        entries.append(Entry(number, decoded, State(state), due, attempts, destination, status, bool(told)))
    queue_id = queueid.to_text(mail)
    recipients: tuple[Recipient, ...] = tuple([entry.recipient for entry in entries])
    content: IContent
    if in_file:
        content = FileContent(contents / queue_id, size, bool(eight_bit))
    elif later is None:
        content = InlineContent(octets, bool(eight_bit))
    else:
        read = later
        content = RowContent(lambda: read(mail), size, bool(eight_bit))
    return Mail(queue_id, decode_envelope(envelope_text, recipients), header, content, received, tuple(entries))
