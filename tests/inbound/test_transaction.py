"""Tests of twisted_mail_node.inbound.transaction."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.inbound.receiving import TestReceiver, Thoughtful
from tests.policy.submitters import SubmissionReceiver, Submitter
from twisted_mail_node.events import CommandRefused, MailAccepted, MailDiscarded, MailRefused, RecipientRefused
from twisted_mail_node.message.address import Address
from twisted_mail_node.policy.chain import by_stage
from twisted_mail_node.policy.verdict import Accept, Asked, Discard, Hold, Policy, Refuse, Verdict
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.reply import Reply
from twisted_mail_node.spool.mail import SpoolError

MAIL = ("MAIL FROM:<a@elsewhere.example>", "RCPT TO:<joe@example.org>", "DATA")
CONTENT = ("Subject: x", "", "text", ".")


class Says(Policy):
    """Gives one verdict at one stage.

    :ivar asked: what it was shown.
    """

    name = "says"

    def __init__(self, stage: str, verdict: Verdict | None) -> None:
        self._stage = stage
        self._verdict = verdict
        self.asked: list[Asked] = []

    def _at(self, stage: str, asked: Asked) -> Verdict | None:
        self.asked.append(asked)
        return self._verdict if stage == self._stage else None

    async def mail(self, asked: Asked) -> Verdict | None:
        return self._at("mail", asked)

    async def rcpt(self, asked: Asked) -> Verdict | None:
        return self._at("rcpt", asked)

    async def content(self, asked: Asked) -> Verdict | None:
        return self._at("content", asked)


class PromiseTests(SynchronousTestCase):
    """The durable promise."""

    def test_accepted(self) -> None:
        """250 and the queue id; the event says who, from where, how large; envelope and trace field are kept."""
        receiver = TestReceiver()
        peer = receiver.session(*MAIL)
        self.assertEqual(peer.say(*CONTENT), "250 2.0.0 Queued as Q1\r\n")
        (event,) = receiver.of(MailAccepted)
        self.assertEqual(
            event[1:],
            ("Q1", "192.0.2.9", "client.example.net", "ESMTP", "a@elsewhere.example", ("joe@example.org",), 20,
             Reason.ACCEPTED, "", ""),
        )  # fmt: skip
        (mail,) = receiver.queue.mails
        envelope = mail.envelope
        self.assertEqual((envelope.client, envelope.helo), ("192.0.2.9", "client.example.net"))
        self.assertEqual((envelope.protocol, envelope.listener, envelope.session), ("ESMTP", "mx", event.session))
        self.assertEqual(
            mail.header,
            b"Received: from client.example.net ([192.0.2.9])\r\n\tby mx.example.org with ESMTP id Q1\r\n"
            b"\tfor <joe@example.org>; Tue, 14 Nov 2023 22:13:20 +0000\r\n",
        )
        self.assertEqual(mail.content, b"Subject: x\r\n\r\ntext\r\n")

    def test_no_for_clause(self) -> None:
        """Received names the recipient only when there is one: no recipient learns of another."""
        receiver = TestReceiver()
        peer = receiver.session("MAIL FROM:<>", "RCPT TO:<joe@example.org>", "RCPT TO:<ann@example.org>", "DATA")
        peer.say(*CONTENT)
        self.assertNotIn(b"for <", receiver.queue.mails[0].header)

    def test_spool_fails(self) -> None:
        """A spool that fails at the commit is 451 4.3.0, a full disk 452 4.3.1; never 5yz, and nothing is accepted."""
        for error, reply, reason in ((SpoolError("broken"), "451 4.3.0", Reason.SPOOL_FAILED),
                                     (SpoolError("full", full=True), "452 4.3.1", Reason.DISK_FULL)):  # fmt: skip
            for step in ("write_error", "commit_error"):
                receiver = TestReceiver()
                setattr(receiver.queue, step, error)
                peer = receiver.session(*MAIL)
                self.assertTrue(peer.say(*CONTENT).startswith(reply), (reply, step))
                self.assertEqual((receiver.queue.mails, receiver.of(MailAccepted)), ([], []))
                (event,) = receiver.of(MailRefused)
                self.assertEqual((event.reason, event.recipients), (reason, ("joe@example.org",)))
                setattr(receiver.queue, step, None)
                peer.say(*MAIL)
                self.assertTrue(peer.say(*CONTENT).startswith("250"), "the session goes on")

    def test_promise_after_commit(self) -> None:
        """Nothing is said and no event is published before the commit has returned."""
        receiver = TestReceiver()
        receiver.queue.commits_wait = True
        peer = receiver.session(*MAIL)
        self.assertEqual(peer.say(*CONTENT), "")
        self.assertEqual(receiver.of(MailAccepted), [])
        receiver.queue.go_on()
        self.assertEqual(peer.codes(), [250])
        self.assertEqual(len(receiver.of(MailAccepted)), 1)


class VerdictTests(SynchronousTestCase):
    """What policies do to a mail."""

    def test_refuse(self) -> None:
        """A refusal at each stage is the reply, with its reason in the event."""
        no = Reply.make(554, "5.7.1", "not this")
        kinds: dict[str, type[tuple[object, ...]]] = {
            "mail": CommandRefused,
            "rcpt": RecipientRefused,
            "content": MailRefused,
        }
        for stage, kind in kinds.items():
            receiver = TestReceiver(policies=[Says(stage, Refuse(no, Reason.POLICY))])
            peer = receiver.session()
            said = peer.say(*MAIL)
            if stage == "content":
                said += peer.say(*CONTENT)
            self.assertIn("554 5.7.1 not this\r\n", said)
            event = receiver.of(kind)[0]
            self.assertIn(str(no), event)
            self.assertIn(Reason.POLICY, event)
            self.assertEqual(receiver.queue.mails, [])
            self.assertLessEqual({incoming.state for incoming in receiver.queue.begun}, {"aborted"})

    def test_discard(self) -> None:
        """Discard, said at any stage: 250, no mail, an event; the next mail is another matter."""
        for stage in ("mail", "rcpt", "content"):
            policy = Says(stage, Discard(Reason.DISCARDED, "known rubbish"))
            receiver = TestReceiver(policies=[policy])
            peer = receiver.session(*MAIL)
            self.assertTrue(peer.say(*CONTENT).startswith("250 2.0.0"), stage)
            self.assertEqual(receiver.queue.mails, [])
            self.assertEqual(receiver.queue.begun[0].state, "aborted")
            (event,) = receiver.of(MailDiscarded)
            self.assertEqual((event.words, event.size), ("known rubbish", 20))
            policy._verdict = None
            peer.say(*MAIL)
            peer.say(*CONTENT)
            self.assertEqual(len(receiver.queue.mails), 1)

    def test_hold(self) -> None:
        """Hold, said at any stage: the mail is accepted and held."""
        for stage in ("mail", "rcpt", "content"):
            receiver = TestReceiver(policies=[Says(stage, Hold(Reason.HELD, "let me look"))])
            peer = receiver.session(*MAIL)
            self.assertTrue(peer.say(*CONTENT).startswith("250 2.0.0 Queued"))
            self.assertEqual([mail.held for mail in receiver.queue.mails], ["let me look"], stage)

    def test_accept_does_not_relay(self) -> None:
        """A policy that accepts opens no relay, and makes no recipient: the gate stands before it."""
        receiver = TestReceiver(policies=[Says("rcpt", Accept())])
        peer = receiver.session("MAIL FROM:<>")
        self.assertTrue(peer.say("RCPT TO:<x@elsewhere.example>").startswith("550 5.7.1"))
        self.assertTrue(peer.say("RCPT TO:<nobody@example.org>").startswith("550 5.1.1"))

    def test_shown(self) -> None:
        """Policies see the envelope as it grows, the header and the size; a new mail begins with nothing."""
        policy = Says("", None)
        receiver = TestReceiver(policies=[policy], relay_from=["192.0.2.0/24"])
        peer = receiver.session(*MAIL)
        peer.say(*CONTENT)
        asked = policy.asked[-1]
        self.assertEqual(
            (asked.reverse_path, asked.forward_path), (Address("a", "elsewhere.example"), Address("joe", "example.org"))
        )
        self.assertEqual((asked.header, asked.size), (b"Subject: x\r\n\r\n", 20))
        self.assertEqual((asked.helo, asked.extended, asked.may_relay), ("client.example.net", True, True))
        self.assertEqual([str(recipient.address) for recipient in asked.recipients], ["joe@example.org"])
        peer.say("MAIL FROM:<>")
        self.assertIsNot(policy.asked[-1], asked)
        self.assertEqual((policy.asked[-1].recipients, policy.asked[-1].header), ([], b""))

    def test_content_not_asked(self) -> None:
        """Content that cannot be accepted is not shown to policies."""
        policy = Thoughtful()
        receiver = TestReceiver(policies=[policy], message_size=10)
        peer = receiver.session(*MAIL)
        self.assertTrue(peer.say(*CONTENT).startswith("552"))
        self.assertEqual(policy.asked_at, ["connect", "helo", "mail", "rcpt"])

    def test_order(self) -> None:
        """Policies are asked in their order; who follows a verdict is not asked."""
        first, second = Says("rcpt", Accept()), Says("", None)
        receiver = TestReceiver(policies=[first, second])
        receiver.session(*MAIL)
        self.assertEqual((len(first.asked), len(second.asked)), (2, 1))


class RecipientTests(SynchronousTestCase):
    """RCPT."""

    def test_refused_event(self) -> None:
        """A refused recipient is an event with both addresses and the reason."""
        receiver = TestReceiver()
        receiver.session("MAIL FROM:<>", "RCPT TO:<nobody@example.org>")
        (event,) = receiver.of(RecipientRefused)
        self.assertEqual(
            event[2:],
            ("<>", "nobody@example.org", Reason.UNKNOWN_RECIPIENT, "550 5.1.1 No such recipient here"),
        )

    def test_once(self) -> None:
        """An address named twice, or reached by two ways, is one recipient; the first way's parameters count."""
        receiver = TestReceiver()
        peer = receiver.session(
            "MAIL FROM:<>",
            "RCPT TO:<joe@example.org> NOTIFY=NEVER",
            "RCPT TO:<joe@example.org> NOTIFY=SUCCESS",
            "RCPT TO:<sales@example.org>",
            "DATA",
        )
        peer.say(*CONTENT)
        recipients = receiver.queue.mails[0].envelope.recipients
        self.assertEqual([str(one.address) for one in recipients], ["joe@example.org", "ann@example.org"])
        self.assertEqual([str(one.original) for one in recipients], ["joe@example.org", "sales@example.org"])
        self.assertEqual([one.notify for one in recipients], [("NEVER",), ()])

    def test_limit(self) -> None:
        """At least 100 recipients are taken (RFC 5321 section 4.5.3.1.8); above the bound 452, and it is no loss."""
        self.assertGreaterEqual(TestReceiver().limits.recipients, 100)
        receiver = TestReceiver(recipients=100, relay_from=["192.0.2.0/24"], errors=100)
        lines = [f"RCPT TO:<r{number}@elsewhere.example>" for number in range(150)]
        peer = receiver.session("MAIL FROM:<>")
        codes = [line[:9] for line in peer.say(*lines).splitlines()]
        self.assertEqual(codes, ["250 2.1.5"] * 100 + ["452 4.5.3"] * 50)
        peer.say("DATA", *CONTENT)
        self.assertEqual(len(receiver.queue.mails[0].recipients), 100)


