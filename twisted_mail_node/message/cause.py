"""Why a recipient was not reached: what stands behind a delivery status, its kind, and what can be done about it.

Pure. ``understand`` is asked for every status that is no success; the queue keeps the cause's code with the recipient,
and listings, DSNs, the history and the command line show the rest of it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from twisted_mail_node.message.status import Action, DeliveryStatus


class Kind(StrEnum):
    """What a cause is about."""

    ADDRESS = "address"  #: nobody has the address, or it moved
    MAILBOX = "mailbox"  #: the mailbox is full or takes no mail now
    REPUTATION = "reputation"  #: the host does not trust our address or domain
    RATE = "rate"  #: too much at once: the host wants it slower
    POLICY = "policy"  #: the host does not want this mail: its content, its authentication, its sender
    TLS = "tls"  #: no connection as protected as it must be
    DNS = "dns"  #: the DNS says no, or nothing
    PROTOCOL = "protocol"  #: the two hosts did not understand each other, or the mail needs what the host lacks
    NETWORK = "network"  #: no connection, or it broke
    HERE = "here"  #: something of this node: held, frozen, its disk, its settings

    def __str__(self) -> str:
        return str(self.value)


class Cause(NamedTuple):
    """What is known about a failure.

    :ivar code: its name, which never changes: ``gmail-rate-limited``, ``mailbox-full``.
    :ivar permanent: trying again will not help.
    :ivar title: a sentence that says what happened.
    :ivar advice: a sentence or two for the sender: what to do.
    :ivar operator: a sentence or two for the postmaster of this node: what to do.
    """

    code: str
    kind: Kind
    permanent: bool
    title: str
    advice: str
    operator: str


def understand(status: DeliveryStatus) -> Cause:
    """What stands behind a delivery status."""
    permanent = status.action is Action.FAILED
    return Cause(
        str(status.reason), Kind.PROTOCOL, permanent, status.reason.meaning, "Try again later.", status.reason.meaning
    )
