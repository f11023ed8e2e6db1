"""How far the attempts for a mail have come: kept by the attempt at the cost of two assignments a step."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from twisted.internet.defer import Deferred


class Stage(StrEnum):
    """What an attempt is at."""

    BEGINNING = "beginning"  #: its turn has not come
    ROUTING = "routing"
    PARTS = "parts"  #: its recipients go several ways; each way has its own progress
    WAITING = "waiting"  #: for a place at its destination
    AGENT = "agent"
    REPORTING = "reporting"
    RECORDING = "recording"
    ASKING = "asking"  #: the spool, whether the whole mail is finished
    ENDED = "ended"

    def __str__(self) -> str:
        return str(self.value)


class Progress:
    """Where one mail is, or those of its recipients that go one way.

    :ivar since: when the watchdog first saw it in this stage; 0: it did not yet.
    :ivar named: seconds in this stage after which the watchdog names it again.
    :ivar parts: the ways of a mail that goes several.
    :ivar story: of a part.
    """

    __slots__ = ("destination", "named", "parts", "since", "stage", "story")

    #: Of the mail.
    queue_id = ""

    def __init__(self) -> None:
        self.stage = Stage.BEGINNING
        self.destination = ""
        self.since = 0.0
        self.named = 0.0
        self.parts: Sequence[Progress] = ()
        self.story: Deferred[int] | None = None

    def end(self) -> None:
        """Cancel what it waits for."""
        if self.story is not None:
            self.story.cancel()
