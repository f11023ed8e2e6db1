"""``mailnode``: the command line. Each command imports what it needs when it runs, so that ``--help`` is quick."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from twisted_mail_node.admin import looks
from twisted_mail_node.admin.account_commands import account
from twisted_mail_node.admin.cause_commands import explain_reply
from twisted_mail_node.admin.dkim_commands import dkim
from twisted_mail_node.admin.dns_commands import dns
from twisted_mail_node.admin.queue_commands import queue
from twisted_mail_node.admin.report_commands import dmarc_report, tls_report
from twisted_mail_node.admin.route_commands import route
from twisted_mail_node.admin.spoken import (
    WRONG_SETTINGS,
    client_for,
    fail,
    json_option,
    order,
    read_settings,
    settings_of_node,
    settings_option,
    which,
)
from twisted_mail_node.admin.suppress_commands import suppress
from twisted_mail_node.admin.tls_commands import tls

#: Seconds ``mailnode stop`` waits until the node has ended: it finishes the mail in transfer first.
STOP_TIME = 60.0


def version() -> str:
    """The version that is installed; ``unknown`` when it runs from a source tree that was never installed."""
    from importlib import metadata

    try:
        return metadata.version("twisted_mail_node")
    except metadata.PackageNotFoundError:
        return "unknown"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """A mail node: receives, keeps, delivers and relays mail.

    Try it out with two commands in two terminals: "mailnode run", then "mailnode test".
    """


@main.command()
@settings_option
def run(config: Path | None) -> None:
    """Run the node in this terminal.

    Ctrl-C or SIGTERM stop it in order, SIGHUP reads the settings anew.
    """
    from twisted_mail_node.admin.running import run_node

    raise SystemExit(run_node(read_settings(config), config, version()))


@main.command("check-config")
@settings_option
def check_config(config: Path | None) -> None:
    """Check the settings, without running.

    Prints every problem at once; then the exit code is 2.
    """
    from twisted_mail_node.directory.directory import Directory
    from twisted_mail_node.outbound.sign_ins import SignIns
    from twisted_mail_node.policy.plugins import policies
    from twisted_mail_node.settings_checks_security import notes
    from twisted_mail_node.signing.keys import SigningKeys
    from twisted_mail_node.signing.publishing import update_key_of

    settings = read_settings(config)
    try:
        policies(settings.policies)
        SignIns(settings.routes, settings.state_dir, None)
        SigningKeys.loaded(settings)
        update_key_of(settings.dkim, settings.state_dir)
        problems = Directory(settings).problems()
    except ValueError as error:
        fail(str(error), WRONG_SETTINGS)
    for problem in (*notes(settings), *problems):
        click.echo(f"Note: {problem}")
    counts = (
        looks.count(len(settings.listeners), "listener"),
        looks.count(len(settings.domains), "domain"),
        looks.count(len(settings.accounts), "account"),
    )
    click.echo(f"The settings are right: {', '.join(counts)} ({which(config, settings)}).")


@main.command()
@settings_option
@json_option
def status(config: Path | None, for_program: bool) -> None:
    """How the running node is.

    Below it, what most mail waits for, and which destinations are frozen.
    """
    from twisted_mail_node.admin.queue_listing import waiting_lines

    last = {key: value for key, value in order(config, "status").last.items() if key != "ok"}
    waits = _waits(config)
    if for_program:
        looks.as_json({**last, "waits": waits})
    else:
        click.echo("\n".join([*looks.facts(last), *waiting_lines(waits, time.time())]))


def _waits(config: Path | None) -> dict[str, Any]:
    """What the queue waits for; nothing where the node cannot say it now: its status is still worth showing."""
    from twisted_mail_node.admin.control_client import ControlError, NodeNotRunning

    try:
        top = client_for(settings_of_node(config)).ask("queue.top").last
    except (ControlError, NodeNotRunning) as error:
        return {"error": str(error)}
    return {key: top[key] for key in ("counts", "by_cause", "frozen") if key in top}


@main.command()
@settings_option
def reload(config: Path | None) -> None:
    """Read settings and accounts anew.

    Wrong settings change nothing; their problems are printed.
    """
    read_settings(config)  # says every problem, and ends, before the node is troubled
    order(config, "reload")
    click.echo("The settings were read again and are in force.")


@main.command()
@settings_option
def stop(config: Path | None) -> None:
    """Stop the running node in order.

    Waits until it has ended.
    """
    from twisted_mail_node.admin.control_client import ControlError, wait_until_gone

    pid = order(config, "stop").last.get("pid")
    try:
        gone = wait_until_gone(client_for(settings_of_node(config)), STOP_TIME)
    except ControlError:
        gone = False
    if not gone:
        fail(f"the node (process {pid}) was told to stop, but still runs after {STOP_TIME:g} s")
    click.echo("The node has stopped.")


@main.command()
@settings_option
@click.option("--to", "recipient", metavar="ADDRESS", help="Default: the first account of the settings.")
@click.option("--from", "sender", metavar="ADDRESS", help="Default: postmaster at the node's host name.")
@click.option("--host", help="Where the node listens. Default: as the node says.")
@click.option("--port", type=click.IntRange(1, 65535))
@click.option("--wait", type=click.FloatRange(0.1), default=30.0, show_default=True, help="Seconds to follow the mail.")
def test(config: Path | None, **options: Any) -> None:
    """Send a mail through and follow it.

    Every step is printed with its time; when it does not arrive, why, and what to do.
    """
    from twisted_mail_node.admin.testmail import TestMail

    settings = read_settings(config)
    click.echo(f"A mail through the node of the {which(config, settings)}")
    raise SystemExit(TestMail(settings, say=click.echo, **options).run())


@main.command()
@click.option("--port", type=click.IntRange(0, 65535), default=2526, show_default=True, help="0: any free one.")
@click.option("--host", default="127.0.0.1", show_default=True)
def sink(host: str, port: int) -> None:
    """Take every mail, count it, keep none.

    The other side of a load test: every recipient exists here.
    """
    from twisted_mail_node.admin.sink import run_sink

    raise SystemExit(run_sink(host, port, click.echo))


@main.command("version")
def version_() -> None:
    """The version."""
    import platform
    from importlib import metadata

    click.echo(f"mailnode {version()} (Twisted {metadata.version('twisted')}, Python {platform.python_version()})")


main.add_command(queue)
main.add_command(account)
main.add_command(explain_reply)
main.add_command(suppress)
main.add_command(dkim)
main.add_command(tls)
main.add_command(tls_report)
main.add_command(dmarc_report)
main.add_command(route)
main.add_command(dns)

if __name__ == "__main__":
    main(prog_name="mailnode")
