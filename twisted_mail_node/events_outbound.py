"""Events of the way out beside those of single mails: what holds for addresses, domains and the queue as a whole."""

from __future__ import annotations

from typing import NamedTuple


class RecipientExpanded(NamedTuple):
    """The recipient is an alias of several addresses that the mail went on to; its sender asked to be told so."""

    queue_id: str
    recipient: str
    reason: str


class WorkStuck(NamedTuple):
    """Something in the queue has waited longer than its deadline allows: a defect of ours, or a disk that hangs. It is
    ended where that can be done."""

    queue_id: str
    destination: str
    stage: str
    seconds: float


class AddressSuppressed(NamedTuple):
    """An address is not tried any more: its mail bounced again and again, or an operator wants that."""

    address: str
    failures: int
    until: float
    words: str


class AddressAllowed(NamedTuple):
    """A suppressed address is tried again: its time is over, or an operator wants that."""

    address: str
    words: str


class PolicyFetched(NamedTuple):
    """A domain's MTA-STS policy was read (RFC 8461)."""

    domain: str
    mode: str
    exchangers: tuple[str, ...]
    seconds: float


class PolicyNotFetched(NamedTuple):
    """A domain announces an MTA-STS policy, and it could not be read; one that is known stays in force."""

    domain: str
    words: str


class TlsReportSent(NamedTuple):
    """A domain was told what came of TLS with it (RFC 8460)."""

    domain: str
    to: str
    successes: int
    failures: int


class TlsReportFailed(NamedTuple):
    """A domain could not be told what came of TLS with it."""

    domain: str
    to: str
    words: str
