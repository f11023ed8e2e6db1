"""What is asked of a connection, as values: the demand of a mail and its route, and the need of one host.

``outbound.security`` makes a need of everything that is known; ``outbound.judgement`` compares a TLS session with it.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from twisted_mail_node.dns.exchangers import Exchanger
from twisted_mail_node.outbound.dane import Tlsa
from twisted_mail_node.outbound.sources import is_loopback
from twisted_mail_node.queue.limits import Limit
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import TlsLevel
from twisted_mail_node.settings_outbound import Transport
from twisted_mail_node.settings_routes import parse_next_hop

#: Levels by what they ask for.
STRENGTH: dict[TlsLevel, int] = {"none": 0, "opportunistic": 1, "required": 2, "verified": 3}


class Policy(Protocol):
    """An MTA-STS policy (RFC 8461 section 3.2): ``outbound.mtasts.StsPolicy``."""

    @property
    def id(self) -> str:
        """The id of its TXT record."""

    @property
    def mode(self) -> str:
        """``enforce``, ``testing`` or ``none``."""

    @property
    def exchangers(self) -> tuple[str, ...]:
        """Its host patterns."""

    @property
    def lines(self) -> tuple[str, ...]:
        """As reports show it (RFC 8460 section 4.4)."""

    def allows(self, host: str) -> bool:
        """Whether a mail exchanger's name fits one of its patterns (RFC 8461 section 4.1)."""


class Demand(NamedTuple):
    """What is asked of the way to a next hop: mails of which the same is asked share their connections.

    :ivar level: as the route says.
    :ivar require_tls: mails with REQUIRETLS (RFC 8689), which lends ``level`` no weight: it is ``verified`` then.
    :ivar transport: what is spoken there.
    :ivar credentials: the rule whose name and password sign in there (``routing.Route``).
    :ivar source: the pool to connect from, where the route names one.
    :ivar optional: mails with ``TLS-Required: No``: what the domain asks for (DANE, MTA-STS) holds nothing up.
    """

    next_hop: str
    level: TlsLevel
    require_tls: bool
    transport: Transport = "smtp"
    credentials: str = ""
    source: str = ""
    optional: bool = False

    @property
    def protection(self) -> str:
        """One word for a person."""
        return "requiretls" if self.require_tls else "optional" if self.optional else self.level


class Found(NamedTuple):
    """A host, and how it was found.

    :ivar domain: the next hop without its port.
    :ivar mx: by the domain's MX records, or the implicit one.
    :ivar limit: what our settings say of the next hop.
    :ivar policy: the domain's MTA-STS policy, ``None`` when there is none, or none that asks for anything.
    """

    domain: str
    port: int
    mx: bool
    exchanger: Exchanger
    limit: Limit
    policy: Policy | None = None

    @property
    def is_sure(self) -> bool:
        """The host's name comes from the operator or the sender, is signed, or confirmed by the domain's policy."""
        confirmed = self.policy is not None and self.policy.allows(self.exchanger.host)
        return not self.mx or self.exchanger.secure or confirmed


class Need(NamedTuple):
    """How the connection to one host must be protected.

    :ivar sure: the host's name does not come from an unsigned MX record alone: what is verified is whom they meant.
    :ivar why: who says so, and what can be done about it, as the end of a sentence.
    :ivar fell_back: TLS was tried and broke.
    :ivar source: who says so, in a few words; ``""``: nobody, TLS is used where it is offered.
    :ivar reason: what it is called when the host does not fit.
    :ivar tlsa: its TLSA records (DANE): they say which certificate is good, those of the system do not count then.
    :ivar policy: its domain's MTA-STS policy, also one that only tests.
    :ivar refusal: why it is not even connected to; ``""``: it is.
    :ivar status: the enhanced status code of the refusal.
    :ivar result: the refusal's result type of RFC 8460, ``""``: none.
    """

    level: TlsLevel
    require_tls: bool = False
    sure: bool = False
    why: str = ""
    fell_back: bool = False
    source: str = ""
    reason: Reason = Reason.TLS_FAILED
    tlsa: Tlsa | None = None
    policy: Policy | None = None
    refusal: str = ""
    status: str = "4.7.5"
    result: str = ""

    @property
    def must(self) -> bool:
        """Nothing of a mail may go there in the clear."""
        return self.level in ("required", "verified")

    @property
    def by_dane(self) -> bool:
        """The certificate is compared with TLSA records."""
        return self.tlsa is not None and bool(self.tlsa.records)

    @property
    def protection(self) -> str:
        """One word for a person: ``refused``, ``dane`` or the level."""
        return "refused" if self.refusal else "dane" if self.by_dane else self.level


#: The need of a host whose TLS broke, and whose mails may go in the clear.
FELL_BACK = Need("none", fell_back=True)
NO_NEED = Need("none")


def demand_of(request: DeliveryRequest) -> Demand:
    """What a mail and its route ask for.

    A bounce (null reverse-path) of a mail with REQUIRETLS is protected as well as its way back allows, and goes it in
    any case (RFC 8689 section 5).
    """
    asked = Demand(request.next_hop, request.tls, False, request.transport, request.credentials, request.source)
    if not request.envelope.require_tls:
        return asked._replace(optional=request.envelope.tls_optional)
    if request.transport == "lmtp" and stays_here(request.next_hop):
        return asked
    if request.envelope.reverse_path is not None:
        return asked._replace(level="verified", require_tls=True)
    return asked._replace(level="opportunistic" if request.tls == "none" else request.tls)


def stays_here(next_hop: str) -> bool:
    """Whether what goes there does not leave this machine: a unix socket, or a loopback address."""
    place = parse_next_hop(next_hop)
    return bool(place.path) or (not place.mx and is_loopback(place.host))


def stronger(one: Need, other: Need) -> Need:
    """The need that asks for more; the first when both ask for the same."""
    return other if STRENGTH[other.level] > STRENGTH[one.level] else one
