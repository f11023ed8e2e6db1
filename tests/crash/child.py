"""The process that is killed: it works on a spool, says what was promised, and dies at a named step.

``python child.py DIRECTORY STEP TIMES LINE…``: the reactor, the disk and the threads are real. Each LINE is an order
(see ``ORDERS``); those of one line are done at once, the lines one after the other. In the last line the process kills
itself when it reaches STEP for the TIMES-th time (``-`` for a life without end).

What it says on its standard output, a line at once each and only after the spool's answer: ``kept <id> <name>`` and
``done <order> <name>``.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, gatherResults

from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.reasons import Reason
from twisted_mail_node.spool.commits import Order
from twisted_mail_node.spool.mail import Change, State
from twisted_mail_node.spool.spool import Spool

reactor: Any = _reactor

SIZES = {"small": 2_000, "large": 700_000}
HEADER = b"Received: from client.example by mx.example.org\r\n"
DUE = 4_000_000_000.0
#: When the attempt was made that put it off.
TRIED = 1_700_000_100.0
RELEASE_AT = 3_500_000_000.0
LATER = DeliveryStatus(Action.DELAYED, "4.2.1", Reason.REMOTE_DELAYED, "450 4.2.1 later", "mx.example.net", "", True)
#: Mails of a group.
GROUP = 30
#: Mails under way at once in a life without end.
WIDTH = 40


def content_of(name: str, size: int) -> bytes:
    """The content of the mail with this name: the same for parent and child, no two alike."""
    seed = hashlib.sha256(name.encode()).hexdigest().encode() + b"\r\n"
    return (seed * (size // len(seed) + 1))[:size]


def envelope_of(name: str) -> Envelope:
    """The envelope of the mail with this name: two recipients; ``later`` is held back by its sender."""
    addresses = [Address(name, "example.net"), Address(name, "example.org")]
    recipients = tuple(Recipient(address, address) for address in addresses)
    return Envelope(Address("joe", "example.com"), recipients, release_at=RELEASE_AT if name == "later" else 0.0)


def say(*words: str) -> None:
    """Tell the parent, at once."""
    os.write(1, (" ".join(words) + "\n").encode())


class Child:
    """The spool and the mails in it by name."""

    def __init__(self, directory: Path, step: str, times: int, armed: bool) -> None:
        self._step = step
        self._left = times
        self.armed = armed
        self.spool = Spool(directory, reactor, reactor.seconds, reached=self._reached)
        self.ids: dict[str, str] = {}

    def _reached(self, step: str) -> None:
        if self.armed and step == self._step:
            self._left -= 1
            if self._left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    async def accept(self, name: str, size: int) -> None:
        """Bring a mail, in pieces as they come from a connection."""
        incoming = self.spool.begin()
        octets = content_of(name, size)
        for at in range(0, size, 65_536):
            await incoming.write(octets[at : at + 65_536])
        mail = await incoming.commit(envelope_of(name), HEADER)
        self.ids[name] = mail.queue_id
        say("kept", mail.queue_id, name)

    async def small(self, name: str) -> None:
        """A mail in a row."""
        await self.accept(name, SIZES["small"])

    async def large(self, name: str) -> None:
        """A mail in a file."""
        await self.accept(name, SIZES["large"])

    async def later(self, name: str) -> None:
        """A small mail that its sender holds back."""
        await self.accept(name, SIZES["small"])

    async def group(self, name: str) -> None:
        """GROUP small mails in one commit: they come while the one before is under way."""
        inside, go_on = threading.Event(), threading.Event()

        def wait(store: object) -> None:
            inside.set()
            go_on.wait(10)

        self.spool.put(Order(work=wait))
        inside.wait(10)
        accepted = [Deferred.fromCoroutine(self.small(f"{name}{number}")) for number in range(GROUP)]
        go_on.set()
        await gatherResults(accepted)

    async def start(self, name: str) -> None:
        """Nothing more: as the only line it lets the process die at its start."""

    async def delayed(self, name: str) -> None:
        """Its first recipient waits."""
        change = Change(self.ids[name], 0, State.DELAYED, DUE, 3, "example.net", LATER, False, "greylisted", TRIED)
        await self.spool.record([change])

    async def first(self, name: str) -> None:
        """Its first recipient is finished."""
        await self.spool.record([Change(self.ids[name], 0, State.FINISHED)])

    async def finished(self, name: str) -> None:
        """Both recipients are finished."""
        await self.spool.record([Change(self.ids[name], place, State.FINISHED) for place in (0, 1)])

    async def taken(self, name: str) -> None:
        """What is due is taken."""
        assert await self.spool.take_due(DUE, 100)

    async def held(self, name: str) -> None:
        """An operator holds it."""
        await self.spool.hold([self.ids[name]])

    async def released(self, name: str) -> None:
        """An operator releases it."""
        await self.spool.release([self.ids[name]], 5.0)

    async def removed(self, name: str) -> None:
        """An operator removes it."""
        await self.spool.remove([self.ids[name]])

    async def lines(self, lines: list[str]) -> None:
        """Do what the lines say."""
        for number, line in enumerate(lines, 1):
            self.armed = number == len(lines)
            await gatherResults([Deferred.fromCoroutine(self.order(*order.split(":"))) for order in line.split()])

    async def order(self, order: str, name: str) -> None:
        """One order."""
        await ORDERS[order](self, name)
        say("done", order, name)

    async def live(self) -> None:
        """Accept and finish mails of all sizes until somebody ends it."""
        serial = itertools.count()
        await gatherResults([Deferred.fromCoroutine(self._live(serial)) for _ in range(WIDTH)])

    async def _live(self, serial: itertools.count[int]) -> None:
        while True:
            size = random.choice((0, 100, 5_000, 60_000, 300_000))
            name = f"{os.getpid()}-{next(serial)}-{size}"
            await self.accept(name, size)
            if random.random() < 0.3:
                say("finishing", self.ids[name], name)
                await self.finished(name)


ORDERS: dict[str, Callable[[Child, str], Coroutine[Any, Any, None]]] = {
    order: getattr(Child, order)
    for order in (
        "small",
        "large",
        "later",
        "group",
        "start",
        "delayed",
        "first",
        "finished",
        "taken",
        "held",
        "released",
        "removed",
    )
}


def main(directory: str, step: str, times: str, *lines: str) -> None:
    """Live, until killed."""
    failed: list[Any] = []

    async def story() -> None:
        child = Child(Path(directory), step, int(times), lines == ("start:",))
        await (child.lines(list(lines)) if lines else child.live())
        child.spool.close()

    def ended(failure: Any) -> None:
        if failure is not None:
            failed.append(failure)
            failure.printTraceback(sys.stderr)
        reactor.stop()

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(story()).addBoth(ended))
    reactor.run()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
