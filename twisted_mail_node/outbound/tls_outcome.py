"""What TLS with one host came to, in the words of RFC 8460: one for each session, for the reports to its domain."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class TlsOutcome(NamedTuple):
    """One session.

    :ivar domain: the domain whose mail exchanger it was with.
    :ivar policy_type: ``tlsa``, ``sts`` or ``no-policy-found``.
    :ivar policy: the policy's lines as RFC 8460 section 4.4 shows them.
    :ivar exchangers: host patterns of an MTA-STS policy.
    :ivar exchanger: name of the mail exchanger.
    :ivar sending_ip: ours; ``""`` when there was no connection.
    :ivar receiving_ip: the host's.
    :ivar result: ``""`` for success, else the result type (RFC 8460 section 4.3).
    :ivar words: what went wrong, for a person.
    """

    domain: str
    policy_type: str
    policy: tuple[str, ...]
    exchangers: tuple[str, ...]
    exchanger: str
    sending_ip: str
    receiving_ip: str
    result: str
    words: str


class Notes(Protocol):
    """Who counts outcomes."""

    def note(self, outcome: TlsOutcome) -> None:
        """Count one."""
