"""Tests of twisted_mail_node.inbound.connection: what policies, broken parts and floods of commands do to a session."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.inbound.receiving import TestReceiver, Thoughtful
from twisted_mail_node.events import CommandRefused, SessionClosed, SessionOpened, SessionRefused
from twisted_mail_node.policy.verdict import Asked, Discard, Hold, Policy, Refuse, Verdict
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.reply import Reply

MAIL = ("MAIL FROM:<a@elsewhere.example>", "RCPT TO:<joe@example.org>", "DATA")
CONTENT = ("Subject: x", "", "text", ".")


class VerdictTests(SynchronousTestCase):
    """What a policy decides about the session."""

    def test_connect_refused(self) -> None:
        """At connect a 5yz becomes the greeting 554 (RFC 5321 section 3.1), a 4yz stays; both close."""
        for code, greeting in ((550, 554), (554, 554), (421, 421), (450, 450)):
            policy = Thoughtful("connect")
            receiver = TestReceiver(policies=[policy])
            peer = receiver.connect()
            policy.decide(Refuse(Reply.make(code, "5.7.1", "no"), Reason.POLICY))
            peer.settle()
            self.assertEqual(peer.codes(), [greeting])
            self.assertTrue(peer.closed)
            self.assertEqual((len(receiver.of(SessionRefused)), receiver.connections), (1, 0))

    def test_early_talker(self) -> None:
        """Who speaks before the greeting is answered after it."""
        policy = Thoughtful("connect")
        peer = TestReceiver(policies=[policy]).connect()
        self.assertEqual(peer.say("EHLO c"), "")
        policy.decide()
        self.assertEqual(peer.codes(), [220, 250])

    def test_helo_refused(self) -> None:
        """A refused EHLO leaves the session where it was."""
        policy = Thoughtful("helo")
        receiver = TestReceiver(policies=[policy])
        peer = receiver.session()
        policy.decide(Refuse(Reply.make(550, "5.7.1", "not with this name"), Reason.POLICY))
        self.assertEqual(peer.codes(), [550])
        self.assertEqual(list(map(int, peer.say("MAIL FROM:<>").split()[:1])), [503])
        self.assertEqual(receiver.of(CommandRefused)[0].command, "EHLO")

    def test_standing(self) -> None:
        """Discard and Hold, said at connect or EHLO, count for every mail of the session."""
        for stage in ("connect", "helo"):
            policy = Thoughtful(stage)
            receiver = TestReceiver(policies=[policy])
            peer = receiver.connect()
            if stage == "connect":
                policy.decide(Hold(Reason.HELD, "looks odd"))
            peer.say("EHLO c")
            if stage == "helo":
                policy.decide(Hold(Reason.HELD, "looks odd"))
            peer.say(*MAIL)
            peer.say(*CONTENT, *MAIL)
            peer.say(*CONTENT)
            self.assertEqual([mail.held for mail in receiver.queue.mails], ["looks odd"] * 2, stage)
        policy = Thoughtful("helo")
        receiver = TestReceiver(policies=[policy])
        peer = receiver.session()
        policy.decide(Discard())
        peer.say(*MAIL)
        peer.say(*CONTENT)
        self.assertEqual(receiver.queue.mails, [])

    def test_notes(self) -> None:
        """A policy's notes are kept from stage to stage and from mail to mail of one session."""

        class Counting(Policy):
            name = "counting"

            async def mail(self, asked: Asked) -> Verdict | None:
                asked.notes["mails"] = count = int(str(asked.notes.get("mails", 0))) + 1
                return Refuse(Reply.make(450, "4.7.1", "enough"), Reason.POLICY) if count > 2 else None

        receiver = TestReceiver(policies=[Counting()])
        peer = receiver.session()
        found = [peer.say("MAIL FROM:<>", "RSET")[:3] for _ in range(3)]
        self.assertEqual(found, ["250", "250", "450"])
        self.assertTrue(receiver.session().say("MAIL FROM:<>").startswith("250"))


class BrokenTests(SynchronousTestCase):
    """What breaks is a temporary failure."""

    def test_directory(self) -> None:
        """A directory that fails is 451 4.3.0 for the recipient; the session goes on."""
        receiver = TestReceiver()
        receiver.directory.error = OSError("gone")
        peer = receiver.session("MAIL FROM:<>")
        self.assertTrue(peer.say("RCPT TO:<joe@example.org>").startswith("451 4.3.0"))
        receiver.directory.error = None
        self.assertTrue(peer.say("RCPT TO:<joe@example.org>").startswith("250"))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_queue(self) -> None:
        """An error nobody thought of ends the session with 421 4.3.0, a traceback in the log; the mail is gone."""
        receiver = TestReceiver()
        peer = receiver.session(*MAIL)
        receiver.queue.write_error = ZeroDivisionError()
        self.assertTrue(peer.say(*CONTENT).startswith("421 4.3.0"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual((receiver.connections, receiver.queue.begun[0].state), (0, "aborted"))
        self.assertEqual(receiver.of(SessionClosed)[0].reason, Reason.INTERNAL)

    def test_events(self) -> None:
        """Each session is opened and closed once, by the same id."""
        receiver = TestReceiver()
        receiver.session("QUIT")
        receiver.session("QUIT")
        opened = [event.session for event in receiver.of(SessionOpened)]
        self.assertEqual(opened, [event.session for event in receiver.of(SessionClosed)])
        self.assertEqual(len(set(opened)), 2)


class FloodTests(SynchronousTestCase):
    """Clients that do nothing, often (attack T34)."""

    def test_idle_commands(self) -> None:
        """Every command that brings no mail nearer has an end, alone and between good ones."""
        for lines in (["NOOP"], ["RSET"], ["VRFY joe"], ["HELP"], ["EXPN x"], ["EHLO c"], ["HELO c"],
                      ["MAIL FROM:<>", "RSET"], ["MAIL FROM:<>", "EHLO c"], ["WHAT"], ["NOOP", "WHAT"]):  # fmt: skip
            receiver = TestReceiver(errors=4)
            peer = receiver.session()
            said = ""
            for _ in range(60):
                if not peer.closed:
                    said = peer.say(*lines)
            self.assertTrue(peer.closed, lines)
            self.assertIn("421 4.7.0", said)
            self.assertEqual(receiver.connections, 0)

    def test_working_client(self) -> None:
        """A client that brings mails may say RSET before each, as many do."""
        receiver = TestReceiver(errors=2)
        peer = receiver.session()
        for _ in range(100):
            peer.say("RSET", *MAIL)
            peer.say(*CONTENT)
        self.assertEqual(len(receiver.queue.mails), 100)
        self.assertFalse(peer.closed)
