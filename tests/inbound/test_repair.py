"""Tests of twisted_mail_node.inbound.repair."""

from __future__ import annotations

from email import message_from_bytes
from email.header import decode_header, make_header
from email.utils import getaddresses

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.inbound.repair import ENCODED_MAX, HeaderError, missing_fields, repaired, says_nothing_of_mime
from twisted_mail_node.message.address import Address
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.mailboxes import mailboxes

END = b"\r\n\r\n"
_TEXT = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x24FF, exclude_categories=["Cc", "Cf", "Zs", "Zl", "Zp", "Cs"]),
    min_size=1, max_size=30,
)  # fmt: skip


class BccTests(SynchronousTestCase):
    """Bcc goes."""

    def test_removed(self) -> None:
        """Bcc and Resent-Bcc in any case, folded, repeated, first or last; all else stays to the octet."""
        table = {
            b"Bcc: a@b" + END: b"\r\n",
            b"Bcc: a@b\r\n": b"",
            b"To: x@y\r\nBCC: a@b,\r\n c@d\r\nSubject:  z \r\n" + b"\r\n": b"To: x@y\r\nSubject:  z " + END,
            b"bcc : a@b\r\nTo: x@y" + END: b"To: x@y" + END,
            b"To: x@y\r\nbCc:" + END: b"To: x@y" + END,
            b"Resent-Bcc: a@b\r\nBcc: c@d\r\nBcc: e@f\r\nX-Bcc: g@h" + END: b"X-Bcc: g@h" + END,
            b"To: x@y\r\nBcc: a@b": b"To: x@y",
        }
        for header, expected in table.items():
            self.assertEqual(repaired(header, False), expected, header)
            self.assertEqual(repaired(header, True), expected, header)

    def test_untouched(self) -> None:
        """A header with nothing to put right is the same object."""
        for header in (b"Subject: Bcc: x\r\n bcc: y" + END, b"X-Bcc: a@b" + END, b"", b"\r\n"):
            self.assertIs(repaired(header, False), header)


