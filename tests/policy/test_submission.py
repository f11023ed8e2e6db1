"""Tests of twisted_mail_node.policy.submission."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.policy.submitters import Submitter, address
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Recipient
from twisted_mail_node.policy.submission import Submission
from twisted_mail_node.policy.verdict import Asked, Refuse, Verdict
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import SubmissionSettings

JOE = Submitter()


class SubmissionTests(SynchronousTestCase):
    """What who has signed in may send."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.policy = Submission(SubmissionSettings(), self.clock)

    def ask(self, stage: str, submitter: Submitter | None = JOE, **known: object) -> Verdict | None:
        """The policy's verdict at once."""
        asked = Asked("1", "submission", "192.0.2.1", submitter=submitter)
        for name, value in known.items():
            setattr(asked, name, value)
        asking: Deferred[Verdict | None] = Deferred.fromCoroutine(getattr(self.policy, stage)(asked))
        return self.successResultOf(asking)

    def refused(self, stage: str, reason: Reason, reply: str, **known: object) -> str:
        """The words of a refusal."""
        verdict = self.ask(stage, **known)  # type: ignore[arg-type]
        assert isinstance(verdict, Refuse), verdict
        self.assertEqual((verdict.reason, verdict.reply.reason), (reason, reason))
        self.assertTrue(str(verdict.reply).startswith(reply), str(verdict.reply))
        return str(verdict.reply)

    def test_reverse_path(self) -> None:
        """The user's own address or none; with another's the reply names it and says what to do."""
        for path in (None, address("joe@example.org"), address("sales@example.org")):
            self.assertIsNone(self.ask("mail", reverse_path=path))
        for other in ("ann@example.org", "joe@elsewhere.example", "x@example.org", "joe@EXAMPLE.org"):
            words = self.refused("mail", Reason.NOT_YOUR_ADDRESS, "550 5.7.1", reverse_path=address(other))
            self.assertIn(f"<{other}>", words)
            self.assertIn("Choose your own address in your mail program", words)
        words = self.refused(
            "mail", Reason.NOT_YOUR_ADDRESS, "550 5.7.1", reverse_path=Address("jürgen", "example.org")
        )
        self.assertTrue(words.isascii())

    def test_disabled(self) -> None:
        """Who was disabled meanwhile may use no address, not even the account's; the reply says why."""
        disabled = Submitter()
        disabled.may_use = lambda address: False  # type: ignore[method-assign]
        for stage, known in (
            ("mail", {"reverse_path": address("joe@example.org")}),
            ("content", {"header": b"From: joe@example.org\r\n"}),
        ):
            words = self.refused(stage, Reason.ACCOUNT_DISABLED, "550 5.7.1 ", submitter=disabled, **known)
            self.assertIn("The account joe@example.org may not send any more: it is disabled", words)

    def test_not_signed_in(self) -> None:
        """Clients in ``relay_from`` that have not signed in are bound to nothing here."""
        self.assertIsNone(self.ask("mail", None, reverse_path=address("ann@example.org")))
        self.assertIsNone(self.ask("content", None, header=b"From: a@b\r\nFrom: c@d\r\n\r\n"))
        self.assertIsNone(self.ask("rcpt", None, recipients=[_recipient()] * 1000))

    def test_recipients(self) -> None:
        """The user's own bound on recipients: 452, and the client sends the rest in another mail."""
        few = Submitter(recipients=3)
        self.assertIsNone(self.ask("rcpt", few, recipients=[_recipient()] * 2))
        words = self.refused(
            "rcpt", Reason.TOO_MANY_RECIPIENTS, "452 4.5.3", submitter=few, recipients=[_recipient()] * 3
        )
        self.assertIn("3 recipients", words)

    def test_own(self) -> None:
        """From, Sender, Resent-From and Resent-Sender with own addresses, in every form that has one reading."""
        for header in (
            b"From: joe@example.org",
            b"From: Joe <joe@example.org>",
            b"From: JOE <joe@EXAMPLE.org>",
            b'From: "Smith, Joe" <joe@example.org>',
            b"From: joe@example.org (Joe)",
            b"From: J. Q. Smith\r\n <joe@example.org>",
            b"From: joe@example.org, Sales <sales@example.org>\r\nSender: joe@example.org",
            b"from : joe@example.org",
            b"From: =?utf-8?q?J=C3=BCrgen?= <joe@example.org>",
            b"From: J\xc3\xbcrgen <joe@example.org>",
            b"From: joe@example.org\r\nResent-From: sales@example.org\r\nResent-Sender: joe@example.org",
            b'From: "joe"@example.org',
            b"From: joe@example.org\r\nReply-To: anybody@elsewhere.example\r\nTo: ann@example.org",
            b"From: joe@example.org\r\nSubject: \xff\xfe",
        ):
            self.assertIsNone(self.ask("content", header=header + b"\r\n\r\n"), header)

    def test_not_own(self) -> None:
        """Another's address anywhere among the authors is refused, and named."""
        for header in (
            b"From: ann@example.org",
            b"From: Joe <ann@example.org>",
            b"From: joe@example.org, ann@example.org",
            b"From: joe@example.org\r\nSender: ann@example.org",
            b"From: joe@example.org\r\nResent-From: ann@example.org",
            b"From: joe@example.org\r\nResent-From: joe@example.org\r\nResent-From: ann@example.org",
            b"From: joe@example.org\r\nresent-sender : ann@example.org",
        ):
            words = self.refused("content", Reason.NOT_YOUR_ADDRESS, "550 5.7.1", header=header + b"\r\n\r\n")
            self.assertIn("<ann@example.org>", words)

    def test_ambiguous(self) -> None:
        """What has not one reading is refused, and the reply says why."""
        table = {
            b"Subject: x": "no From field",
            b"From:": "names nobody",
            b"From: ,": "names nobody",
            b"From: joe@example.org\r\nFrom: joe@example.org": "2 From fields",
            b"From: joe@example.org\r\nFROM : joe@example.org": "2 From fields",
            b"Subject: x\r\n From: ann@example.org\r\nFrom: joe@example.org": "looks like another From",
            b"From: Joe": "name without an address",
            b"From: joe@example.org <ann@example.org>": "without a comma",
            b"From: joe:joe@example.org;": "a group",
            b"From: <@elsewhere.example:joe@example.org>": "source route",
            b"From: joe@example.org(": "comment does not end",
            b"From: joe@\r\n example.org": "spaces or comments in it",
            b"From: joe\xff <joe@example.org>": "neither ASCII nor UTF-8",
            b"From: joe\0 <joe@example.org>": "control character",
            b"From: joe@example.org\r\nSender: joe@example.org\r\nSender: joe@example.org": "more than one Sender",
            b"From: joe@example.org\r\nSender: Joe": "Sender cannot be understood",
            b"From: joe@example.org" + b", joe@example.org" * 1000: "longer than",
            b"From: joe@example.org" + b"\r\nResent-From: joe@example.org" * 1000: "too many",
            b"": "no From field",
        }
        for header, why in table.items():
            words = self.refused("content", Reason.BAD_FROM, "550 5.6.0", header=header + b"\r\n\r\n")
            self.assertIn(why, words)

    def test_add_from(self) -> None:
        """Without From, where one is added: fine, unless the address cannot stand in every mail."""
        self.policy.settings = SubmissionSettings(add_from=True)
        self.assertIsNone(self.ask("content", header=b"Subject: x\r\n\r\n"))
        other = Submitter("jürgen@example.org")
        self.refused("content", Reason.BAD_FROM, "550 5.6.0", submitter=other, header=b"Subject: x\r\n\r\n")
        self.refused("content", Reason.NOT_YOUR_ADDRESS, "550 5.7.1", header=b"Sender: ann@example.org\r\n\r\n")

    def test_pace(self) -> None:
        """So many mails within an hour; then 450 with the minutes to wait, at MAIL and after content alike."""
        slow = Submitter(mails_per_hour=2)
        good = b"From: joe@example.org\r\n\r\n"
        for _ in range(2):
            self.assertIsNone(self.ask("mail", slow))
            self.assertIsNone(self.ask("content", slow, header=good))
            self.clock.advance(60)
        for stage in ("mail", "content"):
            words = self.refused(stage, Reason.TOO_MANY_MAILS, "450 4.7.1", submitter=slow, header=good)
            self.assertIn("in 58 minutes", words)
        self.assertIsNone(self.ask("mail", Submitter("ann@example.org", mails_per_hour=2)))
        self.clock.advance(58 * 60)
        self.assertIsNone(self.ask("mail", slow))

    def test_refused_does_not_count(self) -> None:
        """A mail that is refused is not counted."""
        slow = Submitter(mails_per_hour=1)
        for _ in range(5):
            self.ask("content", slow, header=b"From: ann@example.org\r\n\r\n")
        self.assertIsNone(self.ask("mail", slow))


def _recipient() -> Recipient:
    return Recipient(address("ann@example.org"), address("ann@example.org"))
