"""The part of a DSN that returns the mail it is about: all of it, or its header section (RFC 3461 section 6.2)."""

from __future__ import annotations

from twisted_mail_node.message.dsn_values import Part
from twisted_mail_node.message.encoding import quoted_printable, transfer
from twisted_mail_node.message.envelope import Envelope
from twisted_mail_node.message.status import Action

#: RET=FULL returns the whole mail up to here (RFC 3461 section 6.2 lets us set a bound): bounces of large mails must
#: not double the traffic of those who forge senders.
FULL_MAX = 65_536
#: Octets of the original header that are returned; a header may have a megabyte.
HEADERS_MAX = 65_536

_DESCRIPTIONS = {
    Action.FAILED: "mail that was not delivered",
    Action.DELAYED: "mail that is delayed",
    Action.DELIVERED: "mail that was delivered",
    Action.RELAYED: "mail that was passed on",
    Action.EXPANDED: "mail that was passed on",
}


def returned(kind: Action, envelope: Envelope, header: bytes, original: bytes | None, wide: bool) -> Part:
    """RFC 3461 section 6.2: all of it for RET=FULL and a failure, where that can be; else its header section."""
    world = envelope.smtputf8 and not header.isascii() and _is_utf8(header)
    full = envelope.ret == "FULL" and not envelope.require_tls  # RFC 8689 section 5: RET=FULL is disregarded
    if original is not None and full and kind is Action.FAILED and len(original) <= FULL_MAX:
        encoding = transfer(original)
        if encoding != "binary":
            description = f"The {_DESCRIPTIONS[kind]}"
            if not world:
                return Part("message/rfc822", encoding, description, original)
            if wide:
                return Part("message/global", encoding, description, original)
            return Part("message/global", "quoted-printable", description, quoted_printable(original))
    short = _shortened(header)
    description = (
        f"{'Header' if len(short) + 2 >= len(header) else 'Beginning of the header'} of the {_DESCRIPTIONS[kind]}"
    )
    encoding = transfer(short)
    if encoding == "7bit":
        return Part("text/rfc822-headers", "7bit", description, short)
    media_type = "message/global-headers" if world else "text/rfc822-headers"
    if world and wide and encoding == "8bit":
        return Part(media_type, "8bit", description, short)
    return Part(media_type, "quoted-printable", description, quoted_printable(short))


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _shortened(header: bytes) -> bytes:
    """Without the empty line at its end, and without the lines that are too much."""
    if len(header) > HEADERS_MAX:
        cut = header.rfind(b"\r\n", 0, HEADERS_MAX)
        header = header[: cut if cut > 0 else HEADERS_MAX]
    header = header.rstrip(b"\r\n")
    return header + b"\r\n" if header else b""
