"""Attacks on the borders of lines, contents and chunks (T01 to T05, T07): smuggling in and out."""

from __future__ import annotations

from hashlib import sha256

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.attacks.wire import Sender, cuts_of, in_any_packets
from tests.inbound.receiving import TestReceiver
from twisted_mail_node.events import MailAccepted, MailRefused, RecipientRefused
from twisted_mail_node.message.header import border, fields
from twisted_mail_node.policy.verdict import Asked, Policy, Refuse, Verdict
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.reply import Reply
from twisted_mail_node.smtp.stuffing import BareNewlineError, Stuffer, stuffed
from twisted_mail_node.smtp.transparency import Unstuffer, has_bare_newline
from twisted_mail_node.spool.mail import SpoolError

MAIL = ("MAIL FROM:<a@elsewhere.example>", "RCPT TO:<joe@example.org>", "DATA")
SMUGGLED = b"MAIL FROM:<boss@example.org>\r\nRCPT TO:<ann@example.org>\r\nDATA\r\nSubject: smuggled\r\n\r\nevil\r\n"
END = b"\r\n.\r\n"
#: What some servers take for the end of the data, and we must not.
FALSE_ENDS = (
    b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\n.\r", b"\r.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r",
    b"\r\n.\r\r\n", b"\r\r\n.\r\r\n", b"\n\n.\n\n", b"\r\n\n.\r\n", b"\r\n\r.\r\n",
)  # fmt: skip
#: False ends without a bare CR or LF: what holds them is a mail like any other.
HARMLESS_ENDS = (b"\r\n\x00.\r\n", b"\r\n.\x00\r\n", b"\r\n .\r\n", b"\r\n. \r\n", b"\r\n..\r\n", b"\x85.\x85")


