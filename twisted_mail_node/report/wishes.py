"""Which of a recipient's ends the sender is told of: NOTIFY (RFC 3461 section 4.1) and BY (RFC 2852)."""

from __future__ import annotations

from twisted_mail_node.message.envelope import Envelope
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.spool.mail import Entry


def tells_failure(entry: Entry, status: DeliveryStatus) -> bool:
    """RFC 3461 section 4.1: without NOTIFY failures are told."""
    notify = entry.recipient.notify
    return status.action is Action.FAILED and (not notify or "FAILURE" in notify)


def tells_success(entry: Entry, status: DeliveryStatus) -> bool:
    """Only where NOTIFY=SUCCESS asked for it. A mail that was relayed to a host with the DSN extension is reported by
    that host or those behind it (RFC 3461 section 5.2.2), by us only where NOTIFY ended with us."""
    if "SUCCESS" not in entry.recipient.notify:
        return False
    if status.action is Action.RELAYED:
        return not status.dsn_passed_on
    return status.action in (Action.DELIVERED, Action.EXPANDED)


def tells_relay(envelope: Envelope, entry: Entry, status: DeliveryStatus) -> bool:
    """RFC 2852 section 4.1.4: each relay is told of where the sender traces it, and without that, in mode ``N``, the
    relay to a host without Deliver By, which will not see to the time. NOTIFY=NEVER is obeyed."""
    if status.action is not Action.RELAYED or not envelope.by_mode or "NEVER" in entry.recipient.notify:
        return False
    return envelope.by_trace or (envelope.by_mode == "N" and not status.by_passed_on)


def tells_delay(envelope: Envelope, entry: Entry, status: DeliveryStatus) -> bool:
    """The queue says when. RFC 3461 section 4.1: without NOTIFY delays are told; where the sender set a time in mode
    ``N`` (RFC 2852 section 4.1) NOTIFY need not name DELAY."""
    notify = entry.recipient.notify
    if status.action is not Action.DELAYED or "NEVER" in notify:
        return False
    return not notify or "DELAY" in notify or envelope.by_mode == "N"
