"""``mailnode dns``: the records a local domain should publish, and whether it does.

Settings, keys and certificates are read from the disk, whether or not the node runs.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from twisted_mail_node.admin import looks
from twisted_mail_node.admin.spoken import FAILED, fail, json_option, read_settings, settings_option
from twisted_mail_node.smtp.reply import printable

if TYPE_CHECKING:
    from twisted_mail_node.admin.dns_answers import Answers
    from twisted_mail_node.admin.dns_check import Finding
    from twisted_mail_node.admin.dns_node import Facts
    from twisted_mail_node.settings import Settings

_COLOURS = {"error": "red", "warning": "yellow", "ok": "green"}


@click.group()
def dns() -> None:
    """A domain's own records: what to publish, and whether it is."""


@dns.command()
@settings_option
@click.argument("domain", required=False)
@json_option
def show(config: Path | None, domain: str | None, for_program: bool) -> None:
    """Print every record to publish for DOMAIN.

    As a zone file, each under a comment that says what it is for. Without DOMAIN: for all local domains.
    """
    from twisted_mail_node.admin.dns_lines import ZoneLine, as_shape, zone_text
    from twisted_mail_node.admin.dns_publish import everything

    shapes = []
    for facts, answers in _asked(read_settings(config), domain):
        lines = everything(facts, answers)
        if for_program:
            records = [as_shape(line) for line in lines if isinstance(line, ZoneLine)]
            shapes.append({"domain": facts.domain, "records": records})
        else:
            click.echo(f"; ---- {facts.domain}\n\n{zone_text(lines)}")
    if for_program:
        looks.as_json(shapes)


@dns.command()
@settings_option
@click.argument("domain", required=False)
@json_option
def check(config: Path | None, domain: str | None, for_program: bool) -> None:
    """Compare what DOMAIN publishes with what it should.

    Each difference is a sentence, with what to do. Without DOMAIN: all local domains. The exit code is 1 when there is
    an error.
    """
    from twisted_mail_node.admin.dns_check import Severity, findings
    from twisted_mail_node.admin.dns_check_services import CHECKS

    settings = read_settings(config)
    found = [(facts, findings(facts, answers, CHECKS)) for facts, answers in _asked(settings, domain)]
    if for_program:
        looks.as_json([{"domain": facts.domain, "findings": [_shape(one) for one in some]} for facts, some in found])
    else:
        click.echo("\n\n".join("\n".join(_lines(facts, some)) for facts, some in found))
    if any(one.severity is Severity.ERROR for _, some in found for one in some):
        raise SystemExit(FAILED)


def _asked(settings: Settings, domain: str | None) -> list[tuple[Facts, Answers]]:
    """What the node knows, and what the DNS says, of the domains that are meant."""
    from twisted_mail_node.admin.dns_alone import answers_alone
    from twisted_mail_node.admin.dns_node import facts_of
    from twisted_mail_node.net.own import own_addresses

    domains = _meant(settings, domain)
    own = own_addresses()
    try:
        known = [facts_of(settings, name, own, time.time()) for name in domains]
        return list(zip(known, answers_alone(settings, known), strict=True))
    except (ValueError, OSError) as error:
        fail(str(error))


def _meant(settings: Settings, domain: str | None) -> list[str]:
    from twisted_mail_node.admin.dns_node import local_domains
    from twisted_mail_node.message.address import domain_key

    local = local_domains(settings)
    if settings.hostname.startswith("["):
        fail(f"hostname is {settings.hostname}; records need a name there")
    if domain is None:
        if not local:
            fail("there is no local domain that can have records")
        return local
    try:
        key = domain_key(domain)
    except ValueError as error:
        fail(str(error))
    if key not in local:
        fail(f"{printable(domain)} is no local domain; there are: {', '.join(local) or 'none'}")
    return [key]


def _lines(facts: Facts, found: list[Finding]) -> list[str]:
    lines = [facts.domain]
    for words in facts.problems:
        lines.append(f"  {'':<8} {'':<8} ({printable(words)})")
    for one in found:
        severity = click.style(f"{one.severity:<8}", fg=_COLOURS.get(one.severity))
        lines.append(f"  {severity} {one.about:<8} {printable(one.words)}")
    return lines


def _shape(one: Finding) -> dict[str, object]:
    from twisted_mail_node.admin.dns_lines import as_shape

    return {
        "severity": str(one.severity),
        "about": one.about,
        "words": one.words,
        "publish": [as_shape(line) for line in one.publish],
    }
