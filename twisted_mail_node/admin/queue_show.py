"""``mailnode queue show``: everything about a mail: where it came from, what was tried, why, and what comes next."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from twisted_mail_node.admin import looks
from twisted_mail_node.admin.queue_filter import mails_of, say_unknown
from twisted_mail_node.admin.spoken import fail, json_option, settings_option
from twisted_mail_node.smtp.reply import printable

if TYPE_CHECKING:
    from twisted_mail_node.admin.messages import Shape

#: Attempts printed for one mail, the newest; --json has all that are kept.
ATTEMPTS_MAX = 100
#: Characters of a line of content that are printed: a line of SMTP has at most 998, but not every mail keeps to it.
LINE_MAX = 2000


@click.command()
@settings_option
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--content", is_flag=True, help="Print the whole mail, too; what is no text is shown as '?'.")
@click.option("--save", type=click.Path(path_type=Path), metavar="FILE", help="Write the mail's octets to a new file.")
@json_option
def show(config: Path | None, ids: Sequence[str], content: bool, save: Path | None, for_program: bool) -> None:
    """Everything about some mails.

    Envelope, recipients with every attempt, what they wait for and what comes next; the header, or the whole mail.
    """
    if save is not None and len(ids) != 1:
        raise click.UsageError("--save takes one mail.")
    if content and for_program:
        raise click.UsageError("--content is for people; a program takes --save FILE.")
    with mails_of(config, quiet=True) as mails:
        found = mails.show(ids)
        if save is not None and found:
            octets = _save(mails.content(found[0]["queue_id"]), save)
            click.echo(f"{looks.size(octets)} are in {save}.", err=for_program)
        if for_program:
            looks.as_json(found)
        elif save is None:
            for number, mail in enumerate(found):
                click.echo("\n" * bool(number) + "\n".join(lines_of(mail, time.time(), with_header=not content)))
                if content:
                    click.echo("Content")
                    for line in safe_lines(mails.content(mail["queue_id"])):
                        click.echo(f"  {line}")
    say_unknown([one for one in ids if one not in {mail["queue_id"] for mail in found}])


def _save(pieces: Iterable[bytes], path: Path) -> int:
    """Write a mail to a file of its own, which only its owner may read; gives the octets written."""
    written = 0
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            for piece in pieces:
                written += file.write(piece)
    except FileExistsError:
        fail(f"{path} is there already; name a new file")
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror or error}")
    return written


def safe_lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """The lines of a mail, safe for a terminal: no control character, nothing longer than ``LINE_MAX``."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from map(_safe, lines)
        if len(rest) > 4 * LINE_MAX:
            yield _safe(rest)
            rest = b""
    if rest:
        yield _safe(rest)


def _safe(line: bytes) -> str:
    # a tab is white space, not an escape
    return looks.cut(line.removesuffix(b"\r").decode("utf-8", "replace").replace("\t", "    "), LINE_MAX)


def lines_of(mail: Shape, now: float, with_header: bool = True) -> Iterator[str]:
    """What ``show`` prints about one mail."""
    yield f"Queue id    {printable(mail['queue_id'])}"
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
    yield from _attempt_lines(mail, now)
    if with_header:
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
    from twisted_mail_node.message.cause import cause_named

    was = f" (was {recipient['original']})" if "original" in recipient else ""
    words = [recipient["state"], looks.count(recipient["attempts"], "attempt")]
    if recipient["due"] is not None:
        wait = recipient["due"] - now
        words.append(f"next in {looks.duration(wait)}, {looks.moment(recipient['due'])}" if wait > 0 else "due now")
    words += filter(None, [looks.held_back(mail, recipient, now)])
    words += ["the sender was told that it is late"] if recipient.get("told") else []
    yield printable(f"  {recipient['recipient']}{was}: {', '.join(words)}")
    last = recipient["last"]
    if last:
        yield printable(
            f"      {_host(last, recipient['destination'])}{last['status']} {last['reason']}: {last['words']}"
        )
    cause = cause_named(recipient.get("cause") or "")
    if cause is not None and recipient["state"] != "finished":
        yield f"      Why:    {cause.title} ({cause.code})"
        yield f"      To do:  {cause.operator}"
    for line in _next(mail, recipient):
        yield printable(f"      Next:   {line}")


def _next(mail: Shape, recipient: Shape) -> Iterator[str]:
    """What happens next, and by which way."""
    state, last = recipient["state"], recipient["last"]
    if state == "held":
        yield f"it waits until somebody says: mailnode queue release {mail['queue_id']}"
    elif state == "active":
        yield "it is being tried, or waits for a place at its destination"
    elif state == "delayed" and last and last.get("action", "delayed") != "delayed":
        yield "its sender is told, then it leaves the queue"
    elif state == "delayed" and recipient.get("frozen"):
        yield f"nothing is tried there until somebody says: mailnode queue thaw {recipient['destination']}"
    elif state == "delayed":
        way = f"to {recipient['next_hop']}, as an operator said" if recipient.get("next_hop") else _by_route(recipient)
        yield f"it is tried again {way}"


def _by_route(recipient: Shape) -> str:
    """By its route; with the command that tells it, where there is one."""
    context = click.get_current_context(silent=True)
    main = context.find_root().command if context is not None else None
    known = isinstance(main, click.Group) and "route" in main.commands
    return f"by its route: mailnode route {recipient['recipient']}" if known else "by its route"


def _host(status: Shape, destination: str) -> str:
    """Who spoke, and a colon."""
    name, at = status["remote_host"], status["remote_address"]
    host = at if at.startswith(f"{name}:") else " ".join(filter(None, (name, at))) or destination
    return f"{host}: " if host else ""


def _attempt_lines(mail: Shape, now: float) -> Iterator[str]:
    """Every attempt that put somebody off: when, whom it asked, what came back, how long until the next."""
    tried: Sequence[Shape] = mail.get("tried", [])
    if not tried:
        return
    yield "Attempts" if len(tried) <= ATTEMPTS_MAX else f"Attempts (the last {ATTEMPTS_MAX} of {len(tried)})"
    recipients = dict(enumerate(mail["recipients"]))
    several = len(recipients) > 1
    following: dict[int, float | None] = {number: one["due"] for number, one in recipients.items()}
    lines: list[str] = []
    for attempt in reversed(tried[-ATTEMPTS_MAX:]):
        number, when = attempt["number"], attempt["when"]
        after = following.get(number)
        following[number] = when
        who = f" for {recipients[number]['recipient']}" if several and number in recipients else ""
        wait = f"; then {looks.duration(after - when)}" if after is not None and after > when else ""
        tls = f" [{attempt['tls']}]" if attempt["tls"] else ""
        said = f"{attempt['status']} {attempt['reason']}: {attempt['words']}"
        lines.append(
            printable(f"  {looks.moment(when)}{who} {_host(attempt, attempt['destination'])}{said}{tls}{wait}")
        )
    yield from reversed(lines)
