"""The settings: a TOML file becomes frozen values, or an error that names everything that is wrong with it at once.

``load`` reads a file, ``parse`` a text; ``development`` is what runs without a file. Each field's sentence, kind and
default stand here once; ``docs/settings.rst`` is generated from them (``python -m twisted_mail_node.settings_docs``).
Sizes are octets, durations are seconds, domains are in their look-up spelling (``message.address.domain_key``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, PlainValidator, ValidationError, model_validator

from twisted_mail_node import settings_routes as routes
from twisted_mail_node import settings_spelling as spelling
from twisted_mail_node.message.address import Address
from twisted_mail_node.settings_checks import Sections, cross_check
from twisted_mail_node.settings_endpoint import ENDPOINT
from twisted_mail_node.settings_endpoint import endpoint as read_endpoint
from twisted_mail_node.settings_kinds import (
    LIST,
    AnAddress,
    Count,
    CountOrZero,
    FilePath,
    Networks,
    Quota,
    Seconds,
    Size,
    Switch,
    Table,
    Targets,
    TlsLevel,
    one_of,
    optional,
    texts,
)
from twisted_mail_node.settings_outbound import (
    DestinationRule,
    OutboundSettings,
    QueueSettings,
    ResolverSettings,
    RouteRule,
    Source,
    SrsSettings,
    SuppressionSettings,
    TlsReportSettings,
)
from twisted_mail_node.settings_problems import Problem, SettingsError
from twisted_mail_node.settings_reading import Allowed, problems_of, read_text, read_toml
from twisted_mail_node.settings_security import (
    AuthenticationSettings,
    Certificate,
    OAuthSettings,
    SubmissionSettings,
    TlsSettings,
)
from twisted_mail_node.settings_signing import DkimSettings
from twisted_mail_node.settings_verification import CheckRule, VerificationSettings

__all__ = [
    "Account",
    "Alias",
    "AuthenticationSettings",
    "Certificate",
    "CheckRule",
    "DeliverySettings",
    "DestinationRule",
    "DkimSettings",
    "Domain",
    "Limits",
    "Listener",
    "LogSettings",
    "OAuthSettings",
    "OutboundSettings",
    "PolicySettings",
    "Problem",
    "QueueSettings",
    "ResolverSettings",
    "RouteRule",
    "Settings",
    "SettingsError",
    "Source",
    "SrsSettings",
    "SubmissionSettings",
    "SuppressionSettings",
    "TlsLevel",
    "TlsReportSettings",
    "TlsSettings",
    "VerificationSettings",
    "development",
    "load",
    "parse",
]

_KIND = '"mx" or "submission"'
_TLS = '"starttls", "implicit" (TLS from the first octet, RFC 8314) or "none"'
_QUOTA_REPLY = "452 (the client tries again) or 552 (the mail is refused)"
_SYNC = '"auto", "syncfs" or "fsync"'


class Listener(Table):
    """A place where the node listens."""

    kind: Annotated[Literal["mx", "submission"], one_of(_KIND, "mx", "submission"), Allowed(_KIND)] = Field(
        description="``mx`` takes mail for local domains from anyone; ``submission`` takes mail from its own people."
    )
    endpoint: Annotated[str, PlainValidator(read_endpoint), Allowed(ENDPOINT)] = Field(
        description="Where it listens, as Twisted writes server endpoints."
    )
    tls: Annotated[
        Literal["starttls", "implicit", "none"],
        one_of(_TLS, "starttls", "implicit", "none"),
        Allowed(_TLS, '"{}"'.format),
    ] = Field(
        default="starttls",
        description="How the listener offers TLS. Without a certificate of yours the node makes one itself, which "
        "other servers take and mail clients warn of.",
    )
    proxy_from: Networks = Field(
        default=(),
        description="Networks whose connections begin with a PROXY header (version 1 or 2): load balancers. Nobody "
        "else may send one, and nobody there may leave it out.",
    )
    xclient_from: Networks = Field(
        default=(),
        description="Networks whose clients may say XCLIENT: filters and proxies that speak SMTP. They are counted for "
        "the clients they bring, and not for themselves.",
    )


class Domain(Table):
    """A local domain: mail for it ends here. Without any, the host name is the only one, for its postmaster."""

    name: Annotated[str, PlainValidator(spelling.domain), Allowed(spelling.DOMAIN)] = Field(
        description="The domain. Subdomains are domains of their own."
    )
    maildir: Annotated[str, PlainValidator(spelling.maildir), Allowed(spelling.MAILDIR, '"{}"'.format)] = Field(
        default="mail/{domain}/{local_part}",
        description="The Maildir of each mailbox, below ``state_dir`` unless absolute. Unsafe characters of a "
        "local-part are written as in URLs (``%2F``).",
    )
    catch_all: Annotated[Address | None, optional(spelling.address), Allowed(spelling.ADDRESS)] = Field(
        default=None,
        description="Takes mail for local-parts nobody has. Must be in a local domain; an alias leads elsewhere.",
    )
    subaddress_separator: Annotated[str | None, optional(spelling.separator), Allowed(spelling.SEPARATOR)] = Field(
        default=None,
        description="With ``+``, mail for ``joe+shop@`` goes to ``joe@`` when nobody has the longer address.",
    )
    lmtp: Annotated[str | None, optional(routes.next_hop), Allowed(routes.NEXT_HOP)] = Field(
        default=None,
        description="The message store that takes the domain's mail by LMTP (RFC 2033), instead of Maildirs.",
    )
    quota: Quota = Field(default=None, description="How much a mailbox of the domain may hold; none: no limit.")


class Account(Table):
    """Someone with a mailbox here. ``mailnode account add`` keeps more of them in ``state_dir/accounts.json``;
    both are read, and an account that stands in both counts as it is written here."""

    address: AnAddress = Field(description="The address, in a local domain.")
    password: Annotated[str | None, optional(spelling.password_hash), Allowed(spelling.PASSWORD_HASH, secret=True)] = (
        Field(
            default=None,
            repr=False,
            description="The password's hash, as ``mailnode account hash`` prints it. Without one the account only "
            "receives.",
        )
    )
    scram: Annotated[str | None, optional(spelling.scram_keys), Allowed(spelling.SCRAM_KEYS, secret=True)] = Field(
        default=None,
        repr=False,
        description="The password's keys for SCRAM-SHA-256, as ``mailnode account hash`` prints them; also made at the "
        "first sign-in with the password.",
    )
    disabled: Switch = Field(default=False, description="A disabled account receives, but nobody signs in to it.")
    sends_as: Annotated[
        tuple[Annotated[str, PlainValidator(spelling.address_pattern)], ...],
        Allowed(LIST + spelling.ADDRESS_PATTERN, texts),
    ] = Field(
        default=(),
        description="Addresses it may write from beside its own and those of aliases that lead to it.",
    )
    mails_per_hour: Annotated[int | None, optional(spelling.count_or_zero), Allowed(spelling.COUNT_OR_ZERO)] = Field(
        default=None, description="Mails it may send in an hour; none: what ``[submission]`` says."
    )
    quota: Quota = Field(default=None, description="How much the mailbox may hold; none: what its domain says.")


class Alias(Table):
    """An address whose mail goes to other addresses. Aliases may lead to aliases, ten deep. One that names itself in
    ``to`` and is also an account keeps a copy there."""

    address: AnAddress = Field(description="The address, in a local domain.")
    to: Targets = Field(description="Where its mail goes: here or elsewhere.")


class Limits(Table):
    """What one client, one session, one mail may take."""

    message_size: Size = Field(default=50 << 20, description="The largest content of a mail; what SIZE announces.")
    connections: Count = Field(default=10000, description="Connections at a time, over all listeners.")
    connections_per_address: Count = Field(
        default=100, description="Connections at a time from one address (IPv6: one /64)."
    )
    recipients: Count = Field(
        default=1000, description="Recipients of a mail. RFC 5321 section 4.5.3.1.8 asks for 100."
    )
    header_size: Size = Field(default=1 << 20, description="The largest header section of a mail.")
    hops: Count = Field(
        default=100, description="Received fields; a mail with more is in a loop (RFC 5321 section 6.3)."
    )
    errors: Count = Field(default=20, description="Wrong or idle commands in a session before we hang up.")
    command_time: Seconds = Field(
        default=300.0, description="How long we wait for a command (RFC 5321 section 4.5.3.2.7)."
    )
    data_time: Seconds = Field(default=180.0, description="How long we wait between two pieces of content.")
    session_time: Seconds = Field(default=7200.0, description="How long a session may last in all.")
    policy_time: Seconds = Field(default=30.0, description="How long a policy may think at one stage.")
    free_space: Size = Field(
        default=64 << 20, description="New mail is refused (452) while the disk of the spool has less room than this."
    )
    mails_per_session: CountOrZero = Field(default=0, description="Mails in one session.")


class DeliverySettings(Table):
    """How mail is put into Maildirs."""

    quota_reply: Annotated[Literal[452, 552], one_of(_QUOTA_REPLY, 452, 552), Allowed(_QUOTA_REPLY, str)] = Field(
        default=452, description="What a full mailbox answers."
    )
    sync: Annotated[
        Literal["auto", "syncfs", "fsync"], one_of(_SYNC, "auto", "syncfs", "fsync"), Allowed(_SYNC, '"{}"'.format)
    ] = Field(
        default="auto",
        description="How delivered mails are made durable: one ``syncfs`` for a batch, ``fsync`` for each file, or "
        "what suits the file system.",
    )
    junk_folder: Annotated[str | None, optional(spelling.folder), Allowed(spelling.FOLDER)] = Field(
        default=None,
        description="The folder of a mailbox (Maildir++) that mail in quarantine goes to, such as ``Junk``; none: it "
        "goes to the inbox, with the field ``X-Quarantine``.",
    )


class LogSettings(Table):
    """Where events are written, one JSON object a line."""

    path: FilePath = Field(
        default="log/mail.jsonl",
        description="The log file, below ``state_dir`` unless absolute; ``-`` is standard output.",
    )


class PolicySettings(Table):
    """A policy; policies are asked in the order of the file. All other keys of the table are the policy's options."""

    name: Annotated[str, PlainValidator(spelling.name), Allowed(spelling.NAME)] = Field(
        description="Which policy it is."
    )
    options: dict[str, Any] = Field(default_factory=dict, repr=False, description="All other keys of the table.")

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, table: Any) -> Any:
        """What is not the name is an option."""
        if not isinstance(table, dict) or isinstance(table.get("options"), dict):
            return table
        options = {key: value for key, value in table.items() if key != "name"}
        return {key: value for key, value in table.items() if key == "name"} | {"options": options}


