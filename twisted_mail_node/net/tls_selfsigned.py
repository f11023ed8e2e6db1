"""The certificate a node makes for itself while it has none: other servers take it, mail clients warn of it.

It lies in ``state_dir/tls-self-signed.pem`` with its key, is for the host name and the local domains, and is made
anew when these change or it expires. The key stays the same, so that whoever noted it (DANE-EE) need not change it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from twisted_mail_node.net.tls_files import Pair, Source, read_pair
from twisted_mail_node.settings import Settings

FILE_NAME = "tls-self-signed.pem"
#: How long it is good for.
LIFETIME = timedelta(days=3650)
#: It is made anew so many seconds before it expires.
AHEAD = 30 * 86400.0
#: Names it is for at most: mail clients connect to few.
NAMES_MAX = 100
#: Characters a CN may have (RFC 5280 appendix A.1).
CN_MAX = 64


def self_signed(settings: Settings, now: float) -> Pair:
    """The one that lies there, or a new one. Blocks on the disk.

    :param now: seconds since the epoch.
    :raises ValueError: it cannot be written.
    """
    path = settings.state_dir / FILE_NAME
    names = _names(settings)
    before = None
    with suppress(ValueError):
        before = read_pair(Source(path, path))
    if before is not None and before.names == names and before.expires > now + AHEAD:
        return before
    key = before.key if before is not None else None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        key = ec.generate_private_key(ec.SECP256R1())
    certificate = _sign(key, names, datetime.fromtimestamp(now, UTC))
    octets = certificate.public_bytes(Encoding.PEM) + key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    try:
        _write(path, octets)
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}") from None
    return read_pair(Source(path, path))


def _names(settings: Settings) -> tuple[str, ...]:
    names = [settings.hostname, *(domain.name for domain in settings.domains)]
    return tuple(dict.fromkeys(name.lower() for name in names if name.isascii()))[:NAMES_MAX]


def _sign(key: ec.EllipticCurvePrivateKey, names: tuple[str, ...], now: datetime) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:CN_MAX])])
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )


def _write(path: Path, octets: bytes) -> None:
    """Put the file in place whole, readable by us alone from its first moment."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(octets)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
