"""The spool's database file: its tables, how it is opened, and how a damaged one is set aside.

Nothing is deleted from a damaged spool: the database, its WAL and the content files move to a directory of their own
(``damaged-<seconds since the epoch>``), from which an operator may get back what can be read.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import apsw

from twisted_mail_node.spool import queueid
from twisted_mail_node.spool.codec import FORMAT
from twisted_mail_node.spool.mail import SpoolError

#: WAL pages after which a commit copies them into the database. 1000 keeps the 99th percentile of commits short.
CHECKPOINT_PAGES = 1000
#: Compiled statements kept: five kinds of ``statements.BLOCK`` sizes, and some.
STATEMENTS = 400
#: Seconds to wait for another process that holds the write lock (the command line while the node is down).
BUSY = 10.0

#: Octets of a database's header; SQLite takes a file of one octet for an empty one.
HEADER = 100

#: What SQLite says of a file that is no database, or no longer a whole one.
DAMAGE = (apsw.NotADBError, apsw.CorruptError)

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
    class INTEGER NOT NULL DEFAULT 1, -- message.precedence.class_of the mail's priority
    told INTEGER NOT NULL DEFAULT 0,  -- the sender knows that it is late (DSN with the action "delayed")
    cause TEXT NOT NULL DEFAULT '',   -- why it waits (spool.mail.Entry); '' in the first attempt and when finished
    sender TEXT NOT NULL DEFAULT '',  -- the reverse-path in lower case, where cause says something; '' is the null one
    next_hop TEXT NOT NULL DEFAULT '', -- where an operator wants it to go; '': by its routes
    PRIMARY KEY(mail, number)
) WITHOUT ROWID;
CREATE INDEX recipient_due ON recipient(class, due) WHERE state = 1;
CREATE INDEX mail_in_file ON mail(id) WHERE content IS NULL;
"""

#: What format 3 has more. With these indexes every unfinished recipient is counted and found without a look at the
#: rows: by why, where, how long and for whom it waits (the ids of mails are in order of time); by its state; in the
#: order of coming back to a destination; and what waits since a format that kept no causes. One that is delivered at
#: its first attempt is in ``recipient_rest`` only.
_MORE = """
CREATE INDEX recipient_held ON recipient(mail) WHERE state = 2;
CREATE INDEX recipient_rest ON recipient(state) WHERE state IN (0, 3);
CREATE INDEX recipient_cause ON recipient(cause, destination, mail, sender) WHERE cause <> '';
CREATE INDEX recipient_waiting ON recipient(destination, due) WHERE state = 1;
CREATE INDEX recipient_old ON recipient(mail) WHERE cause = '' AND state IN (1, 2);
CREATE TABLE attempt(
    mail INTEGER NOT NULL,
    number INTEGER NOT NULL,          -- of the recipient
    tried REAL NOT NULL,              -- seconds since the epoch
    destination TEXT NOT NULL,
    status TEXT NOT NULL,             -- codec.encode_status
    PRIMARY KEY(mail, number, tried)
) WITHOUT ROWID;
"""

#: A spool of format 1 becomes one of format 2. No row is written: SQLite gives old rows the columns' defaults.
_FROM_1 = """
ALTER TABLE recipient ADD COLUMN class INTEGER NOT NULL DEFAULT 1;
ALTER TABLE recipient ADD COLUMN told INTEGER NOT NULL DEFAULT 0;
DROP INDEX recipient_due;
CREATE INDEX recipient_due ON recipient(class, due) WHERE state = 1;
"""

#: One of format 2 becomes one of format 3, in the same way. What waits keeps an empty cause until its next attempt.
_FROM_2 = """
ALTER TABLE recipient ADD COLUMN cause TEXT NOT NULL DEFAULT '';
ALTER TABLE recipient ADD COLUMN sender TEXT NOT NULL DEFAULT '';
ALTER TABLE recipient ADD COLUMN next_hop TEXT NOT NULL DEFAULT '';
"""

#: apsw's own types give every column as "any SQLite value"; the rows' real types stand in the schema above.
Connection: TypeAlias = Any


class Damaged(NamedTuple):
    """A spool that could not be read was moved to the directory ``path``."""

    path: Path
    words: str


