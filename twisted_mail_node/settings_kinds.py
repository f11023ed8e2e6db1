"""What the fields of the settings are made of: kinds of values with their spelling, and what all tables share."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator

from twisted_mail_node import settings_spelling as spelling
from twisted_mail_node.message.address import Address
from twisted_mail_node.settings_reading import Allowed

#: How the way to a next hop must be protected: not at all; by TLS if there is any; by some TLS; by TLS with a
#: certificate that is good for the host.
TlsLevel = Literal["none", "opportunistic", "required", "verified"]

LIST = "a list: "


def one_of(allowed: str, *choices: object) -> PlainValidator:
    """One of a few texts or numbers."""
    return PlainValidator(spelling.choice(allowed, *choices))


def optional(read: Any) -> PlainValidator:
    """What ``read`` takes, or nothing."""
    return PlainValidator(lambda value: None if value is None else read(value))


def texts(values: tuple[object, ...]) -> str:
    """A list of texts as TOML writes it."""
    return "[" + ", ".join(f'"{value}"' for value in values) + "]"


Count = Annotated[int, PlainValidator(spelling.count), Allowed(spelling.COUNT, str)]
CountOrZero = Annotated[int, PlainValidator(spelling.count_or_zero), Allowed(spelling.COUNT_OR_ZERO, str)]
Size = Annotated[int, PlainValidator(spelling.size), Allowed(spelling.SIZE, lambda n: f'"{spelling.spell_size(n)}"')]
Switch = Annotated[bool, PlainValidator(spelling.switch), Allowed(spelling.SWITCH, spelling.spell_switch)]
Quota = Annotated[int | None, optional(spelling.size), Allowed(spelling.SIZE)]
Seconds = Annotated[
    float, PlainValidator(spelling.duration), Allowed(spelling.DURATION, lambda n: f'"{spelling.spell_duration(n)}"')
]
Retry = Annotated[
    tuple[Annotated[float, PlainValidator(spelling.duration)], ...],
    Allowed(
        f"{LIST}at least one, at most 1000 of: {spelling.DURATION}",
        lambda times: texts(tuple(spelling.spell_duration(time) for time in times)),
    ),
    Field(min_length=1, max_length=1000),
]
Networks = Annotated[
    tuple[Annotated[IPv4Network | IPv6Network, PlainValidator(spelling.network)], ...],
    Allowed(LIST + spelling.NETWORK, texts),
]
Servers = Annotated[
    tuple[Annotated[tuple[str, int], PlainValidator(spelling.server)], ...], Allowed(LIST + spelling.SERVER, texts)
]
AnAddress = Annotated[Address, PlainValidator(spelling.address), Allowed(spelling.ADDRESS)]
Targets = Annotated[
    tuple[Annotated[Address, PlainValidator(spelling.address)], ...],
    Allowed(f"{LIST}at least one, at most 1000 of: {spelling.ADDRESS}"),
    Field(min_length=1, max_length=1000),
]

_LEVEL = '"none", "opportunistic", "required" or "verified"'
_OPTIONAL_LEVEL = '"opportunistic", "required" or "verified"'
Level = Annotated[
    TlsLevel,
    one_of(_LEVEL, "none", "opportunistic", "required", "verified"),
    Allowed(_LEVEL, '"{}"'.format),
]
OptionalLevel = Annotated[
    TlsLevel | None,
    optional(spelling.choice(_OPTIONAL_LEVEL, "opportunistic", "required", "verified")),
    Allowed(_OPTIONAL_LEVEL),
]
FilePath = Annotated[str, PlainValidator(spelling.text_path), Allowed(spelling.PATH, '"{}"'.format)]
OptionalPath = Annotated[str | None, optional(spelling.text_path), Allowed(spelling.PATH)]
OptionalText = Annotated[str | None, optional(spelling.text), Allowed(spelling.TEXT)]


class Table(BaseModel):
    """What all tables have in common: unknown keys are errors, values stay as they are."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True, hide_input_in_errors=True
    )
