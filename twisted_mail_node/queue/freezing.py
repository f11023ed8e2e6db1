"""An operator stops mail to a destination until further notice, and lets it go again. Kept over restarts.

What comes for a frozen destination is put off without an attempt and keeps its lifetime: whoever freezes for longer
than that has its senders told. A thaw brings back at once what was put off, as fast as the destination takes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted_mail_node.queue.destinations import Destinations


class Freezes(Protocol):
    """Where it is kept (``state.freezes``)."""

    def all(self) -> list[tuple[str, str, float]]:
        """Destination, words, and since when, of each."""

    def add(self, destination: str, words: str, since: float) -> None:
        """Remember one."""

    def drop(self, destination: str) -> None:
        """Forget one."""


class Freezing:
    """What is frozen.

    :param kept: where it is kept; ``None``: it lasts as long as the process.
    """

    def __init__(self, *, destinations: Destinations, kept: Freezes | None, now: Callable[[], float]) -> None:
        self._destinations = destinations
        self._kept = kept
        self._now = now
        self._frozen: dict[str, tuple[str, float]] = {}

    def start(self) -> None:
        """Freeze again what was frozen when the last process ended."""
        for destination, words, since in [] if self._kept is None else self._kept.all():
            self._frozen[destination] = words, since
            self._destinations.freeze(destination, words)

    def freeze(self, destination: str, words: str) -> None:
        """Nothing is tried there any more; what is in flight goes on. Frozen already: other words."""
        since = self._frozen.get(destination, ("", self._now()))[1]
        self._frozen[destination] = words, since
        if self._kept is not None:
            self._kept.add(destination, words, since)
        self._destinations.freeze(destination, words)

    def thaw(self, destination: str) -> bool:
        """Try again. Gives whether it was frozen."""
        if self._frozen.pop(destination, None) is None:
            return False
        if self._kept is not None:
            self._kept.drop(destination)
        self._destinations.thaw(destination)
        return True

    def frozen(self) -> list[dict[str, object]]:
        """Each destination that is frozen: ``destination``, ``words``, ``since`` (seconds since the epoch)."""
        return [
            {"destination": destination, "words": words, "since": since}
            for destination, (words, since) in sorted(self._frozen.items())
        ]
