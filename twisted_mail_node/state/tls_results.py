"""Counts what came of TLS with other hosts, by day (UTC) and domain, for the reports to them (RFC 8460 section 4).

What was counted is written behind (``state.behind``) and then lives in the database alone: memory holds a minute of
sessions and the names of the day's domains.

Mail that carries reports must not lead to further reports. So a domain is reported on only when mail of others was sent
there that day: this is an observer of events, too, and marks the destinations of mails that are no reports of ours.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from twisted_mail_node.events import Event, RecipientDelayed, RecipientFailed, RecipientRelayed
from twisted_mail_node.interfaces import IMailObserver
from twisted_mail_node.message.encoding import one_line
from twisted_mail_node.settings_routes import parse_next_hop
from twisted_mail_node.state.behind import DAY, Behind, Kind

if TYPE_CHECKING:
    from twisted_mail_node.outbound.tls_outcome import TlsOutcome
    from twisted_mail_node.state.database import StateDatabase

#: Domains of one day; what comes to more is not counted.
DOMAINS_MAX = 10_000
#: Kinds of failures, and policies, told apart for one domain and day; what more there is stands in the sums alone.
KINDS_MAX = 50
#: Lines of a policy and characters of one text that are kept.
LINES_MAX = 100
TEXT_MAX = 255
#: Days for which counts are kept, for operators.
KEEP_DAYS = 8

TABLES = """
CREATE TABLE IF NOT EXISTS tls_result(
    day INTEGER NOT NULL, domain TEXT NOT NULL, policy_type TEXT NOT NULL, policy TEXT NOT NULL,
    exchangers TEXT NOT NULL, result TEXT NOT NULL, exchanger TEXT NOT NULL, sending_ip TEXT NOT NULL,
    receiving_ip TEXT NOT NULL, words TEXT NOT NULL, sessions INTEGER NOT NULL,
    PRIMARY KEY(day, domain, policy_type, policy, exchangers, result, exchanger, sending_ip, receiving_ip, words)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tls_mailed(day INTEGER NOT NULL, domain TEXT NOT NULL, PRIMARY KEY(day, domain))
WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tls_report_mail(queue_id TEXT PRIMARY KEY, day INTEGER NOT NULL) WITHOUT ROWID;
"""
_ADD = """
INSERT INTO tls_result SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7,
    value->>8, value->>9, value->>10 FROM json_each(?) WHERE true
ON CONFLICT DO UPDATE SET sessions = sessions + excluded.sessions"""
_MARK = "INSERT OR IGNORE INTO tls_mailed SELECT value->>0, value->>1 FROM json_each(?)"
_COLUMNS = "domain, policy_type, policy, exchangers, result, exchanger, sending_ip, receiving_ip, words, sessions"

#: Day, and what ``_COLUMNS`` names, but for the number of sessions.
_Key = tuple[int, str, str, tuple[str, ...], tuple[str, ...], str, str, str, str, str]


class Counted(NamedTuple):
    """A number of sessions that came out alike. Successes have empty fields from ``exchanger`` to ``words``."""

    domain: str
    policy_type: str
    policy: tuple[str, ...]
    exchangers: tuple[str, ...]
    result: str
    exchanger: str
    sending_ip: str
    receiving_ip: str
    words: str
    sessions: int


@implementer(IMailObserver)
class TlsResults:
    """Counts outcomes (``outbound.tls_outcome.Notes``), and remembers where mail went.

    :param clock: whose seconds are since the epoch.
    :ivar enabled: whether anything is counted.
    """

    def __init__(self, state: StateDatabase, clock: IReactorTime, enabled: bool = True) -> None:
        self._state = state
        self._clock = clock
        self.enabled = enabled
        self._day = -1
        self._kinds: dict[str, set[int]] = {}  # of the day: hashes of what is told apart, by domain
        self._mailed: set[str] = set()  # of the day
        self._reports: dict[str, int] = {}  # queue ids of mails that carry reports, and their days
        state.tables(TABLES)
        kinds = {"result": Kind(_ADD, _row), "mailed": Kind(_MARK, lambda mark, number: list(mark))}
        self._behind = Behind(state, clock, kinds)
        today = self._today()
        for domain, kinds in state.read(
            "SELECT domain, count(*) FROM tls_result WHERE day = ? GROUP BY domain LIMIT ?", (today, DOMAINS_MAX)
        ):
            self._kinds[domain] = set(range(min(kinds, KINDS_MAX)))
        self._reports.update(state.read("SELECT queue_id, day FROM tls_report_mail"))

    def note(self, outcome: TlsOutcome) -> None:
        """Count one session."""
        if not self.enabled:
            return
        day = self._today()
        domain, policy_type, policy, exchangers, exchanger, sending_ip, receiving_ip, result, words = outcome
        kinds = self._kinds.get(domain)
        if kinds is None:
            if len(self._kinds) >= DOMAINS_MAX:
                return
            kinds = self._kinds[domain] = set()
        key: _Key
        if result:
            key = (day, domain, policy_type, policy, exchangers, result, exchanger, sending_ip, receiving_ip, words)
        else:
            key = (day, domain, policy_type, policy, exchangers, "", "", "", "", "")
        kind = hash(key)
        if kind not in kinds:
            if len(kinds) < KINDS_MAX:
                kinds.add(kind)
            else:  # its details end here; there are not many types of policies and results
                key = (day, domain, policy_type, (), (), result, "", "", "", "")
        self._behind.count("result", key)

    def observe(self, event: Event) -> None:
        """Mark where mail went that is no report of ours (IMailObserver)."""
        kind = type(event)
        if kind is not RecipientRelayed and kind is not RecipientDelayed and kind is not RecipientFailed:
            return
        mail: Any = event
        if not self.enabled or mail.queue_id in self._reports:
            return
        day = self._today()
        domain = domain_of(mail.destination)
        if domain not in self._mailed and len(self._mailed) < 2 * DOMAINS_MAX:
            self._mailed.add(domain)
            self._behind.count("mailed", (day, domain))

    def carries_report(self, queue_id: str) -> None:
        """The mail with this queue id carries a report. To be said before it is committed."""
        day = self._reports[queue_id] = self._today()
        self._state.write("INSERT OR IGNORE INTO tls_report_mail VALUES(?, ?)", (queue_id, day))

    def stop(self) -> None:
        """Write what was counted. Counting may go on."""
        self._behind.stop()

    # ---- reading ---------------------------------------------------------------------------------------------

    async def domains(self, day: int, after: str = "", limit: int = 100) -> list[str]:
        """Domains that ordinary mail was sent to on a day, in order, those behind ``after``.

        :param day: days since the epoch.
        :raises StateError: the database failed.
        """
        await self._behind.written()
        rows = await self._state.ask(
            "SELECT domain FROM tls_mailed AS m WHERE day = ? AND domain > ? AND EXISTS "
            "(SELECT 1 FROM tls_result AS r WHERE r.day = m.day AND r.domain = m.domain) ORDER BY domain LIMIT ?",
            (day, after, limit),
        )
        return [domain for (domain,) in rows]

    async def counted(self, day: int, domain: str = "", limit: int = 10_000) -> list[Counted]:
        """What was counted on a day, of one domain or of all; of a domain the most sessions first.

        :raises StateError: the database failed.
        """
        rows = await self._behind.of_day("tls_result", _COLUMNS, day, domain, "sessions DESC", limit)
        return [Counted._make((*row[:2], _lines(row[2]), _lines(row[3]), *row[4:])) for row in rows]

    def _today(self) -> int:
        day = int(self._clock.seconds() // DAY)
        if day != self._day:
            self._day = day
            self._kinds.clear()
            self._mailed.clear()
            self._reports = {queue_id: sent for queue_id, sent in self._reports.items() if sent >= day - KEEP_DAYS}
            for table in ("tls_result", "tls_mailed", "tls_report_mail"):
                self._state.write(f"DELETE FROM {table} WHERE day < ?", (day - KEEP_DAYS,))
        return day


def domain_of(destination: str) -> str:
    """The domain of a next hop as sessions are counted by it: without port and brackets."""
    try:
        return parse_next_hop(destination).host
    except ValueError:
        return destination.lower()


def _row(key: _Key, sessions: int) -> list[object]:
    """A row as ``_ADD`` wants it, with texts of bounded length."""
    day, domain, policy_type, policy, exchangers, *failure = key
    return [day, domain, policy_type, _text(policy), _text(exchangers), *map(_line, failure), sessions]


def _text(lines: Sequence[str]) -> str:
    return json.dumps([_line(line) for line in lines[:LINES_MAX]])


def _line(text: str) -> str:
    text = text[:TEXT_MAX]
    return text if text.isascii() and text.isprintable() else one_line(text)


def _lines(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))
