"""Events of signing: what becomes of the keys that sign mail of local domains, and mail that could not be signed."""

from __future__ import annotations

from typing import NamedTuple


class DkimKeyCreated(NamedTuple):
    """A domain has a new key; its record is to be published, as ``words`` say, and seen before it signs."""

    domain: str
    selector: str
    algorithm: str
    words: str


class DkimKeyWaiting(NamedTuple):
    """The record of a new key is not shown by all name servers of its zone, and has not been for long; or it could
    not be published. Said again once a day."""

    domain: str
    selector: str
    seconds: float
    words: str


class DkimKeyActivated(NamedTuple):
    """A key signs from now on: all name servers show its record, or an operator said so."""

    domain: str
    selector: str
    algorithm: str
    words: str


class DkimKeyRetired(NamedTuple):
    """A key is gone: it signs no more, and its private part is deleted; ``words`` say what becomes of its record."""

    domain: str
    selector: str
    words: str


class MailNotSigned(NamedTuple):
    """A mail of a domain that has keys went on without a signature, because signing failed."""

    queue_id: str
    domain: str
    words: str


#: All of them.
SigningEvent = DkimKeyCreated | DkimKeyWaiting | DkimKeyActivated | DkimKeyRetired | MailNotSigned
