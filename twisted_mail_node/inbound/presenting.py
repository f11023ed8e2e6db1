"""Who the client really is, where a named peer stands between it and us: the PROXY protocol and XCLIENT.

What they say counts for everything that asks for the client's address: ``relay_from``, limits, guessing, policies,
Received and the log. Only peers that the listener's settings name are believed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted_mail_node.events import ClientPresented, PresentingFailed, SessionRefused
from twisted_mail_node.inbound.replies import REFUSALS, Ending
from twisted_mail_node.policy.verdict import Asked
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.extensions import Offers
from twisted_mail_node.smtp.grammar import GrammarError
from twisted_mail_node.smtp.occurrence import XClient
from twisted_mail_node.smtp.proxy import Header, ProxyError, parse
from twisted_mail_node.smtp.reply import Reply
from twisted_mail_node.smtp.xclient import UNKNOWN, parse_xclient

if TYPE_CHECKING:
    from twisted_mail_node.inbound.connection import Connection
    from twisted_mail_node.interfaces import ITlsSession

#: Seconds in which a balancer must have sent its header; it sends it at once.
PROXY_TIME = 5.0
#: An XCLIENT counts as so much of a wrong command.
XCLIENT_WEIGHT = 0.2


async def read_proxy(connection: Connection) -> None:
    """The PROXY header, before anything else is said. What comes behind it stays in ``connection.wire``."""
    try:
        header = await _header(connection)
    except ProxyError as error:
        raise _failed(connection, str(error)) from None
    connection.wire.skip(header.size)
    _present(connection, header.client or None, "PROXY", header.tls)
    connection.peer = connection.client  # what the client itself may do depends on its own address
    connection.wire.offers = connection.factory.offers(connection.peer)


async def _header(connection: Connection) -> Header:
    clock, wire = connection.factory.clock, connection.wire
    end = clock.seconds() + PROXY_TIME
    while (header := parse(wire.peek())) is None:
        try:
            await connection.silence(end - clock.seconds())
        except Ending as ending:
            if ending.reason is Reason.TIMEOUT:
                raise _failed(connection, f"no PROXY header came within {PROXY_TIME:g} seconds") from None
            raise Ending(None, ending.reason) from None
    return header


def _failed(connection: Connection, words: str) -> Ending:
    """Nothing is answered: who waits behind the peer cannot be known, nor what protocol it speaks."""
    connection.ending = Reason.BAD_PROXY
    connection.factory.publish(PresentingFailed(connection.session, connection.client, Reason.BAD_PROXY, words))
    return Ending(None, Reason.BAD_PROXY)


async def xclient(connection: Connection, event: XClient) -> None:
    """XCLIENT: the session begins anew, as another client's."""
    connection.count_error(XCLIENT_WEIGHT)
    try:
        said = parse_xclient(event.argument)
    except GrammarError as error:
        words = str(error)
        connection.refuse(Reply.make(501, "5.5.4", words[:1].upper() + words[1:], Reason.BAD_PROXY), "XCLIENT")
        return
    wire, before = connection.wire, connection.asked
    connection.asked = Asked(
        before.session, before.listener, before.client, before.may_relay, said.helo, said.extended, tls=before.tls
    )
    _present(connection, said.client, "XCLIENT")
    following = wire.peek()  # it may be pipelined
    wire.restart(offers(connection, before.tls))
    wire.receive(following)
    await connection.greet()


def offers(connection: Connection, tls: ITlsSession | None) -> Offers:
    """What the client is offered. The certificate of a peer that speaks for another is not that other's."""
    offered = connection.factory.offers(connection.peer, tls)
    if connection.client == connection.peer or "EXTERNAL" not in offered.mechanisms:
        return offered
    return offered._replace(mechanisms=tuple(one for one in offered.mechanisms if one != "EXTERNAL"))


def _present(connection: Connection, client: str | None, by: str, tls: str = "") -> None:
    """The connection is ``client``'s from now on; ``None``: it stays the peer's own.

    :raises Ending: the client has too many connections.
    """
    if client is None:
        return
    factory, asked = connection.factory, connection.asked
    connection.client = asked.client = client
    asked.may_relay = factory.may_relay(client)
    factory.publish(ClientPresented(connection.session, client, connection.peer, by, tls))
    reason = factory.recount(connection, None if client == UNKNOWN else client)
    if reason is not None:
        reply = REFUSALS[reason]
        factory.publish(SessionRefused(connection.session, factory.kind, client, reason, str(reply)))
        # Under implicit TLS the client waits for a handshake; text would only confuse it.
        raise Ending(None if factory.tls_mode == "implicit" and asked.tls is None else reply, reason)
