"""Credentials checkers (``twisted.cred``) that find the account of a password, a SCRAM proof or a certificate.

``AccountChecker`` compares with what this node keeps. ``ForeignChecker`` asks any checker of Twisted's own, by name.
A checker gives the account's address; the realm says whether it may sign in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID
from twisted.cred import strcred
from twisted.cred.checkers import ICredentialsChecker, InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import ICredentials, IUsernamePassword, UsernamePassword
from twisted.cred.error import LoginFailed, UnauthorizedLogin, UnhandledCredentials
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from zope.interface import implementer

from twisted_mail_node.directory.account_secrets import AppPassword, Secrets
from twisted_mail_node.directory.credentials import IClientCertificate, IPassword, IScramProof
from twisted_mail_node.directory.directory import Directory
from twisted_mail_node.directory.password_threads import PasswordThreads
from twisted_mail_node.directory.submitter import avatar_id
from twisted_mail_node.settings import Account
from twisted_mail_node.smtp.scram import HASH_SIZES, server_signature

#: What a proof is compared with when there is no such user: no proof fits it.
_NO_KEYS = {name: (bytes(size), bytes(size)) for name, size in HASH_SIZES.items()}
#: Addresses of a certificate that are looked at.
NAMES_MAX = 20

_log = Logger()

#: Called after a right password: account, its secrets then, the password, which of the account's passwords it is.
Noticed = Callable[[Account, Secrets, str, "AppPassword | bool"], None]


@implementer(ICredentialsChecker)
class AccountChecker:
    """Compares with the accounts of this node.

    Whoever signs in costs the same: for a name nobody has, one without password, and a disabled account a hash of the
    same kind is computed. Hashes of older systems take their own time until a sign-in makes them anew; the session
    answers every wrong password after the same time anyway.

    :param noticed: told of each right password.
    """

    credentialInterfaces = (IPassword, IScramProof)

    def __init__(self, directory: Directory, threads: PasswordThreads, noticed: Noticed) -> None:
        self._directory = directory
        self._threads = threads
        self._noticed = noticed

    def requestAvatarId(self, credentials: ICredentials) -> Deferred[Any]:
        """The account's address.

        :raises UnauthorizedLogin: (as failure) nobody.
        :raises BusyError: (as failure) too many ask.
        """
        if IPassword.providedBy(credentials):
            return Deferred.fromCoroutine(self._password(credentials))
        return maybeDeferred(self._proof, credentials)

    async def _password(self, credentials: Any) -> bytes:
        account = self._directory.signing_in(credentials.name)
        secrets = self._directory.secrets(account)
        fitting = await self._threads.run(secrets.fits, credentials.password)
        if account is None or not fitting:
            raise UnauthorizedLogin("name or password is wrong")
        if not account.disabled:
            self._noticed(account, secrets, credentials.password, fitting)
        return avatar_id(account)

    def _proof(self, credentials: Any) -> bytes:
        account = self._directory.signing_in(credentials.name)
        name = credentials.hash_name
        keys = self._directory.secrets(account).all_keys(name)
        for stored, server in keys or [_NO_KEYS[name]]:
            signature = server_signature(stored, server, credentials.message, credentials.proof, name)
            if signature is not None and account is not None and keys:
                credentials.signed.append(signature)
                return avatar_id(account)
        raise UnauthorizedLogin("name or password is wrong")


class ForeignChecker:
    """Any checker of names and passwords that ``strcred`` knows, such as ``file:/etc/mailnode/passwd``.

    It is asked in the reactor's thread, as ``twisted.cred`` has it. It gets the name as it was typed, and when it does
    not know that, the name without the first local domain; what it calls the avatar must name an account here.
    """

    def __init__(self, text: str, directory: Directory) -> None:
        """:raises ValueError: there is no such checker, or it takes no names and passwords; a sentence."""
        self.kind = text.partition(":")[0]
        self._directory = directory
        try:
            self._checker: Any = strcred.makeChecker(text)
        except strcred.InvalidAuthType:
            raise ValueError(f"authentication.checkers: Twisted has no checker called {self.kind!r}") from None
        except (strcred.InvalidAuthArgumentString, OSError, ValueError):
            # Not its own words: an argument may be a password.
            raise ValueError(f"authentication.checkers: the argument of {self.kind!r} is wrong") from None
        if isinstance(self._checker, InMemoryUsernamePasswordDatabaseDontUse):
            # Twisted's plug-in keeps text there, and the checker compares it with octets: nobody would sign in.
            self._checker.users = {_octets(key): _octets(value) for key, value in self._checker.users.items()}
        if IUsernamePassword not in self._checker.credentialInterfaces:
            raise ValueError(f"authentication.checkers: {self.kind!r} does not check names and passwords")

    async def account(self, name: str, password: str) -> Account | None:
        """Whose name and password these are. :raises Exception: the checker broke."""
        for spelling in self._spellings(name) if password else ():
            credentials = UsernamePassword(_octets(spelling), _octets(password))
            try:
                found = await maybeDeferred(self._checker.requestAvatarId, credentials)
            except UnhandledCredentials:
                raise
            except LoginFailed:
                continue
            account = self._directory.signing_in(_text(found)) if found else None
            if account is None:
                _log.warn("{checker!r} knows {name!r}, but no account here has that name",
                          checker=self.kind, name=spelling)  # fmt: skip
            return account
        return None

    def _spellings(self, name: str) -> Iterator[str]:
        yield name
        local_part = name.rpartition("@")[0]
        if local_part and self._directory.signing_in(local_part) is self._directory.signing_in(name) is not None:
            yield local_part


@implementer(ICredentialsChecker)
class InOrder:
    """Asks several checkers for the account of a password; the first that knows it counts. One that breaks ends it:
    whether the password is right cannot be found out then."""

    credentialInterfaces = (IPassword,)

    def __init__(self, checkers: Sequence[AccountChecker | ForeignChecker]) -> None:
        self._checkers = checkers

    def requestAvatarId(self, credentials: ICredentials) -> Deferred[Any]:
        """As ``AccountChecker`` does."""
        return Deferred.fromCoroutine(self._ask(credentials))

    async def _ask(self, credentials: Any) -> bytes:
        for checker in self._checkers:
            if isinstance(checker, AccountChecker):
                try:
                    found: bytes = await checker.requestAvatarId(credentials)
                except UnauthorizedLogin:
                    continue
                return found
            account = await checker.account(credentials.name, credentials.password)
            if account is not None:
                return avatar_id(account)
        raise UnauthorizedLogin("name or password is wrong")


@implementer(ICredentialsChecker)
class CertificateChecker:
    """EXTERNAL: the account a client's certificate names, when the chain of the certificate is trusted."""

    credentialInterfaces = (IClientCertificate,)

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def requestAvatarId(self, credentials: ICredentials) -> Deferred[Any]:
        """The account's address. :raises UnauthorizedLogin: (as failure) it names nobody, or not who was asked for."""
        return maybeDeferred(self._find, credentials)

    def accounts(self, tls: Any) -> list[Account]:
        """The accounts that the certificate of a session names."""
        if not tls.verified or tls.peer is None:
            return []
        found = [self._directory.signing_in(name) for name in _names(tls.peer) if "@" in name]
        return [account for account in found if account is not None]

    def _find(self, credentials: Any) -> bytes:
        accounts = self.accounts(credentials.tls)
        if credentials.name:
            wanted = self._directory.signing_in(credentials.name)
            accounts = [account for account in accounts if account is wanted]
        if not accounts:
            raise UnauthorizedLogin("the certificate names nobody here")
        return avatar_id(accounts[0])


def _names(certificate: x509.Certificate) -> list[str]:
    """The mail addresses of a certificate (RFC 5280 section 4.2.1.6); its common name when it has none."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = names.get_values_for_type(x509.RFC822Name)
    except (x509.ExtensionNotFound, ValueError):
        found = []
    if not found:
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        found = [str(one.value) for one in common]
    return found[:NAMES_MAX]


def _octets(text: str | bytes) -> bytes:
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text


def _text(avatar: object) -> str:
    return avatar.decode("utf-8", "replace") if isinstance(avatar, bytes) else str(avatar)
