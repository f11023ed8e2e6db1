"""How a session becomes a TLS session: STARTTLS (RFC 3207), or at once on listeners with implicit TLS (RFC 8314).

Nothing that was said before the handshake counts after it: the session begins anew, and octets that came behind
STARTTLS end it (attack T08).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.python.failure import Failure

from twisted_mail_node.events import SecuringFailed, SessionSecured
from twisted_mail_node.inbound import presenting
from twisted_mail_node.inbound.replies import Ending
from twisted_mail_node.net.tls_openssl import words_of
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.occurrence import StartTls
from twisted_mail_node.smtp.reply import Reply, printable

if TYPE_CHECKING:
    from twisted_mail_node.inbound.connection import Connection

READY_FOR_TLS = Reply.make(220, "2.0.0", "Begin the TLS handshake")
INJECTED = Reply.make(421, "4.7.0", "Octets came behind STARTTLS; goodbye", Reason.BAD_SEQUENCE)
#: Characters of a broken handshake's explanation that an event keeps.
WORDS_MAX = 300


async def start_tls(connection: Connection, event: StartTls) -> None:
    """STARTTLS: the reply, and then the handshake."""
    if connection.wire.buffered:
        raise Ending(INJECTED, Reason.BAD_SEQUENCE)
    connection.out.append(connection.wire.answer(READY_FOR_TLS))
    connection.flush()
    await handshake(connection)


async def handshake(connection: Connection) -> None:
    """Wait for the handshake, and begin the session anew. Octets that came already are taken for its first."""
    factory, asked, wire = connection.factory, connection.asked, connection.wire
    assert factory.tls is not None
    first = wire.peek()
    wire.skip(len(first))
    asked.tls = tls = factory.tls.secure(connection.transport, first)
    until = factory.clock.seconds() + factory.handshake_time
    while not connection.secured:
        await connection.silence(until - factory.clock.seconds())
    asked.helo, asked.extended, asked.submitter = "", False, None
    wire.restart(presenting.offers(connection, tls))
    factory.publish(SessionSecured(connection.session, connection.client, str(tls), tls.server_name))


def handshake_failed(connection: Connection, failure: Failure) -> None:
    """The connection ended in the handshake: say why."""
    if connection.ending in (None, Reason.CONNECTION_LOST):
        connection.ending = Reason.HANDSHAKE_FAILED
    words = printable((failure.value and words_of(failure.value)) or failure.getErrorMessage())[:WORDS_MAX]
    connection.factory.publish(
        SecuringFailed(connection.session, connection.client, connection.ending or Reason.HANDSHAKE_FAILED, words)
    )
