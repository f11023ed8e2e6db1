"""Certificates for tests: an authority that signs whatever a test wants to have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
YEAR = timedelta(days=365)


@cache
def rsa_key(number: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    """An RSA key; making one takes long, so the same number gives the same."""
    return rsa.generate_private_key(65537, bits)


def pem(key: Key, passphrase: bytes = b"") -> bytes:
    """A key as files have it."""
    lock = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)


class Issued(NamedTuple):
    """A certificate, those that lead to its root, and its key."""

    certificate: x509.Certificate
    above: tuple[x509.Certificate, ...]
    key: Key

    @property
    def chain(self) -> bytes:
        """As ``fullchain.pem`` has it."""
        return b"".join(one.public_bytes(Encoding.PEM) for one in (self.certificate, *self.above))

    @property
    def private(self) -> bytes:
        """As ``privkey.pem`` has it."""
        return pem(self.key)

    def put(self, path: Path) -> Path:
        """Write chain and key into one file that only we read."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.chain + self.private)
        path.chmod(0o600)
        return path

    def put_two(self, chain: Path, key: Path) -> None:
        """Write them into a file each."""
        chain.parent.mkdir(parents=True, exist_ok=True)
        chain.write_bytes(self.chain)
        key.write_bytes(self.private)
        key.chmod(0o600)


class Authority:
    """Signs certificates. ``above``: the authority that signed this one's."""

    def __init__(self, name: str = "A test authority", above: Authority | None = None) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._above = above
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(above._name if above else self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - YEAR)
            .not_valid_after(now + YEAR)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        )
        self.certificate = builder.sign(above._key if above else self._key, SHA256())

    @property
    def pem(self) -> bytes:
        """Its own certificate."""
        return self.certificate.public_bytes(Encoding.PEM)

    def put(self, path: Path) -> Path:
        """Write its own certificate into a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.pem)
        return path

    def issue(
        self,
        *names: str,
        key: Key | None = None,
        expires: datetime | None = None,
        cn: str = "",
        mail: str = "",
        self_signed: bool = False,
    ) -> Issued:
        """A certificate for these host names and IP addresses.

        :param expires: a year from now when not given.
        :param mail: makes it a client's, for this address.
        """
        key = key or ec.generate_private_key(ec.SECP256R1())
        end = expires or datetime.now(UTC) + YEAR
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cn)] if cn else [])
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if mail else ExtendedKeyUsageOID.SERVER_AUTH
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if self_signed else self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(end - 3 * YEAR)
            .not_valid_after(end)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        general: list[x509.GeneralName] = [x509.RFC822Name(mail)] if mail else []
        for name in names:
            general.append(x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name))
        if general:
            builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
        certificate = builder.sign(key if self_signed else self._key, SHA256())
        return Issued(certificate, (self.certificate,) if self._above and not self_signed else (), key)
