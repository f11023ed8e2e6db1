"""Finds the mails a filter means, and counts what waits: by the indexes, without a look at the rows where it can.

Each unfinished recipient is in one of the *places* below, each of which has an index of its own; a filter says which of
them are looked at. So a question about a few of a million mails touches a few of them, and a count by causes, next hops
and senders reads one index from end to end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from twisted_mail_node.spool import queueid
from twisted_mail_node.spool.database import Connection
from twisted_mail_node.spool.mail import Filter, State, Tally
from twisted_mail_node.spool.orders import REVERSE_PATH, SENDER

#: Recipients that are looked at one by one before an index is asked: some milliseconds.
NEAR = 10_000
#: Larger than any queue id.
_END = (1 << 63) - 1

#: Waits, or is tried again: we know why it waited.
_CAUSED = "recipient INDEXED BY recipient_cause WHERE cause <> ''"
#: … and is delayed: neither held nor in an attempt now. (Not by NOT IN with a pair: SQLite goes through all that is
#: held, for each.)
_SAME = "one.mail = recipient.mail AND one.number = recipient.number"
_CAUSED_DELAYED = (
    f"{_CAUSED} AND NOT EXISTS"
    f" (SELECT 1 FROM recipient AS one INDEXED BY recipient_held WHERE one.state = 2 AND {_SAME})"
    " AND NOT EXISTS (SELECT 1 FROM recipient AS one INDEXED BY recipient_rest"
    f" WHERE one.state IN (0, 3) AND one.state = 0 AND {_SAME})"
)
#: In an attempt, most of them the first.
_ACTIVE = "recipient INDEXED BY recipient_rest WHERE state IN (0, 3) AND state = 0"
_FINISHED = "recipient INDEXED BY recipient_rest WHERE state IN (0, 3) AND state = 3"
_HELD = "recipient INDEXED BY recipient_held WHERE state = 2"
#: Waits since a node that kept no causes put it off.
_WITHOUT = "cause = ''"
_OLD = f"recipient INDEXED BY recipient_old WHERE {_WITHOUT} AND state IN (1, 2)"
_OLD_DELAYED = f"{_OLD} AND state = 1"
_ALL = "recipient NOT INDEXED WHERE 1"

_OF_STATE = {
    None: (_CAUSED, f"{_ACTIVE} AND {_WITHOUT}", _OLD),
    State.ACTIVE: (_ACTIVE,),
    State.DELAYED: (_CAUSED_DELAYED, _OLD_DELAYED),
    State.HELD: (_HELD,),
    State.FINISHED: (_FINISHED,),
}

_RECIPIENT = (
    "CASE WHEN json_valid(recipient)"
    " THEN instr(lower(json_extract(recipient, '$[0]') || '@' || json_extract(recipient, '$[1]')), ?) END"
)
_NEXT_CAUSE = "SELECT min(cause) FROM recipient INDEXED BY recipient_cause WHERE cause <> '' AND cause > ?"


class Condition(NamedTuple):
    """A condition in SQL and the values of its places."""

    sql: str
    values: tuple[object, ...] = ()


def ids(connection: Connection, wanted: Filter, limit: int, after: int = -1) -> list[int]:
    """The ids of the mails that a filter means, in order, those above ``after`` only."""
    found: set[int] = set()
    if (near := _near(wanted, after)) is not None:
        found.update(row[0] for row in connection.execute(near.sql, near.values).fetchall())
        if len(found) >= limit:
            return sorted(found)[:limit]
    for condition in _statements(connection, wanted, after):
        rows = connection.execute(f"{condition.sql} LIMIT ?", (*condition.values, limit)).fetchall()
        found.update(row[0] for row in rows)
    return sorted(found)[:limit]


def _near(wanted: Filter, after: int) -> Condition | None:
    """Those among the next recipients in the order of their mails. Where what is wanted is common, this is enough for a
    page; the index, which goes by causes first, would be read through for each."""
    if wanted.queue_ids or wanted.sender or wanted.state not in (None, State.DELAYED):
        return None
    if not (wanted.causes or wanted.destination or wanted.state is not None):
        return None
    columns = "mail, state, cause, destination, recipient"
    next_ones = _joined(
        f"SELECT {columns} FROM {_ALL}",
        [Condition("mail BETWEEN ? AND ?", _range(wanted, after))],
        "ORDER BY mail LIMIT ?",
    )
    conditions = [Condition("state < 3") if wanted.state is None else Condition("state = ?", (int(wanted.state),))]
    if wanted.causes:
        conditions.append(_one_of(wanted.causes))
    if wanted.destination:
        conditions.append(Condition("destination = ?", (wanted.destination,)))
    if wanted.recipient:
        conditions.append(Condition(_RECIPIENT, (_lower(wanted.recipient),)))
    sql, values = _joined(f"SELECT DISTINCT mail FROM ({next_ones.sql}) WHERE 1", conditions)
    return Condition(sql, (*next_ones.values, NEAR, *values))


def _statements(connection: Connection, wanted: Filter, after: int) -> Iterator[Condition]:
    """Each gives ids in order, none twice; together they give all."""
    low, high = _range(wanted, after)
    if wanted.queue_ids or not (wanted.state is not None or wanted.causes or wanted.destination or wanted.sender):
        yield _by_mails(wanted, low, high)
        return
    narrow = wanted.state is not None or bool(wanted.causes or wanted.destination)
    for place in _places(wanted):
        conditions = [
            Condition("mail BETWEEN ? AND ?", (low, high)),
            *_of_row(connection, wanted, place, narrow),
            *_of_sender(wanted, place),
        ]
        if wanted.recipient and not narrow:
            conditions.append(_any_recipient(wanted))
        yield _joined(f"SELECT DISTINCT mail FROM {place}", conditions, "ORDER BY mail")


def _by_mails(wanted: Filter, low: int, high: int) -> Condition:
    """All mails, or some by their ids, in their order; each is looked at."""
    if not wanted.queue_ids and wanted.recipient:
        conditions = [
            Condition("mail BETWEEN ? AND ?", (low, high)),
            Condition(_RECIPIENT, (_lower(wanted.recipient),)),
        ]
        return _joined(f"SELECT DISTINCT mail FROM {_ALL}", conditions, "ORDER BY mail")
    conditions = [Condition("id BETWEEN ? AND ?", (low, high))]
    if wanted.queue_ids:
        conditions += [Condition("id IN (SELECT value FROM json_each(?))", (_numbers(wanted),))]
    if wanted.sender:
        conditions.append(_path(wanted, REVERSE_PATH))
    if wanted.destination or wanted.state is not None or wanted.recipient or wanted.causes:
        conditions.append(_any_recipient(wanted))
    return _joined("SELECT id FROM mail WHERE 1", conditions, "ORDER BY id")


def _any_recipient(wanted: Filter) -> Condition:
    """One recipient of the mail is all that the filter says."""
    of_mail = Condition("one.mail = " + ("id" if wanted.queue_ids else "recipient.mail"))
    conditions = [of_mail]
    if wanted.recipient:
        conditions.append(Condition(_RECIPIENT.replace("recipient", "one.recipient"), (_lower(wanted.recipient),)))
    if wanted.destination:
        conditions.append(Condition("one.destination = ?", (wanted.destination,)))
    if wanted.causes:
        conditions.append(Condition("one.cause IN (SELECT value FROM json_each(?))", (json.dumps(wanted.causes),)))
    if wanted.state is not None:
        conditions.append(Condition("one.state = ?", (int(wanted.state),)))
    elif wanted.destination or wanted.causes:
        conditions.append(Condition("one.state < 3"))
    sql, values = _joined("SELECT 1 FROM recipient AS one NOT INDEXED WHERE 1", conditions)
    return Condition(f"EXISTS ({sql})", values)


def tally(connection: Connection, wanted: Filter) -> list[Tally]:
    """See ``ISpool.tally``."""
    return _count(connection, wanted, "destination, cause")


def tally_senders(connection: Connection, wanted: Filter) -> list[Tally]:
    """See ``ISpool.tally_senders``."""
    return _count(connection, wanted, "sender, ''")


def _count(connection: Connection, wanted: Filter, by: str) -> list[Tally]:
    counted: dict[tuple[str, str], Tally] = {}
    low, high = _range(wanted, -1)
    for place in _places(wanted):
        conditions = [
            Condition("mail BETWEEN ? AND ?", (low, high)),
            *_of_row(connection, wanted, place, True),
            *_of_sender(wanted, place),
        ]
        if wanted.queue_ids:
            conditions.append(Condition("mail IN (SELECT value FROM json_each(?))", (_numbers(wanted),)))
        # Only what has a cause has its sender beside it.
        columns = by if place.startswith(_CAUSED) else by.replace("sender", SENDER)
        start = f"SELECT {columns}, count(*), min(mail) AS first FROM {place}"
        sql, values = _joined(start, conditions, "GROUP BY 2, 1")
        sql = f"SELECT *, (SELECT received FROM mail WHERE id = first) FROM ({sql})"
        for destination, cause, recipients, _, oldest in connection.execute(sql, values).fetchall():
            one = Tally(destination, cause, recipients, oldest)
            before = counted.get(one[:2])
            if before is not None:
                one = one._replace(recipients=recipients + before.recipients, oldest=min(oldest, before.oldest))
            counted[one[:2]] = one
    return sorted(counted.values(), key=lambda one: (-one.recipients, one.destination, one.cause))


def _places(wanted: Filter) -> Sequence[str]:
    """Where the recipients may be that are meant."""
    places = _OF_STATE[wanted.state]
    if wanted.causes and "" not in wanted.causes:
        return [place for place in places if _WITHOUT not in place]
    if wanted.causes and not any(wanted.causes):
        return [place for place in places if not place.startswith(_CAUSED)]
    return places


def _of_row(connection: Connection, wanted: Filter, place: str, narrow: bool) -> Iterator[Condition]:
    """What must be true of the recipient itself."""
    if place.startswith(_CAUSED):
        if wanted.causes:
            yield _one_of([cause for cause in wanted.causes if cause])
        elif wanted.destination and (causes := _causes(connection)):
            yield _one_of(causes)  # then both are looked up together
    elif wanted.causes and _WITHOUT not in place:
        yield _one_of(wanted.causes)
    if wanted.destination:
        yield Condition("destination = ?", (wanted.destination,))
    if wanted.recipient and narrow:
        yield Condition(_RECIPIENT, (_lower(wanted.recipient),))


def _of_sender(wanted: Filter, place: str) -> Iterator[Condition]:
    """The reverse-path: in the index, or in the mail."""
    if not wanted.sender:
        return
    if place.startswith(_CAUSED):
        yield _path(wanted, "sender")
    else:
        sql, values = _path(wanted, REVERSE_PATH)
        yield Condition(f"EXISTS (SELECT 1 FROM mail WHERE id = recipient.mail AND {sql})", values)


def _path(wanted: Filter, column: str) -> Condition:
    if wanted.sender == "<>":
        return Condition(f"{column} = ''")
    return Condition(f"instr({column}, ?)", (_lower(wanted.sender),))


def _one_of(causes: Sequence[str]) -> Condition:
    return Condition(f"cause IN ({','.join('?' * len(causes))})", tuple(causes))


def _causes(connection: Connection) -> list[str]:
    """The causes for which anything waits: one look into the index for each."""
    causes = [""]
    while True:
        following = connection.execute(_NEXT_CAUSE, (causes[-1],)).fetchall()[0][0]
        if following is None:
            return causes[1:]
        causes.append(following)


def _range(wanted: Filter, after: int) -> tuple[int, int]:
    low = max(after + 1, queueid.at_time(wanted.after) if wanted.after else 0)
    return low, queueid.at_time(wanted.before) - 1 if wanted.before else _END


def _numbers(wanted: Filter) -> str:
    return json.dumps([queueid.to_number(text) for text in wanted.queue_ids])


def _joined(start: str, conditions: Sequence[Condition], end: str = "") -> Condition:
    """A statement whose beginning has a WHERE already."""
    sql = " AND ".join([start, *[condition.sql for condition in conditions]])
    return Condition(f"{sql} {end}".rstrip(), tuple(value for condition in conditions for value in condition.values))


def _lower(text: str) -> str:
    """ASCII letters in lower case and no others, as SQLite's ``lower`` does."""
    return text.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")
