"""Tests of twisted_mail_node.outbound.declared: BY, MT-PRIORITY, REQUIRETLS. The rest is in test_connection."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.outbound.remote import HEADER, SENDER, Content
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.outbound.declared import ObstacleError, mail_command
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.client import Offered

JOE = Address("joe", "example.net")
NOW = 1000.0


def said(offered: Offered, sender: Address | None = SENDER, **envelope: Any) -> str:
    """What MAIL says behind the reverse-path."""
    recipients = (Recipient(JOE, JOE),)
    request = DeliveryRequest(
        "q1", Envelope(sender, recipients, **envelope), recipients, HEADER, Content(b""), "example.net", 60.0
    )
    line = mail_command(request, offered, 10, None, False, lambda: NOW).decode()
    return line.partition(">")[2].strip()


class ByTests(SynchronousTestCase):
    def obstacle(self, offered: Offered, **envelope: Any) -> DeliveryStatus:
        status = self.assertRaises(ObstacleError, said, offered, **envelope).status
        self.assertEqual(status[:3], (Action.FAILED, "5.4.7", Reason.NOT_IN_TIME))
        return status  # type: ignore[no-any-return]

    def test_seconds_left(self) -> None:
        """BY says how many seconds are left, rounded down, with mode and trace."""
        offered = Offered(deliver_by=0)
        self.assertEqual(said(offered, deliver_by=1100.9, by_mode="R"), "BY=100;R")
        self.assertEqual(said(offered, deliver_by=1100.9, by_mode="N", by_trace=True), "BY=100;NT")
        self.assertEqual(said(offered), "")

    def test_notify(self) -> None:
        """With N a time that is over goes on as a negative number, and a host without DELIVERBY gets the mail too."""
        self.assertEqual(said(Offered(deliver_by=0), deliver_by=990.5, by_mode="N"), "BY=-10;N")
        self.assertEqual(said(Offered(deliver_by=500), deliver_by=1010.0, by_mode="N"), "BY=10;N")
        self.assertEqual(said(Offered(), deliver_by=1100.0, by_mode="N"), "")

    def test_return(self) -> None:
        """With R it goes only to a host that will keep the time."""
        self.assertIn("does not offer DELIVERBY", self.obstacle(Offered(), deliver_by=1100.0, by_mode="R").words)
        words = self.obstacle(Offered(deliver_by=101), deliver_by=1100.0, by_mode="R").words
        self.assertIn("100 s are left; the host needs 101 s", words)
        self.assertEqual(said(Offered(deliver_by=100), deliver_by=1100.0, by_mode="R"), "BY=100;R")

    def test_return_too_late(self) -> None:
        """With R nothing goes when less than a second is left."""
        for when in (1000.9, 1000.0, 1.0):
            self.obstacle(Offered(deliver_by=0), deliver_by=when, by_mode="R")

    def test_bounds(self) -> None:
        """BY has nine digits at most."""
        self.assertEqual(said(Offered(deliver_by=0), deliver_by=1e12, by_mode="R"), "BY=999999999;R")
        self.assertEqual(said(Offered(deliver_by=0), deliver_by=-1e12, by_mode="N"), "BY=-999999999;N")


class OtherTests(SynchronousTestCase):
    def test_priority(self) -> None:
        """MT-PRIORITY goes on where it is offered, and is left out where it is not, or is nothing."""
        self.assertEqual(said(Offered(priorities=True), priority=-4), "MT-PRIORITY=-4")
        self.assertEqual(said(Offered(), priority=-4), "")
        self.assertEqual(said(Offered(priorities=True)), "")

    def test_requiretls(self) -> None:
        """A mail with REQUIRETLS goes nowhere else, whatever connection it is on; a bounce does."""
        self.assertEqual(said(Offered(require_tls=True), require_tls=True), "REQUIRETLS")
        self.assertEqual(said(Offered(require_tls=True)), "")
        status = self.assertRaises(ObstacleError, said, Offered(), require_tls=True).status
        self.assertEqual(status[:3], (Action.FAILED, "5.7.30", Reason.REQUIRETLS))
        self.assertEqual(said(Offered(), None, require_tls=True), "")
