"""How many mails come in and leave each second: an observer of the events that counts and keeps nothing else."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from zope.interface import implementer

from twisted_mail_node.events import Event, MailAccepted, MailFinished
from twisted_mail_node.interfaces import IMailObserver

#: Seconds over which the mean is taken.
OVER = 10


@implementer(IMailObserver)
class Traffic:
    """Counts mails.

    :param now: seconds, from whenever.
    :ivar accepted: mails taken in since the start.
    :ivar finished: mails that left: delivered, passed on, or reported.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._began = now()
        self._seconds: deque[list[int]] = deque(maxlen=OVER + 1)  #: second, accepted and finished until its beginning
        self.accepted = 0
        self.finished = 0

    def observe(self, event: Event) -> None:
        """See IMailObserver."""
        kind = type(event)
        if kind is MailAccepted:
            self._turn()
            self.accepted += 1
        elif kind is MailFinished:
            self._turn()
            self.finished += 1

    def _turn(self) -> None:
        second = int(self._now())
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append([second, self.accepted, self.finished])

    def rates(self) -> tuple[float, float]:
        """Mails accepted and finished a second, in the mean of the last ten seconds."""
        now = self._now()
        since = now - OVER
        accepted, finished = self.accepted, self.finished
        for second, accepted_before, finished_before in self._seconds:
            if second > since:
                accepted, finished = accepted_before, finished_before
                break
        passed = max(1.0, min(float(OVER), now - self._began))
        return (self.accepted - accepted) / passed, (self.finished - finished) / passed