class Settings(Table):
    """Everything at once. Tables are in the order of the file."""

    hostname: Annotated[str, PlainValidator(spelling.hostname), Allowed(spelling.HOSTNAME)] = Field(
        description="The node's name: in the greeting, in EHLO and in Received."
    )
    state_dir: Annotated[Path, PlainValidator(spelling.path), Allowed(spelling.PATH, '"{}"'.format)] = Field(
        default=Path("var"),
        description="Holds spool, Maildirs, log and control socket. Relative to the directory the node is started in.",
    )
    workers: Annotated[int, PlainValidator(spelling.workers), Allowed(spelling.WORKERS, str)] = Field(
        default=1, description="Processes that do the work."
    )
    relay_from: Networks = Field(
        default=(),
        description="Networks whose clients may send to any domain without a password. Loopback is not among them.",
    )
    listeners: tuple[Listener, ...] = Field(default=(), validation_alias="listener", max_length=100)
    domains: tuple[Domain, ...] = Field(default=(), validation_alias="domain")
    accounts: tuple[Account, ...] = Field(default=(), validation_alias="account")
    aliases: tuple[Alias, ...] = Field(default=(), validation_alias="alias")
    routes: tuple[RouteRule, ...] = Field(default=(), validation_alias="route")
    destinations: tuple[DestinationRule, ...] = Field(default=(), validation_alias="destination")
    sources: tuple[Source, ...] = Field(default=(), validation_alias="source", max_length=1000)
    checks: tuple[CheckRule, ...] = Field(default=(), validation_alias="check", max_length=1000)
    certificates: tuple[Certificate, ...] = Field(default=(), validation_alias="certificate", max_length=1000)
    tls: TlsSettings = TlsSettings()
    authentication: AuthenticationSettings = AuthenticationSettings()
    oauth: OAuthSettings = OAuthSettings()
    submission: SubmissionSettings = SubmissionSettings()
    verification: VerificationSettings = VerificationSettings()
    policies: tuple[PolicySettings, ...] = Field(default=(), validation_alias="policy")
    limits: Limits = Limits()
    resolver: ResolverSettings = ResolverSettings()
    queue: QueueSettings = QueueSettings()
    outbound: OutboundSettings = OutboundSettings()
    tls_reports: TlsReportSettings = TlsReportSettings()
    suppression: SuppressionSettings = SuppressionSettings()
    srs: SrsSettings = SrsSettings()
    dkim: DkimSettings = DkimSettings()
    delivery: DeliverySettings = DeliverySettings()
    log: LogSettings = LogSettings()


