"""One frame of ``mailnode queue top``: a snapshot of the queue as lines of text that fit the terminal. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted_mail_node.admin import looks
from twisted_mail_node.smtp.reply import printable

if TYPE_CHECKING:
    from twisted_mail_node.admin.messages import Shape

#: What rows are sorted by, and the key that says so.
SORTS = {"d": "name", "w": "waiting", "s": "speed", "o": "oldest"}
#: Columns behind the name of the destination.
_FIGURES = f"{'Waiting':>8} {'Fly':>4} {'Wind':>4} {'per s':>6} {'Oldest':>6}  "
#: The least room for a destination's name.
_NAME_MIN = 16
#: Causes in the heading.
CAUSES = 4


class Row(NamedTuple):
    """A destination.

    :ivar waiting: recipients in the spool that wait for it.
    :ivar flying: deliveries under way.
    :ivar speed: deliveries a second lately, ``None``: nobody knows.
    :ivar oldest: when its oldest mail was accepted, 0: nobody knows.
    :ivar words: how it is: frozen, suspended and so on, and what was said there last.
    """

    name: str
    waiting: int
    flying: int = 0
    window: int | None = None
    speed: float | None = None
    oldest: float = 0.0
    words: str = ""
    frozen: bool = False


def rows_of(snapshot: Shape, sort: str, now: float) -> list[Row]:
    """The destinations of a snapshot, in order."""
    rows: dict[str, Row] = {}
    for group in snapshot.get("by_destination", []):
        rows[group["name"]] = Row(group["name"], group["recipients"], oldest=group["oldest"])
    for known in snapshot.get("destinations", []):
        name = known["destination"]
        row = rows.get(name) or Row(name, known["waiting"])
        rows[name] = row._replace(
            flying=known["in_flight"], window=known["window"], speed=known.get("rate"), words=_words(known, now)
        )
    for frozen in snapshot.get("frozen", []):
        name = frozen["destination"]
        row = rows.get(name) or Row(name, 0)
        why = frozen.get("words")
        rows[name] = row._replace(frozen=True, words=f"frozen: {why}" if why else "frozen")
    keys: dict[str, Any] = {
        "d": lambda row: row.name,
        "w": lambda row: (-row.waiting, row.name),
        "s": lambda row: (-(row.speed or 0.0), -row.flying, row.name),
        "o": lambda row: (row.oldest or now, row.name),
    }
    return sorted(rows.values(), key=keys[sort])


def _words(known: Shape, now: float) -> str:
    state = str(known.get("state") or "")
    until, words = known.get("until"), known.get("words") or ""
    if until and until > now:
        state += f", {looks.duration(until - now)} more"
    elif state == "open":
        state = ""
    return f"{state}: {words}" if state and words else words or state


def heading(snapshot: Shape, now: float) -> list[str]:
    """The lines above the table: totals, rates, and what most wait for."""
    counts = snapshot.get("counts", {})
    states = ", ".join(f"{counts.get(state, 0)} {state}" for state in ("delayed", "active", "held"))
    clock = looks.moment(now).split()[1]
    lines = [
        f"{snapshot.get('hostname', '')}  {clock}  in {_rate(snapshot, 'accepted')}  out {_rate(snapshot, 'finished')}",
        f"{looks.count(counts.get('mails', 0), 'mail')}; recipients: {states}",
    ]
    causes = [cause for cause in snapshot.get("by_cause", []) if cause["name"]][:CAUSES]
    if causes:
        lines.append("Why: " + ", ".join(f"{cause['recipients']} {cause['name']}" for cause in causes))
    return lines


def _rate(snapshot: Shape, what: str) -> str:
    return f"{snapshot.get(f'{what}_a_second', 0.0):.1f}/s"


def line_of(row: Row, name_width: int, width: int, now: float) -> str:
    """A row as one line."""
    name = looks.cut(row.name or "(not tried yet)", name_width)
    window = "" if row.window is None else str(row.window)
    speed = "" if row.speed is None else f"{row.speed:.1f}"
    oldest = _age(now - row.oldest) if row.oldest else ""
    line = f"{name:<{name_width}} {row.waiting:>8} {row.flying:>4} {window:>4} {speed:>6} {oldest:>6}  {row.words}"
    return looks.cut(line, width)


def _age(seconds: float) -> str:
    """An age in one unit: ``39 s``, ``5 min``, ``2 h``, ``3 d``."""
    number, unit, *_ = looks.duration(seconds).split()
    return f"{number} {unit}" if unit != "ms" else "0 s"


class Frame(NamedTuple):
    """What is printed.

    :ivar chosen: which of the lines is the chosen destination's, -1: none.
    """

    lines: list[str]
    chosen: int = -1
    headed: int = 0


def frame(
    snapshot: Shape, sort: str, width: int, height: int, now: float, chosen: str | None = None, last: str = ""
) -> Frame:
    """A whole frame.

    :param height: lines there are.
    :param chosen: name of the chosen destination.
    :param last: the last line: keys, or a question.
    """
    rows = rows_of(snapshot, sort, now)
    lines = [looks.cut(line, width) for line in heading(snapshot, now)]
    lines.append("")
    name_width = max(_NAME_MIN, min(40, width - len(_FIGURES) - 24))
    lines.append(f"{'Destination':<{name_width}} {_FIGURES}How it is"[:width])
    headed = len(lines) - 1
    room = max(1, height - len(lines) - (3 if last else 0))
    at = next((number for number, row in enumerate(rows) if row.name == chosen), -1)
    first = max(0, min(at - room + 1, len(rows) - room)) if at >= room else 0
    shown: Sequence[Row] = rows[first : first + room]
    marked = len(lines) + at - first if at >= 0 else -1
    lines += [line_of(row, name_width, width, now) for row in shown]
    if not rows:
        lines.append("Nothing waits for any destination.")
    if last:
        words = rows[at].words if at >= 0 else ""  # whole, where the row has no room for them
        foot = [looks.cut(f"{rows[at].name}: {words}" if words else "", width), looks.cut(printable(last), width)]
        lines += [""] * (height - len(lines) - len(foot)) + foot
    return Frame(lines, marked, headed)
