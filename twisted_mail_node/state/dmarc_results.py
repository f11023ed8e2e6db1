"""Counts what DMARC came to, by day (UTC) and domain, for the reports to them (RFC 7489 section 7.2).

A row is what a report tells of mails that are alike: who brought them, for whom they were said to be, what the checks
found, and what was done. Written behind (``state.behind``). What strangers can make up is bounded: domains of a day,
kinds of one domain, lengths of texts.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from twisted.internet.interfaces import IReactorTime

from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.message.encoding import one_line
from twisted_mail_node.state.behind import DAY, Behind, Kind

if TYPE_CHECKING:
    from twisted_mail_node.mailauth.outcome import Outcome
    from twisted_mail_node.state.database import StateDatabase

#: Domains of one day; what comes to more is not counted.
DOMAINS_MAX = 10_000
#: Kinds of mails told apart for one domain and day; what more there is, is counted by what was done alone.
KINDS_MAX = 1_000
#: The same for all domains together: some 100 octets of memory each, and some hundred in the database.
ALL_KINDS_MAX = 200_000
#: Signatures of a mail that are told of (RFC 7489 has no bound; a mail has one to three).
SIGNATURES_MAX = 10
#: Characters of one text that are kept: domains have 253.
TEXT_MAX = 255
#: The same of records, of which one may have 64 KiB.
RECORD_MAX = 4 * TEXT_MAX
#: Days for which counts are kept.
KEEP_DAYS = 8

TABLES = """
CREATE TABLE IF NOT EXISTS dmarc_result(
    day INTEGER NOT NULL, domain TEXT NOT NULL, record TEXT NOT NULL, source_ip TEXT NOT NULL,
    header_from TEXT NOT NULL, envelope_from TEXT NOT NULL, disposition TEXT NOT NULL, override TEXT NOT NULL,
    dkim_aligned INTEGER NOT NULL, spf_aligned INTEGER NOT NULL, dkim TEXT NOT NULL, spf TEXT NOT NULL,
    mails INTEGER NOT NULL,
    PRIMARY KEY(day, domain, record, source_ip, header_from, envelope_from, disposition, override, dkim_aligned,
        spf_aligned, dkim, spf)
) WITHOUT ROWID;
"""
_ADD = """
INSERT INTO dmarc_result SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7,
    value->>8, value->>9, value->>10, value->>11, value->>12 FROM json_each(?) WHERE true
