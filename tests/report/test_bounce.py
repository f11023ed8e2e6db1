"""The notifier: who is told, who is not, and what happens when telling fails."""

from __future__ import annotations

import email
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from twisted_mail_node.directory.resolution import Resolution
from twisted_mail_node.events import Event, NotificationDropped, NotificationSent
from twisted_mail_node.interfaces import IContent, IDirectory, IIncoming, IMailQueue
from twisted_mail_node.message import dsn
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient, Ret
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.reasons import Reason
from twisted_mail_node.report import bounce
from twisted_mail_node.report.bounce import Notifier
from twisted_mail_node.spool.mail import Entry, Mail, SpoolError
from twisted_mail_node.waiting import DeadlineError

JOE = Address("joe", "example.org")
ANN = Address("ann", "example.net")
FAILED = DeliveryStatus(Action.FAILED, "5.1.1", Reason.REMOTE_REFUSED, "550 5.1.1 no", "mx.example.net", "", True)
DELIVERED = DeliveryStatus(Action.DELIVERED, "2.0.0", Reason.DELIVERED, "")
RELAYED = DeliveryStatus(Action.RELAYED, "2.0.0", Reason.RELAYED, "250 ok", "mx.example.net", "", True)
DELAYED = DeliveryStatus(Action.DELAYED, "4.4.1", Reason.CONNECT_FAILED, "refused")
CONTENT = b"Message-ID: <m1@example.org>\r\nSubject: hello\r\n\r\nthe body\r\n"
TRACE = b"Received: by mx.example.org id Q1; now\r\n"


@implementer(IContent)
class Content:
    """Content in memory, or, like on a disk, in blocks only."""

    path = None

    def __init__(self, octets: bytes, in_memory: bool = True, error: OSError | None = None) -> None:
        self.size = len(octets)
        self.octets = octets if in_memory else None
        self.eight_bit = not octets.isascii()
        self.taken = 0
        self._octets = octets
        self._error = error

    def blocks(self, size: int = 262144) -> Iterator[bytes]:
        if self._error:
            raise self._error
        for start in range(0, len(self._octets), size):
            self.taken += 1
            yield self._octets[start : start + size]


@implementer(IIncoming)
class Incoming:
    """A mail on its way in, which fails where it is told to."""

    def __init__(self, queue_id: str, error: SpoolError | None, never: bool) -> None:
        self.queue_id = queue_id
        self.size = 0
        self.content = b""
        self.header = b""
        self.envelope: Envelope | None = None
        self.aborted = 0
        self._error = error
        self._never = never

    async def write(self, octets: bytes) -> None:
        self.content += octets
        self.size += len(octets)

    def hold(self, why: str) -> None:
        raise AssertionError("a DSN is never held")

    async def commit(self, envelope: Envelope, header: bytes) -> Mail:
        if self._error:
            raise self._error
        if self._never:
            await Deferred()
        self.envelope = envelope
        self.header = header
        return Mail(self.queue_id, envelope, header, Content(self.content), 0.0, ())

    def abort(self) -> None:
        self.aborted += 1


@implementer(IMailQueue)
class Queue:
    """The door."""

    crowded = False

    def __init__(self) -> None:
        self.mails: list[Incoming] = []
        self.error: SpoolError | None = None
        self.never = False

    def begin(self) -> Incoming:
        self.mails.append(Incoming(f"DSN{len(self.mails)}", self.error, self.never))
        return self.mails[-1]


@implementer(IDirectory)
class Directory:
    """Says about every address what the test says."""

    def __init__(self) -> None:
        self.answer: Resolution | None = None
        self.never = False

    def is_local(self, domain: str) -> bool:
        return False

    async def resolve(self, address: Address) -> Resolution:
        if self.never:
            await Deferred()
        return self.answer or Resolution(False, (address,))


class Threads:
    """A thread pool that runs what it gets at once."""

    used = 0

    def getThreadPool(self) -> Threads:
        return self

    def callFromThread(self, function: Callable[..., object], *args: object) -> None:
        function(*args)

    def callInThreadWithCallback(
        self, done: Callable[[bool, object], None], function: Callable[..., object], *args: object, **named: object
    ) -> None:
        self.used += 1
        try:
            result = function(*args, **named)
        except Exception:
            done(False, Failure())
        else:
            done(True, result)


