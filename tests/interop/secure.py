"""A node that mail clients may trust: a certificate of a test authority, passwords, tokens, certificates of clients.

authority = Authority(directory)              # its root is authority.root
node = SecureNode()
node.start()
node.ports["starttls"], node.ports["implicit"]     # its submission listeners
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import time
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from argon2 import PasswordHasher
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.interop.node import Node, free_port

#: Everybody's password: with a space, quotes, and signs that shells and configuration files take for theirs.
PASSWORD = "it's 100% $afe; \\sound #1"
#: What tokens are for, and who signs them.
AUDIENCE = "smtp.here.test"
ISSUER = "https://login.here.test"
#: RFC 7677 section 4 asks for 4096 at least.
ITERATIONS = 4096


class Authority:
    """A certificate authority with one root, in a directory of the test.

    :ivar root: the file with its own certificate.
    """

    def __init__(self, place: Path, name: str = "Test authority") -> None:
        self._place = place
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        signed = (
            self._begin(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.root = place / f"{name.lower().replace(' ', '-')}.pem"
        self.root.write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def _begin(self, subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=2))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )

    def issue(self, *names: str, client: str = "") -> tuple[bytes, bytes, int]:
        """A certificate for a server with these names (and 127.0.0.1), or for a client with an address.

        :return: the certificate and its key as PEM, and the certificate's serial number.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        said: list[x509.GeneralName]
        if client:
            said, purpose = [x509.RFC822Name(client)], ExtendedKeyUsageOID.CLIENT_AUTH
        else:
            said = [*map(x509.DNSName, names), x509.IPAddress(IPv4Address("127.0.0.1"))]
            purpose = ExtendedKeyUsageOID.SERVER_AUTH
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, client or names[0])])
        usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
        certificate = (
            self._begin(subject, self._name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectAlternativeName(said), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        octets = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return certificate.public_bytes(serialization.Encoding.PEM), octets, certificate.serial_number

    def client(self, address: str) -> tuple[Path, Path]:
        """Files with a client's certificate for an address, and its key."""
        chain, key, _ = self.issue(client=address)
        files = self._place / f"{address}.crt", self._place / f"{address}.key"
        for file, octets in zip(files, (chain, key), strict=True):
            write_secret(file, octets)
        return files


def write_secret(path: Path, octets: bytes) -> None:
    """Put a file in place at once, readable by its owner only."""
    beside = path.with_name(f".{path.name}.new")
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(octets)
    beside.rename(path)


class TokenIssuer:
    """Signs access tokens (RFC 9068).

    :ivar keys: the file with its public keys (JWKS, RFC 7517).
    """

    def __init__(self, place: Path) -> None:
        self._key = rsa.generate_private_key(65537, 2048)
        numbers = self._key.public_key().public_numbers()
        jwk = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "one", "n": _number(numbers.n), "e": _number(65537)}
        self.keys = place / "jwks.json"
        self.keys.write_text(json.dumps({"keys": [jwk]}), "ascii")

    def token(self, address: str, *, seconds: float = 600, audience: str = AUDIENCE) -> str:
        """A token for an account, good for some seconds."""
        now = int(time.time())
        header = {"typ": "at+jwt", "alg": "RS256", "kid": "one"}
        claims = {
            "iss": ISSUER, "sub": "0815", "aud": audience, "email": address, "client_id": "mail", "scope": "mail",
            "iat": now - 5, "exp": now + int(seconds), "jti": os.urandom(8).hex(),
        }  # fmt: skip
        said = ".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
        return f"{said}.{_base64url(self._key.sign(said.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def _number(value: int) -> str:
    return _base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def password_lines(password: str) -> str:
    """``password`` and ``scram`` of an account, as the settings have them."""
    # The least that argon2id is good for: the tests compare many passwords.
    kept = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1).hash(password)
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    parts = [base64.b64encode(octets).decode() for octets in (salt, stored, server)]
    return f"password = '{kept}'\nscram = 'SCRAM-SHA-256${ITERATIONS}:{parts[0]}${parts[1]}:{parts[2]}'\n"


class SecureNode(Node):
    """A node with submission listeners, a certificate for ``localhost`` and ``mx.here.test``, and passwords.

    :ivar ports: of its listeners: ``starttls``, ``implicit``, and ``mx``.
    :ivar authority: signed its certificate, and those of clients. :ivar tokens: signs tokens for it.
    """

    def __init__(self, *, top: str = "", tables: str = "") -> None:
        self.ports = {"starttls": free_port(), "implicit": free_port()}
        self._lines = password_lines(PASSWORD)
        super().__init__(top=top, tables="")
        self.ports["mx"] = self.port
        self.authority = Authority(self.place)
        self.tokens = TokenIssuer(self.place)
        self.certificates = self.state / "tls"
        self.certificates.mkdir(parents=True)
        self.serial = self.new_certificate()
        listeners = "".join(
            f'[[listener]]\nkind = "submission"\nendpoint = "tcp:{self.ports[tls]}:interface=127.0.0.1"\n'
            f'tls = "{tls}"\n'
            for tls in ("starttls", "implicit")
        )
        self.write(
            top=top,
            tables=f'{listeners}[tls]\nclient_ca = "{self.authority.root}"\n'
            f'[oauth]\njwks = "{self.tokens.keys}"\naudience = "{AUDIENCE}"\nissuer = "{ISSUER}"\n{tables}',
        )

    def account(self, who: str) -> str:
        """See Node."""
        return super().account(who) + self._lines

    def new_certificate(self) -> int:
        """Put a new certificate in place; gives its serial number. The key comes first, as most programs do it."""
        chain, key, serial = self.authority.issue("localhost", f"mx.{self.domain}")
        write_secret(self.certificates / "here.key", key)
        write_secret(self.certificates / "here.crt", chain)
        return serial
