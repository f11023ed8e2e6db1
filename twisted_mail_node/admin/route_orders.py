"""The order ``route`` of the control socket: what would become of a mail, and why."""

from __future__ import annotations

from typing import Protocol

from twisted_mail_node.admin.messages import Shape, address_from
from twisted_mail_node.admin.route_told import RouteInquiry


class Node(Protocol):
    """What the order needs of the node."""

    @property
    def inquiry(self) -> RouteInquiry: ...


async def route(node: Node, message: Shape) -> Shape:
    """Answer ``address``, with ``sender`` and ``account`` where given.

    :raises RequestError: one of them is no address.
    """
    address = address_from(message, "address")
    sender = None if message.get("sender", "") in ("", "<>") else address_from(message, "sender")
    account = "" if message.get("account", "") == "" else str(address_from(message, "account"))
    return await node.inquiry.answer(address, sender, account)
