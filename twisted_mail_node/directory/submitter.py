"""Somebody who signed in, and the realm that makes them of an account's address (``twisted.cred``)."""

from __future__ import annotations

from collections.abc import Callable

from twisted.cred.error import LoginDenied, UnauthorizedLogin
from twisted.cred.portal import IRealm
from zope.interface import Interface, implementer

from twisted_mail_node.directory.directory import Directory
from twisted_mail_node.interfaces import ISubmitter
from twisted_mail_node.message.address import Address
from twisted_mail_node.settings import Account, SubmissionSettings


@implementer(ISubmitter)
class Submitter:
    """See ``ISubmitter``. What it may do follows the directory: an account that is disabled or removed while its
    session lasts may use no address any more."""

    __slots__ = ("_directory", "account", "mails_per_hour", "recipients")

    def __init__(self, account: Account, directory: Directory, settings: SubmissionSettings) -> None:
        self.account = account.address
        self.recipients = settings.recipients
        own = account.mails_per_hour
        self.mails_per_hour = settings.mails_per_hour if own is None else own
        self._directory = directory

    def may_use(self, address: Address) -> bool:
        """Whether the address is one of the account's own."""
        return self._directory.owns(self.account, address)

    def __repr__(self) -> str:
        return f"<Submitter {self.account}>"


def avatar_id(account: Account) -> bytes:
    """How checkers name an account."""
    return str(account.address).encode("utf-8")


@implementer(IRealm)
class AccountRealm:
    """Gives the submitter of an account. Also where disabled accounts end, whatever they showed."""

    def __init__(self, directory: Directory, settings: SubmissionSettings) -> None:
        self.directory = directory
        self.settings = settings

    def requestAvatar(
        self, avatarId: bytes | tuple[()], mind: object, *interfaces: type[Interface]
    ) -> tuple[type[Interface], ISubmitter, Callable[[], None]]:
        """The submitter.

        :raises LoginDenied: the account is disabled.
        :raises UnauthorizedLogin: nobody has the account.
        """
        if ISubmitter not in interfaces:
            raise NotImplementedError("only submitters sign in here")
        account = self.directory.signing_in(bytes(avatarId).decode("utf-8", "replace"))
        if account is None:
            raise UnauthorizedLogin("nobody here has this account")
        if account.disabled:
            raise LoginDenied("the account is disabled")
        return ISubmitter, Submitter(account, self.directory, self.settings), _nothing


def _nothing() -> None:
    """What a session leaves behind: nothing."""
