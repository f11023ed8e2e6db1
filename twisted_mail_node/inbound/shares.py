"""A share of the DNS for each client: who brings many mails with slow names holds up its own mails, and nobody else's.

The resolver has a bounded number of questions on their way for the whole node. A client (an IPv6 /64 is one) has so
many of them for finding out who sent its mails; what it asks beyond that waits for an answer to one of its own.
"""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import Deferred

from twisted_mail_node.mailauth.resolving import Records, Resolver
from twisted_mail_node.net.limits import network_of

#: Questions of a client on their way. A hundred sessions of an honest one need a few at a time, for most is remembered;
#: the resolver has 500 places.
SHARE = 100


class _Line:
    """What one client has on its way, and what waits."""

    __slots__ = ("count", "waiting", "waking")

    def __init__(self) -> None:
        self.count = 0
        self.waiting: deque[Deferred[None]] = deque()
        self.waking = False


class Shares:
    """Gives each client a resolver of its own.

    :param resolver: asks in the end.
    """

    def __init__(self, resolver: Resolver) -> None:
        self.resolver = resolver
        self._lines: dict[str, _Line] = {}

    def of(self, client: str) -> Share:
        """The resolver for a client's mails."""
        return Share(self, network_of(client))

    def enter(self, network: str) -> Deferred[None] | None:
        """Take a place; ``None``: there was one, else wait for this."""
        line = self._lines.get(network)
        if line is None:
            line = self._lines[network] = _Line()
        if line.count < SHARE:
            line.count += 1
            return None
        waiter: Deferred[None] = Deferred(line.waiting.remove)
        line.waiting.append(waiter)
        return waiter

    def leave(self, network: str) -> None:
        """Give a place back; who waits longest has it. One who is woken may come back here at once: the outer call
        goes on then, so that a long line makes no deep stack."""
        line = self._lines[network]
        line.count -= 1
        if line.waking:
            return
        line.waking = True
        while line.waiting and line.count < SHARE:
            line.count += 1
            line.waiting.popleft().callback(None)
        line.waking = False
        if not line.count and not line.waiting:
            del self._lines[network]


class Share:
    """A client's resolver."""

    __slots__ = ("_network", "_shares")

    def __init__(self, shares: Shares, network: str) -> None:
        self._shares = shares
        self._network = network

    async def query(self, name: str, rdtype: str) -> Records:
        """See ``mailauth.resolving.Resolver``."""
        waiter = self._shares.enter(self._network)
        if waiter is not None:
            await waiter
        try:
            return await self._shares.resolver.query(name, rdtype)
        finally:
            self._shares.leave(self._network)
