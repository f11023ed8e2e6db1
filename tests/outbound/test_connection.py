"""Tests of twisted_mail_node.outbound.connection: dialogues with a host that the test plays."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.outbound.remote import HEADER, Content, Host, Node, joes
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Recipient
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.reasons import Reason

#: More than goes out before a recipient was accepted.
LONG = b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 1000
HELLO = b"Subject: hi\r\n\r\nhello\r\n"
MAIL = b"MAIL FROM:<ann@example.org>\r\n"
RCPT = b"RCPT TO:<joe@example.net>\r\n"
GROUP = MAIL + RCPT + b"DATA\r\n"
WHERE = ("mx1.example.net", "192.0.2.1:25")


class Dialogue(SynchronousTestCase):
    """A node and, after ``begin``, one connection with a mail on it."""

    def setUp(self) -> None:
        self.node = Node()

    def host(self, *extensions: str) -> Host:
        """The newest connection, greeted; what came after EHLO is in ``self.first``."""
        host = self.node.hosts[-1]
        self.first = host.greets(*extensions)
        return host

    def status(self, sent: Deferred[Sequence[DeliveryStatus]]) -> DeliveryStatus:
        (status,) = self.successResultOf(sent)
        return status


class StepByStepTests(Dialogue):
    def test_dialogue(self) -> None:
        """Without PIPELINING each command waits for the reply to the one before; the mail is relayed."""
        sent = self.node.send()
        host = self.host()
        self.assertEqual(self.first, MAIL)
        self.assertEqual(host.says("250 2.1.0 ok"), RCPT)
        self.assertEqual(host.says("250 2.1.5 ok"), b"DATA\r\n")
        self.assertEqual(host.says("354 go on"), HEADER + HELLO + b".\r\n")
        self.assertNoResult(sent)
        host.says("250 2.0.0 taken as 42")
        wanted = DeliveryStatus(Action.RELAYED, "2.0.0", Reason.RELAYED, "250 2.0.0 taken as 42", *WHERE, True)
        self.assertEqual(self.status(sent), wanted)

    def test_helo(self) -> None:
        """A host that knows no EHLO is greeted with HELO and offered nothing."""
        sent = self.node.send(content=b"\r\n" * 10)
        host = self.node.hosts[0]
        host.protocol.dataReceived(b"220 old\r\n")
        self.assertEqual(host.heard(), b"EHLO mx.example.org\r\n")
        self.assertEqual(host.says("502 what?"), b"HELO mx.example.org\r\n")
        self.assertEqual(host.says("250 hello"), MAIL)
        host.says("250 ok")
        host.says("250 ok")
        host.says("354 ok")
        host.says("250 ok")
        self.assertEqual(self.status(sent).status, "2.0.0")

    def test_mail_refused(self) -> None:
        """A refused MAIL is one of every recipient, and no RCPT follows."""
        sent = self.node.send(*joes(2))
        host = self.host()
        self.assertEqual(host.says("550 5.7.1 go away"), b"")
        for status in self.successResultOf(sent):
            self.assertEqual(status[:4], (Action.FAILED, "5.7.1", Reason.REMOTE_REFUSED, "550 5.7.1 go away"))

    def test_all_recipients_refused(self) -> None:
        """No DATA when no recipient was accepted; the next mail begins with RSET."""
        sent = self.node.send()
        host = self.host()
        host.says("250 ok")
        self.assertEqual(host.says("450 later"), b"")
        self.assertEqual(self.status(sent)[:3], (Action.DELAYED, "4.0.0", Reason.REMOTE_DELAYED))
        self.node.send()
        self.assertEqual(host.heard(), b"RSET\r\n")
        self.assertEqual(host.says("250 ok"), MAIL)


class PipeliningTests(Dialogue):
    def test_group(self) -> None:
        """MAIL, RCPT and DATA go out in one write."""
        sent = self.node.send()
        host = self.host("PIPELINING")
        self.assertEqual(self.first, GROUP)
        self.assertEqual(host.says("250 ok", "250 ok", "354 go"), HEADER + HELLO + b".\r\n")
        host.says("250 ok")
        self.assertEqual(self.status(sent).action, Action.RELAYED)

    def test_next_mail_in_the_same_write(self) -> None:
        """The commands of a waiting mail go out with the content before it: one round trip a mail."""
        sent = [self.node.send() for _ in range(3)]
        self.assertEqual(len(self.node.hosts), 1)
        host = self.host("PIPELINING")
        content = HEADER + HELLO + b".\r\n"
        self.assertEqual(host.says("250 ok", "250 ok", "354 go"), content + GROUP)
        self.assertEqual(host.says("250 2.0.0 one", "250 ok", "250 ok", "354 go"), content + GROUP)
        self.assertEqual(host.says("250 2.0.0 two", "250 ok", "250 ok", "354 go"), content)
        host.says("250 2.0.0 three")
        self.assertEqual([self.status(one).words for one in sent], [f"250 2.0.0 {n}" for n in ("one", "two", "three")])

    def test_replies_at_every_cut(self) -> None:
        """Where the network cuts the replies changes nothing."""
        replies = b"250 ok\r\n550-5.1.1 no\r\n550 5.1.1 such\r\n250 ok\r\n354 go\r\n"
        for cut in range(1, len(replies)):
            node = Node()
            sent = node.send(*joes(2))
            host = node.hosts[0]
            host.greets("PIPELINING")
            host.protocol.dataReceived(replies[:cut])
            host.protocol.dataReceived(replies[cut:])
            self.assertTrue(host.heard().endswith(b".\r\n"), cut)
            host.says("250 done")
            first, second = self.successResultOf(sent)
            self.assertEqual((first.words, second.words), ("550 5.1.1 no such", "250 done"))

    def test_recipients_differ(self) -> None:
        """Each recipient has the host's own words: refused, delayed, relayed."""
        sent = self.node.send(*joes(3))
        host = self.host("PIPELINING")
        host.says("250 ok", "550 5.1.1 nobody", "450 4.2.0 later", "250 ok", "354 go")
        host.says("250 2.6.0 done")
        found = [status[:4] for status in self.successResultOf(sent)]
        self.assertEqual(
            found,
            [
                (Action.FAILED, "5.1.1", Reason.REMOTE_REFUSED, "550 5.1.1 nobody"),
                (Action.DELAYED, "4.2.0", Reason.REMOTE_DELAYED, "450 4.2.0 later"),
                (Action.RELAYED, "2.6.0", Reason.RELAYED, "250 2.6.0 done"),
            ],
        )

    def test_354_without_recipients(self) -> None:
        """A host that wants content though it refused every recipient gets a lone dot, and its answer means nothing."""
        sent = self.node.send()
        host = self.host("PIPELINING")
        self.assertEqual(host.says("250 ok", "550 no", "354 go"), b".\r\n")
        self.assertEqual(self.status(sent).action, Action.FAILED)
        again = self.node.send()
        self.assertEqual(host.says("250 taken"), GROUP)
        self.assertNoResult(again)

    def test_mail_refused(self) -> None:
        """The replies to RCPT after a refused MAIL are read and mean nothing; no RSET is needed."""
        sent = self.node.send()
        host = self.host("PIPELINING")
        host.says("451 4.3.0 busy", "503 need MAIL", "503 need RCPT")
        self.assertEqual(self.status(sent).words, "451 4.3.0 busy")
        self.node.send()
        self.assertEqual(host.heard(), GROUP)

    def test_data_refused(self) -> None:
        """A refused DATA decides about all who were accepted; RSET stands before the next mail."""
        sent = self.node.send()
        host = self.host("PIPELINING")
        host.says("250 ok", "250 ok", "554 5.6.0 no")
        self.assertEqual(self.status(sent)[:2], (Action.FAILED, "5.6.0"))
        again = self.node.send()
        self.assertEqual(host.heard(), b"RSET\r\n" + GROUP)
        host.says("250 reset", "250 ok", "250 ok", "354 go")
        host.says("250 ok")
        self.assertEqual(self.status(again).action, Action.RELAYED)

    def test_content_refused(self) -> None:
        """The reply to the final dot decides."""
        for reply, action in (("552 too much", Action.FAILED), ("452 full", Action.DELAYED)):
            node = Node()
            sent = node.send()
            host = node.hosts[0]
            host.greets("PIPELINING")
            host.says("250 ok", "250 ok", "354 go")
            host.says(reply)
            self.assertEqual(self.status(sent)[:2], (action, f"{reply[0]}.0.0"))

    def test_too_many_recipients(self) -> None:
        """452 after a yes means: in the next transaction, which follows at once."""
        sent = self.node.send(*joes(3))
        host = self.host("PIPELINING")
        written = host.says("250 ok", "250 ok", "452 4.5.3 too many", "452 4.5.3 too many", "354 go")
        self.assertTrue(
            written.endswith(b".\r\n" + MAIL + b"RCPT TO:<joe1@example.net>\r\nRCPT TO:<joe2@example.net>\r\nDATA\r\n")
        )
        host.says("250 first", "250 ok", "250 ok", "250 ok", "354 go")
        host.says("250 second")
        self.assertEqual(
            [status.words for status in self.successResultOf(sent)], ["250 first", "250 second", "250 second"]
        )

    def test_452_that_means_something_else(self) -> None:
        """452 for the first recipient, or with another enhanced status code, is a delay."""
        sent = self.node.send(*joes(3))
        host = self.host("PIPELINING")
        host.says("250 ok", "452 4.5.3 too many", "250 ok", "452 4.3.1 disk full", "354 go")
        host.says("250 done")
        actions = [status.action for status in self.successResultOf(sent)]
        self.assertEqual(actions, [Action.DELAYED, Action.RELAYED, Action.DELAYED])

    def test_at_most_a_hundred(self) -> None:
        """More than 100 recipients become several transactions of one mail; LIMITS RCPTMAX makes them smaller."""
        for extension, sizes in ((), [100, 50]), (("LIMITS RCPTMAX=60",), [60, 60, 30]):
            node = Node()
            sent = node.send(*joes(150))
            host = node.hosts[0]
            written = host.greets("PIPELINING", *extension)
            for size in sizes:
                self.assertEqual(written.count(b"RCPT TO"), size)
                host.says("250 ok", *["250 ok"] * size)
                written = host.says("354 go")
                if size != sizes[-1]:
                    self.assertIn(MAIL, written)
                host.says("250 done")
            self.assertEqual({status.action for status in self.successResultOf(sent)}, {Action.RELAYED})


