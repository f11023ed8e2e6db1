"""``mailnode queue freeze``, ``thaw`` and ``frozen``: destinations where nothing is to be tried."""

from __future__ import annotations

import time
from pathlib import Path

import click

from twisted_mail_node.admin import looks
from twisted_mail_node.admin.freezing import freezing
from twisted_mail_node.admin.spoken import json_option, settings_option
from twisted_mail_node.smtp.reply import printable


@click.command()
@settings_option
@click.argument("destination")
@click.option("--why", default="", metavar="TEXT", help="For those who wonder later.")
@json_option
def freeze(config: Path | None, destination: str, why: str, for_program: bool) -> None:
    """Try nothing at a destination until it is thawed.

    Its mail waits in the queue, and comes back to its sender when its lifetime is over. DESTINATION is a next hop as
    "mailnode queue count" names it. Attempts under way go on.
    """
    with freezing(config, quiet=for_program) as freezes:
        freezes.freeze(destination, why)
    if for_program:
        looks.as_json({"destination": destination, "frozen": True})
    else:
        click.echo(f"{printable(destination)} is frozen. Let it go: mailnode queue thaw {printable(destination)}")


@click.command()
@settings_option
@click.argument("destination")
@json_option
def thaw(config: Path | None, destination: str, for_program: bool) -> None:
    """Let a frozen destination be tried again."""
    with freezing(config, quiet=for_program) as freezes:
        freezes.thaw(destination)
    if for_program:
        looks.as_json({"destination": destination, "frozen": False})
    else:
        click.echo(f"{printable(destination)} is not frozen any more.")


@click.command()
@settings_option
@json_option
def frozen(config: Path | None, for_program: bool) -> None:
    """The destinations that are frozen."""
    with freezing(config, quiet=for_program) as freezes:
        found = freezes.frozen()
    if for_program:
        looks.as_json(found)
        return
    if not found:
        click.echo("No destination is frozen.")
        return
    table = looks.table(("Destination", "left", False), ("Since", "left", True), ("Why", "left", False))
    for one in found:
        table.add_row(looks.cut(one["destination"], 80), since(one), looks.cut(one.get("words", ""), 200))
    looks.console().print(table)


def since(one: dict[str, float]) -> str:
    """Since when it is frozen."""
    when = one.get("since")
    return f"{looks.moment(when)}, {looks.duration(time.time() - when)} ago" if when else ""