def entry(number: int = 0, address: Address = ANN, notify: tuple[str, ...] = ()) -> Entry:
    """A recipient in the spool."""
    return Entry(number, Recipient(address, address, notify))


class NotifierTests(SynchronousTestCase):
    """``Notifier``."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_709_633_472.0)
        self.queue = Queue()
        self.directory = Directory()
        self.threads = Threads()
        self.events: list[Event] = []
        self.notifier = Notifier(
            hostname="mx.example.org",
            queue=self.queue,
            directory=self.directory,
            reactor=cast(IReactorThreads, self.threads),
            clock=self.clock,
            publish=self.events.append,
        )

    def mail(
        self, reverse_path: Address | None = JOE, ret: Ret | None = None, content: Content | None = None, **fields: Any
    ) -> Mail:
        envelope = Envelope(reverse_path, (), ret=ret, **fields)
        return Mail("Q1", envelope, TRACE, content or Content(CONTENT), 1_709_630_000.0, ())

    def started(self, mail: Mail, *finals: tuple[Entry, DeliveryStatus]) -> Deferred[None]:
        story: Coroutine[Any, Any, None] = self.notifier(mail, finals)
        return Deferred.fromCoroutine(story)

    def told(self, mail: Mail, *finals: tuple[Entry, DeliveryStatus]) -> list[Incoming]:
        """Notify, and give the DSNs that were committed."""
        self.successResultOf(self.started(mail, *finals))
        return [incoming for incoming in self.queue.mails if incoming.envelope]

    def test_failed(self) -> None:
        """Without NOTIFY a failure is told: a mail with the null reverse-path, through the queue's door."""
        (sent,) = self.told(self.mail(), (entry(), FAILED))
        self.assertEqual(
            sent.envelope, Envelope(None, (Recipient(JOE, JOE),), body="7BIT", listener="local", protocol="")
        )
        self.assertEqual(sent.header, b"Received: by mx.example.org id DSN0; Tue, 05 Mar 2024 10:11:12 +0000\r\n")
        self.assertIn(b"Final-Recipient: rfc822;ann@example.net\r\n", sent.content)
        self.assertIn(b"\r\n\r\n" + TRACE + CONTENT[: CONTENT.index(b"\r\n\r\n") + 2] + b"\r\n--", sent.content)
        self.assertNotIn(b"the body", sent.content)
        self.assertEqual(self.events, [NotificationSent("Q1", "DSN0", "joe@example.org", "failed")])
        self.assertEqual(sent.aborted, 0)

    def test_one_for_all(self) -> None:
        """All recipients that failed together are told in one DSN."""
        finals = [(entry(number, Address(f"u{number}", "example.net")), FAILED) for number in range(3)]
        (sent,) = self.told(self.mail(), *finals)
        self.assertEqual(sent.content.count(b"Final-Recipient:"), 3)

    def test_many(self) -> None:
        """A DSN about very many recipients is built in a thread and written in pieces."""
        finals = [(entry(number, Address(f"u{number}", "example.net")), FAILED) for number in range(1000)]
        (sent,) = self.told(self.mail(), *finals)
        self.assertEqual(sent.content.count(b"Final-Recipient:"), 1000)
        self.assertEqual(self.threads.used, 1)
        self.assertGreater(len(sent.content), bounce.PIECE)
        self.assertFalse(email.message_from_bytes(sent.content).defects)

    def test_null_reverse_path(self) -> None:
        """There is never a DSN for the null reverse-path, whatever NOTIFY says."""
        self.assertEqual(self.told(self.mail(None), (entry(), FAILED), (entry(1, notify=("SUCCESS",)), DELIVERED)), [])
        self.assertEqual(self.events, [NotificationDropped("Q1", "the reverse-path is null")])
        self.assertEqual(self.queue.mails, [])

    def test_notify(self) -> None:
        """NOTIFY decides, per recipient (RFC 3461 section 4.1)."""
        for notify, status, wanted in (
            ((), FAILED, True),
            (("FAILURE",), FAILED, True),
            (("SUCCESS", "FAILURE"), FAILED, True),
            (("NEVER",), FAILED, False),
            (("SUCCESS",), FAILED, False),
            (("DELAY",), FAILED, False),
            ((), DELIVERED, False),
            (("SUCCESS",), DELIVERED, True),
            (("SUCCESS",), RELAYED, True),
            (("SUCCESS",), RELAYED._replace(dsn_passed_on=True), False),
            (("FAILURE",), RELAYED, False),
            (("NEVER",), DELIVERED, False),
            ((), DELAYED, True),
            (("DELAY",), DELAYED, True),
            (("SUCCESS", "FAILURE", "DELAY"), DELAYED, True),
            (("SUCCESS", "FAILURE"), DELAYED, False),
            (("NEVER",), DELAYED, False),
        ):
            self.setUp()
            sent = self.told(self.mail(), (entry(notify=notify), status))
            self.assertEqual(len(sent), int(wanted), (notify, status))
            if not wanted:
                dropped = [NotificationDropped("Q1", "NOTIFY asks for no report of failure")]
                self.assertEqual(self.events, dropped if status is FAILED else [])

    def test_delay(self) -> None:
        """A delay is told with the end of our tries; in mode N NOTIFY need not name DELAY; NEVER is obeyed."""
        until = 1_709_720_000.0
        by = 1_709_633_000.0
        for mode, notify, wanted in (
            ("N", (), 1),
            ("N", ("FAILURE",), 1),
            ("N", ("NEVER",), 0),
            ("R", ("FAILURE",), 0),
            ("R", (), 1),
        ):
            self.setUp()
            mail = self.mail(deliver_by=by, by_mode=mode)
            self.successResultOf(Deferred.fromCoroutine(self.notifier(mail, [(entry(notify=notify), DELAYED)], until)))
            self.assertEqual(len(self.queue.mails), wanted, (mode, notify))
            if wanted:
                content = self.queue.mails[0].content
                self.assertIn(b"Action: delayed\r\n", content)
                self.assertIn(b"Will-Retry-Until: Wed, 06 Mar 2024 10:13:20 +0000\r\n", content)
                self.assertIn(b"Deliver-By-Date: Tue, 05 Mar 2024 10:03:20 +0000\r\n", content)
                self.assertEqual(self.events, [NotificationSent("Q1", "DSN0", "joe@example.org", "delayed")])

    def test_relayed_with_a_time(self) -> None:
        """A relay is told where the sender traces, and in mode N where the host does not see to the time; not for
        NEVER, and once though SUCCESS asks for it too (RFC 2852 section 4.1.4)."""
        for mode, trace, passed_on, notify, wanted in (
            ("N", False, False, (), 1),
            ("N", False, True, (), 0),
            ("N", False, False, ("NEVER",), 0),
            ("N", False, False, ("SUCCESS",), 1),
            ("R", False, True, (), 0),
            ("R", True, True, (), 1),
            ("R", True, True, ("NEVER",), 0),
            ("", True, False, (), 0),
        ):
            self.setUp()
            mail = self.mail(deliver_by=1_709_633_000.0, by_mode=mode, by_trace=trace)
            sent = self.told(mail, (entry(notify=notify), RELAYED._replace(by_passed_on=passed_on)))
            self.assertEqual(len(sent), wanted, (mode, trace, passed_on, notify))
            if wanted:
                self.assertIn(b"Action: relayed\r\n", sent[0].content)

    def test_require_tls(self) -> None:
        """The DSN about a mail with REQUIRETLS needs it too, and returns no content (RFC 8689 section 5)."""
        (sent,) = self.told(self.mail(ret="FULL", require_tls=True), (entry(), FAILED))
        assert sent.envelope
        self.assertTrue(sent.envelope.require_tls)
        self.assertIn(b"Content-Type: text/rfc822-headers\r\n", sent.content)
        self.assertNotIn(b"the body", sent.content)

    def test_priority(self) -> None:
        """A DSN is ordinary mail, whatever it is about, and has no wishes of its own."""
        mail = self.mail(
            priority=9, release_at=1.0, deliver_by=2.0, by_mode="R", account="joe@example.org", tls="TLSv1.3"
        )
        (sent,) = self.told(mail, (entry(), FAILED))
        self.assertEqual(sent.envelope, Envelope(None, (Recipient(JOE, JOE),), body="7BIT", listener="local"))

    def test_two_kinds(self) -> None:
        """Failure and success are told in two mails, each with its own recipients."""
        other = Address("bob", "example.com")
        sent = self.told(self.mail(), (entry(), FAILED), (entry(1, other, ("SUCCESS",)), DELIVERED))
        self.assertEqual(len(sent), 2)
        self.assertIn(b"Action: failed", sent[0].content)
        self.assertNotIn(b"bob", sent[0].content)
        self.assertIn(b"Action: delivered", sent[1].content)
        self.assertNotIn(b"ann@", sent[1].content)
        self.assertEqual([cast(NotificationSent, event).action for event in self.events], ["failed", "delivered"])

    def test_nothing(self) -> None:
        """No recipients, no DSN and no event."""
        self.assertEqual(self.told(self.mail()), [])
        self.assertEqual(self.events, [])

    def test_alias(self) -> None:
        """A reverse-path that is an alias of ours is followed."""
        self.directory.answer = Resolution(True, (ANN, Address("bob", "example.com")), True)
        (sent,) = self.told(self.mail(), (entry(), FAILED))
        assert sent.envelope
        self.assertEqual(sent.envelope.recipients, (Recipient(ANN, JOE), Recipient(Address("bob", "example.com"), JOE)))
        self.assertIn(b"To: <joe@example.org>", sent.content)

    def test_unknown(self) -> None:
        """A reverse-path that is ours and unknown gets nothing, and that is said."""
        self.directory.answer = Resolution(True, (), False, Reason.UNKNOWN_RECIPIENT)
        self.assertEqual(self.told(self.mail(), (entry(), FAILED)), [])
        (event,) = self.events
        assert isinstance(event, NotificationDropped)
        self.assertIn("joe@example.org", event.words)
        self.assertIn(Reason.UNKNOWN_RECIPIENT.meaning, event.words)

    def test_full(self) -> None:
        """RET=FULL returns the whole mail with our trace fields, from memory or from the disk."""
        for in_memory in (True, False):
            self.setUp()
            (sent,) = self.told(self.mail(ret="FULL", content=Content(CONTENT, in_memory)), (entry(), FAILED))
            self.assertIn(b"Content-Type: message/rfc822\r\n", sent.content)
            self.assertIn(TRACE + CONTENT, sent.content)
            self.assertEqual(self.threads.used, int(not in_memory))

    def test_large(self) -> None:
        """Of a large mail only the beginning is read, in a thread, and only the header returns."""
        content = Content(CONTENT + b"x\r\n" * 1_000_000, in_memory=False)
        (sent,) = self.told(self.mail(ret="FULL", content=content), (entry(), FAILED))
        self.assertEqual(content.taken, 1)
        self.assertIn(b"Content-Type: text/rfc822-headers\r\n", sent.content)
        self.assertIn(b"Subject: hello\r\n", sent.content)
        self.assertLess(len(sent.content), dsn.FULL_MAX)

    def test_unreadable(self) -> None:
        """An original that cannot be read any more is still reported, with our own trace fields."""
        content = Content(CONTENT, in_memory=False, error=OSError("gone"))
        (sent,) = self.told(self.mail(ret="FULL", content=content), (entry(), FAILED))
        self.assertIn(b"Final-Recipient: rfc822;ann@example.net\r\n", sent.content)
        self.assertIn(TRACE, sent.content)

    def test_international(self) -> None:
        """A reverse-path outside ASCII gets an SMTPUTF8 mail."""
        (sent,) = self.told(self.mail(Address("jö", "example.org")), (entry(), FAILED))
        assert sent.envelope
        self.assertEqual((sent.envelope.smtputf8, sent.envelope.body), (True, "8BITMIME"))

    def test_spool_fails(self) -> None:
        """When the spool cannot keep the DSN the error comes out, nothing is said to be sent, and nothing is left."""
        self.queue.error = SpoolError("disk full", full=True)
        self.failureResultOf(self.started(self.mail(), (entry(), FAILED)), SpoolError)
        self.assertEqual(self.events, [])
        self.assertEqual([incoming.aborted for incoming in self.queue.mails], [1])
        self.queue.error = None
        self.assertEqual(len(self.told(self.mail(), (entry(), FAILED))), 1)

    def test_deadlines(self) -> None:
        """A commit or a directory that never answers is an error after its time."""
        self.queue.never = True
        waiting = self.started(self.mail(), (entry(), FAILED))
        self.assertNoResult(waiting)
        self.clock.advance(bounce.KEEP_TIME)
        self.failureResultOf(waiting, DeadlineError)
        self.assertEqual(self.queue.mails[0].aborted, 1)
        self.directory.never = True
        waiting = self.started(self.mail(), (entry(), FAILED))
        self.clock.advance(bounce.RESOLVE_TIME)
        self.failureResultOf(waiting, DeadlineError)
        self.assertEqual(self.events, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
