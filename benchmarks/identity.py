"""A certificate for the servers under test, made for the run; both have the same."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

#: The keys that are measured; the first is what certificate authorities give by default.
KINDS = {"ecdsa": "ECDSA P-256", "rsa": "RSA 2048"}


class Identity(NamedTuple):
    """A self-signed certificate and its key, in files."""

    chain: Path
    key: Path


def make(directory: Path, kind: str) -> Identity:
    """Make one. :param kind: ``ecdsa`` or ``rsa``."""
    key = ec.generate_private_key(ec.SECP256R1()) if kind == "ecdsa" else rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mx.local.test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("mx.local.test")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    octets = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    identity = Identity(directory / f"{kind}.crt", directory / f"{kind}.key")
    identity.chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    with open(os.open(identity.key, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        file.write(octets)
    return identity
