"""What a client shows to prove who it is, as credentials of ``twisted.cred``: a password, a SCRAM proof, a token, a
certificate. None of them shows a secret in its repr."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.cred.credentials import ICredentials
from zope.interface import Attribute, implementer

from twisted_mail_node.smtp.sasl import CertificateLogin, Login, PasswordLogin, ScramLogin, TokenLogin

if TYPE_CHECKING:
    from twisted_mail_node.interfaces import ITlsSession


class IPassword(ICredentials):
    """A name and its password (RFC 4616)."""

    name: str = Attribute("as the client typed it")
    password: str = Attribute("as the client typed it")


class IScramProof(ICredentials):
    """A proof that the client knows the password (RFC 5802)."""

    name: str = Attribute("as the client typed it, prepared")
    hash_name: str = Attribute("``SHA-256`` or ``SHA-1``")
    message: bytes = Attribute("the AuthMessage")
    proof: bytes = Attribute("the ClientProof")
    signed: list[bytes] = Attribute("takes the ServerSignature of the key that fits")


class IBearerToken(ICredentials):
    """A bearer token (RFC 7628)."""

    name: str = Attribute("who the client says it is, or ``''``")
    token: str = Attribute("the token")


class IClientCertificate(ICredentials):
    """The certificate of the client's TLS session (RFC 4422 appendix A)."""

    name: str = Attribute("who the client wants to be, or ``''``")
    tls: ITlsSession = Attribute("the session")


class _Hidden:
    """Says whose credentials they are, and nothing more."""

    name: str

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.name!r}>"


@implementer(IPassword)
class Password(_Hidden):
    """See ``IPassword``."""

    def __init__(self, login: PasswordLogin) -> None:
        self.name = login.name
        self.password = login.password


@implementer(IScramProof)
class ScramProof(_Hidden):
    """See ``IScramProof``."""

    def __init__(self, login: ScramLogin) -> None:
        self.name = login.name
        self.hash_name = login.hash_name
        self.message = login.message
        self.proof = login.proof
        self.signed: list[bytes] = []


@implementer(IBearerToken)
class BearerToken(_Hidden):
    """See ``IBearerToken``."""

    def __init__(self, login: TokenLogin) -> None:
        self.name = login.name
        self.token = login.token


@implementer(IClientCertificate)
class ClientCertificate(_Hidden):
    """See ``IClientCertificate``."""

    def __init__(self, login: CertificateLogin) -> None:
        self.name = login.name
        self.tls: ITlsSession = login.tls


def credentials_of(login: Login) -> Password | ScramProof | BearerToken | ClientCertificate:
    """The credentials a SASL exchange ended with."""
    if isinstance(login, PasswordLogin):
        return Password(login)
    if isinstance(login, ScramLogin):
        return ScramProof(login)
    if isinstance(login, TokenLogin):
        return BearerToken(login)
    return ClientCertificate(login)
