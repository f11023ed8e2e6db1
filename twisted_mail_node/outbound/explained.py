"""What the way to a next hop is like, as a dictionary for ``mailnode route``: hosts, protection, source, limits."""

from __future__ import annotations

from collections.abc import Sequence

from twisted_mail_node.dns.exchangers import Exchanger, NoExchanger
from twisted_mail_node.outbound.security import Demand, stays_here
from twisted_mail_node.queue.limits import Limit
from twisted_mail_node.settings import TlsLevel

#: From the least protection to the most.
_LEVELS: tuple[TlsLevel, ...] = ("none", "opportunistic", "required", "verified")


def explained(
    demand: Demand,
    found: Sequence[Exchanger],
    limit: Limit,
    pool: str,
    addresses: Sequence[str],
    problem: NoExchanger | None = None,
) -> dict[str, object]:
    """All of it.

    :param found: the next hop's hosts, best first.
    :param pool: the pool of addresses to connect from, ``""``: the system's choice.
    :param addresses: those in it.
    :param problem: why there is no host.
    """
    tls = protection(demand, limit)
    told: dict[str, object] = {
        "next_hop": demand.next_hop,
        "transport": demand.transport,
        "exchangers": [
            {
                "host": one.host,
                "preference": one.preference,
                "addresses": [address.ip for address in one.addresses],
                "tls": tls,
            }
            for one in found
        ],
        "source": {"pool": pool, "addresses": list(addresses)},
        "limit": {
            "key": limit.key,
            "why": limit.why,
            "connections": limit.connections,
            "mails_per_connection": limit.mails_per_connection,
            "rates": [str(rate) for rate in limit.rates],
            "lifetime": limit.lifetime,
        },
    }
    if problem is not None:
        told["problem"] = {"permanent": problem.permanent, "reason": str(problem.reason), "words": problem.words}
    return told


def protection(demand: Demand, limit: Limit) -> dict[str, str]:
    """The level of TLS there, and who says so: the stronger of the route's and the destination's."""
    if demand.next_hop.startswith("unix:"):
        return {"level": "none", "why": "a socket of this machine"}
    level, why = demand.level, "the route" if demand.level != "opportunistic" else "nobody asks for more"
    if limit.tls is not None and _LEVELS.index(limit.tls) > _LEVELS.index(level):
        level, why = limit.tls, limit.why
    if stays_here(demand.next_hop):
        why += "; it is this machine"
    return {"level": level, "why": why}
