"""Looks a host's TLSA records up (RFC 7672 section 2.2): which name they are asked for, and whether they count.

They count only where all that led to them is signed; unsigned ones are as none. That none can be had just now is never
taken for "there are none" (RFC 7672 section 2.1): the ``DNSError`` goes to who asked.
"""

from __future__ import annotations

from twisted_mail_node.dns.answer import TLSA
from twisted_mail_node.dns.exchangers import Exchanger
from twisted_mail_node.interfaces import IResolver
from twisted_mail_node.outbound.dane import Tlsa, usable


async def find_tlsa(resolver: IResolver, exchanger: Exchanger, port: int, domain: str = "") -> Tlsa | None:
    """The TLSA records of a host, ``None`` when it has none that count.

    :param domain: the next-hop domain, when the host was found by its MX records: a certificate under a trust anchor
        may be for that, too (RFC 7672 section 3.2).
    :raises DNSError: it cannot be found out now.
    """
    for base in await _bases(resolver, exchanger):
        owner = f"_{port}._tcp.{base}"
        answer = await resolver.query(owner, "TLSA")
        records = [record for record in answer.records if isinstance(record, TLSA)]
        if records and answer.authentic:
            return Tlsa(base, owner, usable(records), tuple(dict.fromkeys(filter(None, (base, domain)))))
    return None


async def _bases(resolver: IResolver, exchanger: Exchanger) -> list[str]:
    """The names to ask for, in their order (RFC 7672 section 2.2.3): the one at the end of signed CNAMEs first."""
    host, canonical = exchanger.host.rstrip(".").lower(), exchanger.canonical
    if not exchanger.secure or not canonical:
        return []
    if exchanger.addresses_secure:
        return list(dict.fromkeys((canonical, host)))
    if canonical != host and (await resolver.query(host, "CNAME")).authentic:
        # The alias is signed and what it leads to is not: only its own name is beyond doubt (section 2.2.2).
        return [host]
    return []