class SmugglingInTests(SynchronousTestCase):
    """T01: a false end of the data (CVE-2023-51764, -51765, -51766, CVE-2024-27305, CVE-2023-52354)."""

    @in_any_packets
    def test_false_ends(self, sender: Sender) -> None:
        """None ends the data: nothing behind it is carried out, and the mail is refused with 5.6.0."""
        for false_end in FALSE_ENDS:
            receiver = TestReceiver()
            peer = sender.session(receiver, *MAIL)
            content = b"Subject: x\r\n\r\ntext" + false_end + SMUGGLED
            self.assertEqual(sender.send(peer, content), [], false_end)
            self.assertEqual(sender.send(peer, b".\r\n"), [550], false_end)
            (event,) = receiver.of(MailRefused)
            self.assertEqual((event.reason, event.reply[:9]), (Reason.BARE_NEWLINE, "550 5.6.0"))
            self.nothing_ran(receiver)
            self.assertEqual(receiver.queue.mails, [])
            self.assertEqual(sender.send(peer, b"NOOP\r\n"), [250])

    @in_any_packets
    def test_harmless_ends(self, sender: Sender) -> None:
        """Those without a bare CR or LF do not end it either: one mail, with all that was smuggled as its text."""
        for false_end in HARMLESS_ENDS:
            receiver = TestReceiver()
            peer = sender.session(receiver, *MAIL)
            self.assertEqual(sender.send(peer, b"Subject: x\r\n\r\ntext" + false_end + SMUGGLED + b".\r\n"), [250])
            self.nothing_ran(receiver)
            (mail,) = receiver.queue.mails
            self.assertIn(b"MAIL FROM:<boss@example.org>\r\n", mail.content)

    def nothing_ran(self, receiver: TestReceiver) -> None:
        """No transaction but the first one ever began."""
        self.assertEqual(len(receiver.queue.begun), 1)
        self.assertEqual({event.reverse_path for event in receiver.of(MailAccepted)} - {"a@elsewhere.example"}, set())
        self.assertEqual(receiver.of(RecipientRefused), [])

    @in_any_packets
    def test_at_the_beginning(self, sender: Sender) -> None:
        """The same as the very first octets of the content."""
        for false_end in (b".\n", b".\r", b".\r\r\n", b"\n.\r\n", b"\r.\r\n", b".\x00\r\n"):
            receiver = TestReceiver()
            peer = sender.session(receiver, *MAIL)
            codes = sender.send(peer, false_end + SMUGGLED + b".\r\n")
            self.assertEqual(codes, [550 if has_bare_newline(false_end) else 250], false_end)
            self.nothing_ran(receiver)

    @in_any_packets
    def test_by_bdat(self, sender: Sender) -> None:
        """BDAT needs no end, but its content goes out by DATA some day: a bare CR or LF is refused there, too."""
        for false_end in FALSE_ENDS:
            receiver = TestReceiver()
            peer = sender.session(receiver, *MAIL[:2])
            content = b"Subject: x\r\n\r\ntext" + false_end + SMUGGLED
            half = len(content) // 2
            octets = b"BDAT %d\r\n%b" % (half, content[:half])
            octets += b"BDAT %d LAST\r\n%b" % (len(content) - half, content[half:])
            self.assertEqual(sender.send(peer, octets), [250, 550], false_end)
            self.nothing_ran(receiver)
            self.assertEqual(receiver.queue.mails, [])

    @in_any_packets
    def test_command_lines(self, sender: Sender) -> None:
        """A command line that ends in a bare LF or CR is not carried out, nor is what follows on the line."""
        for end in (b"\n", b"\r", b"\n\r"):
            receiver = TestReceiver()
            peer = sender.session(receiver)
            octets = end.join((b"MAIL FROM:<boss@example.org>", b"RCPT TO:<ann@example.org>", b"DATA", b"")) + b"\r\n"
            self.assertEqual(sender.send(peer, octets), [500])
            self.assertEqual(sender.send(peer, b"RCPT TO:<joe@example.org>\r\n"), [503])

    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"a", b"\x00", SMUGGLED]), max_size=10).map(b"".join),
        st.lists(st.integers(0, 2**16), max_size=6),
    )
    def test_any(self, content: bytes, cuts: list[int]) -> None:
        """Any content of line ends and dots: only what stands behind the one true end runs as commands."""
        octets = content + b"\r\n.\r\n"
        first = octets.find(b".\r\n") if octets.startswith(b".\r\n") else octets.find(END) + 2
        receiver = TestReceiver(errors=1000)
        peer = Sender(cuts).session(receiver, *MAIL)
        peer.send(octets[: first + 2], cuts_of(cuts, octets[: first + 2]))
        self.assertEqual(peer.said(), "", "answered before the end of the data")
        peer.send(octets[first + 2 : first + 3])
        self.assertEqual(peer.codes(), [550 if has_bare_newline(octets[:first]) else 250])


class Refusing(Policy):
    """Refuses every content."""

    name = "refusing"

    async def content(self, asked: Asked) -> Verdict | None:
        return Refuse(Reply.make(554, "5.7.1", "no"), Reason.POLICY)


