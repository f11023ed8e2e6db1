"""The tables of the settings about mail authentication: what is checked of mail that comes in, and what follows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PlainValidator

from twisted_mail_node import settings_routes as routes
from twisted_mail_node import settings_spelling as spelling
from twisted_mail_node.settings_kinds import LIST, Count, Networks, Seconds, Switch, Table, one_of, optional, texts
from twisted_mail_node.settings_reading import Allowed

#: What a rule may ask: the methods of Authentication-Results, and ``from`` (the From field itself).
METHODS = ("from", "iprev", "helo", "spf", "dkim", "dmarc", "arc")
#: Words for what came of it; ``reject`` and ``quarantine`` are what a DMARC record asks for when DMARC fails.
RESULTS = (
    "none", "pass", "fail", "softfail", "neutral", "policy", "temperror", "permerror", "reject", "quarantine",
)  # fmt: skip
_SPF = ("none", "pass", "fail", "softfail", "neutral", "temperror", "permerror")
#: What each method can come to (RFC 8601 section 2.7): a rule about anything else would never fit.
RESULTS_OF = {
    "from": ("pass", "fail", "permerror"),
    "iprev": ("pass", "fail", "temperror", "permerror"),
    "helo": _SPF,
    "spf": _SPF,
    "dkim": ("none", "pass", "fail", "policy", "neutral", "temperror", "permerror"),
    "dmarc": ("none", "pass", "fail", "reject", "quarantine", "temperror", "permerror"),
    "arc": ("none", "pass", "fail", "temperror"),
}
_METHOD = "one of " + ", ".join(f'"{one}"' for one in METHODS)
_RESULT = "one of " + ", ".join(f'"{one}"' for one in RESULTS)
_DOMAIN = '"example.org" (that domain), ".example.org" (its subdomains) or "*" (every domain)'
_ACTION = (
    '"refuse" (550; 451 where the result is temperror), "quarantine" (a header field, and the junk folder) '
    'or "note" (Authentication-Results only)'
)
#: Domains that a rule is for.
Domains = Annotated[tuple[Annotated[str, PlainValidator(routes.route_domain)], ...], Allowed(LIST + _DOMAIN, texts)]
#: What follows of a check's result.
Action = Literal["refuse", "quarantine", "note"]


class CheckRule(Table):
    """What follows when a check comes to a result. The first rule that fits counts; behind those of the file stand:
    refuse mail in which From depends on who reads it (``from`` is ``fail``), quarantine what has no sure author
    (``permerror``), refuse or quarantine as a domain's DMARC record asks, put mail off once when DMARC cannot be looked
    up (``temperror``), note all else."""

    method: Annotated[str, one_of(_METHOD, *METHODS), Allowed(_METHOD)] = Field(
        description="The check. ``helo`` is SPF of the name in EHLO, ``iprev`` whether the client's address has a name "
        "that leads back to it, ``from`` whether the author is beyond doubt."
    )
    results: Annotated[
        tuple[Annotated[str, one_of(_RESULT, *RESULTS)], ...], Allowed(f"{LIST}at least one: {_RESULT}")
    ] = Field(
        min_length=1,
        description="What it came to. ``reject`` and ``quarantine``: DMARC fails, and the domain asks for that; "
        "``fail`` of ``dmarc``: it asks for nothing. Whoever means every failure names all three.",
    )
    senders: Domains = Field(
        default=(),
        description="The rule is only for mail of these domains: for ``spf`` that of the reverse-path, for ``helo`` "
        "and ``iprev`` the client's name, else the author's (From). An empty list means any.",
    )
    recipients: Domains = Field(
        default=(),
        description="The rule is only for mail to these domains. When recipients differ, the mildest of what follows "
        "is done. An empty list means any.",
    )
    action: Annotated[Action, one_of(_ACTION, "refuse", "quarantine", "note"), Allowed(_ACTION, '"{}"'.format)] = Field(
        description="What is done then."
    )


class VerificationSettings(Table):
    """How mail that ``mx`` listeners take is checked: iprev, SPF, DKIM, DMARC, ARC. ``[[check]]`` says what follows."""

    enabled: Switch = Field(default=True, description="Whether it is checked at all.")
    exempt: Networks = Field(
        default=spelling.LOOPBACK,
        description="Networks whose mail is not checked, beside ``relay_from``: your own hosts.",
    )
    authserv_id: Annotated[str | None, optional(spelling.domain), Allowed(spelling.DOMAIN)] = Field(
        default=None,
        description="Our name in Authentication-Results (RFC 8601); none: ``hostname``. Fields of others that claim it "
        "are removed.",
    )
    signatures: Count = Field(default=10, description="DKIM signatures of one mail that are looked at.")
    temperror_time: Seconds = Field(
        default=86400.0,
        description="When a check cannot be made now (``temperror``), the mail is put off with 451 once in this time; "
        "when the client comes again it is taken, whatever the check comes to.",
    )
    trusted_sealers: Annotated[
        tuple[Annotated[str, PlainValidator(spelling.domain)], ...], Allowed(LIST + spelling.DOMAIN, texts)
    ] = Field(
        default=(),
        description="Forwarders and mailing lists whose ARC seals are believed: a mail that they vouch for is not "
        "refused or quarantined because of DMARC.",
    )
    seal: Switch = Field(
        default=True,
        description="Whether mail that is forwarded elsewhere gets an ARC seal of ours; it takes a key.",
    )
