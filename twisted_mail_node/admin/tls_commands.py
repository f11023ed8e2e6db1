"""``mailnode tls``: the protection that was reached with domains, which ``outbound.pin`` never goes below.

A running node is asked through its control socket; while it is down its database is opened directly.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from twisted_mail_node.admin import looks
from twisted_mail_node.admin.spoken import fail, json_option, settings_of_node, settings_option
from twisted_mail_node.admin.state_alone import state_of
from twisted_mail_node.smtp.reply import printable

if TYPE_CHECKING:
    from twisted_mail_node.admin.control_client import ControlClient
    from twisted_mail_node.admin.orders import Levels


class _OfNode:
    """What a running node knows."""

    def __init__(self, client: ControlClient) -> None:
        self._client = client

    def all(self) -> dict[str, str]:
        return {item["domain"]: item["level"] for item in self._client.ask("tls.list").items}

    def forget(self, domain: str) -> str:
        return str(self._client.ask("tls.forget", domain=domain).last["level"])


@click.group()
def tls() -> None:
    """The protection that was reached with domains (outbound.pin)."""


@tls.command("list")
@settings_option
@json_option
def list_(config: Path | None, for_program: bool) -> None:
    """Domains and the best protection reached there."""
    with _levels(config) as levels:
        known = levels.all()
    if for_program:
        looks.as_json([{"domain": domain, "level": known[domain]} for domain in sorted(known)])
        return
    if not known:
        click.echo("Nothing is remembered.")
        return
    width = max(len(domain) for domain in known)
    for domain in sorted(known):
        click.echo(f"{printable(domain):<{width}}  {known[domain]}")


@tls.command()
@settings_option
@click.argument("domain")
def forget(config: Path | None, domain: str) -> None:
    """Let mail to DOMAIN go with less than was reached there."""
    from twisted_mail_node.message.address import domain_key

    try:
        key = domain_key(domain)
    except ValueError as error:
        fail(str(error))
    with _levels(config) as levels:
        known = levels.forget(key)
    if not known:
        fail(f"nothing is remembered of {key}")
    click.echo(f"Forgotten: {key} ({known}).")


@contextmanager
def _levels(config: Path | None) -> Iterator[Levels]:
    """Who knows; what goes wrong ends the command with a sentence."""
    from twisted_mail_node.admin.control_client import ControlClient, ControlError, NodeNotRunning
    from twisted_mail_node.state.database import StateError
    from twisted_mail_node.state.tls_levels import TlsLevels

    settings = settings_of_node(config)
    client = ControlClient(settings.state_dir)
    try:
        if client.is_running():
            yield _OfNode(client)
            return
        with state_of(settings.state_dir) as database:
            if database is None:
                fail(f"no node has run here yet: there is no state database in {settings.state_dir}")
            yield TlsLevels(database, time.time)
    except (ControlError, NodeNotRunning, StateError) as error:
        fail(str(error))
