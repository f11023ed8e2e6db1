"""Tests of twisted_mail_node.smtp.server."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.smtp.vectors import vector
from twisted_mail_node.message.address import Address
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.occurrence import (
    Chunk,
    Content,
    Data,
    EndOfChunk,
    EndOfContent,
    Hello,
    MailFrom,
    Occurrence,
    Plain,
    RcptTo,
    Wrong,
)
from twisted_mail_node.smtp.reply import Reply
from twisted_mail_node.smtp.server import COMMAND_LINE_MAX, GARBAGE_MAX, ORDER, ServerSession

OK = Reply.make(250, "2.0.0", "OK")
GO = Reply.make(354, "", "go")
NO = Reply.make(550, "5.0.0", "no")


def answer(session: ServerSession, event: Occurrence) -> None:
    """Answer as a server does that likes everything."""
    match event:
        case Hello() | MailFrom() | RcptTo() | Plain():
            session.answer(OK)
        case Data():
            session.answer(GO)
        case EndOfContent():
            session.end_transaction()
        case EndOfChunk(last):
            session.answer(OK)
            if last:
                session.end_transaction()
        case Wrong(_, reply):
            session.answer(reply)


def events(session: ServerSession, octets: bytes, cuts: list[int] | None = None) -> list[Occurrence]:
    """Everything that happens when these octets come; pieces of content are joined, as their cuts mean nothing."""
    found: list[Occurrence] = []
    edges = sorted({cut for cut in cuts or [] if 0 < cut < len(octets)})
    start = 0
    for edge in [*edges, len(octets)]:
        session.receive(octets[start:edge])
        start = edge
        while (event := session.next_event()) is not None:
            answer(session, event)
            last = found[-1] if found else None
            if isinstance(event, Content | EndOfContent) and isinstance(last, Content):
                event = event._replace(octets=last.octets + event.octets)
                found.pop()
            found.append(event)
            if isinstance(event, Wrong) and event.close:
                return found
    return found


def ready(*lines: str) -> ServerSession:
    """A session that has said EHLO and these lines."""
    session = ServerSession()
    events(session, "".join(line + "\r\n" for line in ("EHLO client.example", *lines)).encode())
    return session


class CommandTests(SynchronousTestCase):
    """Commands become events."""

    def test_transaction(self) -> None:
        """A whole session, at every cut the same events."""
        octets = (
            b"EHLO client.example\r\nMAIL FROM:<a@b.example> SIZE=10\r\nRCPT TO:<joe@example.org> NOTIFY=NEVER\r\n"
            b"DATA\r\nSubject: x\r\n\r\n..\r\n.\r\nnoop x y\r\nQUIT\r\n"
        )
        whole = events(ServerSession(), octets)
        self.assertEqual(whole[0], Hello("client.example", True))
        self.assertEqual(whole[1].reverse_path, Address("a", "b.example"))  # type: ignore[union-attr]
        self.assertEqual(whole[2].parameters.notify, ("NEVER",))  # type: ignore[union-attr]
        self.assertEqual(
            whole[3:],
            [Data(), EndOfContent(b"Subject: x\r\n\r\n.\r\n", False), Plain("NOOP", "x y"), Plain("QUIT", "")],
        )
        for cut in range(len(octets)):
            self.assertEqual(events(ServerSession(), octets, [cut]), whole, cut)
        self.assertEqual(events(ServerSession(), octets, list(range(len(octets)))), whole)

    def test_chunks(self) -> None:
        """BDAT (RFC 3030): the octets as they are, at every cut; what looks like a command in them is content."""
        octets = b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<joe@example.org>\r\n"
        octets += b"BDAT 9\r\nQUIT\r\n.\r\nBDAT 0\r\nBDAT 3 LAST\r\nx\r\nQUIT\r\n"
        whole = events(ServerSession(), octets)
        self.assertEqual(
            whole[3:],
            [Chunk(9, False), Content(b"QUIT\r\n.\r\n"), EndOfChunk(False, False), Chunk(0, False),
             EndOfChunk(False, False), Chunk(3, True), Content(b"x\r\n"), EndOfChunk(True, False), Plain("QUIT", "")],
        )  # fmt: skip
        for cut in range(len(octets)):
            self.assertEqual(events(ServerSession(), octets, [cut]), whole, cut)

    def test_verbs_in_any_case(self) -> None:
        """RFC 5321 section 2.4: verbs in any case; arguments keep theirs."""
        session = ready()
        self.assertEqual(events(session, b"nOoP Hello\r\n"), [Plain("NOOP", "Hello")])
        self.assertIsInstance(events(session, b"mail from:<A@b.example>\r\n")[0], MailFrom)

    def test_order(self) -> None:
        """What the table does not allow is 503, and the state stays."""
        cases = {
            (): ["MAIL FROM:<>", "RCPT TO:<joe@example.org>", "DATA"],
            ("EHLO c",): ["RCPT TO:<joe@example.org>", "DATA"],
            ("EHLO c", "MAIL FROM:<>"): ["MAIL FROM:<>"],
            ("EHLO c", "MAIL FROM:<>", "RCPT TO:<joe@example.org>"): ["MAIL FROM:<>"],
        }
        for before, wrong in cases.items():
            for line in wrong:
                session = ServerSession()
                events(session, "".join(one + "\r\n" for one in before).encode())
                state = session.state
                (event,) = events(session, f"{line}\r\n".encode())
                self.assertIsInstance(event, Wrong)
                assert isinstance(event, Wrong)
                self.assertEqual((event.reply.code, session.state), (503, state), (before, line))

    def test_data_without_recipients(self) -> None:
        """DATA after MAIL, when no recipient was taken, is 554 (RFC 5321 section 3.3)."""
        (event,) = events(ready("MAIL FROM:<>"), b"DATA\r\n")
        assert isinstance(event, Wrong)
        self.assertEqual((event.reply.code, event.reply.reason), (554, Reason.NO_RECIPIENTS))

    def test_refused_does_not_move(self) -> None:
        """A command answered with 4yz or 5yz leaves the session where it was."""
        session = ready()
        session.receive(b"MAIL FROM:<>\r\n")
        self.assertIsInstance(session.next_event(), MailFrom)
        self.assertEqual(session.answer(NO), b"550 5.0.0 no\r\n")
        self.assertEqual(session.state, "ready")

    def test_ehlo_ends_transaction(self) -> None:
        """EHLO in a transaction acts as RSET (RFC 5321 section 4.1.4)."""
        session = ready("MAIL FROM:<>", "RCPT TO:<joe@example.org>")
        self.assertEqual(session.state, "rcpt")
        events(session, b"EHLO again\r\n")
        self.assertEqual(session.state, "ready")

    def test_order_is_closed(self) -> None:
        """Every state the table leads to is one it speaks of, but for content, where commands are octets."""
        self.assertEqual(set(ORDER.values()) - {state for state, _ in ORDER}, {"content"})

    def test_arguments(self) -> None:
        """DATA, RSET and QUIT take no argument; NOOP and HELP may have one."""
        for line in (b"RSET x\r\n", b"QUIT x\r\n"):
            (event,) = events(ready(), line)
            assert isinstance(event, Wrong)
            self.assertEqual(event.reply.code, 501)
        (event,) = events(ready("MAIL FROM:<>", "RCPT TO:<joe@example.org>"), b"DATA x\r\n")
        assert isinstance(event, Wrong)
        self.assertEqual(event.reply.code, 501)
        self.assertEqual(events(ready(), b"HELP mail\r\nVRFY joe\r\nEXPN  x \r\n"),
                         [Plain("HELP", "mail"), Plain("VRFY", "joe"), Plain("EXPN", "x")])  # fmt: skip

    def test_replies(self) -> None:
        """Code and enhanced code of what is wrong."""
        table = {
            b"WHAT\r\n": (500, "5.5.2"),
            b"\r\n": (500, "5.5.2"),
            b"STARTTLS\r\n": (502, "5.5.1"),
            b"AUTH PLAIN x\r\n": (502, "5.5.1"),
            b"MAIL\r\n": (501, "5.5.4"),
            b"MAIL FROM:a@b.example\r\n": (501, "5.5.4"),
            b"MAIL FROM:<a@b@c>\r\n": (501, "5.1.3"),
            b"MAIL FROM:<> XFOO=1\r\n": (555, "5.5.4"),
            b"MAIL FROM:<> SIZE=x\r\n": (501, "5.5.4"),
            "MAIL FROM:<jürgen@b.example>\r\n".encode(): (553, "5.6.7"),
            b"MAIL FROM:<j\xffrgen@b.example>\r\n": (500, "5.5.2"),
            b"EHLO\r\n": (501, "5.5.4"),
            b"NOOP a\nb\r\n": (500, "5.5.2"),
            b"NOOP a\rb\r\n": (500, "5.5.2"),
        }
        for line, expected in table.items():
            (event,) = events(ready(), line)
            assert isinstance(event, Wrong), line
            self.assertEqual((event.reply.code, event.reply.enhanced, event.close), (*expected, False), line)
            self.assertIsNotNone(event.reply.reason)

    def test_smtputf8(self) -> None:
        """With SMTPUTF8 addresses outside ASCII are taken in MAIL and RCPT; the next mail must say it again."""
        session = ready("MAIL FROM:<jürgen@bücher.example> SMTPUTF8")
        self.assertEqual(session.state, "mail")
        self.assertIsInstance(events(session, "RCPT TO:<jürgen@example.org>\r\n".encode())[0], RcptTo)
        events(session, b"RSET\r\nMAIL FROM:<>\r\n")
        (event,) = events(session, "RCPT TO:<jürgen@example.org>\r\n".encode())
        assert isinstance(event, Wrong)
        self.assertEqual(event.reply.code, 553)

    def test_binary(self) -> None:
        """BODY=BINARYMIME goes with BDAT only (RFC 3030 section 3)."""
        session = ready("MAIL FROM:<> BODY=BINARYMIME", "RCPT TO:<joe@example.org>")
        (event,) = events(session, b"DATA\r\n")
        assert isinstance(event, Wrong)
        self.assertEqual(event.reply.code, 503)
        self.assertEqual(events(session, b"BDAT 1 LAST\r\n\n")[-1], EndOfChunk(True, True))


class LineTests(SynchronousTestCase):
    """Lines that are too long, or none."""

    def test_at_least_rfc(self) -> None:
        """512 octets of command line (RFC 5321 section 4.5.3.1.4) and what the extensions add fit."""
        self.assertGreaterEqual(COMMAND_LINE_MAX, 512 + 26 + 500 + 10)

    def test_edge(self) -> None:
        """COMMAND_LINE_MAX octets are a command, one more is 500, and the session goes on."""
        fits = b"NOOP " + b"x" * (COMMAND_LINE_MAX - 5)
        for cuts in ([], [100], [COMMAND_LINE_MAX], [COMMAND_LINE_MAX + 1], [COMMAND_LINE_MAX + 2], [4, 4098]):
            self.assertIsInstance(events(ready(), fits + b"\r\n", cuts)[0], Plain)
            found = events(ready(), fits + b"x\r\nNOOP\r\n", cuts)
            assert isinstance(found[0], Wrong)
            self.assertEqual(found[0].reply.reason, Reason.LINE_TOO_LONG)
            self.assertEqual(found[1:], [Plain("NOOP", "")], cuts)

    def test_tail_is_no_command(self) -> None:
        """The rest of a line that was too long never runs as a command of its own."""
        octets = b"x" * 5000 + b"NOOP\r\n"
        for cuts in ([], [4999], [5000], list(range(len(octets)))):
            found = events(ready(), octets, cuts)
            self.assertEqual([type(event) for event in found], [Wrong], cuts)

    def test_garbage(self) -> None:
        """A line without an end is given up after GARBAGE_MAX octets, with little of it kept in memory."""
        session = ready()
        event = None
        sent = 0
        while event is None:
            session.receive(b"x" * 1000)
            sent += 1000
            event = session.next_event()
            self.assertLessEqual(session.buffered, COMMAND_LINE_MAX + 1000)
        assert isinstance(event, Wrong)
        self.assertTrue(event.close)
        self.assertEqual(event.reply.code, 421)
        self.assertLess(sent, GARBAGE_MAX + 2 * COMMAND_LINE_MAX)


class ChunkTests(SynchronousTestCase):
    """BDAT's odd cases."""

    def test_syntax(self) -> None:
        """A size that cannot be known ends the session: what follows might be meant as content (attack T05)."""
        for argument in ("", "-1", "+1", "1.0", "x", "0x10", "1e3", "9" * 16, "9223372036854775808", "LAST", "1 LAST x",
                         "1 FIRST", "1,LAST", "١", "²"):  # fmt: skip
            session = ready("MAIL FROM:<>", "RCPT TO:<joe@example.org>")
            (event, *_) = events(session, f"BDAT {argument}\r\nQUIT\r\n".encode())
            assert isinstance(event, Wrong), argument
            self.assertEqual((event.reply.code, event.close), (501, True), argument)

    def test_out_of_order(self) -> None:
        """A chunk that comes out of order is consumed, exactly its octets, and then refused."""
        for lines in ((), ("MAIL FROM:<>",)):
            session = ready(*lines)
            found = events(session, b"BDAT 6\r\nQUIT\r\nNOOP\r\n")
            chunk = found[0]
            assert isinstance(chunk, Chunk) and chunk.refusal is not None
            self.assertTrue(chunk.refusal.is_permanent)
            self.assertEqual(found[1:], [Content(b"QUIT\r\n"), EndOfChunk(False, False), Plain("NOOP", "")])

    def test_refused_chunk_leaves_no_trace(self) -> None:
        """A bare LF in a chunk that was refused says nothing about the next mail."""
        session = ready()
        events(session, b"BDAT 2\r\n\n\rMAIL FROM:<>\r\nBDAT 2\r\n\n\rRCPT TO:<joe@example.org>\r\n")
        self.assertEqual(events(session, b"BDAT 3 LAST\r\nx\r\n")[-1], EndOfChunk(True, False))

    def test_bare_over_chunks(self) -> None:
        """A line end may be cut in two by chunks; a bare one in an earlier chunk is not forgotten."""
        session = ready("MAIL FROM:<>", "RCPT TO:<joe@example.org>")
        self.assertEqual(events(session, b"BDAT 2\r\nx\rBDAT 2 LAST\r\n\ny")[-1], EndOfChunk(True, False))
        session = ready("MAIL FROM:<>", "RCPT TO:<joe@example.org>")
        self.assertEqual(events(session, b"BDAT 2\r\nx\nBDAT 3 LAST\r\ny\r\n")[-1], EndOfChunk(True, True))
        session = ready("MAIL FROM:<>", "RCPT TO:<joe@example.org>")
        self.assertEqual(events(session, b"BDAT 2 LAST\r\nx\r")[-1], EndOfChunk(True, True))


