"""How many mails an account has sent within the last hour, a minute at a time: a window that slides."""

from __future__ import annotations

from collections import OrderedDict, deque

from twisted.internet.interfaces import IReactorTime

#: Seconds of the window.
HOUR = 3600
#: What is counted together; the window has this grain.
MINUTE = 60
#: Accounts that are remembered; who has sent nothing for longest is forgotten first.
ACCOUNTS_MAX = 50_000


class Pace:
    """Counts what accounts send. At most ``HOUR / MINUTE + 1`` pairs of numbers are kept for each."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._sent: OrderedDict[str, deque[list[int]]] = OrderedDict()  # account → [minute, mails]

    def wait_of(self, account: str, most: int) -> float:
        """Seconds until the account may send its next mail; 0: now.

        :param most: mails within an hour; 0: no bound.
        """
        sent = self._sent.get(account)
        if not most or not sent:
            return 0.0
        now = self._clock.seconds()
        minute = int(now) // MINUTE
        while sent and sent[0][0] <= minute - HOUR // MINUTE:
            sent.popleft()
        over = sum(mails for _, mails in sent) - most
        for begun, mails in sent:
            if over < 0:
                break
            over -= mails
            if over < 0:
                return begun * MINUTE + HOUR - now
        return 0.0

    def count(self, account: str) -> None:
        """The account sends a mail."""
        minute = int(self._clock.seconds()) // MINUTE
        sent = self._sent.get(account)
        if sent is None:
            sent = self._sent[account] = deque(maxlen=HOUR // MINUTE + 1)
            if len(self._sent) > ACCOUNTS_MAX:
                self._sent.popitem(last=False)
        self._sent.move_to_end(account)
        if sent and sent[-1][0] == minute:
            sent[-1][1] += 1
        else:
            sent.append([minute, 1])
