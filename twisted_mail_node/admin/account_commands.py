"""``mailnode account``: the accounts that commands keep in ``state_dir``, beside those of the settings file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from twisted_mail_node.admin import looks
from twisted_mail_node.admin.spoken import client_for, fail, json_option, read_settings, settings_option

if TYPE_CHECKING:
    from twisted_mail_node.directory.accounts import AccountFile
    from twisted_mail_node.message.address import Address
    from twisted_mail_node.settings import Settings

#: Characters read as a password from standard input; nobody types more.
PASSWORD_MAX = 1000

_no_password = click.option("--no-password", is_flag=True, help="The account receives, but cannot log in.")


@click.group()
def account() -> None:
    """Who has a mailbox here."""


def _file(settings: Settings) -> AccountFile:
    from twisted_mail_node.directory.accounts import FILE_NAME, AccountFile

    return AccountFile(settings.state_dir / FILE_NAME)


def _address(text: str) -> Address:
    from twisted_mail_node.settings_problems import Misspelt
    from twisted_mail_node.settings_spelling import address

    try:
        return address(text)
    except Misspelt as error:
        hint = f"; {error.hint}" if error.hint else ""
        return fail(f"{text!a} is not an address such as joe@example.org{hint}")


def _password(no_password: bool) -> str | None:
    """From the terminal, twice and unseen; or one line of standard input."""
    if no_password:
        return None
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    line = sys.stdin.readline(PASSWORD_MAX).rstrip("\r\n")
    if not line:
        fail("no password came on standard input; give one there, or --no-password")
    return line


def _tell_node(settings: Settings) -> None:
    """Let a running node know at once."""
    from twisted_mail_node.admin.control_client import ControlError, NodeNotRunning

    try:
        client_for(settings).ask("reload")
    except NodeNotRunning:
        click.echo("(No node is running here; it counts from the next start on.)")
    except ControlError as error:
        fail(f"it is written down, but the running node did not take it up: {error}")


@account.command()
@settings_option
@click.argument("address")
@click.option("--quota", metavar="SIZE", help="What the mailbox may hold, such as 1G.")
@_no_password
def add(config: Path | None, address: str, quota: str | None, no_password: bool) -> None:
    """Add an account. The password is asked for, or read from standard input."""
    from twisted_mail_node.directory.directory import Directory
    from twisted_mail_node.settings_spelling import size

    settings = read_settings(config)
    who = _address(address)
    try:
        octets = size(quota) if quota is not None else None
    except ValueError:
        fail(f"--quota is a size such as 500M or 2G, not {quota!a}")
    try:
        directory = Directory(settings)
        if not directory.is_local(who.domain):
            fail(f"{who.domain} is not a local domain of these settings; add a [[domain]] first")
        if any(one.address == who for one in settings.accounts):
            fail(f"{who} has an account in the settings file already")
        _file(settings).add(who, _password(no_password), octets)
    except ValueError as error:
        fail(str(error))
    click.echo(f"{who} has an account now." if not no_password else f"{who} has an account now, without a password.")
    _tell_node(settings)


@account.command()
@settings_option
@click.argument("address")
def remove(config: Path | None, address: str) -> None:
    """Remove an account. Its mailbox stays on the disk."""
    settings = read_settings(config)
    who = _address(address)
    try:
        _file(settings).remove(who)
    except ValueError as error:
        in_settings = any(one.address == who for one in settings.accounts)
        fail(f"{who} stands in the settings file; remove it there" if in_settings else str(error))
    click.echo(f"{who} has no account any more. The mailbox is still there.")
    _tell_node(settings)


@account.command()
@settings_option
@click.argument("address")
@_no_password
def passwd(config: Path | None, address: str, no_password: bool) -> None:
    """Give an account another password, or none."""
    settings = read_settings(config)
    who = _address(address)
    try:
        _file(settings).set_password(who, _password(no_password))
    except ValueError as error:
        fail(str(error))
    click.echo(f"The password of {who} is changed." if not no_password else f"{who} cannot log in any more.")
    _tell_node(settings)


@account.command("list")
@settings_option
@json_option
def list_(config: Path | None, for_program: bool) -> None:
    """All accounts.

    Those of the settings file, and those that commands added.
    """
    settings = read_settings(config)
    try:
        kept = _file(settings).list()
    except ValueError as error:
        fail(str(error))
    accounts = [(one, "settings") for one in settings.accounts] + [(one, "commands") for one in kept]
    rows = [
        {
            "address": str(one.address),
            "password": one.password is not None,
            "quota": one.quota,
            "from": source,
        }
        for one, source in accounts
    ]
    if for_program:
        looks.as_json(rows)
        return
    if not rows:
        click.echo("Nobody has an account here yet: mailnode account add ADDRESS")
        return
    width = max(len(str(row["address"])) for row in rows)
    for row in rows:
        password = "password" if row["password"] else "no password"
        quota = f", at most {looks.size(one)}" if isinstance(one := row["quota"], int) else ""
        click.echo(f"{row['address']:<{width}}  {password}{quota}, from {row['from']}")
