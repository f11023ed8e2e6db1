"""What came of TLS is counted, bounded, and written behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.state.at_once import StateAtOnce
from tests.state.counting import TODAY, CountsCase
from twisted_mail_node.events import Event, MailFinished, RecipientDelayed, RecipientRelayed
from twisted_mail_node.outbound.tls_outcome import TlsOutcome
from twisted_mail_node.state import behind, tls_results
from twisted_mail_node.state.behind import DAY
from twisted_mail_node.state.database import StateDatabase
from twisted_mail_node.state.tls_results import Counted, TlsResults, domain_of

GOOD = TlsOutcome("a.example", "sts", ("version: STSv1",), ("*.a.example",), "mx.a.example", "192.0.2.1", "192.0.2.9",
                  "", "")  # fmt: skip
BAD = GOOD._replace(result="certificate-expired", words="it expired on 2026-01-01")


def relayed(destination: str, queue_id: str = "1", kind: type[Any] = RecipientRelayed) -> Event:
    """A mail went there."""
    fields = dict.fromkeys(kind._fields, "") | {"queue_id": queue_id, "destination": destination}
    event: Event = kind(**fields)
    return event


class ResultsCase(CountsCase):
    def make(self, state: StateDatabase, clock: Clock) -> TlsResults:
        return TlsResults(state, clock)

    def domains(self, day: int = TODAY, after: str = "", limit: int = 100) -> list[str]:
        """Those to report on."""
        found: list[str] = self.result(self.results.domains(day, after, limit))
        return found


class CountTest(ResultsCase):
    """note."""

    def test_counts(self) -> None:
        """Sessions that came out alike are one row; a success keeps nothing of the host."""
        for outcome in (GOOD, GOOD._replace(exchanger="mx2.a.example"), BAD, BAD, BAD._replace(domain="b.example")):
            self.results.note(outcome)
        good, bad, other = sorted(self.counted(), key=lambda one: (one.domain, one.result))
        self.assertEqual(good, Counted("a.example", *GOOD[1:4], "", "", "", "", "", 2))
        self.assertEqual(
            bad,
            Counted("a.example", *GOOD[1:4], BAD.result, "mx.a.example", "192.0.2.1", "192.0.2.9", BAD.words, 2),
        )
        self.assertEqual((other.domain, other.sessions), ("b.example", 1))
        self.assertEqual(self.counted("b.example"), [other])
        self.assertEqual(self.counted("c.example"), [])

    def test_behind(self) -> None:
        """A session costs no statement; a minute's are written together, and those of later minutes are added."""
        before = self.state.writes
        for _ in range(1000):
            self.results.note(GOOD)
        self.assertEqual(self.state.writes, before)
        self.clock.advance(behind.FLUSH_AFTER)
        self.assertEqual(self.state.writes, before + 1)
        self.results.note(GOOD)
        self.clock.advance(behind.FLUSH_AFTER)
        self.assertEqual([one.sessions for one in self.counted()], [1001])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_restart(self) -> None:
        """Stopping writes all; after a restart counting goes on where it was."""
        self.results.note(GOOD)
        self.results.observe(relayed("a.example"))
        self.restart()
        self.results.note(GOOD)
        self.assertEqual([one.sessions for one in self.counted()], [2])
        self.assertEqual(self.domains(), ["a.example"])

    def test_days(self) -> None:
        """Each day (UTC) is counted by itself, and is forgotten after some."""
        self.results.note(GOOD)
        self.clock.advance(DAY)
        self.results.note(BAD)
        self.assertEqual([one.result for one in self.counted(day=TODAY)], [""])
        self.assertEqual([one.result for one in self.counted(day=TODAY + 1)], [BAD.result])
        self.clock.advance(tls_results.KEEP_DAYS * DAY)
        self.results.note(GOOD)
        self.assertEqual(self.counted(day=TODAY), [])
        self.assertEqual(len(self.counted(day=TODAY + 1)), 1)

    def test_domains_bounded(self) -> None:
        """Domains above the bound are not counted, and those below it still are."""
        self.patch(tls_results, "DOMAINS_MAX", 3)
        for number in range(5):
            self.results.note(GOOD._replace(domain=f"d{number}.example"))
        self.results.note(GOOD._replace(domain="d0.example"))
        self.assertEqual([(one.domain, one.sessions) for one in self.counted()],
                         [("d0.example", 2), ("d1.example", 1), ("d2.example", 1)])  # fmt: skip
        self.restart()
        self.results.note(GOOD._replace(domain="d4.example"))
        self.assertEqual(len(self.counted()), 3)

    def test_kinds_bounded(self) -> None:
        """Of a domain whose failures are all different the sums stay right, and the details are bounded."""
        for number in range(1000):
            self.results.note(BAD._replace(words=f"failure {number}"))
        self.results.note(GOOD._replace(policy=("another",)))
        rows = self.counted()
        self.assertLessEqual(len(rows), tls_results.KINDS_MAX + 2)
        self.assertEqual(sum(one.sessions for one in rows if one.result), 1000)
        self.assertEqual(sum(one.sessions for one in rows if not one.result), 1)

    def test_texts_bounded(self) -> None:
        """What others wrote is cut, and comes back as text whatever it is."""
        evil = "'; DROP TABLE tls_result; --\x00\u202e\ud800" + "x" * 5000
        self.results.note(BAD._replace(policy=(evil,) * 5000, exchangers=("y",) * 5000, words=evil, exchanger=evil))
        (one,) = self.counted()
        self.assertEqual((len(one.policy), len(one.exchangers)), (tls_results.LINES_MAX, tls_results.LINES_MAX))
        self.assertEqual(max(len(text) for text in (*one.policy, one.words, one.exchanger)), tls_results.TEXT_MAX)

    def test_disabled(self) -> None:
        """Where no reports are sent nothing is counted."""
        self.results.enabled = False
        self.results.note(GOOD)
        self.results.observe(relayed("a.example"))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_many(self) -> None:
        """10 000 domains, each with a policy of its own: no reactor turn hands over more than one piece, whether it
        counts or writes what was left."""
        turns: list[list[list[list[object]]]] = [[]]
        self.state.write = lambda sql, values=(): turns[-1].append(json.loads(values[0]))  # type: ignore[method-assign]
        flush = self.results._behind._flush

        def flushed() -> None:
            turns.append([])
            flush()

        self.patch(self.results._behind, "_flush", flushed)
        for number in range(10_000):
            policy = tuple(f"mx: mx{host}.d{number}.example" for host in range(30))
            self.results.note(BAD._replace(domain=f"d{number}.example", policy=policy))
            turns.append([])
        self.clock.advance(behind.FLUSH_AFTER)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        counted = [row for turn in turns for piece in turn for row in piece if len(row) > 2]
        self.assertEqual(
            sorted(str(row[1]) for row in counted), sorted(f"d{number}.example" for number in range(10_000))
        )
        self.assertLessEqual(max(len(piece) for turn in turns for piece in turn), behind.FLUSH_ROWS)
        self.assertLessEqual(max(len(turn) for turn in turns), 2)

    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["", "x", "y"]), st.booleans()), max_size=60))
    def test_sums(self, sessions: list[tuple[str, str, bool]]) -> None:
        """However they come and whenever they are written, every session is counted once."""
        results = TlsResults(state := StateAtOnce(Path(self.mktemp())), self.clock)
        self.addCleanup(state.close)
        for domain, result, pause in sessions:
            results.note(GOOD._replace(domain=domain, result=result))
            if pause:
                self.clock.advance(behind.FLUSH_AFTER)
        done = Deferred.fromCoroutine(results.counted(TODAY))
        self.clock.pump([0] * 20)
        rows = [(one.domain, one.result, one.sessions) for one in self.successResultOf(done)]
        wanted = {(domain, result): 0 for domain, result, _ in sessions}
        for domain, result, _ in sessions:
            wanted[domain, result] += 1
        self.assertEqual(sorted(rows), sorted((*key, count) for key, count in wanted.items()))
        self.clock.rightNow = TODAY * DAY + 1000.0


