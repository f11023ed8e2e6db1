"""The addresses we connect from: pools of ``[[source]]``, of which each connection gets one by its weight.

The choice is smooth: with weights 3 and 1 it goes a a b a, not a a a b. Each family of addresses has turns of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import ip_address
from typing import NamedTuple

from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import Source

#: The pool that is used where neither a route nor a destination names one.
DEFAULT = "default"


class Chosen(NamedTuple):
    """Where a connection comes from.

    :ivar address: ``""``: whatever the system chooses.
    :ivar hostname: what EHLO says from there; ``""``: the node's name.
    """

    address: str
    hostname: str = ""


#: The system's choice.
ANY = Chosen("")


class _Turn:
    """An address of a pool, and how much it is owed."""

    __slots__ = ("chosen", "owed", "weight")

    def __init__(self, source: Source) -> None:
        self.chosen = Chosen(source.address, source.hostname or "")
        self.weight = source.weight
        self.owed = 0


class Sources:
    """All pools."""

    def __init__(self, sources: Iterable[Source] = ()) -> None:
        self.reload(sources)

    def reload(self, sources: Iterable[Source]) -> None:
        """Let other pools be in force."""
        self._pools: dict[str, dict[bool, list[_Turn]]] = {}
        for source in sources:
            families = self._pools.setdefault(source.pool, {})
            families.setdefault(":" in source.address, []).append(_Turn(source))

    def pool_for(self, *named: str) -> str:
        """The first pool that is named, else ``default`` if there is one, else ``""``: the system chooses."""
        return next(filter(None, named), DEFAULT if DEFAULT in self._pools else "")

    def choose(self, pool: str, ip: str, without: Collection[str] = ()) -> Chosen | None:
        """Where the next connection to ``ip`` comes from; ``None`` when no address of the pool can do.

        :param pool: what ``pool_for`` gave. ``default`` does not count for what is on this machine.
        :param without: addresses that cannot be used.
        """
        if not pool or (pool == DEFAULT and is_loopback(ip)):
            return ANY
        turns = [
            turn
            for turn in self._pools.get(pool, {}).get(":" in ip, ())
            if turn.chosen.address not in without
        ]  # fmt: skip
        if not turns:
            return None
        for turn in turns:
            turn.owed += turn.weight
        best = max(turns, key=lambda turn: turn.owed)
        best.owed -= sum(turn.weight for turn in turns)
        return best.chosen

    def addresses(self, pool: str) -> list[str]:
        """All addresses of a pool, for a person."""
        return [turn.chosen.address for turns in self._pools.get(pool, {}).values() for turn in turns]


def cannot_bind(source: str, host: str, address: str, error: Exception) -> DeliveryStatus:
    """An address of a pool is not this machine's (any more)."""
    words = f"no connection to {host} ({address}) from {source}: the address cannot be used here: {error}"
    return DeliveryStatus(Action.DELAYED, "4.4.1", Reason.NO_SOURCE, words, host, address, source=source)


def no_source(pool: str, host: str, address: str, unusable: Collection[str]) -> DeliveryStatus:
    """No address of a pool can reach a host."""
    family = "IPv6" if address.startswith("[") else "IPv4"
    words = f'the [[source]] pool "{pool}" has no {family} address'
    if unusable:
        words += f" that can be used here ({', '.join(unusable)} cannot)"
    words += f"; {host} ({address}) was not tried"
    return DeliveryStatus(Action.DELAYED, "4.4.1", Reason.NO_SOURCE, words, host, address)


def is_loopback(ip: str) -> bool:
    """Whether this is a loopback address; a name is none, whatever it stands for."""
    try:
        return ip_address(ip).is_loopback
    except ValueError:
        return False
