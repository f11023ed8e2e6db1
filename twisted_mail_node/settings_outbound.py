"""The tables of the settings about the way out: the queue, routes, destinations, source addresses, and who is told."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PlainValidator

from twisted_mail_node import settings_routes as routes
from twisted_mail_node import settings_spelling as spelling
from twisted_mail_node.message.address import Address
from twisted_mail_node.settings_kinds import (
    LIST,
    Count,
    FilePath,
    Level,
    OptionalLevel,
    OptionalPath,
    OptionalText,
    Retry,
    Seconds,
    Servers,
    Size,
    Switch,
    Table,
    one_of,
    optional,
    texts,
)
from twisted_mail_node.settings_reading import Allowed

_TRANSPORT = '"smtp" or "lmtp" (RFC 2033)'
#: What is spoken with a next hop.
Transport = Literal["smtp", "lmtp"]

Domains = Annotated[
    tuple[Annotated[str, PlainValidator(routes.route_domain)], ...], Allowed(LIST + routes.ROUTE_DOMAIN, texts)
]
Patterns = Annotated[
    tuple[Annotated[str, PlainValidator(spelling.address_pattern)], ...],
    Allowed(LIST + spelling.ADDRESS_PATTERN, texts),
]
Rates = Annotated[tuple[Annotated[routes.Rate, PlainValidator(routes.rate)], ...], Allowed(LIST + routes.RATE, texts)]
Durations = Annotated[
    tuple[Annotated[float, PlainValidator(spelling.duration)], ...],
    Allowed(
        f"{LIST}{spelling.DURATION}",
        lambda times: texts(tuple(spelling.spell_duration(time) for time in times)),
    ),
    Field(max_length=10),
]


class RouteRule(Table):
    """A rule for mail to domains that are not local. The first that fits counts; without one, mail goes by MX."""

    domain: Annotated[str, PlainValidator(routes.route_domain), Allowed(routes.ROUTE_DOMAIN, '"{}"'.format)] = Field(
        default="*", description="The recipients' domains the rule is for."
    )
    senders: Patterns = Field(
        default=(), description="The rule is only for mail with one of these reverse-paths; an empty list means any."
    )
    accounts: Patterns = Field(
        default=(), description="The rule is only for mail of one of these accounts; an empty list means any mail."
    )
    next_hop: Annotated[str | None, optional(routes.next_hop), Allowed(routes.NEXT_HOP)] = Field(
        default=None,
        description="Where their mail goes. In brackets: this host, no MX look-up. Without it: to the recipient's "
        "domain, with what else the rule says.",
    )
    transport: Annotated[Transport, one_of(_TRANSPORT, "smtp", "lmtp"), Allowed(_TRANSPORT, '"{}"'.format)] = Field(
        default="smtp", description="What is spoken with the next hop."
    )
    tls: Level = Field(
        default="opportunistic",
        description="How the way there must be protected. ``verified``: with a certificate that is good for the host.",
    )
    username: OptionalText = Field(
        default=None, description="The name to sign in with at the next hop (AUTH); only over TLS, or on this machine."
    )
    password_file: OptionalPath = Field(
        default=None, description="A file that holds the password. Others must not be able to read it."
    )
    source: OptionalText = Field(default=None, description="The ``[[source]]`` pool to connect from.")


class DestinationRule(Table):
    """Limits for some destinations. The first rule that fits counts. What it does not say is as in ``[queue]``."""

    domains: Domains = Field(
        default=(), description="Next hops the rule is for; each of them has the limits for itself."
    )
    exchangers: Domains = Field(
        default=(),
        description="The rule is for every domain with a mail exchanger of such a name; they share the limits.",
    )
    connections: Annotated[int | None, optional(spelling.count), Allowed(spelling.COUNT)] = Field(
        default=None, description="Connections at a time."
    )
    mails_per_connection: Annotated[int | None, optional(spelling.count), Allowed(spelling.COUNT)] = Field(
        default=None, description="Mails over one connection before a new one is made."
    )
    rates: Rates = Field(default=(), description="Mails in a second, minute, hour or day; all of them are kept to.")
    retry: Annotated[tuple[float, ...] | None, optional(routes.retry), Allowed(routes.RETRY)] = Field(
        default=None, description="How long a delayed mail waits before each further attempt."
    )
    lifetime: Annotated[float | None, optional(spelling.duration), Allowed(spelling.DURATION)] = Field(
        default=None, description="When a mail is given up."
    )
    tls: OptionalLevel = Field(
        default=None, description="The least protection mail goes there with, whatever a route says."
    )
    source: OptionalText = Field(default=None, description="The ``[[source]]`` pool to connect from.")


class Source(Table):
    """An address to connect from. Several with the same ``pool`` share its connections by their weights."""

    pool: Annotated[str, PlainValidator(spelling.name), Allowed(spelling.NAME)] = Field(
        description="The name that routes and destinations call it by; ``default`` is used where they name none."
    )
    address: Annotated[str, PlainValidator(routes.source_address), Allowed(routes.SOURCE_ADDRESS)] = Field(
        description="The IP address, one of this machine's."
    )
    weight: Count = Field(default=1, description="Its part of the pool's connections.")
    hostname: Annotated[str | None, optional(spelling.hostname), Allowed(spelling.HOSTNAME)] = Field(
        default=None, description="What EHLO says from there; none: ``hostname``."
    )


class ResolverSettings(Table):
    """How the DNS is asked."""

    servers: Servers = Field(default=(), description="Name servers; an empty list means those of ``/etc/resolv.conf``.")
    timeout: Seconds = Field(default=5.0, description="How long one attempt waits for an answer.")
    attempts: Count = Field(default=3, description="Attempts before the question counts as unanswered.")
    trusted: Switch = Field(
        default=False,
        description="The name servers check signatures (DNSSEC), and the way to them is safe: their AD bit is "
        "believed. DANE needs that. Say it of a validating resolver on this machine, such as unbound.",
    )


class QueueSettings(Table):
    """When and how mails are passed on."""

    retry: Retry = Field(
        default=(60.0, 300.0, 900.0, 3600.0, 7200.0, 14400.0, 28800.0),
        description="How long a delayed mail waits before each further attempt; then the last again and again.",
    )
    lifetime: Seconds = Field(default=5 * 86400.0, description="When a mail is given up (RFC 5321 section 4.5.4.1).")
    delay_notices: Durations = Field(
        default=(4 * 3600.0,),
        description="Ages at which the sender of a mail that is still delayed is told so, where NOTIFY does not forbid "
        "it (RFC 3461 section 4.1); an empty list: never.",
    )
    double_bounces: Switch = Field(
        default=True, description="Whether ``postmaster`` is told of mail that can be neither delivered nor returned."
    )
    connections_per_destination: Count = Field(default=20, description="Connections at a time to one next hop.")
    mails_per_connection: Count = Field(default=100, description="Mails over one connection before a new one is made.")
    attempt_time: Seconds = Field(default=3600.0, description="How long one attempt for one mail may last in all.")
    connect_time: Seconds = Field(default=30.0, description="How long we wait for a connection to one address.")
    greeting_time: Seconds = Field(
        default=300.0, description="How long we wait for the greeting and for the EHLO reply."
    )
    mail_time: Seconds = Field(default=300.0, description="How long we wait for the reply to MAIL.")
    rcpt_time: Seconds = Field(default=300.0, description="How long we wait for the reply to RCPT.")
    data_time: Seconds = Field(default=120.0, description="How long we wait for the reply to DATA.")
    block_time: Seconds = Field(default=180.0, description="How long sending one block of content may stand still.")
    end_time: Seconds = Field(default=600.0, description="How long we wait for the reply to the final dot.")
    loopback_exchangers: Switch = Field(
        default=False,
        description="Take mail exchangers on loopback addresses: for trying things out on one machine only.",
    )
    memory: Size = Field(
        default=64 << 20,
        description="Accepted content that is kept in memory for its first attempt; the rest is read again.",
    )


class OutboundSettings(Table):
    """How the way to other hosts is protected where no route says so."""

    dane: Switch = Field(
        default=True,
        description="Whether TLSA records are obeyed (RFC 7672). They count only with ``resolver.trusted``.",
    )
    mta_sts: Switch = Field(default=True, description="Whether MTA-STS policies are obeyed (RFC 8461).")
    pin: Domains = Field(
        default=(),
        description="Domains whose mail never goes with less protection than was reached there before: once TLS, "
        "always TLS; once a good certificate, always a good one.",
    )


class TlsReportSettings(Table):
    """Reports to other domains of what came of TLS with them (RFC 8460), where they ask for it in the DNS."""

    enabled: Switch = Field(default=True, description="Whether reports are sent.")
    contact: Annotated[Address | None, optional(spelling.address), Allowed(spelling.ADDRESS)] = Field(
        default=None, description="Whom a domain may ask; none: ``postmaster`` of the host name."
    )
    organization: OptionalText = Field(default=None, description="Who we are; none: the host name.")


class SuppressionSettings(Table):
    """Addresses that bounce for ever are not tried any more."""

    enabled: Switch = Field(default=True, description="Whether addresses are suppressed by themselves.")
    failures: Count = Field(
        default=3, description="Failures in a row that say the address does not exist, until it is suppressed."
    )
    over: Seconds = Field(default=86400.0, description="The time that must lie between the first and the last of them.")
    keep: Seconds = Field(default=30 * 86400.0, description="How long an address stays suppressed.")


class SrsSettings(Table):
    """Reverse-paths of mail that an alias leads elsewhere are rewritten, so that SPF does not fail there (SRS)."""

    enabled: Switch = Field(default=True, description="Whether they are.")
    domain: Annotated[str | None, optional(spelling.domain), Allowed(spelling.DOMAIN)] = Field(
        default=None, description="The local domain of rewritten reverse-paths; none: the first one."
    )
    key_file: FilePath = Field(
        default="srs.key",
        description="A file with the keys, one a line: the first signs, all are believed. Made when missing. Below "
        "``state_dir`` unless absolute.",
    )
    lifetime: Seconds = Field(
        default=21 * 86400.0, description="How long bounces to a rewritten reverse-path are taken; whole days."
    )
    longest: Count = Field(
        default=64,
        description="Octets that the local-part of a rewritten reverse-path may have; what would be longer is not"
        " rewritten. Every host takes 64 (RFC 5321 section 4.5.3.1.1), and most take more.",
    )
