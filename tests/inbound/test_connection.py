"""Tests of twisted_mail_node.inbound.connection."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.inbound.receiving import TestReceiver, Thoughtful, every_byte
from twisted_mail_node.events import MailAccepted, SessionClosed
from twisted_mail_node.inbound.connection import AHEAD_MAX, LINGER
from twisted_mail_node.policy.verdict import Refuse
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.reply import Reply

MAIL = ("MAIL FROM:<a@elsewhere.example>", "RCPT TO:<joe@example.org>", "DATA")
CONTENT = ("Subject: x", "", "text", ".")


class PipeliningTests(SynchronousTestCase):
    """Groups of commands (RFC 2920)."""

    def test_one_write(self) -> None:
        """The replies to a group leave in one write."""
        peer = TestReceiver().session()
        peer.wire.writes.clear()
        self.assertEqual([line[:3] for line in peer.say(*MAIL).splitlines()], ["250", "250", "354"])
        self.assertEqual(len(peer.wire.writes), 1)
        peer.say(*CONTENT, *MAIL)
        self.assertEqual(len(peer.wire.writes), 2)

    def test_one_write_after_waiting(self) -> None:
        """Also when a decision in its middle had to wait: nothing leaves before it, and all together after it."""
        policy = Thoughtful("mail")
        receiver = TestReceiver(policies=[policy])
        peer = receiver.session()
        peer.wire.writes.clear()
        self.assertEqual(peer.say("NOOP", *MAIL), "")
        policy.decide()
        self.assertEqual(peer.codes(), [250, 250, 250, 354])
        self.assertEqual(len(peer.wire.writes), 1)

    def test_every_recipient_waits(self) -> None:
        """Replies stay in the order of the commands, however long each decision takes."""
        policy = Thoughtful("rcpt")
        peer = TestReceiver(policies=[policy]).session()
        no = Refuse(Reply.make(550, "5.7.1", "not you"), Reason.POLICY)
        self.assertEqual(
            peer.say(
                "MAIL FROM:<>",
                "RCPT TO:<joe@example.org>",
                "RCPT TO:<ann@example.org>",
                "RCPT TO:<x@example.org>",
                "DATA",
            ),
            "",
        )
        policy.decide(no)
        self.assertEqual((peer.said(), len(policy.waiting)), ("", 1))
        policy.decide()
        self.assertEqual(peer.codes(), [250, 550, 250, 550, 354])

    def test_commit_waits(self) -> None:
        """The 250 of a mail comes after its commit, with the replies to what was pipelined behind it."""
        receiver = TestReceiver()
        receiver.queue.commits_wait = True
        peer = receiver.session()
        peer.say(*MAIL)
        self.assertEqual(peer.say(*CONTENT, "NOOP", "QUIT"), "")
        self.assertEqual(receiver.of(MailAccepted), [])
        receiver.queue.go_on()
        peer.settle()
        self.assertEqual(peer.codes(), [250, 250, 221])
        self.assertEqual(len(receiver.of(MailAccepted)), 1)
        self.assertEqual(receiver.connections, 0)

    def test_every_cut(self) -> None:
        """A session, at every cut of its octets, is answered the same."""
        octets = "".join(line + "\r\n" for line in ("EHLO c", *MAIL, "Subject: x", "", "..", ".", "QUIT")).encode()
        expected = None
        for cuts in (*([cut] for cut in range(len(octets))), every_byte(octets)):
            receiver = TestReceiver()
            peer = receiver.connect()
            peer.send(octets, cuts)
            said = peer.said()
            expected = expected or said
            self.assertEqual(said, expected)
            self.assertEqual(receiver.queue.mails[0].content, b"Subject: x\r\n\r\n.\r\n")
            self.assertEqual(receiver.connections, 0)

    def test_no_delay(self) -> None:
        """Nagle's algorithm is off: replies are written whole."""
        self.assertTrue(TestReceiver().connect().wire.no_delay)


