"""An authentication with its directory in a temporary state directory, for tests that sign in."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet import reactor
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from twisted_mail_node.directory.accounts import AccountFile
from twisted_mail_node.directory.authentication import Authentication
from twisted_mail_node.directory.directory import Directory
from twisted_mail_node.events import Event
from twisted_mail_node.interfaces import ISubmitter, ITlsSession
from twisted_mail_node.message.address import Address
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import Account, AuthenticationSettings, Domain, Settings
from twisted_mail_node.smtp.sasl import Login, LoginRefused, PasswordLogin, ScramLogin
from twisted_mail_node.smtp.scram import client_proof, salted

JOE = Address("joe", "example.org")
ANN = Address("ann", "example.org")
DOMAINS = (Domain(name="example.org"), Domain(name="example.com"))


@implementer(ITlsSession)
class Tls:
    """A TLS session as a mechanism sees it."""

    version = "TLSv1.3"
    cipher = "TLS_AES_256_GCM_SHA384"
    server_name = why = fault = ""
    resumed = False
    chain = ()

    def __str__(self) -> str:
        return f"{self.version} with {self.cipher}"

    def __init__(self, binding: bytes | None = None, peer: x509.Certificate | None = None) -> None:
        self._binding = binding
        self.peer = peer
        self.verified = peer is not None

    def channel_binding(self) -> bytes | None:
        return self._binding


def certificate(*addresses: str, common: str = "somebody") -> x509.Certificate:
    """A certificate with these mail addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    now = datetime(2030, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    if addresses:
        names = x509.SubjectAlternativeName([x509.RFC822Name(one) for one in addresses])
        made = made.add_extension(names, critical=False)
    return made.sign(key, hashes.SHA256())


class SigningInCase(TestCase):
    """Accounts, and attempts to sign in to them."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.state = Path(place.name)
        self.file = AccountFile(self.state / "accounts.json")
        self.events: list[Event] = []

    def settings(self, *accounts: Account, authentication: dict[str, Any] | None = None, **more: Any) -> Settings:
        """Settings with two domains."""
        more.setdefault("authentication", AuthenticationSettings(**(authentication or {})))
        return Settings(hostname="mx.example.org", state_dir=self.state, domains=DOMAINS, accounts=accounts, **more)

    def start(self, *accounts: Account, **more: Any) -> Authentication:
        """An authentication for these accounts, and those of the file."""
        settings = self.settings(*accounts, **more)
        self.directory = Directory(settings)
        self.authentication = Authentication(settings, self.directory, reactor, self.events.append)
        self.addCleanup(self.authentication.stop)
        return self.authentication

    def reload(self, *accounts: Account, **more: Any) -> None:
        """As the node reloads."""
        settings = self.settings(*accounts, **more)
        self.directory.reload(settings)
        self.authentication.reload(settings)

    async def login(self, login: Login) -> ISubmitter | Reason:
        """The submitter, or why there is none."""
        try:
            return await self.authentication.login(login)
        except LoginRefused as refused:
            return refused.reason

    async def password(self, name: str, password: str) -> str:
        """The account that a password signs in to, or the reason."""
        return who(await self.login(PasswordLogin(name, password)))

    async def scram(self, name: str, password: str, hash_name: str = "SHA-256") -> str:
        """The same by SCRAM; the server's signature is that of the client's too."""
        salt, iterations = self.authentication.scram(name, hash_name)
        message = b"n=joe,r=a,r=ab,s=x,i=1,c=biws,r=ab"
        proof, expected = client_proof(salted(password, salt, iterations, hash_name), message, hash_name)
        login = ScramLogin(name, hash_name, message, proof, [])
        found = await self.login(login)
        self.assertEqual(login.signed, [] if isinstance(found, Reason) else [expected])
        return who(found)


def who(found: ISubmitter | Reason) -> str:
    """In a word."""
    return str(found) if isinstance(found, Reason) else str(found.account)
