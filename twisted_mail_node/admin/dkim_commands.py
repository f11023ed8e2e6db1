"""``mailnode dkim``: the keys that sign mail of local domains; make them, publish them, replace them.

A running node is asked through its control socket; while it is down, the key files are changed directly.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from twisted_mail_node.admin import looks
from twisted_mail_node.admin.spoken import client_for, fail, json_option, settings_of_node, settings_option
from twisted_mail_node.smtp.reply import printable

if TYPE_CHECKING:
    from twisted_mail_node.admin.messages import Shape
    from twisted_mail_node.settings import Settings

_now_option = click.option("--now", "at_once", is_flag=True, help="Do not wait until the records are seen in the DNS.")
_bits_option = click.option("--bits", type=click.IntRange(1), default=2048, show_default=True, help="Of an RSA key.")


@click.group()
def dkim() -> None:
    """The keys that sign mail of local domains (DKIM).

    A new key waits until all name servers of its zone show its record; then it signs.
    """


@dkim.command()
@settings_option
@click.argument("domain")
@click.option("--selector", default="", metavar="NAME", help="What the key is called. Default: the day.")
@click.option(
    "--kind", type=click.Choice(["rsa", "ed25519", "both"]), default="both", show_default=True, help="Which keys."
)
@_bits_option
@_now_option
@json_option
def create(config: Path | None, domain: str, at_once: bool, for_program: bool, **wanted: Any) -> None:
    """Make keys for a local DOMAIN, and print the records to publish."""
    settings = settings_of_node(config)
    made, where = _ask(settings, "create", domain=domain, now=at_once, **wanted)
    _say_made(settings, made, where, at_once, for_program)
    if not for_program:
        _say_others(settings, made)


@dkim.command()
@settings_option
@click.argument("domain")
@_bits_option
@_now_option
@json_option
def rotate(config: Path | None, domain: str, bits: int, at_once: bool, for_program: bool) -> None:
    """Replace the keys of a DOMAIN by new ones.

    The new ones sign once their records are seen; the records of the old ones stay for a while (retire_after of
    [dkim]), for mail that is under way.
    """
    settings = settings_of_node(config)
    made, where = _ask(settings, "rotate", domain=domain, bits=bits, now=at_once)
    _say_made(settings, made, where, at_once, for_program)


@dkim.command()
@settings_option
@click.argument("domain")
@click.argument("selectors", metavar="SELECTOR...", nargs=-1, required=True)
@click.option("--now", "at_once", is_flag=True, help="At once: mail that is under way will not verify any more.")
@json_option
def retire(config: Path | None, domain: str, selectors: tuple[str, ...], at_once: bool, for_program: bool) -> None:
    """Sign no more with the keys SELECTOR of a DOMAIN.

    Their records stay for a while. A key that was never signed with is given up at once.
    """
    settings = settings_of_node(config)
    changed: list[Shape] = []
    known = {one["selector"] for one in _ask(settings, "list", domain=domain)[0]}
    # Where one is misspelt nothing is done; the node says how it is spelt.
    for selector in sorted(dict.fromkeys(selectors), key=lambda one: one in known):
        changed += _ask(settings, "retire", domain=domain, selector=selector, now=at_once)[0]
    if for_program:
        looks.as_json(changed)
        return
    for one in changed:
        if one["state"] == "retiring":
            click.echo(_stays(one))
        else:
            click.echo(f"{one['name']} is retired. {_record_can_go(one)}")
    left, _ = _ask(settings, "list", domain=domain)
    if not any(one["state"] == "active" for one in left):
        click.echo(f"mailnode: no key of {printable(domain)} signs now", err=True)


@dkim.command("list")
@settings_option
@click.argument("domain", default="")
@click.option("--check", is_flag=True, help="Ask all name servers now whether they show the records.")
@json_option
def list_(config: Path | None, domain: str, check: bool, for_program: bool) -> None:
    """All keys, or those of a DOMAIN: their state, and what the DNS shows."""
    found, _ = _ask(settings_of_node(config), "list", domain=domain, check=check)
    if for_program:
        looks.as_json(found)
        return
    if not found:
        click.echo("There is no key yet: mailnode dkim create DOMAIN")
        return
    now = time.time()
    width = max(len(one["selector"]) for one in found)
    last = ""
    for one in found:
        if one["domain"] != last:
            click.echo(printable(one["domain"]))
        last = one["domain"]
        algorithm = f"rsa {one['bits']}" if one["algorithm"] == "rsa-sha256" else "ed25519"
        age = looks.duration(max(0.0, now - one["since"]))
        click.echo(f"  {one['selector']:<{width}}  {algorithm:<8}  {one['state']:<8}  for {age}{_until(one)}")
        for line in _seen(one):
            click.echo(f"  {'':<{width}}  {printable(line)}")


@dkim.command()
@settings_option
@click.argument("domain", default="")
@json_option
def dns(config: Path | None, domain: str, for_program: bool) -> None:
    """Print the records of all keys, or of a DOMAIN's, as a zone file has them."""
    found, _ = _ask(settings_of_node(config), "list", domain=domain)
    if for_program:
        looks.as_json([{key: one[key] for key in ("domain", "selector", "state", "name", "record")} for one in found])
        return
    for one in found:
        if one["state"] == "retired":
            click.echo(f"; {one['name']} is retired. {_record_can_go(one)}")
        else:
            click.echo(f"; {one['state']}\n{one['zone']}")
    if not found:
        click.echo("There is no key yet: mailnode dkim create DOMAIN", err=True)


