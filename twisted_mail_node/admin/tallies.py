"""Counting what waits: what the spool is asked, and how its answers become one table.

The spool counts by destination and cause at once, or by sender; ages and states are a question each. The same questions
go to the spool of a node that runs and of one that is down.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from twisted_mail_node.admin.messages import By, Shape
from twisted_mail_node.message.cause import cause_named
from twisted_mail_node.spool.mail import Filter, State, Tally

#: Ages that are told apart: a name, and seconds from which on it is meant.
AGES = (
    ("under 15 min", 0.0),
    ("15 min to 1 h", 900.0),
    ("1 h to 4 h", 3600.0),
    ("4 h to 1 d", 14_400.0),
    ("1 d to 2 d", 86_400.0),
    ("2 d to 5 d", 172_800.0),
    ("over 5 d", 432_000.0),
)
_WAITING = (State.DELAYED, State.ACTIVE, State.HELD)


class Question(NamedTuple):
    """What the spool is asked.

    :ivar name: of the only group that the answer is about; ``""``: the answer names its groups.
    :ivar by: ``"sender"``, or ``"destination"`` for destination and cause.
    """

    name: str
    wanted: Filter
    by: str = "destination"


def questions(wanted: Filter, by: By, now: float) -> list[Question]:
    """What is to be asked to count ``wanted`` by something.

    :param now: seconds since the epoch.
    """
    if by == "age":
        younger = [since for _, since in AGES[1:]] + [now]
        return [
            Question(name, _between(wanted, now - until, now - since if since else 0.0))
            for (name, since), until in zip(AGES, younger, strict=True)
        ]
    if by == "state":
        states = _WAITING if wanted.state is None else (wanted.state,)
        return [Question(state.name.lower(), wanted._replace(state=state)) for state in states]
    return [Question("", wanted, "sender" if by == "sender" else "destination")]


def _between(wanted: Filter, after: float, before: float) -> Filter:
    """The filter, for mails accepted in this time only; ``before`` 0: until now."""
    after = max(after, wanted.after)
    befores = [one for one in (before, wanted.before) if one]
    return wanted._replace(after=after, before=min(befores, default=0.0))


def grouped(by: By, answers: Iterable[tuple[Question, Sequence[Tally]]], most: int) -> tuple[list[Shape], Shape]:
    """The groups, the largest first, at most ``most`` of them; and what they are in all.

    Ages stay in their order. May take a while where there are many destinations: call it in a thread.
    """
    groups: dict[str, list[float]] = {}
    for question, tallies in answers:
        for tally in tallies:
            group = groups.setdefault(question.name or _name(by, tally), [0, tally.oldest])
            group[0] += tally.recipients
            group[1] = min(group[1], tally.oldest)
    order = list(groups.items()) if by == "age" else sorted(groups.items(), key=lambda pair: (-pair[1][0], pair[0]))
    shapes: list[Shape] = [
        {"name": name, "recipients": int(number), "oldest": oldest} for name, (number, oldest) in order[:most]
    ]
    total = {
        "recipients": int(sum(number for number, _ in groups.values())),
        "group_count": len(groups),
        "oldest": min((oldest for _, oldest in groups.values()), default=None),
    }
    return shapes, total


def _name(by: By, tally: Tally) -> str:
    if by == "cause":
        return tally.cause
    if by == "kind":
        cause = cause_named(tally.cause) if tally.cause else None
        return str(cause.kind) if cause is not None else tally.cause
    return tally.destination