ON CONFLICT DO UPDATE SET mails = mails + excluded.mails"""


class DmarcRow(NamedTuple):
    """A number of mails that came out alike.

    :ivar domain: where the policy was found.
    :ivar record: the policy, as it was published.
    :ivar disposition: what was done: ``none``, ``quarantine``, ``reject``.
    :ivar override: why that is not what the policy asks for: ``trusted_forwarder``, ``local_policy``,
        ``sampled_out``; ``""``: it is.
    :ivar dkim: domain, selector and result of each signature.
    :ivar spf: domain, scope and result.
    """

    domain: str
    record: str
    source_ip: str
    header_from: str
    envelope_from: str
    disposition: str
    override: str
    dkim_aligned: bool
    spf_aligned: bool
    dkim: tuple[tuple[str, str, str], ...]
    spf: tuple[str, str, str]
    mails: int = 1


_COLUMNS = ", ".join(DmarcRow._fields)
_Key = tuple[int, DmarcRow]


class DmarcResults:
    """Counts outcomes.

    :param clock: whose seconds are since the epoch.
    :ivar enabled: whether mail is checked at all.
    """

    def __init__(self, state: StateDatabase, clock: IReactorTime, enabled: bool = True) -> None:
        self.enabled = enabled
        self._state = state
        self._clock = clock
        self._day = -1
        self._kinds: dict[str, set[int]] = {}  # of the day: hashes of what is told apart, by domain
        self._all_kinds = 0
        state.tables(TABLES)
        self._behind = Behind(state, clock, {"result": Kind(_ADD, _row)})
        for domain, kinds in state.read(
            "SELECT domain, count(*) FROM dmarc_result WHERE day = ? GROUP BY domain LIMIT ?",
            (self._today(), DOMAINS_MAX),
        ):
            self._kinds[domain] = set(range(min(kinds, KINDS_MAX)))
            self._all_kinds += len(self._kinds[domain])

    def note(self, outcome: Outcome, disposition: str, override: str = "") -> None:
        """Count a mail. One without a policy is nobody's business and is not counted.

        :param disposition: what was done with it.
        :param override: why that is not what was asked for.
        """
        dmarc = outcome.dmarc
        if not dmarc.record or dmarc.result not in (Result.PASS, Result.FAIL):
            return
        day = self._today()
        kinds = self._kinds.get(dmarc.policy_domain)
        if kinds is None:
            if len(self._kinds) >= DOMAINS_MAX:
                return
            kinds = self._kinds[dmarc.policy_domain] = set()
        spf = outcome.spf
        row = DmarcRow(
            dmarc.policy_domain, dmarc.record[:RECORD_MAX], outcome.client, dmarc.domain, _domain(outcome.reverse_path),
            disposition, override, dmarc.dkim_aligned, dmarc.spf_aligned,
            tuple([(one.domain, one.selector, str(one.result)) for one in outcome.dkim[:SIGNATURES_MAX]]),
            (spf.domain, spf.scope, str(spf.result)),
        )  # fmt: skip
        kind = hash(row)
        if kind not in kinds:
            if len(kinds) < KINDS_MAX and self._all_kinds < ALL_KINDS_MAX:
                kinds.add(kind)
                self._all_kinds += 1
            else:
                row = row._replace(record="", source_ip="", header_from="", envelope_from="", dkim=(), spf=("", "", ""))
        self._behind.count("result", (day, row))

    def stop(self) -> None:
        """Write what was counted."""
        self._behind.stop()

    async def domains(self, day: int, after: str = "", limit: int = 100) -> list[str]:
        """Domains that mail was counted for on a day, in order, those behind ``after``.

        :param day: days since the epoch.
        :raises StateError: the database failed.
        """
        await self._behind.written()
        rows = await self._state.ask(
            "SELECT DISTINCT domain FROM dmarc_result WHERE day = ? AND domain > ? ORDER BY domain LIMIT ?",
            (day, after, limit),
        )
        return [domain for (domain,) in rows]

    async def counted(self, day: int, domain: str = "", limit: int = 10_000) -> list[DmarcRow]:
        """What was counted on a day, of one domain or of all; of a domain the most mails first.

        :raises StateError: the database failed.
        """
        rows = await self._behind.of_day("dmarc_result", _COLUMNS, day, domain, "mails DESC, source_ip", limit)
        return [_read(row) for row in rows]

    def _today(self) -> int:
        day = int(self._clock.seconds() // DAY)
        if day != self._day:
            self._day = day
            self._kinds.clear()
            self._all_kinds = 0
            self._state.write("DELETE FROM dmarc_result WHERE day < ?", (day - KEEP_DAYS,))
        return day


def _row(key: _Key, mails: int) -> list[object]:
    """A row as ``_ADD`` wants it, with texts of bounded length."""
    day, row = key
    return [
        day, _line(row.domain), _line(row.record, RECORD_MAX), row.source_ip, _line(row.header_from),
        _line(row.envelope_from), row.disposition, row.override, int(row.dkim_aligned), int(row.spf_aligned),
        json.dumps([[_line(text) for text in one] for one in row.dkim]), json.dumps([_line(text) for text in row.spf]),
        mails,
    ]  # fmt: skip


def _read(row: tuple[object, ...]) -> DmarcRow:
    values = dict(zip(DmarcRow._fields, row, strict=True))
    return DmarcRow._make(row)._replace(
        dkim_aligned=bool(values["dkim_aligned"]),
        spf_aligned=bool(values["spf_aligned"]),
        dkim=tuple([(one[0], one[1], one[2]) for one in json.loads(str(values["dkim"]))]),
        spf=tuple(json.loads(str(values["spf"]))),
    )


def _line(text: str, most: int = TEXT_MAX) -> str:
    text = text[:most]
    return text if text.isascii() and text.isprintable() else one_line(text)


def _domain(path: str) -> str:
    return path.rpartition("@")[2].lower()
