"""iprev (RFC 8601 section 3): whether the client's address has a name in the DNS, and that name leads back to it."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from twisted_mail_node.mailauth.resolving import NoAnswerError, Resolver
from twisted_mail_node.mailauth.results import Result

#: Names of an address that are looked at; an honest one has one or two.
NAMES_MAX = 5


class Iprev(NamedTuple):
    """What came of it.

    :ivar name: the first name that leads back to the address; of a failure the first name there is.
    :ivar problem: a sentence where it did not pass.
    """

    result: Result
    name: str = ""
    problem: str = ""


async def check(resolver: Resolver, ip: str) -> Iprev:
    """Ask for the names of ``ip``, and for the addresses of those names.

    :param ip: as text; an IPv4 address that is written as IPv6 counts as IPv4.
    :raises ValueError: ``ip`` is no address.
    """
    address = ip_address(ip)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    try:
        answer = await resolver.query(address.reverse_pointer, "PTR")
    except NoAnswerError as error:
        return Iprev(Result.TEMPERROR, problem=f"the name of {ip} could not be asked for: {error}")
    names = [str(name) for name in answer.records[:NAMES_MAX]]
    if not names:
        return Iprev(Result.PERMERROR, problem=f"{ip} has no name in the DNS")
    rdtype = "A" if address.version == 4 else "AAAA"
    trouble = ""
    for name in names:
        try:
            forward = await resolver.query(name, rdtype)
        except NoAnswerError as error:
            trouble = trouble or f"the addresses of {name} could not be asked for: {error}"
            continue
        if any(_same(record, address.packed) for record in forward.records):
            return Iprev(Result.PASS, name)
    if trouble:
        return Iprev(Result.TEMPERROR, names[0], trouble)
    return Iprev(Result.FAIL, names[0], f"{names[0]}, the name of {ip}, does not lead back to that address")


def _same(record: object, packed: bytes) -> bool:
    try:
        return ip_address(str(record)).packed == packed
    except ValueError:
        return False
