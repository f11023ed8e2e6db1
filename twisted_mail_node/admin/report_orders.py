"""What an operator may ask a running node about what it counts: ``tls-report.show``, ``dmarc-report.show``."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple, Protocol

from twisted_mail_node.admin.messages import RequestError, Shape, text_from
from twisted_mail_node.state.behind import DAY
from twisted_mail_node.state.database import StateError

#: Rows of one answer: of a day with more, ask for one domain.
ROWS_MAX = 10_000
_EPOCH = date(1970, 1, 1)


class Counts(Protocol):
    """What the orders need of ``state.tls_results.TlsResults`` and ``state.dmarc_results.DmarcResults``."""

    enabled: bool

    def counted(self, day: int, domain: str, limit: int) -> Awaitable[Sequence[NamedTuple]]: ...


async def show(counts: Counts, message: Shape, now: float) -> tuple[Iterator[Shape], Shape]:
    """What was counted on a ``day`` (``YYYY-MM-DD`` in UTC; today without one), of one ``domain`` or of all.

    :param now: seconds since the epoch.
    :raises RequestError: it cannot be understood, or not be found out.
    """
    domain = text_from(message, "domain")
    day = _day_of(message.get("day", ""), now)
    try:
        rows = await counts.counted(day, domain.lower().rstrip("."), ROWS_MAX)
    except StateError as error:
        raise RequestError(str(error)) from error
    last = {
        "day": (_EPOCH + timedelta(days=day)).isoformat(),
        "count": len(rows),
        "complete": len(rows) < ROWS_MAX,
        "counting": counts.enabled,
    }
    return (dict(row._asdict()) for row in rows), last


def _day_of(value: object, now: float) -> int:
    if value == "":
        return int(now // DAY)
    try:
        day = datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=UTC).date()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise RequestError("'day' must be a date: YYYY-MM-DD") from None
    return (day - _EPOCH).days
