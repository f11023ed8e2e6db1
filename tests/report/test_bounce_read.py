"""What the notifier sends is what NOTIFY asks for (RFC 3461 section 4.1), as a bounce detector reads it."""

from __future__ import annotations

import email
import importlib
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.task import Clock
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.report.test_bounce import (
    CONTENT,
    DELAYED,
    DELIVERED,
    FAILED,
    JOE,
    RELAYED,
    TRACE,
    Content,
    Directory,
    Queue,
    Threads,
)
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.reasons import Reason
from twisted_mail_node.report.bounce import Notifier
from twisted_mail_node.spool.mail import Entry, Mail

EXPANDED = DeliveryStatus(Action.EXPANDED, "2.0.0", Reason.EXPANDED, "")
STATUSES = (FAILED, DELAYED, DELIVERED, RELAYED, RELAYED._replace(dsn_passed_on=True), EXPANDED)
NOTIFY = st.just(()) | st.just(("NEVER",)) | st.sets(st.sampled_from(["SUCCESS", "FAILURE", "DELAY"]), min_size=1).map(
    lambda words: tuple(sorted(words))
)  # fmt: skip
FATES = st.lists(st.tuples(st.sampled_from(STATUSES), NOTIFY, st.booleans()), min_size=1, max_size=8)


class ReadTests(SynchronousTestCase):
    """``Notifier`` and flufl.bounce."""

    def setUp(self) -> None:
        try:
            self.bounce: Any = importlib.import_module("flufl.bounce")
        except ImportError:
            raise SkipTest("flufl.bounce is not installed") from None

    def sent(self, mail: Mail, told: list[tuple[Entry, DeliveryStatus]]) -> list[Any]:
        """The DSNs, parsed."""
        queue = Queue()
        notifier = Notifier(
            hostname="mx.example.org",
            queue=queue,
            directory=Directory(),
            reactor=cast(IReactorThreads, Threads()),
            clock=Clock(),
            publish=lambda event: None,
        )
        self.successResultOf(Deferred.fromCoroutine(notifier(mail, told, 1_700_000_000.0)))
        return [email.message_from_bytes(incoming.content) for incoming in queue.mails if incoming.envelope]

    @settings(deadline=None, max_examples=150)
    @given(FATES, st.sampled_from([None, "FULL", "HDRS"]))
    def test_notify(self, fates: list[tuple[DeliveryStatus, tuple[str, ...], bool]], ret: Any) -> None:
        """Failures and delays that are to be told are found, each kind in one DSN, with or without an alias; what is
        not to be told is in none; successes are in one that no detector takes for a failure."""
        told = []
        wanted: dict[Action, set[str]] = {Action.FAILED: set(), Action.DELAYED: set(), Action.DELIVERED: set()}
        for number, (status, notify, alias) in enumerate(fates):
            address = Address(f"u{number}", "example.net")
            behind = Address("hidden", "secret.example") if alias else address
            told.append((Entry(number, Recipient(behind, address, notify), attempts=1), status))
            if status is FAILED:
                asked = not notify or "FAILURE" in notify
            elif status is DELAYED:
                asked = not notify or "DELAY" in notify
            else:
                asked = "SUCCESS" in notify and not status.dsn_passed_on
            if asked:
                kind = status.action if status.action in wanted else Action.DELIVERED
                wanted[kind].add(str(address))
        mail = Mail("Q1", Envelope(JOE, (), ret=ret), TRACE, Content(CONTENT), 1_709_630_000.0, ())
        reports = self.sent(mail, told)
        self.assertEqual(len(reports), sum(map(bool, wanted.values())))
        found: dict[Action, set[str]] = {action: set() for action in wanted}
        for report in reports:
            temporary, permanent = self.bounce.all_failures(report)
            found[Action.DELAYED] |= {address.decode() for address in temporary}
            found[Action.FAILED] |= {address.decode() for address in permanent}
            self.assertFalse(temporary and permanent)
            for block in report.get_payload()[1].get_payload()[1:]:
                if block["Action"] not in ("failed", "delayed"):
                    found[Action.DELIVERED].add(block["Final-Recipient"].partition(";")[2])
            self.assertNotIn(b"secret.example", report.as_bytes())
        self.assertEqual(found, wanted)