class ChunkingTests(Dialogue):
    ALL = MAIL + RCPT + b"BDAT %d LAST\r\n" % len(HEADER + HELLO) + HEADER + HELLO

    def test_one_group(self) -> None:
        """A small mail goes out whole, without stuffing."""
        sent = self.node.send()
        host = self.host("PIPELINING", "CHUNKING")
        self.assertEqual(self.first, self.ALL)
        host.says("250 ok", "250 ok", "250 2.0.0 taken")
        self.assertEqual(self.status(sent).words, "250 2.0.0 taken")

    def test_recipients_refused(self) -> None:
        """When all recipients were refused the reply to BDAT means nothing, and RSET stands before the next mail."""
        sent = self.node.send()
        host = self.host("PIPELINING", "CHUNKING")
        host.says("250 ok", "550 5.1.1 no", "503 no recipients")
        self.assertEqual(self.status(sent).words, "550 5.1.1 no")
        self.node.send()
        self.assertEqual(host.heard(), b"RSET\r\n" + self.ALL)

    def test_mail_refused(self) -> None:
        """When MAIL was refused its reply is the status."""
        sent = self.node.send()
        host = self.host("PIPELINING", "CHUNKING")
        host.says("450 4.7.1 greylisted", "503 no", "503 no")
        self.assertEqual(self.status(sent).words, "450 4.7.1 greylisted")

    def test_chunk_refused(self) -> None:
        """A refused BDAT decides, and RSET clears what it left."""
        sent = self.node.send()
        host = self.host("PIPELINING", "CHUNKING")
        host.says("250 ok", "250 ok", "554 5.7.0 spam")
        self.assertEqual(self.status(sent)[:2], (Action.FAILED, "5.7.0"))
        self.node.send()
        self.assertEqual(host.heard(), b"RSET\r\n" + self.ALL)

    def test_chunk_refused_before_the_next(self) -> None:
        """A host that insists on RSET after a BDAT it refused returns no other mail for that: the one whose commands
        were on their way already goes over another connection."""
        first, second = self.node.send(content=LONG), self.node.send()
        host = self.host("PIPELINING", "CHUNKING")
        host.says("250 ok", "250 ok")
        host.says("554 5.7.0 spam", "503 5.5.1 RSET first", "503 5.5.1 RSET first", "503 5.5.1 RSET first")
        self.assertEqual(self.status(first)[:2], (Action.FAILED, "5.7.0"))
        self.assertNoResult(second)
        again = self.host("PIPELINING", "CHUNKING")
        self.assertIsNot(again, host)
        again.says("250 ok", "250 ok", "250 2.0.0 taken")
        self.assertEqual(self.status(second).words, "250 2.0.0 taken")

    def test_refused_after_a_chunk(self) -> None:
        """Any other refusal of the next MAIL there is one; so is 503 after content that was taken."""
        for final, mail in (("554 5.7.0 spam", "550 5.7.1 not from you"), ("250 ok", "503 5.5.1 no more")):
            self.node = Node()
            self.node.send(content=LONG)
            second = self.node.send()
            self.host("PIPELINING", "CHUNKING").says("250 ok", "250 ok")
            self.node.hosts[0].says(final, mail, "503 no", "503 no")
            self.assertEqual(self.status(second).words, mail)

    def test_without_pipelining(self) -> None:
        """BDAT comes after the replies to RCPT."""
        sent = self.node.send()
        host = self.host("CHUNKING")
        self.assertEqual(self.first, MAIL)
        self.assertEqual(host.says("250 ok"), RCPT)
        self.assertEqual(host.says("250 ok"), self.ALL[len(MAIL + RCPT) :])
        host.says("250 ok")
        self.assertEqual(self.status(sent).action, Action.RELAYED)

    def test_larger_mail_waits_for_rcpt(self) -> None:
        """A larger mail is not sent before a recipient was accepted."""
        content = b"a" * 76 + b"\r\n"
        self.node.send(content=content * 1000)
        host = self.host("PIPELINING", "CHUNKING")
        self.assertEqual(self.first, MAIL + RCPT)
        self.assertTrue(host.says("250 ok", "250 ok").startswith(b"BDAT 78023 LAST\r\nReceived:"))

    def test_binary(self) -> None:
        """BINARYMIME goes by BDAT, bare newlines and all."""
        self.node.send(content=b"a\nb\rc\0", body="BINARYMIME")
        self.host("PIPELINING", "CHUNKING", "BINARYMIME")
        self.assertIn(b" BODY=BINARYMIME\r\n", self.first)
        self.assertTrue(self.first.endswith(HEADER + b"a\nb\rc\0"))