class AfterRefusalTests(SynchronousTestCase):
    """T02: after a refusal nothing that follows in the stream runs as a command."""

    CONTENT = b"Received: 1\r\nReceived: 2\r\nSubject: 0123456789\r\n\r\n" + SMUGGLED * 3 + b"RSET\r\nQUIT\r\n"

    @in_any_packets
    def test_inside_data(self, sender: Sender) -> None:
        """A mail given up in its middle is read to its real end, whatever the reason; then the session goes on."""
        cases = {
            552: (TestReceiver(message_size=30), TestReceiver(header_size=30)),
            554: (TestReceiver(hops=1), TestReceiver(policies=[Refusing()])),
            451: (TestReceiver(),),
            452: (TestReceiver(),),
        }
        cases[451][0].queue.write_error = SpoolError("broken")
        cases[452][0].queue.write_error = SpoolError("full", full=True)
        for code, receivers in cases.items():
            for receiver in receivers:
                peer = sender.session(receiver, *MAIL)
                self.assertEqual(sender.send(peer, self.CONTENT + b".\r\nNOOP\r\n"), [code, 250])
                self.assertEqual((receiver.queue.mails, len(receiver.queue.begun)), ([], 1))
                self.assertFalse(peer.closed)

    @in_any_packets
    def test_inside_bdat(self, sender: Sender) -> None:
        """The same for a chunk; those that follow it are consumed, each its octets, and refused."""
        for last in (b"", b" LAST"):
            receiver = TestReceiver(message_size=30)
            peer = sender.session(receiver, *MAIL[:2])
            octets = b"BDAT %d%b\r\n%b" % (len(self.CONTENT), last, self.CONTENT)
            octets += b"BDAT %d LAST\r\n%bNOOP\r\n" % (len(SMUGGLED), SMUGGLED)
            self.assertEqual(sender.send(peer, octets), [552, 503, 250])
            self.assertEqual(receiver.queue.mails, [])

    def test_refused_data(self) -> None:
        """What comes in one packet with a DATA that is refused may be content: the session ends instead."""
        for lines in (("RCPT TO:<x@elsewhere.example>",), ("MAIL FROM:<>",),
                      ("MAIL FROM:<>", "RCPT TO:<x@example.org>"),
                      ("MAIL FROM:<> BODY=BINARYMIME", "RCPT TO:<joe@example.org>")):  # fmt: skip
            receiver = TestReceiver()
            peer = receiver.session(*lines)
            peer.send(b"DATA\r\n" + SMUGGLED + b".\r\n")
            self.assertEqual(len(peer.codes()), 1)
            self.assertTrue(peer.closed)
            self.assertEqual((receiver.queue.begun, receiver.connections), ([], 0))

    def test_late_refusal(self) -> None:
        """A policy that refuses after some time: what came meanwhile runs only from behind the end of the data."""
        receiver = TestReceiver()
        receiver.queue.commits_wait = True
        receiver.queue.commit_error = SpoolError("broken")
        peer = receiver.session(*MAIL)
        peer.send(b"Subject: x\r\n\r\n" + SMUGGLED + b".\r\nNOOP\r\n")
        receiver.queue.go_on()
        self.assertEqual(peer.codes(), [451, 250])


LINES = st.lists(
    st.sampled_from([b"", b".", b"..", b"...", b"a", b".a", b"From x", b"\x00", b".\x00", b"\xff" * 3]), max_size=10
).map(lambda lines: b"".join(line + b"\r\n" for line in lines))


