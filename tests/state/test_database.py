"""Tests of the database of what the node has learned."""

from __future__ import annotations

from pathlib import Path

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from twisted_mail_node.state.database import StateDatabase, StateError

TABLE = "CREATE TABLE IF NOT EXISTS learned(name TEXT PRIMARY KEY, value)"


class DatabaseTest(TestCase):
    """What is written is there after a restart."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "state.sqlite"

    def opened(self) -> StateDatabase:
        """The database, closed at the end."""
        database = StateDatabase(self.path, reactor)  # type: ignore[arg-type]
        self.addCleanup(database.close)
        database.tables(TABLE)
        return database

    async def test_kept(self) -> None:
        """Questions see what was written before them; closing writes what waits, and takes nothing after it."""
        database = self.opened()
        database.write("INSERT INTO learned VALUES(?, ?)", ("a", 1))
        self.assertEqual(await database.ask("SELECT * FROM learned"), [("a", 1)])
        database.write("INSERT INTO learned VALUES(?, ?)", ("b", 2))
        database.close()
        database.write("INSERT INTO learned VALUES(?, ?)", ("c", 3))
        self.assertEqual(self.opened().read("SELECT name FROM learned ORDER BY name"), [("a",), ("b",)])

    async def test_wrong(self) -> None:
        """A statement that fails is told or logged, and those after it go on; so is text that cannot be written."""
        database = self.opened()
        with self.assertRaises(StateError):
            await database.ask("SELECT * FROM nothing")
        database.write("INSERT INTO nothing VALUES(1)")
        database.write("INSERT INTO learned VALUES('a', 1)")
        self.assertEqual(len(await database.ask("SELECT * FROM learned")), 1)
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        with self.assertRaises(StateError):
            await database.ask("SELECT * FROM learned WHERE name = ?", ("half a character: \ud800",))
        database.write("INSERT INTO learned VALUES(?, 2)", ("\ud800",))
        self.assertEqual(len(await database.ask("SELECT * FROM learned")), 1)
        self.assertEqual(len(self.flushLoggedErrors(UnicodeEncodeError)), 1)
        database.close()
        with self.assertRaises(StateError):
            await database.ask("SELECT 1")

    def test_at_once(self) -> None:
        """One part may read and make its tables while another writes: neither is refused."""
        database = self.opened()
        for number in range(2000):
            database.write("INSERT INTO learned VALUES(?, ?)", (str(number), number))
        for number in range(50):
            database.tables(f"CREATE TABLE IF NOT EXISTS other{number}(name)")
            database.read("SELECT count(*) FROM learned")
        database.close()
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual(self.opened().read("SELECT count(*) FROM learned"), [(2000,)])

    def test_damaged(self) -> None:
        """A file that is no database is moved aside, whole, and a new one begins (attack T18)."""
        self.path.parent.mkdir()
        self.path.write_bytes(b"nonsense" * 1000)
        database = self.opened()
        assert database.damaged is not None
        self.assertEqual(database.damaged.read_bytes(), b"nonsense" * 1000)
        self.assertEqual(database.read("SELECT * FROM learned"), [])

    def test_damaged_within(self) -> None:
        """The same when only a page of a table is damaged, and the beginning of the file is whole."""
        database = self.opened()
        for number in range(1000):
            database.write("INSERT INTO learned VALUES(?, ?)", (f"{number}{'x' * 100}", number))
        database.close()
        octets = self.path.read_bytes()
        self.path.write_bytes(octets[:8192] + b"\xaa" * (len(octets) - 8192))
        database = self.opened()
        self.assertIsNotNone(database.damaged)
        self.assertNotEqual(database.words, "")
        self.assertEqual(database.read("SELECT * FROM learned"), [])

    def test_mode(self) -> None:
        """Nobody else reads it."""
        self.opened()
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)

    def test_nowhere(self) -> None:
        """A place that cannot be used is a sentence."""
        Path(self.path.parent).write_text("")
        with self.assertRaisesRegex(StateError, "cannot be opened"):
            StateDatabase(self.path, reactor)  # type: ignore[arg-type]
