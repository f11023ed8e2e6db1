"""What is said through the control socket: one JSON object a line, in both directions.

A request is ``{"command": "queue.hold", …}``. Its reply is any number of item lines, which have no ``ok``, and then one
line that has: ``{"ok": true, …}``, or ``{"ok": false, "error": "a sentence"}``. Lines are ASCII. An order for many
mails is carried out a page at a time: its last line says ``behind`` which queue id the next page begins, ``null`` at
the end. This module knows no Twisted: the command line imports it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from twisted_mail_node.message.address import Address
from twisted_mail_node.settings_problems import Misspelt
from twisted_mail_node.settings_spelling import address as parse_address
from twisted_mail_node.spool.mail import Filter, State

#: The socket's name below ``state_dir``.
SOCKET_NAME = "control.sock"
#: Octets of a request: room for ``IDS_AT_ONCE`` queue ids.
REQUEST_MAX = 64 * 1024
#: Queue ids in one request, and mails in one page of an order for many: a reactor turn of some milliseconds.
IDS_AT_ONCE = 500
#: Characters of one queue id or filter: an address has at most 320.
TEXT_MAX = 400
#: Causes in one filter: there are about a hundred.
CAUSES_MAX = 500
#: Mails one listing takes: they lie in memory meanwhile, about 2 KiB each.
MAILS_MAX = 100_000
#: Octets of a mail's header that ``show`` prints.
HEADER_MAX = 64 * 1024
#: Mails whose headers one request may ask for: each may take ``HEADER_MAX`` octets of memory.
HEADERS_AT_ONCE = 50
#: Octets of a mail in one answer.
CONTENT_AT_ONCE = 256 * 1024
#: Seconds since the epoch that nobody means: the year 5138.
TIME_MAX = 1e11
#: Groups one tally names.
GROUPS_MAX = 10_000

Shape = dict[str, Any]
#: What is done to mails. ``fail`` removes them, and their senders are told.
Order = Literal["hold", "release", "retry", "remove", "fail", "reroute"]
#: What recipients are counted by.
By = Literal["destination", "cause", "kind", "age", "sender", "state"]
BY: tuple[By, ...] = ("destination", "cause", "kind", "age", "sender", "state")


class RequestError(ValueError):
    """The request cannot be understood; the sentence says why."""


def encode(message: Mapping[str, object]) -> bytes:
    """One line."""
    return json.dumps(message, separators=(",", ":"), default=str).encode("ascii") + b"\n"


def decode(line: bytes) -> Shape:
    """The object in a line.

    :raises RequestError: it is none.
    """
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        raise RequestError("the line is not JSON") from None
    if not isinstance(message, dict):
        raise RequestError("the line is not a JSON object")
    return message


def text_from(message: Shape, key: str, needed: bool = False) -> str:
    """A short text in a request.

    :raises RequestError: it is none, or too long, or missing though it is needed.
    """
    value = message.get(key, "")
    if not _is_text(value):
        raise RequestError(f"{key!r} must be a text of at most {TEXT_MAX} characters")
    if needed and not value:
        raise RequestError(f"{key!r} is missing")
    return str(value)


def _is_text(value: object) -> bool:
    """A text that is not too long, and that the spool can look for: half a character cannot be written in UTF-8."""
    return isinstance(value, str) and len(value) <= TEXT_MAX and not any("\ud800" <= sign <= "\udfff" for sign in value)


def number_from(message: Shape, key: str, default: int, least: int, most: int) -> int:
    """A whole number in a request.

    :raises RequestError: it is none, or out of its bounds.
    """
    value = message.get(key, default)
    if type(value) is not int or not least <= value <= most:
        raise RequestError(f"{key!r} must be a number from {least} to {most}")
    return value


def _texts(message: Shape, key: str, most: int, what: str) -> tuple[str, ...]:
    value = message.get(key, [])
    if not isinstance(value, list) or len(value) > most or not all(map(_is_text, value)):
        raise RequestError(f"{key!r} must be a list of at most {most} {what}")
    return tuple(value)


def time_from(message: Shape, key: str) -> float:
    """A time in a request, in seconds since the epoch; 0 where there is none.

    :raises RequestError: it is none.
    """
    value = message.get(key, 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < TIME_MAX:
        raise RequestError(f"{key!r} must be a time: seconds since the epoch")
    return float(value)


def address_from(message: Shape, key: str) -> Address:
    """An address in a request.

    :raises RequestError: it is none, or missing.
    """
    text = text_from(message, key, needed=True)
    try:
        return parse_address(text)
    except Misspelt as error:
        hint = f"; {error.hint}" if error.hint else ""
        raise RequestError(f"{key!r} must be an address such as joe@example.org, not {text!a}{hint}") from None


def filter_from(message: Shape) -> Filter:
    """The filter in a request: ``ids``, ``destination``, ``sender``, ``recipient``, ``state``, ``limit``, ``causes``,
    ``accepted_after``, ``accepted_before``.

    :raises RequestError: a value is of the wrong kind.
    """
    ids = _texts(message, "ids", IDS_AT_ONCE, "queue ids")
    limit = number_from(message, "limit", 1000, 1, MAILS_MAX)
    state = text_from(message, "state").upper()
    if state and state not in State.__members__:
        raise RequestError("'state' must be one of active, delayed, held, finished")
    return Filter(
        ids,
        text_from(message, "destination"),
        text_from(message, "sender"),
        text_from(message, "recipient"),
        State[state] if state else None,
        limit,
        _texts(message, "causes", CAUSES_MAX, "causes"),
        time_from(message, "accepted_after"),
        time_from(message, "accepted_before"),
    )


def filter_as_shape(wanted: Filter) -> Shape:
    """What ``filter_from`` reads; empty fields are left out."""
    shape: Shape = {"limit": wanted.limit}
    if wanted.queue_ids:
        shape["ids"] = list(wanted.queue_ids)
    for key in ("destination", "sender", "recipient"):
        if getattr(wanted, key):
            shape[key] = getattr(wanted, key)
    if wanted.state is not None:
        shape["state"] = wanted.state.name.lower()
    if wanted.causes:
        shape["causes"] = list(wanted.causes)
    for key in ("after", "before"):
        if getattr(wanted, key):
            shape[f"accepted_{key}"] = getattr(wanted, key)
    return shape


def by_from(message: Shape) -> By:
    """What a tally is asked for.

    :raises RequestError: it is nothing that we count by.
    """
    for by in BY:
        if message.get("by", "destination") == by:
            return by
    raise RequestError(f"'by' must be one of {', '.join(BY)}")
