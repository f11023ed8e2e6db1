"""Trace fields: what we put before the content of a mail (RFC 5321 section 4.4), and the dates and ids we make.

All of it is built from values that are safe or made safe here: a HELO or an address never begins a line of its own.
"""

from __future__ import annotations

import re
import time
from functools import lru_cache

from twisted_mail_node.message import header as _header
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.encoding import LINE_MAX, one_line

#: RFC 5321 section 4.5.3.1.2: a domain has at most 255 octets; a longer HELO is cut.
HELO_MAX = 255
#: Octets of a comment of ours (TLS version and the like); more would not fit one line.
COMMENT_MAX = 500

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NOT_IN_DOMAIN = re.compile(r"[^A-Za-z0-9.:_\[\]-]")
_NOT_IN_COMMENT = re.compile(r"[^ !-'*-\[\]-~]")
_NOT_IN_ID = re.compile(r"[^A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]")

_second = -1
_date = ""


def date(when: float) -> str:
    """``when`` (seconds since the epoch) as RFC 5322 section 3.3 writes it: ``Tue, 05 Mar 2024 10:11:12 +0000``.

    UTC on purpose: one zone for every log and every host, and no summer time. Kept for the second it is made in.
    """
    global _second, _date
    second = int(when)
    if second != _second:
        year, month, day, hour, minute, sec, weekday, _, _ = time.gmtime(second)
        _date = f"{_DAYS[weekday]}, {day:02d} {_MONTHS[month - 1]} {year:04d} {hour:02d}:{minute:02d}:{sec:02d} +0000"
        _second = second
    return _date


def literal(client: str) -> str:
    """An IP address in text as an address literal (RFC 5321 section 4.1.3): ``[192.0.2.1]``, ``[IPv6:2001:db8::1]``."""
    safe = _NOT_IN_DOMAIN.sub("?", client)
    return f"[IPv6:{safe}]" if ":" in safe else f"[{safe}]"


@lru_cache(maxsize=1024)
def _from(helo: str, client: str) -> str:
    if not client:
        return ""
    name = _NOT_IN_DOMAIN.sub("?", helo[:HELO_MAX]) or literal(client)
    return f"from {name} ({literal(client)})\r\n\t"


@lru_cache(maxsize=64)
def _comment(extra: str) -> str:
    return f" ({_NOT_IN_COMMENT.sub('?', extra[:COMMENT_MAX])})" if extra else ""


def received(
    *,
    hostname: str,
    helo: str,
    client: str,
    protocol: str,
    queue_id: str,
    recipient: Address | None,
    when: float,
    extra: str = "",
    priority: int = 0,
) -> bytes:
    """The time-stamp line of RFC 5321 section 4.4, ``Received:`` with its CRLF.

    :param hostname: ours, from the settings.
    :param helo: what the client called itself; what no domain or address literal holds becomes ``?``.
    :param client: its IP address as text; ``""`` leaves the from-clause out (mail we made ourselves).
    :param protocol: of RFC 3848 or RFC 6531 (``ESMTPS``, ``UTF8SMTP``); ``""`` leaves the with-clause out.
    :param recipient: for the for-clause: give it only when the mail has exactly one (RFC 5321 section 7.2), else
        ``None``. One outside ASCII is named only in a mail that came with SMTPUTF8.
    :param when: seconds since the epoch.
    :param extra: a comment behind the with-clause, such as the TLS version.
    :param priority: MT-PRIORITY of the mail, for the PRIORITY clause that RFC 6710 registers; 0 leaves it out.
    """
    for_clause = ""
    if recipient is not None:
        path = str(recipient)
        if not (path.isascii() and path.isprintable()):
            path = one_line(path) if protocol.startswith("UTF8") else ""
        if path and len(path) < LINE_MAX // 2:
            for_clause = f"\r\n\tfor <{path}>"
    with_clause = f" with {protocol}" if protocol else ""
    comment = _comment(extra) if extra else ""
    clauses = f"by {hostname}{with_clause}{comment} id {queue_id}{for_clause}"
    if priority:
        clauses += f"\r\n\tPRIORITY {priority}"
    return f"Received: {_from(helo, client)}{clauses}; {date(when)}\r\n".encode()


def return_path(address: Address | None) -> bytes:
    """``Return-Path:`` with its CRLF (RFC 5321 section 4.4); ``None`` is the null reverse-path ``<>``."""
    return b"Return-Path: <>\r\n" if address is None else f"Return-Path: <{one_line(str(address))}>\r\n".encode()


def delivered_to(address: Address) -> bytes:
    """``Delivered-To:`` with its CRLF (RFC 9228): the recipient at final delivery."""
    return f"Delivered-To: {one_line(str(address))}\r\n".encode()


def date_field(when: float) -> bytes:
    """``Date:`` with its CRLF (RFC 5322 section 3.6.1), for a mail submitted without one (RFC 6409 section 8.2)."""
    return f"Date: {date(when)}\r\n".encode("ascii")


def message_id(hostname: str, unique: str) -> bytes:
    """``Message-ID:`` with its CRLF (RFC 5322 section 3.6.4). ``unique`` is never used twice on this host."""
    return f"Message-ID: <{_NOT_IN_ID.sub('-', unique)}@{_NOT_IN_DOMAIN.sub('-', hostname)}>\r\n".encode("ascii")


def without_return_path(header: bytes) -> bytes:
    """The header section of content without Return-Path fields, for final delivery, which adds its own: exactly one
    shall stand there (RFC 5321 section 4.4). Gives the same object when there is none, which is nearly always."""
    return _header.without(header, b"Return-Path")
