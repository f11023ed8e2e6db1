"""Tests of twisted_mail_node.policy.recipients."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.directory.resolution import Resolution
from twisted_mail_node.message.address import Address
from twisted_mail_node.policy.recipients import BOUNCES_ONLY, EXPIRED, FORGED, LOOP, UNKNOWN, Recipients
from twisted_mail_node.policy.verdict import Asked, Refuse, Verdict
from twisted_mail_node.reasons import Reason

JOE = Address("joe", "example.org")
ANN = Address("ann", "example.org")


class RecipientsTests(SynchronousTestCase):
    """Who is there, and has room."""

    def ask(
        self,
        resolution: Resolution | None,
        full: tuple[Address, ...] = (),
        code: int = 452,
        sender: Address | None = None,
    ) -> Verdict | None:
        """Its verdict at once."""
        asked = Asked("1", "mx", "192.0.2.9", resolution=resolution, reverse_path=sender)
        return self.successResultOf(Deferred.fromCoroutine(Recipients(full.__contains__, code).rcpt(asked)))

    def test_there(self) -> None:
        """Who is there, and who is not ours to judge."""
        self.assertIsNone(self.ask(Resolution(True, (JOE,))))
        self.assertIsNone(self.ask(Resolution(False, (Address("x", "elsewhere.example"),))))
        self.assertIsNone(self.ask(None))

    def test_unknown(self) -> None:
        """Nobody has the address: 550 5.1.1. Its aliases lead in a circle: 550 5.4.6."""
        unknown = Resolution(True, (), False, Reason.UNKNOWN_RECIPIENT)
        self.assertEqual(self.ask(unknown), Refuse(UNKNOWN, Reason.UNKNOWN_RECIPIENT))
        self.assertEqual((UNKNOWN.code, UNKNOWN.enhanced), (550, "5.1.1"))
        circle = Resolution(True, (), False, Reason.ALIAS_LOOP)
        self.assertEqual(self.ask(circle), Refuse(LOOP, Reason.ALIAS_LOOP))

    def test_rewritten_reverse_paths(self) -> None:
        """Forged and expired ones are told as that; real ones take bounces, and nothing else (T28)."""
        for problem, reply in ((Reason.SRS_FORGED, FORGED), (Reason.SRS_EXPIRED, EXPIRED)):
            self.assertEqual(self.ask(Resolution(True, (), False, problem)), Refuse(reply, problem))
            self.assertEqual((reply.code, reply.enhanced), (550, "5.1.1"))
        real = Resolution(True, (Address("x", "elsewhere.example"),), True, returns=True)
        self.assertIsNone(self.ask(real))
        self.assertEqual(self.ask(real, sender=ANN), Refuse(BOUNCES_ONLY, Reason.BOUNCES_ONLY))
        self.assertEqual((BOUNCES_ONLY.code, BOUNCES_ONLY.enhanced), (550, "5.7.1"))

    def test_full(self) -> None:
        """A full mailbox: 452 4.2.2, or 552 5.2.2 where the settings say so."""
        for code, enhanced in ((452, "4.2.2"), (552, "5.2.2")):
            verdict = self.ask(Resolution(True, (JOE,)), (JOE,), code)
            assert isinstance(verdict, Refuse)
            found = (verdict.reply.code, verdict.reply.enhanced, verdict.reason)
            self.assertEqual(found, (code, enhanced, Reason.MAILBOX_FULL))

    def test_full_among_others(self) -> None:
        """One full mailbox behind an alias does not keep the mail from the others: it is delayed for that one."""
        self.assertIsNone(self.ask(Resolution(True, (JOE, ANN), True), (JOE,)))
