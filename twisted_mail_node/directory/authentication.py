"""Finds out who a client is (RFC 4954): a portal of ``twisted.cred`` before the accounts of this node.

What a SASL exchange brought becomes credentials; a checker gives the account's address; the realm makes the submitter
of it, or refuses because the account is disabled. Passwords are compared in threads of their own, so that the
reactor's thread never waits for a hash.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.cred.error import LoginDenied, LoginFailed
from twisted.cred.portal import Portal
from twisted.logger import Logger
from zope.interface import implementer

from twisted_mail_node.directory.account_secrets import ITERATIONS, SALT_SIZE
from twisted_mail_node.directory.accounts import AccountFile, scram_hashes
from twisted_mail_node.directory.checkers import AccountChecker, CertificateChecker, ForeignChecker, InOrder
from twisted_mail_node.directory.credentials import ScramProof, credentials_of
from twisted_mail_node.directory.directory import Directory
from twisted_mail_node.directory.password_threads import PasswordThreads
from twisted_mail_node.directory.steady_salt import FILE_NAME as KEY_FILE
from twisted_mail_node.directory.steady_salt import Shape, SteadySalt
from twisted_mail_node.directory.submitter import AccountRealm
from twisted_mail_node.directory.tokens import TokenChecker
from twisted_mail_node.directory.upgrades import Upgrades
from twisted_mail_node.events import Publish
from twisted_mail_node.interfaces import IAuthentication, ISubmitter, ITlsSession
from twisted_mail_node.message.address import Address, domain_key, folded
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import Settings
from twisted_mail_node.smtp.grammar import parse_address
from twisted_mail_node.smtp.sasl import Login, LoginRefused, ScramLogin

#: The checker that compares with the accounts of this node.
ACCOUNTS = "accounts"
#: Accounts that are named when SCRAM cannot be offered for want of their keys.
NAMED_MAX = 10

_log = Logger()


@implementer(IAuthentication)
class Authentication:
    """See ``IAuthentication``.

    :param directory: who has an account; whoever reloads it, calls ``reload`` here afterwards.
    """

    def __init__(self, settings: Settings, directory: Directory, reactor: Any, publish: Publish) -> None:
        """May read the files that ``[oauth]`` names: blocks on the disk.

        :raises ValueError: a checker or a file that the settings name cannot be used; a sentence.
        """
        self._directory = directory
        self._reactor = reactor
        self._threads = PasswordThreads(reactor, settings.authentication.threads)
        self._steady = SteadySalt(settings.state_dir / KEY_FILE)
        self._told: set[str] = set()
        self.upgrades = Upgrades(AccountFile.of(settings), directory, self._threads, publish)
        self.reload(settings)

    def reload(self, settings: Settings) -> None:
        """Let these settings, and the accounts as the directory has them now, be in force.

        :raises ValueError: as above; everything stays as it was.
        """
        certificates = CertificateChecker(self._directory)
        checkers: list[Any] = [certificates]
        own = AccountChecker(self._directory, self._threads, self.upgrades.noticed)
        names = settings.authentication.checkers
        checkers.append(InOrder([own if one == ACCOUNTS else ForeignChecker(one, self._directory) for one in names]))
        portal = Portal(AccountRealm(self._directory, settings.submission), checkers)
        tokens = TokenChecker.of(settings, self._directory, self._threads, self._reactor)
        if tokens is not None:
            portal.registerChecker(tokens)
        if ACCOUNTS in names:
            portal.registerChecker(own, *own.credentialInterfaces[1:])
        self._settings, self._portal, self._certificates = settings, portal, certificates
        self.upgrades.file = AccountFile.of(settings)
        self._threads.resize(settings.authentication.threads)
        self._count()

    def stop(self) -> None:
        """The node stops: nobody signs in any more, and the threads end."""
        self._threads.stop()

    # ---- what is offered -------------------------------------------------------------------------------------

    def mechanisms(self, tls: ITlsSession) -> tuple[str, ...]:
        """As ``IAuthentication`` has it. Some microseconds; SCRAM comes and goes with the keys of the accounts."""
        if self._counted is not self._directory.state:
            self._count()
        binding = tls.channel_binding() is not None
        external = tls.verified and self._settings.tls.client_ca is not None and bool(self._certificates.accounts(tls))
        lacking = tuple(name for name in self._lacking if self._still_lacking(name))
        known = self._offers.get((binding, external, lacking))
        if known is None:
            offered = (name for name in self._settings.authentication.mechanisms
                       if self._possible(name, binding, external, lacking))  # fmt: skip
            known = self._offers[binding, external, lacking] = tuple(offered)
        return known

    def _possible(self, name: str, binding: bool, external: bool, lacking: tuple[str, ...]) -> bool:
        if name.startswith("SCRAM-"):
            if self._settings.authentication.checkers != (ACCOUNTS,) or (name.endswith("-PLUS") and not binding):
                return False
            return name.removeprefix("SCRAM-").removesuffix("-PLUS") not in lacking
        if name == "EXTERNAL":
            return external
        if name in ("OAUTHBEARER", "XOAUTH2"):
            return self._settings.oauth.jwks is not None or self._settings.oauth.introspection is not None
        return True

    def _count(self) -> None:
        """Which accounts have no keys for SCRAM. A client that sees SCRAM takes it, and does not fall back to PLAIN:
        it is offered only when everybody can use it."""
        self._counted = self._directory.state
        self._offers: dict[tuple[bool, bool, tuple[str, ...]], tuple[str, ...]] = {}
        hashes = scram_hashes(self._settings)
        self._lacking: dict[str, dict[Address, None]] = {name: {} for name in hashes}
        shapes: list[Shape] = []
        for account in self._directory.accounts():
            secrets = self._directory.secrets(account)
            if secrets.salt:
                shapes.append(Shape(secrets.iterations, len(secrets.salt)))
            if account.disabled or not secrets.can_sign_in():
                continue
            for name in hashes:
                if secrets.lacks(name):
                    self._lacking[name][account.address] = None
        #: For names nobody has: what accounts have, each as often as they have it.
        self._shapes = sorted(shapes) or [Shape(ITERATIONS, SALT_SIZE)]
        for name in hashes:
            self._tell(name)

    def _still_lacking(self, hash_name: str) -> bool:
        """Looks at the accounts that had no keys until one is found that still has none."""
        lacking = self._lacking[hash_name]
        while lacking:
            address = next(iter(lacking))
            account = self._directory.account(address)
            if account is not None and self._directory.secrets(account).lacks(hash_name):
                return True
            del lacking[address]
        return False

    def _tell(self, hash_name: str) -> None:
        """Log once which accounts keep SCRAM from being offered."""
        lacking = self._lacking[hash_name]
        if not lacking or hash_name in self._told or self._settings.authentication.checkers != (ACCOUNTS,):
            return
        self._told.add(hash_name)
        named = ", ".join(str(address) for address in list(lacking)[:NAMED_MAX])
        more = f" and {len(lacking) - NAMED_MAX} more" if len(lacking) > NAMED_MAX else ""
        _log.info("SCRAM-{hash_name} is not offered: its keys are made when these have signed in once with PLAIN, or "
                  "got a new password: {accounts}", hash_name=hash_name, accounts=named + more)  # fmt: skip

    # ---- who it is -------------------------------------------------------------------------------------------

    def scram(self, name: str, hash_name: str) -> tuple[bytes, int]:
        """As ``IAuthentication`` has it."""
        account = self._directory.signing_in(name)
        secrets = self._directory.secrets(account)
        if secrets.all_keys(hash_name):
            return secrets.salt, secrets.iterations
        return self._steady.of(self._one_spelling(name), self._shapes)

    def _one_spelling(self, name: str) -> str:
        """Names that would be one account have one salt, as they would if there was the account."""
        try:
            address = parse_address(name) if "@" in name else Address(name, self._directory.first_domain())
            return f"{folded(address.local_part)}@{domain_key(address.domain)}"
        except ValueError:
            return name  # no account has such a name, however it is written

    async def login(self, login: Login) -> ISubmitter:
        """As ``IAuthentication`` has it.

        :raises BusyError: too many sign in at this moment.
        """
        credentials = credentials_of(login)
        try:
            _, avatar, _ = await self._portal.login(credentials, None, ISubmitter)
        except LoginDenied:
            raise LoginRefused(Reason.ACCOUNT_DISABLED, login.name) from None
        except LoginFailed:
            raise LoginRefused(Reason.WRONG_PASSWORD, login.name) from None
        if isinstance(login, ScramLogin) and isinstance(credentials, ScramProof):
            login.signed.extend(credentials.signed)
        return cast("ISubmitter", avatar)
