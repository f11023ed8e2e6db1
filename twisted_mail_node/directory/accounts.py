"""The accounts that commands keep, in ``state_dir/accounts.json``; those of the settings file are not in it.

Every change reads the file, writes a new one beside it, syncs it and renames it into place: at every instant the
file is the old or the new one, whole. A lock file keeps two commands from losing each other's change. Everything here
blocks: commands call it directly, the node in a thread or at its start.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from twisted_mail_node.directory.passwords import hash_password, verify
from twisted_mail_node.message.address import Address, domain_key
from twisted_mail_node.settings import Account

__all__ = ["FILE_NAME", "AccountFile", "AccountFileError", "hash_password", "verify"]

#: Below ``state_dir``.
FILE_NAME = "accounts.json"
#: The form of the file; another number means a newer node wrote it.
VERSION = 1
#: Some 500 000 accounts. A file that grew beyond is not read into memory.
FILE_MAX = 128 << 20

_KEYS = {"address", "password", "quota"}


class AccountFileError(ValueError):
    """The file is damaged, unreadable or of a newer form, or the change asked for is not possible."""


class AccountFile:
    """The accounts in one file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def list(self) -> tuple[Account, ...]:
        """All accounts, in the order they were added; none when there is no file.

        :raises AccountFileError: the file cannot be read or understood.
        """
        try:
            with open(self.path, "rb") as file:
                octets = file.read(FILE_MAX + 1)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise AccountFileError(f"{self.path} cannot be read: {error.strerror}") from error
        if len(octets) > FILE_MAX:
            raise AccountFileError(f"{self.path} is larger than {FILE_MAX >> 20} MiB")
        return self._understood(octets)

    def add(self, address: Address, password: str | None = None, quota: int | None = None) -> Account:
        """A new account.

        :param password: the password itself; only its hash is kept. Without one the account only receives.
        :param quota: octets.
        :raises AccountFileError: the address has an account in the file, or the file cannot be changed.
        :raises ValueError: a password nobody can use, see ``hash_password``.
        """
        account = Account(address=address, password=None if password is None else hash_password(password), quota=quota)

        def changed(accounts: dict[tuple[str, str], Account]) -> None:
            if accounts.setdefault(_name(address), account) is not account:
                raise AccountFileError(f"{address} has an account already")

        self._change(changed)
        return account

    def remove(self, address: Address) -> Account:
        """Take an account out; its mailbox stays. Gives what it was.

        :raises AccountFileError: nobody in the file has the address, or the file cannot be changed.
        """
        removed: list[Account] = []

        def changed(accounts: dict[tuple[str, str], Account]) -> None:
            removed.append(self._existing(accounts, address))
            del accounts[_name(address)]

        self._change(changed)
        return removed[0]

    def set_password(self, address: Address, password: str | None) -> None:
        """Another password; ``None``: the account only receives from now on.

        :raises AccountFileError: nobody in the file has the address, or the file cannot be changed.
        :raises ValueError: a password nobody can use, see ``hash_password``.
        """
        kept = None if password is None else hash_password(password)

        def changed(accounts: dict[tuple[str, str], Account]) -> None:
            old = self._existing(accounts, address)
            accounts[_name(address)] = old.model_copy(update={"password": kept})

        self._change(changed)

    def _existing(self, accounts: dict[tuple[str, str], Account], address: Address) -> Account:
        try:
            return accounts[_name(address)]
        except KeyError:
            raise AccountFileError(f"{address} has no account in {self.path}") from None

    def _understood(self, octets: bytes) -> tuple[Account, ...]:
        try:
            table = json.loads(octets)
            if not isinstance(table, dict) or table.get("version") != VERSION:
                raise AccountFileError(f"{self.path} is not an account file of version {VERSION}")
            entries = table["accounts"]
            if not isinstance(entries, list) or not all(
                isinstance(one, dict) and one.keys() <= _KEYS for one in entries
            ):
                raise AccountFileError(f"{self.path} is damaged: its accounts are not a list of addresses")
            accounts = tuple(Account.model_validate(one) for one in entries)
        except ValidationError as error:
            # Not the error's own words: they could show what stands where a hash should.
            loc = error.errors()[0]["loc"]
            raise AccountFileError(
                f"{self.path} is damaged: an account's {loc[0] if loc else 'entry'} is wrong"
            ) from None
        except AccountFileError:
            raise
        except (ValueError, KeyError, RecursionError):
            raise AccountFileError(f"{self.path} is damaged: it is not JSON as this node writes it") from None
        return accounts

    def _change(self, changed: Callable[[dict[tuple[str, str], Account]], None]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._locked():
                accounts = {_name(account.address): account for account in self.list()}
                changed(accounts)
                self._write(accounts.values())
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

    def _write(self, accounts: Collection[Account]) -> None:
        entries = [
            {"address": str(account.address), "password": account.password, "quota": account.quota}
            for account in accounts
        ]
        text = json.dumps({"version": VERSION, "accounts": entries}, indent=1, ensure_ascii=False) + "\n"
        fresh = f"{self.path}.new"
        # The lock is ours, so a file of this name was left by a command that died.
        with _missing_is_fine():
            os.unlink(fresh)
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            self._give_to_owner(fd)
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(fd)
        os.replace(fresh, self.path)
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

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


def _name(address: Address) -> tuple[str, str]:
    return domain_key(address.domain), address.local_part
