"""Whose turn it is: mails of higher, ordinary and lower priority (MT-PRIORITY, RFC 6710) that wait for the same thing.

RFC 6710 wants mail of higher priority to go first, and leaves how to us. Nineteen priorities fall into
three classes, each with a line of its own. Turns are taken in a fixed round in which each class has some: however much
urgent mail comes, the others go on, and so do DSNs, which are ordinary mail.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized

#: The classes, as they index lines: above, at and below priority 0.
URGENT, ORDINARY, LOW = CLASSES = (0, 1, 2)

#: One round. Urgent mail has six turns of ten, ordinary mail three, low mail one; a turn that a class does not need
#: goes to the most urgent that waits.
ROUND = (URGENT, URGENT, ORDINARY, URGENT, URGENT, ORDINARY, URGENT, URGENT, ORDINARY, LOW)


def class_of(priority: int) -> int:
    """The class of a priority from -9 to 9."""
    return URGENT if priority > 0 else ORDINARY if priority == 0 else LOW


class Turns:
    """Where in the round we are."""

    __slots__ = ("_at",)

    def __init__(self) -> None:
        self._at = 0

    def next(self, lines: Sequence[Sized]) -> int:
        """The class whose turn it is, of those in whose line somebody waits; one of them must."""
        mine = ROUND[self._at]
        self._at = (self._at + 1) % len(ROUND)
        if lines[mine]:
            return mine
        return next(number for number in CLASSES if lines[number])
