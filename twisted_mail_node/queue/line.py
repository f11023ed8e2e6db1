"""The line of mails that wait for a place at one destination: higher priorities go first, and nobody starves."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

from twisted_mail_node.message.precedence import CLASSES, ORDINARY, Turns

T = TypeVar("T")


class Line(Generic[T]):
    """Who waits since when, by class (``message.precedence``); within a class, who came first goes first."""

    __slots__ = ("_length", "_lines", "_turns")

    def __init__(self) -> None:
        self._lines: tuple[deque[tuple[float, T]], ...] = tuple(deque() for _ in CLASSES)
        self._turns = Turns()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, one: T, now: float, priority_class: int = ORDINARY) -> None:
        """Somebody comes."""
        self._lines[priority_class].append((now, one))
        self._length += 1

    def popleft(self) -> T:
        """Takes out whose turn it is; somebody must wait."""
        lines = self._lines
        alone = len(lines[ORDINARY]) == self._length  # most lines
        line = lines[ORDINARY if alone else self._turns.next(lines)]
        self._length -= 1
        return line.popleft()[1]

    def give_way(self, priority_class: int) -> T | None:
        """Takes out the last who came of the least urgent, where that is less urgent than ``priority_class``."""
        for number in reversed(CLASSES[priority_class + 1 :]):
            if self._lines[number]:
                self._length -= 1
                return self._lines[number].pop()[1]
        return None

    def last(self) -> T:
        """Takes out the last who came of the least urgent; somebody must wait."""
        self._length -= 1
        return next(line for line in reversed(self._lines) if line).pop()[1]

    def since(self, before: float) -> Iterator[T]:
        """Takes out everybody who waits since ``before`` or longer."""
        for line in self._lines:
            while line and line[0][0] <= before:
                self._length -= 1
                yield line.popleft()[1]