class OtherProtocolTests(SynchronousTestCase):
    """Clients that do not speak SMTP (attack T13)."""

    def test_closed(self) -> None:
        """HTTP, SSH and TLS as first words end the session."""
        for octets in (b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: x\r\n", b"PRI * HTTP/2.0\r\n",
                       b"SSH-2.0-x\r\n", b"\x16\x03\x01\x02\x00", b"\x16\x03\x01\r\n\x00"):  # fmt: skip
            for cuts in ([], list(range(len(octets)))):
                event = events(ServerSession(), octets, cuts)[0]
                assert isinstance(event, Wrong), octets
                self.assertEqual((event.reply.reason, event.close), (Reason.NOT_SMTP, True), octets)


class FuzzTests(SynchronousTestCase):
    """Octets that nobody meant."""

    @given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
    def test_any(self, octets: bytes, cuts: list[int]) -> None:
        """Any octets in any pieces give events and no exception, and the same events whole and cut."""
        self.assertEqual(events(ServerSession(), octets), events(ServerSession(), octets, cuts))

    @given(
        st.lists(
            st.sampled_from([
                b"EHLO c\r\n", b"HELO c\r\n", b"MAIL FROM:<a@b.example>\r\n", b"MAIL FROM:<> BODY=BINARYMIME\r\n",
                b"RCPT TO:<joe@example.org>\r\n", b"DATA\r\n", b"a\r\n", b".\r\n", b"..\r\n", b"BDAT 4\r\n",
                b"BDAT 0 LAST\r\n", b"BDAT 7 LAST\r\n", b"RSET\r\n", b"NOOP\r\n", b"QUIT\r\n", b"\n", b"\r", b"\x00",
            ]),
            max_size=15,
        ),
        st.lists(st.integers(0, 300), max_size=8),
    )  # fmt: skip
    def test_commands(self, pieces: list[bytes], cuts: list[int]) -> None:
        """Any order of commands, however cut, gives the same events as in one piece, and no exception."""
        octets = b"EHLO c\r\n" + b"".join(pieces)
        self.assertEqual(events(ServerSession(), octets), events(ServerSession(), octets, cuts))

    def test_seeds(self) -> None:
        """The sessions with which chasquid is fuzzed, with LF and with CRLF, in one piece and one octet a piece."""
        seen = 0
        for path in sorted(vector("smtp/chasquid-fuzz/FuzzConnection").iterdir()):
            for literal in re.findall(r'\[\]byte\("(.*)"\)', path.read_text(encoding="utf-8")):
                octets = literal.replace("\\n", "\n").encode()
                for form in (octets, octets.replace(b"\n", b"\r\n")):
                    seen += 1
                    whole = events(ServerSession(), form)
                    self.assertEqual(events(ServerSession(), form, list(range(len(form)))), whole)
                    if b"\r" not in form:
                        self.assertEqual([event for event in whole if not isinstance(event, Wrong)], [])
        self.assertGreaterEqual(seen, 20)
