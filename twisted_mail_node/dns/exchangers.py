"""The hosts that take a domain's mail, in the order to try them (RFC 5321 section 5.1, RFC 7505).

``exchangers`` is for a domain, ``named_host`` for a host that a route names in brackets. Both give addresses or raise
``NoExchanger``, which says whether waiting may help; and they tell what of it is signed (DNSSEC).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import zip_longest
from typing import Any, Literal, NamedTuple

from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore
from twisted.python.failure import Failure

from twisted_mail_node.dns.answer import MX, Answer, DNSError
from twisted_mail_node.dns.wire import name_key
from twisted_mail_node.interfaces import IResolver
from twisted_mail_node.reasons import Reason

#: Hosts tried for one domain; the largest providers name five or six.
MAX_EXCHANGERS = 20
#: Addresses tried for one host.
MAX_ADDRESSES = 8
#: Hosts of one domain looked up at once.
_HOSTS_AT_ONCE = 8

_LOOPBACK: tuple[IPv4Network | IPv6Network, ...] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
#: No mail exchanger on the Internet has such an address; who puts one into the DNS wants us to talk to ourselves,
#: or to something beside us that trusts us (RFC 6890). Private networks are allowed: sites use them inside.
_UNUSABLE: tuple[IPv4Network | IPv6Network, ...] = (
    ip_network("0.0.0.0/8"),
    ip_network("169.254.0.0/16"),
    ip_network("224.0.0.0/4"),
    ip_network("240.0.0.0/4"),
    ip_network("::/96"),
    ip_network("fe80::/10"),
    ip_network("ff00::/8"),
)


class HostAddress(NamedTuple):
    """An IP address as text, and the version of IP it is for."""

    ip: str
    family: Literal[4, 6]


class Exchanger(NamedTuple):
    """A mail exchanger.

    :ivar host: its name, lower case, no trailing dot.
    :ivar preference: lower is better; 0 for an implicit MX.
    :ivar addresses: at least one, at most ``MAX_ADDRESSES``; IPv6 and IPv4 take turns.
    :ivar secure: its name is beyond doubt: the MX records are signed, or their absence; or an operator wrote it.
    :ivar addresses_secure: its addresses are signed, and every CNAME that led to them.
    :ivar canonical: the name at the end of its CNAMEs; ``""`` for an IP address.
    """

    host: str
    preference: int
    addresses: tuple[HostAddress, ...]
    secure: bool = False
    addresses_secure: bool = False
    canonical: str = ""


class NoExchanger(Exception):
    """Nobody can be asked to take the mail.

    :ivar reason: the reason code.
    :ivar permanent: trying again later will not help.
    :ivar status: enhanced status code (RFC 3463).
    :ivar words: a sentence for a person.
    """

    def __init__(self, reason: Reason, permanent: bool, status: str, words: str) -> None:
        super().__init__(words)
        self.reason = reason
        self.permanent = permanent
        self.status = status
        self.words = words


async def exchangers(
    resolver: IResolver,
    domain: str,
    *,
    own_names: Collection[str] = (),
    own_addresses: Collection[str] = (),
    shuffle: Callable[[list[MX]], None] = random.shuffle,
    allow_loopback: bool = False,
) -> list[Exchanger]:
    """The domain's mail exchangers, best first, without ourselves and whoever is not better than we are.

    :param own_names: host names that are this node.
    :param own_addresses: IP addresses, as ``ipaddress`` writes them, that are this node.
    :param shuffle: mixes exchangers before they are sorted, so that equal ones share the load.
    :param allow_loopback: take 127.0.0.0/8 and ::1 too (tests, sites that try things on one machine).
    :raises NoExchanger: there is none.
    """
    wanted, secure = await _wanted(resolver, domain)
    shuffle(wanted)
    wanted.sort(key=_preference)
    wanted = _better_than_ours(wanted, {name_key(name) for name in own_names})[:MAX_EXCHANGERS]
    found = await _look_up_hosts(resolver, wanted) if wanted else []
    own = frozenset(own_addresses)
    usable: list[Exchanger] = []
    failures: list[str] = []
    missing: list[bool] = []
    limit: int | None = None  # the preference at which we stand ourselves
    for (preference, host), (addresses, failure, exists, signed, canonical) in zip(wanted, found, strict=True):
        if limit is not None and preference >= limit:
            break
        if not own.isdisjoint(addresses):
            limit = preference
            usable = [exchanger for exchanger in usable if exchanger.preference < preference]
            continue
        if failure:
            failures.append(failure)
        missing.append(not exists)
        hosts = _in_turns([ip for ip in addresses if _is_usable(ip, allow_loopback)])
        if hosts:
            usable.append(Exchanger(host, preference, hosts, secure, signed, canonical))
    if usable:
        return usable
    if failures:
        raise NoExchanger(Reason.DNS_FAILED, False, "4.4.4", failures[0])
    if limit is not None or not wanted:
        raise NoExchanger(
            Reason.MX_IS_OURSELVES, True, "5.4.6", f"the best mail exchanger of {domain} is this host: a mail loop"
        )
    if missing == [True] and wanted[0].host == name_key(domain):
        raise _no_such_domain(domain)
    raise NoExchanger(Reason.NO_MX_ADDRESS, True, "5.4.4", f"no mail exchanger of {domain} has a usable address")


async def named_host(resolver: IResolver, host: str) -> Exchanger:
    """A host the settings name: an IP address (brackets and ``IPv6:`` allowed), or a name.

    Any address is taken, loopback too: the operator wrote it. A name that cannot be found is a temporary trouble,
    for the settings may be wrong, and mail must not come back for that.

    :raises NoExchanger: there is no address now; never permanent.
    """
    literal = host.removeprefix("[").removesuffix("]")
    if literal[:5].lower() == "ipv6:":
        literal = literal[5:]
    try:
        address = ip_address(literal)
    except ValueError:
        pass
    else:
        return Exchanger(host, 0, (HostAddress(str(address), 4 if address.version == 4 else 6),), True)
    found = await _look_up(resolver, literal)
    hosts = _in_turns(found.addresses)
    if hosts:
        return Exchanger(host, 0, hosts, True, found.signed, found.canonical)
    if found.failure:
        raise NoExchanger(Reason.DNS_FAILED, False, "4.4.4", found.failure)
    raise NoExchanger(Reason.NO_MX_ADDRESS, False, "4.4.4", f"the host {literal} has no address")


async def host_addresses(resolver: IResolver, host: str) -> tuple[HostAddress, ...]:
    """Only the addresses of ``named_host``."""
    return (await named_host(resolver, host)).addresses


async def _wanted(resolver: IResolver, domain: str) -> tuple[list[MX], bool]:
    """The MX records, or the implicit MX, and whether that is signed; a CNAME at the domain is followed."""
    try:
        answer: Answer = await resolver.query(domain, "MX")
    except DNSError as error:
        raise NoExchanger(Reason.DNS_FAILED, False, "4.4.3", str(error)) from error
    if not answer.exists:
        raise _no_such_domain(domain)
    records = [record for record in answer.records if isinstance(record, MX)]
    if not records:
        return [MX(0, answer.canonical)], answer.authentic
    best: dict[str, int] = {}
    for preference, host in records:
        if host and preference <= best.get(host, preference):
            best[host] = preference
    if not best:
        raise NoExchanger(Reason.NULL_MX, True, "5.1.10", f"{domain} takes no mail (null MX)")
    return [MX(preference, host) for host, preference in best.items()], answer.authentic


def _no_such_domain(domain: str) -> NoExchanger:
    return NoExchanger(Reason.NO_SUCH_DOMAIN, True, "5.1.2", f"the domain {domain} does not exist")


def _preference(exchanger: MX) -> int:
    return exchanger.preference


def _better_than_ours(wanted: list[MX], own_names: Collection[str | None]) -> list[MX]:
    """Those before the first that is this node (RFC 5321 section 5.1): each hop brings mail nearer to its end."""
    limit = min([preference for preference, host in wanted if host in own_names], default=None)
    return wanted if limit is None else [exchanger for exchanger in wanted if exchanger.preference < limit]


class _Found(NamedTuple):
    addresses: list[str]  # IPv6 first
    failure: str  # what a look-up said that did not end well
    exists: bool
    signed: bool  # each answer that gave addresses was
    canonical: str


async def _look_up_hosts(resolver: IResolver, wanted: Sequence[MX]) -> list[_Found]:
    if len(wanted) == 1:
        return [await _look_up(resolver, wanted[0].host)]
    places = DeferredSemaphore(_HOSTS_AT_ONCE)

    def look_up(host: str) -> Deferred[_Found]:
        return Deferred.fromCoroutine(_look_up(resolver, host))

    return await _all([places.run(look_up, host) for _, host in wanted])


async def _look_up(resolver: IResolver, host: str) -> _Found:
    """All addresses of a host; AAAA and A are asked together."""
    six_asked = Deferred.fromCoroutine(_addresses(resolver, host, "AAAA"))
    try:
        four = await _addresses(resolver, host, "A")
        six = await six_asked
    except BaseException:
        six_asked.addErrback(_forget)
        six_asked.cancel()
        raise
    # A family whose look-up fails gives no address. Where the other is signed, that one alone is used.
    signed = all(found.signed for found in (six, four) if found.addresses) and bool(six.addresses or four.addresses)
    return _Found(
        six.addresses + four.addresses,
        six.failure or four.failure,
        six.exists or four.exists,
        signed,
        (four if four.addresses else six).canonical,
    )


def _forget(reason: Failure) -> None:
    """The other look-up's exception tells enough."""


