"""What a rule of ``[[route]]`` asks of a mail beside its recipient: its reverse-path, the account that signed in."""

from __future__ import annotations

from collections.abc import Iterable

from twisted_mail_node.message.address import domain_key
from twisted_mail_node.message.envelope import Envelope
from twisted_mail_node.settings import RouteRule


class _Patterns:
    """Addresses, and domains of which every address will do. Local-parts are compared in any case, as accounts are."""

    __slots__ = ("_addresses", "_domains", "given")

    def __init__(self, patterns: Iterable[str]) -> None:
        self.given = tuple(patterns)
        split = [_split(pattern) for pattern in self.given]
        self._domains = frozenset(domain for local, domain in split if local == "*")
        self._addresses = frozenset(one for one in split if one[0] != "*")

    def hold(self, text: str) -> bool:
        """Whether an address is among them."""
        try:
            local, domain = _split(text)
        except ValueError:
            return False
        return domain in self._domains or (local, domain) in self._addresses

    def __str__(self) -> str:
        return ", ".join(self.given)


class Condition:
    """The rule is only for mail like this.

    The null reverse-path is nobody's address: bounces go by rules without ``senders``.
    """

    __slots__ = ("_accounts", "_senders")

    def __init__(self, senders: Iterable[str], accounts: Iterable[str]) -> None:
        self._senders = _Patterns(senders)
        self._accounts = _Patterns(accounts)

    def met_by(self, envelope: Envelope) -> bool:
        """Whether a mail is like that."""
        return not self.why_not(envelope)

    def why_not(self, envelope: Envelope | None) -> str:
        """What a mail is not; ``""`` when it is all of it."""
        if self._senders.given:
            path = None if envelope is None else envelope.reverse_path
            if path is None or not self._senders.hold(str(path)):
                return f"senders ({self._senders}): not {'<>' if path is None else path}"
        if self._accounts.given:
            account = "" if envelope is None else envelope.account
            if not account or not self._accounts.hold(account):
                return f"accounts ({self._accounts}): not {account or 'mail that nobody signed in for'}"
        return ""

    def __str__(self) -> str:
        parts = (("senders", self._senders), ("accounts", self._accounts))
        return ", ".join(f"{name} ({patterns}) fit" for name, patterns in parts if patterns.given)


def condition_of(rule: RouteRule) -> Condition | None:
    """What the rule asks; ``None``: nothing but the domain."""
    return Condition(rule.senders, rule.accounts) if rule.senders or rule.accounts else None


def _split(text: str) -> tuple[str, str]:
    local, _, domain = text.rpartition("@")
    return local.lower(), domain_key(domain)
