"""Where a mail goes next: forward-path to agent and next hop, by ordered rules of which the first match counts."""

from __future__ import annotations

from typing import Literal, NamedTuple

AgentName = Literal["maildir", "relay", "none"]


class Route(NamedTuple):
    """The next step for a recipient.

    :ivar agent: which delivery agent carries it; ``none`` when nobody can (``next_hop`` then tells why).
    :ivar next_hop: a local domain for ``maildir``; for ``relay`` a domain (its mail exchangers are looked up),
        ``host:port`` (likewise, at that port), or ``[host]`` / ``[192.0.2.7]:25`` / ``[IPv6:2001:db8::1]:25``
        (this host, no MX lookup).
    """

    agent: AgentName
    next_hop: str