class MailedTest(ResultsCase):
    """Which domains are reported on."""

    def test_ordinary(self) -> None:
        """A domain is reported on when mail that is no report was sent to it, or tried to be."""
        for domain in ("a.example", "b.example", "c.example", "d.example"):
            self.results.note(GOOD._replace(domain=domain))
        self.results.carries_report("77")
        self.results.observe(relayed("a.example", "77"))
        self.results.observe(relayed("B.example:2525", "1"))
        self.results.observe(relayed("c.example", "2", RecipientDelayed))
        self.results.observe(MailFinished("77", 1.0))
        self.assertEqual(self.domains(), ["b.example", "c.example"])
        self.assertEqual(self.domains(limit=1), ["b.example"])
        self.assertEqual(self.domains(after="b.example"), ["c.example"])
        self.assertEqual(self.domains(day=TODAY + 1), [])

    def test_reports_are_known_again(self) -> None:
        """A report that is tried again after a restart is still no ordinary mail."""
        self.results.carries_report("77")
        self.restart()
        self.results.note(GOOD)
        self.results.observe(relayed("a.example", "77", RecipientDelayed))
        self.assertEqual(self.domains(), [])

    def test_reports_are_forgotten(self) -> None:
        """Queue ids of reports are kept as long as a mail may be tried, and no longer."""
        self.results.carries_report("77")
        self.clock.advance((tls_results.KEEP_DAYS + 1) * DAY)
        self.results.note(GOOD)
        self.restart()
        self.results.note(GOOD)
        self.results.observe(relayed("a.example", "77"))
        self.assertEqual(self.domains(TODAY + tls_results.KEEP_DAYS + 1), ["a.example"])

    def test_domain_of(self) -> None:
        """The domain of a next hop has no port and no brackets."""
        for destination, domain in (
            ("A.example", "a.example"), ("a.example:25", "a.example"), ("[mx.a.example]:25", "mx.a.example"),
            ("[2001:db8::1]:25", "2001:db8::1"), ("", ""),
            ("b\u00fccher.example", "xn--bcher-kva.example"), ("a.example.", "a.example"),
        ):  # fmt: skip
            self.assertEqual(domain_of(destination), domain)
