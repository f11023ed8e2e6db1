"""A recipient that stands for an alias: reported as expanded, and never carried anywhere."""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.queue.fakes import DELIVERED, LATER, World
from twisted_mail_node.events import MailFinished
from twisted_mail_node.events_outbound import RecipientExpanded
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.message.status import Action
from twisted_mail_node.reasons import Reason
from twisted_mail_node.spool.mail import State

SALES = Address("sales", "here.example")
JOE = Address("joe", "here.example")
FAR = Address("far", "example.net")


def send(world: World) -> str:
    """A mail to an alias of two, with NOTIFY=SUCCESS."""
    incoming = world.queue.begin()
    recipients = (
        Recipient(JOE, SALES, ("NEVER",)),
        Recipient(FAR, SALES, ("NEVER",)),
        Recipient(SALES, SALES, ("SUCCESS",), "", True),
    )
    Deferred.fromCoroutine(incoming.commit(Envelope(Address("ann", "here.example"), recipients), b""))
    return incoming.queue_id


class ExpandedTests(SynchronousTestCase):
    """``Recipient.expanded``."""

    def test_told_once(self) -> None:
        """The first attempt reports it as expanded and finishes it, whatever becomes of those behind it."""
        world = World(lambda request: DELIVERED if request.next_hop == "here.example" else LATER)
        queue_id = send(world)
        world.clock.advance(0)
        self.assertEqual(
            sorted(str(recipient.address) for request in world.agent.requests for recipient in request.recipients),
            ["far@example.net", "joe@here.example"],
        )
        ((_, [(entry, status)]),) = world.reports
        self.assertEqual((entry.recipient.address, status.action), (SALES, Action.EXPANDED))
        self.assertEqual(world.of(RecipientExpanded), [RecipientExpanded(queue_id, str(SALES), Reason.EXPANDED)])
        self.assertEqual(
            [entry.state for entry in world.spool.entries()], [State.FINISHED, State.DELAYED, State.FINISHED]
        )
        world.agent.answer = lambda request: DELIVERED
        world.pass_time(120.0)
        self.assertEqual((len(world.reports), world.spool.mails, len(world.of(MailFinished))), (1, {}, 1))

    def test_after_a_crash(self) -> None:
        """Who crashes between the acceptance and the DSN tells it at the next start."""
        world = World(lambda request: DELIVERED)
        queue_id = send(world)
        mail = world.spool.mails[queue_id]  # nothing was tried yet
        again = World(lambda request: DELIVERED)
        entries = tuple(entry._replace(state=State.DELAYED, due=0.0) for entry in mail.entries)
        again.spool.keep(replace(mail, entries=entries))
        again.pass_time(61.0)
        self.assertEqual([status.action for _, told in again.reports for _, status in told], [Action.EXPANDED])
        self.assertEqual(again.spool.mails, {})

    def test_telling_fails(self) -> None:
        """When it cannot be told now it is told later, and the mail stays until then."""
        world = World(lambda request: DELIVERED)
        world.notify_breaks = lambda: True
        send(world)
        world.clock.advance(0)
        self.assertEqual(len(world.spool.mails), 1)
        world.notify_breaks = lambda: False
        world.pass_time(600.0)
        self.assertEqual((len(world.reports), world.spool.mails, len(world.agent.requests)), (1, {}, 2))
        self.flushLoggedErrors(RuntimeError)
