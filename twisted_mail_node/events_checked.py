"""The event of mail authentication: what was found out about who sent a mail."""

from __future__ import annotations

from typing import NamedTuple


class MailChecked(NamedTuple):
    """It was found out who sent a mail: ``author`` is the domain in From, ``iprev`` to ``arc`` are results (RFC 8601).
    ``action`` is what follows: ``note``, ``quarantine`` or ``refuse``; ``words`` say why."""

    session: str
    queue_id: str
    client: str
    author: str
    iprev: str
    helo_spf: str
    spf: str
    dkim: str
    dmarc: str
    arc: str
    action: str
    reason: str
    words: str