async def _all(look_ups: Sequence[Deferred[_Found]]) -> list[_Found]:
    """The results of all; the first exception, when all have ended. (``gatherResults`` would hide a cancellation.)"""
    outcomes: list[tuple[bool, Any]] = await DeferredList(look_ups, consumeErrors=True)
    for succeeded, result in outcomes:
        if not succeeded:
            result.raiseException()
    return [result for _, result in outcomes]


async def _addresses(resolver: IResolver, host: str, rdtype: str) -> _Found:
    try:
        answer = await resolver.query(host, rdtype)
    except DNSError as error:
        return _Found([], str(error), True, False, host)
    found = [record for record in answer.records if isinstance(record, str)]
    return _Found(found, "", answer.exists, answer.authentic, answer.canonical)


def _in_turns(addresses: list[str]) -> tuple[HostAddress, ...]:
    """IPv6 and IPv4 alternate, so that one broken family does not use up the attempt (RFC 8305 section 4)."""
    six = [HostAddress(ip, 6) for ip in addresses if ":" in ip]
    four = [HostAddress(ip, 4) for ip in addresses if ":" not in ip]
    turns = [address for pair in zip_longest(six, four) for address in pair if address is not None]
    return tuple(turns[:MAX_ADDRESSES])


@lru_cache(maxsize=4096)
def _is_usable(ip: str, allow_loopback: bool) -> bool:
    try:
        address = ip_address(ip)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address in network for network in _LOOPBACK):
        return allow_loopback
    return not any(address in network for network in _UNUSABLE)
