"""What the DNS said about a name, as values."""

from __future__ import annotations

from typing import NamedTuple

from twisted_mail_node.mailauth.resolving import NoAnswerError


class DNSError(NoAnswerError):
    """No usable answer: time-out, SERVFAIL, a malformed reply. Trying again later may help."""


class MX(NamedTuple):
    """A mail exchanger (RFC 5321 section 5.1). ``host`` is ``""`` for the root, which makes a null MX (RFC 7505)."""

    preference: int
    host: str


class TLSA(NamedTuple):
    """RFC 6698 section 2."""

    usage: int
    selector: int
    matching_type: int
    data: bytes


class SRV(NamedTuple):
    """RFC 2782. ``host`` is ``""`` for the root: the service is not to be had there."""

    priority: int
    weight: int
    port: int
    host: str


#: MX, TLSA and SRV as tuples; A, AAAA, CNAME, NS and PTR as text without a trailing dot; TXT as its strings joined.
Record = MX | TLSA | SRV | str | bytes


class Answer(NamedTuple):
    """The records of one question.

    :ivar records: in the order of the reply (TXT records are ``bytes``); empty when there are none.
    :ivar exists: False when the name itself does not exist (NXDOMAIN).
    :ivar authentic: a trusted resolver set AD (RFC 4035 section 3.2.3): every record on the way is signed.
    :ivar canonical: the name at the end of the CNAME chain, lower case, no trailing dot.
    :ivar ttl: seconds the answer may be kept.
    """

    records: tuple[Record, ...]
    exists: bool
    authentic: bool
    canonical: str
    ttl: int
