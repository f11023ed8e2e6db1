"""What commands and sign-ins keep of accounts, in ``state_dir/accounts.json``.

It holds the accounts that commands added, and of those of the settings file what cannot stand there: application
passwords, and stronger hashes and keys made at a sign-in.

Every change reads the file, writes a new one beside it, syncs it and renames it into place: at every instant the
file is the old or the new one, whole. A lock file keeps two commands from losing each other's change. Everything here
blocks: commands call it directly, the node in a thread or at its start.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted_mail_node.directory.account_form import FormError, Kept, name_of, understood, written
from twisted_mail_node.directory.account_secrets import (
    APP_PASSWORDS_MAX,
    AppPassword,
    Secrets,
    digest_of,
    of_settings,
)
from twisted_mail_node.directory.app_passwords import hash_app_password, new_app_password
from twisted_mail_node.directory.passwords import hash_password
from twisted_mail_node.message.address import Address
from twisted_mail_node.settings import Account, Settings
from twisted_mail_node.spool.database import sync_directory

#: Below ``state_dir``.
FILE_NAME = "accounts.json"
#: Some 150 000 accounts. A file that grew beyond is not read into memory.
FILE_MAX = 128 << 20
#: Characters of the name of an application password.
APP_NAME_MAX = 60
#: The hashes of SCRAM that keys are made for, where the settings do not ask for others.
HASHES = ("SHA-256",)


class AccountFileError(ValueError):
    """The file is damaged, unreadable or of a newer form, or the change asked for is not possible."""


def scram_hashes(settings: Settings) -> tuple[str, ...]:
    """The hashes that keys are made for: those of the SCRAM mechanisms in the settings."""
    names = {name.removesuffix("-PLUS") for name in settings.authentication.mechanisms}
    return tuple(sorted(name.removeprefix("SCRAM-") for name in names if name.startswith("SCRAM-")))


class AccountFile:
    """The accounts in one file.

    :param hashes: keys for SCRAM are made for these: ``SHA-256``, ``SHA-1``.
    """

    def __init__(self, path: Path, hashes: Collection[str] = HASHES) -> None:
        self.path = path
        self.hashes = hashes

    @classmethod
    def of(cls, settings: Settings) -> AccountFile:
        """The file of a node."""
        return cls(settings.state_dir / FILE_NAME, scram_hashes(settings))

    def read(self) -> Kept:
        """Everything; nothing when there is no file.

        :raises AccountFileError: the file cannot be read or understood.
        """
        try:
            with open(self.path, "rb") as file:
                octets = file.read(FILE_MAX + 1)
        except FileNotFoundError:
            return Kept()
        except OSError as error:
            raise AccountFileError(f"{self.path} cannot be read: {error.strerror}") from error
        if len(octets) > FILE_MAX:
            raise AccountFileError(f"{self.path} is larger than {FILE_MAX >> 20} MiB")
        try:
            return understood(octets)
        except FormError as error:
            raise AccountFileError(f"{self.path} {error}") from None

    def list(self) -> tuple[Account, ...]:
        """The accounts that commands added, in that order.

        :raises AccountFileError: the file cannot be read or understood.
        """
        return tuple(account for account, _ in self.read().accounts.values())

    def add(self, address: Address, password: str | None = None, quota: int | None = None) -> Account:
        """A new account.

        :param password: the password itself; only its hash and its keys are kept. Without one the account only
            receives.
        :param quota: octets.
        :raises AccountFileError: the address has an account in the file, or the file cannot be changed.
        :raises ValueError: a password nobody can use, see ``hash_password``.
        """
        secrets = self._with_password(Secrets(), password)
        account = Account(address=address, password=secrets.password, quota=quota)

        def changed(kept: Kept) -> None:
            if kept.accounts.setdefault(name_of(address), (account, secrets))[0] is not account:
                raise AccountFileError(f"{address} has an account already")
            kept.of_settings.pop(name_of(address), None)

        self._change(changed)
        return account

    def remove(self, address: Address) -> None:
        """Take an account out, or what is kept of one that stands or stood in the settings; its mailbox stays.

        :raises AccountFileError: nobody in the file has the address, or the file cannot be changed.
        """

        def changed(kept: Kept) -> None:
            if kept.of_settings.pop(name_of(address), None) is None or name_of(address) in kept.accounts:
                self._existing(kept, address)
                del kept.accounts[name_of(address)]

        self._change(changed)

    def set_password(self, address: Address, password: str | None) -> None:
        """Another password; ``None``: none any more. Application passwords stay.

        :raises AccountFileError: nobody in the file has the address, or the file cannot be changed.
        :raises ValueError: a password nobody can use, see ``hash_password``.
        """
        # The salt is that of the application passwords, so the keys wait until the file was read.
        hashed = None if password is None else hash_password(password)

        def changed(kept: Kept) -> None:
            account, secrets = self._existing(kept, address)
            secrets = self._with_password(secrets, password, hashed)
            kept.accounts[name_of(address)] = account.model_copy(update={"password": secrets.password}), secrets

        self._change(changed)

    def set(self, address: Address, **values: Any) -> None:
        """Change what an account says: ``disabled``, ``sends_as``, ``mails_per_hour``, ``quota``.

        :raises AccountFileError: nobody in the file has the address, or the file cannot be changed.
        """

        def changed(kept: Kept) -> None:
            account, secrets = self._existing(kept, address)
            kept.accounts[name_of(address)] = account.model_copy(update=values), secrets

        self._change(changed)

    # ---- application passwords -------------------------------------------------------------------------------

    def add_app_password(self, address: Address, name: str, created: int, standing: Account | None = None) -> str:
        """Make one, and give it: it is not kept and cannot be shown again.

        :param created: seconds since the epoch.
        :param standing: the account, when it stands in the settings file.
        :raises AccountFileError: no such account, or it has one of this name or too many, or the file cannot be
            changed.
        """
        if not name.isprintable() or not 1 <= len(name) <= APP_NAME_MAX:
            raise AccountFileError(f"the name of an application password has 1 to {APP_NAME_MAX} characters in a line")
        password = new_app_password()

        def changed(secrets: Secrets) -> Secrets:
            if any(one.name == name for one in secrets.app_passwords):
                raise AccountFileError(f"{address} has an application password called {name!r} already")
            if len(secrets.app_passwords) >= APP_PASSWORDS_MAX:
                raise AccountFileError(f"{address} has {APP_PASSWORDS_MAX} application passwords; remove one first")
            salted = secrets.with_salt()
            fresh = AppPassword(name, hash_app_password(password), created, salted.derive(password, self.hashes))
            return replace(salted, app_passwords=(*salted.app_passwords, fresh))

        self._change(lambda kept: self._with_secrets(kept, address, standing, changed))
        return password

    def remove_app_password(self, address: Address, name: str, standing: Account | None = None) -> None:
        """Take one back: it fits no more.

        :raises AccountFileError: there is none of this name, or the file cannot be changed.
        """

        def changed(secrets: Secrets) -> Secrets:
            rest = tuple(one for one in secrets.app_passwords if one.name != name)
            if len(rest) == len(secrets.app_passwords):
                raise AccountFileError(f"{address} has no application password called {name!r}")
            return replace(secrets, app_passwords=rest)

        self._change(lambda kept: self._with_secrets(kept, address, standing, changed))

    # ---- sign-ins --------------------------------------------------------------------------------------------

    def upgrade(self, upgrades: Sequence[tuple[Address, Account | None, Secrets, Secrets]]) -> dict[Address, Secrets]:
        """Keep what sign-ins made, of several accounts at once; gives what is kept of each then.

        One whose secrets are no longer those that were seen is left alone: somebody has changed them meanwhile.

        :param upgrades: address, the account if it stands in the settings file, secrets as seen, secrets to keep.
        :raises AccountFileError: the file cannot be changed.
        """
        found: dict[Address, Secrets] = {}

        def changed(kept: Kept) -> None:
            for address, standing, seen, wanted in upgrades:
                try:
                    self._with_secrets(
                        kept, address, standing,
                        lambda now, seen=seen, wanted=wanted, address=address:  # type: ignore[misc]
                        found.setdefault(address, wanted if now == seen else now),
                    )  # fmt: skip
                except AccountFileError:
                    continue  # removed since

        self._change(changed)
        return found

    # ---- the file --------------------------------------------------------------------------------------------

    def _with_password(self, secrets: Secrets, password: str | None, hashed: str | None = None) -> Secrets:
        if password is None:
            return replace(secrets, password=None, keys={})
        salted = secrets.with_salt()
        hashed = hashed or hash_password(password)
        return replace(salted, password=hashed, keys=salted.derive(password, self.hashes))

    def _existing(self, kept: Kept, address: Address) -> tuple[Account, Secrets]:
        try:
            return kept.accounts[name_of(address)]
        except KeyError:
            raise AccountFileError(f"{address} has no account in {self.path}") from None

    def _with_secrets(
        self, kept: Kept, address: Address, standing: Account | None, changed: Callable[[Secrets], Secrets]
    ) -> None:
        """Change the secrets of an account of this file, or of one of the settings file."""
        name = name_of(address)
        if standing is None:
            account, secrets = self._existing(kept, address)
            secrets = changed(secrets)
            kept.accounts[name] = account.model_copy(update={"password": secrets.password}), secrets
        else:
            before = kept.of_settings.get(name)
            secrets = changed(of_settings(standing, before[1] if before else None))
            kept.of_settings[name] = address, replace(secrets, digest=digest_of(standing))

    def _change(self, changed: Callable[[Kept], None]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._locked():
                kept = self.read()
                changed(kept)
                self._write(written(kept))
        except OSError as error:
            raise AccountFileError(f"{self.path} cannot be written: {error.strerror}") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            self._give_to_owner(lock)
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _write(self, octets: bytes) -> None:
        fresh = f"{self.path}.new"
        # The lock is ours, so a file of this name was left by a command that died.
        with _missing_is_fine():
            os.unlink(fresh)
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            self._give_to_owner(fd)
            file.write(octets)
            file.flush()
            os.fsync(fd)
        os.replace(fresh, self.path)
        sync_directory(self.path.parent)

    def _give_to_owner(self, fd: int) -> None:
        """When root runs the command, the file is still for the node's user: that of the directory."""
        if os.geteuid() == 0:
            owner = os.stat(self.path.parent)
            os.fchown(fd, owner.st_uid, owner.st_gid)


@contextmanager
def _missing_is_fine() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        pass