def _say_made(settings: Settings, keys: list[Shape], where: str, at_once: bool, for_program: bool) -> None:
    if for_program:
        looks.as_json(keys)
        return
    made = [one for one in keys if one["state"] in ("new", "active")]
    for one in made:
        click.echo(one["zone"])
    for one in keys:
        if one["state"] == "retiring":
            click.echo(_stays(one), err=True)
    names = " and ".join(one["selector"] for one in made)
    sign = "signs" if len(made) == 1 else "sign"
    if at_once:
        click.echo(
            f"mailnode: {names} {sign} from now on: mail fails DKIM wherever the record is not seen yet", err=True
        )
    elif where:
        click.echo(f"({printable(where)}; {names} {sign} once all name servers show it: mailnode dkim list)", err=True)
    else:
        click.echo(
            f"(Publish this; {names} {sign} once all name servers of the zone show it: mailnode dkim list)", err=True
        )
    if not settings.dkim.enabled:
        click.echo("mailnode: [dkim] enabled is false: no mail is signed", err=True)


def _say_others(settings: Settings, made: list[Shape]) -> None:
    """Who wanted to replace keys, or made some by mistake, is told that those that were there sign as well."""
    domain = made[0]["domain"]
    new = {one["selector"] for one in made}
    found, _ = _ask(settings, "list", domain=domain)
    others = [one for one in found if one["state"] in ("new", "active") and one["selector"] not in new]
    if others:
        names = ", ".join(f"{one['selector']} ({one['state']})" for one in others)
        click.echo(
            f"mailnode: {domain} has other keys, too, and every active key signs each mail: {names}. To replace keys: "
            f"mailnode dkim rotate {domain}. To give some up: mailnode dkim retire {domain} SELECTOR ...",
            err=True,
        )


def _until(one: Shape) -> str:
    return f", its record is needed until {looks.moment(one['retires'])}" if one["retires"] else ""


def _seen(one: Shape) -> Iterable[str]:
    """What the DNS shows, a line each."""
    if one["trouble"]:
        yield one["trouble"]
    if one["missing"] is None:
        if one["state"] == "new":
            yield "waits until all name servers show its record; they were not asked yet"
        elif one["state"] == "retired":
            yield _record_can_go(one)
        return
    ago = looks.duration(max(0.0, time.time() - one["looked"]))
    if not one["missing"]:
        soon = "; the node, while it runs, signs with it within a minute" if one["state"] == "new" else ""
        yield f"all name servers show its record ({ago} ago{soon})"
    for missing in one["missing"]:
        yield f"{missing} ({ago} ago)"


def _stays(one: Shape) -> str:
    return f"{one['name']} signs no more. Leave its record in the DNS until {looks.moment(one['retires'])}."


def _record_can_go(one: Shape) -> str:
    if one["published"]:
        return "The node takes its record out of the DNS."
    return f"Its record, TXT of {one['name']}, can go where it is still there."


def _ask(settings: Settings, order: str, **arguments: Any) -> tuple[list[Shape], str]:
    """Have the node do it, or do it in its stead while it is down; the keys it is about, and who publishes records."""
    from twisted_mail_node.admin.control_client import ControlError, NodeNotRunning

    client = client_for(settings)
    try:
        if client.is_running():
            answer = client.ask(f"dkim.{order}", **arguments)
            return answer.items, str(answer.last.get("where", ""))
        return _meanwhile(settings, order, arguments)
    except (ControlError, NodeNotRunning, ValueError, OSError) as error:
        fail(str(error))


def _meanwhile(settings: Settings, order: str, arguments: Shape) -> tuple[list[Shape], str]:
    from twisted_mail_node.admin.dkim_orders import ordered
    from twisted_mail_node.signing.custody import Custody
    from twisted_mail_node.signing.files import KeyFiles

    server = settings.dkim.update_server
    where = f"the node publishes its record at {server[0]} once it runs" if server else ""
    custody = Custody(settings, KeyFiles(settings.state_dir), time.time)
    if order != "list":
        changed = ordered(custody, order, arguments)
        return [custody.shape(changed.domain, key) for key in changed.touched], where
    if arguments.get("check"):
        from twisted_mail_node.admin.dkim_alone import checked

        return checked(settings, str(arguments["domain"])), where
    return [custody.shape(name, key) for name, key in custody.keys(str(arguments["domain"]))], where
