"""What the keys of ``mailnode queue top`` do: which destination is chosen, how they are sorted, what is asked. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from twisted_mail_node.admin.top_frame import SORTS, Row

KEYS = "q quit  j/k choose  f freeze  r retry  sort: d name w waiting s speed o oldest"

#: What terminals send for keys that are no characters.
_SPECIAL = {b"\x1b[A": "k", b"\x1bOA": "k", b"\x1b[B": "j", b"\x1bOB": "j", b"\x03": "q"}


class Wish(NamedTuple):
    """What the operator wants done: ``quit``, ``freeze``, ``thaw``, ``retry``."""

    what: str
    destination: str = ""


def keys_of(octets: bytes) -> list[str]:
    """The keys in what a terminal sent; what is not known is left out."""
    keys: list[str] = []
    at = 0
    while at < len(octets):
        for special, key in _SPECIAL.items():
            if octets.startswith(special, at):
                keys.append(key)
                at += len(special)
                break
        else:
            if octets[at] == 0x1B:
                return keys  # a sequence that nobody here knows: its rest would be taken for letters
            character = chr(octets[at])
            if character.isprintable() or character in "\r\n":
                keys.append(character.lower())
            at += 1
    return keys


class View:
    """What is on the screen beside the figures.

    :ivar sort: a key of ``SORTS``.
    :ivar chosen: name of the chosen destination, ``None`` before any was.
    :ivar message: what happened last.
    """

    def __init__(self) -> None:
        self.sort = "w"
        self.chosen: str | None = None
        self.message = ""
        self._asked: Wish | None = None

    @property
    def last(self) -> str:
        """The last line."""
        if self._asked is not None:
            what = {"freeze": "Freeze", "thaw": "Thaw", "retry": "Try again now what waits for"}[self._asked.what]
            return f"{what} {self._asked.destination}? y/n"
        return self.message or KEYS

    def press(self, key: str, rows: Sequence[Row]) -> Wish | None:
        """A key was pressed; gives what is to be done, if anything.

        :param rows: as they are on the screen.
        """
        if self._asked is not None:
            asked, self._asked = self._asked, None
            return asked if key == "y" else None
        self.message = ""
        if key == "q":
            return Wish("quit")
        if key in SORTS:
            self.sort = key
        elif key in ("j", "k"):
            self._choose(1 if key == "j" else -1, rows)
        elif key in ("f", "r"):
            row = next((row for row in rows if row.name == self.chosen and row.name), None)
            if row is None:
                self.message = "Choose a destination first: j and k, or the arrows."
            else:
                what = "retry" if key == "r" else "thaw" if row.frozen else "freeze"
                self._asked = Wish(what, row.name)
        return None

    def _choose(self, step: int, rows: Sequence[Row]) -> None:
        names = [row.name for row in rows]
        if not names:
            return
        at = names.index(self.chosen) + step if self.chosen in names else 0
        self.chosen = names[max(0, min(at, len(names) - 1))]
