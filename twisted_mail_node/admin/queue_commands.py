"""``mailnode queue``: look at the mails in the spool, hold, release, retry and remove them.

A running node is asked through its control socket; while it is down the spool is opened directly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from twisted_mail_node.admin import looks
from twisted_mail_node.admin.spoken import FAILED, fail, json_option, settings_of_node, settings_option, which

if TYPE_CHECKING:
    from twisted_mail_node.admin.mails import Mails
    from twisted_mail_node.admin.messages import Order, Shape
    from twisted_mail_node.spool.mail import Filter

STATES = ("active", "delayed", "held")
_DONE = {"hold": "Held", "release": "Released", "retry": "To be tried now:", "remove": "Removed"}

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def queue() -> None:
    """The mails in the spool."""


def filter_options(command: F) -> F:
    """The options that narrow which mails are meant."""
    for option in (
        click.option("--state", type=click.Choice(STATES), help="Any recipient is in this state."),
        click.option("--destination", default="", metavar="HOST", help="The next hop of any recipient."),
        click.option("--recipient", default="", metavar="TEXT", help="Part of any recipient's address."),
        click.option("--sender", default="", metavar="TEXT", help="Part of the reverse-path; '<>' is the null one."),
    ):
        command = option(command)
    return command


def _filter(ids: Sequence[str], options: dict[str, Any], limit: int = 1000) -> Filter:
    from twisted_mail_node.spool.mail import Filter, State

    state = State[options["state"].upper()] if options["state"] else None
    return Filter(tuple(ids), options["destination"], options["sender"], options["recipient"], state, limit)


@contextmanager
def _mails(config: Path | None, quiet: bool = False) -> Iterator[Mails]:
    """The mails meant; what goes wrong with them ends the command with a sentence."""
    from twisted_mail_node.admin.control_client import ControlError, NodeNotRunning
    from twisted_mail_node.admin.mails import open_mails
    from twisted_mail_node.spool.mail import SpoolError

    settings = settings_of_node(config)
    try:
        mails = open_mails(settings)
        if not quiet:
            state = "the node is running" if mails.running else "the node is down; this is its spool"
            click.echo(f"({which(config, settings)}: {state})", err=True)
        yield mails
    except SpoolError as error:
        fail(f"{error} ({which(config, settings)}). Nothing was queued here yet, or -c names other settings.")
    except (ControlError, NodeNotRunning) as error:
        fail(str(error))


@queue.command("list")
@settings_option
@filter_options
@click.option("--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="At most so many.")
@json_option
def list_(config: Path | None, for_program: bool, limit: int, **options: Any) -> None:
    """One line for each mail, oldest first."""
    with _mails(config, quiet=for_program) as mails:
        found = mails.find(_filter((), options, limit))
    if for_program:
        looks.as_json(found)
        return
    if not found:
        click.echo("The queue is empty." if not any(options.values()) else "No mail in the queue is like that.")
        return
    _print_table(found)
    click.echo(looks.count(len(found), "mail") + (" (there may be more: --limit)" if len(found) == limit else ""))


def _print_table(mails: Sequence[Shape]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify, no_wrap in (
        ("Queue id", "left", True),
        ("Age", "right", True),
        ("Size", "right", True),
        ("From", "left", False),
        ("To", "left", False),
        ("State", "left", True),
        ("Tries", "right", True),
        ("Next", "right", True),
        ("Last words", "left", False),
    ):
        table.add_column(name, justify=justify, no_wrap=no_wrap, overflow="fold")  # type: ignore[arg-type]
    now = time.time()
    for mail in mails:
        table.add_row(*_row(mail, now))
    looks.console().print(table)


def _row(mail: Shape, now: float) -> list[str]:
    waiting = [one for one in mail["recipients"] if one["state"] != "finished"] or mail["recipients"]
    first = min(waiting, key=lambda one: one["due"] or 0.0, default=None)
    age, size = looks.duration(now - mail["received"]), looks.size(mail["size"])
    sender = looks.cut(looks.path(mail["reverse_path"]), 50)
    if first is None:
        return [mail["queue_id"], age, size, sender, "nobody", "", "", "", ""]
    others = f" and {len(waiting) - 1} more" if len(waiting) > 1 else ""
    states = ", ".join(dict.fromkeys(one["state"] for one in waiting))
    due = "" if first["due"] is None else looks.duration(first["due"] - now) if first["due"] > now else "now"
    words = looks.cut(first["last"]["words"], 100) if first["last"] else _held_back(mail, first, now)
    recipient = looks.cut(first["recipient"], 50) + others
    return [mail["queue_id"], age, size, sender, recipient, states, str(first["attempts"]), due, words]


def _held_back(mail: Shape, recipient: Shape, now: float) -> str:
    """Says so when the mail waits for the time that its sender named (RFC 4865)."""
    release_at = mail.get("release_at") or 0.0
    if recipient["attempts"] or recipient["due"] != release_at or release_at <= now:
        return ""
    return f"held back by its sender until {looks.moment(release_at)}"


@queue.command()
@settings_option
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@json_option
def show(config: Path | None, ids: Sequence[str], for_program: bool) -> None:
    """Everything about some mails.

    Envelope, recipients with their last attempt, header.
    """
    with _mails(config, quiet=True) as mails:
        found = mails.show(ids)
    if for_program:
        looks.as_json(found)
    else:
        click.echo("\n\n".join("\n".join(_lines(mail, time.time())) for mail in found), nl=bool(found))
    _say_unknown([one for one in ids if one not in {mail["queue_id"] for mail in found}])


def _lines(mail: Shape, now: float) -> Iterator[str]:
    """What ``show`` prints about one mail."""
    from twisted_mail_node.smtp.reply import printable

    yield f"Queue id    {mail['queue_id']}"
    yield f"Accepted    {looks.moment(mail['received'])}, {looks.duration(now - mail['received'])} ago"
    yield f"From        {looks.path(mail['reverse_path'])}"
    yield f"Size        {looks.size(mail['size'])}"
    if mail["client"]:
        came = f"{mail['protocol']} from {mail['helo']} [{mail['client']}], session {mail['session']}"
        yield f"Came by     {printable(came)}"
        yield f"TLS         {printable(mail.get('tls') or 'none')}"
        if mail.get("account"):
            yield f"Signed in   {printable(mail['account'])}"
    else:
        yield "Came by     this node made it"
    asked = [f"body {mail['body']}"] if mail["body"] != "7BIT" else []
    asked += ["SMTPUTF8"] if mail["smtputf8"] else []
    asked += [f"RET {mail['ret']}"] if mail["ret"] else []
    asked += [f"ENVID {mail['envid']}"] if mail["envid"] else []
    asked += list(_wishes(mail))
    if asked:
        yield f"Asked for   {printable(', '.join(asked))}"
    yield "Recipients"
    for recipient in mail["recipients"]:
        yield from _recipient_lines(mail, recipient, now)
    yield "Header"
    # not splitlines(), for which U+2028 and others end a line, too
    for line in str(mail.get("header", "")).rstrip("\r\n").replace("\r\n", "\n").split("\n"):
        # a tab of a folded field is white space, not an escape
        yield "  " + printable(line.replace("\t", "    "))


def _wishes(mail: Shape) -> Iterator[str]:
    """What the sender asked for beyond common mail. A node of before does not say."""
    if mail.get("require_tls"):
        yield "REQUIRETLS"
    if mail.get("priority"):
        yield f"priority {mail['priority']}"
    if mail.get("release_at"):
        yield f"not before {looks.moment(mail['release_at'])}"
    if mail.get("by_mode"):
        what = "or returned" if mail["by_mode"] == "R" else "or a notice"
        yield f"delivered by {looks.moment(mail['deliver_by'])} {what}{', traced' if mail['by_trace'] else ''}"


def _recipient_lines(mail: Shape, recipient: Shape, now: float) -> Iterator[str]:
    from twisted_mail_node.smtp.reply import printable

    was = f" (was {recipient['original']})" if "original" in recipient else ""
    words = [recipient["state"], looks.count(recipient["attempts"], "attempt")]
    if recipient["due"] is not None:
        wait = recipient["due"] - now
        words.append(f"next in {looks.duration(wait)}, {looks.moment(recipient['due'])}" if wait > 0 else "due now")
    words += filter(None, [_held_back(mail, recipient, now)])
    words += ["the sender was told that it is late"] if recipient.get("told") else []
    yield printable(f"  {recipient['recipient']}{was}: {', '.join(words)}")
    last = recipient["last"]
    if last:
        name, at = last["remote_host"], last["remote_address"]
        host = at if at.startswith(f"{name}:") else " ".join(filter(None, (name, at))) or recipient["destination"]
        yield printable(f"      {host + ': ' if host else ''}{last['status']} {last['reason']}: {last['words']}")


def _say_unknown(unknown: Sequence[str]) -> None:
    """Name the ids nobody knows, and end with code 1 if there are any."""
    from twisted_mail_node.smtp.reply import printable

    for one in unknown:
        click.echo(f"mailnode: no mail in the queue has the id {printable(one)}", err=True)
    if unknown:
        raise SystemExit(FAILED)


def _change(order: Order, config: Path | None, ids: Sequence[str], for_program: bool, options: dict[str, Any]) -> None:
    """What hold, release, retry and remove have in common."""
    from twisted_mail_node.admin.messages import MAILS_MAX

    every, sure = options.pop("every"), options.pop("sure", True)
    narrowed = any(options.values())
    if ids and (every or narrowed):
        raise click.UsageError("Give ids, or say which mails are meant by --all or a filter; not both.")
    if not ids and not every and not narrowed:
        raise click.UsageError("Which mails? Give ids, a filter such as --sender, or --all.")
    wanted = _filter(ids, options, limit=MAILS_MAX)
    with _mails(config, quiet=for_program) as mails:
        if not ids and not sure:
            number = len(mails.find(wanted))
            click.confirm(f"Remove {looks.count(number, 'mail')} without telling anybody?", abort=True, err=True)
        found, unknown = mails.change(order, wanted)
    if for_program:
        looks.as_json({"changed": found, "unknown": unknown})
    elif found or not unknown:
        click.echo(f"{_DONE[order]} {looks.count(len(found), 'mail')}.")
        if len(found) == MAILS_MAX:
            click.echo("That is as many as one order takes; there may be more.")
    _say_unknown(unknown)


def _selection(command: F) -> F:
    """The options of a command that changes mails."""
    for option in (
        json_option,
        filter_options,
        click.option("--all", "every", is_flag=True, help="Every mail in the queue."),
        click.argument("ids", nargs=-1, metavar="[ID]..."),
        settings_option,
    ):
        command = option(command)
    return command


@queue.command()
@_selection
def hold(config: Path | None, ids: Sequence[str], for_program: bool, **options: Any) -> None:
    """Keep mails from being tried until they are released."""
    _change("hold", config, ids, for_program, options)


@queue.command()
@_selection
def release(config: Path | None, ids: Sequence[str], for_program: bool, **options: Any) -> None:
    """Let held mails go; they are tried at once."""
    _change("release", config, ids, for_program, options)


@queue.command()
@_selection
def retry(config: Path | None, ids: Sequence[str], for_program: bool, **options: Any) -> None:
    """Try delayed mails now. --all and filters leave held mails alone."""
    _change("retry", config, ids, for_program, options)


@queue.command()
@_selection
@click.option("--yes", "sure", is_flag=True, help="Do not ask before many are removed.")
def remove(config: Path | None, ids: Sequence[str], for_program: bool, **options: Any) -> None:
    """Forget mails; nobody is told, no DSN is sent."""
    _change("remove", config, ids, for_program, options)
