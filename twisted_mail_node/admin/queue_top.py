"""``mailnode queue top``: the queue, live in a terminal. Where there is none, one frame is printed after the other."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from twisted_mail_node.admin import looks
from twisted_mail_node.admin.spoken import client_for, fail, json_option, settings_of_node, settings_option, which

if TYPE_CHECKING:
    from rich.console import Console

    from twisted_mail_node.admin.control_client import ControlClient
    from twisted_mail_node.admin.messages import Shape
    from twisted_mail_node.admin.top_frame import Frame
    from twisted_mail_node.admin.top_view import View, Wish

#: Lines of a frame that goes to a file or a pipe.
HEIGHT = 24


@click.command()
@settings_option
@click.option("--interval", type=click.FloatRange(0.2, 3600), default=2.0, show_default=True, help="Seconds.")
@click.option("--once", is_flag=True, help="Print one frame and end.")
@json_option
def top(config: Path | None, interval: float, once: bool, for_program: bool) -> None:
    """The queue, live: destinations, numbers, rates, causes.

    q ends it, j and k (or the arrows) choose a destination, f freezes or thaws it, r has it tried now; d, w, s and o
    sort by name, by what waits, by speed, by age.
    """
    from twisted_mail_node.admin.control_client import ControlError, NodeNotRunning

    settings = settings_of_node(config)
    client = client_for(settings)
    try:
        first = client.ask("queue.top").last
    except NodeNotRunning as error:
        fail(f"{error} ({which(config, settings)}). While it is down: mailnode queue count")
    except ControlError as error:
        fail(str(error))
    first.pop("ok", None)
    if for_program:
        looks.as_json(first)
    elif once or not sys.stdout.isatty() or looks.console().is_dumb_terminal:
        _plain(client, first, interval, once)
    else:
        _Screen(client, looks.console(), interval).run(first)


def _plain(client: ControlClient, snapshot: Shape, interval: float, once: bool) -> None:
    """Frames as text, until it is interrupted."""
    from twisted_mail_node.admin.control_client import ControlError, NodeNotRunning
    from twisted_mail_node.admin.top_frame import frame

    width = looks.console().width
    try:
        while True:
            click.echo("\n".join(frame(snapshot, "w", width, HEIGHT, time.time()).lines))
            if once:
                return
            time.sleep(interval)
            snapshot = client.ask("queue.top").last
            click.echo()
    except KeyboardInterrupt:
        pass
    except (ControlError, NodeNotRunning) as error:
        fail(str(error))


class _Screen:
    """The live screen."""

    def __init__(self, client: ControlClient, console: Console, interval: float) -> None:
        from twisted_mail_node.admin.top_view import View

        self._client = client
        self._console = console
        self._interval = interval
        self._view: View = View()
        self._snapshot: Shape = {}
        self._draw: Callable[[], None] = lambda: None

    def run(self, snapshot: Shape) -> None:
        """Show it until q is pressed."""
        from rich.live import Live

        self._snapshot = snapshot
        try:
            with _keys() as pressed, Live(console=self._console, screen=True, auto_refresh=False) as live:
                self._draw = lambda: live.update(self._drawn(), refresh=True)
                self._watch(pressed)
        except KeyboardInterrupt:
            pass

    def _watch(self, pressed: Callable[[float], list[str]]) -> None:
        from twisted_mail_node.admin.top_frame import rows_of

        following = time.monotonic() + self._interval
        while True:
            self._draw()
            for key in pressed(max(0.0, following - time.monotonic())):
                rows = rows_of(self._snapshot, self._view.sort, time.time())
                wish = self._view.press(key, rows)
                if wish is not None and wish.what == "quit":
                    return
                if wish is not None:
                    self._carry_out(wish)
                    following = 0.0
            if time.monotonic() >= following:
                following = time.monotonic() + self._interval
                self._look()

    def _look(self) -> None:
        from twisted_mail_node.admin.control_client import ControlError, NodeNotRunning

        try:
            self._snapshot = self._client.ask("queue.top").last
        except (ControlError, NodeNotRunning) as error:
            self._view.message = str(error)

    def _carry_out(self, wish: Wish) -> None:
        from twisted_mail_node.admin.control_client import ControlError, NodeNotRunning
        from twisted_mail_node.admin.mails import NodeMails
        from twisted_mail_node.spool.mail import Filter

        view = self._view

        def tell(done: int) -> None:
            view.message = f"{done} mails are to be tried now …"
            self._draw()

        try:
            if wish.what == "retry":
                changed = NodeMails(self._client).change("retry", Filter(destination=wish.destination), tell)
                view.message = f"{looks.count(len(changed.found), 'mail')} for {wish.destination}: to be tried now."
            else:
                more = {"words": "frozen in mailnode queue top"} if wish.what == "freeze" else {}
                self._client.ask(f"queue.{wish.what}", destination=wish.destination, **more)
                view.message = f"{wish.destination}: {'frozen' if wish.what == 'freeze' else 'thawed'}."
        except (ControlError, NodeNotRunning) as error:
            view.message = str(error)

    def _drawn(self) -> Any:
        from twisted_mail_node.admin.top_frame import frame

        width, height = self._console.size
        view = self._view
        return _coloured(frame(self._snapshot, view.sort, width, height, time.time(), view.chosen, view.last))


def _coloured(made: Frame) -> Any:
    """A frame as rich prints it."""
    from rich.text import Text

    text = Text(no_wrap=True, overflow="crop", end="")
    for number, line in enumerate(made.lines):
        style = "reverse" if number == made.chosen else "bold" if number == made.headed else ""
        text.append(line + ("\n" if number < len(made.lines) - 1 else ""), style)
    return text


def _nothing_pressed(seconds: float) -> list[str]:
    time.sleep(seconds)
    return []


@contextmanager
def _keys() -> Iterator[Callable[[float], list[str]]]:
    """The keyboard, key by key: waits so many seconds for some. The terminal is as before afterwards."""
    import termios
    import tty

    from twisted_mail_node.admin.top_view import keys_of

    if not sys.stdin.isatty():
        yield _nothing_pressed
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)

    def pressed(seconds: float) -> list[str]:
        if not select.select([fd], [], [], seconds)[0]:
            return []
        octets = os.read(fd, 256)
        return keys_of(octets) if octets else ["q"]

    try:
        tty.setcbreak(fd)
        yield pressed
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