def spool_error(error: apsw.Error) -> SpoolError:
    """SQLite's error as ours: a full disk is told apart (452 rather than 451)."""
    return SpoolError(f"the spool failed: {error}", full=isinstance(error, apsw.FullError))


def make_directories(directory: Path) -> None:
    """Make the spool's directories, for our eyes only, and have their names on the disk.

    A file that is fsynced in a directory whose own name is not on the disk is lost with it in a power failure.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = directory / "content"
    content.mkdir(mode=0o700, exist_ok=True)
    for place in (content, directory, *directory.absolute().parents):
        with suppress(OSError):  # a directory above that is not ours to read, a file system without fsync for it
            sync_directory(place)


def sync_directory(directory: Path) -> None:
    """The names in ``directory`` are on the disk when this returns."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def open_database(path: Path) -> Connection:
    """The database, with its tables; made when it is not there.

    :raises apsw.Error: it cannot be opened; one of DAMAGE: it is no (whole) database.
    :raises SpoolError: it is a newer version's, or cannot be durable where it lies.
    """
    # SQLite gives the WAL the permissions that the database has then: a chmod afterwards would come too late.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = apsw.Connection(str(path), statementcachesize=STATEMENTS)
    try:
        # A damaged database is to be set aside as it was found.
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.set_busy_timeout(int(BUSY * 1000))
        version = connection.pragma("user_version")
        if version > FORMAT:
            raise SpoolError(f"{path} was written by a newer version (format {version}; this one knows {FORMAT})")
        mode = connection.pragma("journal_mode", "wal")
        if mode != "wal":
            # A rollback journal would need synchronous=EXTRA to keep what was acknowledged.
            raise SpoolError(f"{path} lies on a file system without the shared memory that SQLite's WAL needs")
        connection.pragma("synchronous", "full")
        connection.pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        if version < FORMAT:
            connection.execute("BEGIN IMMEDIATE").fetchall()
            version = connection.pragma("user_version")  # another process may have done it meanwhile
            if version < FORMAT:
                connection.execute(_steps(version)).fetchall()
                connection.pragma("user_version", FORMAT)
            connection.execute("COMMIT").fetchall()
            # The journal of making it must not come back after a power failure: it would undo all that followed.
            sync_directory(path.parent)
        connection.execute("SELECT id FROM mail LIMIT 1").fetchall()
        connection.execute("SELECT mail FROM recipient LIMIT 1").fetchall()
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
    except BaseException:
        connection.close()
        raise
    return connection


def _steps(version: int) -> str:
    """The statements that make tables of this format from those of ``version``; 0 is an empty database."""
    if not version:
        return _SCHEMA + _MORE
    if version == 3:
        return ""  # format 4 only has more to say of an envelope
    return (_FROM_1 if version < 2 else "") + _FROM_2 + _MORE


def open_reader(path: Path) -> Connection:
    """A connection for reads beside the one that writes: WAL lets them run at the same time."""
    reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    reader.set_busy_timeout(int(BUSY * 1000))
    return reader


def missing(directory: Path) -> str:
    """Says so when the database is gone or emptied although the spool was in use; ``""`` when all is well.

    SQLite would take an empty file for a new database, and the content files for left-overs. The first commit of the
    tables is on the disk before there is any content, so that no crash looks like this.
    """
    path = directory / "spool.sqlite"
    if path.exists() and path.stat().st_size >= HEADER:
        return ""
    log = path.with_name("spool.sqlite-wal")
    used = (log.exists() and log.stat().st_size) or any(map(queueid.is_text, _names(directory / "content")))
    return "the database is gone or empty, but there is content" if used else ""


def _names(directory: Path) -> list[str]:
    return os.listdir(directory) if directory.exists() else []


def set_aside(directory: Path) -> Path:
    """Move a spool that cannot be read out of the way, whole. No connection may be open. Gives its new directory."""
    name = f"damaged-{int(time.time())}"
    aside, more = directory / name, 1
    while aside.exists():
        aside, more = directory / f"{name}-{more}", more + 1
    aside.mkdir(mode=0o700)
    for kept in ("spool.sqlite", "spool.sqlite-wal", "spool.sqlite-shm", "content"):
        if (directory / kept).exists():
            os.rename(directory / kept, aside / kept)
    sync_directory(aside)
    make_directories(directory)
    return aside
