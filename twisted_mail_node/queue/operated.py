"""What an operator may ask the queue for, and have it do: a part of ``OutgoingQueue``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed

from twisted_mail_node.reasons import Reason

if TYPE_CHECKING:
    from twisted_mail_node.interfaces import ISpool
    from twisted_mail_node.queue.freezing import Freezing
    from twisted_mail_node.queue.operator import Operator
    from twisted_mail_node.spool.mail import Attempt, Filter, Mail, Tally


class Operated:
    """A queue that an operator looks at and changes."""

    _spool: ISpool
    _operator: Operator
    _freezing: Freezing

    def find(self, wanted: Filter) -> Deferred[list[Mail]]:
        """Mails in the spool, oldest first, with all their recipients. :raises SpoolError: (as failure)"""
        return self._spool.find(wanted)

    def select(self, wanted: Filter, limit: int, after: str = "") -> Deferred[list[str]]:
        """The queue ids of what ``find`` would give, page by page, see ISpool. :raises SpoolError: (as failure)"""
        return self._spool.select(wanted, limit, after)

    def tally(self, wanted: Filter, by: str = "destination") -> Deferred[list[Tally]]:
        """How many unfinished recipients wait where and why; or, by ``"sender"``, for whom (in the place of the
        destination). :raises SpoolError: (as failure)"""
        return self._spool.tally_senders(wanted) if by == "sender" else self._spool.tally(wanted)

    def attempts(self, queue_id: str) -> Deferred[list[Attempt]]:
        """Every attempt that put a recipient of the mail off, the oldest first. :raises SpoolError: (as failure)"""
        return self._spool.attempts(queue_id)

    def count(self) -> Deferred[dict[str, int]]:
        """How many recipients are in each state, and how many mails there are."""
        return self._spool.count()

    def hold(self, queue_ids: Sequence[str], words: str = "an operator holds it") -> Deferred[list[str]]:
        """Let the unfinished recipients wait, but for those in an attempt now; gives the queue ids found."""
        return Deferred.fromCoroutine(self._operator.hold(queue_ids, words))

    def release(self, queue_ids: Sequence[str]) -> Deferred[list[str]]:
        """Let held and delayed recipients be due now; gives the queue ids found."""
        return Deferred.fromCoroutine(self._operator.make_due(queue_ids, Reason.RELEASED))

    def retry(self, queue_ids: Sequence[str], probe: bool = True) -> Deferred[list[str]]:
        """Try again now, also where the destination is suspended; gives the queue ids found.

        :param probe: end suspensions; one page of many does it for all.
        """
        return Deferred.fromCoroutine(self._operator.make_due(queue_ids, Reason.RETRIED, probe))

    def reroute(self, queue_ids: Sequence[str], next_hop: str) -> Deferred[list[str]]:
        """Let unfinished recipients go to ``next_hop`` from now on, as the relay takes it (``""``: by their routes
        again), and try those that wait for their time; gives the queue ids found. An attempt under way goes on.

        :raises ValueError: (as failure) the next hop is none.
        """
        return Deferred.fromCoroutine(self._operator.reroute(queue_ids, next_hop))

    def fail(self, queue_ids: Sequence[str], words: str) -> Deferred[list[str]]:
        """Give up recipients that are not in an attempt now, and tell the senders; gives the queue ids found."""
        return Deferred.fromCoroutine(self._operator.give_up(queue_ids, words))

    def remove(self, queue_ids: Sequence[str]) -> Deferred[list[str]]:
        """Forget mails without a DSN; an attempt under way ends, but nothing comes of it. Gives the queue ids found."""
        return Deferred.fromCoroutine(self._operator.remove(queue_ids))

    def freeze(self, destination: str, words: str = "") -> Deferred[None]:
        """Try nothing at this destination until it is thawed; over restarts, too. Mails still expire."""
        self._freezing.freeze(destination, words)
        return succeed(None)

    def thaw(self, destination: str) -> Deferred[bool]:
        """Try there again, what was put off meanwhile first. Gives whether it was frozen."""
        return succeed(self._freezing.thaw(destination))

    def frozen(self) -> list[dict[str, object]]:
        """What is frozen: ``destination``, ``words``, ``since``."""
        return self._freezing.frozen()
