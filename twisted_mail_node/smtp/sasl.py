"""SASL (RFC 4422) as SMTP carries it (RFC 4954), without a network: the server's side of each mechanism.

A mechanism is a generator. It yields what it needs: a ``Challenge`` (sent the client's response), ``ScramKeys``
(sent salt and iteration count), or a ``Login`` (sent the submitter, or ``None`` when it was refused); what it returns
is the submitter, or ``None``. ``smtp/mechanisms.py`` has the table of them, ``inbound/authentication.py`` leads them.
No value here shows a secret when it is printed (attack T40).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Generator
from typing import Any, NamedTuple

from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.scram import prepared

#: Octets of a response line in base64, and of an AUTH command (RFC 4954 section 4).
AUTH_LINE_MAX = 12288
#: Octets of a name and of a password; the grammar of PLAIN has 255 of each (RFC 4616 section 2).
NAME_MAX = 512
PASSWORD_MAX = 1024

_BAD_ESCAPE = re.compile(rb"=(?!2C|3D)")


class Challenge(NamedTuple):
    """To be sent to the client; its response is wanted."""

    octets: bytes = b""


class ScramKeys(NamedTuple):
    """Salt and iteration count of a name are wanted (``IAuthentication.scram``)."""

    name: str
    hash_name: str


class PasswordLogin(NamedTuple):
    """PLAIN (RFC 4616) and LOGIN: a name and its password."""

    name: str
    password: str

    def __repr__(self) -> str:
        return f"PasswordLogin({self.name!r})"


class ScramLogin(NamedTuple):
    """SCRAM (RFC 5802): what proves that the client knows the password of ``name``.

    Salt and iteration count are those of the account, so an account may have several passwords: the proof is compared
    with each of its keys. ``signed`` takes the ServerSignature of the key that fits: the mechanism sends it.

    :ivar hash_name: ``SHA-256`` or ``SHA-1``.
    :ivar message: the AuthMessage.
    :ivar proof: the ClientProof.
    """

    name: str
    hash_name: str
    message: bytes
    proof: bytes
    signed: list[bytes]

    def __repr__(self) -> str:
        return f"ScramLogin({self.name!r}, {self.hash_name!r})"


class TokenLogin(NamedTuple):
    """OAUTHBEARER (RFC 7628) and XOAUTH2: a bearer token, and the name it is said to be for (``""``: not said)."""

    name: str
    token: str

    def __repr__(self) -> str:
        return f"TokenLogin({self.name!r})"


class CertificateLogin(NamedTuple):
    """EXTERNAL (RFC 4422 appendix A): whoever the client's TLS certificate names; ``name`` picks one of several."""

    name: str
    tls: Any


Login = PasswordLogin | ScramLogin | TokenLogin | CertificateLogin
Wanted = Challenge | ScramKeys | PasswordLogin | ScramLogin | TokenLogin | CertificateLogin
#: A mechanism under way.
Exchange = Generator[Wanted, Any, Any]


class LoginRefused(Exception):
    """Nobody signed in; ``reason`` tells why (``WRONG_PASSWORD``, ``ACCOUNT_DISABLED`` …)."""

    def __init__(self, reason: Reason = Reason.WRONG_PASSWORD, name: str = "") -> None:
        super().__init__(str(reason))
        self.reason = reason
        self.name = name


class MalformedError(ValueError):
    """A response does not follow its mechanism's grammar; the exchange ends with 501 5.5.2. A sentence for a person."""


def words_of(octets: bytes, what: str, longest: int = NAME_MAX) -> str:
    """A name or password as a client sent it: UTF-8, prepared, not empty.

    :param what: what it is, for the sentence.
    :raises MalformedError: it is none.
    """
    if not octets:
        raise MalformedError(f"The {what} is empty")
    if len(octets) > longest:
        raise MalformedError(f"The {what} is longer than {longest} octets")
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedError(f"The {what} is not UTF-8") from None
    try:
        text = prepared(text)
    except ValueError as error:
        raise MalformedError(str(error)) from None
    if not text:
        raise MalformedError(f"The {what} is empty")
    return text


def check_identity(identity: bytes, name: str) -> None:
    """The authorization identity: empty, or the name itself. Nobody acts for another (attack T22).

    :raises MalformedError: it is another.
    """
    if identity and words_of(identity, "authorization identity") != name:
        raise MalformedError("Nobody signs in for another here; leave the authorization identity empty")


def from_base64(text: str | bytes) -> bytes | None:
    """Decoded, or ``None``: nothing but the alphabet and as much padding as belongs there (RFC 4954 section 4)."""
    try:
        octets = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return None
    # Python takes padding where none belongs.
    return octets if len(text) == 4 * ((len(octets) + 2) // 3) else None


def unescaped(octets: bytes) -> bytes:
    """A saslname: ``=2C`` is a comma and ``=3D`` is ``=`` (RFC 5801 section 4).

    :raises MalformedError: another ``=`` is in it.
    """
    if _BAD_ESCAPE.search(octets):
        raise MalformedError("In a name, = is written =3D and a comma =2C")
    return octets.replace(b"=2C", b",").replace(b"=3D", b"=")
