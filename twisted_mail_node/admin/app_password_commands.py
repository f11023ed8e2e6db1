"""``mailnode account app-password``: a password for each program of a person, to be taken back one by one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from twisted_mail_node.admin import looks
from twisted_mail_node.admin.account_spoken import account_file, address_of, standing, tell_node
from twisted_mail_node.admin.spoken import fail, json_option, read_settings, settings_option

if TYPE_CHECKING:
    from twisted_mail_node.directory.account_secrets import AppPassword
    from twisted_mail_node.message.address import Address
    from twisted_mail_node.settings import Settings


@click.group("app-password")
def app_password() -> None:
    """Passwords for programs, beside an account's own."""


@app_password.command()
@settings_option
@click.argument("address")
@click.argument("name")
@json_option
def add(config: Path | None, address: str, name: str, for_program: bool) -> None:
    """Make one, and show it this once.

    NAME says what it is for, such as "phone".
    """
    settings = read_settings(config)
    who = address_of(address)
    try:
        made = account_file(settings).add_app_password(who, name, int(time.time()), standing(settings, who))
    except ValueError as error:
        fail(str(error))
    if for_program:
        looks.as_json({"address": str(who), "name": name, "password": made})
    else:
        click.echo(f"The application password {name!r} of {who}, shown this once:\n\n    {made}\n")
    tell_node(settings, quietly=for_program)


@app_password.command("list")
@settings_option
@click.argument("address")
@json_option
def list_(config: Path | None, address: str, for_program: bool) -> None:
    """Those of an account; never the passwords themselves."""
    settings = read_settings(config)
    who = address_of(address)
    found = _kept(settings, who)
    if for_program:
        looks.as_json([{"name": one.name, "created": one.created} for one in found])
        return
    if not found:
        click.echo(f"{who} has no application passwords.")
        return
    width = max(len(one.name) for one in found)
    for one in found:
        click.echo(f"{one.name:<{width}}  made {looks.moment(one.created)}")


@app_password.command()
@settings_option
@click.argument("address")
@click.argument("name")
def remove(config: Path | None, address: str, name: str) -> None:
    """Take one back: nobody signs in with it any more."""
    settings = read_settings(config)
    who = address_of(address)
    try:
        account_file(settings).remove_app_password(who, name, standing(settings, who))
    except ValueError as error:
        fail(str(error))
    click.echo(f"The application password {name!r} of {who} is taken back.")
    tell_node(settings)


def _kept(settings: Settings, who: Address) -> tuple[AppPassword, ...]:
    from twisted_mail_node.directory.account_form import name_of

    file = account_file(settings)
    try:
        kept = file.read()
    except ValueError as error:
        fail(str(error))
    stands = standing(settings, who) is not None
    found = (kept.of_settings if stands else kept.accounts).get(name_of(who))
    if found is None and not stands:
        fail(f"{who} has no account in {file.path}")
    return found[1].app_passwords if found is not None else ()
