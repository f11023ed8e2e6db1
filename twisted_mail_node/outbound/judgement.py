"""Whether a TLS session is what the host's need asks for, and what that is called in the log and in reports."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from twisted_mail_node.interfaces import ITlsSession
from twisted_mail_node.outbound.dane import EXPIRED, INVALID, MISMATCH, UNTRUSTED, match
from twisted_mail_node.outbound.need import Need

#: No TLS was to be had at all (RFC 8460 section 4.3).
NO_STARTTLS = "starttls-not-supported"

_RESULTS = {"expired": EXPIRED, "mismatch": MISMATCH, "untrusted": UNTRUSTED, "": INVALID}


class Judgement(NamedTuple):
    """What TLS with a host came to.

    :ivar level: what was reached: ``""``, ``encrypted``, ``verified`` or ``dane``.
    :ivar words: for a person: ``verified by DANE (3 1 1)``, or what went wrong.
    :ivar problem: why the session is not what the need asks for, ``""``: it is.
    :ivar result: what it is under the domain's policy: ``""`` for success, else the result type of RFC 8460.
    :ivar detail: what a report says of a result, where that is not ``words``.
    """

    level: str
    words: str
    problem: str = ""
    result: str = ""
    detail: str = ""

    @property
    def verified(self) -> bool:
        """Whom we speak with is beyond doubt."""
        return self.level in ("verified", "dane")


def judge(need: Need, session: ITlsSession, host: str, now: datetime) -> Judgement:
    """Compare a session whose handshake is completed with the need of its host."""
    if need.tlsa is not None and need.tlsa.records:
        found = match(need.tlsa, session.chain, now)
        if not found.result:
            return Judgement("dane", f"verified by DANE ({found.words})")
        return Judgement("encrypted", f"not verified by DANE: {found.words}", found.words, found.result)
    verified, policy = session.verified, need.policy
    named = policy is not None and policy.allows(host)
    words = f"not verified: {session.why}"
    if verified:
        words = "verified (MTA-STS)" if named else "verified"
    level = "verified" if verified else "encrypted"
    problem = session.why if need.level == "verified" and not verified else ""
    if need.tlsa is not None:
        return Judgement(level, words, problem, "tlsa-invalid", "none of the TLSA records can be used")
    if policy is not None and not named:
        return Judgement(level, words, problem, INVALID, f"the policy does not name {host}")
    result = "" if policy is None or verified else _RESULTS.get(session.fault, INVALID)
    return Judgement(level, words, problem, result)
