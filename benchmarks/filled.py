"""Puts many mails into the spool of a node that does not run: what would take minutes by SMTP takes seconds."""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.spool import queueid
from twisted_mail_node.spool.codec import encode_envelope, encode_recipient
from twisted_mail_node.spool.mail import State
from twisted_mail_node.spool.sqlite import NewMail, Store

#: Mails in one transaction.
AT_ONCE = 2000
_HEADER = b"Received: from filled\r\n\tby mx.local.test; Sat, 28 Nov 2026 12:00:00 +0000\r\n"


class Queued(NamedTuple):
    """A mail to put there.

    :ivar age: seconds since it was accepted.
    :ivar due: seconds from now; negative: it was due then.
    """

    recipient: Address
    sender: Address | None = Address("joe", "local.test")
    age: float = 0.0
    due: float = 0.0


def content(size: int) -> bytes:
    """A mail of about ``size`` octets."""
    head = b"From: <joe@local.test>\r\nTo: <u@remote.test>\r\nSubject: filled\r\n\r\n"
    line = b"x" * 70 + b"\r\n"
    return head + line * max(1, (size - len(head)) // len(line))


def fill(spool: Path, mails: Iterable[Queued], size: int) -> int:
    """Put them there, all with the same content; gives how many.

    :param spool: the spool's directory; made when missing.
    :param size: octets of the content.
    """
    octets = content(size)
    store = Store(spool)
    now = time.time()
    count = 0
    number = 0
    try:
        waiting = iter(mails)
        while block := list(islice(waiting, AT_ONCE)):
            rows = []
            for mail in block:
                number += 1
                received = now - mail.age
                queue_id = queueid.at_time(received) + (number << queueid.WORKER_BITS)
                text = encode_envelope(Envelope(mail.sender, client="127.0.0.1", helo="filled", protocol="ESMTP"))
                row = (queue_id, received, text, _HEADER, len(octets), 0, octets)
                recipient = encode_recipient(Recipient(mail.recipient, mail.recipient))
                rows.append(NewMail(row, (recipient,), State.DELAYED, now + mail.due))
            store.transaction(lambda rows=rows: store.insert(rows))  # type: ignore[misc]
            count += len(rows)
    finally:
        store.close()
    return count
