"""The tables of the settings about TLS, authentication and submission."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PlainValidator

from twisted_mail_node import settings_spelling as spelling
from twisted_mail_node.settings_kinds import (
    LIST,
    Count,
    CountOrZero,
    FilePath,
    OptionalPath,
    OptionalText,
    Seconds,
    Switch,
    Table,
    one_of,
    optional,
    texts,
)
from twisted_mail_node.settings_reading import Allowed

#: What AUTH may offer, the best first.
MECHANISMS = (
    "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-1", "EXTERNAL", "OAUTHBEARER", "XOAUTH2",
    "PLAIN", "LOGIN",
)  # fmt: skip
_MECHANISM = "one of " + ", ".join(f'"{one}"' for one in MECHANISMS)
_MINIMUM = '"1.2" or "1.3"'
_NEWLINES = '"repair" or "refuse"'
_CHECKER = (
    '"accounts" (the accounts of this node), or a checker of Twisted as its --auth option writes it: '
    '"file:/etc/mailnode/passwd"'
)
_URL = 'an https: URL, or an http: one on this machine, such as "https://login.example.org/introspect"'


class TlsSettings(Table):
    """How connections are protected, where listeners and routes ask for it."""

    directory: FilePath = Field(
        default="tls",
        description="Every certificate in this directory is used: ``NAME.pem`` (chain and key), ``NAME.crt`` with "
        "``NAME.key``, or a folder with ``fullchain.pem`` and ``privkey.pem``. Changed files are read within seconds. "
        "Below ``state_dir`` unless absolute; it need not exist.",
    )
    minimum: Annotated[Literal["1.2", "1.3"], one_of(_MINIMUM, "1.2", "1.3"), Allowed(_MINIMUM, '"{}"'.format)] = Field(
        default="1.2", description="The oldest version of TLS that is spoken with clients."
    )
    tickets: Switch = Field(default=True, description="Whether clients may resume a session (RFC 8446 section 2.2).")
    handshake_time: Seconds = Field(default=30.0, description="How long a handshake may last, in and out.")
    client_ca: OptionalPath = Field(
        default=None,
        description="Certificates (PEM) that sign those of clients, for EXTERNAL. Without it clients are not asked.",
    )
    trusted: OptionalPath = Field(
        default=None, description="Certificates (PEM) that sign those of other hosts; none: those of the system."
    )


class Certificate(Table):
    """A certificate beside those in ``tls.directory``. Clients get the one whose names hold the name they ask for, else
    the one for ``hostname``, else the first. Two for the same name may differ in the kind of their keys."""

    chain: FilePath = Field(description="PEM: the certificate, then those that lead to its root.")
    key: OptionalPath = Field(
        default=None, description="PEM: the private key; none: it is in ``chain``. Others must not be able to read it."
    )


class AuthenticationSettings(Table):
    """Who may sign in on submission listeners, and how. Nobody signs in without TLS."""

    mechanisms: Annotated[
        tuple[Annotated[str, one_of(_MECHANISM, *MECHANISMS)], ...], Allowed(f"{LIST}{_MECHANISM}", texts)
    ] = Field(
        default=("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "EXTERNAL", "OAUTHBEARER", "XOAUTH2", "PLAIN", "LOGIN"),
        description="What AUTH may offer. SCRAM is offered while every account that has a password has SCRAM keys, "
        "EXTERNAL with ``tls.client_ca``, OAUTHBEARER and XOAUTH2 with ``[oauth]``.",
    )
    checkers: Annotated[
        tuple[Annotated[str, PlainValidator(spelling.checker)], ...], Allowed(f"{LIST}{_CHECKER}", texts)
    ] = Field(
        default=("accounts",),
        min_length=1,
        max_length=10,
        description="Who is asked whether a password is right, in this order.",
    )
    threads: Count = Field(
        default=1, description="Passwords compared at a time; each takes 19 MiB and a core. Leave a core to the rest."
    )
    answer_time: Seconds = Field(
        default=1.0,
        description="When a wrong password is answered, counted from its arrival: always the same, so that the time "
        "tells nothing.",
    )
    delay_max: Seconds = Field(
        default=30.0, description="The longest that a wrong password makes the next from the same place wait."
    )


class OAuthSettings(Table):
    """How bearer tokens (OAUTHBEARER, XOAUTH2) are checked: by the keys of their issuer, or by asking it."""

    jwks: OptionalPath = Field(
        default=None,
        description="A JWKS file (RFC 7517) with the keys that sign tokens (RFC 9068). Read when it changes.",
    )
    introspection: Annotated[str | None, optional(spelling.url), Allowed(_URL)] = Field(
        default=None, description="Where tokens are introspected (RFC 7662)."
    )
    client_id: OptionalText = Field(default=None, description="Who we are for the introspection.")
    client_secret_file: OptionalPath = Field(
        default=None,
        description="A file that holds our secret for the introspection. Others must not be able to read it.",
    )
    issuer: OptionalText = Field(
        default=None, description="The only ``iss`` that is believed; none: any whose signature is good."
    )
    audience: OptionalText = Field(
        default=None,
        description="What ``aud`` must hold. Needed with ``jwks``: a token for another service is not ours.",
    )
    name_claim: Annotated[str, PlainValidator(spelling.text), Allowed(spelling.TEXT, '"{}"'.format)] = Field(
        default="email", description="The claim that holds the account's address."
    )
    scope: OptionalText = Field(default=None, description="A scope the token must have, none: any.")


class SubmissionSettings(Table):
    """What signed-in users may do on submission listeners, and what is put right in their mail (RFC 6409)."""

    recipients: Count = Field(default=200, description="Recipients a mail may have.")
    mails_per_hour: CountOrZero = Field(default=500, description="Mails an account may send in an hour; 0: no bound.")
    add_from: Switch = Field(
        default=False, description="Whether a mail without From gets one with the account's address, or is refused."
    )
    bare_newlines: Annotated[
        Literal["repair", "refuse"], one_of(_NEWLINES, "repair", "refuse"), Allowed(_NEWLINES, '"{}"'.format)
    ] = Field(
        default="repair",
        description="What becomes of a line that ends in a bare LF or CR. ``mx`` listeners always refuse it.",
    )
    future_release: Seconds = Field(
        default=30 * 86400.0, description="How long a mail may be held back by its sender (RFC 4865)."
    )