class GateTests(SynchronousTestCase):
    """The policies that stand before the chain."""

    def test_every_stage(self) -> None:
        """The gate is asked at MAIL, RCPT and after the content, before the chain; its refusal ends the stage."""
        no = Refuse(Reply.make(550, "5.7.1", "not through this gate"), Reason.POLICY)
        for stage, asked in (("mail", 0), ("rcpt", 1), ("content", 2)):
            chain = Says("", None)
            receiver = TestReceiver(policies=[chain])
            for at, asks in by_stage((Says(stage, no),)).items():
                receiver.factory.gate[at] += asks
            peer = receiver.session()
            said = peer.say(*MAIL) + peer.say(*CONTENT)
            self.assertIn("550 5.7.1 not through this gate\r\n", said)
            self.assertEqual((len(chain.asked), receiver.queue.mails), (asked, []))


class SubmissionTests(SynchronousTestCase):
    """What a submission listener adds (RFC 6409)."""

    def header(self, kind: str, *lines: str) -> bytes:
        """What was put before content with these header lines."""
        receiver = TestReceiver(kind=kind, relay_from=["192.0.2.0/24"])
        receiver.session(*MAIL).say(*lines, "", ".")
        return receiver.queue.mails[0].header

    def test_added(self) -> None:
        """Date and Message-ID where they are missing, and only there."""
        self.assertIn(b"\r\nDate: Tue, 14 Nov", self.header("submission", "Subject: x"))
        self.assertIn(b"\r\nMessage-ID: <Q1@mx.example.org>\r\n", self.header("submission", "Subject: x"))
        header = self.header("submission", "date: now", "MESSAGE-ID: <1@x>")
        self.assertNotIn(b"Date:", header)
        self.assertNotIn(b"Message-ID:", header)

    def test_not_on_mx(self) -> None:
        """A mail that comes from elsewhere is passed on as it is (RFC 5321 section 6.4), or refused."""
        header = self.header("mx", "Subject: x")
        self.assertEqual(header.count(b":"), b"Received: x ; 22:13:20".count(b":"))
        receiver = TestReceiver(relay_from=["192.0.2.0/24"])
        peer = receiver.session(*MAIL)
        content = "From: Jürgen <a@b.example>\r\nBcc: x@y.example\r\n\r\nGrüße\r\n".encode()
        peer.send(content + b".\r\n")
        (mail,) = receiver.queue.mails
        self.assertEqual((mail.content, mail.envelope.body), (content, "7BIT"))
        peer.say(*MAIL)
        peer.send(b"Subject: x\n\r\n.\r\n")
        self.assertTrue(peer.said().startswith("550 5.6.0"))

    def test_signed_in(self) -> None:
        """Received and the envelope say that somebody signed in, and who; the event too."""
        receiver = SubmissionReceiver()
        self.assertTrue(receiver.submit(b"From: joe@example.org\r\n\r\n").startswith("250"))
        (mail,) = receiver.queue.mails
        self.assertIn(b" with ESMTPA id ", mail.header)
        self.assertEqual((mail.envelope.account, mail.envelope.listener), ("joe@example.org", "submission"))
        self.assertEqual(receiver.of(MailAccepted)[0].account, "joe@example.org")

    def test_eight_bit(self) -> None:
        """8-bit content without BODY=8BITMIME is kept as such, and the reader is told what it is, if nothing does."""
        receiver = SubmissionReceiver()
        body = "From: Jürgen <joe@example.org>\nSubject: Grüße\n\nGrüße\n.\r\n".encode()
        self.assertTrue(receiver.submit(body).startswith("250"))
        (mail,) = receiver.queue.mails
        self.assertEqual(mail.envelope.body, "8BITMIME")
        self.assertTrue(mail.header.endswith(
            b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
        ))  # fmt: skip
        head, _, text = mail.content.partition(b"\r\n\r\n")
        self.assertTrue((mail.header + head).isascii())
        self.assertEqual(text, "Grüße\r\n.\r\n".encode())

    def test_policies_see_what_is_kept(self) -> None:
        """Policies are shown the header as it is kept, and the size as it came."""
        policy = Says("", None)
        receiver = SubmissionReceiver(policies=[policy])
        content = b"From: joe@example.org\r\nBcc: x@y.example\r\n\r\ntext\r\n"
        receiver.submit(content)
        asked = policy.asked[-1]
        self.assertEqual((asked.header, asked.size), (b"From: joe@example.org\r\n\r\n", len(content)))

    def test_pace(self) -> None:
        """The bound on mails within an hour holds over sessions, also those that were open before."""
        receiver = SubmissionReceiver()
        joe = Submitter(mails_per_hour=1)
        late = receiver.signed_in(joe, "MAIL FROM:<joe@example.org>", "RCPT TO:<ann@example.org>", "DATA")
        self.assertTrue(receiver.submit(b"From: joe@example.org\r\n\r\n", joe).startswith("250"))
        self.assertTrue(late.say("From: joe@example.org", "", ".").startswith("450 4.7.1 You have sent 1 mails"))
        self.assertTrue(receiver.signed_in(joe).say("MAIL FROM:<joe@example.org>").startswith("450"))
        receiver.clock.advance(3600)
        self.assertTrue(receiver.submit(b"From: joe@example.org\r\n\r\n", joe).startswith("250"))
