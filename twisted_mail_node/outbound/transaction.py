"""One mail transaction on a connection, as a plan: what the host must offer, what is written, what its replies mean.

Pure: ``outbound.connection`` does the writing and waiting. A request with more recipients than a host takes at once
becomes several transactions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum, auto

from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.outbound.declared import ObstacleError, body_and_smtputf8, mail_command
from twisted_mail_node.outbound.job import Job, Peer, reply_status
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp import client
from twisted_mail_node.smtp.client import Offered
from twisted_mail_node.smtp.reply import Reply
from twisted_mail_node.smtp.stuffing import BareNewlineError, Stuffer, refuse_bare_newlines, stuffed

#: Recipients in one transaction: what RFC 5321 section 4.5.3.1.8 obliges every server to take.
RECIPIENTS_MAX = 100
#: Octets sent with BDAT before the host has said yes to any recipient: about what a round trip costs anyway.
AT_ONCE_MAX = 65536
#: Octets that are given to the transport in one piece. What is larger is read and written block by block.
WHOLE_MAX = 524288
#: Octets of such a block; some four copies of it are in memory at a time.
BLOCK_SIZE = 131072


class Way(Enum):
    """How the content goes over."""

    AT_ONCE = auto()  #: BDAT in the same group as MAIL and RCPT: one round trip
    CHUNK = auto()  #: BDAT after the replies to RCPT
    DATA = auto()


class Transaction:
    """A job's recipients, or some of them, on one connection.

    :ivar numbers: the recipients, in the order of their RCPT commands.
    :ivar commands: MAIL, and one RCPT for each of them.
    :ivar size: octets of header and content.
    :ivar accepted: recipients the host said yes to.
    :ivar later: recipients the host wants in a further transaction.
    :ivar opened: the commands are written.
    :ivar per_recipient: the end of the content is answered for each accepted recipient (LMTP, RFC 2033 section 4.2).
    :ivar reset: an RSET stands before them.
    :ivar content: the content has begun to go over, not counting ``Way.AT_ONCE``: the next reply is about it.
    :ivar sent: the end of the content is written: from here on the host may have the mail.
    """

    __slots__ = (
        "_by", "_dsn", "_mail_refused", "_peer", "_whole", "accepted", "body", "commands", "content", "job", "later",
        "numbers", "opened", "per_recipient", "reset", "sent", "size", "way",
    )  # fmt: skip

    def __init__(self, job: Job, offered: Offered, most: int, peer: Peer, now: Callable[[], float]) -> None:
        """Takes its recipients out of ``job.todo``. :raises ObstacleError: the mail cannot go to this host."""
        request = job.request
        content = request.content
        self.job = job
        self.size = size = len(request.header) + content.size
        if offered.size and size > offered.size:
            words = f"the mail has {size} octets, the host takes {offered.size}"
            raise ObstacleError("5.3.4", Reason.TOO_LARGE_FOR_HOST, words)
        self.body, smtputf8 = body_and_smtputf8(request, offered)
        octets = content.octets
        self._whole = None if octets is None or size > WHOLE_MAX else request.header + octets
        if size == 0:
            self._whole = b""
        if self._whole is not None and self.body != "BINARYMIME":
            try:
                refuse_bare_newlines(self._whole)
            except BareNewlineError as error:
                raise ObstacleError("5.6.3", Reason.BARE_NEWLINE, str(error)) from None
        self._dsn = offered.dsn
        self._by = request.envelope.deliver_by and offered.deliver_by is not None
        self.commands = [mail_command(request, offered, size, self.body, smtputf8, now)]
        self.numbers: list[int] = []
        self._recipients(job, most, offered.dsn, smtputf8)
        self.per_recipient = request.transport == "lmtp"
        if not offered.chunking:
            self.way = Way.DATA
        elif self.per_recipient:
            # RFC 2033 section 4.2: one reply for each recipient who was accepted; so that must be known before.
            self.way = Way.CHUNK
        elif offered.pipelining and self._whole is not None and size <= AT_ONCE_MAX:
            self.way = Way.AT_ONCE
        else:
            self.way = Way.CHUNK
        self.accepted: list[int] = []
        self.later: list[int] = []
        self.opened = self.reset = self.content = self.sent = self._mail_refused = False
        self._peer = peer

    def _recipients(self, job: Job, most: int, dsn: bool, smtputf8: bool) -> None:
        todo, job.todo = job.todo[:most], job.todo[most:]
        for number in todo:
            try:
                command = client.rcpt(job.request.recipients[number], dsn=dsn, smtputf8=smtputf8)
            except ValueError as error:
                words = f"RCPT cannot be written: {error}"
                job.settle((number,), DeliveryStatus(Action.FAILED, "5.1.3", Reason.SYNTAX, words))
            else:
                self.commands.append(command)
                self.numbers.append(number)

    # what is written

    def opening(self) -> bytes:
        """All that can be written before the first reply (RFC 2920): the commands, and DATA or BDAT."""
        if self.way is Way.DATA:
            return b"".join((*self.commands, client.DATA))
        if self.way is Way.AT_ONCE and self._whole is not None:
            return b"".join((*self.commands, client.bdat(self.size), self._whole))
        return b"".join(self.commands)

    @property
    def whole(self) -> bytes | None:
        """The content with its BDAT or its end of DATA in one piece, ``None`` when it comes in ``pieces``."""
        if self._whole is None:
            return None
        return stuffed(self._whole) if self.way is Way.DATA else client.bdat(self.size) + self._whole

    def pieces(self) -> Iterator[tuple[bytes, bool]]:
        """The same in pieces, the last one marked; reads the disk: iterate it in a thread.

        :raises BareNewlineError: the content is not fit for DATA; the end must not be sent.
        :raises OSError: the content cannot be read, or is not as long as it was.
        """
        request = self.job.request
        left = self.size
        stuffer = None if self.body == "BINARYMIME" else Stuffer(dots=self.way is Way.DATA)
        for block in _blocks(request):
            left -= len(block)
            if left < 0:
                break
            piece = block if stuffer is None else stuffer.feed(block)
            if left == 0 and stuffer is not None:
                piece += stuffer.finish()
            yield piece, left == 0
        if left:
            raise OSError(f"the content has {self.size - left} octets instead of {self.size}")

    # what the replies mean

    def mail_answered(self, reply: Reply) -> None:
        """The reply to MAIL; a refusal is one of every recipient."""
        if not reply.is_positive:
            self._mail_refused = True
            self.job.settle(self.numbers, reply_status(reply, self._peer))

    def rcpt_answered(self, number: int, reply: Reply) -> None:
        """The reply to a RCPT. 'Too many' after a yes means: in the next transaction (RFC 5321 section 4.5.3.1.10)."""
        if self._mail_refused:
            return
        if reply.is_positive:
            self.accepted.append(number)
        elif self.accepted and _too_many(reply):
            self.later.append(number)
        else:
            self.job.settle((number,), reply_status(reply, self._peer))

    def finish(self, reply: Reply) -> None:
        """The reply to DATA (a refusal), or to the end of the content: decides about all who were accepted."""
        status = reply_status(reply, self._peer, self._dsn)
        if self._by and reply.is_positive:
            status = status._replace(by_passed_on=True)
        self.job.settle(self.accepted, status)

    def recipient_finished(self, number: int, reply: Reply) -> None:
        """The reply to the end of the content for one of the accepted recipients (LMTP)."""
        self.job.settle((number,), reply_status(reply, self._peer, delivers=True))

    def settle(self, status: DeliveryStatus) -> None:
        """Nothing more comes from the host: ``status`` is that of everyone without one, except those for later."""
        later = self.later
        numbers = [number for number in self.numbers if number not in later] if later else self.numbers
        self.job.settle(numbers, status)

    def give_back(self) -> None:
        """Nothing was handed over: everyone without a status is to be sent again."""
        job = self.job
        job.todo[:0] = [number for number in self.numbers if job.is_open(number) and number not in job.todo]

    @property
    def mail_refused(self) -> bool:
        """MAIL was refused: the host has no transaction to reset."""
        return self._mail_refused


def _blocks(request: DeliveryRequest) -> Iterator[bytes]:
    if request.header:
        yield request.header
    yield from request.content.blocks(BLOCK_SIZE)


def _too_many(reply: Reply) -> bool:
    """452 is also 'no space left' (4.3.1), 552 'mailbox full' (5.2.2): an enhanced status code tells."""
    return reply.code in (452, 552) and reply.enhanced in ("", "4.5.3", "5.5.3")


def plan(job: Job, offered: Offered, most: int, peer: Peer, now: Callable[[], float]) -> Transaction | None:
    """The next transaction of ``job``; ``None`` when no recipient is left that can go to this host.

    :param most: recipients in one transaction.
    :param now: gives seconds since the epoch.
    """
    try:
        while job.todo:
            transaction = Transaction(job, offered, most, peer, now)
            if transaction.numbers:
                return transaction
    except ObstacleError as obstacle:
        host, address, tls, _, source = peer
        job.settle_todo(obstacle.status._replace(remote_host=host, remote_address=address, tls=tls, source=source))
    return None
