"""What an operator may order about the queue: the commands of the control socket that begin with ``queue.``.

An order for many mails takes one page of them at a time: whoever gives it asks for the next page, so that no order
lasts long in the node, and none goes on when nobody waits for it any more.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from twisted_mail_node.admin.messages import (
    CONTENT_AT_ONCE,
    GROUPS_MAX,
    HEADERS_AT_ONCE,
    IDS_AT_ONCE,
    Order,
    RequestError,
    Shape,
    by_from,
    filter_from,
    number_from,
    text_from,
)
from twisted_mail_node.admin.shapes import (
    MAKE_DUE,
    attempt_as_shape,
    chosen,
    mail_as_shape,
    read_content,
    read_header,
)
from twisted_mail_node.admin.snapshot import Snapshots
from twisted_mail_node.admin.tallies import grouped, questions
from twisted_mail_node.settings_problems import Misspelt
from twisted_mail_node.settings_routes import parse_next_hop
from twisted_mail_node.smtp.reply import printable
from twisted_mail_node.spool.mail import Attempt, Filter, Mail, Tally
from twisted_mail_node.threads import in_thread

#: Octets of content that can be asked for: larger mail is not accepted.
OFFSET_MAX = 1 << 40


class Queue(Protocol):
    """What the orders need of the queue. Each method that changes mails ends with the queue ids it found."""

    def find(self, wanted: Filter) -> Awaitable[Sequence[Mail]]: ...
    def select(self, wanted: Filter, limit: int, after: str = "") -> Awaitable[Sequence[str]]: ...
    def tally(self, wanted: Filter, by: str = "destination") -> Awaitable[Sequence[Tally]]: ...
    def attempts(self, queue_id: str) -> Awaitable[Sequence[Attempt]]: ...
    def count(self) -> Awaitable[dict[str, int]]: ...
    def hold(self, queue_ids: Sequence[str]) -> Awaitable[Sequence[str]]: ...
    def release(self, queue_ids: Sequence[str]) -> Awaitable[Sequence[str]]: ...
    def retry(self, queue_ids: Sequence[str], probe: bool = True) -> Awaitable[Sequence[str]]: ...
    def remove(self, queue_ids: Sequence[str]) -> Awaitable[Sequence[str]]: ...
    def fail(self, queue_ids: Sequence[str], words: str) -> Awaitable[Sequence[str]]: ...
    def reroute(self, queue_ids: Sequence[str], next_hop: str) -> Awaitable[Sequence[str]]: ...
    def freeze(self, destination: str, words: str) -> Awaitable[None]: ...
    def thaw(self, destination: str) -> Awaitable[bool]: ...
    def frozen(self) -> Sequence[Shape]: ...
    def status(self) -> dict[str, Any]: ...


class Result(NamedTuple):
    """What an order came to: items, made one by one while they are sent, and what the last line says."""

    items: Iterable[Shape]
    last: Shape


class QueueOrders:
    """Carries out orders on the queue.

    :param queue: the queue of the node.
    :param reactor: for the threads that read contents and add up, and for the time.
    """

    def __init__(self, queue: Callable[[], Queue], reactor: Any, rates: Callable[[], tuple[float, float]]) -> None:
        self._queue = queue
        self._reactor = reactor
        self.snapshots = Snapshots(queue, reactor, rates)
        self.commands: dict[str, Callable[[Shape], Awaitable[Result]]] = {
            "queue.find": self.find,
            "queue.attempts": self.attempts,
            "queue.content": self.content,
            "queue.tally": self.tally,
            "queue.top": self.top,
            "queue.hold": lambda message: self.change(message, "hold"),
            "queue.release": lambda message: self.change(message, "release"),
            "queue.retry": lambda message: self.change(message, "retry"),
            "queue.remove": lambda message: self.change(message, "remove"),
            "queue.fail": lambda message: self.change(message, "fail"),
            "queue.reroute": lambda message: self.change(message, "reroute"),
            "queue.freeze": self.freeze,
            "queue.thaw": self.thaw,
            "queue.frozen": self.frozen,
        }

    # ---- to look at ------------------------------------------------------------------------------------------

    async def find(self, message: Shape) -> Result:
        """Mails in the spool; with ``"header": true`` each with its header."""
        wanted = filter_from(message)
        with_header = message.get("header") is True
        if with_header and wanted.limit > HEADERS_AT_ONCE:
            raise RequestError(f"headers of at most {HEADERS_AT_ONCE} mails at once: give a 'limit'")
        mails = await self._queue().find(wanted)
        if not with_header:
            return Result(_shapes(mails), {"count": len(mails)})
        shapes = []
        for mail in mails:
            try:
                header = await in_thread(self._reactor, read_header, mail)
            except OSError as error:
                header = f"(the content cannot be read: {error})"
            shapes.append({**mail_as_shape(mail), "header": header})
        return Result(shapes, {"count": len(shapes)})

    async def attempts(self, message: Shape) -> Result:
        """The attempts for the mail ``id``, oldest first."""
        attempts = await self._queue().attempts(text_from(message, "id", needed=True))
        return Result(map(attempt_as_shape, attempts), {"count": len(attempts)})

    async def content(self, message: Shape) -> Result:
        """A piece of the mail ``id``, from ``offset`` on, in base64. The piece behind the end is empty."""
        queue_id = text_from(message, "id", needed=True)
        offset = number_from(message, "offset", 0, 0, OFFSET_MAX)
        mails = await self._queue().find(Filter(queue_ids=(queue_id,), limit=1))
        if not mails:
            raise RequestError(f"no mail in the queue has the id {printable(queue_id)}")

        def read() -> str:
            return base64.b64encode(read_content(mails[0], offset, CONTENT_AT_ONCE)).decode("ascii")

        try:
            octets = await in_thread(self._reactor, read)
        except OSError as error:
            raise RequestError(f"the content cannot be read: {error}") from error
        return Result((), {"size": len(mails[0].header) + mails[0].content.size, "octets": octets})

    async def tally(self, message: Shape) -> Result:
        """How many recipients a filter finds, ``by`` destination, cause, kind, age, sender or state."""
        wanted, by = filter_from(message), by_from(message)
        most = number_from(message, "groups", 1000, 1, GROUPS_MAX)
        answers = [
            (question, await self._queue().tally(question.wanted, question.by))
            for question in questions(wanted, by, self._reactor.seconds())
        ]
        groups, total = await in_thread(self._reactor, grouped, by, answers, most)
        return Result(groups, total)

    async def top(self, message: Shape) -> Result:
        """How the queue is as a whole (``admin.snapshot``)."""
        return Result((), await self.snapshots.take())

    # ---- to change -------------------------------------------------------------------------------------------

    async def change(self, message: Shape, order: Order) -> Result:
        """Carry out an order on the mails with these ``ids``, or on a page of those a filter finds (``"all": true``),
        ``behind`` a queue id; with ``"dry_run": true`` only count them."""
        wanted = filter_from(message)
        last: Shape = {}
        if wanted.queue_ids:
            ids = list(dict.fromkeys(wanted.queue_ids))
        elif message.get("all") is True:
            behind = text_from(message, "behind")
            length = min(wanted.limit, IDS_AT_ONCE)
            page = await self._queue().select(wanted, length, behind)
            ids = await self._chosen(order, page)
            last = {"behind": page[-1] if len(page) == length else None}
        else:
            raise RequestError("which mails? give 'ids', or 'all' with a filter")
        carry_out = self._carry_out(message, order)
        if message.get("dry_run") is True:
            return Result((), {"count": len(ids), "unknown": [], **last})
        found = list(await carry_out(ids)) if ids else []
        known = set(found)
        unknown = [one for one in ids if one not in known] if wanted.queue_ids else []
        return Result(({"queue_id": one} for one in found), {"count": len(found), "unknown": unknown, **last})

    async def _chosen(self, order: Order, page: Sequence[str]) -> list[str]:
        """Those of a page that an order for many is for."""
        if order not in MAKE_DUE or not page:
            return list(page)
        mails = await self._queue().find(Filter(queue_ids=tuple(page), limit=len(page)))
        return chosen(order, mails, self._reactor.seconds())

    def _carry_out(self, message: Shape, order: Order) -> Callable[[Sequence[str]], Awaitable[Sequence[str]]]:
        """The order as a function of queue ids. :raises RequestError: what it needs is missing or wrong."""
        queue = self._queue()
        if order == "hold":
            return queue.hold
        if order == "release":
            return queue.release
        if order == "remove":
            return queue.remove
        if order == "retry":
            first = not text_from(message, "behind")  # the first page ends suspensions for all
            return lambda ids: queue.retry(ids, first)
        if order == "fail":
            words = printable(text_from(message, "words"))
            return lambda ids: queue.fail(ids, words)
        next_hop = next_hop_from(message)
        return lambda ids: queue.reroute(ids, next_hop)

    async def freeze(self, message: Shape) -> Result:
        """Let nothing be tried at a ``destination`` until it is thawed."""
        destination = text_from(message, "destination", needed=True)
        await self._queue().freeze(destination, printable(text_from(message, "words")))
        return Result((), {"destination": destination})

    async def thaw(self, message: Shape) -> Result:
        """Let a ``destination`` be tried again."""
        destination = text_from(message, "destination", needed=True)
        if not await self._queue().thaw(destination):
            raise RequestError(f"{printable(destination)} is not frozen; mailnode queue frozen names what is")
        return Result((), {"destination": destination})

    async def frozen(self, message: Shape) -> Result:
        """The destinations that are frozen."""
        frozen = list(self._queue().frozen())
        return Result(frozen, {"count": len(frozen)})


def next_hop_from(message: Shape) -> str:
    """The ``next_hop`` of a request; ``""``: by the route.

    :raises RequestError: it is none.
    """
    next_hop = text_from(message, "next_hop")
    if next_hop:
        try:
            parse_next_hop(next_hop)
        except Misspelt as error:
            raise RequestError(
                f"{printable(next_hop)} is no next hop. Allowed: {error.allowed}. {error.hint}"
            ) from error
    return next_hop


def _shapes(mails: Sequence[Mail]) -> Iterator[Shape]:
    """One by one, so that a long listing never stands in memory twice."""
    for mail in mails:
        yield mail_as_shape(mail)
