"""What an operator may order about the suppression list of a running node: list, add, remove.

The shapes are those of ``mailnode suppress --json``; the command line makes the same of a node that is down.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from twisted_mail_node.admin.messages import RequestError, Shape, address_from, number_from, text_from, time_from

if TYPE_CHECKING:
    from twisted_mail_node.admin.queue_orders import Result
    from twisted_mail_node.state.suppressions import Suppressed, Suppressions

#: Addresses of one listing, if the request names no number.
LISTED = 1000
#: And at most.
LISTED_MAX = 500_000


def suppress_orders(node: Any) -> Mapping[str, Callable[[Shape], Awaitable[Result]]]:
    """The orders, by their commands.

    :param node: has ``suppressions``.
    """
    from twisted_mail_node.admin.queue_orders import Result

    async def carry_out(work: Callable[[Suppressions, Shape], list[Shape]], message: Shape) -> Result:
        found = work(node.suppressions, message)
        return Result(found, {"count": len(found)})

    return {
        "suppress.list": lambda message: carry_out(listed, message),
        "suppress.add": lambda message: carry_out(added, message),
        "suppress.remove": lambda message: carry_out(removed, message),
    }


def listed(suppressions: Suppressions, message: Shape) -> list[Shape]:
    """Addresses on the list that hold ``text``, oldest first, at most ``limit``.

    :raises RequestError: a value is of the wrong kind.
    """
    text = text_from(message, "text").lower()
    limit = number_from(message, "limit", LISTED, 1, LISTED_MAX)
    found = (one for one in suppressions.suppressed() if text in one.address)
    return [as_shape(one) for one, _ in zip(found, range(limit), strict=False)]


def added(suppressions: Suppressions, message: Shape) -> list[Shape]:
    """Put ``address`` on the list, for ``words``, until ``until``: seconds since the epoch, 0: for ever, without it as
    long as the settings say.

    :raises RequestError: a value is of the wrong kind, or the address cannot be suppressed.
    """
    until = None if message.get("until") is None else time_from(message, "until")
    address = address_from(message, "address")
    try:
        return [as_shape(suppressions.add(address, text_from(message, "words"), until))]
    except ValueError as error:
        raise RequestError(str(error)) from error


def removed(suppressions: Suppressions, message: Shape) -> list[Shape]:
    """Take ``address`` off the list; what stood there, or nothing.

    :raises RequestError: it is no address.
    """
    one = suppressions.remove(address_from(message, "address"))
    return [] if one is None else [as_shape(one)]


def as_shape(one: Suppressed) -> Shape:
    """An address of the list as JSON shows it; ``until`` is null where it never ends."""
    by = "failures" if one.failures else "operator"
    return {
        "address": one.address,
        "by": by,
        "failures": one.failures,
        "since": one.since,
        "until": one.until or None,
        "words": one.words,
    }
