"""At a sign-in the password itself is at hand: what is kept of it is made anew where it is weak or incomplete.

A hash of an older system becomes argon2id; keys for SCRAM are made where there are none. The sign-in does not wait for
it. Those that come while one is written are written together, so that many people who sign in for the first time
after a move do not have the file written once for each. Whatever fails is logged and tried at the next sign-in.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from twisted_mail_node.directory.account_secrets import AppPassword, Secrets
from twisted_mail_node.directory.accounts import AccountFile
from twisted_mail_node.directory.directory import Directory
from twisted_mail_node.directory.password_threads import PasswordThreads
from twisted_mail_node.directory.passwords import hash_password, needs_upgrade
from twisted_mail_node.events import PasswordUpgraded, Publish
from twisted_mail_node.message.address import Address
from twisted_mail_node.settings import Account

#: Upgrades that wait. Those of others are made at their next sign-in.
WAITING_MAX = 500

_log = Logger()


@dataclass(frozen=True, slots=True)
class _Wanted:
    account: Account
    seen: Secrets
    text: str = field(repr=False)
    fitting: AppPassword | bool = True


class _Made(NamedTuple):
    wanted: _Wanted
    secrets: Secrets
    words: str


class Upgrades:
    """Makes and writes them, one batch at a time.

    :ivar file: where they are written, and for which hashes keys are made; may be exchanged.
    """

    def __init__(self, file: AccountFile, directory: Directory, threads: PasswordThreads, publish: Publish) -> None:
        self.file = file
        self._directory = directory
        self._threads = threads
        self._publish = publish
        self._waiting: dict[Address, _Wanted] = {}
        self._under_way: frozenset[Address] = frozenset()
        self._running = False
        #: Fires when all that waited is written; for whoever wants to see the end.
        self.done: Deferred[None] = succeed(None)

    def noticed(self, account: Account, seen: Secrets, text: str, fitting: AppPassword | bool) -> None:
        """A password was right. Costs nothing when there is nothing to make."""
        address = account.address
        if not seen.wants_upgrade(fitting, self.file.hashes) or len(self._waiting) >= WAITING_MAX:
            return
        if address in self._under_way or self._directory.secrets(account) is not seen:
            return  # it is being made, or was while this password was compared
        self._waiting.setdefault(address, _Wanted(account, seen, text, fitting))
        if not self._running:
            self._running = True
            self.done = Deferred.fromCoroutine(self._work())

    async def _work(self) -> None:
        try:
            while self._waiting:
                batch = list(self._waiting.values())
                self._waiting.clear()
                self._under_way = frozenset(one.account.address for one in batch)
                made, kept = await self._threads.run(self._make, batch)
                self._take_over(made, kept)
        except Exception:
            _log.failure("passwords could not be upgraded; the next sign-in tries it again")
        finally:
            self._waiting.clear()
            self._under_way = frozenset()
            self._running = False

    def _make(self, batch: list[_Wanted]) -> tuple[list[_Made], dict[Address, Secrets]]:
        """In a thread."""
        made = [one for one in (_made(wanted, self.file.hashes) for wanted in batch) if one is not None]
        changes = [
            # An account of the settings has the digest of what stands there.
            (one.wanted.account.address, one.wanted.account if one.wanted.seen.digest else None,
             one.wanted.seen, one.secrets)
            for one in made
        ]  # fmt: skip
        return made, self.file.upgrade(changes) if changes else {}

    def _take_over(self, made: list[_Made], kept: dict[Address, Secrets]) -> None:
        for wanted, secrets, words in made:
            address = wanted.account.address
            now = kept.get(address)
            if now is not None and self._directory.keep_secrets(address, wanted.seen, now) and now is secrets:
                self._publish(PasswordUpgraded(str(address), words))


def _made(wanted: _Wanted, hashes: Collection[str]) -> _Made | None:
    """The stronger secrets, and the words that say what is new; ``None`` when nothing can be made."""
    secrets, words = wanted.seen, []
    try:
        salted = secrets.with_salt()
        if isinstance(wanted.fitting, AppPassword):
            keys = salted.derive(wanted.text, [name for name in hashes if name not in wanted.fitting.keys])
            fresh = replace(wanted.fitting, keys={**wanted.fitting.keys, **keys})
            apps = tuple(fresh if one == wanted.fitting else one for one in secrets.app_passwords)
            return _Made(wanted, replace(salted, app_passwords=apps), f"keys for {_scram(keys)}")
        if secrets.password is not None and needs_upgrade(secrets.password):
            secrets = replace(secrets, password=hash_password(wanted.text))
            words.append("an argon2id hash")
        keys = salted.derive(wanted.text, [name for name in hashes if name not in secrets.keys])
        if keys:
            secrets = replace(secrets, salt=salted.salt, iterations=salted.iterations, keys={**secrets.keys, **keys})
            words.append(f"keys for {_scram(keys)}")
    except ValueError as error:
        # A password with characters that SCRAM cannot carry. The sentence does not hold them.
        _log.warn("the password of {address} stays as it is kept: {words}",
                  address=str(wanted.account.address), words=str(error))  # fmt: skip
        return None
    return _Made(wanted, secrets, " and ".join(words))


def _scram(keys: Collection[str]) -> str:
    return ", ".join(f"SCRAM-{name}" for name in sorted(keys))
