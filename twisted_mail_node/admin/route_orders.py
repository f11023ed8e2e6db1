"""The order ``route`` of the control socket: what would become of a mail, and why."""

from __future__ import annotations

from typing import Protocol

from twisted_mail_node.admin.messages import TEXT_MAX, RequestError, Shape
from twisted_mail_node.admin.route_told import RouteInquiry
from twisted_mail_node.message.address import Address
from twisted_mail_node.settings_problems import Misspelt
from twisted_mail_node.settings_spelling import address as parse_address


class Node(Protocol):
    """What the order needs of the node."""

    @property
    def inquiry(self) -> RouteInquiry: ...


async def route(node: Node, message: Shape) -> Shape:
    """Answer ``address``, with ``sender`` and ``account`` where given.

    :raises RequestError: one of them is no address.
    """
    address = address_of(message, "address")
    if address is None:
        raise RequestError("which address? give 'address'")
    account = address_of(message, "account")
    return await node.inquiry.answer(address, address_of(message, "sender"), "" if account is None else str(account))


def address_of(message: Shape, key: str) -> Address | None:
    """An address in a request; ``None`` when it is missing or empty.

    :raises RequestError: it is none.
    """
    value = message.get(key, "")
    if value in ("", "<>"):
        return None
    if not isinstance(value, str) or len(value) > TEXT_MAX:
        raise RequestError(f"{key!r} must be an address")
    try:
        return parse_address(value)
    except Misspelt as error:
        raise RequestError(f"{key!r} must be {error}") from None
