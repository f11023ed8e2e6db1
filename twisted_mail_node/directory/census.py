"""Who lives here at one moment: settings and account file together, never changed once made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from twisted_mail_node.directory.aliases import Step, expand
from twisted_mail_node.directory.domains import Domains, LocalDomain
from twisted_mail_node.directory.names import ByAddress
from twisted_mail_node.directory.resolution import Resolution
from twisted_mail_node.message.address import Address, domain_key, folded
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import Account, Settings
from twisted_mail_node.smtp.grammar import parse_address

#: Answers kept, some 300 octets each. Only addresses somebody has are kept: guesses push nothing out.
CACHE_MAX = 10_000

_UNKNOWN = Resolution(True, (), False, Reason.UNKNOWN_RECIPIENT)
_LOOP = Resolution(True, (), False, Reason.ALIAS_LOOP)
# RFC 5321 section 4.5.1 for postmaster, RFC 2142 section 2 for abuse: there is always someone who reads it.
_ALWAYS_THERE = frozenset({"postmaster", "abuse"})


class Resident(NamedTuple):
    """What one address of ours is: an account, an alias, or both (forwards and keeps a copy)."""

    name: tuple[str, str]
    account: Account | None
    leads_to: tuple[Address, ...] = ()


class Census:
    """Everybody at one moment.

    :ivar accounts: settings first, then the account file's; those in a domain that is no longer local are left out,
        and of two for one address the settings' counts.
    :ivar answers: resolutions by address, to be looked at before ``resolve`` is called.
    """

    def __init__(self, settings: Settings, from_file: Iterable[Account] = ()) -> None:
        """:raises ValueError: a domain is there twice."""
        self.domains = Domains(settings.domains, settings.hostname, settings.state_dir)
        self.answers: dict[Address, Resolution] = {}
        self._paths: dict[Address, Path] = {}
        self._aliases = [alias for alias in settings.aliases if self.domains.find(alias.address.domain)]
        accounts: dict[tuple[str, str], Account] = {}
        for account in (*settings.accounts, *from_file):
            if self.domains.find(account.address.domain):
                accounts.setdefault(_name(account.address), account)
        self.accounts = tuple(accounts.values())
        self._first: dict[str, Address] = {}
        self._residents: ByAddress[Resident] = ByAddress()
        forwards = {_name(alias.address): alias.to for alias in self._aliases}
        for name, account in accounts.items():
            self._first.setdefault(name[0], account.address)
            self._residents.add(account.address, Resident(name, account, forwards.get(name, ())))
        for alias in self._aliases:
            name = _name(alias.address)
            if name not in accounts:
                self._residents.add(alias.address, Resident(name, None, forwards[name]))

    def resolve(self, address: Address) -> Resolution:
        """What an address means; remembered in ``answers`` if somebody has it."""
        domain = self.domains.find(address.domain)
        if domain is None:
            return Resolution(False, (address,))
        if address.domain:
            answer = self._answer(address, domain)
        elif folded(address.local_part) == "postmaster":
            answer = self._answer(Address(address.local_part, domain.settings.name), domain)
        else:
            return _UNKNOWN
        if answer.targets:
            if len(self.answers) >= CACHE_MAX:
                self.answers.clear()
            self.answers[address] = answer
        return answer

    def _answer(self, address: Address, domain: LocalDomain) -> Resolution:
        step = self.look(address)
        if step is not None and not step.leads_to and step.mailbox is not None:
            return Resolution(True, (step.mailbox,))
        expansion = expand(address, self.look)
        if expansion.targets:
            return Resolution(True, expansion.targets, True)
        if folded(self._without_subaddress(address.local_part, domain)) in _ALWAYS_THERE:
            return Resolution(True, (self._first.get(domain.key) or _postmaster(domain),), True)
        return _LOOP if expansion.looped else _UNKNOWN

    def look(self, address: Address) -> Step | None:
        """What one address means, one step far; ``None``: it is ours and nobody has it."""
        domain = self.domains.find(address.domain)
        if domain is None:
            return Step(_remote_name(address), address)
        local_part = address.local_part
        resident = self._residents.find(domain.key, local_part)
        if resident is None and (base := self._without_subaddress(local_part, domain)) != local_part:
            local_part = base
            resident = self._residents.find(domain.key, base)
        if resident is not None:
            account = resident.account
            return Step(resident.name, account.address if account else None, resident.leads_to)
        return self._look_nobody(local_part, domain)

    def _look_nobody(self, local_part: str, domain: LocalDomain) -> Step | None:
        """For an address without account and alias: the names that always exist, then the catch-all."""
        name = (domain.key, folded(local_part))
        if name[1] == "abuse":
            return Step(name, None, (_postmaster(domain),))
        catch_all = domain.settings.catch_all
        if catch_all is not None and (domain_key(catch_all.domain), folded(catch_all.local_part)) != name:
            return Step(name, None, (catch_all,))
        if name[1] == "postmaster":
            first = self._first.get(domain.key)
            return Step(name, None, (first,)) if first else Step(name, _postmaster(domain))
        return None

    @staticmethod
    def _without_subaddress(local_part: str, domain: LocalDomain) -> str:
        """``joe+shop`` → ``joe`` (RFC 5233), where the domain has a separator and something stands before it."""
        separator = domain.settings.subaddress_separator
        return (local_part.partition(separator)[0] or local_part) if separator else local_part

    def account(self, address: Address) -> Account | None:
        """The account of exactly this address, or of one that differs only in case."""
        domain = self.domains.find(address.domain)
        resident = self._residents.find(domain.key, address.local_part) if domain else None
        return resident.account if resident else None

    def signing_in(self, name: str) -> Account | None:
        """The account somebody means who signs in as ``name``: its address in any case, or a name in the first domain.

        No alias, no subaddress, no catch-all: these are names of mail, and nobody's to sign in with.
        """
        if "@" not in name:
            domain = next(iter(self.domains))
            resident = self._residents.find(domain.key, name)
            return resident.account if resident else None
        try:
            return self.account(parse_address(name))
        except ValueError:
            return None

    def owns(self, owner: Account, address: Address) -> bool:
        """Whether mail from ``address`` may come from the account: it is its own, or that of an alias that leads
        straight to it, with a subaddress or without; or the account was given it (``sends_as``)."""
        domain = self.domains.find(address.domain) if address.domain else None
        if domain is not None:
            resident = self._residents.find(domain.key, address.local_part) or self._residents.find(
                domain.key, self._without_subaddress(address.local_part, domain)
            )
            if resident is not None and resident.account is not None:
                # Somebody who forwards to others has not given them the address.
                if resident.name == _name(owner.address):
                    return True
            elif resident is not None and any(self.account(target) is owner for target in resident.leads_to):
                return True
        return any(_fits(pattern, address) for pattern in owner.sends_as)

    def mailbox_exists(self, address: Address) -> bool:
        """True for what ``resolve`` gives as a target of ours."""
        domain = self.domains.find(address.domain)
        if domain is None:
            return False
        return self.account(address) is not None or folded(address.local_part) == "postmaster"

    def maildir_path(self, address: Address) -> Path:
        """The Maildir of a mailbox; however the address is written, it is that of the account it means.

        :raises ValueError: the domain is not local.
        """
        path = self._paths.get(address)
        if path is None:
            account = self.account(address)
            if account is not None:
                owner = account.address
            elif folded(address.local_part) == "postmaster":
                owner = Address("postmaster", address.domain)
            else:
                owner = address
            if len(self._paths) >= CACHE_MAX:
                self._paths.clear()
            path = self._paths[address] = self.domains.maildir_path(owner)
        return path

    def problems(self) -> Iterator[str]:
        """Sentences about aliases and catch-alls that lead nowhere, or in a circle."""
        starts = [(f"the alias {alias.address}", alias.address) for alias in self._aliases]
        starts += [(f"the catch-all of {one.settings.name}", one.settings.catch_all)
                   for one in self.domains if one.settings.catch_all]  # fmt: skip
        for what, address in starts:
            expansion = expand(address, self.look)
            for missing in expansion.missing:
                yield f"{what} leads to {missing}, whom nobody has"
            if expansion.looped:
                yield f"{what} leads in a circle, or further than ten aliases or a thousand addresses"


def _fits(pattern: str, address: Address) -> bool:
    """Whether an address is the one a pattern of ``sends_as`` names, or in the domain it names."""
    local_part, _, domain = pattern.rpartition("@")
    try:
        if domain_key(domain) != domain_key(address.domain):
            return False
        return local_part == "*" or folded(parse_address(pattern).local_part) == folded(address.local_part)
    except ValueError:
        return False


def _postmaster(domain: LocalDomain) -> Address:
    return Address("postmaster", domain.settings.name)


def _name(address: Address) -> tuple[str, str]:
    return domain_key(address.domain), address.local_part


def _remote_name(address: Address) -> tuple[str, str]:
    try:
        return _name(address)
    except ValueError:
        return address.domain, address.local_part
