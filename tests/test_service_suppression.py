"""The suppression list in the node: kept over a restart, obeyed by the queue, its settings read with the others."""

from __future__ import annotations

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from tests.test_service import NodeCase
from twisted_mail_node.events import RecipientFailed
from twisted_mail_node.message.address import Address
from twisted_mail_node.state.database import StateError
from twisted_mail_node.state.suppressions import SWEEP_TIME

ANN = Address("ann", "dead.example")


class SuppressionTest(NodeCase):
    """A node with its list."""

    def test_restart(self) -> None:
        """What was suppressed is so after a restart, and both are events."""
        node = self.start()
        node.suppressions.add(ANN, "asked us to")
        self.assertIn("AddressSuppressed", self.observer.names())
        self.stop(node)
        again = self.start()
        self.assertEqual(getattr(again.suppressions.find(ANN), "words", ""), "asked us to")
        self.assertEqual(again.status()["suppressions"], {"addresses": 1, "counted": 0})
        again.suppressions.remove(ANN)
        self.assertIn("AddressAllowed", self.observer.names())

    def test_queue_asks(self) -> None:
        """Mail to a suppressed address is not tried; its sender, who is local, gets a report."""
        node = self.start()
        node.suppressions.add(ANN, "asked us to")
        protocol, transport = self.connect(client="192.0.2.9")
        protocol.dataReceived(
            b"EHLO client.test\r\nMAIL FROM:<joe@here.test>\r\nRCPT TO:<ann@dead.example>\r\n"
            b"BDAT 2 LAST\r\n\r\nQUIT\r\n"
        )
        self.reactor.until(lambda: transport.disconnecting)
        protocol.connectionLost(Failure(ConnectionDone()))
        self.reactor.until(lambda: self.observer.names().count("MailFinished") == 2)
        (failed,) = [event for event in self.observer.seen if isinstance(event, RecipientFailed)]
        self.assertIn("asked us to", failed.words)
        (report,) = (self.state / "mail" / "here.test" / "joe" / "new").iterdir()
        self.assertIn(b"suppression list", report.read_bytes())

    def test_local(self) -> None:
        """A local address is not taken, and becomes so with a reload."""
        node = self.start()
        self.assertRaises(ValueError, node.suppressions.add, Address("joe", "here.test"))
        node.suppressions.add(ANN)
        self.write(tables='[[domain]]\nname = "dead.example"\n')
        node.reload()
        self.assertIsNone(node.suppressions.find(ANN))

    def test_reload(self) -> None:
        """Other settings are in force after a reload."""
        node = self.start()
        self.write(tables='[suppression]\nkeep = "1h"\n')
        node.reload()
        one = node.suppressions.add(ANN)
        self.assertEqual(one.until - one.since, 3600)

    def test_life(self) -> None:
        """While the node runs, addresses whose time is over leave the list; after its end nothing is left over."""
        node = self.start()
        node.suppressions.add(ANN, until=self.reactor.seconds() + 60)
        self.reactor.advance(SWEEP_TIME)
        self.assertIn("AddressAllowed", self.observer.names())
        database = node._parts.state
        self.stop(node)
        self.assertNotIn("Suppressions", str(self.reactor.getDelayedCalls()))
        self.assertRaises(StateError, self.failureResultOf(database.ask("SELECT 1")).raiseException)

    def test_no_state(self) -> None:
        """A node whose state cannot be opened does not start, says why, and gives everything back."""
        (self.state / "state.sqlite").mkdir(parents=True)
        error = self.fails(self.make())
        self.assertIsInstance(error, ValueError)
        self.assertIn("state.sqlite cannot be opened", str(error))
        self.assertTrue(self.is_free())
