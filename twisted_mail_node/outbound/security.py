"""What a host needs: how the connection to it must be protected, and who says so, as a value.

Today two say it: the route (``tls``) and the mail (REQUIRETLS). What a domain says of itself (TLSA records, an MTA-STS
policy) has its place here too: ``Security.need`` is asked for each host, before the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from twisted_mail_node.dns.exchangers import NoExchanger
from twisted_mail_node.outbound.sources import is_loopback
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import TlsLevel
from twisted_mail_node.settings_outbound import Transport
from twisted_mail_node.settings_routes import parse_next_hop

#: Seconds for which a host whose TLS broke gets opportunistic mail in the clear at once: each try costs a connection.
BROKEN_FOR = 300.0
#: Hosts remembered so; when there are more, the oldest is forgotten.
BROKEN_MAX = 1000


class Demand(NamedTuple):
    """What is asked of the way to a next hop: mails of which the same is asked share their connections.

    :ivar level: as the route says.
    :ivar require_tls: mails with REQUIRETLS (RFC 8689), which lends ``level`` no weight: it is ``verified`` then.
    :ivar transport: what is spoken there.
    :ivar credentials: the rule whose name and password sign in there (``routing.Route``).
    :ivar source: the pool to connect from, where the route names one.
    """

    next_hop: str
    level: TlsLevel
    require_tls: bool
    transport: Transport = "smtp"
    credentials: str = ""
    source: str = ""

    @property
    def protection(self) -> str:
        """One word for a person."""
        return "requiretls" if self.require_tls else self.level


class Need(NamedTuple):
    """How the connection to one host must be protected.

    :ivar sure: the host's name comes from the operator or the sender, not from an unsigned MX record: what is verified
        is whom they meant.
    :ivar why: who says so, and what can be done about it, as the end of a sentence.
    :ivar fell_back: TLS was tried and broke.
    """

    level: TlsLevel
    require_tls: bool = False
    sure: bool = False
    why: str = ""
    fell_back: bool = False

    @property
    def must(self) -> bool:
        """Nothing of a mail may go there in the clear."""
        return self.level in ("required", "verified")


#: The need of a host whose TLS broke, and whose mails may go in the clear.
FELL_BACK = Need("none", fell_back=True)
_NONE = Need("none")

_REQUIRETLS = "the mail's sender asked for REQUIRETLS; without it the mail can be sent again"
_ROUTE = (
    'the route to {next_hop} asks for tls = "{level}"; tell its postmaster, or let the route ask for tls = "{less}"'
)


def demand_of(request: DeliveryRequest) -> Demand:
    """What a mail and its route ask for.

    A bounce (null reverse-path) of a mail with REQUIRETLS is protected as well as its way back allows, and goes it in
    any case (RFC 8689 section 5).
    """
    asked = Demand(request.next_hop, request.tls, False, request.transport, request.credentials, request.source)
    if not request.envelope.require_tls or (request.transport == "lmtp" and stays_here(request.next_hop)):
        return asked
    if request.envelope.reverse_path is not None:
        return asked._replace(level="verified", require_tls=True)
    return asked._replace(level="opportunistic" if request.tls == "none" else request.tls)


def stays_here(next_hop: str) -> bool:
    """Whether what goes there does not leave this machine: a unix socket, or a loopback address."""
    place = parse_next_hop(next_hop)
    return bool(place.path) or (not place.mx and is_loopback(place.host))


class Security:
    """Decides what hosts need, and remembers whose TLS broke lately.

    :param now: gives the clock's seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._broken: dict[str, float] = {}  # address → until when; the oldest first

    def check_way(self, demand: Demand, mx: bool) -> None:
        """Whether the way to the next hop can do at all; asked before its hosts are looked up.

        :param mx: the hosts are found by MX records.
        :raises NoExchanger: it cannot. RFC 8689 section 2: MX records must be signed (DNSSEC) or the names confirmed
            (MTA-STS); we can promise neither.
        """
        if demand.require_tls and mx:
            words = (
                "the mail needs REQUIRETLS, and the MX records that lead to its hosts are not secured; "
                f'a route with a host in brackets, next_hop = "[mail.{demand.next_hop.partition(":")[0]}]", would do'
            )
            raise NoExchanger(Reason.REQUIRETLS, True, "5.7.10", words)

    def need(self, demand: Demand, address: str, mx: bool) -> Need:
        """What the host at ``address`` needs.

        :param address: address and port.
        :param mx: its name was found by an MX record.
        """
        next_hop, level, require_tls, *_ = demand
        if require_tls:
            return Need("verified", True, not mx, _REQUIRETLS)
        if level == "none":
            return _NONE
        if level == "opportunistic":
            return FELL_BACK if self._is_broken(address) else Need(level, False, not mx)
        less = "required" if level == "verified" else "opportunistic"
        return Need(level, False, not mx, _ROUTE.format(next_hop=next_hop, level=level, less=less))

    def broke(self, address: str) -> None:
        """TLS with the host at ``address`` came to nothing."""
        broken = self._broken
        broken.pop(address, None)
        while len(broken) >= BROKEN_MAX:
            del broken[next(iter(broken))]
        broken[address] = self._now() + BROKEN_FOR

    def _is_broken(self, address: str) -> bool:
        until = self._broken.get(address)
        if until is None:
            return False
        if until > self._now():
            return True
        del self._broken[address]
        return False
