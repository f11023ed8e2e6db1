"""Reports about TLS go out once a day, once to each place, and never about reports (RFC 8460)."""

from __future__ import annotations

import email
import gzip
import json
from email import policy
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.state.at_once import StateAtOnce
from tests.state.counting import TODAY
from tests.state.test_tls_results import BAD, GOOD, relayed
from tests.threads import ThreadsAtOnce
from twisted_mail_node.directory.resolution import Resolution
from twisted_mail_node.dns.answer import Answer, DNSError
from twisted_mail_node.events import Event
from twisted_mail_node.events_outbound import TlsReportFailed, TlsReportSent
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.net.https import HttpsError
from twisted_mail_node.report import tls_reports
from twisted_mail_node.report.tls_reports import TlsReports
from twisted_mail_node.settings import TlsReportSettings
from twisted_mail_node.spool.mail import SpoolError
from twisted_mail_node.state.behind import DAY
from twisted_mail_node.state.tls_results import TlsResults

MAIL = "mailto:tls@a.example"
POST = "https://a.example/tls"


class Resolver:
    """Knows the places of domains.

    :ivar fails: nobody answers.
    """

    def __init__(self) -> None:
        self.places: dict[str, str] = {}
        self.fails = False
        self.asked: list[str] = []

    async def query(self, name: str, rdtype: str) -> Answer:
        assert rdtype == "TXT"
        self.asked.append(name)
        if self.fails:
            raise DNSError("no answer")
        places = self.places.get(name.removeprefix("_smtp._tls."))
        records = () if places is None else (f"v=TLSRPTv1; rua={places}".encode(),)
        return Answer(records, True, False, name, 300)


class Https:
    """Takes reports.

    :ivar answers: what is answered, the last again and again.
    """

    def __init__(self) -> None:
        self.answers: list[int | Exception] = [200]
        self.posted: list[tuple[str, bytes, str]] = []

    async def post(self, url: str, octets: bytes, kind: str) -> int:
        self.posted.append((url, octets, kind))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Queue:
    """Takes mails.

    :ivar fails: nothing can be kept.
    """

    crowded = False

    def __init__(self) -> None:
        self.mails: list[tuple[str, Envelope, bytes]] = []
        self.begun = 0
        self.fails = False

    def begin(self) -> Any:
        self.begun += 1
        return Incoming(self, f"{self.begun:x}")


class Incoming:
    def __init__(self, queue: Queue, queue_id: str) -> None:
        self._queue = queue
        self.queue_id = queue_id
        self._content = b""

    async def write(self, octets: bytes) -> None:
        self._content += octets

    async def commit(self, envelope: Envelope, header: bytes) -> None:
        if self._queue.fails:
            raise SpoolError("the disk is full")
        self._queue.mails.append((self.queue_id, envelope, header + self._content))

    def abort(self) -> None:
        """Nothing to give back."""


class Directory:
    """Lives here: one alias."""

    async def resolve(self, address: Address) -> Resolution:
        if address.domain != "here.example":
            return Resolution(False, (address,))
        target = (Address("joe", "elsewhere.example"),) if address.local_part == "tls" else ()
        return Resolution(True, target)


class ReportsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "state.sqlite"
        self.clock = ThreadsAtOnce()
        self.clock.advance(TODAY * DAY + 1000)
        self.resolver, self.https, self.queue = Resolver(), Https(), Queue()
        self.events: list[Event] = []
        self.chance = 0.5
        self.open()

    def open(self, **settings: Any) -> None:
        """As after a restart."""
        self.state = StateAtOnce(self.path)
        self.addCleanup(self.state.close)
        self.results = TlsResults(self.state, self.clock)
        self.reports = TlsReports(
            hostname="mx.here.example",
            settings=TlsReportSettings(**settings),
            results=self.results,
            state=self.state,
            resolver=self.resolver,  # type: ignore[arg-type]
            https=self.https,  # type: ignore[arg-type]
            queue=self.queue,  # type: ignore[arg-type]
            directory=Directory(),  # type: ignore[arg-type]
            reactor=self.clock,
            publish=self.events.append,
            chance=lambda: self.chance,
        )
        self.reports.start()
        self.addCleanup(self.reports.stop)

    def restart(self) -> None:
        """Stop in order and start."""
        self.reports.stop()
        self.results.stop()
        self.state.close()
        self.open()

    def mailed(self, *domains: str) -> None:
        """Mail went to these, once well and once not."""
        for domain in domains:
            self.results.note(GOOD._replace(domain=domain))
            self.results.note(BAD._replace(domain=domain))
            self.results.observe(relayed(domain, "ordinary"))

    def until(self, day: int, hour: float = 0.0) -> None:
        """Time passes, in steps of the reports' timer."""
        end = (TODAY + day) * DAY + hour * 3600
        while self.clock.seconds() < end:
            self.clock.advance(min(300.0, end - self.clock.seconds()))
            self.clock.pump([0] * 5)

    def states(self, day: int = TODAY) -> dict[str, str]:
        """What stands in the rows of a day: places and their states."""
        rows = self.state.read("SELECT domain || ' ' || place, state FROM tls_report WHERE day = ?", (day,))
        return dict(rows)


