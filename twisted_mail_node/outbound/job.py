"""A delivery request on its way through a pool: who is still to be sent, and what became of the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from twisted.internet.defer import Deferred

from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.reply import Reply, printable

#: Characters of a remote reply that are kept with a recipient: it goes into the spool, the log and a DSN.
WORDS_MAX = 2000
#: Characters of them in a sentence of ours.
SHORT_MAX = 300


class Peer(NamedTuple):
    """The host at the other end of a connection, as statuses and events show it.

    :ivar address: its address and port.
    :ivar tls: how the connection is protected (``TLSv1.3 …, verified``), ``""``: not at all.
    :ivar fell_back: its TLS broke, so this connection is in the clear.
    :ivar source: the address we connected from, where a pool says which; ``""``: the system's choice.
    """

    host: str
    address: str
    tls: str = ""
    fell_back: bool = False
    source: str = ""


class Broken(Exception):
    """A connection is over before its time.

    :ivar reply: what the host said last, when that is why (421, a greeting of 4yz or 5yz).
    """

    def __init__(self, reason: Reason, status: str, words: str, reply: Reply | None = None) -> None:
        super().__init__(words)
        self.reason = reason
        self.status = status
        self.words = words
        self.reply = reply

    def delivery_status(self, peer: Peer) -> DeliveryStatus:
        """The delay that this means for a mail which has not been handed over."""
        words = self.words if self.reply is None else str(self.reply)[:WORDS_MAX]
        host, address, tls, _, source = peer
        from_remote = self.reply is not None
        return DeliveryStatus(
            Action.DELAYED, self.status, self.reason, words, host, address, from_remote, tls=tls, source=source
        )


def short(words: str) -> str:
    """Words in which the host may have had its say (a reply, names in its certificate), for a sentence of ours."""
    return printable(words)[:SHORT_MAX]


def reply_status(reply: Reply, peer: Peer, dsn: bool = False, delivers: bool = False) -> DeliveryStatus:
    """What a host's reply to RCPT, MAIL or the end of the content means for a recipient (RFC 5321 section 4.2.1).

    A reply without an enhanced status code gets that of its class (RFC 3463 section 2).

    :param dsn: the host offers DSN.
    :param delivers: the host is a message store (LMTP): its yes means that the mail lies in the mailbox.
    """
    kind = reply.code // 100
    host, address, tls, fell_back, source = peer
    if kind == 2:
        action, reason = (Action.DELIVERED, Reason.DELIVERED) if delivers else (Action.RELAYED, Reason.RELAYED)
    elif reply.code == 530 and fell_back:
        # "Must issue a STARTTLS command first" (RFC 3207 section 4), which we did: its TLS may be mended by and by.
        status = f"4{reply.enhanced[1:] or '.7.10'}"
        words = str(reply)[:WORDS_MAX]
        return DeliveryStatus(Action.DELAYED, status, Reason.TLS_FAILED, words, host, address, True, source=source)
    elif kind == 5:
        action, reason = Action.FAILED, Reason.REMOTE_REFUSED
    else:
        action, reason, kind = Action.DELAYED, Reason.REMOTE_DELAYED, 4
    words = str(reply)[:WORDS_MAX]
    passed_on = dsn and kind == 2
    return DeliveryStatus(
        action, reply.enhanced or f"{kind}.0.0", reason, words, host, address, True, passed_on, tls, source=source
    )


class Job:
    """One request and the state of its recipients, who are known by their number in it.

    :ivar todo: recipients without a status that no connection has in hand.
    :ivar expires: when the attempt must have ended (the clock's seconds).
    :ivar queued: since when it waits for a connection.
    :ivar avoid: addresses of hosts that broke off with this job in hand.
    :ivar failure: how the last of them did.
    :ivar done: fires once, with a status for every recipient.
    """

    __slots__ = ("_missing", "_statuses", "avoid", "done", "expires", "failure", "queued", "request", "todo", "tries")

    def __init__(self, request: DeliveryRequest, now: float) -> None:
        count = len(request.recipients)
        self.request = request
        self.todo = list(range(count))
        self.expires = now + request.deadline
        self.queued = now
        self.tries = 0
        self.avoid: tuple[str, ...] = ()
        self.failure: DeliveryStatus | None = None
        self.done: Deferred[Sequence[DeliveryStatus]] = Deferred()
        self._statuses: list[DeliveryStatus | None] = [None] * count
        self._missing = count

    def settle(self, numbers: Iterable[int], status: DeliveryStatus) -> None:
        """Note what became of recipients; a second status of the same recipient changes nothing."""
        statuses = self._statuses
        for number in numbers:
            if statuses[number] is None:
                statuses[number] = status
                self._missing -= 1
        if not self._missing and not self.done.called:
            self.done.callback([known for known in statuses if known is not None])

    def settle_todo(self, status: DeliveryStatus) -> None:
        """The same for all who are still to be sent."""
        todo, self.todo = self.todo, []
        self.settle(todo, status)

    def is_open(self, number: int) -> bool:
        """The recipient has no status yet."""
        return self._statuses[number] is None

    @property
    def is_over(self) -> bool:
        """Nobody waits for it any more: all is said, or the attempt was cancelled."""
        return bool(self.done.called)
