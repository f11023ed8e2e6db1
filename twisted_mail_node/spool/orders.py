"""What an operator orders for mails in the spool: the statements that hold, release, reroute, give up and remove them.

Each takes the numbers of a page of mails at once and is a part of a transaction: whoever works on very many mails
brings them in pages, so that new mail is committed in between.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from twisted_mail_node.spool import queueid
from twisted_mail_node.spool.database import Connection
from twisted_mail_node.spool.mail import HELD, HELD_BACK, NOT_TRIED

#: The reverse-path of a row of ``mail``, in lower case (ASCII letters only, as SQLite does it); ``''`` is the null one.
REVERSE_PATH = (
    "CASE WHEN json_valid(envelope) AND json_extract(envelope, '$[0]') IS NOT NULL"
    " THEN lower(json_extract(envelope, '$[0][0]') || '@' || json_extract(envelope, '$[0][1]')) ELSE '' END"
)
#: … as a value for the column ``sender`` of a row of ``recipient``.
SENDER = f"(SELECT {REVERSE_PATH} FROM mail WHERE id = recipient.mail)"

#: The recipients of a page of mails, by the primary key: the + keeps SQLite from looking for them by their state.
_OF_THESE = "WHERE mail IN (SELECT value FROM json_each(:these)) AND +state"

HOLD = f"UPDATE recipient SET state = 2, cause = iif(cause = '', '{HELD}', cause), sender = {SENDER} {_OF_THESE} = 1"
#: What was held without ever being tried was not tried: it does not wait for an operator any more.
RELEASE = (
    f"UPDATE recipient SET state = 1, due = :due, cause = iif(cause IN ('{HELD}', '{HELD_BACK}'), '{NOT_TRIED}', cause)"
    f" {_OF_THESE} IN (1, 2)"
)
REROUTE = (
    "UPDATE recipient SET next_hop = :next_hop,"
    f" due = iif(state = 1 AND cause <> '{HELD_BACK}', :due, due) {_OF_THESE} < 3"
)
#: What is final already and only waits to be reported stays that: nobody is told that a mail failed which arrived.
_FINAL = "last IS NOT NULL AND json_valid(last) AND json_extract(last, '$[0]') <> 'delayed'"
GIVE_UP = (
    f"UPDATE recipient SET state = 1, due = :due, last = iif({_FINAL}, last, :last),"
    f" cause = iif({_FINAL}, cause, :cause), sender = {SENDER} {_OF_THESE} IN (1, 2)"
)
_KNOWN = "SELECT id FROM mail WHERE id IN (SELECT value FROM json_each(?))"
_REMOVE = "DELETE FROM mail WHERE id IN (SELECT value FROM json_each(?)) RETURNING id, content IS NULL"
_REMOVE_ALSO = (
    "DELETE FROM recipient WHERE mail IN (SELECT value FROM json_each(?))",
    "DELETE FROM attempt WHERE mail IN (SELECT value FROM json_each(?))",
)


class Found(NamedTuple):
    """What an order found.

    :ivar queue_ids: the mails, as they were named.
    :ivar gone: queue ids of those whose content files are to be deleted after the commit.
    """

    queue_ids: list[str]
    gone: list[str]


def change(connection: Connection, sql: str, queue_ids: Sequence[str], **values: object) -> Found:
    """Carry ``HOLD``, ``RELEASE``, ``REROUTE`` or ``GIVE_UP`` out."""
    found, these = _known(connection, queue_ids)
    connection.execute(sql, {**values, "these": these}).fetchall()
    return Found(found, [])


def remove(connection: Connection, queue_ids: Sequence[str]) -> Found:
    """Delete mails with all that is known of them."""
    found, these = _known(connection, queue_ids)
    rows = connection.execute(_REMOVE, (these,)).fetchall()
    for sql in _REMOVE_ALSO:
        connection.execute(sql, (these,)).fetchall()
    return Found(found, [queueid.to_text(row[0]) for row in rows if row[1]])


def _known(connection: Connection, queue_ids: Sequence[str]) -> tuple[list[str], str]:
    """Those that are in the spool: as they were named, and their numbers as JSON."""
    named = {text: queueid.to_number(text) for text in queue_ids}
    known = {row[0] for row in connection.execute(_KNOWN, (json.dumps(list(named.values())),)).fetchall()}
    return [text for text in queue_ids if named[text] in known], json.dumps(sorted(known))
