"""The table of the settings about signing mail of local domains (DKIM)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from twisted_mail_node import settings_spelling as spelling
from twisted_mail_node.settings_kinds import OptionalPath, OptionalText, Seconds, Switch, Table, optional
from twisted_mail_node.settings_problems import Problem
from twisted_mail_node.settings_reading import Allowed
from twisted_mail_node.settings_spelling import spell_duration

if TYPE_CHECKING:
    from twisted_mail_node.settings import Settings

OptionalSeconds = Annotated[float | None, optional(spelling.duration), Allowed(spelling.DURATION)]
#: Seconds: a key that is made anew more often would hardly be seen by all name servers before the next one comes.
ROTATE_MIN = 86400.0


class DkimSettings(Table):
    """How mail of local domains is signed (DKIM, RFC 6376). ``mailnode dkim create`` makes a domain's keys; without any
    nothing is signed. A local domain without keys of its own uses those of the nearest local domain above it."""

    enabled: Switch = Field(default=True, description="Whether mail of domains that have keys is signed.")
    expires: OptionalSeconds = Field(
        default=None, description="How long a signature counts (``x=``); none: for ever. Mail may be days under way."
    )
    rotate_every: OptionalSeconds = Field(
        default=None, description="How old a key becomes before it is replaced; none: ``mailnode dkim rotate`` alone."
    )
    retire_after: Seconds = Field(
        default=7 * 86400.0,
        description="How long the record of a key stays after the last signature, for mail that is under way.",
    )
    update_server: Annotated[tuple[str, int] | None, optional(spelling.server), Allowed(spelling.SERVER)] = Field(
        default=None,
        description="The name server that takes updates (RFC 2136) of the domains' zones, where records are published "
        "by the node itself; none: you publish them.",
    )
    update_key_file: OptionalPath = Field(
        default=None,
        description="A file with the key that signs updates (TSIG, RFC 8945): what ``tsig-keygen`` writes, or the "
        "secret alone. Others must not be able to read it.",
    )
    update_key_name: OptionalText = Field(default=None, description="The key's name; none: as the file says.")


def check_signing(dkim: DkimSettings | None) -> Iterator[Problem]:
    """What does not fit together in the table; nothing while it is itself wrong."""
    if dkim is None:
        return
    if (dkim.update_server is None) != (dkim.update_key_file is None):
        missing = "update_key_file" if dkim.update_key_file is None else "update_server"
        yield Problem(
            f"dkim.{missing}", "nothing, but is needed", "update_server and update_key_file go together, or neither"
        )
    if dkim.rotate_every is not None and dkim.rotate_every < ROTATE_MIN:
        yield Problem("dkim.rotate_every", spell_duration(dkim.rotate_every), f"{spell_duration(ROTATE_MIN)} or more")


def notes_on_signing(settings: Settings) -> Iterator[str]:
    """What may be meant so, but seldom is."""
    dkim, lifetime = settings.dkim, settings.queue.lifetime
    if dkim.retire_after < lifetime:
        yield (
            f"dkim.retire_after is shorter than queue.lifetime ({spell_duration(lifetime)}): mail that waits so long "
            "fails DKIM when it arrives"
        )
    if dkim.expires is not None and dkim.expires < lifetime:
        yield (
            f"dkim.expires is shorter than queue.lifetime ({spell_duration(lifetime)}): mail that waits so long is no "
            "longer signed when it arrives"
        )
