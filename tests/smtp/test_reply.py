"""Tests of twisted_mail_node.smtp.reply."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.reply import LINE_MAX, Reply, printable


class ReplyTests(SynchronousTestCase):
    """One reply."""

    def test_octets(self) -> None:
        """Code, enhanced code, text; the enhanced code stands on each line (RFC 2034 section 4)."""
        self.assertEqual(Reply.make(250, "2.1.0", "OK").octets(), b"250 2.1.0 OK\r\n")
        self.assertEqual(Reply.make(220, "", "mx ESMTP").octets(), b"220 mx ESMTP\r\n")
        self.assertEqual(
            Reply.make(550, "5.7.1", "one\ntwo\nthree").octets(),
            b"550-5.7.1 one\r\n550-5.7.1 two\r\n550 5.7.1 three\r\n",
        )

    def test_kinds(self) -> None:
        """2yz, 4yz and 5yz; 3yz is none of them."""
        kinds = [
            (reply.is_positive, reply.is_temporary, reply.is_permanent)
            for reply in (Reply.make(code, "", "x") for code in (250, 354, 451, 550))
        ]
        self.assertEqual(
            kinds, [(True, False, False), (False, False, False), (False, True, False), (False, False, True)]
        )

    def test_str(self) -> None:
        """On one line for logs; the reason is kept beside it."""
        reply = Reply.make(550, "5.1.1", "No\nsuch user", Reason.UNKNOWN_RECIPIENT)
        self.assertEqual(str(reply), "550 5.1.1 No such user")
        self.assertEqual(str(Reply.make(250, "", "")), "250")
        self.assertIs(reply.reason, Reason.UNKNOWN_RECIPIENT)

    @given(st.text(max_size=1200), st.sampled_from(["", "5.7.1", "4.123.456"]))
    def test_lines(self, text: str, enhanced: str) -> None:
        """Whatever the text: each line ends in its own CRLF, has at most 512 octets and no control character."""
        octets = Reply.make(550, enhanced, text).octets()
        lines = octets.split(b"\r\n")
        self.assertEqual(lines.pop(), b"")
        self.assertEqual(len(lines), text.count("\n") + 1)
        for number, line in enumerate(lines):
            self.assertLessEqual(len(line) + 2, LINE_MAX)
            self.assertTrue(line.startswith(b"550-" if number < len(lines) - 1 else b"550 "))
            self.assertFalse(any(octet < 0x20 or octet == 0x7F for octet in line))
            line.decode("utf-8")

    def test_printable(self) -> None:
        """Control characters, line separators and direction marks become a question mark; letters stay."""
        self.assertEqual(printable("a\r\n\x00\x1b[2J\x7f\x85\u2028\u202e\u2066z"), "a????[2J?????z")
        self.assertEqual(printable("jürgen \u65e5\u672c"), "jürgen \u65e5\u672c")
