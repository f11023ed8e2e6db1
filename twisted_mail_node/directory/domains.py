"""The local domains: which there are, which is the first, and where their Maildirs lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from twisted_mail_node.directory.names import file_name
from twisted_mail_node.message.address import Address, domain_key
from twisted_mail_node.settings import Domain


class LocalDomain(NamedTuple):
    """A domain of ours.

    :ivar key: its look-up spelling.
    """

    key: str
    settings: Domain


class Domains:
    """The local domains of the settings.

    Without any, the host name is one: RFC 5321 section 4.5.1 wants a postmaster wherever mail is taken or relayed.
    """

    def __init__(self, domains: Sequence[Domain], hostname: str, state_dir: Path) -> None:
        """:raises ValueError: a name is no domain name, or is there twice."""
        self._state_dir = state_dir
        self._by_key: dict[str, LocalDomain] = {}
        for domain in domains or (Domain(name=hostname),):
            key = domain_key(domain.name)
            if key in self._by_key:
                raise ValueError(f"the domain {domain.name} is there twice")
            self._by_key[key] = LocalDomain(key, domain)
        #: Whose postmaster the bare ``<postmaster>`` means.
        self.main = self._by_key.get(domain_key(hostname)) or next(iter(self._by_key.values()))

    def __iter__(self) -> Iterator[LocalDomain]:
        return iter(self._by_key.values())

    def find(self, domain: str) -> LocalDomain | None:
        """The local domain of this name, in any spelling. The empty name is that of ``<postmaster>``."""
        found = self._by_key.get(domain)
        if found is not None:
            return found
        if not domain:
            return self.main
        try:
            return self._by_key.get(domain_key(domain))
        except ValueError:
            return None

    def maildir_path(self, address: Address) -> Path:
        """The Maildir of a mailbox. No address leads out of the directory its domain's template names.

        :raises ValueError: the domain is not local.
        """
        domain = self.find(address.domain)
        if domain is None:
            raise ValueError(f"{address.domain!r} is not a local domain")
        names = {"domain": file_name(domain.key), "local_part": file_name(address.local_part)}
        return self._state_dir / domain.settings.maildir.format_map(names)