class SendTest(ReportsCase):
    """A day's reports."""

    def test_mail(self) -> None:
        """After midnight and a delay the report goes by mail: null reverse-path, its fields, the day's sums."""
        self.resolver.places["a.example"] = MAIL
        self.mailed("a.example")
        self.until(1, 1.9)
        self.assertEqual((self.queue.mails, self.resolver.asked), ([], []))
        self.until(1, 2.5)
        ((_, envelope, content),) = self.queue.mails
        address = Address("tls", "a.example")
        self.assertIsNone(envelope.reverse_path)
        self.assertEqual(envelope.recipients, (Recipient(address, address),))
        self.assertEqual(envelope.listener, "tls-report")
        self.assertTrue(envelope.tls_optional, "failures of TLS hold up no report about them")
        read = email.message_from_bytes(content, policy=policy.SMTP)
        self.assertEqual(read["TLS-Report-Domain"], "a.example")
        self.assertEqual(read["From"], "postmaster@mx.here.example")
        self.assertTrue(read["Received"])
        (*_, file) = read.walk()
        shape = json.loads(gzip.decompress(file.get_payload(decode=True)))  # type: ignore[arg-type]
        self.assertEqual(shape["date-range"]["start-datetime"], "2024-10-04T00:00:00Z")
        self.assertEqual(
            shape["policies"][0]["summary"],
            {"total-successful-session-count": 1, "total-failure-session-count": 1},
        )
        self.assertEqual(self.events, [TlsReportSent("a.example", MAIL, 1, 1)])

    def test_post(self) -> None:
        """Or by HTTPS, with the report's media type."""
        self.resolver.places["a.example"] = POST
        self.mailed("a.example")
        self.until(1, 3)
        ((url, octets, kind),) = self.https.posted
        self.assertEqual((url, kind), (POST, "application/tlsrpt+gzip"))
        self.assertEqual(json.loads(gzip.decompress(octets))["organization-name"], "mx.here.example")
        self.assertEqual(self.events, [TlsReportSent("a.example", POST, 1, 1)])

    def test_delay(self) -> None:
        """The delay is up to four hours."""
        self.resolver.places["a.example"] = MAIL
        for chance, day in ((0.0, 1), (0.999, 2)):
            self.chance = chance
            self.mailed("a.example")
            self.until(day, chance * 4)
            self.assertEqual(len(self.queue.mails), day - 1)
            self.until(day, chance * 4 + 0.3)
            self.assertEqual(len(self.queue.mails), day)

    def test_once(self) -> None:
        """One report a domain, day and place: not a second one later that day, nor after a restart."""
        self.resolver.places["a.example"] = f"{MAIL},{POST}"
        self.mailed("a.example", "b.example")
        self.until(1, 3)
        self.restart()
        self.until(1, 20)
        self.restart()
        self.until(3)
        self.assertEqual((len(self.queue.mails), len(self.https.posted)), (1, 1))
        self.assertEqual(self.resolver.asked, ["_smtp._tls.a.example", "_smtp._tls.b.example"])
        self.assertEqual(
            self.states(),
            {"a.example ": "asked", f"a.example {MAIL}": "sent", f"a.example {POST}": "sent", "b.example ": "none"},
        )

    def test_crash(self) -> None:
        """A process that ends while it sends leaves a row that keeps the next one from sending again."""
        self.resolver.places["a.example"] = POST
        self.https.answers = [RuntimeError("the power fails")]
        self.mailed("a.example")
        self.until(1, 3)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.https.answers = [200]
        self.restart()
        self.until(2)
        self.assertEqual((len(self.https.posted), self.states()[f"a.example {POST}"]), (1, "sending"))

    def test_down_at_midnight(self) -> None:
        """A node that was down when the day ended reports when it is up again; of older days no more."""
        self.resolver.places["a.example"] = MAIL
        self.mailed("a.example")
        self.reports.stop()
        self.results.stop()
        self.state.close()
        self.clock.advance(DAY + 3600 * 10)
        self.open()
        self.until(1, 14)
        self.assertEqual(len(self.queue.mails), 1)
        self.mailed("a.example")
        self.reports.stop()
        self.results.stop()
        self.state.close()
        self.clock.advance(3 * DAY)
        self.open()
        self.until(5)
        self.assertEqual(len(self.queue.mails), 1)

    def test_settings(self) -> None:
        """Contact and organization are the settings', now and after a reload; switched off nothing is sent."""
        self.resolver.places["a.example"] = MAIL
        self.reports.configure(TlsReportSettings(contact=Address("tls", "here.example"), organization="Here"))
        self.mailed("a.example")
        self.until(1, 5)
        self.assertIn(b"From: <tls@here.example>", self.queue.mails[0][2])
        self.reports.configure(TlsReportSettings(enabled=False))
        self.mailed("a.example")
        self.until(2, 5)
        self.assertEqual(len(self.queue.mails), 1)

    def test_contact(self) -> None:
        """A contact outside ASCII cannot stand in a report: a domain is written in A-labels, else it is postmaster."""
        self.resolver.places["a.example"] = MAIL
        for day, (contact, wanted) in enumerate(
            (
                (Address("tls", "b\u00fccher.example"), b"tls@xn--bcher-kva.example"),
                (Address("b\u00fccher", "here.example"), b"postmaster@mx.here.example"),
            ),
            1,
        ):
            self.reports.configure(TlsReportSettings(contact=contact))
            self.mailed("a.example")
            self.until(day, 5)
            self.assertIn(b"From: <" + wanted + b">\r\n", self.queue.mails[-1][2])

    def test_address_here(self) -> None:
        """An address that is ours leads where the directory says."""
        self.resolver.places["a.example"] = "mailto:tls@here.example"
        self.resolver.places["b.example"] = "mailto:nobody@here.example"
        self.mailed("a.example", "b.example")
        self.until(1, 5)
        ((_, envelope, _),) = self.queue.mails
        self.assertEqual(
            envelope.recipients, (Recipient(Address("joe", "elsewhere.example"), Address("tls", "here.example")),)
        )
        self.assertEqual(self.states()["b.example mailto:nobody@here.example"], "late")


