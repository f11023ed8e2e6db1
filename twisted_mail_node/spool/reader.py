"""Reading the spool: rows become mails, for the schedule and for operators.

``Reader`` has connections of its own and may be called from any thread, beside the thread that commits: a few readings
run at the same time, so that a long one of an operator's keeps nobody else waiting.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import apsw
from twisted.logger import Logger

from twisted_mail_node.interfaces import IContent
from twisted_mail_node.message.envelope import Recipient
from twisted_mail_node.message.precedence import CLASSES
from twisted_mail_node.spool import attempts, queueid, search
from twisted_mail_node.spool.codec import decode_envelope, decode_recipient, decode_status
from twisted_mail_node.spool.content import FileContent, InlineContent, RowContent
from twisted_mail_node.spool.database import Connection, open_reader, spool_error
from twisted_mail_node.spool.mail import Attempt, Entry, Filter, Mail, SpoolError, State, Tally

T = TypeVar("T")

#: The next due time of each class; one look into the index for each.
NEXT_DUE = " UNION ALL ".join(f"SELECT min(due) FROM recipient WHERE state = 1 AND class = {one}" for one in CLASSES)

#: Recipients by state, each counted in an index; with each the number of mails whose first recipient is among them.
COUNT = " UNION ALL ".join(
    f"SELECT {state}, count(*), coalesce(sum(number = 0), 0) FROM recipient WHERE {condition}"
    for state, condition in (
        (0, "state IN (0, 3) AND state = 0"),
        (1, "state = 1"),
        (2, "state = 2"),
        (3, "state IN (0, 3) AND state = 3"),
    )
)

#: Readings at the same time; further ones wait.
READINGS = 3

#: The delayed recipients of a destination within a span of due times that were not tried since, the first due first:
#: read from the index in that order, so that a few cost little however many there are.
WAITING_FOR = (
    "SELECT mail, number FROM recipient INDEXED BY recipient_waiting"
    " WHERE state = 1 AND destination = ?3 AND due > ?1 AND due <= ?2"
    " AND (attempts = 0 OR NOT EXISTS (SELECT 1 FROM attempt"
    " WHERE attempt.mail = recipient.mail AND attempt.number = recipient.number AND tried > ?5))"
    " ORDER BY due LIMIT ?4"
)

_log = Logger()


class Reader:
    """Looks at what the spool holds.

    :param path: of the database, which exists.
    :param contents: directory of the content files.
    :raises apsw.Error: it cannot be opened.
    """

    def __init__(self, path: Path, contents: Path) -> None:
        self._path = path
        self._contents = contents
        self._places = threading.Semaphore(READINGS)
        self._idle: list[Connection] = [open_reader(path)]
        self._closed = False

    def close(self) -> None:
        """Waits for the readings under way."""
        self._closed = True
        for _ in range(READINGS):
            self._places.acquire()
        while self._idle:
            self._idle.pop().close()
        self._places.release(READINGS)

    def _reading(self, work: Callable[[Connection], T]) -> T:
        with self._places:
            if self._closed:
                raise SpoolError("the spool is closed")
            try:
                try:
                    connection = self._idle.pop()
                except IndexError:  # asked so, not looked at before: another thread may have taken the last meanwhile
                    connection = open_reader(self._path)
                try:
                    return work(connection)
                finally:
                    self._idle.append(connection)
            except apsw.Error as error:
                raise spool_error(error) from error

    def next_due(self) -> float | None:
        """See ISpool."""
        rows = self._reading(lambda connection: connection.execute(NEXT_DUE).fetchall())
        return min([float(row[0]) for row in rows if row[0] is not None], default=None)

    def count(self) -> dict[str, int]:
        """How many recipients are in each state, and how many mails there are (each has one recipient number 0)."""
        rows = self._reading(lambda connection: connection.execute(COUNT).fetchall())
        counts = {State(state): number for state, number, _ in rows}
        return {"mails": sum(row[2] for row in rows)} | {state.name.lower(): counts[state] for state in State}

    def waiting_for(
        self, destination: str, now: float, until: float, limit: int, since: float
    ) -> list[tuple[int, int]]:
        """Delayed recipients of a destination that are due after ``now`` and until ``until`` and were not tried after
        ``since``, the first due first."""
        values = (now, until, destination, limit, since)
        rows = self._reading(lambda connection: connection.execute(WAITING_FOR, values).fetchall())
        return [(mail, number) for mail, number in rows]

    def find(self, wanted: Filter) -> list[Mail]:
        """See ISpool. A mail whose rows cannot be understood is left out, and logged."""

        def work(connection: Connection) -> list[Mail]:
            found: list[Mail] = []
            for mail in search.ids(connection, wanted, wanted.limit):
                try:
                    kept = load(connection, self._contents, mail, self._content)
                except ValueError:
                    _log.failure("{queue_id} in the spool cannot be read", queue_id=queueid.to_text(mail))
                    continue
                if kept is not None:
                    found.append(kept)
            return found

        return self._reading(work)

    def select(self, wanted: Filter, limit: int, after: str = "") -> list[str]:
        """See ISpool."""
        number = queueid.to_number(after)
        found = self._reading(
            lambda connection: search.ids(connection, wanted, limit, -1 if number is None else number)
        )
        return [queueid.to_text(mail) for mail in found]

    def tally(self, wanted: Filter) -> list[Tally]:
        """See ISpool."""
        return self._reading(lambda connection: search.tally(connection, wanted))

    def tally_senders(self, wanted: Filter) -> list[Tally]:
        """See ISpool."""
        return self._reading(lambda connection: search.tally_senders(connection, wanted))

    def attempts(self, queue_id: str) -> list[Attempt]:
        """See ISpool."""
        return self._reading(lambda connection: attempts.of_mail(connection, queue_id))

    def _content(self, mail: int) -> bytes | None:
        sql = "SELECT content FROM mail WHERE id = ?"
        try:
            rows = self._reading(lambda connection: connection.execute(sql, (mail,)).fetchall())
        except SpoolError as error:
            raise OSError(str(error)) from error
        return rows[0][0] if rows else None


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
    for number, recipient, state, due, tries, destination, last, told, cause, next_hop in connection.execute(
        "SELECT number, recipient, state, due, attempts, destination, last, told, cause, next_hop FROM recipient"
        " WHERE mail = ? ORDER BY number",
        (mail,),
    ).fetchall():
        decoded = decode_recipient(recipient)
        status = decode_status(last)
        entries.append(Entry(number, decoded, State(state), due, tries, destination, status, told, cause, next_hop))
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
