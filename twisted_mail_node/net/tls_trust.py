"""Whether a peer's certificate is to be trusted, and the words for why it is not (RFC 5280, RFC 9525)."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from cryptography.x509 import Certificate
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address

from twisted_mail_node.net.tls_names import UNREADABLE, names_of

#: Names of a certificate that a sentence quotes.
NAMES_SHOWN = 3
#: Why a chain is not trusted, by OpenSSL's number (x509_vfy.h). What is not here is told by its number.
_CHAIN = {
    2: "who signed it is not known here",
    3: "a revocation list is missing",
    7: "a signature in its chain is wrong",
    18: "the certificate is self-signed",
    19: "its chain ends in a root that is not trusted here",
    20: "who signed it is not known here",
    21: "who signed it is not known here: it came without its chain",
    22: "its chain is too long",
    23: "it was revoked",
    24: "one that signs in its chain may not sign",
    25: "one that signs in its chain may not have so many below it",
    26: "it is not made for this purpose",
    27: "its root is not trusted here",
    28: "its root is refused here",
    32: "one that signs in its chain may not sign certificates",
    66: "its key is too short",
    67: "a key in its chain is too short",
    68: "a signature in its chain uses a hash that is too weak",
}
_NOT_YET, _EXPIRED = 9, 10


class Shown:
    """What came of the chain a peer showed; the ``shown`` of a connection.

    :ivar contexts: kept alive as long as the connection, for OpenSSL calls into them.
    :ivar seen: a chain was looked at: not so when an earlier session was resumed.
    :ivar error: OpenSSL's number for the first thing wrong with it, 0 when nothing is.
    :ivar until: when it must be looked at again, 0 while nobody keeps it.
    :ivar before: what came of it when the session began that is offered for resumption.
    """

    __slots__ = ("before", "contexts", "depth", "error", "seen", "until")

    def __init__(self, contexts: object, before: Shown | None = None) -> None:
        self.contexts = contexts
        self.before = before
        self.seen = False
        self.error = 0
        self.depth = 0
        self.until = 0.0

    @property
    def settled(self) -> Shown:
        """That of the handshake in which the chain was shown: this one, or the one of the session it resumed."""
        return self if self.seen or self.before is None else self.before

    @property
    def is_expired(self) -> bool:
        """What is wrong with it is that its time is over."""
        return self.settled.error == _EXPIRED

    def problem(self, certificate: Certificate) -> str:
        """Why the chain is not trusted, ``''`` when it is."""
        shown = self.settled
        if not shown.seen:
            return "its chain was not looked at"
        if not shown.error:
            return ""
        if shown.error in (_NOT_YET, _EXPIRED):
            if shown.depth:
                return "a certificate of its chain is not valid now"
            if shown.error == _EXPIRED:
                return f"it expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
            return f"it is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}"
        return _CHAIN.get(shown.error, f"its chain is not trusted (OpenSSL's error {shown.error})")


def note_chain(connection: Any, certificate: object, error: int, depth: int, ok: int) -> bool:
    """OpenSSL's verify callback: note what is wrong with the chain, and let the handshake go on."""
    shown = connection.shown
    shown.seen = True
    if not ok and not shown.error:
        shown.error, shown.depth = error, depth
    return True


def as_address(host: str) -> str:
    """The IP address a host name is, without brackets; ``''`` when it is a name."""
    try:
        return str(ip_address(host.removeprefix("[").removesuffix("]").removeprefix("IPv6:")))
    except ValueError:
        return ""


def name_problem(certificate: Certificate, host: str) -> str:
    """Why the certificate is not for ``host``, ``''`` when it is (RFC 9525 section 6; the subject's CN does not count).

    :param host: a domain name in ASCII, or an IP address.
    """
    address = as_address(host)
    try:
        if address:
            verify_certificate_ip_address(certificate, address)
        else:
            verify_certificate_hostname(certificate, host.rstrip("."))
    except VerificationError:
        names = names_of(certificate)
        if not names:
            return f"it names no host, not {host}"
        more = " …" if len(names) > NAMES_SHOWN else ""
        return f"it is for {', '.join(names[:NAMES_SHOWN])}{more}, not {host}"
    except (CertificateError, *UNREADABLE) as error:
        return f"its names cannot be compared with {host}: {error}"
    return ""
