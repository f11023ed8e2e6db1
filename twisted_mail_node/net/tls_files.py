"""Certificates and their keys as they lie on the disk: where they are looked for, and what is wrong with them.

Everything here blocks on the disk and may be called in a thread.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from twisted_mail_node.net.tls_names import names_of
from twisted_mail_node.settings import Settings

PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey | Ed448PrivateKey

#: Octets of a file that holds certificates or a key.
FILE_MAX = 1 << 20
#: Certificates of one chain.
CHAIN_MAX = 20
#: Entries of the directory that are looked at.
ENTRIES_MAX = 2000
#: Mode bits that a key must not have: the group may read (Debian's ``ssl-cert``), others may nothing.
FORBIDDEN = 0o037

_KINDS: tuple[tuple[type[PrivateKey], str], ...] = (
    (EllipticCurvePrivateKey, "ECDSA"),
    (RSAPrivateKey, "RSA"),
    (Ed25519PrivateKey, "Ed25519"),
    (Ed448PrivateKey, "Ed448"),
)


class Source(NamedTuple):
    """Where a certificate and its key lie. ``named``: the settings name it, so it must be there."""

    chain: Path
    key: Path
    named: bool = False


class Pair(NamedTuple):
    """A certificate with what leads to its root, and its private key.

    :ivar names: the hosts it is for; ``*.example.org`` is a wildcard.
    :ivar kind: the kind of its key: ``ECDSA``, ``RSA``, ``Ed25519``, ``Ed448``.
    :ivar expires: seconds since the epoch.
    """

    source: Source
    names: tuple[str, ...]
    kind: str
    expires: float
    chain: tuple[x509.Certificate, ...]
    key: PrivateKey


def sources(settings: Settings) -> tuple[list[Source], list[str]]:
    """Where certificates lie: those of the settings in their order, then those of the directory by name; and what is
    incomplete there."""
    base = settings.state_dir
    found = []
    for one in settings.certificates:
        chain = base / one.chain
        found.append(Source(chain, base / one.key if one.key else chain, True))
    problems: list[str] = []
    directory = base / settings.tls.directory
    try:
        with os.scandir(directory) as entries:
            names = sorted(entry.name for _, entry in zip(range(ENTRIES_MAX), entries, strict=False))
    except FileNotFoundError:
        names = []
    except OSError as error:
        names = []
        problems.append(f"{directory} cannot be read: {error.strerror}")
    for path in (directory / name for name in names if not name.startswith(".")):
        if path.is_dir():
            pair = (path / "fullchain.pem", path / "privkey.pem")
        elif path.suffix == ".crt":
            pair = (path, path.with_suffix(".key"))
        elif path.suffix == ".pem":
            pair = (path, path)
        else:
            continue
        missing = [str(file) for file in pair if not file.exists()]
        if not missing:
            found.append(Source(*pair))
        elif len(missing) == 1:
            problems.append(f"{missing[0]} is missing; {pair[0] if str(pair[0]) not in missing else pair[1]} is there")
    return found, problems


def state_of(paths: Iterator[Path]) -> tuple[object, ...]:
    """What changes when one of the files does. Symbolic links are followed."""
    states: list[object] = []
    for path in paths:
        try:
            status = path.stat()
        except OSError as error:
            states.append((path, error.errno))
        else:
            states.append((path, status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode, status.st_uid))
    return tuple(states)


def read_pair(source: Source) -> Pair:
    """Read a certificate and its key.

    :raises ValueError: it cannot be used; the sentence says why and what to do.
    """
    chain = read_chain(source.chain)
    key = _read_key(source.key)
    kind = next((kind for wanted, kind in _KINDS if isinstance(key, wanted)), "")
    if not kind:
        raise ValueError(f"{source.key}: this kind of key is not used in TLS; take ECDSA (P-256) or RSA")
    assert isinstance(key, PrivateKey)
    try:
        fits = _octets_of(chain[0].public_key()) == _octets_of(key.public_key())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{source.chain}: its public key cannot be read: {error}") from None
    if not fits:
        raise ValueError(f"the key in {source.key} is not that of the first certificate in {source.chain}")
    return Pair(source, names_of(chain[0]), kind, chain[0].not_valid_after_utc.timestamp(), chain, key)


def read_chain(path: Path) -> tuple[x509.Certificate, ...]:
    """The certificates of a PEM file, in its order; what else is in it is left alone.

    :raises ValueError: there are none, or they cannot be read.
    """
    octets, _ = _read(path)
    try:
        chain = x509.load_pem_x509_certificates(octets)
    except ValueError:
        raise ValueError(f"{path} holds no certificate (PEM, BEGIN CERTIFICATE), or a broken one") from None
    if len(chain) > CHAIN_MAX:
        raise ValueError(f"{path} holds {len(chain)} certificates; a chain has at most {CHAIN_MAX}")
    return tuple(chain)


def key_problem(path: Path, status: os.stat_result, user: int) -> str:
    """What is wrong with who may read a key, ``''`` when nothing is.

    :param user: the user id we run as.
    """
    if status.st_mode & FORBIDDEN:
        return (
            f"{path} holds a private key, and others may use it (mode {stat.S_IMODE(status.st_mode):04o}): "
            f"chmod 0600 {path}"
        )
    if status.st_uid not in (0, user):
        return (
            f"{path} holds a private key that belongs to another user (id {status.st_uid}), who can change it: "
            f"chown it to root or to user id {user}"
        )
    return ""


def _read_key(path: Path) -> object:
    octets, status = _read(path)
    problem = key_problem(path, status, os.geteuid())
    if problem:
        raise ValueError(problem)
    try:
        return load_pem_private_key(octets, None)
    except TypeError:
        raise ValueError(
            f"the key in {path} is locked with a passphrase that nobody is there to type: "
            f"openssl pkey -in {path} -out unlocked.pem"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"{path} holds no private key (PEM, BEGIN PRIVATE KEY), or a broken one") from None


def _read(path: Path) -> tuple[bytes, os.stat_result]:
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            octets = file.read(FILE_MAX + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if len(octets) > FILE_MAX:
        raise ValueError(f"{path} is larger than a file with certificates can be")
    return octets, status


def _octets_of(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined, no-any-return]
