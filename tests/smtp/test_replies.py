"""Tests of twisted_mail_node.smtp.replies."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.smtp.replies import REPLY_LINE_MAX, REPLY_LINES_MAX, ReplyError, ReplyReader
from twisted_mail_node.smtp.reply import Reply

EHLO = b"250-mx.example.net\r\n250-SIZE 1000\r\n250 PIPELINING\r\n"
STREAM = b"220 ready\r\n" + EHLO + b"550-5.1.1 no\r\n550 5.1.1 such user\r\n354 go on\r\n"


def read(*pieces: bytes) -> list[Reply]:
    reader = ReplyReader()
    return [reply for piece in pieces for reply in reader.feed(piece)]


class ReplyReaderTests(SynchronousTestCase):
    def test_stream(self) -> None:
        """Code, enhanced status code and lines are told apart."""
        greeting, ehlo, refusal, data = read(STREAM)
        self.assertEqual(greeting, Reply(220, "", ("ready",)))
        self.assertEqual(ehlo, Reply(250, "", ("mx.example.net", "SIZE 1000", "PIPELINING")))
        self.assertEqual(refusal, Reply(550, "5.1.1", ("no", "such user")))
        self.assertEqual(str(refusal), "550 5.1.1 no such user")
        self.assertEqual(data, Reply(354, "", ("go on",)))

    def test_every_cut(self) -> None:
        """Where the network cuts the stream changes nothing."""
        whole = read(STREAM)
        for cut in range(len(STREAM) + 1):
            self.assertEqual(read(STREAM[:cut], STREAM[cut:]), whole, cut)
        self.assertEqual(read(*[STREAM[n : n + 1] for n in range(len(STREAM))]), whole)

    def test_bare_codes(self) -> None:
        """A code alone, and an enhanced status code without text, are replies."""
        self.assertEqual(read(b"550\r\n"), [Reply(550, "", ("",))])
        self.assertEqual(read(b"550 \r\n"), [Reply(550, "", ("",))])
        self.assertEqual(read(b"550 5.1.1\r\n"), [Reply(550, "5.1.1", ("",))])
        self.assertEqual(read(b"550 5.1\r\n"), [Reply(550, "", ("5.1",))])
        self.assertEqual(str(read(b"550 5.1.1\r\n")[0]), "550 5.1.1")

    def test_enhanced_of_another_class(self) -> None:
        """An enhanced status code whose class is not the reply's is text."""
        self.assertEqual(read(b"550 2.1.1 odd\r\n"), [Reply(550, "", ("2.1.1 odd",))])

    def test_longer_number_on_second_line(self) -> None:
        """Only the same enhanced status code is taken off further lines."""
        self.assertEqual(read(b"550-5.1.1 a\r\n550 5.1.10 b\r\n"), [Reply(550, "5.1.1", ("a", "5.1.10 b"))])

    def test_bare_line_feed(self) -> None:
        """A bare LF ends a reply line too: such hosts exist, and nothing can be smuggled to us that way."""
        self.assertEqual(read(b"250-a\n250 b\n"), [Reply(250, "", ("a", "b"))])

    def test_controls_and_odd_octets(self) -> None:
        """Control characters, a CR within the line and octets that are no UTF-8 never reach a log."""
        (reply,) = read(b"550 a\x1b[31m\rb\xff\xe2\x80\xae\r\n")
        self.assertTrue(reply.text[0].isprintable())

    def test_mixed_codes(self) -> None:
        """Lines of one reply with different codes are an error."""
        self.assertRaises(ReplyError, read, b"250-a\r\n550 b\r\n")

    def test_not_a_reply(self) -> None:
        """What does not begin with a code of 2yz to 5yz is an error."""
        for line in (
            b"\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"25\r\n",
            b"150 a\r\n",
            b"650 a\r\n",
            b"2500 a\r\n",
            b"250\ta\r\n",
        ):
            self.assertRaises(ReplyError, read, line)

    def test_endless_reply(self) -> None:
        """A reply of endless lines ends in an error, and so does one of few long lines."""
        self.assertRaises(ReplyError, read, b"250-a\r\n" * (REPLY_LINES_MAX + 1))
        self.assertRaises(ReplyError, read, (b"250-" + b"a" * 2000 + b"\r\n") * 20)

    def test_endless_line(self) -> None:
        """A line of 64 kB is an error, with its end or without."""
        self.assertRaises(ReplyError, read, b"250 " + b"a" * 65536 + b"\r\n")
        self.assertRaises(ReplyError, read, b"250 " + b"a" * 65536)
        reader = ReplyReader()
        for _ in range(REPLY_LINE_MAX):
            reader.feed(b"2")
        self.assertRaises(ReplyError, reader.feed, b"2")

    @given(st.lists(st.binary(max_size=40)))
    def test_anything(self, pieces: list[bytes]) -> None:
        """Whatever comes is replies or a ReplyError."""
        try:
            replies = read(*pieces)
        except ReplyError:
            return
        for reply in replies:
            self.assertTrue(200 <= reply.code < 600)
            self.assertNotIn("\n", str(reply))

    @given(
        st.sampled_from((220, 250, 354, 451, 550)),
        st.sampled_from(("", "2.1.0", "4.3.0", "5.1.1")),
        st.lists(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40), min_size=1, max_size=5),
        st.data(),
    )
    def test_reads_what_reply_writes(self, code: int, enhanced: str, lines: list[str], data: st.DataObject) -> None:
        """Reading what Reply.octets wrote gives the same reply, wherever it is cut."""
        if enhanced[:1] != str(code)[:1]:
            enhanced = ""
        written = Reply(code, enhanced, tuple(f"x{line}" for line in lines))
        octets = written.octets()
        cut = data.draw(st.integers(0, len(octets)))
        self.assertEqual(read(octets[:cut], octets[cut:]), [written])
