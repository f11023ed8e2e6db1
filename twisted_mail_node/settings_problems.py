"""What is wrong with a settings file: every problem at once, each as a sentence that says how to mend it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import NamedTuple

#: A wrong value is shown so far and no further: an error message is no place for a whole file.
SHOWN_MAX = 60


class Problem(NamedTuple):
    """One thing that is wrong.

    :ivar path: the key, ``listener[2].endpoint`` being that of the second ``[[listener]]``; or the file's name.
    :ivar holds: what is there now. Values that may be secret are described and not shown.
    :ivar allowed: what may be there.
    :ivar hint: a further clause such as ``did you mean 'listener'?``; may be empty.
    """

    path: str
    holds: str
    allowed: str
    hint: str = ""

    def __str__(self) -> str:
        hint = f" {self.hint[0].upper()}{self.hint[1:]}" if self.hint else ""
        if hint and hint[-1] not in ".?":
            hint += "."
        return f"{self.path} holds {self.holds}. Allowed: {self.allowed}.{hint}"


class SettingsError(ValueError):
    """The settings cannot be used.

    :ivar problems: all that is wrong, in the order of the sections.
    :ivar source: the file's name, or ``""``.
    """

    def __init__(self, problems: Sequence[Problem], source: str = "") -> None:
        self.problems = list(problems)
        self.source = source
        super().__init__(self._words())

    def _words(self) -> str:
        count = "one problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        lines = [f"{self.source or 'The settings'}: {count}"]
        lines += [f"  {problem}" for problem in self.problems]
        return "\n".join(lines)


class Misspelt(ValueError):
    """A value that is not spelled as its key wants it.

    :ivar allowed: what may be there.
    :ivar hint: as in ``Problem``.
    """

    def __init__(self, allowed: str, hint: str = "") -> None:
        super().__init__(allowed)
        self.allowed = allowed
        self.hint = hint


def did_you_mean(word: object, choices: Iterable[str], near: float = 0.6) -> str:
    """``did you mean 'x'?`` for the choice that looks most like ``word``, or nothing.

    :param near: how alike they must be at least, from 0 to 1.
    """
    if not isinstance(word, str):
        return ""
    by_lower = {choice.lower(): choice for choice in choices}
    close = get_close_matches(word[:SHOWN_MAX].lower(), by_lower, n=1, cutoff=near)
    return f"did you mean '{by_lower[close[0]]}'?" if close else ""


def shown(value: object) -> str:
    """A value as an error message may show it: short, on one line, and tables and lists only by their kind."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # ascii(): no control character, no bidi mark and no line end of a value reaches the terminal.
        text = ascii(value[:SHOWN_MAX])
        return f"{text}…" if len(value) > SHOWN_MAX else text
    return str(value)[:SHOWN_MAX]


def kind_of(value: object) -> str:
    """What sort of value it is, without the value: for what may be a secret."""
    if isinstance(value, dict | list | tuple | bool):
        return shown(value) if not isinstance(value, bool) else "true or false"
    return "a text (not shown)" if isinstance(value, str) else "a number or date (not shown)"
