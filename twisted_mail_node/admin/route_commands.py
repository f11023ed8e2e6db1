"""``mailnode route``: what would become of a mail to an address, and why.

A running node is asked through its control socket; while it is down the settings alone answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from twisted_mail_node.admin import looks
from twisted_mail_node.admin.spoken import client_for, fail, json_option, settings_of_node, settings_option, which
from twisted_mail_node.smtp.reply import printable


@click.command("route")
@click.argument("address")
@settings_option
@click.option("--sender", default="", metavar="ADDRESS", help="The reverse-path. Default: the null one.")
@click.option("--account", default="", metavar="ADDRESS", help="The account that signed in. Default: none.")
@json_option
def route(config: Path | None, address: str, sender: str, account: str, for_program: bool) -> None:
    """What would become of a mail to ADDRESS, and why.

    Nothing is sent. The DNS is asked.
    """
    from twisted_mail_node.admin.control_client import ControlError, NodeNotRunning
    from twisted_mail_node.admin.messages import RequestError

    settings = settings_of_node(config)
    asked = {"address": address, "sender": sender, "account": account}
    client = client_for(settings)
    try:
        if client.is_running():
            told = {key: value for key, value in client.ask("route", **asked).last.items() if key != "ok"}
        else:
            from twisted_mail_node.admin.route_alone import ask_alone

            told = ask_alone(settings, asked)
    except (ControlError, NodeNotRunning, RequestError, ValueError, OSError) as error:
        fail(str(error))
    if for_program:
        looks.as_json(told)
        return
    state = "the node is running" if told["running"] else "the node is down: how destinations stand is not known"
    click.echo(f"({which(config, settings)}: {state})", err=True)
    click.echo("\n".join(map(printable, lines(told))))


def lines(told: dict[str, Any]) -> Iterator[str]:
    """The answer for a person."""
    account = f", signed in as {told['account']}" if told["account"] else ""
    yield f"{told['address']}, from {looks.path(told['sender'])}{account}"
    directory = told["directory"]
    yield _line("directory", directory["words"])
    if directory["expanded"]:
        yield _line("", f"to {', '.join(directory['targets'])}")
    for target in told["targets"]:
        if len(told["targets"]) > 1 or directory["expanded"]:
            yield ""
            yield target["address"]
        yield from _target(target)


def _target(target: dict[str, Any]) -> Iterator[str]:
    for step in target["rules"]:
        yield _line(step["rule"], ("yes: " if step["fits"] else "no:  ") + step["why"])
    if "maildir" in target:
        yield _line("Maildir", target["maildir"])
    way = target["way"]
    if way is not None and "next_hop" in way:
        yield from _way(target["route"], way)
    if target.get("reverse_path"):
        yield _line("reverse-path", f"{target['reverse_path']} (rewritten by SRS, so that SPF does not fail there)")
    standing = target["destination"]
    if standing is not None and standing["waiting"]:
        yield _line("waiting", looks.count(standing["waiting"], "mail"))
    suppressed = target["suppressed"]
    if suppressed is not None:
        yield _line("suppressed", f"{looks.suppressed_until(suppressed)}, by {looks.suppressed_why(suppressed)}")
        yield _line("", f"to have it tried again: mailnode suppress remove {target['address']}")
    expected = target["expected"]
    until = f", {looks.moment(expected['until'])}" if expected["until"] else ""
    yield _line("expected", f"{expected['when']}{until}: {expected['words']}")


def _way(route: dict[str, Any], way: dict[str, Any]) -> Iterator[str]:
    signed = f", signing in as {route['credentials']} says" if route["credentials"] else ""
    yield _line("next hop", f"{way['next_hop']} ({way['transport'].upper()}{signed})")
    for one in way["exchangers"]:
        tls = one["tls"]
        addresses = ", ".join(one["addresses"])
        yield _line("", f"{one['preference']:>5} {one['host']}  {addresses}  TLS {tls['level']}: {tls['why']}")
    source = way["source"]
    addresses = ", ".join(source["addresses"]) or "the system's choice"
    yield _line("source", f"{addresses} (pool {source['pool']})" if source["pool"] else addresses)
    limit = way["limit"]
    rates = f", {', '.join(limit['rates'])}" if limit["rates"] else ""
    connections = looks.count(limit["connections"], "connection")
    yield _line("limit", f"{connections}, {limit['mails_per_connection']} mails each{rates} ({limit['why']})")


def _line(name: str, words: str) -> str:
    return f"  {name:<16}{words}"