class DeliverByTests(Dialogue):
    def test_passed_on(self) -> None:
        """BY goes to a host that offers it, and the status of what it takes says that it does."""
        for extensions, written, passed_on in (
            (("DELIVERBY",), MAIL.replace(b"\r\n", b" BY=60;N\r\n") + RCPT + b"DATA\r\n", True),
            ((), GROUP, False),
        ):
            self.node = Node()
            sent = self.node.send(deliver_by=60.0, by_mode="N")
            host = self.host("PIPELINING", *extensions)
            self.assertEqual(self.first, written)
            host.says("250 ok", "250 ok", "354 go")
            host.says("250 2.0.0 taken")
            self.assertEqual(self.status(sent).by_passed_on, passed_on)

    def test_refused(self) -> None:
        """Not the status of what it refuses."""
        sent = self.node.send(deliver_by=60.0, by_mode="R")
        host = self.host("PIPELINING", "DELIVERBY")
        host.says("250 ok", "250 ok", "354 go")
        host.says("554 5.6.0 no")
        self.assertFalse(self.status(sent).by_passed_on)

    def test_next_mail(self) -> None:
        """What cannot go to a host does not end the connection: the next mail takes it."""
        refused = self.node.send(deliver_by=60.0, by_mode="R")
        self.node.send()
        self.host("PIPELINING")
        self.assertEqual(self.status(refused)[:3], (Action.FAILED, "5.4.7", Reason.NOT_IN_TIME))
        self.assertEqual(self.first, GROUP)