class SmugglingOutTests(SynchronousTestCase):
    """T03 and T04: what we stored, on its way out."""

    def check(self, content: bytes, wire: bytes) -> None:
        """``wire`` is ``content`` made fit for DATA."""
        self.assertFalse(has_bare_newline(wire))
        self.assertTrue(wire.endswith(b".\r\n"))
        body = wire[:-3]
        for line in body.split(b"\r\n"):
            self.assertTrue(not line.startswith(b".") or line.startswith(b".."), line)
        found, after, ended = Unstuffer().take(wire + b"QUIT\r\n", 0)
        self.assertEqual((found, after, ended), (content, len(wire), True))

    @given(LINES, st.lists(st.integers(0, 80), max_size=6))
    def test_stuffed(self, content: bytes, cuts: list[int]) -> None:
        """parse(emit(x)) = x, whole and at every chunk border; dots at offset 0 and behind each CRLF are doubled."""
        self.check(content, stuffed(content))
        stuffer = Stuffer()
        wire, start = b"", 0
        for edge in [*cuts_of(cuts, content), len(content)]:
            wire += stuffer.feed(content[start:edge])
            start = edge
        wire += stuffer.finish()
        self.assertEqual(wire, stuffed(content))
        self.check(content, wire)

    @given(
        st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"a"]), max_size=10).map(b"".join),
        st.lists(st.integers(0, 80), max_size=6),
    )
    def test_bare(self, content: bytes, cuts: list[int]) -> None:
        """A bare CR or LF never leaves, even cut in two: an error comes first, and what left before has none."""
        stuffer = Stuffer()
        wire, start = b"", 0
        try:
            for edge in [*cuts_of(cuts, content), len(content)]:
                wire += stuffer.feed(content[start:edge])
                start = edge
            wire += stuffer.finish()
        except BareNewlineError:
            self.assertTrue(has_bare_newline(content))
        else:
            self.assertFalse(has_bare_newline(content))
        self.assertFalse(has_bare_newline(wire))

    @settings(max_examples=50, deadline=None)
    @given(LINES, st.lists(st.integers(0, 2**16), max_size=6))
    def test_around(self, content: bytes, cuts: list[int]) -> None:
        """Through two nodes: what the first one stores, the second one stores, octet for octet (T04: so does DKIM)."""
        digests = {sha256(content).hexdigest()}
        wire = stuffed(content)
        for _ in range(2):
            receiver = TestReceiver()
            sender = Sender(cuts)
            peer = sender.session(receiver, *MAIL)
            self.assertEqual(sender.send(peer, wire), [250])
            (mail,) = receiver.queue.mails
            digests.add(sha256(mail.content).hexdigest())
            wire = stuffed(mail.content)
        self.assertEqual(len(digests), 1)

    @in_any_packets
    def test_lone_dot(self, sender: Sender) -> None:
        """T04: a line that holds one dot keeps it, at the beginning, in the middle and at the end."""
        receiver = TestReceiver()
        peer = sender.session(receiver, *MAIL)
        self.assertEqual(sender.send(peer, b"..\r\na\r\n..\r\n\r\n..\r\n.\r\n"), [250])
        self.assertEqual(receiver.queue.mails[0].content, b".\r\na\r\n.\r\n\r\n.\r\n")


class ChunkTests(SynchronousTestCase):
    """T05: BDAT (CVE-2017-16943, CVE-2017-16944)."""

    @in_any_packets
    def test_sizes(self, sender: Sender) -> None:
        """A size that is negative, huge or no number ends the session: nobody knows where commands begin again."""
        for size in ("-1", "-9223372036854775808", "9223372036854775807", "9223372036854775808", "18446744073709551616",
                     "9" * 400, "x", "", "1e3", "0x10", "+5", "5.", "٥", "5 5", "5 LASTX", "LAST"):  # fmt: skip
            receiver = TestReceiver()
            peer = sender.session(receiver, *MAIL[:2])
            sender.send(peer, f"BDAT {size}\r\n".encode() + SMUGGLED)
            self.assertTrue(peer.closed, size)
            self.assertEqual((receiver.queue.begun, receiver.connections), ([], 0), size)

    def test_large(self) -> None:
        """A size that is only very large promises octets that take no memory; the mail is refused as it grows."""
        receiver = TestReceiver(message_size=1000)
        peer = receiver.session(*MAIL[:2])
        peer.send(b"BDAT 999999999999999 LAST\r\n")
        for _ in range(100):
            peer.send(b"x" * 10000)
        self.assertEqual((peer.said(), receiver.queue.begun[0].state), ("", "aborted"))
        self.assertLessEqual(receiver.queue.begun[0].size, 1000)
        peer.vanish()
        self.assertEqual(receiver.connections, 0)

    @in_any_packets
    def test_mixed_with_data(self, sender: Sender) -> None:
        """DATA between chunks is refused; a chunk within DATA is content."""
        receiver = TestReceiver()
        peer = sender.session(receiver, *MAIL[:2])
        self.assertEqual(sender.send(peer, b"BDAT 6\r\nA: b\r\nDATA\r\n"), [250, 503])
        receiver = TestReceiver()
        peer = sender.session(receiver, *MAIL)
        self.assertEqual(sender.send(peer, b"BDAT 3 LAST\r\n\r\nx\r\n.\r\n"), [250])
        self.assertEqual(receiver.queue.mails[0].content, b"BDAT 3 LAST\r\n\r\nx\r\n")

    @in_any_packets
    def test_refused_chunks(self, sender: Sender) -> None:
        """After every RCPT was refused exactly n octets are consumed, not one more or less, and none kept."""
        for octets in (b"", b"x", b"QUIT\r\n", SMUGGLED, b"\r", b"\n", b"\x00" * 70000):
            receiver = TestReceiver()
            peer = sender.session(receiver, "MAIL FROM:<>", "RCPT TO:<nobody@example.org>")
            codes = sender.send(peer, b"BDAT %d LAST\r\n%bNOOP\r\n" % (len(octets), octets))
            self.assertEqual(codes, [554, 250])
            self.assertEqual(receiver.queue.begun, [])

    @in_any_packets
    def test_commands_inside(self, sender: Sender) -> None:
        """Commands inside a chunk stay content."""
        receiver = TestReceiver()
        peer = sender.session(receiver, *MAIL[:2])
        octets = b"BDAT %d LAST\r\n%bQUIT\r\n" % (len(SMUGGLED), SMUGGLED)
        self.assertEqual(sender.send(peer, octets), [250, 221])
        (mail,) = receiver.queue.mails
        self.assertEqual((mail.content, mail.recipients), (SMUGGLED, ["joe@example.org"]))


