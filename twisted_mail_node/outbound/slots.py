"""Connections at a time, counted for all pools together that share a limit.

A pool takes a slot before it connects and gives it back when the connection is gone, whoever closed it: so the limit is
kept to the last connection. Where none is free, an idle connection of any of the pools makes room; else they wait in
turn.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import NamedTuple, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from twisted_mail_node.waiting import DeadlineError, within

#: Seconds a pool waits for a slot; its mails are put off then.
SLOT_TIME = 600.0


class NoSlot(Exception):
    """No connection may be made now. :ivar needless: none is needed any more, either."""

    def __init__(self, words: str, needless: bool = False) -> None:
        super().__init__(words)
        self.needless = needless


class Owner(Protocol):
    """Who takes slots: a pool."""

    @property
    def in_need(self) -> bool:
        """Mail waits for a connection."""

    def give_way(self) -> bool:
        """Close a connection that idles; whether there was one."""


class Slot:
    """The right to one connection."""

    __slots__ = ("_key", "_owner", "_slots")

    def __init__(self, slots: Slots, key: str, owner: Owner) -> None:
        self._slots: Slots | None = slots
        self._key = key
        self._owner = owner

    def give_back(self) -> None:
        """The connection is gone, or was never made. More than once does no harm."""
        slots, self._slots = self._slots, None
        if slots is not None:
            slots._given_back(self._key, self._owner)


class _Waiter(NamedTuple):
    owner: Owner
    granted: Deferred[Slot]


class _Place:
    """All slots of one limit."""

    __slots__ = ("most", "used", "waiting")

    def __init__(self) -> None:
        self.most = 0
        self.used: Counter[Owner] = Counter()
        self.waiting: deque[_Waiter] = deque()


class Slots:
    """All limits of connections at a time."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._places: dict[str, _Place] = {}

    async def take(self, owner: Owner, key: str, most: int) -> Slot:
        """A slot: at once, or when it is the owner's turn.

        :param key: whoever has the same shares the slots.
        :param most: how many there are.
        :raises NoSlot: none came free in time, or the owner needs none any more.
        """
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = _Place()
        place.most = most
        if place.used.total() < most and not place.waiting:
            place.used[owner] += 1
            return Slot(self, key, owner)
        waiter = _Waiter(owner, Deferred(lambda _: self._leave(key, waiter)))
        place.waiting.append(waiter)
        self._fill(key)  # `most` may have grown
        if not waiter.granted.called:
            any(other.give_way() for other in list(place.used))
        try:
            return await within(self._clock, SLOT_TIME, waiter.granted)
        except DeadlineError:
            raise NoSlot(f"all {most} connections that may be made at a time were in use for {SLOT_TIME:g} s") from None

    def is_wanted(self, key: str, without: Owner | None = None) -> bool:
        """Whether somebody waits for a slot and still needs it.

        :param without: somebody who does not count.
        """
        place = self._places.get(key)
        if place is None or not place.waiting:
            return False
        return any(waiter.owner is not without and waiter.owner.in_need for waiter in place.waiting)

    def withdraw(self, owner: Owner, key: str) -> None:
        """The owner needs no more slots than it has."""
        place = self._places.get(key)
        if place is None or not place.waiting:
            return
        for waiter in [waiter for waiter in place.waiting if waiter.owner is owner]:
            place.waiting.remove(waiter)
            waiter.granted.errback(NoSlot("it is not needed any more", needless=True))
        self._fill(key)

    def status(self) -> dict[str, tuple[int, int, int]]:
        """Of each limit: slots in use, slots there are, and who waits."""
        return {key: (place.used.total(), place.most, len(place.waiting)) for key, place in self._places.items()}

    def _given_back(self, key: str, owner: Owner) -> None:
        used = self._places[key].used
        used[owner] -= 1
        if not used[owner]:
            del used[owner]
        self._fill(key)

    def _fill(self, key: str) -> None:
        """Hand free slots to who waits, in turn."""
        place = self._places.get(key)
        while place is not None and place.waiting and place.used.total() < place.most:
            owner, granted = place.waiting.popleft()
            if owner.in_need:
                place.used[owner] += 1
                granted.callback(Slot(self, key, owner))
            else:
                granted.errback(NoSlot("it is not needed any more", needless=True))
        if place is not None and not place.used and not place.waiting and self._places.get(key) is place:
            del self._places[key]

    def _leave(self, key: str, waiter: _Waiter) -> None:
        """It waited too long."""
        place = self._places.get(key)
        if place is not None and waiter in place.waiting:
            place.waiting.remove(waiter)
        self._fill(key)
