"""Mails that are hard to carry: ordinary ones with attachments, and nasty ones written by hand."""

from __future__ import annotations

from email.message import EmailMessage
from email.policy import SMTP
from typing import NamedTuple

#: What stands in a ``letter``.
SECRET = b"a secret of the sender and the recipient"


class Sample(NamedTuple):
    """A content as it is sent, CRLF line ends.

    :ivar binary: only BODY=BINARYMIME and BDAT may carry it.
    """

    name: str
    content: bytes
    binary: bool = False

    @property
    def eight_bit(self) -> bool:
        """It needs 8BITMIME."""
        return not self.content.isascii()


def with_attachments(subject: str = "papers", times: int = 400) -> bytes:
    """A mail as a mail program makes it: text, HTML, an image-like and a text attachment, a name outside ASCII.

    :param times: so many times all octets there are.
    """
    message = EmailMessage(policy=SMTP)
    message["From"] = "Someone <someone@client.test>"
    message["To"] = "Joe <joe@here.test>"
    message["Subject"] = f"{subject} — Grüße"
    message["Message-ID"] = f"<{subject}@client.test>"
    message["Date"] = "Tue, 03 Mar 2026 10:11:12 +0000"
    message.set_content("Find it attached.\n\n.\n..\n.a dot first\nFrom here on\n")
    message.add_alternative("<p>Find it attached.</p>\n", subtype="html")
    message.add_attachment(bytes(range(256)) * times, maintype="application", subtype="octet-stream", filename="ö.bin")
    message.add_attachment("one line\n" * 50, filename="lines.txt")
    return message.as_bytes()


def letter(subject: str) -> bytes:
    """A mail that nobody else is to read."""
    return plain(subject) + SECRET + b"\r\n"


def plain(subject: str, body: bytes = b"Hello.\r\n") -> bytes:
    """A small mail with this subject."""
    header = f"From: <someone@client.test>\r\nTo: <joe@here.test>\r\nSubject: {subject}\r\n"
    return f"{header}Message-ID: <{subject.replace(' ', '-')}@client.test>\r\n\r\n".encode() + body


def _eight_bit() -> bytes:
    header = b"Subject: eight\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    return header + b"Content-Transfer-Encoding: 8bit\r\n\r\n" + "Grüße, ¡olé!\r\n. Ünder a dot\r\n".encode() * 40


SAMPLES = (
    Sample("attachments", with_attachments()),
    Sample("eight bit", _eight_bit()),
    Sample("dots", plain("dots", b".\r\n..\r\n...\r\n.\r\n\r\n.\r\n.a\r\n..a\r\na.\r\n.\r\n")),
    Sample("dots only", b".\r\n..\r\n.\r\n"),
    Sample("long lines", plain("long", b"x" * 998 + b"\r\n" + b"y" * 5000 + b"\r\n." + b"z" * 70000 + b"\r\n")),
    Sample("empty body", b"Subject: nothing\r\n\r\n"),
    Sample("header only", b"Subject: nothing more\r\n"),
    Sample("no header", b"\r\nOnly a body.\r\n"),
    Sample("not a header", b"This is no header field\r\nand goes on\r\n"),
    Sample("folded", b"Subject: a\r\n very\r\n\tlong\r\n  one\r\nX-Empty:\r\n\r\nHello.\r\n"),
    Sample("From line", plain("mbox", b"From someone Tue\r\n>From another\r\nFrom: not a field\r\n")),
    Sample("larger than a row", plain("large", b".a line of some length, and then another\r\n" * 12000)),
)
#: What only BDAT can carry as it is.
CHUNKED = (
    Sample("no final newline", plain("open", b"the end comes without a newline")),
    Sample("nothing", b""),
    Sample("binary", plain("binary", bytes(range(1, 256)) * 300 + b"\r\n.\r\n\n.\n\r.\r" + b"end"), binary=True),
    Sample("large binary", plain("large binary", bytes(range(1, 256)) * 2000), binary=True),
)
