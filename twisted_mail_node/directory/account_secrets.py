"""What is kept of the passwords of one account: a hash, keys for SCRAM, application passwords.

SCRAM tells the client one salt and one iteration count before it knows which password will be used (RFC 5802
section 5.1). So all passwords of an account share them, and a proof is compared with the keys of each.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256

from twisted_mail_node.directory import app_passwords
from twisted_mail_node.directory.account_keys import Keys, parse_scram
from twisted_mail_node.directory.passwords import needs_upgrade, verify
from twisted_mail_node.settings import Account
from twisted_mail_node.smtp.scram import keys_of

#: Iterations of PBKDF2. RFC 7677 asks for 4096 and says more is better: the keys lie beside the argon2id hash, and who
#: steals the file takes whichever is weaker. The client computes it too, once a sign-in: some 30 ms, 0.3 s on a phone.
ITERATIONS = 100_000
SALT_SIZE = 16
#: More programs than anyone has; each is looked at in every sign-in.
APP_PASSWORDS_MAX = 50


@dataclass(frozen=True, slots=True)
class AppPassword:
    """An application password.

    :ivar name: what it is for, as its owner calls it.
    :ivar created: seconds since the epoch.
    :ivar keys: for SCRAM, under the account's salt.
    """

    name: str
    hash: str = field(repr=False)
    created: int = 0
    keys: Keys = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secrets of one account. Nothing of them shows in a repr.

    :ivar password: the hash of the main password.
    :ivar salt: of SCRAM, for all passwords; empty while there are no keys.
    :ivar iterations: likewise.
    :ivar keys: of the main password.
    :ivar digest: for an account of the settings file: of what stood there when ``password`` and ``keys`` were made.
    """

    password: str | None = field(default=None, repr=False)
    salt: bytes = field(default=b"", repr=False)
    iterations: int = 0
    keys: Keys = field(default_factory=dict, repr=False)
    app_passwords: tuple[AppPassword, ...] = ()
    digest: str = field(default="", repr=False)

    def can_sign_in(self) -> bool:
        """Whether there is any password."""
        return bool(self.password is not None or self.keys or self.app_passwords)

    def lacks(self, hash_name: str) -> bool:
        """Whether one of the passwords has no keys for SCRAM with this hash."""
        main = (self.password is not None or bool(self.keys)) and hash_name not in self.keys
        return main or any(hash_name not in one.keys for one in self.app_passwords)

    def all_keys(self, hash_name: str) -> list[tuple[bytes, bytes]]:
        """StoredKey and ServerKey of every password that has them."""
        found = [self.keys.get(hash_name), *(one.keys.get(hash_name) for one in self.app_passwords)]
        return [keys for keys in found if keys is not None]

    def fits(self, text: str) -> AppPassword | bool:
        """The application password that ``text`` is, or whether it is the main password. Blocks, see ``verify``."""
        if app_passwords.may_be_app_password(text):
            for one in self.app_passwords:
                if app_passwords.fits(one.hash, text):
                    return one
        return verify(self.password, text)

    def wants_upgrade(self, fitting: AppPassword | bool, hashes: Collection[str]) -> bool:
        """Whether something stronger, or keys, are to be made of the password that has just been right."""
        if isinstance(fitting, AppPassword):
            return any(name not in fitting.keys for name in hashes)
        old = self.password is not None and needs_upgrade(self.password)
        return old or any(name not in self.keys for name in hashes)

    def with_salt(self) -> Secrets:
        """The same, with a salt for keys to come."""
        return self if self.salt else replace(self, salt=os.urandom(SALT_SIZE), iterations=ITERATIONS)

    def derive(self, text: str, hashes: Collection[str]) -> Keys:
        """Keys of a password under this salt. Blocks for about 30 ms a hash.

        :raises ValueError: SCRAM cannot carry such a password.
        """
        return {name: keys_of(text, self.salt, self.iterations, name) for name in sorted(hashes)}


NOBODY = Secrets()


def digest_of(account: Account) -> str:
    """What is derived from an account of the settings holds as long as this stays the same."""
    return sha256(f"{account.password or ''}\n{account.scram or ''}".encode()).hexdigest()


def of_settings(account: Account, kept: Secrets | None) -> Secrets:
    """The secrets of an account of the settings file.

    :param kept: what was derived from it earlier, and its application passwords.
    """
    if account.scram is not None:
        salt, iterations, keys = parse_scram(account.scram)
    else:
        salt, iterations, keys = b"", 0, {}
    if kept is None:
        return Secrets(account.password, salt, iterations, keys, digest=digest_of(account))
    apps = kept.app_passwords
    if salt and (salt, iterations) != (kept.salt, kept.iterations):
        apps = tuple(replace(one, keys={}) for one in apps)
    elif not salt:
        salt, iterations = kept.salt, kept.iterations
    if kept.digest != digest_of(account):
        return Secrets(account.password, salt, iterations, keys, apps, digest_of(account))
    derived: Mapping[str, tuple[bytes, bytes]] = kept.keys if (salt, iterations) == (kept.salt, kept.iterations) else {}
    return Secrets(
        kept.password if account.password is not None and kept.password is not None else account.password,
        salt, iterations, {**derived, **keys}, apps, kept.digest,
    )  # fmt: skip
