"""What a delivery agent is asked to carry: one mail, one next hop, one or more recipients."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.settings import TlsLevel
from twisted_mail_node.settings_outbound import Transport

if TYPE_CHECKING:
    from twisted_mail_node.interfaces import IContent


class DeliveryRequest(NamedTuple):
    """One attempt.

    :ivar envelope: the mail's envelope; of its recipients only ``recipients`` are meant here.
    :ivar header: trace fields that stand before the content, CRLF line ends.
    :ivar next_hop: as the route gave it (``example.net``, ``[192.0.2.7]:25``; a local domain for the Maildir).
    :ivar deadline: seconds this attempt may last.
    :ivar tls: how the way to the next hop must be protected, as the route says.
    :ivar transport: what is spoken there.
    :ivar credentials: the rule whose name and password sign in there (``routing.Route``); ``""``: nobody signs in.
    :ivar source: the pool to connect from; ``""``: as the destination's limits say.
    """

    queue_id: str
    envelope: Envelope
    recipients: tuple[Recipient, ...]
    header: bytes
    content: IContent
    next_hop: str
    deadline: float
    tls: TlsLevel = "opportunistic"
    transport: Transport = "smtp"
    credentials: str = ""
    source: str = ""