class ObstacleTests(Dialogue):
    def refused(self, *extensions: str, **mail: object) -> DeliveryStatus:
        sent = self.node.send(**mail)  # type: ignore[arg-type]
        self.host("PIPELINING", *extensions)
        self.assertEqual(self.first, b"")
        status = self.status(sent)
        self.assertIs(status.action, Action.FAILED)
        self.assertFalse(status.from_remote)
        self.assertEqual(status.remote_host, "mx1.example.net")
        return status

    def test_eight_bit(self) -> None:
        """8-bit content is not sent to a host without 8BITMIME."""
        self.assertEqual(self.refused(content=b"\xff\r\n")[1:3], ("5.6.3", Reason.EIGHT_BIT))

    def test_eight_bit_offered(self) -> None:
        """With 8BITMIME it is, and declared."""
        self.node.send(content=b"\xff\r\n")
        self.host("PIPELINING", "8BITMIME")
        self.assertTrue(self.first.startswith(b"MAIL FROM:<ann@example.org> BODY=8BITMIME\r\n"))

    def test_binary(self) -> None:
        """BINARYMIME is not sent to a host without it."""
        status = self.refused("CHUNKING", "8BITMIME", content=b"a\n", body="BINARYMIME")
        self.assertEqual(status[1:3], ("5.6.3", Reason.EIGHT_BIT))

    def test_bare_newline(self) -> None:
        """Content with a bare newline that is not BINARYMIME goes nowhere, neither by DATA nor by BDAT."""
        for extensions in ((), ("CHUNKING", "BINARYMIME")):
            for content in (b"a\nb\r\n", b"a\rb\r\n", b"a\r\n.\n\r\n"):
                self.node = Node()
                status = self.refused(*extensions, content=content)
                self.assertEqual(status[1:3], ("5.6.3", Reason.BARE_NEWLINE))

    def test_smtputf8(self) -> None:
        """A mail that needs SMTPUTF8 is not sent to a host without it."""
        for mail in ({"smtputf8": True}, {"sender": Address("jö", "example.org")}):
            self.node = Node()
            self.assertEqual(self.refused(**mail)[1:3], ("5.6.7", Reason.SMTPUTF8))

    def test_smtputf8_offered(self) -> None:
        """With SMTPUTF8 it is, and declared; DSN parameters too where DSN is offered."""
        joe = Address("jö", "example.net")
        recipient = Recipient(joe, joe, ("SUCCESS",), "utf-8;jö@example.net")
        sent = self.node.send(recipient, envid="e1", ret="HDRS")
        host = self.host("PIPELINING", "SMTPUTF8", "8BITMIME", "DSN", "SIZE 1000")
        self.assertEqual(
            self.first.decode(),
            f"MAIL FROM:<ann@example.org> SIZE={len(HEADER + HELLO)} SMTPUTF8 RET=HDRS ENVID=e1\r\n"
            "RCPT TO:<jö@example.net> NOTIFY=SUCCESS ORCPT=utf-8;jö@example.net\r\nDATA\r\n",
        )
        host.says("250 ok", "250 ok", "354 ok")
        host.says("250 ok")
        self.assertTrue(self.status(sent).dsn_passed_on)

    def test_no_dsn(self) -> None:
        """Where DSN is not offered no parameter of it is sent, and the status says so."""
        joe = Address("joe", "example.net")
        sent = self.node.send(Recipient(joe, joe, ("SUCCESS",), "rfc822;joe@example.net"), envid="e1", ret="HDRS")
        host = self.host("PIPELINING")
        self.assertEqual(self.first, GROUP)
        host.says("250 ok", "250 ok", "354 ok")
        host.says("250 ok")
        self.assertFalse(self.status(sent).dsn_passed_on)

    def test_too_large(self) -> None:
        """A mail larger than the host's SIZE is not sent."""
        self.assertEqual(self.refused("SIZE 20")[1:3], ("5.3.4", Reason.TOO_LARGE_FOR_HOST))

    def test_the_connection_goes_on(self) -> None:
        """After an obstacle the next mail takes the connection."""
        first, second = self.node.send(content=b"\xff\r\n"), self.node.send()
        host = self.host("PIPELINING")
        self.assertEqual(self.first, GROUP)
        self.assertEqual(self.status(first).action, Action.FAILED)
        host.says("250 ok", "250 ok", "354 go")
        host.says("250 ok")
        self.assertEqual(self.status(second).action, Action.RELAYED)

    def test_evil_addresses(self) -> None:
        """An address that would break out of its command fails before an octet; the other recipients go."""
        sent = self.node.send(Address("joe>\r\nDATA", "example.net"), Address("joe", "example.net"))
        host = self.host("PIPELINING")
        self.assertEqual(self.first, GROUP)
        host.says("250 ok", "250 ok", "354 go")
        host.says("250 ok")
        evil, good = self.successResultOf(sent)
        self.assertEqual(evil[:3], (Action.FAILED, "5.1.3", Reason.SYNTAX))
        self.assertEqual(good.action, Action.RELAYED)
        status = self.status(self.node.send(sender=Address("a\r\nRSET", "example.org")))
        self.assertEqual(status[:2], (Action.FAILED, "5.1.7"))
        self.assertEqual(host.heard(), b"")


