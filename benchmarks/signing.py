"""Domains to measure with: their keys, what the DNS says of them, and mails they signed (RFC 6376, RFC 8463).

The plainest way to sign, and the same for all who are measured: nobody checks what it signed itself. Headers are
signed relaxed or simple; the body is taken whole, by regular expressions.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from typing import NamedTuple

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from benchmarks.mails import mail_of

#: The fields that are signed, where a mail has them (RFC 6376 section 5.4.1).
SIGNED = (
    "from", "to", "cc", "subject", "date", "message-id", "in-reply-to", "references", "mime-version",
    "content-type", "content-transfer-encoding", "list-unsubscribe",
)  # fmt: skip
#: Records by name and type; a TXT record is its text, MX ``"10 mx.d1.test"``.
Zone = dict[str, dict[str, list[str]]]


class Domain:
    """A domain with an RSA key of 2048 bits at selector ``r`` and an Ed25519 key at ``e``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rsa = rsa.generate_private_key(65537, 2048)
        self.ed25519 = ed25519.Ed25519PrivateKey.generate()

    @property
    def rsa_pem(self) -> bytes:
        """PKCS#1, as everybody reads it."""
        return self.rsa.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )

    @property
    def ed25519_pem(self) -> bytes:
        """PKCS#8."""
        return self.ed25519.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    @property
    def ed25519_seed(self) -> bytes:
        """The 32 octets in base64, as dkimpy reads them."""
        return base64.b64encode(self.ed25519.private_bytes_raw())

    def zone(self) -> Zone:
        """What the DNS says: keys, an SPF record that includes another one, a DMARC record that rejects."""
        der = self.rsa.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        point = self.ed25519.public_key().public_bytes_raw()
        name = self.name
        return {
            name: {"TXT": [f"v=spf1 ip4:192.0.2.0/24 include:_spf.{name} -all"], "MX": [f"10 mx.{name}"]},
            f"_spf.{name}": {"TXT": ["v=spf1 ip4:198.51.100.0/24 ip4:127.0.0.0/8 ~all"]},
            f"mx.{name}": {"A": ["127.0.0.1"]},
            f"_dmarc.{name}": {"TXT": ["v=DMARC1; p=reject; adkim=s; aspf=s"]},
            f"r._domainkey.{name}": {"TXT": [f"v=DKIM1; k=rsa; p={base64.b64encode(der).decode()}"]},
            f"e._domainkey.{name}": {"TXT": [f"v=DKIM1; k=ed25519; p={base64.b64encode(point).decode()}"]},
        }


class Letter(NamedTuple):
    """A mail and its reverse-path."""

    sender: str
    mail: bytes


def signature(
    mail: bytes, domain: Domain, algorithm: str = "rsa-sha256", canonicalization: str = "relaxed/relaxed"
) -> bytes:
    """A DKIM-Signature field to stand before the mail."""
    header, _, body = mail.partition(b"\r\n\r\n")
    in_header, in_body = canonicalization.split("/")
    body_hash = base64.b64encode(hashlib.sha256(canonical_body(body, in_body)).digest()).decode()
    fields = re.findall(rb"[^\r\n]+(?:\r\n[ \t][^\r\n]*)*\r\n", header + b"\r\n")
    chosen = [one for name in SIGNED for one in reversed(fields) if one.lower().startswith(name.encode() + b":")]
    names = ":".join(one.partition(b":")[0].decode().lower() for one in chosen) + ":from"  # no second From may come
    unsigned = (
        f"DKIM-Signature: v=1; a={algorithm}; c={canonicalization}; d={domain.name};\r\n"
        f"\ts={'r' if algorithm == 'rsa-sha256' else 'e'}; t={int(time.time()) - 60};\r\n"
        f"\th={names};\r\n\tbh={body_hash};\r\n\tb="
    ).encode()
    signed = b"".join(canonical_field(one, in_header) for one in chosen)
    signed += canonical_field(unsigned + b"\r\n", in_header).removesuffix(b"\r\n")
    if algorithm == "rsa-sha256":
        signature = domain.rsa.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    else:
        signature = domain.ed25519.sign(hashlib.sha256(signed).digest())
    text = base64.b64encode(signature)
    folded = b"\r\n\t ".join(text[at : at + 70] for at in range(0, len(text), 70))
    return unsigned + folded + b"\r\n"


def canonical_body(body: bytes, how: str) -> bytes:
    """RFC 6376 sections 3.4.3 and 3.4.4. Our mails have no bare CR and no bare LF, and some text."""
    if how == "relaxed":
        body = re.sub(rb"[ \t]+", b" ", body).replace(b" \r\n", b"\r\n")
    return body.rstrip(b"\r\n") + b"\r\n"


def canonical_field(field: bytes, how: str) -> bytes:
    """RFC 6376 sections 3.4.1 and 3.4.2."""
    if how == "simple":
        return field
    name, _, value = field.partition(b":")
    return name.strip().lower() + b":" + re.sub(rb"[ \t]+", b" ", value.replace(b"\r\n", b"")).strip() + b"\r\n"


def letters(domains: list[Domain], size: int, count: int, rcpt: str) -> list[Letter]:
    """``count`` mails of the domains by turns, signed with RSA 2048 as nearly all mail is."""
    found = []
    for number in range(count):
        domain = domains[number % len(domains)]
        mail = mail_of(size, domain.name, number, rcpt)
        found.append(Letter(f"bounces@{domain.name}", signature(mail, domain) + mail))
    return found
