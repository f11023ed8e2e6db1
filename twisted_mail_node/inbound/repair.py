"""Puts the header of a submitted mail right, as RFC 6409 section 8 lets a submission server do, and says what it lacks.

Bcc goes: whom a mail was sent to in secret is no reader's business (RFC 5322 section 3.6.3). UTF-8 that stands in the
header while the client did not say SMTPUTF8 becomes encoded-words where text may stand (RFC 2047 section 5). It cannot
where a program reads it, as in an address; then nobody but the writer can put it right.
"""

from __future__ import annotations

from twisted_mail_node.message.address import Address
from twisted_mail_node.message.encoding import encoded_words
from twisted_mail_node.message.header import Field, field, fields, has
from twisted_mail_node.message.trace import date_field, message_id
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.mailboxes import MailboxError, Token, tokens
from twisted_mail_node.smtp.reply import Reply

#: Lines a submitted header may have; with more it is no header that anybody wrote.
LINES_MAX = 10_000
#: Octets of fields outside ASCII that are put right; more would keep all others waiting.
ENCODED_MAX = 16384

#: Fields whose values are addresses with names.
_ADDRESSES = frozenset(
    prefix + name
    for prefix in (b"", b"resent-")
    for name in (b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc")
)  # fmt: skip
#: Fields that programs read: no encoded-word may stand there (RFC 2047 section 5).
_STRUCTURED = frozenset(
    (b"date", b"message-id", b"in-reply-to", b"references", b"received", b"return-path", b"mime-version",
     b"resent-date", b"resent-message-id", b"dkim-signature", b"authentication-results", b"delivered-to",
     b"disposition-notification-to", b"autocrypt")
)  # fmt: skip
_STRUCTURED_BEGINNINGS = (b"content-", b"list-", b"arc-")
#: What names and local-parts are made of.
_OF_NAMES = ("atom", "quoted", ".", "space")
_MIME = (b"MIME-Version", b"Content-Type", b"Content-Transfer-Encoding")


class HeaderError(ValueError):
    """The header cannot be put right; ``reply`` says what the writer can do.

    :ivar reply: 550.
    """

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.reply = Reply.make(550, "5.6.7", words, Reason.SMTPUTF8_NEEDED)


def repaired(header: bytes, smtputf8: bool) -> bytes:
    """The header section without Bcc and Resent-Bcc, and in ASCII unless the client said SMTPUTF8.

    Fields that need no repair stay as they are, octet for octet.

    :raises HeaderError: there are octets outside ASCII that cannot be put right.
    """
    bcc = has(header, b"Bcc") or has(header, b"Resent-Bcc")
    eight_bit = not smtputf8 and not header.isascii()
    if not bcc and not eight_bit:
        return header
    found = fields(header)
    ending = header[len(b"\r\n".join([field.raw for field in found])) :]
    if bcc:
        found = [field for field in found if field.name.lower() not in (b"bcc", b"resent-bcc")]
    lines = [field.raw if smtputf8 or field.raw.isascii() else b"" for field in found]
    if eight_bit:
        room = ENCODED_MAX
        for number, one in enumerate(found):
            if not lines[number]:
                room -= len(one.raw)
                if room < 0:
                    raise HeaderError("The header holds more text outside ASCII than can be encoded here")
                lines[number] = _in_ascii(one)
    return b"\r\n".join(lines) + ending if lines else ending.removeprefix(b"\r\n")


def _in_ascii(one: Field) -> bytes:
    """The field with encoded-words, without its last CRLF."""
    name = one.name.decode("ascii")
    key = one.name.lower()
    try:
        if key in _ADDRESSES:
            made = field(name, _names_encoded(one), smtputf8=True)
        elif key in _STRUCTURED or (key.startswith(_STRUCTURED_BEGINNINGS) and key != b"content-description"):
            raise HeaderError(f"The field {name} holds characters outside ASCII, which may not stand there")
        else:
            made = field(name, one.unfolded.decode("utf-8"))
    except UnicodeDecodeError:
        raise HeaderError(
            f"The field {name} is neither ASCII nor UTF-8; let your mail program write it as UTF-8"
        ) from None
    except MailboxError as error:
        raise HeaderError(f"The field {name} cannot be put into ASCII: {error}") from None
    except HeaderError:
        raise
    except ValueError:
        raise HeaderError("A field with a long name holds characters outside ASCII") from None
    return made[:-2]


def _names_encoded(one: Field) -> str:
    """The addresses of a field, their names and comments in ASCII.

    :raises MailboxError: it is no list of addresses.
    """
    found = [*tokens(one.value), Token("", "")]
    behind = _structure_behind(found)
    done: list[str] = []
    name: list[Token] = []
    before = ""
    for number, token in enumerate(found):
        if token.kind in _OF_NAMES:
            name.append(token)
            continue
        if not all(piece.text.isascii() for piece in name):
            if behind[number] == "@" or before in ("@", "<"):
                raise HeaderError(
                    f"An address in {one.name.decode('ascii')} has characters outside ASCII: it needs SMTPUTF8,"
                    " which your mail program did not ask for"
                )
            name = _name_encoded(name)
        done += [piece.text for piece in name]
        name = []
        if token.kind == "comment":
            done.append(token.text if token.text.isascii() else f"({encoded_words(token.text[1:-1])})")
        else:
            done.append(token.text)
            before = token.kind
    return "".join(done).strip(" \t")


def _structure_behind(found: list[Token]) -> list[str]:
    """For each token the kind of the first from there on that is neither part of a name nor a comment."""
    kinds: list[str] = []
    kind = ""
    for token in reversed(found):
        if token.kind not in _OF_NAMES and token.kind != "comment":
            kind = token.kind
        kinds.append(kind)
    return kinds[::-1]


def _name_encoded(name: list[Token]) -> list[Token]:
    """Words of a name as encoded-words, with the white space around them."""
    words = list(name)
    first, last = [], []
    while words and words[0].kind == "space":
        first.append(words.pop(0))
    while words and words[-1].kind == "space":
        last.append(words.pop())
    text = "".join(" " if word.kind == "space" else word.meant for word in words)
    return [*first, Token("atom", encoded_words(text)), *(last or [Token("space", " ")])]


def missing_fields(
    header: bytes, *, now: float, hostname: str, queue_id: str, author: Address | None, charset: str
) -> bytes:
    """The fields that a submitted mail lacks, each with its CRLF.

    :param author: for a From field, if there is none; ``None``: do not make one.
    :param charset: of a body with octets above 127 about which the header says nothing; ``""``: say nothing either.
    """
    added = b""
    if not has(header, b"Date"):
        added += date_field(now)  # RFC 6409 section 8.2
    if not has(header, b"Message-ID"):
        added += message_id(hostname, queue_id)  # RFC 6409 section 8.3
    if author is not None and not has(header, b"From"):
        added += field("From", str(author))
    if charset:
        added += field("MIME-Version", "1.0")
        added += field("Content-Type", f"text/plain; charset={charset}")
        added += field("Content-Transfer-Encoding", "8bit")
    return added


def says_nothing_of_mime(header: bytes) -> bool:
    """True when nothing tells how the body is to be read (RFC 2045 section 5.2 takes it for ASCII then)."""
    return not any(has(header, name) for name in _MIME)
