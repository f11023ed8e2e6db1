"""Delivery status notifications (RFC 3461 section 6, RFC 3464, RFC 6522, RFC 6533), built from values.

``build`` makes the whole content of a DSN: a part for a person, a part for a program, and the header (or all) of the
mail it is about. The same values give the same octets. Whatever others said stands in it made safe: a reply or an
address never begins a line of its own, nor ends a part.

A DSN that goes to an ASCII address asks as little of the way back as can be: addresses and header fields outside ASCII
are carried in 7-bit encodings (RFC 6533 section 4.5). Only an address outside ASCII makes an SMTPUTF8 mail of it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from twisted_mail_node.message import header as fields
from twisted_mail_node.message import trace
from twisted_mail_node.message.encoding import one_line, phrase, quoted_printable, transfer, unitext
from twisted_mail_node.message.envelope import Body, Envelope, Recipient
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.reasons import Reason

#: RET=FULL returns the whole mail up to here (RFC 3461 section 6.2 lets us set a bound): bounces of large mails must
#: not double the traffic of those who forge senders.
FULL_MAX = 65_536
#: Octets of the original header that are returned; a header may have a megabyte.
HEADERS_MAX = 65_536
#: Characters of what a host said that are repeated, twice for each recipient; replies of thousands of lines exist.
WORDS_MAX = 2_000
#: Text lines for a person are this wide.
WIDTH = 76

_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}\Z")
_STATUS_UNKNOWN = {Action.FAILED: "5.0.0", Action.DELAYED: "4.0.0"}
_NOT_IN_HOST = re.compile(r"[^A-Za-z0-9.:_\[\]-]")
_IP = re.compile(r"[0-9]+(?:\.[0-9]+){3}\Z|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+\Z")
_MESSAGE_ID = re.compile(rb"<[!-;=?-~]{1,120}@[!-;=?-~]{1,120}>\Z")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_NOT_IN_BOUNDARY = re.compile(r"[^A-Za-z0-9]")

_SUBJECTS = {
    Action.FAILED: "Your mail could not be delivered",
    Action.DELAYED: "Your mail is delayed",
    Action.DELIVERED: "Your mail was delivered",
}
_OPENINGS = {
    Action.FAILED: "Your mail could not be delivered to the recipients named below, and we have given up on them. "
    "Recipients who are not named here are not affected.",
    Action.DELAYED: "Your mail could not be delivered to the recipients named below yet. We go on trying; "
    "you need not send it again.",
    Action.DELIVERED: "You asked to be told: your mail has reached the recipients named below.",
}
_DESCRIPTIONS = {
    Action.FAILED: "mail that was not delivered",
    Action.DELAYED: "mail that is delayed",
    Action.DELIVERED: "mail that was delivered",
}
_OUTCOMES = {
    Action.DELIVERED: "The mail lies in the mailbox.",
    Action.RELAYED: "The mail was passed on to a host that may not report on it: you will hear no more from us.",
    Action.EXPANDED: "The mail was passed on to the addresses behind this one.",
}
#: What the sender can do, by the subject and detail of the status (RFC 3463), else by the subject alone.
_ADVICE = {
    "1": "Check the address for typing errors. If it is right, ask the recipient for a new one in another way.",
    "2": "The recipient's mailbox does not take mail now. Tell the recipient in another way, or try again later.",
    "2.2": "The recipient's mailbox is full. Tell the recipient in another way, or try again later.",
    "2.3": "The mail is too large for the recipient. Send less, or share it in another way.",
    "3": "The recipient's mail system does not take this mail now. Try again later.",
    "3.4": "The mail is too large for the recipient's mail system. Send less, or share it in another way.",
    "4": "Check the part of the address behind the @. If it is right, the recipient's mail system was not reached: "
    "try again later.",
    "4.6": "The mail went in a circle between mail systems, which only a postmaster can mend: send yours this report.",
    "5": "The two mail systems did not understand each other. Send this report to your postmaster.",
    "6": "The recipient's mail system cannot take mail in this form. Send it as plain text without attachments.",
    "6.7": "The recipient's mail system does not know addresses with characters outside ASCII. "
    "Use an address without them.",
    "7": "The recipient's mail system does not want this mail; its words say why. Send them to its postmaster, "
    "or reach the recipient in another way.",
}
_ADVICE_ELSE = "Try again later, or send this report to your postmaster."


class Outcome(NamedTuple):
    """One recipient in a DSN.

    :ivar will_retry_until: for a delayed one, when we give up (seconds since the epoch), ``None`` when not known.
    """

    recipient: Recipient
    status: DeliveryStatus
    will_retry_until: float | None = None


class Notification(NamedTuple):
    """A DSN, ready for the queue.

    :ivar content: header and body, CRLF line ends.
    :ivar body: what its envelope says in BODY.
    :ivar smtputf8: its own header needs SMTPUTF8 (RFC 6531).
    """

    content: bytes
    body: Body
    smtputf8: bool


class _Part(NamedTuple):
    kind: str
    encoding: str
    description: str
    octets: bytes


def build(
    *,
    hostname: str,
    queue_id: str,
    when: float,
    envelope: Envelope,
    arrived: float,
    outcomes: Sequence[Outcome],
    header: bytes,
    original: bytes | None = None,
    original_queue_id: str = "",
) -> Notification:
    """The DSN about one mail.

    :param hostname: ours, the Reporting-MTA.
    :param queue_id: of the DSN itself; its Message-ID and boundary come from it.
    :param when: now, seconds since the epoch.
    :param envelope: of the mail it is about; its reverse-path, which is not null, gets the DSN.
    :param arrived: when that mail was accepted.
    :param outcomes: at least one. If one failed it is a DSN of failure, else if one is delayed of delay.
    :param header: trace fields and header section of that mail, as ``header.border`` means it; ``b""`` when lost.
    :param original: trace fields and whole content of that mail, where it lies in memory. It is returned only when
        the envelope says RET=FULL and not REQUIRETLS, a recipient failed, and it has at most ``FULL_MAX`` octets of
        text.
    :param original_queue_id: our name of that mail, for the person who asks a postmaster.
    :raises ValueError: no outcome, or a null reverse-path (RFC 5321 section 6.1: never a DSN for a DSN).
    """
    to = envelope.reverse_path
    if to is None or not outcomes:
        raise ValueError("a DSN needs a reverse-path that is not null, and a recipient to speak of")
    wide = not to.is_ascii
    kind = _kind(outcomes)
    parts = [
        _for_person(hostname, kind, outcomes, original_queue_id),
        _for_program(hostname, when, arrived, envelope, outcomes, wide),
    ]
    returned = _returned(kind, envelope, header, original, wide)
    if returned.octets:
        parts.append(returned)
    boundary = _boundary(queue_id, parts)
    eight = any(part.encoding == "8bit" for part in parts)
    top = [
        fields.field("From", f"{phrase('Mail Delivery System')} <mailer-daemon@{hostname}>"),
        fields.field("To", f"<{to}>", smtputf8=wide),
        fields.field("Subject", _SUBJECTS[kind]),
        trace.date_field(when),
        trace.message_id(hostname, f"{queue_id}.{int(when)}"),
        *_references(header),
        b"Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n",
        f'Content-Type: multipart/report; report-type=delivery-status;\r\n boundary="{boundary}"\r\n'.encode("ascii"),
        b"Content-Transfer-Encoding: 8bit\r\n" if eight else b"",
    ]
    mark = f"--{boundary}".encode("ascii")
    body = [b"\r\nThis is a report in several parts, as RFC 3464 describes it.\r\n\r\n"]
    for part in parts:
        body += (mark, b"\r\n", _part_header(part), b"\r\n", part.octets, b"\r\n")
    return Notification(b"".join((*top, *body, mark, b"--\r\n")), "8BITMIME" if eight or wide else "7BIT", wide)


def _kind(outcomes: Sequence[Outcome]) -> Action:
    actions = {outcome.status.action for outcome in outcomes}
    return next((action for action in (Action.FAILED, Action.DELAYED) if action in actions), Action.DELIVERED)


def _references(header: bytes) -> list[bytes]:
    found = fields.first(header, b"Message-ID")
    if found is None or not _MESSAGE_ID.match(found):
        return []
    return [b"In-Reply-To: ", found, b"\r\nReferences: ", found, b"\r\n"]


def _boundary(queue_id: str, parts: Sequence[_Part]) -> str:
    """A line that is in no part (RFC 2046 section 5.1.1): who knows our queue ids may send them to us."""
    name = _NOT_IN_BOUNDARY.sub("", queue_id)[:40]
    number = 0
    while True:
        boundary = f"=_{name}_{number}"
        if not any(boundary.encode("ascii") in part.octets for part in parts):
            return boundary
        number += 1


def _part_header(part: _Part) -> bytes:
    return (
        f"Content-Type: {part.kind}\r\nContent-Description: {part.description}\r\n"
        f"Content-Transfer-Encoding: {part.encoding}\r\n"
    ).encode("ascii")


# The part for a person


def _for_person(hostname: str, kind: Action, outcomes: Sequence[Outcome], original_queue_id: str) -> _Part:
    blocks = [f"This is the mail system of {hostname}.", _filled(_OPENINGS[kind])]
    blocks += dict.fromkeys(_told(outcome) for outcome in outcomes)  # an alias of many may fail in one way
    name = f", and name the mail {one_line(original_queue_id)}" if original_queue_id else ""
    blocks.append(_filled(f"If you need help, write to postmaster@{hostname}{name}."))
    text = "\n\n".join(blocks) + "\n"
    octets = text.replace("\n", "\r\n").encode("utf-8")
    encoding = transfer(octets)
    if encoding == "7bit":
        return _Part("text/plain; charset=us-ascii", "7bit", "What happened", octets)
    return _Part("text/plain; charset=utf-8", "quoted-printable", "What happened", quoted_printable(octets))


def _told(outcome: Outcome) -> str:
    status = outcome.status
    lines = [f"<{one_line(str(outcome.recipient.original))}>"]
    words = _words(status)
    if status.action in _OUTCOMES:
        lines.append(_filled(_OUTCOMES[status.action], 2))
    elif status.from_remote:
        where = f" ({one_line(status.remote_address)})" if status.remote_address else ""
        lines += [_filled(f"The host {one_line(status.remote_host) or 'there'}{where} said:", 2), _filled(words, 6)]
    else:
        lines.append(_filled(words or status.reason.meaning, 2))
    if status.reason is Reason.NOT_IN_TIME:
        lines.append(_filled("It was to be delivered by a time that has passed, and was not tried after it.", 2))
    if status.action is Action.FAILED:
        lines.append(_filled(f"What you can do: {_advice(_code(status))}", 2))
    if status.action is Action.DELAYED and outcome.will_retry_until is not None:
        lines.append(_filled(f"We go on trying until {trace.date(outcome.will_retry_until)}.", 2))
    return "\n".join(lines)


def _words(status: DeliveryStatus) -> str:
    words = one_line(status.words)
    return words if len(words) <= WORDS_MAX else words[:WORDS_MAX] + "..."


def _advice(code: str) -> str:
    detail = code.partition(".")[2]
    return _ADVICE.get(detail) or _ADVICE.get(detail.partition(".")[0], _ADVICE_ELSE)


def _filled(text: str, indent: int = 0) -> str:
    margin = " " * indent
    return textwrap.fill(
        text, WIDTH, initial_indent=margin, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False
    )


# The part for a program


def _for_program(
    hostname: str, when: float, arrived: float, envelope: Envelope, outcomes: Sequence[Outcome], wide: bool
) -> _Part:
    """RFC 3464 section 2, or RFC 6533 section 4.1 where an address is outside ASCII."""
    world = not all(out.recipient.original.is_ascii and out.recipient.orcpt.isascii() for out in outcomes)
    lines = []
    if envelope.envid:
        lines.append(_status_field("Original-Envelope-Id", _ascii(one_line(envelope.envid))))
    lines.append(_status_field("Reporting-MTA", f"dns; {_host(hostname)}"))
    lines.append(_status_field("Arrival-Date", trace.date(arrived)))
    if envelope.by_mode:  # a field of RFC 2852
        lines.append(_status_field("Deliver-By-Date", trace.date(envelope.deliver_by)))
    blocks = dict.fromkeys(_recipient_fields(outcome, when, world) for outcome in outcomes)
    octets = b"\r\n".join((b"".join(lines), *blocks))
    kind = "message/global-delivery-status" if world else "message/delivery-status"
    encoding = transfer(octets)
    if encoding != "7bit" and not (wide and encoding == "8bit"):
        return _Part(kind, "quoted-printable", "Delivery report", quoted_printable(octets))
    return _Part(kind, encoding, "Delivery report", octets)


def _recipient_fields(outcome: Outcome, when: float, world: bool) -> bytes:
    recipient, status, will_retry_until = outcome
    found: list[bytes] = []
    if recipient.orcpt:
        kind, _, address = one_line(recipient.orcpt).partition(";")
        kind = _NOT_IN_HOST.sub("?", kind) or "unknown"
        if kind.lower() == "utf-8" and not world:
            address = unitext(address)
        found.append(_status_field("Original-Recipient", f"{kind};{address}"))
    # RFC 3464 section 2.3.2: the address as it was when we accepted it. What an alias made of it is not told.
    original = recipient.original
    found.append(_status_field("Final-Recipient", f"{'rfc822' if original.is_ascii else 'utf-8'};{original}"))
    found.append(_status_field("Action", str(status.action)))
    found.append(_status_field("Status", _code(status)))
    if status.remote_host:
        found.append(_status_field("Remote-MTA", f"dns; {_host(status.remote_host)}"))
    words = _words(status)
    if words and status.action in (Action.FAILED, Action.DELAYED):
        kind = "smtp" if status.from_remote else "x-mailnode"
        found.append(_status_field("Diagnostic-Code", f"{kind}; {words if world else _ascii(words)}"))
    found.append(_status_field("Last-Attempt-Date", trace.date(when)))
    if status.action is Action.DELAYED and will_retry_until is not None:
        found.append(_status_field("Will-Retry-Until", trace.date(will_retry_until)))
    return b"".join(found)


def _status_field(name: str, value: str) -> bytes:
    # smtputf8 only says: no encoded-words here. RFC 3464 section 2.1.1 knows none in these fields.
    return fields.field(name, value, smtputf8=True)


def _ascii(text: str) -> str:
    """What is not ASCII written as ``\\x{HEX}``, like RFC 6533 writes it in addresses: RFC 3464 fields are ASCII."""
    return text if text.isascii() else _NOT_ASCII.sub(lambda found: f"\\x{{{ord(found[0]):02X}}}", text)


def _code(status: DeliveryStatus) -> str:
    return status.status if _STATUS.match(status.status) else _STATUS_UNKNOWN.get(status.action, "2.0.0")


def _host(name: str) -> str:
    """A name of name-type ``dns`` (RFC 3464 section 2.1.2): a domain, or an address in brackets."""
    return trace.literal(name) if _IP.match(name) else _NOT_IN_HOST.sub("?", name)


# The mail it is about


def _returned(kind: Action, envelope: Envelope, header: bytes, original: bytes | None, wide: bool) -> _Part:
    """RFC 3461 section 6.2: all of it for RET=FULL and a failure, where that can be; else its header section."""
    world = envelope.smtputf8 and not header.isascii() and _is_utf8(header)
    full = envelope.ret == "FULL" and not envelope.require_tls  # RFC 8689 section 5: RET=FULL is disregarded
    if original is not None and full and kind is Action.FAILED and len(original) <= FULL_MAX:
        encoding = transfer(original)
        if encoding != "binary":
            description = f"The {_DESCRIPTIONS[kind]}"
            if not world:
                return _Part("message/rfc822", encoding, description, original)
            if wide:
                return _Part("message/global", encoding, description, original)
            return _Part("message/global", "quoted-printable", description, quoted_printable(original))
    short = _shortened(header)
    description = (
        f"{'Header' if len(short) + 2 >= len(header) else 'Beginning of the header'} of the {_DESCRIPTIONS[kind]}"
    )
    encoding = transfer(short)
    if encoding == "7bit":
        return _Part("text/rfc822-headers", "7bit", description, short)
    media_type = "message/global-headers" if world else "text/rfc822-headers"
    if world and wide and encoding == "8bit":
        return _Part(media_type, "8bit", description, short)
    return _Part(media_type, "quoted-printable", description, quoted_printable(short))


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
