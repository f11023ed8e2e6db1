"""Where destinations are frozen and thawed: in a running node, or in its state database while it is down."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from twisted_mail_node.admin.spoken import client_for, fail, settings_of_node, which
from twisted_mail_node.admin.state_alone import made_state_of, state_of
from twisted_mail_node.smtp.reply import printable

if TYPE_CHECKING:
    from twisted_mail_node.admin.control_client import ControlClient
    from twisted_mail_node.admin.messages import Shape


class Freezing(Protocol):
    """Freezes destinations."""

    def freeze(self, destination: str, words: str) -> None: ...
    def thaw(self, destination: str) -> None: ...
    def frozen(self) -> list[Shape]: ...


class NodeFreezing:
    """Of a running node."""

    def __init__(self, client: ControlClient) -> None:
        self._client = client

    def freeze(self, destination: str, words: str) -> None:
        self._client.ask("queue.freeze", destination=destination, words=words)

    def thaw(self, destination: str) -> None:
        self._client.ask("queue.thaw", destination=destination)

    def frozen(self) -> list[Shape]:
        return self._client.ask("queue.frozen").items


class StateFreezing:
    """Of a node that is down: kept for its next start.

    :param state_dir: of the node.
    """

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir

    def freeze(self, destination: str, words: str) -> None:
        from twisted_mail_node.state.freezes import Freezes

        with made_state_of(self._state_dir) as state:
            freezes = Freezes(state)
            since = {name: when for name, _, when in freezes.all()}
            freezes.add(destination, words, since.get(destination, time.time()))
        if destination not in self._names():
            fail(f"the state database in {self._state_dir} could not be written; nothing was frozen")

    def thaw(self, destination: str) -> None:
        if destination not in self._names():
            fail(f"{printable(destination)} is not frozen; mailnode queue frozen names what is")
        from twisted_mail_node.state.freezes import Freezes

        with made_state_of(self._state_dir) as state:
            Freezes(state).drop(destination)
        if destination in self._names():
            fail(f"the state database in {self._state_dir} could not be written; nothing was thawed")

    def frozen(self) -> list[Shape]:
        return frozen_alone(self._state_dir)

    def _names(self) -> set[str]:
        return {one["destination"] for one in self.frozen()}


def frozen_alone(state_dir: Path) -> list[Shape]:
    """What is frozen in a node that is down.

    :raises StateError: it cannot be read.
    """
    from twisted_mail_node.state.freezes import Freezes

    with state_of(state_dir) as state:
        known = [] if state is None else sorted(Freezes(state).all())
    return [{"destination": destination, "words": words, "since": since} for destination, words, since in known]


@contextmanager
def freezing(config: Path | None, quiet: bool = False) -> Iterator[Freezing]:
    """The freezes of the node of these settings; what goes wrong ends the command with a sentence."""
    from twisted_mail_node.admin.control_client import ControlError, NodeNotRunning

    settings = settings_of_node(config)
    client = client_for(settings)
    try:
        if client.is_running():
            yield NodeFreezing(client)
            return
    except (ControlError, NodeNotRunning) as error:
        fail(str(error))
    from twisted_mail_node.state.database import StateError

    if not settings.state_dir.is_dir():
        fail(f"there is no node in {settings.state_dir} ({which(config, settings)})")
    if not quiet:
        click.echo(f"({which(config, settings)}: the node is down; this counts from its next start)", err=True)
    try:
        yield StateFreezing(settings.state_dir)
    except StateError as error:
        fail(str(error))