def load(path: str | Path) -> Settings:
    """The settings of a file. ``state_dir`` is relative to the current working directory. Blocks on the disk.

    :raises SettingsError: with all that is wrong.
    """
    return _parse(read_text(Path(path)), Path.cwd(), str(path))


def parse(text: str, base_dir: Path | None = None) -> Settings:
    """The settings of a TOML text.

    :param base_dir: what ``state_dir`` is relative to; the current working directory if not given.
    :raises SettingsError: with all that is wrong.
    """
    return _parse(text, base_dir or Path.cwd(), "")


def development(state_dir: Path = Path("var")) -> Settings:
    """The settings of a node that is tried out: one domain, one account, and three listeners on this machine only.

    Nobody signs in with them as they are; ``mailnode run`` gives the account a password.
    """
    return Settings(
        hostname="mx.mail.test",
        state_dir=Path.cwd() / state_dir,
        listeners=(
            Listener(kind="mx", endpoint="tcp:2525:interface=127.0.0.1"),
            Listener(kind="submission", endpoint="tcp:2587:interface=127.0.0.1"),
            Listener(kind="submission", endpoint="tcp:2465:interface=127.0.0.1", tls="implicit"),
        ),
        domains=(Domain(name="mail.test", subaddress_separator="+"),),
        accounts=(Account(address=Address("demo", "mail.test")),),
    )


