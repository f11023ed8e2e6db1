"""Mail that can be neither delivered nor returned (a double bounce): ``postmaster`` is told, once, and not too often.

It is a DSN of ours that nobody took, a bounce of somebody else's that we accepted, or mail from an address that leads
nowhere. The notice has the null reverse-path, and a mark in its envelope that only this node can put there: the session
that brought it, where listeners put their own names. Of a notice that fails in its turn nobody is told, also after a
restart; and no client can write the mark to keep its own mail from being told.

Where such notices go in a circle through other hosts, or somebody sends a flood of bounces, the bound ends it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from twisted_mail_node.message.address import Address
from twisted_mail_node.spool.mail import Mail

#: ``Envelope.session`` of a notice, whose listener is ``local``: no session has such an id.
MARK = "double-bounce"
#: Notices within ``PERIOD``: more than anybody reads. What is above it is in the event log alone.
AT_MOST = 100
#: Seconds.
PERIOD = 3600.0


class DoubleBounces:
    """Says whether postmaster is told.

    :param postmaster: whom, as it is now.
    """

    def __init__(self, postmaster: Callable[[], Address], clock: IReactorTime) -> None:
        self._postmaster = postmaster
        self._clock = clock
        self._sent: deque[float] = deque()
        self._dropped = 0

    def whom(self, mail: Mail) -> tuple[Address | None, str]:
        """Who is to be told of this mail; ``None`` and why nobody is."""
        if is_notice(mail):
            return None, "it was a notice to postmaster itself"
        now = self._clock.seconds()
        while self._sent and self._sent[0] <= now - PERIOD:
            self._sent.popleft()
        if len(self._sent) >= AT_MOST:
            self._dropped += 1
            return None, f"postmaster was told of {AT_MOST} within the hour; {self._dropped} not told since then"
        self._sent.append(now)
        self._dropped = 0
        return self._postmaster(), ""


def is_notice(mail: Mail) -> bool:
    """Whether a mail is such a notice."""
    return mail.envelope.listener == "local" and mail.envelope.session == MARK
