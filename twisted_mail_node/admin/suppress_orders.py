"""What an operator may order about the suppression list of a running node: list, add, remove.

The shapes are those of ``mailnode suppress --json``; the command line makes the same of a node that is down.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from twisted_mail_node.admin.messages import TEXT_MAX, RequestError, Shape
from twisted_mail_node.message.address import Address
from twisted_mail_node.settings_problems import Misspelt
from twisted_mail_node.settings_spelling import address as read_address

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
    text = _text(message, "text").lower()
    limit = message.get("limit", LISTED)
    if type(limit) is not int or not 1 <= limit <= LISTED_MAX:
        raise RequestError(f"'limit' must be a number from 1 to {LISTED_MAX}")
    found = (one for one in suppressions.suppressed() if text in one.address)
    return [as_shape(one) for one, _ in zip(found, range(limit), strict=False)]


def added(suppressions: Suppressions, message: Shape) -> list[Shape]:
    """Put ``address`` on the list, for ``words``, until ``until``: seconds since the epoch, 0: for ever, without it as
    long as the settings say.

    :raises RequestError: a value is of the wrong kind, or the address cannot be suppressed.
    """
    until = message.get("until")
    if until is not None and (isinstance(until, bool) or not isinstance(until, int | float) or not 0 <= until < 1e11):
        raise RequestError("'until' must be seconds since the epoch, or 0")
    address = _address(message)
    try:
        return [as_shape(suppressions.add(address, _text(message, "words"), until))]
    except ValueError as error:
        raise RequestError(str(error)) from error


def removed(suppressions: Suppressions, message: Shape) -> list[Shape]:
    """Take ``address`` off the list; what stood there, or nothing.

    :raises RequestError: it is no address.
    """
    one = suppressions.remove(_address(message))
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


def _text(message: Shape, key: str) -> str:
    value = message.get(key, "")
    if not isinstance(value, str) or len(value) > TEXT_MAX:
        raise RequestError(f"{key!r} must be a text of at most {TEXT_MAX} characters")
    return value


def _address(message: Shape) -> Address:
    text = _text(message, "address")
    try:
        return read_address(text)
    except Misspelt as error:
        hint = f"; {error.hint}" if error.hint else ""
        raise RequestError(f"{text!a} is not an address such as joe@example.org{hint}") from None
