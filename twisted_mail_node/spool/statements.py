"""The text of statements that take many rows at once; each number of rows is a statement of its own, compiled once.

Each step into SQLite gives the interpreter's lock away and must wait to get it back, so one statement for sixteen
mails is much cheaper than sixteen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

#: Rows one statement takes at most.
BLOCK = 64

T = TypeVar("T")

_texts: dict[tuple[str, int], str] = {}


def blocks(rows: Sequence[T]) -> Iterable[Sequence[T]]:
    """``rows`` in slices of at most BLOCK."""
    return [rows[at : at + BLOCK] for at in range(0, len(rows), BLOCK)]


def values(start: str, row: str, rows: int) -> str:
    """``start row,row,…`` with ``rows`` rows."""
    text = _texts.get((start, rows))
    if text is None:
        text = _texts[start, rows] = f"{start} {','.join([row] * rows)}"
    return text


def listed(start: str, row: str, rows: int) -> str:
    """``start row,row,…)``."""
    text = _texts.get((start, rows))
    if text is None:
        text = _texts[start, rows] = f"{start}{','.join([row] * rows)})"
    return text
