"""Tells domains once a day what came of TLS with their mail exchangers (RFC 8460), where their DNS asks for it.

When the day has ended in UTC, and a random time of up to four hours has passed, every domain that ordinary mail was
sent to is looked up, and gets its report by mail, through the queue's door, or by HTTPS.

The crash story: each place has a row, which says ``sending`` before anything is sent. At that instant when the row is
written, this report will not be sent there a second time by a later process; a crash before the mail's commit loses it.
Reports are worth less than the certainty that nobody gets two; whatever breaks in between leaves ``sending``, too. What
surely was not sent is ``late`` and tried again within the day, then ``dropped``. (A POST whose answer did not come is
tried again, too: it is the same report, with the same id.)
"""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, FirstError, gatherResults
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from twisted_mail_node.dns.answer import DNSError
from twisted_mail_node.dns.wire import name_key
from twisted_mail_node.events import Publish
from twisted_mail_node.events_outbound import TlsReportFailed, TlsReportSent
from twisted_mail_node.interfaces import IDirectory, IMailQueue, IResolver
from twisted_mail_node.message import tls_report, trace
from twisted_mail_node.message.address import Address, domain_key
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.message.tls_report import MEDIA_TYPE, Report, Reporter
from twisted_mail_node.net.https import Https, HttpsError
from twisted_mail_node.report.tls_record import Place, places_of, read_place
from twisted_mail_node.settings import TlsReportSettings
from twisted_mail_node.spool.mail import SpoolError
from twisted_mail_node.state.behind import DAY
from twisted_mail_node.state.database import StateDatabase, StateError
from twisted_mail_node.state.tls_results import KEEP_DAYS, TlsResults
from twisted_mail_node.threads import in_thread
from twisted_mail_node.waiting import within

_log = Logger()

#: Seconds over which beginnings are spread: a report is about a whole day in UTC (RFC 8460 section 4.1), and not
#: everybody should write at midnight.
SPREAD = 4 * 3600.0
#: Seconds between two looks for what is to be reported.
LOOK_EVERY = 600.0
#: Seconds until the first look after a start.
FIRST_LOOK = 60.0
#: Seconds after which a report that could not be sent is tried again; then it is dropped, within a day.
RETRY = (300.0, 3600.0, 4 * 3600.0, 12 * 3600.0)
#: Domains that are reported on at once, and domains read from the database at a time.
AT_ONCE = 8
PAGE = 100
#: Seconds for building a report, for the directory, and for one step of keeping a mail: all are local.
LOCAL_TIME = 60.0
#: Kind of the listener that report mails are said to have come by, as ``mailnode queue show`` tells.
LISTENER = "tls-report"

TABLE = """CREATE TABLE IF NOT EXISTS tls_report(
    day INTEGER NOT NULL, domain TEXT NOT NULL, place TEXT NOT NULL, state TEXT NOT NULL, tries INTEGER NOT NULL,
    due REAL NOT NULL, PRIMARY KEY(day, domain, place)) WITHOUT ROWID"""


class NotSent(Exception):
    """A report could not be sent now; the sentence says why."""


