"""``mailnode tls-report`` and ``mailnode dmarc-report``: what the node has counted, as other domains will be told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from twisted_mail_node.admin import looks
from twisted_mail_node.admin.spoken import json_option, order, settings_option

if TYPE_CHECKING:
    from twisted_mail_node.admin.messages import Shape

_domain_option = click.option("--domain", default="", metavar="DOMAIN", help="This domain only.")
_day_option = click.option("--day", type=click.DateTime(["%Y-%m-%d"]), help="That day, in UTC. Default: today.")


@click.group("tls-report")
def tls_report() -> None:
    """What came of TLS with other hosts (RFC 8460)."""


@tls_report.command("show")
@settings_option
@_domain_option
@_day_option
@json_option
def tls_show(config: Path | None, domain: str, day: object, for_program: bool) -> None:
    """What the running node has counted on a day.

    One line for each policy, and one for each kind of failure under it.
    """
    off = "Reports are switched off: [tls_reports] in the settings."
    _show("tls-report.show", config, domain, day, for_program, off, "", _tls_table)


@click.group("dmarc-report")
def dmarc_report() -> None:
    """What came of DMARC with mail that came in (RFC 7489)."""


@dmarc_report.command("show")
@settings_option
@_domain_option
@_day_option
@json_option
def dmarc_show(config: Path | None, domain: str, day: object, for_program: bool) -> None:
    """What the running node has counted on a day.

    One line for mails that are alike: the same client, the same results, the same end.
    """
    off = "Mail is not checked: [verification] in the settings."
    on = "Mail counts whose From has a DMARC record, where it passed or failed."
    _show("dmarc-report.show", config, domain, day, for_program, off, on, _dmarc_table)


def _show(
    command: str,
    config: Path | None,
    domain: str,
    day: object,
    for_program: bool,
    off: str,
    on: str,
    print_table: Callable[[Sequence[Shape]], None],
) -> None:
    wanted = {} if day is None else {"day": f"{day:%Y-%m-%d}"}
    answer = order(config, command, domain=domain, **wanted)
    if for_program:
        looks.as_json(answer.items)
        return
    if not answer.items:
        why = on if answer.last.get("counting") else off
        click.echo(f"Nothing was counted on {answer.last['day']}. {why}".rstrip())
        return
    print_table(answer.items)
    more = "" if answer.last["complete"] else " (there is more: --domain)"
    click.echo(f"{answer.last['day']}: {looks.count(answer.last['count'], 'line')}{more}")


def _tls_table(rows: Sequence[Shape]) -> None:
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


def _dmarc_table(rows: Sequence[Shape]) -> None:
    table = looks.table(
        ("From", "left", False),
        ("Client", "left", False),
        ("Mails", "right", False),
        ("Done", "left", False),
        ("SPF", "left", False),
        ("DKIM", "left", False),
    )
    for row in rows:
        done = row["disposition"] + (f" ({row['override']})" if row["override"] else "")
        domain, _, result = row["spf"]
        signatures = ", ".join(f"{result} {signer}" for signer, _, result in row["dkim"]) or "none"
        table.add_row(
            looks.cut(row["header_from"] or row["domain"], 60),
            looks.cut(row["source_ip"] or "various", 45),
            str(row["mails"]),
            looks.cut(done, 40),
            looks.cut(f"{result} {domain}" + (", aligned" if row["spf_aligned"] else ""), 80),
            looks.cut(signatures + (", aligned" if row["dkim_aligned"] else ""), 120),
        )
    looks.console().print(table)
