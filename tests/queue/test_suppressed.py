"""The queue and the suppression list: what is noted, and who is not tried."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from tests.queue.fakes import DELIVERED, LATER, REFUSED, RELAYED, World
from twisted_mail_node.events import MailFinished, RecipientFailed
from twisted_mail_node.events_outbound import AddressSuppressed
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings_outbound import SuppressionSettings
from twisted_mail_node.state.database import StateDatabase
from twisted_mail_node.state.suppressions import Suppressions

DAY = 86400.0
EVE = Address("eve", "dead.example")


class SuppressedTest(SynchronousTestCase):
    """Mail to addresses that bounce."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        database = StateDatabase(Path(place.name) / "state.sqlite", cast(Any, None))
        self.addCleanup(database.close)
        self.answer: DeliveryStatus = REFUSED
        made: list[Suppressions] = []

        def suppressions(world: World) -> Suppressions:
            made.append(
                Suppressions(
                    database, SuppressionSettings(), world.clock.seconds, world.events.append,
                    lambda domain: domain == "here.example",
                )
            )  # fmt: skip
            return made[0]

        self.world = World(self._answer, suppressions=suppressions)
        self.list = made[0]

    def _answer(self, request: DeliveryRequest) -> Any:
        return DELIVERED if request.next_hop == "here.example" else self.answer

    def send(self, *addresses: str) -> None:
        """A mail, and its attempt."""
        self.world.send(*addresses)
        self.world.clock.advance(0)

    def test_failures_are_noted(self) -> None:
        """After failures over a day the address is not tried any more: it fails at once, and its sender is told why."""
        for _ in range(3):
            self.send("eve@dead.example")
            self.world.clock.advance(0.6 * DAY)
        self.assertEqual(len(self.world.agent.requests), 3)
        self.assertEqual(len(self.world.of(AddressSuppressed)), 1)
        self.send("Eve@dead.example")
        self.assertEqual(len(self.world.agent.requests), 3)
        event = self.world.of(RecipientFailed)[-1]
        self.assertEqual((event.reason, event.status, event.host), (Reason.SUPPRESSED, "5.1.1", ""))
        self.assertIn("failed 3 times", event.words)
        _, ((_, status),) = self.world.reports[-1]
        self.assertEqual((status.action, status.words), (Action.FAILED, event.words))
        self.assertEqual(len(self.world.of(MailFinished)), 4)
        self.assertEqual(getattr(self.list.find(EVE), "failures", 0), 3)  # this failure is not counted

    def test_success_is_noted(self) -> None:
        """A mail that is taken lets counting begin anew."""
        for answer in (REFUSED, REFUSED, RELAYED, REFUSED, REFUSED):
            self.answer = answer
            self.send("eve@dead.example")
            self.world.clock.advance(DAY)
        self.assertIsNone(self.list.find(EVE))

    def test_delays_are_not_noted(self) -> None:
        """Attempts that are put off do not count; giving the mail up in the words of a host counts once."""
        self.answer = LATER._replace(words="450 4.1.1 user unknown")
        self.send("eve@dead.example")
        for _ in range(24 * 8):
            self.world.clock.advance(3600)
        self.assertEqual(self.world.of(RecipientFailed)[0].reason, Reason.EXPIRED)
        self.assertEqual([one.failures for one in self.list._counted.values()], [1])

    def test_others_go_on(self) -> None:
        """The other recipients of the mail are tried, local ones too, and a local address cannot be on the list."""
        self.list.add(EVE, "asked us")
        self.answer = RELAYED
        self.send("eve@dead.example", "bob@dead.example", "joe@here.example")
        asked = {str(one.address) for request in self.world.agent.requests for one in request.recipients}
        self.assertEqual(asked, {"bob@dead.example", "joe@here.example"})
        self.assertEqual([event.recipient for event in self.world.of(RecipientFailed)], ["eve@dead.example"])
        self.assertEqual(len(self.world.of(MailFinished)), 1)

    def test_waiting_mail(self) -> None:
        """A mail that waits when its recipient is suppressed fails at its next turn."""
        self.answer = LATER
        self.send("eve@dead.example")
        self.list.add(EVE)
        self.world.clock.advance(100)
        self.assertEqual(self.world.of(RecipientFailed)[0].reason, Reason.SUPPRESSED)
        self.assertEqual(len(self.world.agent.requests), 1)

    def test_allowed_again(self) -> None:
        """After it was removed from the list, mail goes there again."""
        self.list.add(EVE)
        self.list.remove(EVE)
        self.answer = RELAYED
        self.send("eve@dead.example")
        self.assertEqual(len(self.world.agent.requests), 1)
