"""Who may send where: to a domain that is not ours send those who have signed in, and clients in ``relay_from``.

Loopback is no licence (attack T28): what runs on this machine is not thereby trusted. This policy stands before all
others and cannot be overruled by them.
"""

from __future__ import annotations

from twisted_mail_node.policy.verdict import Asked, Policy, Refuse, Verdict
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.reply import Reply

DENIED = Reply.make(
    550, "5.7.1", "Relaying denied: the domain is not ours and your network may not relay here", Reason.RELAY_DENIED
)
AUTH_REQUIRED = Reply.make(
    530,
    "5.7.0",
    "Authentication required: let your mail program sign in at this server with user name and password, under TLS",
    Reason.AUTH_REQUIRED,
)


class Relaying(Policy):
    """The relaying policy."""

    name = "relaying"

    async def mail(self, asked: Asked) -> Verdict | None:
        """A submission listener takes mail from its own people only (RFC 6409 section 4.3)."""
        if asked.listener == "submission" and asked.submitter is None and not asked.may_relay:
            return Refuse(AUTH_REQUIRED, Reason.AUTH_REQUIRED)
        return None

    async def rcpt(self, asked: Asked) -> Verdict | None:
        if asked.may_relay or asked.submitter is not None or (asked.resolution is not None and asked.resolution.local):
            return None
        return Refuse(DENIED, Reason.RELAY_DENIED)
