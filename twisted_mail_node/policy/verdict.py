"""What a policy is asked and what it may answer. Values only: who decides does no I/O on the session."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from zope.interface import implementer

from twisted_mail_node.directory.resolution import Resolution
from twisted_mail_node.interfaces import IPolicy, ISubmitter, ITlsSession
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Recipient
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.reply import Reply

if TYPE_CHECKING:
    from twisted_mail_node.mailauth.outcome import Outcome


class Accept(NamedTuple):
    """Yes; no later policy is asked at this stage."""

    reason: Reason = Reason.ACCEPTED
    evidence: str = ""


class Refuse(NamedTuple):
    """No, with this reply (4yz or 5yz)."""

    reply: Reply
    reason: Reason = Reason.POLICY
    evidence: str = ""


class Discard(NamedTuple):
    """Say yes and throw the mail away."""

    reason: Reason = Reason.DISCARDED
    evidence: str = ""


class Hold(NamedTuple):
    """Accept the mail and keep it until an operator releases it."""

    reason: Reason = Reason.HELD
    evidence: str = ""


Verdict = Accept | Refuse | Discard | Hold


@dataclass(slots=True)
class Asked:
    """What is known about the session and the mail at the stage that is asked.

    :ivar client: the client's IP address as text.
    :ivar listener: kind of the listener.
    :ivar extended: the client said EHLO, not HELO.
    :ivar may_relay: the client's network is in ``relay_from``.
    :ivar recipients: those accepted so far.
    :ivar header: the header section of the content (content stage only), at most ``limits.header_size`` octets.
    :ivar tls: how the session is protected, ``None``: not at all.
    :ivar submitter: who signed in, ``None``: nobody.
    :ivar outcome: who sent it, as far as that was found out (content stage of ``mx`` listeners); ``None``: nobody
        looked.
    :ivar notes: a policy's own notes, kept for the session, by policy name.
    """

    session: str
    listener: str
    client: str
    may_relay: bool = False
    helo: str = ""
    extended: bool = False
    reverse_path: Address | None = None
    forward_path: Address | None = None
    resolution: Resolution | None = None
    recipients: list[Recipient] = field(default_factory=list)
    header: bytes = b""
    size: int = 0
    notes: dict[str, object] = field(default_factory=dict)
    tls: ITlsSession | None = None
    submitter: ISubmitter | None = None
    outcome: Outcome | None = None


@implementer(IPolicy)
class Policy:
    """A policy without an opinion; a real one overrides the stages it cares for."""

    name = "none"

    async def connect(self, asked: Asked) -> Verdict | None:
        return None

    async def helo(self, asked: Asked) -> Verdict | None:
        return None

    async def mail(self, asked: Asked) -> Verdict | None:
        return None

    async def rcpt(self, asked: Asked) -> Verdict | None:
        return None

    async def content(self, asked: Asked) -> Verdict | None:
        return None
