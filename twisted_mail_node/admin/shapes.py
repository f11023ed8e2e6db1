"""How mails look in JSON, through the control socket and to programs; and which of them an order for many goes to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted_mail_node.admin.messages import HEADER_MAX, Order, Shape
from twisted_mail_node.message.cause import understand
from twisted_mail_node.spool.mail import Attempt, Entry, Mail, State

if TYPE_CHECKING:
    from twisted_mail_node.message.status import DeliveryStatus

#: Orders that let mails be tried now: these look at each mail before they take it. (What is sent another way the
#: spool itself leaves waiting where its sender or an operator holds it.)
MAKE_DUE: tuple[Order, ...] = ("retry", "release")


def chosen(order: Order, mails: Sequence[Mail], now: float) -> list[str]:
    """The queue ids an order for many goes to. ``retry`` leaves alone what is held: that takes ``release``. Nothing is
    sent early that its sender holds back: that takes its queue id.

    :param now: seconds since the epoch.
    """
    if order == "retry":
        mails = [mail for mail in mails if not any(entry.state is State.HELD for entry in mail.entries)]
    if order in MAKE_DUE:
        mails = [mail for mail in mails if not is_held_back(mail, now)]
    return [mail.queue_id for mail in mails]


def is_held_back(mail: Mail, now: float) -> bool:
    """True until the time comes that the sender named (RFC 4865), unless an operator has sent it early."""
    return mail.envelope.release_at > now and not any(entry.attempts for entry in mail.entries)


def cause_of(entry: Entry) -> str:
    """The code of the cause a recipient waits for; ``""`` before the first attempt."""
    return entry.cause or (understand(entry.last).code if entry.last is not None else "")


def attempt_as_shape(attempt: Attempt) -> Shape:
    """An attempt as JSON shows it."""
    return {
        "when": attempt.when,
        "number": attempt.number,
        "destination": attempt.destination,
        **_status_as_shape(attempt.status),
        "cause": understand(attempt.status).code,
    }


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
        "cause": cause_of(entry),
        "next_hop": entry.next_hop,
        "last": _status_as_shape(entry.last) if entry.last is not None else None,
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


def read_content(mail: Mail, offset: int, size: int) -> bytes:
    """A piece of the mail as it will be passed on: our trace fields, then its content. Blocks on the disk.

    :raises OSError: the content cannot be read.
    """
    header, content = mail.header, mail.content
    piece = header[offset : offset + size]
    at, left = max(0, offset - len(header)), size - len(piece)
    if not left:
        return piece
    if content.path is not None:
        with open(content.path, "rb") as file:
            file.seek(at)
            return piece + file.read(left)
    rest = b"".join(content.blocks()) if content.octets is None else content.octets
    return piece + rest[at : at + left]
