"""The delivery status of one recipient after one attempt (RFC 3464 section 2.3)."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from twisted_mail_node.reasons import Reason


class Action(StrEnum):
    """RFC 3464 section 2.3.3."""

    DELIVERED = "delivered"
    RELAYED = "relayed"
    DELAYED = "delayed"
    FAILED = "failed"
    EXPANDED = "expanded"

    def __str__(self) -> str:
        return str(self.value)


class DeliveryStatus(NamedTuple):
    """What became of one recipient in one attempt.

    :ivar action: what happened; ``DELAYED`` is tried again, ``FAILED`` is final.
    :ivar status: enhanced status code (RFC 3463), such as ``5.1.1``.
    :ivar reason: our own reason code.
    :ivar words: a sentence for a person, or the remote host's exact words (``550 5.1.1 no such user``).
    :ivar remote_host: name of the host that spoke, ``""`` when none did.
    :ivar remote_address: its address and port, ``""`` when none did.
    :ivar from_remote: ``words`` are the remote host's own (they become ``Diagnostic-Code: smtp; …``).
    :ivar dsn_passed_on: the next hop offers DSN and took NOTIFY over: it will report success, and we send no
        ``relayed`` DSN (RFC 3461 section 5.2.2).
    :ivar tls: how the connection to the next hop was protected (``TLSv1.3 …, verified``), ``""``: in the clear.
    :ivar by_passed_on: the next hop offers Deliver By and was given what is left of the time: it sees to it from there
        on, and we send a ``relayed`` DSN only where the sender traces (RFC 2852 section 4.1.4).
    :ivar source: the address we connected from, where a ``[[source]]`` pool says which. For the log: not kept.
    """

    action: Action
    status: str
    reason: Reason
    words: str
    remote_host: str = ""
    remote_address: str = ""
    from_remote: bool = False
    dsn_passed_on: bool = False
    tls: str = ""
    by_passed_on: bool = False
    source: str = ""
