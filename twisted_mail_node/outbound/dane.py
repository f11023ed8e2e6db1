"""Whether the certificates a host shows are among those its TLSA records allow (RFC 6698, RFC 7671, RFC 7672).

Pure: records and certificates in, a match or a sentence out. ``outbound.tlsa`` looks the records up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import sha256, sha512
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from cryptography.x509 import Certificate, ExtendedKeyUsage, ExtensionNotFound, load_der_x509_certificate
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL.crypto import X509, Error, X509Store, X509StoreContext, X509StoreContextError, X509StoreFlags

from twisted_mail_node.dns.answer import TLSA
from twisted_mail_node.net.tls_names import UNREADABLE
from twisted_mail_node.net.tls_trust import name_problem

#: Certificate usages that count in SMTP; 0 and 1 (PKIX-TA, PKIX-EE) do not (RFC 7672 section 3.1.3).
DANE_TA, DANE_EE = 2, 3
#: Selectors: the whole certificate, or its SubjectPublicKeyInfo.
_WHOLE, _KEY = 0, 1
#: Matching types: the octets themselves, or their digest, and how long that is.
_EXACT, _SHA_256, _SHA_512 = 0, 1, 2
_DIGESTS = {_SHA_256: 32, _SHA_512: 64}
#: Records looked at. Honest domains have two or three, during a change of keys twice as many.
RECORDS_MAX = 50
#: Certificates of a chain looked at (``net.tls_client.DEPTH``, and the host's own).
CHAIN_MAX = 12

#: Result types of RFC 8460 section 4.3 for what does not fit.
MISMATCH, EXPIRED, UNTRUSTED = "certificate-host-mismatch", "certificate-expired", "certificate-not-trusted"
INVALID = "validation-failure"

_NOT_YET_OR_EXPIRED = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED


class Tlsa(NamedTuple):
    """What the TLSA records of a host ask for.

    :ivar base: the TLSA base domain: the name the records were found for, sent as SNI too (RFC 7672 section 8.1).
    :ivar owner: the name they stand at, ``_25._tcp.mx.example.org``.
    :ivar records: those that count; none: TLS must be, with any certificate (RFC 7672 section 2.2).
    :ivar names: whom a certificate under a trust anchor may be for.
    """

    base: str
    owner: str
    records: tuple[TLSA, ...]
    names: tuple[str, ...] = ()

    def policy(self) -> tuple[str, ...]:
        """The records as RFC 8460 reports show them."""
        return tuple(f"{usage} {selector} {kind} {octets.hex()}" for usage, selector, kind, octets in self.records)


class Match(NamedTuple):
    """What became of a comparison.

    :ivar words: the record that fits (``3 1 1``), or why none does.
    :ivar result: ``""``: one fits; else the result type of RFC 8460.
    """

    words: str
    result: str = ""


def usable(records: Iterable[TLSA]) -> tuple[TLSA, ...]:
    """The records that can be compared: known in every field, and of the right length (RFC 7671 section 9: of the same
    usage and selector only those with the strongest digest, beside those without any)."""
    known = [record for record in dict.fromkeys(records) if _is_usable(record)][:RECORDS_MAX]
    strongest: dict[tuple[int, int], int] = {}
    for usage, selector, kind, _ in known:
        strongest[usage, selector] = max(kind, strongest.get((usage, selector), _EXACT))
    return tuple(
        record for record in known if record.matching_type in (_EXACT, strongest[record.usage, record.selector])
    )


def _is_usable(record: TLSA) -> bool:
    usage, selector, kind, octets = record
    if usage not in (DANE_TA, DANE_EE) or selector not in (_WHOLE, _KEY):
        return False
    if kind != _EXACT:
        return len(octets) == _DIGESTS.get(kind)
    return (_certificate(octets) if selector == _WHOLE else _key(octets)) is not None


def match(tlsa: Tlsa, chain: Sequence[Certificate], now: datetime) -> Match:
    """Compare what a host showed, its own certificate first, with its records; one that fits is enough.

    :param now: with a time zone.
    """
    if not chain:
        return Match("it showed no certificate", INVALID)
    own, above = chain[0], [one for one in chain[1:CHAIN_MAX] if one != chain[0]]
    for record in tlsa.records:
        # RFC 7672 section 3.1.1: neither its names nor its dates count, the signed record stands for both.
        if record.usage == DANE_EE and _fits(record, own):
            return Match(_short(record))
    problem = Match("it is not one of those that its TLSA records allow", INVALID)
    for record in tlsa.records:
        if record.usage != DANE_TA:
            continue
        anchors = _anchors(record, own, above)
        if not anchors:
            continue
        found = _path(own, above, anchors, tlsa.names, now)
        if not found.result:
            return Match(_short(record))
        problem = found
    return problem


def _short(record: TLSA) -> str:
    return f"{record.usage} {record.selector} {record.matching_type}"


def _fits(record: TLSA, certificate: Certificate) -> bool:
    """RFC 6698 section 2.1: the certificate, or its key, is the one the record speaks of."""
    try:
        if record.selector == _WHOLE:
            octets = certificate.public_bytes(Encoding.DER)
        else:
            octets = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except UNREADABLE:
        return False
    if record.matching_type == _SHA_256:
        octets = sha256(octets).digest()
    elif record.matching_type == _SHA_512:
        octets = sha512(octets).digest()
    return octets == record.data


def _anchors(record: TLSA, own: Certificate, above: Sequence[Certificate]) -> list[Certificate]:
    """Where a path may end by this record: a certificate the host sent, or the one the record holds whole.

    A record that holds a bare key (2 1 0) needs no certificate: whatever that key signed is as good as an anchor.
    """
    anchors = [one for one in above if _fits(record, one)]
    if anchors or record.matching_type != _EXACT:
        return anchors
    if record.selector == _WHOLE:
        whole = _certificate(record.data)
        return [] if whole is None or whole == own else [whole]
    return [one for one in (*above, own) if _is_signed_by(one, record.data)]


def _path(
    own: Certificate,
    above: Sequence[Certificate],
    anchors: Sequence[Certificate],
    names: Sequence[str],
    now: datetime,
) -> Match:
    """RFC 7672 section 3.1.2: a path of valid certificates leads to the anchor, and the name is the host's."""
    store = X509Store()
    store.set_flags(X509StoreFlags.PARTIAL_CHAIN)
    store.set_time(now.replace(tzinfo=None))
    try:
        for anchor in anchors:
            store.add_cert(X509.from_cryptography(anchor))
        between = [X509.from_cryptography(one) for one in above]
        X509StoreContext(store, X509.from_cryptography(own), between).verify_certificate()
    except X509StoreContextError as error:
        result = EXPIRED if error.errors[0] in _NOT_YET_OR_EXPIRED else UNTRUSTED
        return Match(f"no valid path leads to the trust anchor of its TLSA records: {error}", result)
    except (Error, *UNREADABLE) as error:
        return Match(f"its chain cannot be read: {error}", INVALID)
    if not _is_for_servers(own):
        return Match("it is not made for a server", UNTRUSTED)
    for name in names:
        if not name_problem(own, name):
            return Match("")
    return Match(name_problem(own, names[0]) if names else "nobody knows whom it must be for", MISMATCH)


