"""Quota tells at once whether a mailbox is full, from a usage that is counted in a thread now and then.

RCPT asks it, so it never waits: an answer may be a minute old, and before the first count a mailbox is not full.
A quota is a fence, not a wall: a few mails may get over it while they are on their way.
"""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import cast

from twisted.internet.interfaces import IReactorThreads, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_mail_node.message.address import Address
from twisted_mail_node.threads import in_thread

_log = Logger()

#: Seconds a count is good for.
REFRESH = 60.0
#: Mailboxes whose usage is remembered; about 300 octets each.
MAILBOXES_MAX = 10_000
#: Counts at the same time; they only read directories.
COUNTS_MAX = 4
#: Folders of a mailbox that are counted.
FOLDERS_MAX = 1000
#: Maildir++: the size stands in the file's name and needs no ``stat``.
_SIZE = re.compile(r",S=(\d+)(?=[,:]|\Z)")


class _Usage:
    __slots__ = ("counted", "counting", "octets", "since")

    def __init__(self) -> None:
        self.octets = 0
        self.since = 0
        self.counted = float("-inf")
        self.counting = False


def count(path: str) -> int:
    """Octets of the mails in ``new`` and ``cur``, and those of its folders (Maildir++); 0 without a Maildir. Blocks.

    :raises OSError: it cannot be read.
    """
    return _count(path) + sum(_count(os.path.join(path, name)) for name in _folders(path))


def _folders(path: str) -> list[str]:
    """The folders of a Maildir, at most ``FOLDERS_MAX``; no symbolic links."""
    try:
        with os.scandir(path) as entries:
            found = (one.name for one in entries if one.name.startswith(".") and one.is_dir(follow_symlinks=False))
            return list(islice(found, FOLDERS_MAX))
    except FileNotFoundError:
        return []


def _count(path: str) -> int:
    octets = 0
    for name in ("new", "cur"):
        try:
            entries = os.scandir(os.path.join(path, name))
        except FileNotFoundError:
            continue
        with entries:
            for entry in entries:
                found = _SIZE.search(entry.name)
                if found:
                    octets += int(found[1])
                    continue
                try:
                    octets += entry.stat(follow_symlinks=False).st_size
                except FileNotFoundError:  # read and moved meanwhile
                    pass
    return octets


class Quota:
    """How full mailboxes are.

    :param limit_of: octets an address may use, ``None`` for no limit.
    :param path_of: where its Maildir is.
    :param reactor: for time and threads.
    """

    def __init__(
        self,
        limit_of: Callable[[Address], int | None],
        path_of: Callable[[Address], Path | None],
        reactor: IReactorTime,
    ) -> None:
        self._limit_of = limit_of
        self._path_of = path_of
        self._reactor = reactor
        self._usages: OrderedDict[Address, _Usage] = OrderedDict()
        self._counts = 0

    def over(self, address: Address, size: int = 0) -> bool:
        """True when ``size`` octets more would be over the quota of ``address``. Answers at once.

        Without ``size``: True when the quota is used up.
        """
        limit = self._limit_of(address)
        if limit is None:
            return False
        usage = self._usages.get(address)
        if usage is None:
            usage = self._usages[address] = _Usage()
            if len(self._usages) > MAILBOXES_MAX:
                self._usages.popitem(last=False)
        else:
            self._usages.move_to_end(address)
        if not usage.counting and self._reactor.seconds() - usage.counted >= REFRESH:
            self._count(address, usage)
        used = usage.octets + usage.since
        return used + size > limit if size else used >= limit

    def delivered(self, address: Address, octets: int) -> None:
        """A mail of ``octets`` lies in the mailbox now."""
        usage = self._usages.get(address)
        if usage is not None:
            usage.since += octets

    def _count(self, address: Address, usage: _Usage) -> None:
        path = self._path_of(address)
        if path is None or self._counts >= COUNTS_MAX:
            return
        usage.counting = True
        self._counts += 1
        before = usage.since

        def counted(octets: int) -> None:
            # What came while we counted may be counted twice; the next count puts it right.
            usage.octets = octets
            usage.since -= before

        def failed(failure: Failure) -> None:
            _log.warn("the usage of {path} could not be counted: {error}", path=path, error=failure.getErrorMessage())

        def ended(_: object) -> None:
            usage.counting = False
            usage.counted = self._reactor.seconds()
            self._counts -= 1

        in_thread(cast(IReactorThreads, self._reactor), count, os.fspath(path)).addCallbacks(counted, failed).addBoth(
            ended
        )
