"""TLS that needs no certificates, and accounts in a dict, for tests of receiving."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from twisted_mail_node.interfaces import IAuthentication, ISubmitter, ITlsServer, ITlsSession
from twisted_mail_node.message.address import Address
from twisted_mail_node.policy.guessing import Guessing
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.sasl import CertificateLogin, Login, LoginRefused, PasswordLogin, ScramLogin, TokenLogin
from twisted_mail_node.smtp.scram import keys_of, server_signature

#: What a session of these tests is bound to.
BINDING = bytes(range(32))
SALT = b"a salt for tests"
ITERATIONS = 64


class HandshakeError(Exception):
    """What a broken handshake ends with."""


@implementer(ITlsSession)
class MemorySession:
    """A TLS session that nobody ever encrypts."""

    def __init__(self, binding: bytes | None = BINDING) -> None:
        self.version = ""
        self.cipher = "TLS_AES_256_GCM_SHA384"
        self.server_name = "mx.example.org"
        self.resumed = False
        self.verified = False
        self.why = "the client showed no certificate"
        self.fault = "untrusted"
        self.peer = None
        self.chain = ()
        self._binding = binding

    def __str__(self) -> str:
        return f"{self.version} with {self.cipher}"

    def channel_binding(self) -> bytes | None:
        return self._binding


@implementer(ITlsServer)
class MemoryTls:
    """Begins handshakes on the ``Wire`` of a ``Peer``, which completes them when it is told.

    :ivar firsts: the octets of handshakes that were read already.
    """

    def __init__(self) -> None:
        self.firsts: list[bytes] = []
        self.sessions: list[MemorySession] = []

    def secure(self, transport: Any, first: bytes = b"") -> MemorySession:
        self.firsts.append(first)
        transport.handshaking = True
        session = MemorySession()
        self.sessions.append(session)
        return session


@implementer(ISubmitter)
@dataclass
class MemorySubmitter:
    """Someone who signed in."""

    account: Address
    recipients: int = 100
    mails_per_hour: int = 0

    def may_use(self, address: Address) -> bool:
        return address == self.account


#: Names and passwords; ``gone`` is disabled.
PASSWORDS = {
    "joe@example.org": "secret",
    "ann@example.org": "p\u00e4ssw\u00f6rd, =",
    "gone@example.org": "secret",
    "bob@mydomain.tld": "secret",
}
TOKENS = {"dG9rZW4.good-1": "joe@example.org"}


@implementer(IAuthentication)
class DictAuthentication:
    """Who may sign in, as a dict says it.

    :ivar offered: the mechanisms.
    :ivar logins: what it was asked.
    :ivar error: raised for every question.
    :ivar waiting: set a list here, and every question waits for a Deferred that is put into it.
    """

    def __init__(self) -> None:
        self.offered: tuple[str, ...] = (
            "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-1", "EXTERNAL", "OAUTHBEARER",
            "XOAUTH2", "PLAIN", "LOGIN",
        )  # fmt: skip
        self.logins: list[Login] = []
        self.error: Exception | None = None
        self.waiting: list[Deferred[None]] | None = None

    def mechanisms(self, tls: ITlsSession) -> tuple[str, ...]:
        return self.offered

    def scram(self, name: str, hash_name: str) -> tuple[bytes, int]:
        return SALT, ITERATIONS

    async def login(self, login: Login) -> ISubmitter:
        self.logins.append(login)
        if self.waiting is not None:
            waiting: Deferred[None] = Deferred()
            self.waiting.append(waiting)
            await waiting
        if self.error is not None:
            raise self.error
        name = self._name(login)
        if name is None:
            raise LoginRefused(name=login.name)
        if name.startswith("gone"):
            raise LoginRefused(Reason.ACCOUNT_DISABLED, name)
        local, _, domain = name.rpartition("@")
        submitter: ISubmitter = MemorySubmitter(Address(local, domain))
        return submitter

    def _name(self, login: Login) -> str | None:
        name = login.name
        match login:
            case PasswordLogin():
                return name if PASSWORDS.get(name) == login.password else None
            case ScramLogin():
                keys = keys_of(PASSWORDS.get(name, ""), SALT, ITERATIONS, login.hash_name)
                signature = server_signature(*keys, login.message, login.proof, login.hash_name)
                if name not in PASSWORDS or signature is None:
                    return None
                login.signed.append(signature)
                return name
            case TokenLogin():
                account = TOKENS.get(login.token)
                return account if name in ("", account) else None
            case CertificateLogin():
                return "joe@example.org" if name in ("", "joe@example.org") else None


class ToldGuessing(Guessing):
    """Guessing that says what it is told to, and writes down what it is told.

    :ivar delays: seconds for every attempt.
    :ivar refused: seconds for which nobody may try.
    """

    def __init__(self) -> None:
        self.delays = 0.0
        self.refused = 0.0
        self.counted: list[tuple[str, str, str]] = []

    def delay(self, client: str, name: str) -> float:
        return self.delays

    def wait_of(self, client: str) -> float:
        return self.refused

    def failed(self, client: str, name: str) -> None:
        self.counted.append(("failed", client, name))

    def succeeded(self, client: str, name: str) -> None:
        self.counted.append(("succeeded", client, name))
