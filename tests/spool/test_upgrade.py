"""A spool of format 1, 2 or 3 is opened, keeps every mail, and becomes one of format 4; no row is written anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
from twisted.trial.unittest import SynchronousTestCase

from tests.spool.material import HEADER, JOE, LATER, NOW, StoreCase, changed, new_mail, numbers, put, whole
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.spool import database, queueid
from twisted_mail_node.spool.mail import Attempt, Change, Filter, SpoolError, State, Tally
from twisted_mail_node.spool.sqlite import Store

#: The tables of format 1, as they were.
TABLES = """
CREATE TABLE mail(
    id INTEGER PRIMARY KEY, received REAL NOT NULL, envelope TEXT NOT NULL, header BLOB NOT NULL,
    size INTEGER NOT NULL, eight_bit INTEGER NOT NULL, content BLOB
);
CREATE TABLE recipient(
    mail INTEGER NOT NULL, number INTEGER NOT NULL, state INTEGER NOT NULL, due REAL NOT NULL,
    attempts INTEGER NOT NULL, destination TEXT NOT NULL, recipient TEXT NOT NULL, last TEXT,
    PRIMARY KEY(mail, number)
) WITHOUT ROWID;
CREATE INDEX recipient_due ON recipient(due) WHERE state = 1;
CREATE INDEX mail_in_file ON mail(id) WHERE content IS NULL;
PRAGMA user_version = 1;
"""
ENVELOPE = (
    '[["joe","example.org"],"8BITMIME",false,"HDRS","env1","192.0.2.9","client.example","ESMTP","s1","submission"]'
)
NULL_ENVELOPE = '[null,"7BIT",false,null,"","","","","","local"]'
STATUS = '["delayed","4.2.1","remote-delayed","450 4.2.1 later","mx.example.net","",true,false]'
ALIAS = '["ann","example.net","sales","example.org",["NEVER"],"rfc822;sales@example.org"]'


def old_spool(directory: Path, more: int = 0) -> None:
    """A spool of format 1: a mail with two recipients of which one waits, a held DSN, and ``more`` mails that wait."""
    directory.mkdir()
    connection: Any = apsw.Connection(str(directory / "spool.sqlite"))
    connection.pragma("journal_mode", "wal")
    connection.execute(TABLES).fetchall()
    connection.execute("BEGIN").fetchall()
    connection.execute("INSERT INTO mail VALUES (1,?,?,?,5,0,?)", (NOW, ENVELOPE, HEADER, b"old\r\n"))
    connection.execute("INSERT INTO mail VALUES (2,?,?,?,2,0,?)", (NOW + 1, NULL_ENVELOPE, HEADER, b"\r\n"))
    rows: list[tuple[Any, ...]] = [
        (1, 0, 1, NOW + 60, 3, "example.net", ALIAS, STATUS),
        (1, 1, 0, 0.0, 0, "", '["bob","example.com"]', None),
        (2, 0, 2, 0.0, 0, "", '["joe","example.org"]', None),
    ]
    for number in range(3, 3 + more):
        connection.execute("INSERT INTO mail VALUES (?,?,?,?,5,0,?)", (number, NOW, ENVELOPE, HEADER, b"old\r\n"))
        rows.append((number, 0, 1, NOW + number, 1, "", '["bob","example.com"]', None))
    connection.executemany("INSERT INTO recipient VALUES (?,?,?,?,?,?,?,?)", rows)
    connection.execute("COMMIT").fetchall()
    connection.close()


class UpgradeTests(StoreCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.steps: list[str] = []
        old_spool(self.directory)
        self.store = Store(self.directory)
        self.addCleanup(lambda: self.store.close())

    def test_all_is_there(self) -> None:
        """Every mail comes back as it was kept, and again when it is opened the next time."""
        for reopen in (False, True):
            if reopen:
                self.reopen()
            first, second = self.all()
            ann, sales, bob = (
                Address("ann", "example.net"),
                Address("sales", "example.org"),
                Address("bob", "example.com"),
            )
            recipients = (Recipient(ann, sales, ("NEVER",), "rfc822;sales@example.org"), Recipient(bob, bob))
            envelope = Envelope(
                JOE, recipients, "8BITMIME", False, "HDRS", "env1", "192.0.2.9", "client.example", "ESMTP", "s1",
                "submission",
            )  # fmt: skip
            self.assertEqual((first.envelope, first.header, whole(first)), (envelope, HEADER, b"old\r\n"))
            self.assertEqual(first.entries[0][2:], (State.DELAYED, NOW + 60, 3, "example.net", LATER, False, "", ""))
            self.assertEqual(first.entries[1].state, State.ACTIVE)
            self.assertEqual((second.envelope.reverse_path, second.entries[0].state), (None, State.HELD))
            self.assertIsNone(self.store.damaged)
            self.assertEqual(self.store.connection.pragma("user_version"), 4)

    def test_texts_stay(self) -> None:
        """No text is rewritten; the new columns have their defaults."""
        self.assertEqual([row[0] for row in self.rows("SELECT envelope FROM mail")], [ENVELOPE, NULL_ENVELOPE])
        self.assertEqual(self.rows("SELECT last FROM recipient WHERE mail = 1"), [(STATUS,), (None,)])
        self.assertEqual(
            set(self.rows("SELECT class, told, cause, sender, next_hop FROM recipient")), {(1, 0, "", "", "")}
        )

    def test_goes_on(self) -> None:
        """Old and new mails are due side by side, are delayed again, and leave."""
        put(self.store, new_mail(9))
        self.delay(9, NOW + 30)
        self.assertEqual(self.store.next_due(), NOW + 30)
        self.assertEqual(numbers(self.take(NOW + 60)), [9, 1])
        self.delay(1, NOW + 90, told=True, last=LATER._replace(tls="TLSv1.3"))
        self.assertTrue(self.all()[0].entries[0].told)
        changed(self.store, *[Change(queueid.to_text(1), place, State.FINISHED) for place in (0, 1)])
        self.assertEqual(numbers(self.all()), [2, 9])

    def test_as_a_new_one(self) -> None:
        """Afterwards it has the tables and indexes of a spool that was made new."""
        other = Store(Path(self.mktemp()))
        self.addCleanup(other.close)
        tables = [row[0] for row in other.connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        self.assertEqual(sorted(tables), ["attempt", "mail", "recipient"])
        for table in tables:
            sql = f"PRAGMA table_info({table})"
            self.assertEqual(self.rows(sql), list(other.connection.execute(sql).fetchall()), sql)
        sql = "SELECT name, sql FROM sqlite_schema WHERE type = 'index' ORDER BY name"
        self.assertEqual(self.rows(sql), list(other.connection.execute(sql).fetchall()))

    def test_listed(self) -> None:
        """What waits since before is found and counted, without a cause, until its next attempt gives it one."""
        old = queueid.to_text(1)
        for fields in ({}, {"destination": "example.net"}, {"sender": "joe"}, {"causes": ("",)}, {"before": 2.0e9}):
            self.assertIn(1, numbers(self.all(**fields)), fields)
        self.assertEqual(numbers(self.all(sender="<>")), [2])
        self.assertEqual(numbers(self.all(state=State.HELD)), [2])
        self.assertEqual(numbers(self.all(causes=("remote-delayed",))), [])
        self.assertIn(Tally("example.net", "", 1, NOW), self.store.tally(Filter()))
        self.assertEqual(
            set(self.store.tally_senders(Filter())), {Tally("joe@example.org", "", 2, NOW), Tally("", "", 1, NOW + 1)}
        )
        self.take(NOW + 60)
        self.delay(1, NOW + 90, destination="example.net", attempts=4, last=LATER, cause="remote-delayed", tried=NOW)
        self.assertEqual(numbers(self.all(causes=("remote-delayed",), sender="joe@")), [1])
        self.assertEqual(self.store.attempts(old), [Attempt(NOW, 0, "example.net", LATER)])

    def test_held(self) -> None:
        """An operator may hold and release what waits since before."""
        old = queueid.to_text(1)
        self.assertEqual(self.store.hold([old]), [old])
        self.assertEqual([one.cause for one in self.all()[0].entries], ["held", ""])
        self.store.release([old, queueid.to_text(2)], NOW)
        self.assertEqual(numbers(self.take(NOW)), [1, 2])

    def test_started(self) -> None:
        """A start lets what was active be due, and says why it waits."""
        self.assertEqual(self.store.recover(NOW + 99), (2, 2))
        self.assertEqual([one.cause for one in self.all()[0].entries], ["", "not-tried"])
        self.assertEqual(numbers(self.all(causes=("not-tried",), sender="joe")), [1])

    def test_crash(self) -> None:
        """The upgrade is one transaction: where it fails, the old spool is as it was, and the next start does it."""
        self.store.close()
        self.directory = Path(self.mktemp())
        old_spool(self.directory)
        for name in ("_FROM_1", "_FROM_2", "_MORE"):
            fault = self.patch(database, name, getattr(database, name) + "CREATE TABLE mail(x);")
            self.assertRaises(SpoolError, Store, self.directory)
            connection: Any = apsw.Connection(str(self.directory / "spool.sqlite"))
            self.assertEqual(connection.pragma("user_version"), 1)
            columns = [row[1] for row in connection.execute("PRAGMA table_info(recipient)").fetchall()]
            connection.close()
            self.assertNotIn("class", columns)
            fault.restore()
        self.store = Store(self.directory)
        self.assertEqual(numbers(self.all()), [1, 2])


class From2Tests(UpgradeTests):
    """The same, when a node of format 2 was there between."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.steps: list[str] = []
        old_spool(self.directory)
        connection: Any = apsw.Connection(str(self.directory / "spool.sqlite"))
        connection.execute(database._FROM_1).fetchall()
        connection.pragma("user_version", 2)
        connection.close()
        self.store = Store(self.directory)
        self.addCleanup(lambda: self.store.close())


class From3Tests(SynchronousTestCase):
    """Format 4 has the tables of format 3."""

    def test_opened(self) -> None:
        """A spool of format 3 only gets another number, so that an older node leaves it alone."""
        directory = Path(self.mktemp())
        Store(directory).close()
        path = directory / "spool.sqlite"
        connection: Any = apsw.Connection(str(path))
        before = connection.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()
        connection.pragma("user_version", 3)
        connection.close()
        store = Store(directory)
        self.addCleanup(store.close)
        self.assertIsNone(store.damaged)
        after = store.connection.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()
        self.assertEqual(after, before)
        self.assertEqual(store.connection.pragma("user_version"), 4)
