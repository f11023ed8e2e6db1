"""``mailnode queue hold``, ``release``, ``retry``, ``reroute`` and ``remove``: what an operator does to mails.

Ids, or a filter, say which are meant. Many are changed a page at a time, in the order of their age; who interrupts the
command leaves the rest as it was.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from twisted_mail_node.admin import looks
from twisted_mail_node.admin.queue_filter import filter_of, filter_options, mails_of, say_unknown
from twisted_mail_node.admin.spoken import json_option, settings_option
from twisted_mail_node.smtp.reply import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twisted_mail_node.admin.mails import Mails
    from twisted_mail_node.admin.messages import Order
    from twisted_mail_node.spool.mail import Filter

#: Digits of a queue id.
QUEUE_ID = 14
#: A change by filter of more mails than this asks first, on a terminal.
MANY = 100

_DONE = {
    "hold": "Held {}.",
    "release": "Released {}.",
    "retry": "To be tried now: {}.",
    "remove": "Removed {}.",
    "fail": "Given up {}; the senders are told.",
    "reroute": "To go another way now: {}.",
}
_ASKED = {
    "hold": "Hold {}?",
    "release": "Release {}?",
    "retry": "Try {} now?",
    "remove": "Remove {} without telling anybody?",
    "fail": "Give up {}, and tell the senders?",
    "reroute": "Let {} go another way?",
}
#: Orders that cannot be taken back: many are never done without an answer, or --yes.
_FOR_GOOD = frozenset({"remove", "fail"})

F = TypeVar("F", bound=Callable[..., Any])


def selection(words: str) -> Callable[[F], F]:
    """The options of a command that changes mails, and its arguments."""

    def decorate(command: F) -> F:
        for option in (
            json_option,
            click.option("--yes", "sure", is_flag=True, help="Do not ask before many are changed."),
            click.option("--dry-run", is_flag=True, help="Only say how many it would be."),
            filter_options,
            click.option("--all", "every", is_flag=True, help="Every mail in the queue."),
            click.argument("ids", nargs=-1, metavar=words),
            settings_option,
        ):
            command = option(command)
        return command

    return decorate


@click.command()
@selection("[ID]...")
def hold(ids: Sequence[str], **options: Any) -> None:
    """Keep mails from being tried until they are released."""
    _change("hold", ids, options)


@click.command()
@selection("[ID]...")
def release(ids: Sequence[str], **options: Any) -> None:
    """Let held mails go; they are tried at once."""
    _change("release", ids, options)


@click.command()
@selection("[ID]...")
def retry(ids: Sequence[str], **options: Any) -> None:
    """Try delayed mails now, also where the destination is suspended.

    --all and filters leave held mails alone.
    """
    _change("retry", ids, options)


@click.command()
@click.option("--dsn", is_flag=True, help="Let the senders have a DSN that says it.")
@click.option("--why", default="", metavar="TEXT", help="What the DSN says; a sentence.")
@selection("[ID]...")
def remove(ids: Sequence[str], dsn: bool, why: str, **options: Any) -> None:
    """Remove mails. Nobody is told, unless --dsn is given.

    With --dsn, recipients that are being tried just now are left alone.
    """
    if why and not dsn:
        raise click.UsageError("--why is what the DSN says: give --dsn, too.")
    _change("fail" if dsn else "remove", ids, options, **({"words": why} if dsn else {}))


@click.command()
@click.option("--by-route", is_flag=True, help="By their routes again; no NEXT_HOP then.")
@selection("[NEXT_HOP] [ID]...")
def reroute(ids: Sequence[str], by_route: bool, **options: Any) -> None:
    """Let mails go to another next hop, now.

    A NEXT_HOP without brackets means its mail exchangers, [name] that very host. It holds until the mail has left, or
    --by-route undoes it.
    """
    next_hop, ids = ("", ids) if by_route else (_next_hop(ids), ids[1:])
    _change("reroute", ids, options, next_hop=next_hop)


def _next_hop(words: Sequence[str]) -> str:
    """The next hop among the words of ``reroute``: the first."""
    from twisted_mail_node.settings_problems import Misspelt
    from twisted_mail_node.settings_routes import parse_next_hop
    from twisted_mail_node.spool.queueid import is_text

    if not words:
        raise click.UsageError("Where to? Give a NEXT_HOP, or --by-route.")
    if is_text(words[0]) and len(words[0]) >= QUEUE_ID:
        raise click.UsageError(f"{words[0]} is a queue id. Before it comes the NEXT_HOP, or --by-route.")
    try:
        parse_next_hop(words[0])
    except Misspelt as error:
        raise click.UsageError(f"{words[0]!a} is no next hop. Allowed: {error.allowed}. {error.hint}") from None
    return words[0]


def _change(order: Order, ids: Sequence[str], options: dict[str, Any], **more: str) -> None:
    """What all of these have in common."""
    config, for_program = options.pop("config"), options.pop("for_program")
    every, sure, dry = options.pop("every"), options.pop("sure"), options.pop("dry_run")
    narrowed = any(options.values())
    if ids and (every or narrowed):
        raise click.UsageError("Give ids, or say which mails are meant by --all or a filter; not both.")
    if not ids and not every and not narrowed:
        raise click.UsageError("Which mails? Give ids, a filter such as --sender, or --all.")
    wanted = filter_of(ids, options)
    with mails_of(config, quiet=for_program) as mails:
        if dry:
            _say_dry(mails, order, wanted, for_program, narrowed)
            return
        total = _confirm(mails, order, wanted) if not ids and not sure else 0
        with progress(total) as told:
            found, unknown = mails.change(order, wanted, told, **more)
        frozen = [one["destination"] for one in mails.frozen()] if order == "retry" and wanted.destination else []
    if for_program:
        looks.as_json({"changed": found, "unknown": unknown})
    elif found or not unknown:
        click.echo(_DONE[order].format(looks.count(len(found), "mail")))
        if wanted.destination in frozen:
            name = printable(wanted.destination)
            click.echo(f"But {name} is frozen: nothing is tried there before mailnode queue thaw {name}")
    say_unknown(unknown)


def _say_dry(mails: Mails, order: Order, wanted: Filter, for_program: bool, narrowed: bool) -> None:
    number = mails.count(order, wanted)
    if for_program:
        looks.as_json({"would_change": number})
    else:
        like = " like that" if narrowed else ""
        click.echo(f"It would be {looks.count(number, 'mail')}{like}. Nothing was changed.")


def _confirm(mails: Mails, order: Order, wanted: Filter) -> int:
    """Ask before many mails are changed, where somebody can answer; gives how many they are, as far as it was counted.

    What cannot be taken back is not done where nobody answers.
    """
    asking = order in _FOR_GOOD
    if not asking and not is_asked():
        return 0
    number = mails.count(order, wanted)
    if number and (asking or number > MANY):
        click.confirm(_ASKED[order].format(looks.count(number, "mail")), abort=True, err=True)
    return number


@contextmanager
def progress(total: int) -> Iterator[Callable[[int], None]]:
    """Shows how far a long change is, where standard error is a terminal.

    :param total: how many there are, 0 when nobody knows.
    """
    if not is_watched():
        yield lambda done: None
        return
    shown = False

    def tell(done: int) -> None:
        nonlocal shown
        if done >= MANY:
            shown = True
            click.echo(f"\r{done}{f' of {total}' if total else ''} mails …", nl=False, err=True)

    try:
        yield tell
    finally:
        if shown:
            click.echo(err=True)


def is_asked() -> bool:
    """Whether somebody can answer."""
    return sys.stdin.isatty()


def is_watched() -> bool:
    """Whether somebody may look on."""
    return sys.stderr.isatty()
