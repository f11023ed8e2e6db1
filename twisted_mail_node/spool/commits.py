"""The group commit: one thread gathers what waits to be written and commits it together.

While one commit's fsync runs, the next group gathers; nobody waits longer than two commits, and under load one
fsync serves dozens of mails. Results come back to the reactor's thread once for the whole group.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

import apsw
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger

from twisted_mail_node.spool.mail import Change, SpoolError
from twisted_mail_node.spool.sqlite import NewMail, Store

#: One group holds at most so many orders: it bounds how long a commit takes.
GROUP_MAX = 512
#: … and at most so many octets of content.
GROUP_OCTETS = 32 << 20

#: Seconds to gather under load before a commit: a group twice as large costs hardly more than one half as large,
#: and the processor, not the disk, is what runs short. A node with little to do never waits.
GATHER = 0.0015
#: Under load is: the group before had more orders than this.
BUSY = 3

_log = Logger()


class Order:
    """One thing to write: new mails, changes, or any work on the store; ``done`` fires after the commit."""

    __slots__ = ("changes", "done", "error", "mail", "octets", "result", "work")

    def __init__(
        self,
        mail: NewMail | None = None,
        changes: Sequence[Change] = (),
        work: Callable[[Store], Any] | None = None,
        octets: int = 0,
    ) -> None:
        self.mail = mail
        self.changes = changes
        self.work = work
        self.octets = octets
        self.result: Any = None
        self.error: BaseException | None = None
        self.done: Deferred[Any] = Deferred()


class Commits:
    """The commit thread."""

    def __init__(self, store: Store, reactor: IReactorFromThreads) -> None:
        self._store = store
        self._reactor = reactor
        self._orders: SimpleQueue[Order | None] = SimpleQueue()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="spool-commits", daemon=True)
        self._thread.start()

    def put(self, order: Order) -> None:
        """Have it written with the next group. After ``stop`` it fails with SpoolError."""
        if self._stopped:
            order.done.errback(SpoolError("the spool is closed"))
        else:
            self._orders.put(order)

    def stop(self) -> None:
        """Write what waits and end the thread; returns when it has ended."""
        self._stopped = True
        self._orders.put(None)
        self._thread.join()

    def _run(self) -> None:
        orders = self._orders
        going = True
        group: list[Order] = []
        while going:
            busy = len(group) > BUSY
            group = []
            octets = 0
            order = orders.get()
            if busy:
                time.sleep(GATHER)
            while True:
                if order is None:
                    going = False
                    break
                group.append(order)
                octets += order.octets
                if len(group) >= GROUP_MAX or octets >= GROUP_OCTETS or orders.empty():
                    break
                order = orders.get()
            if group:
                self._write(group)
                self._reactor.callFromThread(_tell, group)

    def _write(self, group: list[Order]) -> None:
        try:
            self._store.transaction(lambda: self._apply(group))
        except BaseException as error:
            locked = isinstance(error.__cause__, apsw.BusyError)  # each would wait as long, and in vain
            if len(group) > 1 and not locked:
                # One bad order must not take the others with it: each gets a transaction of its own.
                for order in group:
                    self._write([order])
                return
            if not isinstance(error, SpoolError):
                _log.failure("the spool's commit thread met an unexpected error")
                error = SpoolError(f"the spool failed: {error}")
            for order in group:
                order.error = SpoolError(str(error), error.full, error.unsure)

    def _apply(self, group: list[Order]) -> None:
        mails = [order.mail for order in group if order.mail is not None]
        if mails:
            self._store.insert(mails)
        changes = [change for order in group for change in order.changes]
        if changes:
            self._store.change(changes)
        for order in group:
            if order.work is not None:
                order.result = order.work(self._store)


def _tell(group: list[Order]) -> None:
    for order in group:
        if order.error is None:
            order.done.callback(order.result)
        else:
            order.done.errback(order.error)
