"""A leaner epoll reactor: an octet that arrives at one of our TCP connections goes straight to it.

Twisted's own puts a logging context around every single read (seven calls deep), which costs more than many a read
itself. Everything else is Twisted's: timers, threads, processes, writes, other transports, and all errors. Any other
reactor serves the node too; this one is only faster.
"""

from __future__ import annotations

import errno
import select
import sys
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.logger import Logger
from twisted.python import log

from twisted_mail_node.net.tls_transport import SecureClient, SecureServer
from twisted_mail_node.net.transport import Client, Server

_log = Logger()

_READABLE = select.EPOLLIN
#: Transports whose ``doRead`` is called without more ado.
_OURS = frozenset((Server, Client, SecureServer, SecureClient))


class LeanReactor(EPollReactor):
    """See above."""

    def doPoll(self, timeout: float | None) -> None:
        """One turn: wait, and hand out what came."""
        selectables: dict[int, Any] = self._selectables
        disconnect: Any = self._disconnectSelectable
        try:
            found = self._poller.poll(-1 if timeout is None else timeout, len(selectables))
        except OSError as error:
            if error.errno == errno.EINTR:
                return
            raise
        for fd, event in found:
            selectable = selectables.get(fd)
            if selectable is None:
                continue
            if event == _READABLE and type(selectable) in _OURS and selectable.fileno() == fd:
                try:
                    why = selectable.doRead()
                except Exception:
                    _log.failure("a connection broke")
                    why = sys.exc_info()[1]
                if why:
                    disconnect(selectable, why, True)
            else:
                log.callWithLogger(selectable, self._doReadOrWrite, selectable, fd, event)

    doIteration = doPoll


def install() -> Any:
    """Make it the process's reactor, if there is none yet; gives the reactor that is installed."""
    from twisted.internet.main import installReactor

    if "twisted.internet.reactor" not in sys.modules:
        installReactor(LeanReactor())  # type: ignore[no-untyped-call]
    return sys.modules["twisted.internet.reactor"]
