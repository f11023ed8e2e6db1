"""What every command of ``mailnode`` shares: which settings are meant, and how an error is said.

Without ``-c`` and without ``$MAILNODE_SETTINGS`` the development settings are meant, for every command alike.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

if TYPE_CHECKING:
    from twisted_mail_node.admin.control_client import Answer, ControlClient
    from twisted_mail_node.settings import Settings

#: The environment variable that stands for ``-c``.
VARIABLE = "MAILNODE_SETTINGS"
#: Exit codes: what was asked could not be done; the settings are wrong.
FAILED, WRONG_SETTINGS = 1, 2

F = TypeVar("F", bound=Callable[..., Any])


def settings_option(command: F) -> F:
    """The option ``-c FILE`` that every command has."""
    return click.option(
        "-c",
        "--config",
        "config",
        type=click.Path(path_type=Path),
        envvar=VARIABLE,
        metavar="FILE",
        help=f"The settings (TOML). Default: ${VARIABLE}, else the development settings with their state in ./var.",
    )(command)


def json_option(command: F) -> F:
    """The option ``--json``."""
    return click.option("--json", "for_program", is_flag=True, help="Answer in JSON, for programs.")(command)


def fail(words: str, code: int = FAILED) -> NoReturn:
    """Say why it did not work, and end."""
    click.echo(f"mailnode: {words}", err=True)
    raise SystemExit(code)


def read_settings(config: Path | None) -> Settings:
    """The settings meant; when they are wrong, every problem is printed and the command ends with code 2."""
    from twisted_mail_node import settings

    if config is None:
        return settings.development()
    try:
        return settings.load(config)
    except settings.SettingsError as error:
        click.echo(str(error), err=True)
    except OSError as error:
        click.echo(f"mailnode: the settings {config} cannot be read: {error.strerror or error}", err=True)
    raise SystemExit(WRONG_SETTINGS)


def settings_of_node(config: Path | None) -> Settings:
    """The settings, for a command that only asks the node or its spool. Of wrong ones ``state_dir`` is enough where a
    node runs there: it must be within reach while its settings are being edited."""
    from twisted_mail_node import settings

    if config is None:
        return settings.development()
    try:
        return settings.load(config)
    except settings.SettingsError:
        meant = _as_far_as_right(config)
        if meant is None or not _runs(meant):
            return read_settings(config)  # which says what is wrong, and ends
        click.echo(f"(The settings are wrong: mailnode check-config -c {config}. The node is asked.)", err=True)
        return meant


def _as_far_as_right(config: Path) -> Settings | None:
    """Settings with the ``state_dir`` of a file whose other keys are wrong; None where not even that can be read."""
    from twisted_mail_node import settings

    try:
        value = tomllib.loads(config.read_text("utf-8")).get("state_dir", "var")
    except (OSError, ValueError):
        return None
    return settings.development(Path(value)) if isinstance(value, str) and value else None


def _runs(settings: Settings) -> bool:
    from twisted_mail_node.admin.control_client import ControlError, NodeNotRunning

    try:
        client_for(settings).ask("status")
    except (NodeNotRunning, ControlError):
        return False
    return True


def which(config: Path | None, settings: Settings) -> str:
    """Which settings are meant, for the operator's eyes."""
    chosen = f"settings {config}" if config is not None else "development settings"
    return f"{chosen}, state in {settings.state_dir}"


def client_for(settings: Settings) -> ControlClient:
    """The way to the node of these settings."""
    from twisted_mail_node.admin.control_client import ControlClient

    return ControlClient(settings.state_dir)


def order(config: Path | None, command: str, **arguments: object) -> Answer:
    """Ask the running node; when it is not running or refuses, say so and end with code 1."""
    from twisted_mail_node.admin.control_client import ControlError, NodeNotRunning

    settings = settings_of_node(config)
    try:
        return client_for(settings).ask(command, **arguments)
    except NodeNotRunning as error:
        option = f" -c {config}" if config is not None else ""
        fail(f"{error} ({which(config, settings)}). Start it: mailnode run{option}")
    except ControlError as error:
        fail(str(error))
