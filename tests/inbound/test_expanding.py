"""NOTIFY of an alias (RFC 3461 section 5.2.7)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.inbound.memory import Kept
from tests.inbound.receiving import TestReceiver
from twisted_mail_node.directory.resolution import Resolution
from twisted_mail_node.events import MailAccepted
from twisted_mail_node.inbound.expanding import expanded
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Recipient
from twisted_mail_node.smtp.extensions import RcptParameters

SALES = Address("sales", "example.org")
JOE = Address("joe", "example.org")
ANN = Address("ann", "example.org")


class ValueTests(SynchronousTestCase):
    """Pure."""

    def test_several(self) -> None:
        """SUCCESS is taken from those behind the alias and stays with who stands for it; ORCPT goes to all."""
        two = Resolution(True, (JOE, ANN), True)
        for notify, rest in (
            (("SUCCESS",), ("NEVER",)),
            (("SUCCESS", "FAILURE"), ("FAILURE",)),
            (("DELAY", "SUCCESS", "FAILURE"), ("DELAY", "FAILURE")),
        ):
            given = RcptParameters(notify, "rfc822;s@x")
            parameters, alias = expanded(SALES, two, given)
            self.assertEqual(parameters, RcptParameters(rest, "rfc822;s@x"))
            self.assertEqual(alias, Recipient(SALES, SALES, notify, "rfc822;s@x", True))
        others: list[tuple[str, ...]] = [(), ("NEVER",), ("FAILURE",), ("DELAY", "FAILURE")]
        for other in others:
            given = RcptParameters(other, "rfc822;s@x")
            self.assertEqual(expanded(SALES, two, given), (given, None))

    def test_one(self) -> None:
        """An alias that leads to one address passes everything on; so does an address that is none."""
        given = RcptParameters(("SUCCESS",), "rfc822;s@x")
        for resolution in (Resolution(True, (JOE,), True), Resolution(True, (JOE,)), Resolution(False, (ANN,))):
            self.assertEqual(expanded(SALES, resolution, given), (given, None))


class ReceivedTests(SynchronousTestCase):
    """Through a session."""

    def kept(self, *recipients: str) -> tuple[TestReceiver, Kept]:
        """What is kept of a mail to these."""
        receiver = TestReceiver()
        lines = [f"RCPT TO:{recipient}" for recipient in recipients]
        peer = receiver.session("MAIL FROM:<sender@elsewhere.example>", *lines, "DATA")
        peer.say("Subject: x", "", "x", ".")
        return receiver, receiver.queue.mails[0]

    def test_kept_with_the_mail(self) -> None:
        """The alias is kept beside its recipients, last and once; it counts as none of them where people look."""
        receiver, kept = self.kept("<sales@example.org> NOTIFY=SUCCESS,FAILURE", "<sales@example.org> NOTIFY=SUCCESS")
        self.assertEqual(
            kept.envelope.recipients,
            (
                Recipient(JOE, SALES, ("FAILURE",)),
                Recipient(ANN, SALES, ("FAILURE",)),
                Recipient(SALES, SALES, ("SUCCESS", "FAILURE"), "", True),
            ),
        )
        (event,) = receiver.of(MailAccepted)
        self.assertEqual(event.recipients, ("joe@example.org", "ann@example.org"))

    def test_single(self) -> None:
        """NOTIFY=SUCCESS of an alias of one address goes on with the mail."""
        _, kept = self.kept("<far@example.org> NOTIFY=SUCCESS")
        far = Address("far", "elsewhere.example")
        self.assertEqual(kept.envelope.recipients, (Recipient(far, Address("far", "example.org"), ("SUCCESS",)),))
