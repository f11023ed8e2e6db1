"""Delivery status notifications (RFC 3461 section 6, RFC 3464, RFC 6522, RFC 6533), built from values.

``build`` makes the whole content of a DSN: a part for a person (``dsn_person``), a part for a program
(``dsn_program``), and the header (or all) of the mail it is about (``dsn_returned``). The same values give the same
octets. Whatever others said stands in it made safe: a reply or an address never begins a line of its own, nor ends a
part.

A DSN that goes to an ASCII address asks as little of the way back as can be: addresses and header fields outside ASCII
are carried in 7-bit encodings (RFC 6533 section 4.5). Only an address outside ASCII makes an SMTPUTF8 mail of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from twisted_mail_node.message import header as fields
from twisted_mail_node.message import trace
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.dsn_person import for_person
from twisted_mail_node.message.dsn_program import for_program
from twisted_mail_node.message.dsn_returned import FULL_MAX, HEADERS_MAX, returned
from twisted_mail_node.message.dsn_values import WORDS_MAX, Outcome, Part
from twisted_mail_node.message.encoding import phrase
from twisted_mail_node.message.envelope import Body, Envelope
from twisted_mail_node.message.status import Action

__all__ = ["FULL_MAX", "HEADERS_MAX", "WORDS_MAX", "Notification", "Outcome", "build", "kind_of"]

_MESSAGE_ID = re.compile(rb"<[!-;=?-~]{1,120}@[!-;=?-~]{1,120}>\Z")
_NOT_IN_BOUNDARY = re.compile(r"[^A-Za-z0-9]")

_SUBJECTS = {
    Action.FAILED: "Your mail could not be delivered",
    Action.DELAYED: "Your mail is delayed",
    Action.DELIVERED: "Your mail was delivered",
    Action.RELAYED: "Your mail was passed on",
    Action.EXPANDED: "Your mail was passed on",
}
_NOT_RETURNED = "A mail could be neither delivered nor returned"
#: What a DSN about several outcomes is called, the first of these that is among them.
_KINDS = (Action.FAILED, Action.DELAYED, Action.DELIVERED, Action.EXPANDED, Action.RELAYED)


class Notification(NamedTuple):
    """A DSN, ready for the queue.

    :ivar content: header and body, CRLF line ends.
    :ivar body: what its envelope says in BODY.
    :ivar smtputf8: its own header needs SMTPUTF8 (RFC 6531).
    """

    content: bytes
    body: Body
    smtputf8: bool


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
    postmaster: Address | None = None,
) -> Notification:
    """The DSN about one mail.

    :param hostname: ours, the Reporting-MTA.
    :param queue_id: of the DSN itself; its Message-ID and boundary come from it.
    :param when: now, seconds since the epoch.
    :param envelope: of the mail it is about; its reverse-path, which is not null, gets the DSN.
    :param arrived: when that mail was accepted.
    :param outcomes: at least one. ``kind_of`` tells what the DSN is called.
    :param header: trace fields and header section of that mail, as ``header.border`` means it; ``b""`` when lost.
    :param original: trace fields and whole content of that mail, where it lies in memory. It is returned only when
        the envelope says RET=FULL and not REQUIRETLS, a recipient failed, and it has at most ``FULL_MAX`` octets of
        text.
    :param original_queue_id: our name of that mail, for the person who asks a postmaster.
    :param postmaster: gets it instead, for the mail can be returned to nobody.
    :raises ValueError: no outcome, or nobody to tell: a null reverse-path (RFC 5321 section 6.1: never a DSN for a DSN)
        and no postmaster.
    """
    to = postmaster or envelope.reverse_path
    if to is None or not outcomes:
        raise ValueError("a DSN needs a reverse-path that is not null, and a recipient to speak of")
    wide = not to.is_ascii
    kind = kind_of(outcomes)
    parts = [
        for_person(hostname, kind, outcomes, original_queue_id, returned=postmaster is not None),
        for_program(hostname, arrived, envelope, outcomes, wide),
    ]
    third = returned(kind, envelope, header, original, wide)
    if third.octets:
        parts.append(third)
    boundary = _boundary(queue_id, parts)
    eight = any(part.encoding == "8bit" for part in parts)
    automatic = b"auto-replied" if postmaster is None else b"auto-generated"
    top = [
        fields.field("From", f"{phrase('Mail Delivery System')} <mailer-daemon@{hostname}>"),
        fields.field("To", f"<{to}>", smtputf8=wide),
        fields.field("Subject", _SUBJECTS[kind] if postmaster is None else _NOT_RETURNED),
        trace.date_field(when),
        trace.message_id(hostname, f"{queue_id}.{int(when)}"),
        *_references(header),
        b"Auto-Submitted: " + automatic + b"\r\nMIME-Version: 1.0\r\n",
        f'Content-Type: multipart/report; report-type=delivery-status;\r\n boundary="{boundary}"\r\n'.encode("ascii"),
        b"Content-Transfer-Encoding: 8bit\r\n" if eight else b"",
    ]
    mark = f"--{boundary}".encode("ascii")
    body = [b"\r\nThis is a report in several parts, as RFC 3464 describes it.\r\n\r\n"]
    for part in parts:
        body += (mark, b"\r\n", _part_header(part), b"\r\n", part.octets, b"\r\n")
    return Notification(b"".join((*top, *body, mark, b"--\r\n")), "8BITMIME" if eight or wide else "7BIT", wide)


def kind_of(outcomes: Sequence[Outcome]) -> Action:
    """What a DSN about these tells first: a failure, else a delay, else that something was done."""
    actions = {outcome.status.action for outcome in outcomes}
    return next((action for action in _KINDS if action in actions), Action.DELIVERED)


def _references(header: bytes) -> list[bytes]:
    found = fields.first(header, b"Message-ID")
    if found is None or not _MESSAGE_ID.match(found):
        return []
    return [b"In-Reply-To: ", found, b"\r\nReferences: ", found, b"\r\n"]


def _boundary(queue_id: str, parts: Sequence[Part]) -> str:
    """A line that is in no part (RFC 2046 section 5.1.1): who knows our queue ids may send them to us."""
    name = _NOT_IN_BOUNDARY.sub("", queue_id)[:40]
    number = 0
    while True:
        boundary = f"=_{name}_{number}"
        if not any(boundary.encode("ascii") in part.octets for part in parts):
            return boundary
        number += 1


def _part_header(part: Part) -> bytes:
    return (
        f"Content-Type: {part.kind}\r\nContent-Description: {part.description}\r\n"
        f"Content-Transfer-Encoding: {part.encoding}\r\n"
    ).encode("ascii")
