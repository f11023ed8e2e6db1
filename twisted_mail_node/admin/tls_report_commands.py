"""``mailnode tls-report``: what came of TLS with other hosts, as their domains will be told (RFC 8460)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from twisted_mail_node.admin import looks
from twisted_mail_node.admin.spoken import json_option, order, settings_option

if TYPE_CHECKING:
    from twisted_mail_node.admin.messages import Shape


@click.group("tls-report")
def tls_report() -> None:
    """What came of TLS with other hosts."""


@tls_report.command()
@settings_option
@click.option("--domain", default="", metavar="DOMAIN", help="This domain only.")
@click.option("--day", type=click.DateTime(["%Y-%m-%d"]), help="That day, in UTC. Default: today.")
@json_option
def show(config: Path | None, domain: str, day: object, for_program: bool) -> None:
    """What the running node has counted on a day.

    One line for each policy, and one for each kind of failure under it.
    """
    wanted = {} if day is None else {"day": f"{day:%Y-%m-%d}"}
    answer = order(config, "tls-report.show", domain=domain, **wanted)
    if for_program:
        looks.as_json(answer.items)
        return
    if not answer.items:
        why = "" if answer.last.get("counting") else " Reports are switched off: [tls_reports] in the settings."
        click.echo(f"Nothing was counted on {answer.last['day']}.{why}")
        return
    _print_table(answer.items)
    more = "" if answer.last["complete"] else " (there is more: --domain)"
    click.echo(f"{answer.last['day']}: {looks.count(answer.last['count'], 'line')}{more}")


def _print_table(rows: Sequence[Shape]) -> None:
    table = looks.table(
        ("Domain", "left", False),
        ("Policy", "left", False),
        ("Sessions", "right", False),
        ("Result", "left", False),
        ("Host", "left", False),
        ("Words", "left", False),
    )
    for row in rows:
        host = " ".join(filter(None, (row["exchanger"], f"[{row['receiving_ip']}]" if row["receiving_ip"] else "")))
        table.add_row(
            looks.cut(row["domain"], 60),
            looks.cut(row["policy_type"], 20),
            str(row["sessions"]),
            looks.cut(row["result"] or "success", 40),
            looks.cut(host, 80),
            looks.cut(row["words"], 200),
        )
    looks.console().print(table)
