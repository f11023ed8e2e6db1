"""The values of the spool: a mail that is kept, the state of its recipients, and changes to them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.message.status import DeliveryStatus

if TYPE_CHECKING:
    from twisted_mail_node.interfaces import IContent


class SpoolError(Exception):
    """The spool could not do what was asked; nothing that was promised before is affected.

    :ivar full: the disk (or its quota) is full: 452 rather than 451.
    :ivar unsure: the disk failed so that what was refused may turn up after a crash (story of the spool, 10).
    """

    def __init__(self, words: str, full: bool = False, unsure: bool = False) -> None:
        super().__init__(words)
        self.full = full
        self.unsure = unsure


class State(IntEnum):
    """The durable state of one recipient. ``spool/spool.py`` says who may change which into which."""

    ACTIVE = 0  #: the process that accepted or took it is working on it
    DELAYED = 1  #: waits for its due time
    HELD = 2  #: waits for an operator
    FINISHED = 3  #: delivered, relayed or failed and reported; kept until the whole mail is finished


#: Why a recipient waits that was never tried: there was no room for it, or the node ended before or in the attempt.
NOT_TRIED = "not-tried"
#: … a policy or an operator holds it (the code of ``Reason.HELD``).
HELD = "held"
#: … its sender wants it kept until a time to come (RFC 4865).
HELD_BACK = "held-back"


class Entry(NamedTuple):
    """One recipient as the spool knows it.

    :ivar number: its place in the envelope, from 0.
    :ivar due: when it is to be tried (seconds since the epoch); means something for ``DELAYED`` only.
    :ivar attempts: attempts made so far.
    :ivar destination: the next hop of the last attempt, ``""`` before the first.
    :ivar last: what the last attempt came to, ``None`` before the first.
    :ivar told: what the sender was told of the delay (``queue.notices``), 0 for nothing.
    :ivar cause: why it waits: code of the cause that stands behind ``last`` (``message.cause``), or ``NOT_TRIED``,
        ``HELD`` or ``HELD_BACK`` where there was no attempt. ``""`` in the first attempt, when it is finished, and
        until the next attempt where a node that kept no causes put it off.
    :ivar next_hop: where an operator wants it to go instead of where its route leads; ``""``: by its route.
    """

    number: int
    recipient: Recipient
    state: State = State.ACTIVE
    due: float = 0.0
    attempts: int = 0
    destination: str = ""
    last: DeliveryStatus | None = None
    told: int = 0
    cause: str = ""
    next_hop: str = ""


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail in the spool.

    :ivar header: the trace fields we put before the content, CRLF line ends.
    :ivar received: when it was accepted, seconds since the epoch.
    :ivar entries: the recipients this value speaks of (all of them, or those that are due).
    """

    queue_id: str
    envelope: Envelope
    header: bytes
    content: IContent
    received: float
    entries: tuple[Entry, ...]


class Change(NamedTuple):
    """What ``ISpool.record`` writes for one recipient of one mail.

    :ivar cause: see ``Entry``.
    :ivar whole: the recipient is finished, and the only one of its mail: the mail goes.
    :ivar tried: when the attempt was made that came to ``last`` (seconds since the epoch), 0 when there was none: it
        is kept among the recipient's attempts.
    """

    queue_id: str
    number: int
    state: State
    due: float = 0.0
    attempts: int = 0
    destination: str = ""
    last: DeliveryStatus | None = None
    told: int = 0
    cause: str = ""
    tried: float = 0.0
    whole: bool = False


class Attempt(NamedTuple):
    """An attempt that was made for a recipient and put it off.

    :ivar when: seconds since the epoch.
    :ivar number: the recipient's place in the envelope.
    """

    when: float
    number: int
    destination: str
    status: DeliveryStatus


class Tally(NamedTuple):
    """How many recipients wait for one reason at one destination.

    :ivar cause: see ``Entry``.
    :ivar oldest: when the oldest of their mails was accepted (seconds since the epoch).
    """

    destination: str
    cause: str
    recipients: int
    oldest: float


class Filter(NamedTuple):
    """Which mails an operator wants to see; empty fields do not narrow.

    :ivar destination: next hop of any recipient that is not finished.
    :ivar sender: part of the reverse-path (``<>`` for the null one).
    :ivar recipient: part of any recipient's address.
    :ivar state: any recipient is in this state.
    :ivar causes: any recipient waits for one of these causes (``Entry.cause``).
    :ivar after: its content began to come then or later (seconds since the epoch): that time is in the queue id.
    :ivar before: it began to come before then.

    One recipient must be all that ``destination``, ``recipient``, ``state`` and ``causes`` say.
    """

    queue_ids: tuple[str, ...] = ()
    destination: str = ""
    sender: str = ""
    recipient: str = ""
    state: State | None = None
    limit: int = 1000
    causes: tuple[str, ...] = ()
    after: float = 0.0
    before: float = 0.0
