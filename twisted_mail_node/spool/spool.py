"""The spool keeps every accepted mail until each of its recipients is finished. This is its crash story.

States of a mail
    *incoming*   octets arrive; nothing was promised. Only ``Incoming`` knows it.
    *kept*       its rows are committed. It is ours to deliver or to report.
    *gone*       every recipient was finished and the rows are deleted.

States of a recipient of a kept mail (``spool.mail.State``)
    *active*     the process that accepted or took it works on it; only that process may record what became of it.
    *delayed*    waits for its due time; ``take_due`` makes it active.
    *held*       waits for an operator; ``release`` makes it delayed, and so does ``give_up``, with a final status.
                 A new mail's recipients are active; held when a policy wants that; delayed when the sender has it held
                 back (RFC 4865), due at the time it named.
    *finished*   delivered, relayed, or failed and reported; waits for the mail's other recipients.

The story
    1. Content up to 256 KiB gathers in memory. Larger content is written to ``content/<queue id>`` as it arrives.
       A crash here leaves at most a file that no row names; the next start deletes it. Nothing was promised.
    2. Before a large mail may join a group, its file and the file's name are fsynced. A crash here: as in 1.
    3. The commit thread writes the rows of a whole group in one transaction (``begun``, ``written``) and commits.
       A crash before the commit has reached the disk leaves none of the group: nobody was answered 250.
    4. **At that instant** when the commit has reached the disk, every mail of the group is kept, whatever happens.
    5. The client is answered 250. A crash between 4 and 5 keeps the mail though the client was not told; it sends
       the mail again, and the recipient may find it twice (RFC 5321 section 4.2.5, RFC 1047).
    6. The mail is delivered or relayed. A crash between that and the commit of ``record`` leaves the recipient
       active; at the next start it is due again. At worst a mail is delivered twice; it is never lost.
       A mail that its sender has held back is not tried before its time, whatever happens: at 4 its recipients are
       delayed, not active, and a start changes nothing of that.
    7. **At that instant** when the commit of ``record`` has reached the disk, the recipient is finished, or has its
       next due time, its cause, and the attempt among those that are kept. With the last recipient the rows go, those
       of its attempts too, in the same commit.
    8. The content file of a mail that is gone is deleted after that commit. A crash in between leaves a file that
       no row names: as in 1.
    9. At the start, recipients that were active become delayed and due at once (what was in its first attempt counts
       as not tried: nobody knows how far it came); files without a row are deleted;
       a database that cannot be read is moved aside with its content files, nothing of it is deleted, and a new one
       begins.
   10. A commit that the disk refuses (no room, I/O error) keeps none of the group: it is answered 452 or 451. What it
       wrote is written over at once. Only when that fails too, and the process dies before any later commit, may a
       mail that was answered 451 be kept, whole (its file stays until the next start): as in 5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from zope.interface import implementer

from twisted_mail_node.interfaces import ISpool
from twisted_mail_node.message.status import DeliveryStatus
from twisted_mail_node.spool.commits import Commits, Order
from twisted_mail_node.spool.incoming import Incoming
from twisted_mail_node.spool.mail import Attempt, Change, Filter, Mail, Tally
from twisted_mail_node.spool.queueid import QueueIds
from twisted_mail_node.spool.sqlite import Store
from twisted_mail_node.threads import in_thread

#: Content of all incoming mails together that may lie in memory before mails go to their files early.
MEMORY = 64 << 20


@implementer(ISpool)
class Spool:
    """See ISpool.

    :param directory: where the spool lies; made when missing.
    :param reactor: for threads and their results.
    :param now: seconds since the epoch.
    :param worker: number of this process among those that share the spool.
    :ivar recovered: mails found at the start.
    :raises SpoolError: the spool cannot be opened.
    """

    #: A spool may stand where a queue is asked for (IMailQueue) by who only wants mail kept.
    crowded = False

    def __init__(
        self,
        directory: Path,
        reactor: IReactorThreads,
        now: Callable[[], float],
        worker: int = 0,
        memory: int = MEMORY,
        reached: Callable[[str], None] = lambda step: None,
    ) -> None:
        self.reactor = reactor
        self.now = now
        self.memory = memory
        self.held_in_memory = 0
        self.store = Store(directory, reached=reached)
        self._ids = QueueIds(worker, now)
        try:
            self.recovered, largest = self.store.recover(now())
        except BaseException:
            self.store.close()
            raise
        self._ids.after(largest)
        self._commits = Commits(self.store, reactor)

    def close(self) -> None:
        """Commit what waits and close. Blocks for the length of one commit."""
        self._commits.stop()
        self.store.close()

    def begin(self) -> Incoming:
        return Incoming(self, self._ids.next())

    def put(self, order: Order) -> Deferred[Any]:
        """Have it written with the next group commit; fires after it."""
        self._commits.put(order)
        return order.done

    def record(self, changes: Sequence[Change]) -> Deferred[None]:
        return self.put(Order(changes=changes))

    def take_due(self, now: float, limit: int) -> Deferred[list[Mail]]:
        return self.put(Order(work=lambda store: store.take_due(now, limit)))

    def next_due(self) -> Deferred[float | None]:
        return in_thread(self.reactor, self.store.next_due)

    def find(self, wanted: Filter) -> Deferred[list[Mail]]:
        return in_thread(self.reactor, self.store.find, wanted)

    def select(self, wanted: Filter, limit: int, after: str = "") -> Deferred[list[str]]:
        return in_thread(self.reactor, self.store.select, wanted, limit, after)

    def tally(self, wanted: Filter) -> Deferred[list[Tally]]:
        return in_thread(self.reactor, self.store.tally, wanted)

    def tally_senders(self, wanted: Filter) -> Deferred[list[Tally]]:
        return in_thread(self.reactor, self.store.tally_senders, wanted)

    def attempts(self, queue_id: str) -> Deferred[list[Attempt]]:
        return in_thread(self.reactor, self.store.attempts, queue_id)

    def count(self) -> Deferred[dict[str, int]]:
        """How many recipients are in each state, and how many mails there are."""
        return in_thread(self.reactor, self.store.count)

    def hold(self, queue_ids: Sequence[str]) -> Deferred[list[str]]:
        return self.put(Order(work=lambda store: store.hold(queue_ids)))

    def release(self, queue_ids: Sequence[str], due: float) -> Deferred[list[str]]:
        return self.put(Order(work=lambda store: store.release(queue_ids, due)))

    def reroute(self, queue_ids: Sequence[str], next_hop: str, due: float) -> Deferred[list[str]]:
        return self.put(Order(work=lambda store: store.reroute(queue_ids, next_hop, due)))

    def give_up(self, queue_ids: Sequence[str], status: DeliveryStatus, cause: str, due: float) -> Deferred[list[str]]:
        return self.put(Order(work=lambda store: store.give_up(queue_ids, status, cause, due)))

    def hasten(self, destination: str, now: float, until: float, limit: int, since: float) -> Deferred[int]:
        found = in_thread(self.reactor, self.store.waiting_for, destination, now, until, limit, since)
        return found.addCallback(lambda rows: self.put(Order(work=lambda store: store.hasten(rows, now))))

    def remove(self, queue_ids: Sequence[str]) -> Deferred[list[str]]:
        return self.put(Order(work=lambda store: store.remove(queue_ids)))