class LossTests(SynchronousTestCase):
    """The client vanishes."""

    def gone(self, receiver: TestReceiver) -> None:
        """Nothing is left of the session."""
        self.assertEqual(receiver.connections, 0)
        (closed,) = receiver.of(SessionClosed)
        self.assertEqual(closed.reason, Reason.CONNECTION_LOST)

    def test_idle(self) -> None:
        """While nothing happens: the session is over."""
        receiver = TestReceiver()
        receiver.session().vanish()
        self.gone(receiver)

    def test_in_content(self) -> None:
        """In the middle of content: the mail is forgotten."""
        receiver = TestReceiver()
        peer = receiver.session(*MAIL)
        peer.say("Subject: half")
        peer.vanish()
        self.gone(receiver)
        self.assertEqual([incoming.state for incoming in receiver.queue.begun], ["aborted"])

    def test_between_chunks(self) -> None:
        """Between two chunks: the mail is forgotten."""
        receiver = TestReceiver()
        peer = receiver.session(*MAIL[:2])
        peer.send(b"BDAT 3\r\nabcBDAT 5\r\nde")
        peer.vanish()
        self.gone(receiver)
        self.assertEqual([incoming.state for incoming in receiver.queue.begun], ["aborted"])

    def test_commit_waits(self) -> None:
        """While its commit waits: the mail is kept all the same, once, and nobody is told."""
        receiver = TestReceiver()
        receiver.queue.commits_wait = True
        peer = receiver.session(*MAIL)
        peer.say(*CONTENT)
        peer.vanish()
        self.gone(receiver)
        receiver.queue.go_on()
        self.assertEqual(len(receiver.queue.mails), 1)
        self.assertEqual(len(receiver.of(MailAccepted)), 1)
        self.assertEqual(peer.said(), "")

    def test_commit_fails(self) -> None:
        """While its commit waits and then fails: nothing is kept, nothing breaks."""
        receiver = TestReceiver()
        receiver.queue.commits_wait = True
        receiver.queue.commit_error = RuntimeError("broken")
        peer = receiver.session(*MAIL)
        peer.say(*CONTENT)
        peer.vanish()
        receiver.queue.go_on()
        self.gone(receiver)
        self.assertEqual(receiver.queue.mails, [])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_write_waits(self) -> None:
        """While a piece of content is being written: the mail is forgotten when that is done."""
        receiver = TestReceiver()
        receiver.queue.writes_wait = True
        peer = receiver.session(*MAIL)
        peer.say("Subject: half")
        peer.vanish()
        receiver.queue.go_on()
        self.gone(receiver)
        self.assertEqual([incoming.state for incoming in receiver.queue.begun], ["aborted"])

    def test_policy_waits(self) -> None:
        """While a policy thinks: nothing of the transaction is left, at whatever stage."""
        for stage in ("connect", "helo", "mail", "rcpt", "content"):
            policy = Thoughtful(stage)
            receiver = TestReceiver(policies=[policy])
            peer = receiver.connect()
            for line in ("EHLO c", *MAIL, *CONTENT):
                peer.say(line)
            self.assertEqual(len(policy.waiting), 1, stage)
            peer.vanish()
            self.gone(receiver)
            policy.decide(Refuse(Reply.make(550, "5.7.1", "no")))
            self.assertEqual(receiver.queue.mails, [])
            self.assertLessEqual({incoming.state for incoming in receiver.queue.begun}, {"aborted"}, stage)
            self.assertEqual(receiver.connections, 0)

    def test_policy_is_late(self) -> None:
        """A policy that never answers a client who is gone is given up in its time."""
        policy = Thoughtful("rcpt")
        receiver = TestReceiver(policies=[policy], policy_time=30)
        receiver.session(*MAIL).vanish()
        receiver.wait(31)
        self.assertEqual(receiver.clock.getDelayedCalls(), [])
        self.flushLoggedErrors()

    def test_before_the_greeting(self) -> None:
        """While the directory thinks, and at once after connecting: counted to zero again."""
        receiver = TestReceiver()
        receiver.connect().vanish()
        self.gone(receiver)

    def test_after_quit(self) -> None:
        """A connection that ends after QUIT is reported once, with its reason and its mails."""
        receiver = TestReceiver()
        peer = receiver.session(*MAIL)
        peer.say(*CONTENT, "QUIT")
        peer.vanish()
        (closed,) = receiver.of(SessionClosed)
        self.assertEqual((closed.reason, closed.mails), (Reason.QUIT, 1))