def _is_for_servers(certificate: Certificate) -> bool:
    """It says nothing of its purpose, or that it is a TLS server's (RFC 5280 section 4.2.1.12)."""
    try:
        purposes = certificate.extensions.get_extension_for_class(ExtendedKeyUsage).value
    except ExtensionNotFound:
        return True
    except UNREADABLE:
        return False
    return ExtendedKeyUsageOID.SERVER_AUTH in purposes or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in purposes


def _certificate(octets: bytes) -> Certificate | None:
    try:
        return load_der_x509_certificate(octets)
    except UNREADABLE:
        return None


def _key(octets: bytes) -> object | None:
    try:
        return load_der_public_key(octets)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None


def _is_signed_by(certificate: Certificate, octets: bytes) -> bool:
    """The key signed the certificate."""
    key = _key(octets)
    signed, signature = certificate.tbs_certificate_bytes, certificate.signature
    try:
        digest = certificate.signature_hash_algorithm
        if isinstance(key, rsa.RSAPublicKey) and digest is not None:
            padding = certificate.signature_algorithm_parameters
            key.verify(signature, signed, padding, digest)  # type: ignore[arg-type]
        elif isinstance(key, ec.EllipticCurvePublicKey) and digest is not None:
            key.verify(signature, signed, ec.ECDSA(digest))
        elif isinstance(key, (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)):
            key.verify(signature, signed)
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True