class TlsReports:
    """Sends the reports.

    :param hostname: ours.
    :param results: what was counted.
    :param https: for places that want reports so.
    :param directory: for places that are addresses here.
    :param reactor: clock, whose seconds are since the epoch, and threads.
    :param chance: a number from 0 to 1.
    """

    def __init__(
        self,
        *,
        hostname: str,
        settings: TlsReportSettings,
        results: TlsResults,
        state: StateDatabase,
        resolver: IResolver,
        https: Https,
        queue: IMailQueue,
        directory: IDirectory,
        reactor: Any,
        publish: Publish,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._hostname = hostname
        self._results = results
        self._state = state
        self._resolver = resolver
        self._https = https
        self._queue = queue
        self._directory = directory
        self._reactor = reactor
        self._publish = publish
        self._chance = chance
        self._day = -1
        self._opens = 0.0
        self._finished = -1  # the last day of which every domain was looked at
        self._timer: IDelayedCall | None = None
        self._looking: Deferred[None] | None = None
        self.configure(settings)
        state.tables(TABLE)

    def configure(self, settings: TlsReportSettings) -> None:
        """Let other settings be in force."""
        self._enabled = settings.enabled
        contact = settings.contact or Address("postmaster", self._hostname)
        contact = Address(contact.local_part, domain_key(contact.domain))
        if not contact.is_ascii:
            _log.warn("tls_reports.contact has characters that reports cannot carry: postmaster is named")
            contact = Address("postmaster", self._hostname)
        self._reporter = Reporter(self._hostname, settings.organization or self._hostname, contact)

    def start(self) -> None:
        """From now on reports are sent."""
        self._timer = self._reactor.callLater(FIRST_LOOK, self._begin)

    def stop(self) -> None:
        """End what is under way."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if self._looking is not None:
            self._looking.cancel()

    def _begin(self) -> None:
        looking = self._looking = Deferred.fromCoroutine(self.look())

        def ended(failure: Any) -> None:
            if failure.check(FirstError):
                failure = failure.value.subFailure
            if not failure.check(CancelledError):
                _log.failure("reporting on TLS broke", failure)

        def again(_: object) -> None:
            self._looking = None
            if self._timer is not None:
                self._timer = self._reactor.callLater(LOOK_EVERY, self._begin)

        looking.addErrback(ended).addBoth(again)

    async def look(self) -> None:
        """Send what is to be sent now.

        :raises StateError: the database failed.
        """
        if not self._enabled:
            return
        now = self._reactor.seconds()
        today = int(now // DAY)
        if today - 1 != self._day:
            self._day = today - 1
            self._opens = today * DAY + self._chance() * SPREAD
            self._state.write("DELETE FROM tls_report WHERE day < ? OR (day < ? AND state = 'late')",
                              (today - KEEP_DAYS, self._day))  # fmt: skip
        if now < self._opens:
            return
        day = self._day
        if self._finished != day:
            await self._report_all(day)
            self._finished = day
        rows = await self._state.ask(
            "SELECT domain, place, tries FROM tls_report WHERE day = ? AND state = 'late' AND due <= ? LIMIT ?",
            (day, now, PAGE),
        )
        await self._at_once([partial(self._again, day, *row) for row in rows])

    async def _report_all(self, day: int) -> None:
        domains = await self._results.domains(day, "", PAGE)
        while domains:
            rows = await self._state.ask(
                "SELECT DISTINCT domain FROM tls_report WHERE day = ? AND domain IN (SELECT value FROM json_each(?))",
                (day, json.dumps(domains)),
            )
            done = {domain for (domain,) in rows}
            await self._at_once([partial(self._report, day, domain) for domain in domains if domain not in done])
            domains = await self._results.domains(day, domains[-1], PAGE)

    async def _at_once(self, stories: Sequence[Callable[[], Awaitable[None]]]) -> None:
        """Carry out some at a time; one that breaks is logged and ends no other."""
        places = DeferredSemaphore(AT_ONCE)

        async def carry_out(story: Callable[[], Awaitable[None]]) -> None:
            await places.acquire()
            try:
                await story()
            except (CancelledError, StateError):
                raise
            except Exception:
                _log.failure("a report on TLS broke")
            finally:
                places.release()

        await gatherResults([Deferred.fromCoroutine(carry_out(story)) for story in stories], consumeErrors=True)

    # ---- one domain ------------------------------------------------------------------------------------------

    async def _again(self, day: int, domain: str, uri: str, tries: int) -> None:
        place = read_place(uri)
        if place is None:
            await self._report(day, domain, tries)
            return
        await self._send(day, domain, place, await self._build(day, domain), tries)

    async def _report(self, day: int, domain: str, tries: int = 0) -> None:
        """Look the domain up; where it wants reports, send them."""
        key = name_key(domain)
        if key is None or domain.startswith("["):
            await self._note(day, domain, "", "none", tries)
            return
        try:
            answer = await self._resolver.query(f"_smtp._tls.{key}", "TXT")
        except DNSError as error:
            await self._later(day, domain, "", tries, str(error))
            return
        places = places_of(answer.records)
        await self._note(day, domain, "", "asked" if places else "none", tries)
        if places:
            report = await self._build(day, domain)
            for place in places:
                await self._send(day, domain, place, report, 0)

    async def _build(self, day: int, domain: str) -> Report:
        counted = await self._results.counted(day, domain)
        key = name_key(domain) or domain
        made = in_thread(self._reactor, tls_report.build, self._reporter, key, day, counted)
        return await within(self._reactor, LOCAL_TIME, made)

    async def _send(self, day: int, domain: str, place: Place, report: Report, tries: int) -> None:
        await self._note(day, domain, place.uri, "sending", tries)
        try:
            if place.address is None:
                await self._post(place.uri, report)
            else:
                await self._mail(place.address, report)
        except NotSent as error:
            await self._later(day, domain, place.uri, tries, str(error))
        else:
            self._publish(TlsReportSent(domain, place.uri, report.successes, report.failures))
            await self._note(day, domain, place.uri, "sent", tries)

    async def _post(self, url: str, report: Report) -> None:
        """RFC 8460 section 5.4. :raises NotSent: they did not take it."""
        try:
            status = await self._https.post(url, report.octets, MEDIA_TYPE)
        except HttpsError as error:
            raise NotSent(error.words) from None
        if not 200 <= status <= 299:
            raise NotSent(f"the answer was {status}")

    async def _mail(self, address: Address, report: Report) -> None:
        """RFC 8460 section 5.3. The null reverse-path: nobody answers a report that cannot be delivered with a DSN.

        :raises NotSent: it could not be kept, or nobody has the address.
        """
        resolution = await within(self._reactor, LOCAL_TIME, self._directory.resolve(address))
        if not resolution.targets:
            raise NotSent(f"nobody has the address {address}")
        when = self._reactor.seconds()
        content = tls_report.mail(self._reporter, report, (address,), when)
        incoming = self._queue.begin()
        self._results.carries_report(incoming.queue_id)
        try:
            await within(self._reactor, LOCAL_TIME, incoming.write(content))
            await within(self._reactor, LOCAL_TIME, incoming.commit(
                envelope_to(tuple(Recipient(target, address) for target in resolution.targets)),
                trace.received(
                    hostname=self._hostname, helo="", client="", protocol="", queue_id=incoming.queue_id,
                    recipient=None, when=when,
                ),
            ))  # fmt: skip
        except SpoolError as error:
            incoming.abort()
            raise NotSent(f"the mail could not be kept: {error}") from error
        except BaseException:
            incoming.abort()
            raise

    # ---- rows ------------------------------------------------------------------------------------------------

    async def _later(self, day: int, domain: str, uri: str, tries: int, words: str) -> None:
        """It did not work; try again, or drop it."""
        if tries < len(RETRY):
            await self._note(day, domain, uri, "late", tries + 1, self._reactor.seconds() + RETRY[tries])
            return
        await self._note(day, domain, uri, "dropped", tries)
        self._publish(TlsReportFailed(domain, uri, words))

    async def _note(self, day: int, domain: str, uri: str, state: str, tries: int, due: float = 0.0) -> None:
        """Write a row, and wait until it is written."""
        await self._state.ask(
            "INSERT OR REPLACE INTO tls_report VALUES(?, ?, ?, ?, ?, ?)", (day, domain, uri, state, tries, due)
        )


def envelope_to(recipients: tuple[Recipient, ...]) -> Envelope:
    """The envelope of a mail that carries a report.

    What it tells of must not hold it up, nor its own session be in the next one (RFC 8460 section 3).
    """
    return Envelope(reverse_path=None, recipients=recipients, listener=LISTENER, tls_optional=True)
