"""Which mails a command of ``mailnode queue`` is about: its filter options, and where the mails are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from twisted_mail_node.admin.spoken import FAILED, fail, settings_of_node, which

if TYPE_CHECKING:
    from twisted_mail_node.admin.mails import Mails
    from twisted_mail_node.spool.mail import Filter

STATES = ("active", "delayed", "held")

F = TypeVar("F", bound=Callable[..., Any])


class Seconds(click.ParamType[float]):
    """A duration as the settings spell it: ``90s``, ``2h``, ``1d``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from twisted_mail_node.settings_problems import Misspelt
        from twisted_mail_node.settings_spelling import duration

        if isinstance(value, float):
            return value
        try:
            return duration(value)
        except Misspelt as error:
            self.fail(f"{value!a} is no time. Allowed: {error.allowed}. {error.hint}", param, ctx)


class Causes(click.ParamType[tuple[str, ...]]):
    """A cause's code, or a kind with all its causes."""

    name = "cause"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        from twisted_mail_node.message.cause import Kind, codes_of
        from twisted_mail_node.settings_problems import did_you_mean

        if isinstance(value, tuple):
            return value
        codes = codes_of(value)
        if not codes:
            kinds = [str(kind) for kind in Kind]
            hint = did_you_mean(value, kinds)
            self.fail(
                f"{value!a} is neither a kind ({', '.join(kinds)}) nor a cause that mailnode queue count --by cause "
                f"names{'; ' if hint else ''}{hint}",
                param,
                ctx,
            )
        return codes


def filter_options(command: F) -> F:
    """The options that narrow which mails are meant."""
    for option in (
        click.option("--newer", type=Seconds(), metavar="TIME", help="Accepted less than so long ago."),
        click.option("--older", type=Seconds(), metavar="TIME", help="Accepted longer than so long ago, such as 2h."),
        click.option("--cause", "causes", type=Causes(), default=(), metavar="KIND|CODE", help="What it waits for."),
        click.option("--state", type=click.Choice(STATES), help="Any recipient is in this state."),
        click.option("--destination", default="", metavar="HOST", help="The next hop of any recipient."),
        click.option("--recipient", default="", metavar="TEXT", help="Part of any recipient's address."),
        click.option("--sender", default="", metavar="TEXT", help="Part of the reverse-path; '<>' is the null one."),
    ):
        command = option(command)
    return command


def filter_of(ids: Sequence[str], options: dict[str, Any], limit: int = 1000) -> Filter:
    """The filter that a command's options make."""
    from twisted_mail_node.spool.mail import Filter, State

    state = State[options["state"].upper()] if options["state"] else None
    now = time.time()
    return Filter(
        tuple(ids),
        options["destination"],
        options["sender"],
        options["recipient"],
        state,
        limit,
        tuple(options["causes"]),
        now - options["newer"] if options["newer"] else 0.0,
        now - options["older"] if options["older"] else 0.0,
    )


@contextmanager
def mails_of(config: Path | None, quiet: bool = False) -> Iterator[Mails]:
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


def say_unknown(unknown: Sequence[str]) -> None:
    """Name the ids nobody knows, and end with code 1 if there are any."""
    from twisted_mail_node.smtp.reply import printable

    for one in unknown:
        click.echo(f"mailnode: no mail in the queue has the id {printable(one)}", err=True)
    if unknown:
        raise SystemExit(FAILED)
