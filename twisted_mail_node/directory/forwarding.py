"""Forwarding that survives SPF: which reverse-paths are rewritten, and where mail to rewritten ones goes.

A mail that an alias leads to another host leaves this one with a reverse-path of somebody else, whose SPF record does
not name us (RFC 7208 D.2). So it leaves with an address of ours (``message.srs``). What bounces comes back to that
address, and goes on to whom it was written for; only bounces do: the address is nobody's to write to.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted_mail_node.directory.domains import Domains
from twisted_mail_node.directory.resolution import Resolution
from twisted_mail_node.message.address import Address, domain_key
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.message.srs import DAY, Srs, Wrong, is_srs
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import SrsSettings
from twisted_mail_node.smtp.grammar import parse_address

_PROBLEMS = {
    Wrong.FORGED: Resolution(True, (), False, Reason.SRS_FORGED),
    Wrong.EXPIRED: Resolution(True, (), False, Reason.SRS_EXPIRED),
}
#: An address of ours may lead to another of ours when somebody has two nodes or changed the domain, but not for ever.
_DEEPEST = 2


class Forwarding:
    """Rewrites, and reads what was rewritten.

    :param is_local: tells whether a domain is ours.
    :param now: seconds since the epoch.
    """

    def __init__(self, is_local: Callable[[str], bool], now: Callable[[], float]) -> None:
        self._is_local = is_local
        self._now = now
        self._srs: Srs | None = None

    def reload(self, srs: Srs | None) -> None:
        """Let these addresses be in force; ``None``: nothing is rewritten, and nothing read."""
        self._srs = srs

    def reverse_path(self, envelope: Envelope, recipient: Recipient) -> Address | None:
        """What the next hop of a recipient is told instead of the mail's reverse-path; ``None``: that itself.

        Rewritten is mail that an alias (or a catch-all) leads to another host, when its reverse-path is neither null
        nor ours. One that would become too long stays as it is: rather a mail that SPF may fail than an address
        that hosts may refuse (RFC 5321 section 4.5.3.1.1).
        """
        reverse_path, srs = envelope.reverse_path, self._srs
        if srs is None or reverse_path is None or recipient.address == recipient.original:
            return None
        if self._is_local(recipient.address.domain) or self._is_local(reverse_path.domain):
            return None
        if not self._is_local(recipient.original.domain):
            return None
        return srs.write(reverse_path, self._now())

    def resolve(self, address: Address) -> Resolution | None:
        """Where mail to a rewritten reverse-path goes; ``None`` when the address is none of these."""
        srs = self._srs
        if srs is None or not is_srs(address.local_part) or not _same(address.domain, srs.domain):
            return None
        for _ in range(_DEEPEST):
            target = srs.read(address, self._now())
            if isinstance(target, Wrong):
                return _PROBLEMS[target]
            address = target
            if not (is_srs(address.local_part) and _same(address.domain, srs.domain)):
                return _returned(address)
        return _PROBLEMS[Wrong.FORGED]


def srs_of(settings: SrsSettings, keys: tuple[bytes, ...], domains: Domains) -> Srs | None:
    """SRS as the settings want it.

    :raises ValueError: its domain is not local, or the lifetime is longer than SRS can tell.
    """
    if not settings.enabled or not keys:
        return None
    days = max(1, round(settings.lifetime / DAY))
    domain = next(iter(domains)) if settings.domain is None else domains.find(settings.domain)
    if domain is None:
        raise ValueError(f"srs.domain is {settings.domain}, which is not local: no bounce would come back")
    return Srs(keys, domain.key, days, settings.longest)


def _returned(address: Address) -> Resolution:
    """Only what may stand in RCPT: the keys may be shared with a program that signs anything."""
    try:
        return Resolution(True, (parse_address(str(address)),), True, returns=True)
    except ValueError:
        return _PROBLEMS[Wrong.FORGED]


def _same(domain: str, key: str) -> bool:
    try:
        return domain_key(domain) == key
    except ValueError:
        return False
