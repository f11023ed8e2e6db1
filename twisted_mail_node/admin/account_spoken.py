"""What the commands about accounts share: the account file, addresses and passwords as they are given."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from twisted_mail_node.admin.spoken import client_for, fail

if TYPE_CHECKING:
    from twisted_mail_node.directory.accounts import AccountFile
    from twisted_mail_node.message.address import Address
    from twisted_mail_node.settings import Account, Settings

#: Characters read as a password from standard input; nobody types more.
PASSWORD_MAX = 1000


def account_file(settings: Settings) -> AccountFile:
    """Where commands keep accounts."""
    from twisted_mail_node.directory.accounts import AccountFile

    return AccountFile.of(settings)


def address_of(text: str) -> Address:
    """The address an operator wrote; ends the command when it is none."""
    from twisted_mail_node.settings_problems import Misspelt
    from twisted_mail_node.settings_spelling import address

    try:
        return address(text)
    except Misspelt as error:
        hint = f"; {error.hint}" if error.hint else ""
        return fail(f"{text!a} is not an address such as joe@example.org{hint}")


def standing(settings: Settings, who: Address) -> Account | None:
    """The account of this address in the settings file."""
    return next((one for one in settings.accounts if one.address == who), None)


def given_password() -> str:
    """From the terminal, twice and unseen; or one line of standard input."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    line = sys.stdin.readline(PASSWORD_MAX).rstrip("\r\n")
    if not line:
        fail("no password came on standard input")
    return line


def tell_node(settings: Settings, *, quietly: bool = False) -> None:
    """Let a running node know at once.

    :param quietly: say nothing on standard output, which a program reads.
    """
    from twisted_mail_node.admin.control_client import ControlError, NodeNotRunning

    try:
        client_for(settings).ask("reload")
    except NodeNotRunning:
        click.echo("(No node is running here; it counts from the next start on.)", err=quietly)
    except ControlError as error:
        fail(f"it is written down, but the running node did not take it up: {error}")
