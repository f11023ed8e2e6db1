"""Tests of twisted_mail_node.state.tls_levels: the best protection reached with a domain."""

from __future__ import annotations

from pathlib import Path

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from twisted_mail_node.state import tls_levels
from twisted_mail_node.state.database import StateDatabase
from twisted_mail_node.state.tls_levels import TlsLevels


class LevelsTest(TestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "state.sqlite"

    def opened(self) -> tuple[TlsLevels, StateDatabase]:
        database = StateDatabase(self.path, reactor)  # type: ignore[arg-type]
        self.addCleanup(database.close)
        return TlsLevels(database, lambda: 1000.0), database

    def test_best(self) -> None:
        """The best level is kept, over restarts; a lesser one changes nothing."""
        levels, database = self.opened()
        for level, best in (
            ("encrypted", "encrypted"), ("verified", "verified"), ("encrypted", "verified"), ("dane", "dane"),
            ("verified", "dane"), ("dane", "dane"),
        ):  # fmt: skip
            levels.reached("example.net", level)
            self.assertEqual(levels.of("example.net"), best)
        levels.reached("example.com", "encrypted")
        self.assertEqual(levels.of("example.org"), "")
        database.close()
        again, _ = self.opened()
        self.assertEqual(again.all(), {"example.net": "dane", "example.com": "encrypted"})

    def test_forget(self) -> None:
        """What is forgotten stays so, and may be reached anew."""
        levels, database = self.opened()
        levels.reached("example.net", "dane")
        self.assertEqual([levels.forget("example.net"), levels.forget("example.net")], ["dane", ""])
        self.assertEqual(levels.of("example.net"), "")
        levels.reached("example.com", "verified")
        levels.forget("example.com")
        levels.reached("example.com", "encrypted")
        database.close()
        self.assertEqual(self.opened()[0].all(), {"example.com": "encrypted"})

    def test_bound(self) -> None:
        """When there are very many no further domain is remembered; those that are may still rise."""
        self.patch(tls_levels, "DOMAINS_MAX", 2)
        levels, _ = self.opened()
        for domain in ("a.example", "b.example", "c.example"):
            levels.reached(domain, "encrypted")
        levels.reached("a.example", "verified")
        self.assertEqual(levels.all(), {"a.example": "verified", "b.example": "encrypted"})

    def test_strange_rows(self) -> None:
        """A level that a later version wrote is not known, and not lost."""
        _, database = self.opened()
        database.write("INSERT INTO tls_levels VALUES ('example.net', 'quantum', 1.0)")
        database.close()
        again, database = self.opened()
        self.assertEqual(again.all(), {})
        self.assertEqual(database.read("SELECT level FROM tls_levels"), [("quantum",)])
