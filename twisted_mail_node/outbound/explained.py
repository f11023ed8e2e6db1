"""What the way to a next hop is like, as a dictionary for ``mailnode route``: hosts, protection, source, limits."""

from __future__ import annotations

from collections.abc import Sequence

from twisted_mail_node.dns.exchangers import NoExchanger
from twisted_mail_node.outbound.need import Demand, Found, Need, stays_here
from twisted_mail_node.queue.limits import Limit


def explained(
    demand: Demand,
    hosts: Sequence[tuple[Found, Need]],
    limit: Limit,
    pool: str,
    addresses: Sequence[str],
    problem: NoExchanger | None = None,
) -> dict[str, object]:
    """All of it.

    :param hosts: the next hop's, best first, and what each of them needs.
    :param pool: the pool of addresses to connect from, ``""``: the system's choice.
    :param addresses: those in it.
    :param problem: why there is no host.
    """
    told: dict[str, object] = {
        "next_hop": demand.next_hop,
        "transport": demand.transport,
        "exchangers": [
            {
                "host": found.exchanger.host,
                "preference": found.exchanger.preference,
                "addresses": [address.ip for address in found.exchanger.addresses],
                "tls": protection(demand, need),
            }
            for found, need in hosts
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


def protection(demand: Demand, need: Need) -> dict[str, str]:
    """How a host is protected there, and who says so."""
    here = stays_here(demand.next_hop)
    if demand.credentials and need.level == "opportunistic" and not need.refusal and not here:
        return {"level": "required", "why": f"{demand.credentials} signs in, and a password goes over TLS only"}
    why = need.refusal or need.source or ("nobody asks for more" if demand.level == "opportunistic" else "the route")
    if here:
        why += "; it is this machine"
    return {"level": need.protection, "why": why}
