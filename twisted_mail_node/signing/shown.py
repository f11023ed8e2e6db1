"""Whether every authoritative name server of a zone shows a key's record: only then may the key sign.

A verifier asks a name server that may not have the record yet, gets "there is no such name", and its resolver keeps
that for as long as the zone's SOA says (RFC 2308 section 5): hours in which mail signed with the key fails. So each
address of each server is asked directly, and nobody is asked for the name who would keep the answer: not even our own
resolver, which is only asked for the name servers of the zone and their addresses.

The record may stand behind a CNAME (then the servers of its target are asked), and in a zone of its own
(``_domainkey.example.org``).
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, gatherResults

from twisted_mail_node.dns.answer import DNSError
from twisted_mail_node.dns.resolver import StubResolver
from twisted_mail_node.interfaces import IResolver
from twisted_mail_node.signing.record import difference, owner

#: Where name servers listen.
PORT = 53
#: Name servers asked of one zone, and addresses of each: the root has 13 with two each.
SERVERS_MAX, ADDRESSES_MAX = 20, 8
#: Names and zones that the way to one record may lead through.
PLACES_MAX = 5
#: Seconds for one question to one server, and how often it is put.
ASK_TIME, ATTEMPTS = 3.0, 2


class Server(NamedTuple):
    """One address of one name server."""

    host: str
    ip: str

    def __str__(self) -> str:
        return f"{self.host} ({self.ip})"


class _Place(NamedTuple):
    """Where a record is looked for.

    :ivar domain: at or above ``name``: what the walk to the zone begins with.
    """

    name: str
    domain: str


class Missing(NamedTuple):
    """A name server that does not show the record; ``words`` go on after its name."""

    server: str
    words: str

    def __str__(self) -> str:
        return f"{self.server} {self.words}"


class Shown(NamedTuple):
    """What the name servers of a zone show.

    :ivar zone: its name; ``""`` where it was not found.
    :ivar asked: how many addresses were asked.
    :ivar missing: those that do not show the record.
    """

    zone: str
    asked: int
    missing: tuple[Missing, ...]

    @property
    def everywhere(self) -> bool:
        """All of them show it."""
        return self.asked > 0 and not self.missing

    @property
    def words(self) -> str:
        """What is missing, in a sentence without its end; ``""`` when nothing is."""
        first, more = self.missing[:3], len(self.missing) - 3
        return "; ".join(map(str, first)) + (f"; and {more} more" if more > 0 else "")


class NameServers:
    """Finds the name servers of a zone and asks them.

    :param resolver: for the servers' names and addresses.
    :param direct: gives who asks the server at one address.
    :param reachable: whether there is a way to an address; without IPv6, servers are asked by IPv4 alone.
    """

    def __init__(
        self, resolver: IResolver, direct: Callable[[str], IResolver], reachable: Callable[[str], bool]
    ) -> None:
        self._resolver = resolver
        self._direct = direct
        self._reachable = reachable

    @classmethod
    def over(cls, resolver: IResolver, reactor: Any, port: int = PORT) -> NameServers:
        """Over real sockets."""

        def direct(ip: str) -> IResolver:
            return StubResolver(
                servers=[(ip, port)], reactor=reactor, timeout=ASK_TIME, attempts=ATTEMPTS, cache_size=0
            )

        return cls(resolver, direct, partial(has_route, port=port))

    async def zone_of(self, domain: str) -> tuple[str, tuple[str, ...]]:
        """The zone that a domain is in, and its name servers (RFC 1034 section 4.2.1).

        :raises DNSError: they cannot be found.
        """
        name = domain
        while name:
            answer = await self._resolver.query(name, "NS")
            if answer.records and answer.canonical == name:
                return name, tuple(str(one) for one in answer.records[:SERVERS_MAX])
            name = name.partition(".")[2]
        raise DNSError(f"no zone holds {domain}")

    async def shown(self, selector: str, domain: str, record: str) -> Shown:
        """Where the record of a key is missing. Never raises a DNSError: what cannot be asked does not show it."""
        return await self._shown(_Place(owner(selector, domain), domain), record, set())

    async def _shown(self, place: _Place, record: str, seen: set[_Place]) -> Shown:
        """:param seen: where it was looked for already."""
        seen.add(place)
        try:
            zone, hosts = await self.zone_of(place.domain)
        except DNSError as error:
            return Shown("", 0, (Missing(place.domain, f"has no name servers to be found: {error}"),))
        servers: list[Server] = []
        missing: list[Missing] = []
        for found in await gatherResults([Deferred.fromCoroutine(self._addresses(host)) for host in hosts]):
            if isinstance(found, Missing):
                missing.append(found)
            else:
                servers += found
        said = await gatherResults([Deferred.fromCoroutine(self._ask(one, place, record)) for one in servers])
        missing += [Missing(str(server), what) for server, what in zip(servers, said, strict=True)
                    if isinstance(what, str) and what]  # fmt: skip
        asked = len(servers)
        for further in dict.fromkeys(what for what in said if isinstance(what, _Place)):
            if further in seen or len(seen) > PLACES_MAX:
                missing.append(Missing(place.name, "leads through a circle of CNAMEs, or too many"))
                continue
            there = await self._shown(further, record, seen)
            asked += there.asked
            missing += there.missing
        return Shown(zone, asked, tuple(dict.fromkeys(missing)))

    async def _addresses(self, host: str) -> list[Server] | Missing:
        """Every address of a name server that there is a way to."""
        found: list[str] = []
        trouble = ""
        for rdtype in ("A", "AAAA"):
            try:
                found += map(str, (await self._resolver.query(host, rdtype)).records[:ADDRESSES_MAX])
            except DNSError as error:
                trouble = str(error)
        if trouble or not found:
            return Missing(host, f"has no address to be found{f': {trouble}' if trouble else ''}")
        there = [Server(host, ip) for ip in found if self._reachable(ip)]
        return there or Missing(host, f"cannot be reached from here at {', '.join(found)}")

    async def _ask(self, server: Server, place: _Place, record: str) -> str | _Place:
        """Why a server does not show the record, ``""`` when it does; or where else it stands."""
        direct = self._direct(server.ip)
        try:
            answer = await direct.query(place.name, "TXT")
            exists, words = answer.exists, difference(answer.records, record)
            if answer.records:
                return words
        except DNSError as error:
            exists, words = False, f"cannot be asked: {error}"
        return await self._elsewhere(direct, place, exists) or words

    async def _elsewhere(self, direct: IResolver, place: _Place, exists: bool) -> _Place | None:
        """Where a name leads that has no TXT records at the server: to another name, or into a zone below."""
        try:
            alias = await direct.query(place.name, "CNAME")
            if alias.records:
                target = str(alias.records[0])
                return _Place(target, target.partition("._domainkey.")[2] or target.partition(".")[2])
            # No records there, or a referral to a zone below. A name exists there in both cases, so that our resolver
            # learns nothing that would hide the record later.
            below = f"_domainkey.{place.name.partition('._domainkey.')[2]}"
            if exists and below != place.domain and (await self._resolver.query(below, "NS")).records:
                return place._replace(domain=below)
        except DNSError:
            pass
        return None


def has_route(ip: str, port: int = PORT) -> bool:
    """Whether the machine knows a way to an address. Sends nothing: connecting a UDP socket only looks for a route."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((ip, port))
    except OSError:
        return False
    return True