class RetryTest(ReportsCase):
    """What does not work at once."""

    def test_https(self) -> None:
        """A place that fails is tried again, the others are not; when it works it is told once."""
        self.resolver.places["a.example"] = f"{MAIL},{POST}"
        self.https.answers = [500, HttpsError("it did not answer"), 204]
        self.mailed("a.example")
        self.until(2)
        self.assertEqual((len(self.queue.mails), len(self.https.posted)), (1, 3))
        self.assertEqual(len({octets for _, octets, _ in self.https.posted}), 1)
        self.assertEqual(self.events, [TlsReportSent("a.example", MAIL, 1, 1), TlsReportSent("a.example", POST, 1, 1)])

    def test_dropped(self) -> None:
        """One that never works is given up within the day, with its last words."""
        self.resolver.places["a.example"] = POST
        self.https.answers = [301]
        self.mailed("a.example")
        self.until(1, 23.9)
        self.assertEqual(len(self.https.posted), 1 + len(tls_reports.RETRY))
        self.assertEqual(self.events, [TlsReportFailed("a.example", POST, "the answer was 301")])
        self.until(3)
        self.assertEqual(len(self.https.posted), 1 + len(tls_reports.RETRY))

    def test_restart(self) -> None:
        """A restart changes nothing about what is to be tried again."""
        self.resolver.places["a.example"] = POST
        self.https.answers = [500, 200]
        self.mailed("a.example")
        self.until(1, 2.05)
        self.restart()
        self.until(1, 10)
        self.assertEqual(len(self.https.posted), 2)
        self.assertEqual(len(self.events), 1)

    def test_spool(self) -> None:
        """A spool that cannot keep the mail now may be able to later."""
        self.resolver.places["a.example"] = MAIL
        self.queue.fails = True
        self.mailed("a.example")
        self.until(1, 2.2)
        self.queue.fails = False
        self.until(1, 5)
        self.assertEqual(len(self.queue.mails), 1)

    def test_dns(self) -> None:
        """A domain whose DNS fails is asked again a few times, and then left alone."""
        self.resolver.fails = True
        self.mailed("a.example")
        self.until(1, 3)
        self.resolver.fails = False
        self.resolver.places["a.example"] = MAIL
        self.until(1, 8)
        self.assertEqual(len(self.queue.mails), 1)
        self.resolver.fails = True
        asked = len(self.resolver.asked)
        self.mailed("a.example")
        self.until(2, 23.9)
        self.assertEqual(len(self.resolver.asked), asked + 1 + len(tls_reports.RETRY))
        self.assertEqual(self.events[1:], [TlsReportFailed("a.example", "", "no answer")])

    def test_broken(self) -> None:
        """A defect with one domain is logged and keeps no report from the others."""
        self.resolver.places = {"a.example": POST, "b.example": MAIL}
        self.https.answers = [RuntimeError("a defect")]
        self.mailed("a.example", "b.example")
        self.until(1, 5)
        self.assertEqual(len(self.queue.mails), 1)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class LoopTest(ReportsCase):
    """Reports are no reason for reports (T35)."""

    def test_no_loop(self) -> None:
        """Two nodes that report to each other stop after one day: sessions with report mails alone lead to none."""
        self.resolver.places["a.example"] = MAIL
        self.mailed("a.example")
        for day in range(1, 6):
            self.until(day, 5)
            self.assertEqual(len(self.queue.mails), 1)
            ((queue_id, _, _),) = self.queue.mails
            self.results.note(BAD)  # the session that carries the report, tried again day by day
            self.results.observe(relayed("a.example", queue_id))

    def test_two_days(self) -> None:
        """Ordinary mail on the next day leads to the next report."""
        self.resolver.places["a.example"] = MAIL
        for day in (1, 2):
            self.mailed("a.example")
            self.until(day, 5)
            self.assertEqual(len(self.queue.mails), day)

    def test_many(self) -> None:
        """More domains than are read at a time are all looked up, once."""
        domains = [f"d{number}.example" for number in range(350)]
        self.mailed(*domains)
        self.resolver.places = {domains[7]: MAIL, domains[349]: POST}
        self.until(2)
        self.assertEqual(sorted(self.resolver.asked), sorted(f"_smtp._tls.{domain}" for domain in domains))
        self.assertEqual((len(self.queue.mails), len(self.https.posted)), (1, 1))

    def test_literal(self) -> None:
        """Next hops that are no names are not looked up."""
        self.mailed("192.0.2.1", "[192.0.2.1]", "unix:/run/x")
        self.until(2)
        self.assertEqual(self.queue.mails, [])

    def test_stop(self) -> None:
        """Stopping ends what is under way and leaves no timer."""
        waiting: Deferred[Answer] = Deferred()
        self.resolver.query = lambda name, rdtype: waiting  # type: ignore[assignment, method-assign, return-value]
        self.mailed("a.example")
        self.until(1, 3)
        self.reports.stop()
        self.results.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])
