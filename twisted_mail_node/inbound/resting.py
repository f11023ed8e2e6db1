"""A session that waits, whatever the client says: before a password is looked at, and before a wrong one is answered.

It ends at once when the connection goes or the node stops, and holds no other session up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted_mail_node.inbound.replies import SHUTTING_DOWN, Ending
from twisted_mail_node.waiting import pause

if TYPE_CHECKING:
    from twisted_mail_node.inbound.connection import Connection


async def rest(connection: Connection, seconds: float) -> None:
    """Send the replies, and wait so long. What comes meanwhile is kept for later, as while any decision is awaited.

    :raises Ending: the session is over.
    """
    if connection.ending is not None:  # it came to its end while a Deferred was awaited: nobody would wake us
        raise Ending(SHUTTING_DOWN, connection.ending)
    connection.flush()
    timer = connection.factory.clock.callLater(seconds, connection.wake)
    connection.resting = True
    try:
        while timer.active():
            await pause
    finally:
        connection.resting = False
        if timer.active():
            timer.cancel()
