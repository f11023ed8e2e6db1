"""What an operator does to mails: let them wait, be tried now, go another way, be given up with a DSN, be forgotten.

    reroute     the spool notes the next hop, and lets them be due now
    give up     the spool notes the final status, and lets them be due now -> the schedule brings them -> the attempt
                finds them final: the sender is told (RFC 3461), then they are finished

At the instant when the spool has noted the final status, nothing is tried any more, and the DSN is owed: a crash before
it was committed lets the report be made after the next start, as for every recipient that failed (``queue.attempt``).
Recipients in an attempt at that moment are not touched; they go on as they do. Those that are final already, and only
wait for a report that failed, keep what they came to: the sender is told that, and not that the mail was given up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from twisted_mail_node.events import MailChanged, MailHeld, Publish, RecipientFailed
from twisted_mail_node.interfaces import ISpool
from twisted_mail_node.message.cause import understand
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.queue.removed import removed
from twisted_mail_node.reasons import Reason
from twisted_mail_node.routing import Route, parse_next_hop
from twisted_mail_node.spool.mail import Filter, Mail, State

#: Recipients whose events are published in one reactor turn: some milliseconds.
AT_ONCE = 200

_WAITING = (State.DELAYED, State.HELD)


class Operator:
    """Carries out an operator's wishes; each gives the queue ids found.

    :param due_at: is told when something was recorded that is due at that time.
    :param probe: ends the suspension of a destination.
    :param removed: is told which mails are not in the spool any more.
    """

    def __init__(
        self,
        *,
        spool: ISpool,
        clock: IReactorTime,
        publish: Publish,
        due_at: Callable[[float], None],
        probe: Callable[[str], None],
        removed: Callable[[str], None],
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._publish = publish
        self._due_at = due_at
        self._probe = probe
        self._removed = removed

    async def hold(self, queue_ids: Sequence[str], words: str) -> list[str]:
        """Let what is not in an attempt wait until it is released."""
        found = await self._spool.hold(queue_ids)
        for queue_id in found:
            self._publish(MailHeld(queue_id, Reason.HELD, words))
        return found

    async def make_due(self, queue_ids: Sequence[str], reason: Reason, probe: bool = False) -> list[str]:
        """Let held and delayed recipients be tried now.

        :param probe: at destinations that are suspended, too.
        """
        now = self._clock.seconds()
        if probe:
            mails = await self._spool.find(Filter(queue_ids=tuple(queue_ids), limit=max(1, len(queue_ids))))
            for destination in {entry.destination for mail in mails for entry in mail.entries}:
                self._probe(destination)
        found = await self._spool.release(queue_ids, now)
        for queue_id in found:
            self._publish(MailChanged(queue_id, reason))
        self._due_at(now)
        return found

    async def remove(self, queue_ids: Sequence[str]) -> list[str]:
        """Forget mails."""
        found = await self._spool.remove(queue_ids)
        for queue_id in found:
            self._removed(queue_id)
            self._publish(MailChanged(queue_id, Reason.REMOVED))
        return found

    async def reroute(self, queue_ids: Sequence[str], next_hop: str) -> list[str]:
        """Let mails go to ``next_hop``, now; ``""``: by their routes again.

        :raises ValueError: the next hop is none.
        """
        if next_hop:
            parse_next_hop(next_hop)
        now = self._clock.seconds()
        found = await self._spool.reroute(queue_ids, next_hop, now)
        for queue_id in found:
            self._publish(MailChanged(queue_id, Reason.REROUTED))
        self._due_at(now)
        return list(found)

    async def give_up(self, queue_ids: Sequence[str], words: str) -> list[str]:
        """Let the recipients of mails that wait be failed and reported."""
        mails = await self._spool.find(Filter(queue_ids=tuple(queue_ids), limit=max(1, len(queue_ids))))
        status = removed(words)
        now = self._clock.seconds()
        found = await self._spool.give_up(queue_ids, status, understand(status).code, now)
        self._due_at(now)
        known = set(found)
        await self._say([mail for mail in mails if mail.queue_id in known], status)
        return list(found)

    async def _say(self, mails: Sequence[Mail], status: DeliveryStatus) -> None:
        """Publish who failed, some at a time: a mail may have thousands of recipients."""
        said = 0
        cause = understand(status).code
        for mail in mails:
            for entry in mail.entries:
                if entry.state in _WAITING and not (entry.last and entry.last.action is not Action.DELAYED):
                    self._publish(
                        RecipientFailed(
                            mail.queue_id, str(entry.recipient.address), entry.destination, "",
                            status.status, status.reason, status.words, entry.attempts, cause,
                        )
                    )  # fmt: skip
                    said += 1
                    if said % AT_ONCE == 0:
                        turn: Deferred[None] = Deferred()
                        self._clock.callLater(0, turn.callback, None)
                        await turn


def rerouted(route: Route, next_hop: str) -> Route:
    """Where an operator sends a recipient instead of where its route leads.

    It is as protected as on its route; the name and password of the route are not for another host.
    """
    tls = route.tls if route.agent == "relay" else "opportunistic"
    return Route("relay", next_hop, tls, "lmtp" if next_hop.startswith("unix:") else "smtp")