class Watching(Policy):
    """Keeps the header it was shown."""

    name = "watching"

    def __init__(self) -> None:
        self.header = b""

    async def content(self, asked: Asked) -> Verdict | None:
        self.header = asked.header
        return None


HEADER_LINES = st.lists(
    st.sampled_from([
        b"Subject: x", b"From: joe@example.org", b" folded", b"\tfolded", b" ", b"", b"no field", b"From x", b": empty",
        b"a b: c", b"Name :v", b"\x00: y", b"\xc3\xbc: y", b"Received: z", b">From: q", b"X" * 1200 + b": long",
    ]),
    max_size=8,
).map(lambda lines: b"".join(line + b"\r\n" for line in lines))  # fmt: skip


class BorderTests(SynchronousTestCase):
    """T07: where the header ends has one meaning."""

    @settings(max_examples=200, deadline=None)
    @given(HEADER_LINES, st.lists(st.integers(0, 2**16), max_size=6))
    def test_one_border(self, content: bytes, cuts: list[int]) -> None:
        """What a policy is shown is what anybody finds who reads the mail as it is stored, however it was cut."""
        policy = Watching()
        receiver = TestReceiver(policies=[policy])
        sender = Sender(cuts)
        peer = sender.session(receiver, *MAIL)
        self.assertEqual(sender.send(peer, stuffed(content)), [250])
        (mail,) = receiver.queue.mails
        shown = content[: border(content)]
        if shown and shown != content and not (b"\r\n" + shown).endswith(b"\r\n\r\n"):
            shown += b"\r\n"  # the empty line that was missing: now the header ends there for everybody
        self.assertEqual(policy.header, shown)
        stored = mail.header + mail.content
        self.assertEqual(border(stored), len(mail.header) + len(policy.header))
        names = [field.name for field in fields(stored[: border(stored)])]
        self.assertEqual(names, [b"Received", *(field.name for field in fields(policy.header))])

    def test_no_field_of_ours(self) -> None:
        """Content that begins with a folded line, an mbox line or text never goes on in our trace field."""
        for first in (
            b" by evil.example; Mon, 1 Jan 2024",
            b"\tx",
            b"From joe Mon",
            b"text",
            b"text: \x00".replace(b":", b""),
        ):
            receiver = TestReceiver()
            peer = receiver.session(*MAIL)
            peer.send(first + b"\r\nSubject: forged\r\n\r\n.\r\n")
            (mail,) = receiver.queue.mails
            self.assertTrue(mail.header.endswith(b"\r\n\r\n"), first)
            self.assertEqual(border(mail.header + mail.content), len(mail.header))
