"""The directory the rest of the node asks: what an address means, whether a domain is ours, where a mailbox lies,
what is kept of an account's passwords.

All answers come from one census and its secrets, made from the settings and ``state_dir/accounts.json``. ``reload``
makes the next ones and puts them in the old ones' place at once, so that no question ever sees half of a change.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from zope.interface import implementer

from twisted_mail_node.directory.account_form import name_of
from twisted_mail_node.directory.account_secrets import NOBODY, Secrets, of_settings
from twisted_mail_node.directory.accounts import AccountFile
from twisted_mail_node.directory.census import Census
from twisted_mail_node.directory.forwarding import Forwarding, srs_of
from twisted_mail_node.directory.resolution import Resolution
from twisted_mail_node.interfaces import IDirectory
from twisted_mail_node.message.address import Address
from twisted_mail_node.settings import Account, Settings


@implementer(IDirectory)
class Directory:
    """Who lives here.

    :ivar forwarding: the reverse-paths of mail that aliases lead elsewhere.
    """

    def __init__(self, settings: Settings, keys: tuple[bytes, ...] = (), now: Callable[[], float] = time.time) -> None:
        """Reads the account file: blocks on the disk.

        :param keys: those of SRS (``srs_keys``); without any nothing is rewritten, and nothing read.
        :param now: seconds since the epoch.

        :raises ValueError: the account file is damaged, or the settings contradict themselves.
        """
        self.forwarding = Forwarding(self.is_local, now)
        self.reload(settings, keys)

    def reload(self, settings: Settings, keys: tuple[bytes, ...] = ()) -> None:
        """Let these settings and the account file as it is now be in force. Blocks on the disk.

        :raises ValueError: as above; everything stays as it was.
        """
        census, secrets = self._taken(settings)
        srs = srs_of(settings.srs, keys, census.domains)
        self._census, self._secrets = census, secrets
        self.forwarding.reload(srs)

    @staticmethod
    def _taken(settings: Settings) -> tuple[Census, dict[Address, Secrets]]:
        kept = AccountFile.of(settings).read()
        secrets = {account.address: one for account, one in kept.accounts.values()}
        for account in settings.accounts:
            _, earlier = kept.of_settings.get(name_of(account.address), (None, None))
            secrets[account.address] = of_settings(account, earlier)
        return Census(settings, (account for account, _ in kept.accounts.values())), secrets

    async def resolve(self, address: Address) -> Resolution:
        """What the address means here. Never raises; takes about a microsecond when asked again."""
        census = self._census
        known = census.answers.get(address)
        if known is not None:
            return known
        returned = self.forwarding.resolve(address)
        if returned is None:
            return census.resolve(address)
        if returned.targets and self.is_local(returned.targets[0].domain):  # it was not when it was rewritten
            return census.resolve(returned.targets[0])._replace(returns=True)
        return returned

    def is_local(self, domain: str) -> bool:
        """True for a domain of ours, in any spelling, and for the empty one of the bare ``<postmaster>``."""
        return self._census.domains.find(domain) is not None

    def mailbox_exists(self, address: Address) -> bool:
        """True when mail may be put into the mailbox of this address."""
        return self._census.mailbox_exists(address)

    def maildir_path(self, address: Address) -> Path:
        """The Maildir of an address that ``resolve`` gave, in any case. None leads out of its domain's directory.

        :raises ValueError: the domain is not local.
        """
        return self._census.maildir_path(address)

    def quota(self, address: Address) -> int | None:
        """How many octets the mailbox may hold: what the account says, else its domain; ``None`` is no limit."""
        account = self._census.account(address)
        if account is not None and account.quota is not None:
            return account.quota
        domain = self._census.domains.find(address.domain)
        return domain.settings.quota if domain else None

    def account(self, address: Address) -> Account | None:
        """The account of an address, any case, no subaddress; ``None`` when there is none."""
        return self._census.account(address)

    def accounts(self) -> tuple[Account, ...]:
        """All accounts: those of the settings, then those of the account file."""
        return self._census.accounts

    # ---- who signs in ----------------------------------------------------------------------------------------

    @property
    def state(self) -> object:
        """Another object after each ``reload``: what was found out about the accounts holds while it is the same."""
        return self._census

    def signing_in(self, name: str) -> Account | None:
        """The account somebody means who signs in as ``name``: its address in any case, or a name in the first local
        domain."""
        return self._census.signing_in(name)

    def first_domain(self) -> str:
        """The domain of those who sign in with a bare name, in its look-up spelling."""
        return next(iter(self._census.domains)).key

    def owns(self, owner: Address, address: Address) -> bool:
        """Whether the account ``owner`` may write from ``address``. Not when it is gone, or disabled, meanwhile."""
        account = self._census.account(owner)
        return account is not None and not account.disabled and self._census.owns(account, address)

    def secrets(self, account: Account | None) -> Secrets:
        """What is kept of an account's passwords; for nobody there are none."""
        return NOBODY if account is None else self._secrets.get(account.address, NOBODY)

    def keep_secrets(self, address: Address, seen: Secrets, now: Secrets) -> bool:
        """Take over what a sign-in made of ``seen``; not when others came meanwhile with a reload."""
        if self._secrets.get(address) is not seen:
            return False
        self._secrets[address] = now
        return True

    def problems(self) -> list[str]:
        """Sentences about aliases and catch-alls that lead to nobody: nothing that stops the node."""
        return list(self._census.problems())
