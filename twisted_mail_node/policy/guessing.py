"""Wrong passwords make the next ones wait: for each client address, for each IPv6 /64, and for each account.

What is counted fades: after ``HALF_LIFE`` half of it is forgotten. Three tallies are kept:

* Of an address (an IPv4 address, or an IPv6 /64, which is one customer). Its attempts wait longer and longer; with
  ``REFUSED_AT`` failures, or ``WAITING_MAX`` attempts that wait at once, they are refused until some have faded.
* Of an account, for guesses that come from many addresses. It only delays, by ``ACCOUNT_LONGEST`` at most: who could
  lock an account by guessing would lock its owner out.
* Of an account at an address where it signed in lately. Such an address is known for this account, and then this
  tally alone counts: what strangers do elsewhere never makes the owner wait.

A success forgives its address the failures for this account, and no others: somebody with an account of their own
cannot wash away their guesses at the accounts of others.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque

from twisted.internet.interfaces import IReactorTime

from twisted_mail_node.events import GuessingSlowed, Publish
from twisted_mail_node.message.address import domain_key
from twisted_mail_node.net.limits import network_of
from twisted_mail_node.smtp.grammar import parse_address

#: Seconds until half of what was counted is forgotten.
HALF_LIFE = 300.0
#: Failures that cost nothing: people mistype, and programs try an old password a few times.
FREE = 3
#: The same for an account, whose failures come from everywhere.
ACCOUNT_FREE = 5
#: Seconds the first attempt that waits must wait; each further failure doubles it.
FIRST_WAIT = 0.5
#: Seconds an attempt waits at most because of failures for its account.
ACCOUNT_LONGEST = 4.0
#: Failures of one address at which its attempts are refused.
REFUSED_AT = 20
#: Attempts of one address that may wait at once.
WAITING_MAX = 10
#: An address where somebody signed in lately is refused at so many times the numbers above: it may be an office's.
KNOWN_FACTOR = 5
#: Seconds for which an address stays known for an account.
KNOWN_TIME = 30 * 86400.0
#: Addresses that are known for one account.
KNOWN_MAX = 64
#: Keys of each table; what was touched least lately is forgotten first.
KEYS_MAX = 50_000
#: A tally grows no further: what is above is as bad, and would only take longer to fade.
TALLY_MAX = 2.0 * REFUSED_AT * KNOWN_FACTOR
#: Characters of a name that are looked at; no account has more.
NAME_MAX = 320


class _Tally:
    """Failures that fade.

    :ivar told: the longest wait that an event told of since the tally was last calm.
    """

    __slots__ = ("_count", "_when", "told")

    def __init__(self, now: float) -> None:
        self._count = 0.0
        self._when = now
        self.told = 0.0

    def at(self, now: float) -> float:
        return float(self._count * 0.5 ** ((now - self._when) / HALF_LIFE))

    def add(self, number: float, now: float) -> None:
        self._count = min(TALLY_MAX, max(0.0, self.at(now) + number))
        self._when = now


class _Tallies:
    """Tallies by key, at most ``KEYS_MAX``."""

    __slots__ = ("_of",)

    def __init__(self) -> None:
        self._of: OrderedDict[str, _Tally] = OrderedDict()

    def __len__(self) -> int:
        return len(self._of)

    def at(self, key: str, now: float) -> float:
        tally = self._of.get(key)
        return 0.0 if tally is None else tally.at(now)

    def one(self, key: str, now: float) -> _Tally:
        tally = self._of.get(key)
        if tally is None:
            tally = self._of[key] = _Tally(now)
            if len(self._of) > KEYS_MAX:
                self._of.popitem(last=False)
        else:
            self._of.move_to_end(key)
        return tally

    def forgive(self, key: str, number: float, now: float) -> None:
        """Take so many off. All tallies fade alike, so what was added once is still there in its part."""
        tally = self._of.get(key)
        if tally is not None:
            tally.add(-number, now)

    def drop(self, key: str) -> None:
        self._of.pop(key, None)


class Guessing:
    """Counts wrong passwords, and tells how long the next attempt waits.

    :param longest: seconds; no attempt waits longer.
    """

    def __init__(self, *, clock: IReactorTime, publish: Publish, longest: float = 30.0) -> None:
        self._clock = clock
        self._publish = publish
        self.longest = longest
        self._addresses = _Tallies()
        self._accounts = _Tallies()
        self._pairs = _Tallies()
        # account → networks where it signed in → when it last did; both in the order of the last success
        self._known: OrderedDict[str, OrderedDict[str, float]] = OrderedDict()
        self._homes: dict[str, int] = {}  # network → accounts that know it
        self._waiting: OrderedDict[str, deque[float]] = OrderedDict()  # network → when attempts have waited enough

    def delay(self, client: str, name: str) -> float:
        """Seconds this attempt must wait before it is looked at. Ask once for each attempt: those that wait count."""
        network, name, now = network_of(client), _folded(name), self._clock.seconds()
        if self._is_known(network, name, now):
            seconds = self._wait(self._pairs.at(_pair(network, name), now), FREE, self.longest)
        else:
            seconds = max(
                self._wait(self._addresses.at(network, now), FREE, self.longest),
                self._wait(self._accounts.at(name, now), ACCOUNT_FREE, ACCOUNT_LONGEST),
            )
        if seconds:
            self._waits(network, now).append(now + seconds)
        return seconds

    def is_refused(self, client: str) -> bool:
        """Too many attempts of this address wait already, or failed: this one is not looked at at all."""
        return self.wait_of(client) > 0

    def wait_of(self, client: str) -> float:
        """Seconds until an attempt of this address is looked at again; 0 when it is not refused."""
        network, now = network_of(client), self._clock.seconds()
        factor = KNOWN_FACTOR if network in self._homes else 1
        seconds = 0.0
        failures = self._addresses.at(network, now)
        if round(failures) >= REFUSED_AT * factor:
            seconds = HALF_LIFE * math.log2(failures / (REFUSED_AT * factor - 0.5)) + 0.001
        if network in self._waiting:
            ends = self._waits(network, now)
            if len(ends) >= WAITING_MAX * factor:
                seconds = max(seconds, sorted(ends)[-WAITING_MAX * factor] - now)
        return seconds

    def failed(self, client: str, name: str) -> None:
        """An attempt was wrong."""
        network, name, now = network_of(client), _folded(name), self._clock.seconds()
        self._count(self._addresses, network, network, FREE, self.longest, now)
        self._count(self._accounts, name, name, ACCOUNT_FREE, ACCOUNT_LONGEST, now)
        self._pairs.one(_pair(network, name), now).add(1, now)

    def succeeded(self, client: str, name: str) -> None:
        """An attempt was right."""
        network, name, now = network_of(client), _folded(name), self._clock.seconds()
        pair = _pair(network, name)
        own = self._pairs.at(pair, now)
        if own:
            self._addresses.forgive(network, own, now)
            self._accounts.forgive(name, own, now)
            self._pairs.drop(pair)
        self._know(network, name, now)

    # ---- tallies ---------------------------------------------------------------------------------------------

    def _wait(self, failures: float, free: int, longest: float) -> float:
        over = round(failures) - free
        if over <= 0:
            return 0.0
        return min(longest, self.longest, FIRST_WAIT * 2.0 ** min(over - 1, 32))

    def _count(self, tallies: _Tallies, key: str, what: str, free: int, longest: float, now: float) -> None:
        """One more failure; an event when it makes the key's attempts wait, or wait twice as long."""
        tally = tallies.one(key, now)
        if self._wait(tally.at(now), free, longest) == 0:
            tally.told = 0.0
        tally.add(1, now)
        failures = tally.at(now)
        seconds = self._wait(failures, free, longest)
        if seconds > tally.told:
            tally.told = seconds
            self._publish(GuessingSlowed(what, round(failures), seconds))

    def _waits(self, network: str, now: float) -> deque[float]:
        """When the attempts of this address that still wait will have waited enough."""
        ends = self._waiting.get(network)
        if ends is None:
            ends = self._waiting[network] = deque(maxlen=2 * WAITING_MAX * KNOWN_FACTOR)
            if len(self._waiting) > KEYS_MAX:
                self._waiting.popitem(last=False)
        else:
            self._waiting.move_to_end(network)
            over = [end for end in ends if end > now]
            if len(over) < len(ends):
                ends.clear()
                ends.extend(over)
        return ends

    # ---- known addresses -------------------------------------------------------------------------------------

    def _is_known(self, network: str, name: str, now: float) -> bool:
        known = self._known.get(name)
        return known is not None and network in known and now - known[network] <= KNOWN_TIME

    def _know(self, network: str, name: str, now: float) -> None:
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = OrderedDict()
        self._known.move_to_end(name)
        if network not in known:
            self._homes[network] = self._homes.get(network, 0) + 1
        known[network] = now
        known.move_to_end(network)
        while len(known) > KNOWN_MAX or now - next(iter(known.values())) > KNOWN_TIME:
            self._leave(known.popitem(last=False)[0])
        if len(self._known) > KEYS_MAX:
            for home in self._known.popitem(last=False)[1]:
                self._leave(home)

    def _leave(self, network: str) -> None:
        left = self._homes[network] - 1
        if left:
            self._homes[network] = left
        else:
            del self._homes[network]


def _folded(name: str) -> str:
    """One spelling of a name: quotes, backslashes and another way to write the domain give no further guesses."""
    name = name[:NAME_MAX].strip()
    try:
        address = parse_address(name)
        name = f"{address.local_part}@{domain_key(address.domain)}"
    except ValueError:
        pass  # a name without a domain, or nobody's
    return name.casefold()


def _pair(network: str, name: str) -> str:
    return f"{network} {name}"
