"""``mailnode suppress``: addresses that mail is not sent to any more; look at them, add and remove some.

A running node is asked through its control socket; while it is down, its ``state.sqlite`` is opened directly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from twisted_mail_node.admin import looks
from twisted_mail_node.admin.account_spoken import address_of
from twisted_mail_node.admin.queue_filter import Seconds
from twisted_mail_node.admin.spoken import FAILED, client_for, fail, json_option, settings_of_node, settings_option
from twisted_mail_node.admin.state_alone import made_state_of, state_of

if TYPE_CHECKING:
    from twisted_mail_node.admin.messages import Shape
    from twisted_mail_node.settings import Settings
    from twisted_mail_node.state.suppressions import Suppressions

#: Characters of a reason on one line of the list.
WORDS_WIDTH = 90


@click.group()
def suppress() -> None:
    """Addresses that mail is not sent to any more.

    The node puts them there when mail to them fails again and again ([suppression] in the settings), or you do.
    """


@suppress.command("list")
@settings_option
@click.argument("text", default="")
@click.option("--limit", type=click.IntRange(1, 500_000), default=1000, show_default=True, help="At most so many.")
@json_option
def list_(config: Path | None, text: str, limit: int, for_program: bool) -> None:
    """One line for each address, oldest first; with TEXT those that hold it."""
    found = _ask(settings_of_node(config), "list", text=text, limit=limit)
    if for_program:
        looks.as_json(found)
        return
    if not found:
        click.echo("No address is suppressed." if not text else "No address like that is suppressed.")
        return
    width = max(len(looks.cut(one["address"], 60)) for one in found)
    for one in found:
        click.echo(f"{looks.cut(one['address'], 60):<{width}}  {looks.suppressed_until(one)}  {_why(one)}")
    click.echo(f"{len(found)} suppressed" + (" (there may be more: --limit)" if len(found) == limit else ""))


@suppress.command()
@settings_option
@click.argument("address")
@click.option("--words", default="", metavar="TEXT", help="Why; senders are told.")
@click.option(
    "--for", "span", type=Seconds(), metavar="TIME", help="How long, such as 90d. Default: keep of [suppression]."
)
@click.option("--for-ever", is_flag=True, help="Until you remove it.")
@json_option
def add(config: Path | None, address: str, words: str, span: float | None, for_ever: bool, for_program: bool) -> None:
    """Send no more mail to an address.

    Mail to it goes back to its sender at once, with WORDS.
    """
    if span and for_ever:
        raise click.UsageError("Say --for or --for-ever, not both.")
    who = address_of(address)
    until: dict[str, float] = {"until": 0.0} if for_ever else {"until": time.time() + span} if span else {}
    (one,) = _ask(settings_of_node(config), "add", address=str(who), words=words, **until)
    if for_program:
        looks.as_json(one)
    else:
        click.echo(f"{looks.cut(one['address'], 320)} is suppressed, {looks.suppressed_until(one)}.")


@suppress.command()
@settings_option
@click.argument("addresses", nargs=-1, required=True, metavar="ADDRESS...")
@json_option
def remove(config: Path | None, addresses: Sequence[str], for_program: bool) -> None:
    """Send mail to addresses again; their failures are forgotten."""
    settings = settings_of_node(config)
    meant = [str(address_of(address)) for address in addresses]
    found: list[Shape] = []
    unknown: list[str] = []
    for address in meant:
        answer = _ask(settings, "remove", address=address)
        found += answer
        unknown += [] if answer else [address]
    if for_program:
        looks.as_json({"removed": found, "unknown": unknown})
    for one in found if not for_program else ():
        click.echo(f"{looks.cut(one['address'], 320)} gets mail again.")
    for address in unknown:
        click.echo(f"mailnode: {looks.cut(address, 320)} is not suppressed", err=True)
    if unknown:
        raise SystemExit(FAILED)


def _ask(settings: Settings, order: str, **arguments: Any) -> list[Shape]:
    """Have the node do it, or do it in its stead while it is down."""
    from twisted_mail_node.admin.control_client import ControlError, NodeNotRunning
    from twisted_mail_node.admin.messages import RequestError

    client = client_for(settings)
    try:
        if client.is_running():
            return client.ask(f"suppress.{order}", **arguments).items
        return _meanwhile(settings, order, arguments)
    except (ControlError, NodeNotRunning, RequestError) as error:
        fail(str(error))


def _meanwhile(settings: Settings, order: str, arguments: Shape) -> list[Shape]:
    from twisted_mail_node.admin import suppress_orders
    from twisted_mail_node.directory.domains import Domains
    from twisted_mail_node.state.database import StateError
    from twisted_mail_node.state.suppressions import Suppressions

    orders: dict[str, Callable[[Suppressions, Shape], list[Shape]]] = {
        "list": suppress_orders.listed,
        "add": suppress_orders.added,
        "remove": suppress_orders.removed,
    }
    try:
        with (made_state_of if order == "add" else state_of)(settings.state_dir) as database:
            if database is None:
                return []
            domains = Domains(settings.domains, settings.hostname, settings.state_dir)
            suppressions = Suppressions(
                database,
                settings.suppression,
                time.time,
                lambda event: None,
                lambda name: domains.find(name) is not None,
            )
            return orders[order](suppressions, arguments)
    except StateError as error:
        fail(str(error))


def _why(one: Shape) -> str:
    return looks.cut(looks.suppressed_why(one), WORDS_WIDTH)
