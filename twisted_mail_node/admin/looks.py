"""How values look to an operator: ages, sizes, tables and sentences, without a control character in any of them."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import click

from twisted_mail_node.smtp.reply import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

#: A column: its heading, its side, and whether it keeps to one line.
Column = tuple[str, Literal["left", "right"], bool]

#: Columns when the output goes to a file or a pipe and nobody says how wide it is.
WIDTH = 160


def as_json(value: object) -> None:
    """Print a value for a program."""
    click.echo(json.dumps(value, indent=2, default=str))


def console() -> Console:
    """Where tables are printed."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else shutil.get_terminal_size((WIDTH, 40)).columns
    return Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)


def table(*columns: Column) -> Table:
    """A table without lines."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify, no_wrap in columns:
        made.add_column(name, justify=justify, no_wrap=no_wrap, overflow="fold")
    return made


def duration(seconds: float) -> str:
    """``350 ms``, ``12 s``, ``3 min``, ``2 h 5 min``, ``4 d 3 h``."""
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))} ms"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if hours == 0:
        return f"{minutes} min"
    if days == 0:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"


def size(octets: int) -> str:
    """``812 B``, ``12.3 KiB``, ``4.0 MiB``."""
    if octets < 1024:
        return f"{octets} B"
    value = octets / 1024
    for unit in ("KiB", "MiB"):
        if value < 1024:
            return f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def moment(when: float) -> str:
    """A time in the operator's zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(when))


def count(number: int, what: str) -> str:
    """``1 mail``, ``2 mails``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def path(reverse_path: str) -> str:
    """A reverse-path as people write it."""
    return printable(reverse_path) or "<>"


def cut(text: str, length: int) -> str:
    """At most ``length`` characters on one line."""
    text = printable(text)
    return text if len(text) <= length else text[: length - 1] + "…"


def cause_title(code: str) -> str:
    """What a cause is, in a sentence; the code where we do not know it."""
    from twisted_mail_node.message.cause import cause_named

    cause = cause_named(code) if code else None
    return cause.title if cause is not None else printable(code)


def held_back(mail: dict[str, Any], recipient: dict[str, Any], now: float) -> str:
    """Says so when the mail waits for the time that its sender named (RFC 4865)."""
    release_at = mail.get("release_at") or 0.0
    if recipient["attempts"] or recipient["due"] != release_at or release_at <= now:
        return ""
    return f"held back by its sender until {moment(release_at)}"


def facts(status: dict[str, Any], indent: str = "") -> list[str]:
    """Any JSON object as lines of ``name   value``."""
    width = max((len(str(key)) for key in status), default=0) + 2
    lines: list[str] = []
    for key, value in status.items():
        name = printable(str(key)).replace("_", " ")
        if isinstance(value, dict) and value:
            lines.append(f"{indent}{name}")
            lines += facts(value, indent + "  ")
        elif isinstance(value, list | tuple) and value and isinstance(value[0], dict):
            lines.append(f"{indent}{name}")
            for one in value:
                lines += facts(one, indent + "  ")
        else:
            if isinstance(value, list | tuple):
                value = ", ".join(str(one) for one in value) or "none"
            elif isinstance(value, float):
                value = f"{value:.3f}".rstrip("0").rstrip(".")
            shown = "none" if value in ("", {}, None) else printable(str(value))
            lines.append(f"{indent}{name:<{width}}{shown}")
    return lines


def suppressed_until(one: Mapping[str, Any]) -> str:
    """How long an address of the suppression list stays on it."""
    return "for ever" if one["until"] is None else f"until {moment(one['until'])}"


def suppressed_why(one: Mapping[str, Any]) -> str:
    """Who put an address on the suppression list, and why."""
    who = f"{one['failures']} failures" if one["failures"] else "an operator"
    return f"{who}: {one['words']}" if one["words"] else who
