"""Double bounces: mail that can be neither delivered nor returned is told to postmaster, once, and boundedly (T35)."""

from __future__ import annotations

import email
import email.policy
from dataclasses import replace
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.report.test_bounce import (
    ANN,
    CONTENT,
    DELIVERED,
    FAILED,
    JOE,
    TRACE,
    Content,
    Directory,
    Queue,
    Threads,
    entry,
)
from twisted_mail_node.directory.resolution import Resolution
from twisted_mail_node.events import Event, NotificationDropped, NotificationSent
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.reasons import Reason
from twisted_mail_node.report.bounce import Notifier
from twisted_mail_node.report.double_bounce import AT_MOST, MARK, PERIOD, DoubleBounces
from twisted_mail_node.spool.codec import decode_envelope, encode_envelope
from twisted_mail_node.spool.mail import Mail, SpoolError

POSTMASTER = Address("postmaster", "example.org")


class Homes(Directory):
    """Postmaster's mail goes to joe; some addresses lead nowhere."""

    nowhere: tuple[Address, ...] = ()

    async def resolve(self, address: Address) -> Resolution:
        if address in self.nowhere:
            return Resolution(True, (), False, Reason.UNKNOWN_RECIPIENT)
        return Resolution(True, (JOE,), True) if address == POSTMASTER else Resolution(False, (address,))


class DoubleBounceTests(SynchronousTestCase):
    """The notifier with ``DoubleBounces``."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_709_633_472.0)
        self.queue = Queue()
        self.directory = Homes()
        self.events: list[Event] = []
        self.notifier = self.made()

    def made(self) -> Notifier:
        """A notifier as it is after a start."""
        return Notifier(
            hostname="mx.example.org",
            queue=self.queue,
            directory=self.directory,
            reactor=cast(IReactorThreads, Threads()),
            clock=self.clock,
            publish=self.events.append,
            double_bounces=DoubleBounces(lambda: POSTMASTER, self.clock),
        )

    def mail(self, reverse_path: Address | None = None, **fields: Any) -> Mail:
        return Mail("Q1", Envelope(reverse_path, (), **fields), TRACE, Content(CONTENT), 1_709_630_000.0, ())

    def told(self, mail: Mail, *finals: Any) -> list[Any]:
        """What was committed."""
        before = len(self.queue.mails)
        self.successResultOf(Deferred.fromCoroutine(self.notifier(mail, finals or [(entry(), FAILED)])))
        return [incoming for incoming in self.queue.mails[before:] if incoming.envelope]

    def dropped(self) -> list[str]:
        """Why nobody was told."""
        return [event.words for event in self.events if isinstance(event, NotificationDropped)]

    def test_told(self) -> None:
        """A bounce that fails for good is told to postmaster, by a mail that nobody answers and that is marked."""
        (sent,) = self.told(self.mail(listener="mx"))
        self.assertEqual(sent.envelope, Envelope(None, (Recipient(JOE, POSTMASTER),), listener="local", session=MARK))
        found = email.message_from_bytes(sent.content, policy=email.policy.default)
        self.assertEqual((found["To"], found["Auto-Submitted"]), ("postmaster@example.org", "auto-generated"))
        self.assertEqual(found["Subject"], "A mail could be neither delivered nor returned")
        text, status, returned = cast(Any, list(found.iter_parts()))
        self.assertIn(
            "neither delivered to the recipients named below nor returned", " ".join(text.get_content().split())
        )
        self.assertIn("The event log knows the mail as Q1.", text.get_content())
        self.assertEqual(status.get_payload()[1]["Final-Recipient"], "rfc822;ann@example.net")
        self.assertIn("Subject: hello", returned.get_content())
        self.assertEqual(self.events, [NotificationSent("Q1", "DSN0", "postmaster@example.org", "failed")])

    def test_a_dsn_of_ours(self) -> None:
        """So is a DSN of our own, whatever its recipients' NOTIFY (RFC 3461 section 5.2.6 b)."""
        self.assertEqual(len(self.told(self.mail(listener="local"), (entry(notify=("NEVER",)), FAILED))), 1)

    def test_sender_leads_nowhere(self) -> None:
        """So is mail whose sender is nobody; not where the sender asked for no report."""
        self.directory.nowhere = (ANN,)
        (sent,) = self.told(self.mail(ANN))
        self.assertEqual(sent.envelope.recipients, (Recipient(JOE, POSTMASTER),))
        self.assertEqual(self.told(self.mail(ANN), (entry(notify=("NEVER",)), FAILED)), [])
        self.assertEqual(self.told(self.mail(ANN), (entry(notify=("SUCCESS",)), DELIVERED)), [])

    def test_no_notice_about_a_notice(self) -> None:
        """A notice that fails is told to nobody, also by a node that started anew: the mark is kept with the mail."""
        (sent,) = self.told(self.mail(listener="mx"))
        kept = decode_envelope(encode_envelope(sent.envelope), sent.envelope.recipients)
        self.notifier = self.made()
        self.assertEqual(self.told(replace(self.mail(), envelope=kept)), [])
        self.assertIn("it was a notice to postmaster itself", self.dropped()[0])

    def test_not_forged(self) -> None:
        """No mail that came by a listener is taken for a notice, though its content is that of one."""
        (sent,) = self.told(self.mail(listener="mx"))
        for listener in ("mx", "submission"):
            mail = replace(self.mail(listener=listener, session=MARK), content=Content(sent.content))
            self.assertEqual(len(self.told(mail)), 1)

    def test_bound(self) -> None:
        """Within an hour no more than the bound are sent; what is above it is counted in events, and it ends."""
        sent = [len(self.told(self.mail())) for _ in range(AT_MOST + 3)]
        self.assertEqual(sent, [1] * AT_MOST + [0] * 3)
        self.assertEqual([words.rpartition("; ")[2] for words in self.dropped()],
                         [f"{number} not told since then" for number in (1, 2, 3)])  # fmt: skip
        self.clock.advance(PERIOD)
        self.assertEqual(len(self.told(self.mail())), 1)

    def test_success_of_nobody(self) -> None:
        """That a bounce was delivered is told to nobody."""
        self.assertEqual(self.told(self.mail(), (entry(notify=("SUCCESS",)), DELIVERED)), [])

    def test_postmaster_leads_nowhere(self) -> None:
        """Without a postmaster nothing is sent, and that is said."""
        self.directory.nowhere = (POSTMASTER,)
        self.assertEqual(self.told(self.mail()), [])
        self.assertIn("postmaster@example.org leads nowhere", self.dropped()[0])

    def test_spool_fails(self) -> None:
        """When the notice cannot be kept the error comes out: the queue calls again."""
        self.queue.error = SpoolError("disk full", full=True)
        self.failureResultOf(Deferred.fromCoroutine(self.notifier(self.mail(), [(entry(), FAILED)])), SpoolError)
        self.assertEqual(self.events, [])
