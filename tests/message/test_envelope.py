"""The envelope: a value that cannot change, with defaults that ask for nothing."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient

JOE = Address("joe", "example.org")


class EnvelopeTests(SynchronousTestCase):
    """``Envelope`` and ``Recipient``."""

    def test_frozen(self) -> None:
        """An envelope cannot be changed, only replaced."""
        envelope = Envelope(JOE, (Recipient(JOE, JOE),))
        with self.assertRaises(FrozenInstanceError):
            envelope.ret = "FULL"  # type: ignore[misc]
        self.assertEqual(replace(envelope, ret="FULL").ret, "FULL")
        self.assertIsNone(envelope.ret)

    def test_defaults(self) -> None:
        """Without parameters: 7BIT, no SMTPUTF8, no RET, no NOTIFY."""
        envelope = Envelope(None)
        self.assertEqual((envelope.body, envelope.smtputf8, envelope.ret), ("7BIT", False, None))
        self.assertEqual((Recipient(JOE, JOE).notify, Recipient(JOE, JOE).orcpt), ((), ""))

    def test_value(self) -> None:
        """Envelopes that say the same are equal."""
        self.assertEqual(Envelope(JOE, (Recipient(JOE, JOE),)), Envelope(JOE, (Recipient(JOE, JOE),)))
        self.assertNotEqual(Envelope(JOE), Envelope(None))
