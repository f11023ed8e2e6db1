"""Follows one mail through the node: by the event log where it is a file, else by looking at the queue."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from twisted_mail_node.admin.mails import NodeMails
from twisted_mail_node.admin.messages import Shape
from twisted_mail_node.spool.mail import Filter

#: Seconds between two looks at the log; its lines are at most 0.1 s late.
LOOK_EVERY = 0.02
#: Seconds between two looks at the queue.
ASK_EVERY = 0.25
#: Octets of the log read in one look.
READ_MAX = 1 << 20


class Step(NamedTuple):
    """Something that happened to the mail.

    :ivar when: seconds since the epoch.
    :ivar kind: the event's name (``recipient-delivered``, ``mail-finished`` …).
    :ivar facts: the event's fields.
    """

    when: float
    kind: str
    facts: Shape


class EventLogTail:
    """What is written to the event log from now on.

    :param path: the log; may not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rest = b""
        try:
            self._at = path.stat().st_size
        except OSError:
            self._at = 0

    def new(self) -> Iterator[Step]:
        """The lines that came since the last look. A line that is not JSON is passed over."""
        try:
            with open(self._path, "rb") as file:
                file.seek(self._at)
                octets = file.read(READ_MAX)
        except OSError:
            return
        self._at += len(octets)
        *lines, self._rest = (self._rest + octets).split(b"\n")
        for line in lines:
            try:
                event = json.loads(line)
                when = datetime.fromisoformat(event["time"]).timestamp()
                yield Step(when, event["event"], event)
            except (ValueError, KeyError, TypeError):
                continue


def by_log(tail: EventLogTail, queue_id: str, until: float, sleep: Callable[[float], None]) -> Iterator[Step]:
    """The steps of a mail until it is finished, or until the time (seconds since the epoch) is over."""
    while True:
        for step in tail.new():
            if step.facts.get("queue_id") == queue_id:
                yield step
                if step.kind == "mail-finished":
                    return
        if time.time() >= until:
            return
        sleep(LOOK_EVERY)


def by_queue(mails: NodeMails, queue_id: str, until: float, sleep: Callable[[float], None]) -> Iterator[Step]:
    """The same by asking the node: only delays, and that it is gone, can be seen so."""
    attempts: dict[str, int] = {}
    while True:
        found = mails.find(Filter((queue_id,)))
        if not found:
            yield Step(time.time(), "mail-finished", {"queue_id": queue_id})
            return
        for recipient in found[0]["recipients"]:
            last, address = recipient["last"], recipient["recipient"]
            if recipient["state"] == "held" and address not in attempts:
                attempts[address] = 0
                yield Step(time.time(), "mail-held", {"words": "it waits until somebody releases it"})
            if last and recipient["due"] is not None and attempts.get(address) != recipient["attempts"]:
                attempts[address] = recipient["attempts"]
                facts = {**last, "recipient": address, "due": recipient["due"], "host": last["remote_host"]}
                yield Step(time.time(), "recipient-delayed", facts)
        if time.time() >= until:
            return
        sleep(ASK_EVERY)
