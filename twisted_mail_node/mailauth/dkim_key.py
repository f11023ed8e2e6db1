"""Our private keys for DKIM and ARC: RSA (RFC 6376 section 3.3.2) and Ed25519 (RFC 8463)."""

from __future__ import annotations

import hashlib
from base64 import b64encode

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from twisted_mail_node.mailauth.keys import RSA_BITS_MAX, RSA_BITS_MIN
from twisted_mail_node.mailauth.tags import domain_of, selector_of

#: From so many bits a signature belongs in a thread. Measured: it takes 0.1 ms with 1024 bits, 0.3 ms with 2048, 0.9 ms
#: with 3072, 1.9 ms with 4096, and cryptography frees the GIL meanwhile; going to a thread and back takes 0.05 ms and
#: costs the reactor's thread 0.02 ms. With 2048 bits, 50 mails at a time and the second core taken by others, as many
#: are signed a second either way, and the reactor's thread has twice the time for others. Ed25519 takes 0.02 ms: never.
THREAD_FROM_BITS = 2048

_PADDING = PKCS1v15()
_SHA256 = SHA256()


class SigningKey:
    """A private key, and where its public one is published.

    :ivar domain: d=, in look-up spelling.
    :ivar selector: s=, in look-up spelling.
    :ivar algorithm: a=: ``rsa-sha256`` or ``ed25519-sha256``.
    :ivar bits: of the modulus; 256 for Ed25519.
    """

    __slots__ = ("_key", "algorithm", "bits", "domain", "selector")

    def __init__(self, key: RSAPrivateKey | Ed25519PrivateKey, domain: str, selector: str) -> None:
        """:raises ValueError: no domain, no selector, or an RSA key that nobody must accept (RFC 8301 section 3.2)."""
        self.domain = domain_of(domain)
        self.selector = selector_of(selector)
        self._key = key
        if isinstance(key, RSAPrivateKey):
            self.algorithm = "rsa-sha256"
            self.bits = key.key_size
            if not RSA_BITS_MIN <= self.bits <= RSA_BITS_MAX:
                raise ValueError(f"the key has {self.bits} bits, not {RSA_BITS_MIN} to {RSA_BITS_MAX}")
        else:
            self.algorithm = "ed25519-sha256"
            self.bits = 256

    @classmethod
    def load(cls, pem: bytes, domain: str, selector: str) -> SigningKey:
        """A key in PEM: PKCS#8, or PKCS#1 for RSA. An RSA key is checked, which takes 30 ms: load it once.

        :raises ValueError: it is none, or one that cannot be used.
        """
        try:
            key = load_pem_private_key(pem, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ValueError("this is no private key in PEM, or one with a password") from None
        if not isinstance(key, RSAPrivateKey | Ed25519PrivateKey):
            raise ValueError("the key is neither RSA nor Ed25519")
        return cls(key, domain, selector)

    @property
    def slow(self) -> bool:
        """Its signatures belong in a thread: see ``THREAD_FROM_BITS``."""
        return self.bits >= THREAD_FROM_BITS

    @property
    def name(self) -> str:
        """Where its record belongs (RFC 6376 section 3.6.2.1)."""
        return f"{self.selector}._domainkey.{self.domain}"

    def public_record(self) -> str:
        """The text of its TXT record (RFC 6376 section 3.6.1). Strings in a TXT record have 255 octets at most."""
        public = self._key.public_key()
        if isinstance(self._key, RSAPrivateKey):
            octets = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            return f"v=DKIM1; k=rsa; p={b64encode(octets).decode('ascii')}"
        octets = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return f"v=DKIM1; k=ed25519; p={b64encode(octets).decode('ascii')}"

    def sign(self, octets: bytes) -> bytes:
        """The signature of these octets (``canonical.signed_octets``)."""
        if isinstance(self._key, RSAPrivateKey):
            return self._key.sign(octets, _PADDING, _SHA256)
        return self._key.sign(hashlib.sha256(octets).digest())
