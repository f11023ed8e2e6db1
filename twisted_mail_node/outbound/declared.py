"""What MAIL says of a mail at a host, as far as the host offers it; or that the mail cannot go there.

What only asks for something (DSN, a priority) is left out where it is not offered; what the mail needs is an obstacle.
"""

from __future__ import annotations

from collections.abc import Callable
from math import floor

from twisted_mail_node.message.envelope import Body, Envelope
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.outbound.need import stays_here
from twisted_mail_node.queue.request import DeliveryRequest
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp import client
from twisted_mail_node.smtp.client import BY_MAX, Offered
from twisted_mail_node.smtp.extensions import By


class ObstacleError(Exception):
    """The mail cannot go to this host at all."""

    def __init__(self, status: str, reason: Reason, words: str) -> None:
        super().__init__(words)
        self.status = DeliveryStatus(Action.FAILED, status, reason, words)


def body_and_smtputf8(request: DeliveryRequest, offered: Offered) -> tuple[Body | None, bool]:
    """BODY and SMTPUTF8 for MAIL. :raises ObstacleError: the host does not offer what the mail needs."""
    envelope = request.envelope
    reverse_path = envelope.reverse_path
    smtputf8 = envelope.smtputf8 or not (reverse_path is None or reverse_path.is_ascii)
    if not smtputf8:
        for recipient in request.recipients:
            if not recipient.address.is_ascii:
                smtputf8 = True
                break
    if smtputf8 and not offered.smtputf8:
        raise ObstacleError("5.6.7", Reason.SMTPUTF8, "the mail needs SMTPUTF8, which the host does not offer")
    if envelope.body == "BINARYMIME":
        if not offered.binary:
            raise ObstacleError("5.6.3", Reason.EIGHT_BIT, "the mail needs BINARYMIME, which the host does not offer")
        return "BINARYMIME", smtputf8
    if request.content.eight_bit or not request.header.isascii():
        if not offered.eight_bit:
            raise ObstacleError("5.6.3", Reason.EIGHT_BIT, "the mail needs 8BITMIME, which the host does not offer")
        return "8BITMIME", smtputf8
    return None, smtputf8


def mail_command(
    request: DeliveryRequest,
    offered: Offered,
    size: int,
    body: Body | None,
    smtputf8: bool,
    now: Callable[[], float],
) -> bytes:
    """MAIL with every parameter that the host offers and the mail has.

    :param size: octets of header and content.
    :param now: gives seconds since the epoch.
    :raises ObstacleError: the host does not offer what the mail needs, or an address cannot be written.
    """
    envelope = request.envelope
    require_tls, by, priority = False, None, None
    is_store = request.transport == "lmtp"  # the mail has arrived there: there is nothing to pass on
    if envelope.require_tls and not (is_store and stays_here(request.next_hop)):
        require_tls = _require_tls(envelope, offered)
    if envelope.deliver_by and not is_store:
        by = _by(envelope, offered, now())
    if envelope.priority and offered.priorities:
        priority = envelope.priority
    dsn = offered.dsn
    try:
        return client.mail(
            envelope.reverse_path,
            size=size if offered.size is not None else None,
            body=body,
            smtputf8=smtputf8,
            ret=envelope.ret if dsn else None,
            envid=envelope.envid if dsn else "",
            require_tls=require_tls,
            by=by,
            priority=priority,
        )
    except ValueError as error:
        raise ObstacleError("5.1.7", Reason.SYNTAX, f"MAIL cannot be written: {error}") from None


def _require_tls(envelope: Envelope, offered: Offered) -> bool:
    """REQUIRETLS. A connection that may not say it has it not among what is offered.

    RFC 8689 section 5: a bounce is not thrown away because the way back offers less.
    """
    if not offered.require_tls and envelope.reverse_path is not None:
        raise ObstacleError(
            "5.7.30", Reason.REQUIRETLS, "the mail needs REQUIRETLS, which the host does not offer over verified TLS"
        )
    return offered.require_tls


def _by(envelope: Envelope, offered: Offered, now: float) -> By | None:
    """BY with the seconds that are left (RFC 2852 section 4).

    With R the next host must promise to keep the time, or the mail goes back to its sender; with N it goes on.
    """
    left = max(-BY_MAX, min(BY_MAX, floor(envelope.deliver_by - now)))
    if envelope.by_mode == "R":
        if left <= 0:
            raise ObstacleError("5.4.7", Reason.NOT_IN_TIME, "the time that the sender set (BY) is over")
        if offered.deliver_by is None:
            words = "the sender set a time (BY with R), and the host does not offer DELIVERBY to keep it"
            raise ObstacleError("5.4.7", Reason.NOT_IN_TIME, words)
        if left < offered.deliver_by:
            words = f"of the time that the sender set (BY) {left} s are left; the host needs {offered.deliver_by} s"
            raise ObstacleError("5.4.7", Reason.NOT_IN_TIME, words)
        return By(left, "R", envelope.by_trace)
    return None if offered.deliver_by is None else By(left, "N", envelope.by_trace)
