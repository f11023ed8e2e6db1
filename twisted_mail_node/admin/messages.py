"""What is said through the control socket: one JSON object a line, in both directions.

A request is ``{"command": "queue.hold", …}``. Its reply is any number of item lines, which have no ``ok``, and then one
line that has: ``{"ok": true, …}``, or ``{"ok": false, "error": "a sentence"}``. Lines are ASCII. This module knows no
Twisted: the command line imports it, and shows mails of a node that is down in the same shape.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from twisted_mail_node.spool.mail import Entry, Filter, Mail, State

if TYPE_CHECKING:
    from twisted_mail_node.message.status import DeliveryStatus

#: The socket's name below ``state_dir``.
SOCKET_NAME = "control.sock"
#: Octets of a request: room for ``IDS_AT_ONCE`` queue ids.
REQUEST_MAX = 64 * 1024
#: Queue ids in one request; the command line sends more of them in several.
IDS_AT_ONCE = 500
#: Characters of one queue id or filter: an address has at most 320.
TEXT_MAX = 400
#: Mails one listing or one order for "all" takes: they lie in memory meanwhile, about 2 KiB each.
MAILS_MAX = 100_000
#: Octets of a mail's header that ``show`` prints.
HEADER_MAX = 64 * 1024
#: Mails whose headers one request may ask for: each may take ``HEADER_MAX`` octets of memory.
HEADERS_AT_ONCE = 50

Shape = dict[str, Any]
Order = Literal["hold", "release", "retry", "remove"]


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


def _text(message: Shape, key: str) -> str:
    value = message.get(key, "")
    if not isinstance(value, str) or len(value) > TEXT_MAX:
        raise RequestError(f"{key!r} must be a text of at most {TEXT_MAX} characters")
    return value


def filter_from(message: Shape) -> Filter:
    """The filter in a request: ``ids``, ``destination``, ``sender``, ``recipient``, ``state``, ``limit``.

    :raises RequestError: a value is of the wrong kind.
    """
    ids = message.get("ids", [])
    if (
        not isinstance(ids, list)
        or len(ids) > IDS_AT_ONCE
        or not all(isinstance(one, str) and len(one) <= TEXT_MAX for one in ids)
    ):
        raise RequestError(f"'ids' must be a list of at most {IDS_AT_ONCE} queue ids")
    limit = message.get("limit", 1000)
    if type(limit) is not int or not 1 <= limit <= MAILS_MAX:
        raise RequestError(f"'limit' must be a number from 1 to {MAILS_MAX}")
    state = _text(message, "state").upper()
    if state and state not in State.__members__:
        raise RequestError("'state' must be one of active, delayed, held, finished")
    return Filter(
        tuple(ids),
        _text(message, "destination"),
        _text(message, "sender"),
        _text(message, "recipient"),
        State[state] if state else None,
        limit,
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
    return shape


def chosen(order: Order, mails: Sequence[Mail], now: float) -> list[str]:
    """The queue ids an order for many goes to. ``retry`` leaves alone what is held: that takes ``release``. Neither of
    them sends early what its sender holds back: that takes its queue id.

    :param now: seconds since the epoch.
    """
    if order == "retry":
        mails = [mail for mail in mails if not any(entry.state is State.HELD for entry in mail.entries)]
    if order in ("retry", "release"):
        mails = [mail for mail in mails if not is_held_back(mail, now)]
    return [mail.queue_id for mail in mails]


def is_held_back(mail: Mail, now: float) -> bool:
    """True until the time comes that the sender named (RFC 4865), unless an operator has sent it early."""
    return mail.envelope.release_at > now and not any(entry.attempts for entry in mail.entries)


def _status_as_shape(status: DeliveryStatus) -> Shape:
    return {
        "action": str(status.action),
        "status": status.status,
        "reason": str(status.reason),
        "words": status.words,
        "remote_host": status.remote_host,
        "remote_address": status.remote_address,
        "tls": status.tls,
    }


def _entry_as_shape(entry: Entry) -> Shape:
    recipient = entry.recipient
    shape: Shape = {
        "recipient": str(recipient.address),
        "state": entry.state.name.lower(),
        "attempts": entry.attempts,
        "destination": entry.destination,
        "due": entry.due if entry.state is State.DELAYED else None,
        "told": bool(entry.told),
        "last": _status_as_shape(entry.last) if entry.last is not None else None,
        "cause": entry.cause,
        "next_hop": entry.next_hop,
    }
    if recipient.original != recipient.address:
        shape["original"] = str(recipient.original)
    if recipient.notify:
        shape["notify"] = list(recipient.notify)
    if recipient.orcpt:
        shape["orcpt"] = recipient.orcpt
    return shape


def mail_as_shape(mail: Mail) -> Shape:
    """A mail as JSON shows it; times are seconds since the epoch, sizes are octets."""
    envelope = mail.envelope
    return {
        "queue_id": mail.queue_id,
        "received": mail.received,
        "size": mail.content.size,
        "reverse_path": "" if envelope.reverse_path is None else str(envelope.reverse_path),
        "client": envelope.client,
        "helo": envelope.helo,
        "protocol": envelope.protocol,
        "session": envelope.session,
        "listener": envelope.listener,
        "body": envelope.body,
        "smtputf8": envelope.smtputf8,
        "ret": envelope.ret,
        "envid": envelope.envid,
        "account": envelope.account,
        "tls": envelope.tls,
        "require_tls": envelope.require_tls,
        "release_at": envelope.release_at or None,
        "deliver_by": envelope.deliver_by if envelope.by_mode else None,
        "by_mode": envelope.by_mode,
        "by_trace": envelope.by_trace,
        "priority": envelope.priority,
        "recipients": [_entry_as_shape(entry) for entry in mail.entries],
    }


def read_header(mail: Mail) -> str:
    """The header as it will be passed on: our trace fields, then the content's own, at most ``HEADER_MAX`` octets.

    Blocks on the disk. What is not UTF-8 shows as a replacement character.

    :raises OSError: the content cannot be read.
    """
    content = b""
    for block in mail.content.blocks():
        content += block
        if b"\r\n\r\n" in content or len(content) > HEADER_MAX:
            break
    header = b"" if content.startswith(b"\r\n") else content.partition(b"\r\n\r\n")[0].removesuffix(b"\r\n") + b"\r\n"
    return (mail.header + header)[:HEADER_MAX].decode("utf-8", "replace")
