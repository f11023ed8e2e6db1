"""``mailnode explain-reply``: what a reply of another host means, and what to do about it. It needs no node."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from twisted_mail_node.admin import looks
from twisted_mail_node.admin.spoken import json_option


@click.command("explain-reply")
@click.argument("words", nargs=-1, required=True, metavar="REPLY...")
@click.option("--host", default="", metavar="NAME", help="The host that said it; some replies mean more then.")
@json_option
def explain_reply(words: Sequence[str], host: str, for_program: bool) -> None:
    """Say what a reply means.

    REPLY as a log or a report shows it: "550 5.7.26 ..."; "-" reads it from standard input.
    """
    from twisted_mail_node.message.cause import is_reply, understand_reply
    from twisted_mail_node.message.reply_rules import TEXT_MAX

    text = " ".join(words)
    if text == "-":
        text = sys.stdin.buffer.read(4 * TEXT_MAX).decode("utf-8", "replace")
    if not text.strip():
        raise click.UsageError("There is no reply to explain.")
    if not is_reply(text):
        raise click.UsageError('That is no reply: it has no code such as "550", and no words that are known.')
    cause = understand_reply(text, host)
    if for_program:
        looks.as_json(cause._asdict())
        return
    waiting = "no, it is permanent" if cause.permanent else "yes"
    click.echo(f"Cause           {cause.code} (kind: {cause.kind})")
    click.echo(f"Means           {cause.title}")
    click.echo(f"Waiting helps   {waiting}")
    click.echo(f"For the sender  {cause.advice}")
    click.echo(f"For you         {cause.operator}")
