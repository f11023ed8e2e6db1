"""The attempts that put a recipient off, kept with the mail: what was tried when, where, and what came of it."""

from __future__ import annotations

from twisted.logger import Logger

from twisted_mail_node.spool import queueid
from twisted_mail_node.spool.codec import decode_status
from twisted_mail_node.spool.database import Connection
from twisted_mail_node.spool.mail import Attempt, Change

#: Attempts of a recipient that are kept; the oldest go. By the usual schedule a mail of five days has about twenty.
KEPT_AT_MOST = 100

#: A mail that an operator removed during the attempt gets none.
_KEEP = (
    "INSERT OR REPLACE INTO attempt SELECT mail, number, ?, destination, last FROM recipient"
    " WHERE mail = ? AND number = ? AND last IS NOT NULL"
)
_DROP = (
    "DELETE FROM attempt WHERE mail = :mail AND number = :number AND tried <="
    " (SELECT tried FROM attempt WHERE mail = :mail AND number = :number ORDER BY tried DESC LIMIT 1 OFFSET :kept)"
)
OF_MAIL = "SELECT tried, number, destination, status FROM attempt WHERE mail = ? ORDER BY tried, number"

_log = Logger()


def keep(connection: Connection, change: Change) -> None:
    """Keep the attempt that a change speaks of, which is written already; part of a transaction."""
    mail = int(change.queue_id, 16)
    connection.execute(_KEEP, (change.tried, mail, change.number)).fetchall()
    if change.attempts > KEPT_AT_MOST:
        connection.execute(_DROP, {"mail": mail, "number": change.number, "kept": KEPT_AT_MOST}).fetchall()


def of_mail(connection: Connection, queue_id: str) -> list[Attempt]:
    """See ``ISpool.attempts``. A row that cannot be understood is left out, and logged."""
    found: list[Attempt] = []
    for tried, number, destination, text in connection.execute(OF_MAIL, (queueid.to_number(queue_id),)).fetchall():
        try:
            status = decode_status(text)
        except ValueError:
            _log.failure("an attempt of {queue_id} in the spool cannot be read", queue_id=queue_id)
            continue
        if status is not None:
            found.append(Attempt(tried, number, destination, status))
    return found