class PressureTests(SynchronousTestCase):
    """Back-pressure, both ways."""

    def test_paused(self) -> None:
        """More than AHEAD_MAX octets that wait for a decision pause the transport; it is resumed afterwards."""
        receiver = TestReceiver()
        receiver.queue.writes_wait = True
        peer = receiver.session(*MAIL)
        line = b"x" * 998 + b"\r\n"
        peer.send(line)
        sent = 0
        while peer.wire.producerState == "producing" and sent < 10 * AHEAD_MAX:
            peer.send(line)
            sent += len(line)
        self.assertGreater(sent, AHEAD_MAX)
        self.assertLess(sent, AHEAD_MAX + 2 * len(line))
        receiver.queue.writes_wait = False
        receiver.queue.go_on()
        self.assertEqual(peer.wire.producerState, "producing")
        peer.say(".")
        self.assertEqual(len(receiver.queue.mails[0].content), sent + len(line))

    def test_paused_during_commit(self) -> None:
        """The same while a commit waits: what was pipelined behind it waits in order."""
        receiver = TestReceiver(errors=10000)
        receiver.queue.commits_wait = True
        peer = receiver.session(*MAIL)
        peer.say(*CONTENT)
        peer.send(b"NOOP\r\n" * 12000)
        self.assertEqual(peer.wire.producerState, "paused")
        receiver.queue.go_on()
        self.assertEqual(peer.wire.producerState, "producing")
        self.assertEqual(peer.codes(), [250] * 12001)

    def test_client_does_not_read(self) -> None:
        """A client that sends and never reads: nothing more is said, its octets stop coming, then it is cut off."""
        receiver = TestReceiver(command_time=60)
        peer = receiver.session()
        peer.stop_reading()
        for _ in range(30):
            if peer.wire.producerState == "producing":
                peer.send(b"NOOP\r\n" * 1000)
        self.assertEqual(peer.said(), "")
        self.assertEqual(peer.wire.producerState, "paused")
        receiver.wait(62)
        self.assertTrue(peer.closed)
        self.assertEqual(receiver.connections, 1)
        receiver.wait(LINGER + 2)
        self.assertEqual(receiver.connections, 0)
        self.assertEqual(receiver.of(SessionClosed)[0].reason, Reason.TIMEOUT)

    def test_client_reads_again(self) -> None:
        """When the client reads again, what waited is answered in order and the transport is resumed."""
        receiver = TestReceiver(errors=10000)
        peer = receiver.session()
        peer.stop_reading()
        peer.send(b"NOOP\r\n" * 12000)
        self.assertEqual((peer.said(), peer.wire.producerState), ("", "paused"))
        peer.read_all()
        self.assertEqual(peer.wire.producerState, "producing")
        self.assertEqual(peer.codes(), [250] * 12000)


class TimeTests(SynchronousTestCase):
    """Deadlines."""

    def test_idle(self) -> None:
        """RFC 5321 section 4.5.3.2.7: five minutes for a command, then 421 4.4.2."""
        receiver = TestReceiver()
        peer = receiver.session()
        receiver.wait(299)
        self.assertFalse(peer.closed)
        receiver.wait(3)
        self.assertEqual(peer.said(), "421 4.4.2 Nothing came for too long; goodbye\r\n")
        self.assertEqual((receiver.connections, receiver.of(SessionClosed)[0].reason), (0, Reason.TIMEOUT))

    def test_no_timers_left(self) -> None:
        """Without connections nothing ticks."""
        receiver = TestReceiver()
        receiver.session("QUIT")
        receiver.wait(2)
        self.assertEqual(receiver.clock.getDelayedCalls(), [])

    def test_content(self) -> None:
        """Between pieces of content there is data_time; the half mail is forgotten."""
        receiver = TestReceiver(data_time=60, command_time=300)
        peer = receiver.session(*MAIL)
        for _ in range(3):
            receiver.wait(50)
            peer.say("Subject: slow")
        receiver.wait(62)
        self.assertEqual(peer.codes(), [421])
        self.assertEqual(receiver.queue.begun[0].state, "aborted")
        self.assertEqual(receiver.connections, 0)

    def test_session(self) -> None:
        """A session that goes on and on ends at its deadline."""
        receiver = TestReceiver(session_time=600, command_time=300)
        peer = receiver.session()
        for _ in range(5):
            receiver.wait(119)
            peer.say("MAIL FROM:<>", "RSET")
        receiver.wait(10)
        self.assertEqual(peer.codes(), [421])
        self.assertEqual(receiver.of(SessionClosed)[0].reason, Reason.SESSION_DEADLINE)
        self.assertEqual(receiver.connections, 0)

    def test_session_while_we_wait(self) -> None:
        """The deadline also ends a session that waits for something of ours which never comes."""
        receiver = TestReceiver(session_time=600)
        receiver.queue.commits_wait = True
        peer = receiver.session(*MAIL)
        peer.say(*CONTENT)
        receiver.wait(602)
        self.assertTrue(peer.wire.disconnected)
        self.assertEqual(receiver.connections, 0)
        receiver.queue.go_on()
        self.assertEqual(receiver.connections, 0)

    def test_our_time_does_not_count(self) -> None:
        """The time a decision takes is not the client's."""
        policy = Thoughtful("mail")
        receiver = TestReceiver(policies=[policy], command_time=60, policy_time=120)
        peer = receiver.session()
        receiver.wait(50)
        peer.say("MAIL FROM:<>")
        receiver.wait(50)
        policy.decide()
        self.assertEqual(peer.codes(), [250])
        receiver.wait(50)
        self.assertFalse(peer.closed)
