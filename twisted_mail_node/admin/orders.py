"""What an operator may order from a running node: each command of the control socket, as one method.

A request that cannot be understood is a ``RequestError``; what the queue or the settings refuse is the sentence they
gave; anything else is logged with its traceback and answered with one sentence. No order ends the node, but ``stop``.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from twisted.logger import Logger

from twisted_mail_node.admin.messages import (
    HEADERS_AT_ONCE,
    IDS_AT_ONCE,
    Order,
    RequestError,
    Shape,
    chosen,
    filter_from,
    mail_as_shape,
    read_header,
)
from twisted_mail_node.admin.route_orders import route
from twisted_mail_node.admin.route_told import RouteInquiry
from twisted_mail_node.spool.mail import Filter, Mail, SpoolError
from twisted_mail_node.threads import in_thread

_log = Logger()

#: Seconds between the answer to ``stop`` and the stop, so that the answer goes out.
STOP_AFTER = 0.1


class Queue(Protocol):
    """What the orders need of the queue. Each method ends with the queue ids it found."""

    def find(self, wanted: Filter) -> Awaitable[Sequence[Mail]]: ...
    def hold(self, queue_ids: Sequence[str]) -> Awaitable[Sequence[str]]: ...
    def release(self, queue_ids: Sequence[str]) -> Awaitable[Sequence[str]]: ...
    def retry(self, queue_ids: Sequence[str]) -> Awaitable[Sequence[str]]: ...
    def remove(self, queue_ids: Sequence[str]) -> Awaitable[Sequence[str]]: ...


class Levels(Protocol):
    """What the orders need of ``state.tls_levels.TlsLevels``."""

    def all(self) -> dict[str, str]: ...
    def forget(self, domain: str) -> str: ...


class Node(Protocol):
    """What the orders need of the node."""

    @property
    def tls_levels(self) -> Levels: ...

    @property
    def queue(self) -> Queue: ...
    @property
    def inquiry(self) -> RouteInquiry: ...
    def status(self) -> dict[str, Any]: ...
    def reload(self) -> object: ...


class Result(NamedTuple):
    """What an order came to: items, made one by one while they are sent, and what the last line says."""

    items: Iterable[Shape]
    last: Shape


class Orders:
    """Carries out orders on a node.

    :param reactor: for the thread that reads headers, and the delay of ``stop``.
    :param stop: ends the node in order.
    """

    def __init__(self, node: Node, reactor: Any, stop: Callable[[], object]) -> None:
        self._node = node
        self._reactor = reactor
        self._stop = stop
        self._stopping = False
        self._commands: dict[str, Callable[[Shape], Awaitable[Result]]] = {
            "status": self.status,
            "reload": self.reload,
            "stop": self.stop,
            "tls.list": self.tls_list,
            "tls.forget": self.tls_forget,
            "route": self.route,
            "queue.find": self.find,
            "queue.hold": lambda message: self.change(message, "hold"),
            "queue.release": lambda message: self.change(message, "release"),
            "queue.retry": lambda message: self.change(message, "retry"),
            "queue.remove": lambda message: self.change(message, "remove"),
        }

    async def carry_out(self, message: Shape) -> Result:
        """Carry out one request.

        :raises RequestError: it was not understood or not possible; the sentence is for the operator.
        """
        command = message.get("command")
        order = self._commands.get(command) if isinstance(command, str) else None
        if order is None:
            raise RequestError(f"unknown command; this node knows {', '.join(sorted(self._commands))}")
        try:
            return await order(message)
        except SpoolError as error:
            raise RequestError(f"the spool refused: {error}") from error

    async def status(self, message: Shape) -> Result:
        """How the node is."""
        return Result((), {"pid": os.getpid(), **self._node.status()})

    async def reload(self, message: Shape) -> Result:
        """Read the settings and accounts anew; wrong settings change nothing, and their problems are the answer."""
        try:
            outcome = self._node.reload()
            if inspect.isawaitable(outcome):
                await outcome
        except (ValueError, OSError) as error:
            raise RequestError(f"the old settings stay in force: {error}") from error
        return Result((), {})

    async def stop(self, message: Shape) -> Result:
        """Stop in order: mail in transfer is finished first."""
        if not self._stopping:
            self._stopping = True
            self._reactor.callLater(STOP_AFTER, self._stop)
        return Result((), {"pid": os.getpid()})

    async def tls_list(self, message: Shape) -> Result:
        """The protection that was reached with domains."""
        known = self._node.tls_levels.all()
        return Result(({"domain": domain, "level": known[domain]} for domain in sorted(known)), {"count": len(known)})

    async def tls_forget(self, message: Shape) -> Result:
        """Forget that of one domain."""
        domain = message.get("domain")
        if not isinstance(domain, str) or not domain:
            raise RequestError("'domain' must be a domain")
        return Result((), {"level": self._node.tls_levels.forget(domain)})

    async def route(self, message: Shape) -> Result:
        """What would become of a mail (``admin.route_orders``)."""
        return Result((), await route(self._node, message))

    async def find(self, message: Shape) -> Result:
        """Mails in the spool; with ``"header": true`` each with its header."""
        wanted = filter_from(message)
        with_header = message.get("header") is True
        if with_header and wanted.limit > HEADERS_AT_ONCE:
            raise RequestError(f"headers of at most {HEADERS_AT_ONCE} mails at once: give a 'limit'")
        mails = await self._node.queue.find(wanted)
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

    async def change(self, message: Shape, order: Order) -> Result:
        """Hold, release, retry or remove the mails with these ``ids``, or those a filter finds (``"all": true``)."""
        wanted = filter_from(message)
        if wanted.queue_ids:
            ids = list(dict.fromkeys(wanted.queue_ids))
        elif message.get("all") is True:
            ids = chosen(order, await self._node.queue.find(wanted), self._reactor.seconds())
        else:
            raise RequestError("which mails? give 'ids', or 'all' with a filter")
        carry_out: Callable[[Sequence[str]], Awaitable[Sequence[str]]] = getattr(self._node.queue, order)
        found: list[str] = []
        for start in range(0, len(ids), IDS_AT_ONCE):
            found += await carry_out(ids[start : start + IDS_AT_ONCE])
        known = set(found)
        unknown = [one for one in ids if one not in known] if wanted.queue_ids else []
        return Result(({"queue_id": one} for one in found), {"count": len(found), "unknown": unknown})


def _shapes(mails: Sequence[Mail]) -> Iterator[Shape]:
    """One by one, so that a long listing never stands in memory twice."""
    for mail in mails:
        yield mail_as_shape(mail)
