"""What an operator may order about the keys that sign mail: list, create, rotate, retire.

The shapes are those of ``mailnode dkim --json``; the command line makes the same of a node that is down.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from twisted_mail_node.admin.messages import RequestError, Shape, number_from, text_from

if TYPE_CHECKING:
    from twisted_mail_node.admin.queue_orders import Result
    from twisted_mail_node.signing.custody import Changed, Custody
    from twisted_mail_node.signing.rotation import Rotation

#: Bits that a request may ask for; which ones do is told by ``signing.making``.
BITS_MAX = 1 << 20


def dkim_orders(node: Any) -> Mapping[str, Callable[[Shape], Awaitable[Result]]]:
    """The orders, by their commands.

    :param node: has ``dkim``, a ``Rotation``.
    """
    from twisted_mail_node.admin.queue_orders import Result

    async def listed(message: Shape) -> Result:
        rotation: Rotation = node.dkim
        domain, check = text_from(message, "domain"), message.get("check") is True
        try:
            found = await rotation.listed(domain, check=check)
        except ValueError as error:
            raise RequestError(str(error)) from error
        return Result(found, {"count": len(found), "where": rotation.where})

    async def changed(order: str, message: Shape) -> Result:
        rotation: Rotation = node.dkim
        try:
            done: Changed = await ordered(rotation, order, message)
        except ValueError as error:
            raise RequestError(str(error)) from error
        found = [rotation.shape(done.domain, key) for key in done.touched]
        return Result(found, {"count": len(found), "where": rotation.where})

    return {
        "dkim.list": listed,
        "dkim.create": lambda message: changed("create", message),
        "dkim.rotate": lambda message: changed("rotate", message),
        "dkim.retire": lambda message: changed("retire", message),
    }


def ordered(keeper: Rotation | Custody, order: str, message: Shape) -> Any:
    """Carry out an order that changes something.

    :param keeper: a ``Rotation`` gives an awaitable, a ``Custody`` what comes of it.
    :param order: ``create``, ``rotate`` or ``retire``.
    :raises ValueError: a value is of the wrong kind (``RequestError``), or it cannot be done.
    """
    from twisted_mail_node.signing.custody import KINDS
    from twisted_mail_node.signing.making import BITS

    domain = text_from(message, "domain", needed=True)
    at_once = message.get("now") is True
    if order == "retire":
        return keeper.retire(domain, text_from(message, "selector", needed=True), at_once=at_once)
    bits = number_from(message, "bits", BITS, 1, BITS_MAX)
    if order == "rotate":
        return keeper.rotate(domain, bits=bits, at_once=at_once)
    kind = text_from(message, "kind") or "both"
    kinds = KINDS if kind == "both" else tuple(one for one in KINDS if one == kind)
    if not kinds:
        raise RequestError("'kind' must be rsa, ed25519 or both")
    return keeper.create(domain, kinds, selector=text_from(message, "selector"), bits=bits, at_once=at_once)
