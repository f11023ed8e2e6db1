"""What another verifier (dkimpy) says of our signatures, at the time of a test."""

from __future__ import annotations

from collections.abc import Iterable
from unittest import mock

import dkim  # type: ignore[import-untyped]

from twisted_mail_node.message.header import border, count
from twisted_mail_node.signing.life import Key


def verified(mail: bytes, domain: str, keys: Iterable[Key], now: float) -> list[bool]:
    """Whether each signature of a mail is good, the topmost first."""
    records = {f"{key.selector}._domainkey.{domain}.".encode(): key.record.encode() for key in keys}
    said: list[bool] = []
    with mock.patch.object(dkim, "time", mock.Mock(time=lambda: now)):
        checker = dkim.DKIM(mail)
        for at in range(count(mail[: border(mail)], b"DKIM-Signature")):
            try:
                said.append(checker.verify(at, dnsfunc=lambda name, timeout=5: records.get(name)))
            except dkim.DKIMException:
                said.append(False)
    return said
