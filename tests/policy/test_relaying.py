"""Tests of twisted_mail_node.policy.relaying."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.policy.submitters import Submitter
from twisted_mail_node.directory.resolution import Resolution
from twisted_mail_node.message.address import Address
from twisted_mail_node.policy.relaying import AUTH_REQUIRED, DENIED, Relaying
from twisted_mail_node.policy.verdict import Asked, Refuse, Verdict
from twisted_mail_node.reasons import Reason

LOCAL = Resolution(True, (Address("joe", "example.org"),))
UNKNOWN = Resolution(True, (), False, Reason.UNKNOWN_RECIPIENT)
REMOTE = Resolution(False, (Address("x", "elsewhere.example"),))


class RelayingTests(SynchronousTestCase):
    """Who may send where."""

    def ask(self, stage: str, **known: object) -> Verdict | None:
        """Its verdict at once."""
        asked = Asked("1", "mx", "127.0.0.1")
        for name, value in known.items():
            setattr(asked, name, value)
        asking: Deferred[Verdict | None] = Deferred.fromCoroutine(getattr(Relaying(), stage)(asked))
        return self.successResultOf(asking)

    def test_local(self) -> None:
        """Anyone may send to a domain of ours; whether the address exists is another policy's matter."""
        for resolution in (LOCAL, UNKNOWN):
            self.assertIsNone(self.ask("rcpt", resolution=resolution))

    def test_remote(self) -> None:
        """To another domain only who may relay; loopback is no licence; not knowing is no."""
        self.assertEqual(self.ask("rcpt", resolution=REMOTE), Refuse(DENIED, Reason.RELAY_DENIED))
        self.assertEqual(self.ask("rcpt"), Refuse(DENIED, Reason.RELAY_DENIED))
        self.assertIsNone(self.ask("rcpt", resolution=REMOTE, may_relay=True))
        self.assertIsNone(self.ask("rcpt", resolution=REMOTE, submitter=Submitter()), "who has signed in may relay")
        self.assertEqual((DENIED.code, DENIED.enhanced), (550, "5.7.1"))

    def test_submission(self) -> None:
        """A submission listener asks for authentication at MAIL; an MX listener does not."""
        self.assertEqual(self.ask("mail", listener="submission"), Refuse(AUTH_REQUIRED, Reason.AUTH_REQUIRED))
        self.assertIsNone(self.ask("mail", listener="submission", may_relay=True))
        self.assertIsNone(self.ask("mail", listener="submission", submitter=Submitter()))
        self.assertIn("let your mail program sign in", str(AUTH_REQUIRED))
        self.assertIsNone(self.ask("mail"))
        self.assertEqual((AUTH_REQUIRED.code, AUTH_REQUIRED.enhanced), (530, "5.7.0"))
