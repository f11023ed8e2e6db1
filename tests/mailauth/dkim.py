"""Mails, keys and zones for tests of signatures."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.dns.fake import FakeResolver
from twisted_mail_node.dns.answer import DNSError
from twisted_mail_node.mailauth.body import BodyHashes
from twisted_mail_node.mailauth.dkim_key import SigningKey
from twisted_mail_node.mailauth.dkim_sign import sign
from twisted_mail_node.mailauth.dkim_verify import SIGNATURES_MAX, Signed, Verifier
from twisted_mail_node.mailauth.keys import Keys
from twisted_mail_node.message.header import border

NOW = 1_700_000_000.0
DOMAIN = "example.org"

T = TypeVar("T")


def now(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    raise AssertionError("it waits")


@cache
def rsa_key(bits: int = 2048, selector: str = "rsa", domain: str = DOMAIN) -> SigningKey:
    """A key, made once."""
    return SigningKey(generate_private_key(65537, bits), domain, selector)


@cache
def ed25519_key(selector: str = "ed", domain: str = DOMAIN) -> SigningKey:
    """A key, always the same."""
    return SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))), domain, selector)


def rsa_pem(key: SigningKey) -> bytes:
    """An RSA key as others want it: PKCS#1 in PEM."""
    return key._key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def published(*keys: SigningKey) -> dict[str, list[bytes]]:
    """The key records of these keys."""
    return {key.name: [key.public_record().encode()] for key in keys}


def keys_of(records: Mapping[str, Sequence[bytes] | DNSError]) -> Keys:
    """The public keys of a zone with these TXT records."""
    return Keys(FakeResolver({name: {"TXT": found} for name, found in records.items()}), lambda: 0.0)


def verified(
    mail: bytes,
    records: Mapping[str, Sequence[bytes] | DNSError],
    when: float = NOW,
    most: int = SIGNATURES_MAX,
    cut: int = 1 << 20,
) -> tuple[Signed, ...]:
    """What comes of the signatures of a mail."""
    place = border(mail)
    header, body = mail[:place], mail[place:]
    hashes = BodyHashes()
    verifier = Verifier(header, hashes, now=when, most=most)
    for start in range(0, len(body), cut):
        hashes.feed(body[start : start + cut])
    hashes.finish()
    return now(verifier.finish(keys_of(records)))


def signed(mail: bytes, *keys: SigningKey, when: float = NOW, expires: float | None = None) -> bytes:
    """A mail with our signatures."""
    place = border(mail)
    hashes = BodyHashes()
    body = hashes.want("relaxed")
    hashes.feed(mail[place:])
    hashes.finish()
    return sign(mail[:place], body.digest, keys, now=when, expires=expires) + mail