class StreamTests(Dialogue):
    def stream(self, content: Content, *extensions: str) -> tuple[Deferred[Sequence[DeliveryStatus]], Host]:
        sent = self.node.send(content=content)
        host = self.host("PIPELINING", *extensions)
        host.protocol.dataReceived(b"250 ok\r\n250 ok\r\n" + (b"" if extensions else b"354 go\r\n"))
        return sent, host

    def test_data(self) -> None:
        """Content from the disk goes out block by block, dots doubled at every border."""
        for block in range(1, 12):
            self.node = Node()
            content = b".a\r\n.b\r\n..\r\n\r\n.c"
            sent, host = self.stream(Content(content, on_disk=True, block=block))
            self.assertEqual(host.heard(), HEADER + b"..a\r\n..b\r\n...\r\n\r\n..c\r\n.\r\n", block)
            self.assertIsNone(host.transport.producer)
            host.says("250 ok")
            self.assertEqual(self.status(sent).action, Action.RELAYED)

    def test_chunk(self) -> None:
        """By BDAT its size is said first and no dot is doubled."""
        sent, host = self.stream(Content(b".a\r\n.b\r\n", on_disk=True, block=3), "CHUNKING")
        self.assertEqual(host.heard(), b"BDAT %d LAST\r\n" % (len(HEADER) + 8) + HEADER + b".a\r\n.b\r\n")
        host.says("250 ok")
        self.assertEqual(self.status(sent).action, Action.RELAYED)

    def test_next_mail_follows(self) -> None:
        """The commands of a waiting mail follow the last block."""
        second = self.node.send(content=Content(b"a\r\n", on_disk=True))
        self.node.send()
        host = self.host("PIPELINING")
        self.assertEqual(host.says("250 ok", "250 ok", "354 go"), HEADER + b"a\r\n.\r\n" + GROUP)
        host.says("250 done")
        self.assertEqual(self.status(second).words, "250 done")

    def test_slow_host(self) -> None:
        """No more than one block is read ahead of what the host takes."""
        content = Content(b"a\r\n" * 1000, on_disk=True, block=300)
        sent = self.node.send(content=content)
        host = self.host("PIPELINING")
        write = host.transport.write

        def full(data: bytes) -> None:
            write(data)
            if host.transport.producer is not None:
                host.transport.producer.pauseProducing()

        host.transport.write = full  # type: ignore[method-assign]
        host.says("250 ok", "250 ok", "354 go")
        turns = 0
        while not host.transport.all_written.endswith(b"\r\n.\r\n"):
            self.assertLessEqual(content.read * 300, len(host.transport.all_written) + 300)
            host.protocol.resumeProducing()
            turns += 1
        self.assertEqual(turns, 10)
        host.says("250 ok")
        self.assertEqual(self.status(sent).action, Action.RELAYED)

    def test_block_time(self) -> None:
        """A host that takes nothing for three minutes is left; nothing was handed over, so it is tried elsewhere."""
        self.node.send(content=Content(b"a\r\n" * 1000, on_disk=True, block=300))
        host = self.host("PIPELINING")
        host.transport.write = lambda data: host.protocol.pauseProducing()  # type: ignore[method-assign]
        host.says("250 ok", "250 ok", "354 go")
        self.node.reactor.pump([60.0] * 2)
        self.assertFalse(host.is_closed)
        self.node.reactor.advance(61.0)
        self.assertTrue(host.transport.aborted)
        self.assertEqual(self.node.hosts[-1].ip, "192.0.2.2")

    def test_bare_newline_on_the_disk(self) -> None:
        """A bare newline found while sending ends the connection without the final dot; the mail failed."""
        for extensions in ((), ("CHUNKING",)):
            self.node = Node()
            content = Content(b"a\r\n.\n.\r\nMAIL FROM:<x>\r\n", on_disk=True, block=4)
            sent, host = self.stream(content, *extensions)
            self.assertEqual(self.status(sent)[:3], (Action.FAILED, "5.6.3", Reason.BARE_NEWLINE))
            self.assertTrue(host.transport.aborted)
            self.assertNotIn(b"\r\n.\r\n", host.transport.all_written)
            self.assertNotIn(b"\n.\n", host.transport.all_written)

    def test_unreadable(self) -> None:
        """Content that is shorter than it was, or longer, is never ended with a dot; the mail is delayed."""
        for size in (-1, 1):
            self.node = Node()
            content = Content(b"aaaa\r\n", on_disk=True)
            content.size += size
            sent, host = self.stream(content)
            self.assertEqual(self.status(sent)[:3], (Action.DELAYED, "4.3.0", Reason.INTERNAL))
            self.assertTrue(host.transport.aborted)
            self.assertNotIn(b"\r\n.\r\n", host.transport.all_written)

    def test_refused_before_the_end(self) -> None:
        """A host that refuses content before its end is believed, and the connection ends there."""
        sent = self.node.send(content=Content(b"a\r\n" * 1000, on_disk=True, block=300))
        host = self.host("PIPELINING")
        host.transport.write = lambda data: host.protocol.pauseProducing()  # type: ignore[method-assign]
        host.says("250 ok", "250 ok", "354 go")
        host.says("552 5.3.4 too much")
        self.assertEqual(self.status(sent)[:2], (Action.FAILED, "5.3.4"))
        self.assertTrue(host.transport.aborted)


