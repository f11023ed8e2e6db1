"""What an operator may order from a running node: each command of the control socket, as one method.

A request that cannot be understood is a ``RequestError``; what the queue or the settings refuse is the sentence they
gave; anything else is logged with its traceback and answered with one sentence. No order ends the node, but ``stop``.
``admin/queue_orders`` has the orders about the queue.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from twisted_mail_node.admin import report_orders
from twisted_mail_node.admin.dkim_orders import dkim_orders
from twisted_mail_node.admin.messages import RequestError, Shape
from twisted_mail_node.admin.queue_orders import Queue, QueueOrders, Result
from twisted_mail_node.admin.route_orders import route
from twisted_mail_node.admin.route_told import RouteInquiry
from twisted_mail_node.admin.suppress_orders import suppress_orders
from twisted_mail_node.spool.mail import SpoolError
from twisted_mail_node.state.dmarc_results import DmarcResults
from twisted_mail_node.state.tls_results import TlsResults

#: Seconds between the answer to ``stop`` and the stop, so that the answer goes out.
STOP_AFTER = 0.1


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
    @property
    def tls_results(self) -> TlsResults: ...
    @property
    def dmarc_results(self) -> DmarcResults: ...
    def status(self) -> dict[str, Any]: ...
    def rates(self) -> tuple[float, float]: ...
    def reload(self) -> object: ...


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
            **QueueOrders(lambda: node.queue, reactor, node.rates).commands,
            "tls-report.show": self.tls_report_show,
            "dmarc-report.show": self.dmarc_report_show,
        }
        self._commands |= suppress_orders(node)
        self._commands |= dkim_orders(node)

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

    async def tls_report_show(self, message: Shape) -> Result:
        """What was counted of TLS with other hosts."""
        return Result(*await report_orders.show(self._node.tls_results, message, self._reactor.seconds()))

    async def dmarc_report_show(self, message: Shape) -> Result:
        """What came of DMARC on a day."""
        return Result(*await report_orders.show(self._node.dmarc_results, message, self._reactor.seconds()))

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
