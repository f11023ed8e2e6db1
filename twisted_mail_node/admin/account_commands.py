"""``mailnode account``: the accounts that commands keep in ``state_dir``, beside those of the settings file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from twisted_mail_node.admin import demo, looks
from twisted_mail_node.admin.account_spoken import account_file, address_of, given_password, standing, tell_node
from twisted_mail_node.admin.app_password_commands import app_password
from twisted_mail_node.admin.spoken import fail, json_option, read_settings, settings_option

if TYPE_CHECKING:
    from twisted_mail_node.directory.account_secrets import Secrets
    from twisted_mail_node.message.address import Address
    from twisted_mail_node.settings import Account, Settings

_no_password = click.option("--no-password", is_flag=True, help="The account receives, but cannot sign in.")


@click.group()
def account() -> None:
    """Who has a mailbox here, and signs in."""


account.add_command(app_password)


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
    who = address_of(address)
    try:
        octets = size(quota) if quota is not None else None
    except ValueError:
        fail(f"--quota is a size such as 500M or 2G, not {quota!a}")
    try:
        directory = Directory(settings)
        if not directory.is_local(who.domain):
            fail(f"{who.domain} is not a local domain of these settings; add a [[domain]] first")
        if standing(settings, who) is not None:
            fail(f"{who} has an account in the settings file already")
        account_file(settings).add(who, None if no_password else given_password(), octets)
    except ValueError as error:
        fail(str(error))
    click.echo(f"{who} has an account now." if not no_password else f"{who} has an account now, without a password.")
    tell_node(settings)


@account.command()
@settings_option
@click.argument("address")
def remove(config: Path | None, address: str) -> None:
    """Remove an account. Its mailbox stays on the disk."""
    settings = read_settings(config)
    who = address_of(address)
    if standing(settings, who) is not None:
        fail(f"{who} stands in the settings file; remove it there")
    try:
        account_file(settings).remove(who)
    except ValueError as error:
        fail(str(error))
    click.echo(f"{who} has no account any more. The mailbox is still there.")
    tell_node(settings)


@account.command()
@settings_option
@click.argument("address")
@_no_password
def passwd(config: Path | None, address: str, no_password: bool) -> None:
    """Give an account another password, or none. Its application passwords stay."""
    settings = read_settings(config)
    who = address_of(address)
    _not_in_settings(settings, who, "mailnode account hash prints the lines to put there")
    try:
        account_file(settings).set_password(who, None if no_password else given_password())
    except ValueError as error:
        fail(str(error))
    click.echo(f"{who} has no password any more." if no_password else f"The password of {who} is changed.")
    tell_node(settings)


@account.command()
@settings_option
@click.argument("address")
def disable(config: Path | None, address: str) -> None:
    """Let nobody sign in to an account. It still receives."""
    _set(config, address, "{who} is disabled: nobody signs in to it.", disabled=True)


@account.command()
@settings_option
@click.argument("address")
def enable(config: Path | None, address: str) -> None:
    """Let an account that was disabled be signed in to again."""
    _set(config, address, "{who} is enabled.", disabled=False)


@account.command("sends-as")
@settings_option
@click.argument("address")
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...")
def sends_as(config: Path | None, address: str, patterns: tuple[str, ...]) -> None:
    """Set what an account may write from beside its own addresses.

    A PATTERN is an address, or "*@" and a domain. Without any it may write from its own only.
    """
    from twisted_mail_node.settings_problems import Misspelt
    from twisted_mail_node.settings_spelling import address_pattern

    read = []
    for one in patterns:
        try:
            read.append(address_pattern(one))
        except Misspelt:
            fail(f'{one!a} is neither an address nor "*@" and a domain')
    also = " and ".join(read)
    words = f"{{who}} writes from its own addresses{f' and {also}' if also else ' only'}."
    _set(config, address, words, sends_as=tuple(read))


@account.command()
@settings_option
@click.argument("address")
@click.argument("mails")
def limit(config: Path | None, address: str, mails: str) -> None:
    """Set how many MAILS an account may send in an hour.

    0 is no bound; "default" is what the settings say for all.
    """
    number = int(mails) if mails.isascii() and mails.isdigit() and len(mails) < 10 else None
    if number is None and mails != "default":
        fail(f'the limit is a whole number, or "default", not {mails!a}')
    words = "{who} sends as much as the settings say for all." if number is None else (
        f"{{who}} sends at most {looks.count(number, 'mail')} an hour." if number else "{who} sends without a bound."
    )  # fmt: skip
    _set(config, address, words, mails_per_hour=number)


@account.command("list")
@settings_option
@json_option
def list_(config: Path | None, for_program: bool) -> None:
    """All accounts.

    Those of the settings file, and those that commands added.
    """
    from twisted_mail_node.directory.account_form import name_of
    from twisted_mail_node.directory.account_secrets import of_settings

    settings = read_settings(config)
    file = account_file(settings)
    try:
        if config is None and (settings.state_dir / demo.FILE_NAME).exists():
            settings = demo.with_password(settings)
        kept = file.read()
    except (ValueError, OSError) as error:
        fail(str(error))
    rows = []
    for one in settings.accounts:
        _, earlier = kept.of_settings.get(name_of(one.address), (None, None))
        rows.append(_row(one, of_settings(one, earlier), "settings", file.hashes))
    rows += [_row(one, secrets, "commands", file.hashes) for one, secrets in kept.accounts.values()]
    if for_program:
        looks.as_json(rows)
        return
    if not rows:
        click.echo("Nobody has an account here yet: mailnode account add ADDRESS")
        return
    width = max(len(str(row["address"])) for row in rows)
    for row in rows:
        click.echo(f"{row['address']:<{width}}  {', '.join(_words(row))}, from {row['from']}")


@account.command("hash")
@settings_option
def hash_(config: Path | None) -> None:
    """Print what the settings file keeps of a password.

    The password is asked for, or read from standard input. The lines belong into an [[account]] table.
    """
    from twisted_mail_node.directory.account_keys import spell_scram
    from twisted_mail_node.directory.account_secrets import Secrets
    from twisted_mail_node.directory.passwords import hash_password

    try:
        password = given_password()
        kept = hash_password(password)
        salted = Secrets().with_salt()
        scram = spell_scram(salted.salt, salted.iterations, salted.derive(password, ["SHA-256"]))
    except ValueError as error:
        fail(str(error))
    click.echo(f'password = "{kept}"\nscram = "{scram}"')


def _row(account: Account, secrets: Secrets, source: str, hashes: Any) -> dict[str, Any]:
    return {
        "address": str(account.address),
        "password": secrets.password is not None,
        "scram": secrets.can_sign_in() and not any(map(secrets.lacks, hashes)),
        "app_passwords": [one.name for one in secrets.app_passwords],
        "disabled": account.disabled,
        "sends_as": list(account.sends_as),
        "mails_per_hour": account.mails_per_hour,
        "quota": account.quota,
        "from": source,
    }


def _words(row: dict[str, Any]) -> list[str]:
    words = ["password" if row["password"] else "no password"]
    if row["scram"]:
        words.append("SCRAM")
    if row["app_passwords"]:
        words.append(looks.count(len(row["app_passwords"]), "application password"))
    if row["disabled"]:
        words.append("disabled")
    if row["sends_as"]:
        words.append(f"sends as {' '.join(row['sends_as'])}")
    if row["mails_per_hour"]:
        words.append(f"at most {looks.count(row['mails_per_hour'], 'mail')} an hour")
    if row["quota"] is not None:
        words.append(f"at most {looks.size(row['quota'])}")
    return words


def _not_in_settings(settings: Settings, who: Address, hint: str = "") -> None:
    if standing(settings, who) is not None:
        fail(f"{who} stands in the settings file; change it there{f': {hint}' if hint else ''}")


def _set(config: Path | None, address: str, words: str, **values: object) -> None:
    """Change what an account says, and say so."""
    settings = read_settings(config)
    who = address_of(address)
    _not_in_settings(settings, who)
    try:
        account_file(settings).set(who, **values)
    except ValueError as error:
        fail(str(error))
    click.echo(words.replace("{who}", str(who)))
    tell_node(settings)
