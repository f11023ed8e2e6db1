"""The checker of bearer tokens (OAUTHBEARER, RFC 7628; XOAUTH2): by the keys of their issuer, or by asking it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ICredentials
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from twisted_mail_node.directory.claims import TokenError, name_in
from twisted_mail_node.directory.credentials import IBearerToken
from twisted_mail_node.directory.directory import Directory
from twisted_mail_node.directory.introspection import Introspection
from twisted_mail_node.directory.jwks import KeySet
from twisted_mail_node.directory.password_threads import PasswordThreads
from twisted_mail_node.directory.submitter import avatar_id
from twisted_mail_node.settings import OAuthSettings, Settings

#: Characters of a token. An AUTH line carries no more.
TOKEN_MAX = 12288

_log = Logger()


@implementer(ICredentialsChecker)
class TokenChecker:
    """Finds the account a token is for.

    With both ways in the settings a signed token (two dots) is checked by its signature, any other by asking.
    """

    credentialInterfaces = (IBearerToken,)

    def __init__(
        self,
        settings: OAuthSettings,
        directory: Directory,
        threads: PasswordThreads,
        clock: Any,
        keys: KeySet | None = None,
        introspection: Introspection | None = None,
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._threads = threads
        self._clock = clock
        self._keys = keys
        self._introspection = introspection

    @classmethod
    def of(
        cls, settings: Settings, directory: Directory, threads: PasswordThreads, reactor: Any
    ) -> TokenChecker | None:
        """What the settings ask for; ``None`` without ``[oauth]``. Reads the files they name: blocks.

        :raises ValueError: one of them cannot be used; a sentence.
        """
        oauth = settings.oauth
        if oauth.jwks is None and oauth.introspection is None:
            return None
        if oauth.jwks is not None and oauth.audience is None:
            raise ValueError("oauth.audience is needed with oauth.jwks: a token for another service is not ours")
        keys = KeySet(settings.state_dir / oauth.jwks) if oauth.jwks is not None else None
        url = oauth.introspection
        introspection = Introspection.of(settings, url, reactor) if url is not None else None
        return cls(oauth, directory, threads, reactor, keys, introspection)

    def requestAvatarId(self, credentials: ICredentials) -> Deferred[Any]:
        """The account's address.

        :raises UnauthorizedLogin: (as failure) the token is not good, or for nobody here, or not for who was named.
        :raises Exception: (as failure) it cannot be found out now.
        """
        return Deferred.fromCoroutine(self._find(credentials))

    async def _find(self, credentials: Any) -> bytes:
        try:
            claims, must_expire = await self._claims(credentials.token)
            name = name_in(claims, self._settings, self._clock.seconds(), must_expire=must_expire)
        except TokenError as error:
            _log.info("a token for {name!r} is refused: {words}", name=credentials.name, words=str(error))
            raise UnauthorizedLogin("the token is not good") from None
        account = self._directory.signing_in(name)
        if account is None:
            raise UnauthorizedLogin("the token is for nobody here")
        if credentials.name and self._directory.signing_in(credentials.name) is not account:
            raise UnauthorizedLogin("the token is for somebody else")
        return avatar_id(account)

    async def _claims(self, token: str) -> tuple[Mapping[str, object], bool]:
        if not token or len(token) > TOKEN_MAX or not token.isascii() or not token.isprintable():
            raise TokenError("the token is empty, too long or no token")
        if self._keys is not None and (token.count(".") == 2 or self._introspection is None):
            return await self._threads.run(self._keys.claims, token), True
        assert self._introspection is not None
        return await self._introspection.claims(token), False