class EndTests(Dialogue):
    def test_lost_after_the_dot(self) -> None:
        """Lost after the final dot, before its reply: delayed, uncertain, and tried nowhere else."""
        sent = self.node.send()
        host = self.host("PIPELINING")
        host.says("250 ok", "250 ok", "354 go")
        host.closes()
        status = self.status(sent)
        self.assertEqual(status[:3], (Action.DELAYED, "4.4.2", Reason.UNCERTAIN))
        self.assertEqual(status[4:6], WHERE)
        self.assertEqual(len(self.node.hosts), 1)

    def test_no_reply_to_the_dot(self) -> None:
        """No reply to the final dot within ten minutes is the same."""
        sent = self.node.send()
        host = self.host("PIPELINING")
        host.says("250 ok", "250 ok", "354 go")
        self.node.reactor.pump([60.0] * 9)
        self.assertNoResult(sent)
        self.node.reactor.advance(61.0)
        self.assertIs(self.status(sent).reason, Reason.UNCERTAIN)
        self.assertTrue(host.transport.aborted)

    def test_nonsense_after_the_dot(self) -> None:
        """A reply to the final dot that is none is the same."""
        for nonsense in ("what", "354 more?"):
            node = Node()
            sent = node.send()
            host = node.hosts[0]
            host.greets("PIPELINING")
            host.says("250 ok", "250 ok", "354 go")
            host.says(nonsense)
            self.assertIs(self.status(sent).reason, Reason.UNCERTAIN)
            self.assertTrue(host.transport.aborted)

    def test_lost_with_the_next_mail_on_its_way(self) -> None:
        """The mail whose commands were on their way goes over another connection."""
        first, second = self.node.send(), self.node.send()
        host = self.host("PIPELINING")
        host.says("250 ok", "250 ok", "354 go")
        host.closes()
        self.assertIs(self.status(first).reason, Reason.UNCERTAIN)
        self.assertNoResult(second)
        self.assertEqual(self.node.hosts[1].ip, "192.0.2.2")
        self.assertEqual(self.host("PIPELINING") and self.first, GROUP)

    def test_recipients_refused_before_the_end(self) -> None:
        """A recipient the host had refused stays refused when the connection is lost after the dot."""
        sent = self.node.send(*joes(2))
        host = self.host("PIPELINING")
        host.says("250 ok", "550 no", "250 ok", "354 go")
        host.closes()
        reasons = [status.reason for status in self.successResultOf(sent)]
        self.assertEqual(reasons, [Reason.REMOTE_REFUSED, Reason.UNCERTAIN])

    def test_421_at_mail(self) -> None:
        """421 before the content: the mail goes to the next host."""
        sent = self.node.send()
        host = self.host("PIPELINING")
        host.says("421 4.3.2 closing")
        self.assertTrue(host.is_closed)
        (event,) = self.node.failed
        self.assertEqual(
            (event.host, event.reason, event.words), ("mx1.example.net", "remote-delayed", "421 4.3.2 closing")
        )
        other = self.host("PIPELINING")
        self.assertEqual(other.ip, "192.0.2.2")
        other.says("250 ok", "250 ok", "354 go")
        other.says("250 ok")
        self.assertEqual(self.status(sent).remote_host, "mx2.example.net")

    def test_421_everywhere(self) -> None:
        """421 from every host: delayed with the last one's words."""
        sent = self.node.send()
        self.host("PIPELINING").says("421 4.3.2 closing")
        self.host("PIPELINING").says("421 4.7.0 also closing")
        status = self.status(sent)
        self.assertEqual(status[:4], (Action.DELAYED, "4.7.0", Reason.REMOTE_DELAYED, "421 4.7.0 also closing"))
        self.assertEqual(len(self.node.hosts), 2)

    def test_421_after_the_dot(self) -> None:
        """421 in answer to the final dot says that the host did not take the mail: delayed, with its words."""
        sent = self.node.send()
        host = self.host("PIPELINING")
        host.says("250 ok", "250 ok", "354 go")
        host.says("421 4.3.2 closing")
        self.assertEqual(self.status(sent)[:3], (Action.DELAYED, "4.3.2", Reason.REMOTE_DELAYED))
        self.assertEqual(len(self.node.hosts), 1)

    def test_kept_connection_lost(self) -> None:
        """A kept connection that closes under the next mail costs nothing: the same host is asked again."""
        first = self.node.send()
        host = self.host("PIPELINING")
        host.says("250 ok", "250 ok", "354 go")
        host.says("250 ok")
        self.assertEqual(self.status(first).action, Action.RELAYED)
        self.node.send()
        self.assertEqual(host.heard(), GROUP)
        host.closes()
        self.assertEqual(self.node.failed, [])
        self.assertEqual(self.node.hosts[1].ip, "192.0.2.1")

    def test_unasked_reply(self) -> None:
        """A reply nobody asked for ends the connection: it would be taken for the answer to something else."""
        first = self.node.send()
        host = self.host("PIPELINING")
        host.says("250 ok", "250 ok", "354 go")
        host.says("250 ok", "250 one too many")
        self.assertEqual(self.status(first).action, Action.RELAYED)
        self.assertEqual(host.heard(), b"")
        self.assertTrue(host.transport.all_written.endswith(b"QUIT\r\n"))

    def test_reply_before_the_content(self) -> None:
        """So does one between 354 and the content."""
        self.node.send()
        host = self.host("PIPELINING")
        self.assertEqual(host.says("250 ok", "250 ok", "354 go", "250 taken"), b"")
        self.assertTrue(host.transport.aborted)

    def test_wild_replies(self) -> None:
        """Replies without end, without sense or with mixed codes: another host is tried, and nothing breaks."""
        for wild in (b"250-a\r\n" * 200, b"2" * 70000, b"250-a\r\n550 b\r\n", b"\xff\r\n", b"\r\n"):
            node = Node()
            sent = node.send()
            for host_number in (0, 1):
                host = node.hosts[host_number]
                host.greets("PIPELINING")
                host.protocol.dataReceived(wild)
                self.assertTrue(host.transport.aborted)
            self.assertEqual(self.status(sent)[:3], (Action.DELAYED, "4.5.0", Reason.BAD_REPLY))

    def test_deadline(self) -> None:
        """No wait lasts longer than the attempt may."""
        sent = self.node.send(deadline=20.0)
        host = self.host("PIPELINING")
        self.node.reactor.advance(19.0)
        self.assertNoResult(sent)
        self.node.reactor.advance(1.0)
        self.assertTrue(host.transport.aborted)
        self.assertEqual(self.status(sent)[:3], (Action.DELAYED, "4.4.2", Reason.REMOTE_TIMEOUT))

    def test_times(self) -> None:
        """Each wait has the time RFC 5321 section 4.5.3.2 gives it."""
        for replies, seconds in (((), 300.0), (("250 ok",), 300.0), (("250 ok", "250 ok"), 120.0)):
            node = Node()
            node.send()
            host = node.hosts[0]
            host.greets("PIPELINING")
            node.reactor.advance(5.0)
            host.says(*replies) if replies else None
            node.reactor.advance(seconds - (1.0 if replies else 6.0))
            self.assertFalse(host.is_closed, replies)
            node.reactor.advance(2.0)
            self.assertTrue(host.transport.aborted, replies)

    def test_one_timer(self) -> None:
        """A busy connection sets its timer once, not for every reply."""
        sent = [self.node.send() for _ in range(5)]
        host = self.host("PIPELINING")
        before = len(self.node.reactor.getDelayedCalls())
        for _ in sent:
            host.says("250 ok", "250 ok", "354 go")
            host.says("250 ok")
            self.assertLessEqual(len(self.node.reactor.getDelayedCalls()), before)
        self.assertEqual([self.status(one).action for one in sent], [Action.RELAYED] * 5)