def _parse(text: str, base_dir: Path, source: str) -> Settings:
    table = read_toml(text, source)
    problems: list[Problem] = []
    settings = None
    try:
        settings = Settings.model_validate(table, by_alias=True, by_name=False)
    except ValidationError as error:
        problems = problems_of(error, Settings)
    problems += cross_check(_sections(table))
    if problems or settings is None:
        raise SettingsError(problems, source)
    return settings.model_copy(update={"state_dir": base_dir / settings.state_dir})


_T = TypeVar("_T", bound=Table)


def _sections(table: dict[str, Any]) -> Sections:
    """The tables that are right by themselves, so that what is wrong between them is told in the same breath."""
    sections = Sections(without_listener=not table.get("listener", []), tls=_alone(table, "tls", TlsSettings))
    sections.authentication = _alone(table, "authentication", AuthenticationSettings)
    sections.oauth = _alone(table, "oauth", OAuthSettings)
    sections.certificates, _ = _usable(table, "certificate", Certificate)
    sections.listeners, _ = _usable(table, "listener", Listener)
    sections.domains, sections.domains_complete = _usable(table, "domain", Domain)
    sections.accounts, _ = _usable(table, "account", Account)
    sections.aliases, _ = _usable(table, "alias", Alias)
    sections.routes, _ = _usable(table, "route", RouteRule)
    sections.destinations, _ = _usable(table, "destination", DestinationRule)
    sections.sources, _ = _usable(table, "source", Source)
    sections.checks, _ = _usable(table, "check", CheckRule)
    sections.srs = _alone(table, "srs", SrsSettings)
    sections.dkim = _alone(table, "dkim", DkimSettings)
    return sections


def _alone(table: dict[str, Any], key: str, model: type[_T]) -> _T | None:
    """The table of a section that stands once, or its defaults; ``None`` when something in it is wrong by itself."""
    try:
        return model.model_validate(table.get(key, {}), by_alias=True, by_name=False)
    except ValidationError:
        return None


def _usable(table: dict[str, Any], key: str, model: type[_T]) -> tuple[list[tuple[str, _T]], bool]:
    """Each table of a section with its path, without its wrong keys, and whether none had to be left out."""
    found: list[tuple[str, _T]] = []
    given = table.get(key, [])
    if not isinstance(given, list):
        return found, False
    for number, one in enumerate(given, 1):
        try:
            usable = model.model_validate(one, by_alias=True, by_name=False)
        except ValidationError as error:
            wrong = {detail["loc"][:1] for detail in error.errors()}
            if not isinstance(one, dict) or () in wrong:
                continue
            try:
                right = {name: value for name, value in one.items() if (name,) not in wrong}
                usable = model.model_validate(right, by_alias=True, by_name=False)
            except ValidationError:
                continue
        found.append((f"{key}[{number}]", usable))
    return found, len(found) == len(given)
