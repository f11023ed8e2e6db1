"""The names of hosts a certificate is for, and which certificate a name asks for (RFC 9525 section 6.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from twisted_mail_node.smtp.reply import printable

T = TypeVar("T")

#: What is raised when a certificate, or a part of it, is not as it should be. OpenSSL takes such ones, and any host may
#: show one, or hold one in its TLSA records.
UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
#: Octets of a domain name (RFC 1035 section 2.3.4).
NAME_MAX = 253
#: Names of one certificate that are looked at.
NAMES_MAX = 1000


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names of its subjectAltName, else its CN; in lower case, wildcards as ``*.example.org``."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        found = extension.value.get_values_for_type(x509.DNSName)
    except (x509.ExtensionNotFound, *UNREADABLE):
        found = [
            attribute.value
            for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            if isinstance(attribute.value, str)
        ]
    names = (printable(name).lower().rstrip(".") for name in found[:NAMES_MAX])
    return tuple(dict.fromkeys(name for name in names if 0 < len(name) <= NAME_MAX))


def look_up(name: str, known: Mapping[str, T]) -> T | None:
    """What is known for ``name``: by itself, else by a wildcard that stands for its first label."""
    name = name.lower().rstrip(".")
    found = known.get(name)
    if found is None:
        _, dot, rest = name.partition(".")
        found = known.get(f"*.{rest}") if dot else None
    return found
