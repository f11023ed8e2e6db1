"""Remembers for a minute what SPF says of a client and a domain: who sends much sends for few domains.

Only results that hold for every mail of the domain are kept, so none to which a macro of the local-part, of the name in
EHLO or of the time led (RFC 7208 section 7.2), and none for want of an answer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.mailauth.spf import Spf

#: Seconds a result is kept; what the DNS says is kept for its TTL, which is mostly longer.
KEPT = 60.0
#: Results that are kept; the longest known is forgotten first.
KEPT_MAX = 4096
_SURE = (Result.PASS, Result.FAIL, Result.SOFTFAIL, Result.NEUTRAL, Result.NONE)


class Remembered:
    """Results by client and domain.

    :param seconds: tells the time.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._kept: OrderedDict[tuple[str, str], tuple[float, Spf]] = OrderedDict()

    def find(self, client: str, sender: str) -> Spf | None:
        """What is known of a mail from this client with this reverse-path (not the null one)."""
        kept = self._kept.get((client, sender.rpartition("@")[2]))
        if kept is None or kept[0] <= self._seconds():
            return None
        return kept[1]._replace(sender=sender)

    def keep(self, client: str, sender: str, found: Spf) -> None:
        """Remember a result, if it holds for others, too."""
        if found.personal or found.result not in _SURE or found.explanation:
            return
        key = client, sender.rpartition("@")[2]
        self._kept.pop(key, None)
        while len(self._kept) >= KEPT_MAX:
            self._kept.popitem(last=False)
        self._kept[key] = self._seconds() + KEPT, found
