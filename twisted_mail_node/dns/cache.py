"""What the DNS told us lately: answers, missing names and failures, each until its time is over.

The cache is bounded; what was not asked for longest goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from twisted.internet.interfaces import IReactorTime

from twisted_mail_node.dns.answer import Answer
from twisted_mail_node.dns.wire import MAX_TTL, Question

#: Everything is kept this many seconds, whatever its TTL, so that a burst of mail asks once.
MIN_TTL = 5
#: "There is nothing" is kept at most three hours (RFC 2308 section 5 advises one to three).
MAX_NEGATIVE_TTL = 10800
#: A failure is kept this many seconds (RFC 9520 section 3.2 asks for one at least): a burst asks a dead domain once.
FAILURE_TTL = 5
#: One place in the cache is for this many octets of text, so that large records cannot fill the memory.
_OCTETS_A_PLACE = 512
#: And for this many records.
_RECORDS_A_PLACE = 16

#: An answer, or the sentence that tells why there is none.
Outcome = Answer | str


class _Entry(NamedTuple):
    expires: float
    outcome: Outcome
    places: int


def with_bounds(answer: Answer) -> Answer:
    """The answer with a TTL that we are willing to keep to."""
    most = MAX_TTL if answer.records else MAX_NEGATIVE_TTL
    ttl = max(MIN_TTL, min(answer.ttl, most))
    return answer if ttl == answer.ttl else answer._replace(ttl=ttl)


class Cache:
    """Outcomes by question, at most ``size`` places of them; an ordinary answer takes one place.

    :param size: places; 0 keeps nothing.
    """

    def __init__(self, size: int, clock: IReactorTime) -> None:
        self._size = size
        self._clock = clock
        self._entries: OrderedDict[Question, _Entry] = OrderedDict()
        self._places = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, question: Question) -> Outcome | None:
        """What is known, with the seconds that are left as its TTL; ``None`` when the DNS has to be asked."""
        entry = self._entries.get(question)
        if entry is None:
            return None
        left = entry.expires - self._clock.seconds()
        if left <= 0:
            self._forget(question)
            return None
        self._entries.move_to_end(question)
        outcome = entry.outcome
        return outcome if isinstance(outcome, str) else outcome._replace(ttl=int(left))

    def put(self, question: Question, outcome: Outcome) -> None:
        """Keep an outcome for its TTL."""
        if question in self._entries:
            self._forget(question)
        seconds = FAILURE_TTL if isinstance(outcome, str) else outcome.ttl
        entry = _Entry(self._clock.seconds() + seconds, outcome, _places(outcome))
        if seconds <= 0 or entry.places > self._size:
            return
        self._entries[question] = entry
        self._places += entry.places
        while self._places > self._size:
            self._places -= self._entries.popitem(last=False)[1].places

    def _forget(self, question: Question) -> None:
        self._places -= self._entries.pop(question).places


def _places(outcome: Outcome) -> int:
    if isinstance(outcome, str):
        return 1
    octets = sum([len(record) for record in outcome.records if isinstance(record, bytes)])
    return 1 + octets // _OCTETS_A_PLACE + len(outcome.records) // _RECORDS_A_PLACE
