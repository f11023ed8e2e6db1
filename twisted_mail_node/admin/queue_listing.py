"""``mailnode queue list`` and ``count``: which mails wait, how many, and for what."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from twisted_mail_node.admin import looks
from twisted_mail_node.admin.messages import BY
from twisted_mail_node.admin.queue_filter import filter_of, filter_options, mails_of
from twisted_mail_node.admin.spoken import json_option, settings_option
from twisted_mail_node.smtp.reply import printable

if TYPE_CHECKING:
    from twisted_mail_node.admin.messages import By, Shape

#: Columns from which on a listing has room for a host's last words beside the cause.
WIDE = 150
#: Causes whose advice stands below the table.
ADVISED = 5
#: Groups printed; --json has more.
PRINTED = 50

_HEADINGS = {
    "destination": "Destination",
    "cause": "Cause",
    "kind": "Kind of cause",
    "age": "Age",
    "sender": "Sender",
    "state": "State",
}


@click.command("list")
@settings_option
@filter_options
@click.option("--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="At most so many.")
@json_option
def list_(config: Path | None, for_program: bool, limit: int, **options: Any) -> None:
    """One line for each mail, oldest first."""
    with mails_of(config, quiet=for_program) as mails:
        found = mails.find(filter_of((), options, limit))
    if for_program:
        looks.as_json(found)
        return
    if not found:
        click.echo("The queue is empty." if not any(options.values()) else "No mail in the queue is like that.")
        return
    _print_mails(found)
    click.echo(looks.count(len(found), "mail") + (" (there may be more: --limit)" if len(found) == limit else ""))


def _print_mails(mails: Sequence[Shape]) -> None:
    console = looks.console()
    wide = console.width >= WIDE
    columns: list[looks.Column] = [
        ("Queue id", "left", True),
        ("Age", "right", True),
        ("Size", "right", True),
        ("From", "left", False),
        ("To", "left", False),
        ("State", "left", True),
        ("Tries", "right", True),
        ("Next", "right", True),
        ("Why", "left", False),
        ("Last words", "left", False),
    ]
    table = looks.table(*(columns if wide else columns[:-1]))
    now = time.time()
    for mail in mails:
        row = _row(mail, now)
        table.add_row(*(row if wide else row[:-1]))
    console.print(table)


def _row(mail: Shape, now: float) -> list[str]:
    waiting = [one for one in mail["recipients"] if one["state"] != "finished"] or mail["recipients"]
    first = min(waiting, key=lambda one: one["due"] or 0.0, default=None)
    age, size = looks.duration(now - mail["received"]), looks.size(mail["size"])
    sender = looks.cut(looks.path(mail["reverse_path"]), 50)
    if first is None:
        return [mail["queue_id"], age, size, sender, "nobody", "", "", "", "", ""]
    others = f" and {len(waiting) - 1} more" if len(waiting) > 1 else ""
    states = ", ".join(dict.fromkeys(one["state"] for one in waiting))
    due = "" if first["due"] is None else looks.duration(first["due"] - now) if first["due"] > now else "now"
    words = looks.cut(first["last"]["words"], 100) if first["last"] else ""
    recipient = looks.cut(first["recipient"], 50) + others
    why = looks.held_back(mail, first, now) or looks.cause_title(first.get("cause", ""))
    return [mail["queue_id"], age, size, sender, recipient, states, str(first["attempts"]), due, why, words]


@click.command()
@settings_option
@click.option("--by", type=click.Choice(BY), default="destination", show_default=True, help="What is counted by.")
@filter_options
@json_option
def count(config: Path | None, for_program: bool, by: By, **options: Any) -> None:
    """How many recipients wait, and since when.

    Counted by destination, by the cause they wait for or its kind, by age, sender or state. For causes, what to do.
    """
    with mails_of(config, quiet=for_program) as mails:
        counted = mails.tally(filter_of((), options), by)
    if for_program:
        looks.as_json({"by": by, "groups": counted.groups, **counted.total})
        return
    total = counted.total["recipients"]
    if not total:
        click.echo(
            "Nobody waits in the queue." if not any(options.values()) else "Nobody in the queue waits like that."
        )
        return
    print_groups(by, counted.groups[:PRINTED], time.time())
    left = counted.total["group_count"] - min(len(counted.groups), PRINTED)
    more = f", in {counted.total['group_count']} groups ({left} not shown)" if left else ""
    click.echo(f"{looks.count(total, 'recipient')}{more}")
    if by == "cause":
        for line in advice(counted.groups[:ADVISED]):
            click.echo(line)


def print_groups(by: By, groups: Sequence[Shape], now: float) -> None:
    """A table of what was counted."""
    columns: list[looks.Column] = [
        (_HEADINGS[by], "left", False),
        ("Recipients", "right", True),
        ("Oldest", "right", True),
        ("What it is", "left", False),
    ]
    table = looks.table(*(columns if by == "cause" else columns[:-1]))
    for group in groups:
        name = group["name"] or {"sender": "<>"}.get(by, "not tried yet")
        age = looks.duration(now - group["oldest"]) if group["recipients"] else ""
        row = [looks.cut(name, 60), str(group["recipients"]), age]
        table.add_row(*row, *([looks.cause_title(group["name"])] if by == "cause" else []))
    looks.console().print(table)


def advice(groups: Sequence[Shape]) -> list[str]:
    """What an operator can do about causes: a paragraph for each that is known."""
    from twisted_mail_node.message.cause import cause_named

    lines: list[str] = []
    for group in groups:
        cause = cause_named(group["name"]) if group["name"] else None
        if cause is not None:
            lines += ["", f"{cause.code}: {cause.operator}", f"    mailnode queue list --cause {cause.code}"]
    return lines


def waiting_lines(waits: Shape, now: float) -> Iterator[str]:
    """What ``mailnode status`` says of the queue: what most recipients wait for, and what is frozen."""
    if "error" in waits:
        yield f"waits for   (not known: {printable(waits['error'])})"
        return
    counts = waits.get("counts", {})
    states = ", ".join(f"{counts.get(state, 0)} {state}" for state in ("delayed", "active", "held"))
    yield f"in the spool  {looks.count(counts.get('mails', 0), 'mail')}; recipients: {states}"
    causes = [group for group in waits.get("by_cause", []) if group["name"]][:ADVISED]
    if causes:
        yield "waits for"
    for group in causes:
        oldest, title = looks.duration(now - group["oldest"]), looks.cause_title(group["name"])
        yield f"  {group['recipients']:>7}  {looks.cut(group['name'], 40)}, the oldest {oldest}: {title}"
    frozen = waits.get("frozen", [])
    for one in frozen[:ADVISED]:
        why = f": {looks.cut(one['words'], 100)}" if one.get("words") else ""
        yield f"frozen      {looks.cut(one['destination'], 80)}{why}"
    if len(frozen) > ADVISED:
        yield f"            and {len(frozen) - ADVISED} more: mailnode queue frozen"
