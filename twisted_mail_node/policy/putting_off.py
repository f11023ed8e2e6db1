"""Remembers what was put off, so that nothing is put off for ever: each mail once in a time.

In memory only and bounded: a restart, or very many mails at once, may have one put off again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

#: Mails that are remembered; the longest known is forgotten first. Some 300 octets each.
KEPT_MAX = 50_000


class PuttingOff:
    """What was put off lately.

    :param seconds: tells the time.
    :ivar time: seconds for which a mail is not put off again.
    """

    def __init__(self, seconds: Callable[[], float], time: float) -> None:
        self._seconds = seconds
        self.time = time
        self._since: dict[Hashable, float] = {}

    def first(self, mail: Hashable) -> bool:
        """Whether this one may be put off: it was not within the time. Remembers that it is now.

        :param mail: what tells it from others: who brings it, from whom.
        """
        now = self._seconds()
        since = self._since.get(mail)
        if since is not None and now - since < self.time:
            return False
        self._since.pop(mail, None)
        while len(self._since) >= KEPT_MAX:
            del self._since[next(iter(self._since))]
        self._since[mail] = now
        return True
