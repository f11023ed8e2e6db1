"""Tests of twisted_mail_node.inbound.times."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.inbound.memory import EPOCH
from tests.inbound.receiving import TestReceiver
from tests.policy.submitters import SubmissionReceiver
from twisted_mail_node.inbound.times import NO_TIMES, Times, times, times_refused
from twisted_mail_node.settings import SubmissionSettings
from twisted_mail_node.smtp.extensions import By, MailParameters

DAY = 86400.0


class TimesTests(SynchronousTestCase):
    """HOLDFOR, HOLDUNTIL and BY."""

    def test_values(self) -> None:
        """They count from MAIL, in seconds since the epoch."""
        self.assertIs(times(MailParameters(size=5), 100), NO_TIMES)
        self.assertEqual(times(MailParameters(hold_for=60), 100), Times(160))
        self.assertEqual(times(MailParameters(hold_until=500.0), 100), Times(500))
        self.assertEqual(times(MailParameters(by=By(-5, "N", True)), 100), Times(0, 95, "N", True))
        self.assertEqual(times(MailParameters(hold_for=5, by=By(60, "R")), 100), Times(105, 160, "R", False))

    def test_refused(self) -> None:
        """Held too long, until a time that is over, or longer than it may take: 501 with a sentence."""
        for wanted, words in (
            (Times(100 + DAY + 1), "86400 seconds (1 days)"),
            (Times(99.0), "a time that is over"),
            (Times(200.0, 200.0, "R"), "would still be held back"),
        ):
            reply = times_refused(wanted, 100.0, DAY)
            assert reply is not None
            self.assertEqual((reply.code, reply.enhanced), (501, "5.5.4"))
            self.assertIn(words, str(reply))
        for wanted in (NO_TIMES, Times(100 + DAY), Times(100.0), Times(200.0, 150.0, "N"), Times(0, 50.0, "N")):
            self.assertIsNone(times_refused(wanted, 100.0, DAY))


class SessionTests(SynchronousTestCase):
    """The same in a session."""

    def test_kept(self) -> None:
        """The envelope has the times of MAIL, however long the content takes, and the priority."""
        receiver = SubmissionReceiver()
        peer = receiver.signed_in()
        peer.say(
            "MAIL FROM:<joe@example.org> HOLDFOR=3600 BY=7200;RT MT-PRIORITY=3", "RCPT TO:<ann@example.org>", "DATA"
        )
        receiver.wait(30)
        self.assertTrue(peer.say("From: joe@example.org", "", ".").startswith("250"))
        envelope = receiver.queue.mails[0].envelope
        self.assertEqual((envelope.release_at, envelope.deliver_by), (EPOCH + 3600, EPOCH + 7200))
        self.assertEqual((envelope.by_mode, envelope.by_trace, envelope.priority), ("R", True, 3))

    def test_tls_optional(self) -> None:
        """TLS-Required: No in the header, not in the body, is kept in the envelope (RFC 8689 section 4.1)."""
        for field, expected in (("TLS-Required: No", True), ("Subject: TLS-Required: No", False)):
            receiver = SubmissionReceiver()
            peer = receiver.signed_in()
            peer.say("MAIL FROM:<joe@example.org>", "RCPT TO:<ann@example.org>", "DATA")
            self.assertTrue(peer.say("From: joe@example.org", field, "", "TLS-Required: No", ".").startswith("250"))
            self.assertEqual(receiver.queue.mails[0].envelope.tls_optional, expected)

    def test_until(self) -> None:
        """HOLDUNTIL within the bound is taken; over it, or in the past, is refused, and the session goes on."""
        receiver = SubmissionReceiver(SubmissionSettings(future_release=DAY))
        peer = receiver.signed_in()
        for when, code in (
            ("2023-11-14T22:13:19Z", "501"),
            ("2023-11-15T22:13:21Z", "501"),
            ("2023-11-15T00:00:00+01:00", "250"),
        ):
            self.assertEqual(peer.say(f"MAIL FROM:<> HOLDUNTIL={when}")[:3], code, when)

    def test_not_on_mx(self) -> None:
        """An MX listener knows none of them."""
        for parameter in ("HOLDFOR=60", "BY=60;R", "MT-PRIORITY=3"):
            self.assertTrue(TestReceiver().session().say(f"MAIL FROM:<> {parameter}").startswith("555"))

    def test_priority_of_nobody(self) -> None:
        """Who has not signed in has no priority, for no mail is taken from them at all (RFC 6710)."""
        self.assertTrue(SubmissionReceiver().session().say("MAIL FROM:<> MT-PRIORITY=9").startswith("530"))
