"""How many connections we bear: in all, for each client address, and for each IPv6 /64, which is one customer."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from twisted_mail_node.reasons import Reason


class Admission:
    """Counts connections, over all listeners.

    :param total: connections in all.
    :param per_address: connections of one IPv4 address or one IPv6 /64.
    :ivar sessions: the last number that a session was given.
    """

    def __init__(self, total: int, per_address: int) -> None:
        self.total = total
        self.per_address = per_address
        self.connections = 0
        self.sessions = 0
        self._of: dict[str, int] = {}

    def enter(self, client: str | None) -> Reason | None:
        """Count a connection; gives why it is one too many, and then does not count it.

        :param client: an address; ``None``: who it is is not known yet, so it counts only among all.
        """
        if self.connections >= self.total:
            return Reason.TOO_MANY_CONNECTIONS
        if client is not None and not self._add(network_of(client)):
            return Reason.TOO_MANY_FROM_ADDRESS
        self.connections += 1
        return None

    def move(self, before: str | None, after: str | None) -> Reason | None:
        """A connection that was counted for ``before`` is ``after``'s; gives why it is one too many for that one, and
        then counts it as before."""
        old, new = (None if client is None else network_of(client) for client in (before, after))
        if old == new:
            return None
        if new is not None and not self._add(new):
            return Reason.TOO_MANY_FROM_ADDRESS
        if old is not None:
            self._take(old)
        return None

    def leave(self, client: str | None) -> None:
        """A connection that was counted (for ``client``) has ended."""
        self.connections -= 1
        if client is not None:
            self._take(network_of(client))

    def _add(self, key: str) -> bool:
        count = self._of.get(key, 0)
        if count >= self.per_address:
            return False
        self._of[key] = count + 1
        return True

    def _take(self, key: str) -> None:
        count = self._of[key] - 1
        if count:
            self._of[key] = count
        else:
            del self._of[key]


def network_of(client: str) -> str:
    """The address itself for IPv4 (mapped into IPv6 or not), its /64 for IPv6."""
    if ":" not in client:
        return client
    try:
        address = IPv6Address(client.partition("%")[0])
    except ValueError:
        return client
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Address(int(address) >> 64 << 64))


@lru_cache(maxsize=4096)
def is_in(client: str, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    """True when the client's address lies in one of the networks; an IPv4-mapped IPv6 address counts as IPv4."""
    try:
        address: IPv4Address | IPv6Address = ip_address(client.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address.version == network.version and address in network for network in networks)