class EightBitTests(SynchronousTestCase):
    """UTF-8 in the header, without SMTPUTF8."""

    def test_text(self) -> None:
        """Text becomes encoded-words; fields in ASCII stay to the octet."""
        header = "Subject: Grüße aus\r\n Köln\r\nX-Odd:a  b\r\nComments: ☃".encode() + END
        done = repaired(header, False)
        self.assertTrue(done.isascii())
        self.assertIn(b"\r\nX-Odd:a  b\r\n", done)
        self.assertTrue(done.endswith(END))
        self.assertEqual(_decoded(done, "Subject"), "Grüße aus Köln")
        self.assertEqual(_decoded(done, "Comments"), "☃")

    def test_smtputf8(self) -> None:
        """With SMTPUTF8 nothing is changed (RFC 6532)."""
        header = "From: Jürgen <jürgen@example.org>".encode() + END
        self.assertIs(repaired(header, True), header)

    def test_names(self) -> None:
        """Names and comments in address fields become encoded-words; the addresses stay."""
        table = {
            "Jürgen <joe@example.org>": ("Jürgen", "joe@example.org"),
            '"Müller, Jürgen" <joe@example.org>': ("Müller, Jürgen", "joe@example.org"),
            "Jürgen Q. Müller<joe@example.org>": ("Jürgen Q. Müller", "joe@example.org"),
            "joe@example.org (Jürgen)": ("Jürgen", "joe@example.org"),
        }
        for value, (name, address) in table.items():
            for field in ("From", "To", "Reply-To", "Resent-Sender"):
                done = repaired(f"{field}: {value}".encode() + END, False)
                self.assertTrue(done.isascii())
                (found,) = getaddresses([str(message_from_bytes(done)[field])])
                self.assertEqual((str(make_header(decode_header(found[0]))), found[1]), (name, address))
        many = "To: Jürgen <joe@example.org>,\r\n ann@example.org,\r\n Größe: a@b.example, ü <c@d.example>;".encode()
        self.assertEqual(mailboxes(repaired(many, False)[3:]), mailboxes(many[3:]))

    def test_refused(self) -> None:
        """What only the writer can put right is refused with a sentence: addresses, what programs read, no UTF-8."""
        table = {
            "To: jürgen@example.org".encode(): "An address in To",
            "To: ann@bücher.example".encode(): "An address in To",
            "To: <jürgen@example.org>".encode(): "An address in To",
            "To: jürgen (x) @example.org".encode(): "An address in To",
            "To: jür.(x)gen@example.org".encode(): "An address in To",
            "To: ann@(x)bücher.example".encode(): "An address in To",
            "To: ann@a.(x)bücher.example".encode(): "An address in To",
            "To: <jürgen>".encode(): "An address in To",
            "To: ü@[192.0.2.1]".encode(): "An address in To",
            "To: ü(".encode(): "cannot be put into ASCII",
            b"To: \xff <a@b.example>": "neither ASCII nor UTF-8",
            b"Subject: \xff": "neither ASCII nor UTF-8",
            "Message-ID: <ü@x>".encode(): "may not stand there",
            "Content-Type: text/plain; name=ü".encode(): "may not stand there",
            b"X" * 80 + ": ü".encode(): "long name",
            b"Subject: " + "ü".encode() * ENCODED_MAX: "more text",
        }
        for header, words in table.items():
            error = self.assertRaises(HeaderError, repaired, header + END, False)
            self.assertIn(words, str(error.reply), header)
            self.assertEqual((error.reply.code, error.reply.reason), (550, Reason.SMTPUTF8_NEEDED))
        self.assertTrue(repaired("Content-Description: ü".encode() + END, False).isascii())

    @settings(max_examples=200, deadline=None)
    @given(st.lists(_TEXT, min_size=1, max_size=4))
    def test_every_text(self, words: list[str]) -> None:
        """Any text is the same after it was encoded, and any name; the addresses are the same too."""
        text = " ".join(words)
        done = repaired(b"Subject: " + text.encode() + "\r\nX: ü".encode() + END, False)
        self.assertTrue(done.isascii())
        self.assertLessEqual(max(len(line) for line in done.split(b"\r\n")), 998)
        if not text.isascii():
            self.assertEqual(_decoded(done, "Subject"), text)
        quoted = text.replace("\\", "\\\\").replace('"', '\\"')
        done = repaired(f'From: "{quoted}ü" <joe@example.org>'.encode() + END, False)
        self.assertTrue(done.isascii())
        self.assertEqual(mailboxes(done[5:-4], plain=True), (Address("joe", "example.org"),))


class MissingTests(SynchronousTestCase):
    """What is added."""

    def missing(self, header: bytes, author: Address | None = None, charset: str = "") -> bytes:
        """The fields that a header lacks."""
        return missing_fields(
            header, now=1_700_000_000, hostname="mx.example.org", queue_id="Q1", author=author, charset=charset
        )

    def test_fields(self) -> None:
        """Each where it is missing, and only there."""
        joe = Address("joe", "example.org")
        self.assertEqual(
            self.missing(b"Subject: x" + END, joe, "utf-8"),
            b"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\nMessage-ID: <Q1@mx.example.org>\r\nFrom: joe@example.org\r\n"
            b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n",
        )
        self.assertEqual(self.missing(b"date: x\r\nFrom : y\r\nMESSAGE-id: z" + END, joe), b"")
        self.assertNotIn(b"From", self.missing(b""))

    def test_mime(self) -> None:
        """A header tells something of MIME when it has any of the three fields."""
        self.assertTrue(says_nothing_of_mime(b"Subject: Content-Type: x" + END))
        for name in (b"mime-version", b"Content-type", b"CONTENT-TRANSFER-ENCODING"):
            self.assertFalse(says_nothing_of_mime(b"Subject: x\r\n" + name + b": x" + END))


def _decoded(header: bytes, name: str) -> str:
    value = message_from_bytes(header)[name]
    return str(make_header(decode_header(value.replace("\r\n", "").replace("\n", ""))))
