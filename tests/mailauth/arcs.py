"""Mails for the tests of ARC: sealed hop by hop, changed on the way, validated without a network."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from tests.mailauth import dkim
from twisted_mail_node.mailauth.arc import Arc, ArcValidator
from twisted_mail_node.mailauth.arc_seal import seal
from twisted_mail_node.mailauth.body import BodyHashes
from twisted_mail_node.mailauth.dkim_key import SigningKey
from twisted_mail_node.mailauth.keys import Keys
from twisted_mail_node.message.authresults import AuthenticationResults, MethodResult, Property
from twisted_mail_node.message.header import border

NOW = 1_790_000_000.0
#: Who seals in these tests.
SEALERS = ("a.example", "b.example", "list.example", "d.example", "evil.example")


class Mail(NamedTuple):
    """A mail.

    :ivar header: with its empty line.
    """

    header: bytes
    body: bytes


BASIC = Mail(
    b"Received: from author.example by a.example; Sat, 1 Jan 2026 00:00:00 +0000\r\n"
    b"From: Ann <ann@author.example>\r\nTo: list@list.example\r\nSubject: hello\r\n"
    b"Date: Sat, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@author.example>\r\nMIME-Version: 1.0\r\n\r\n",
    b"Hello,\r\n  world  \r\n\r\n",
)


def split(octets: bytes) -> Mail:
    """A mail out of its octets."""
    at = border(octets)
    return Mail(octets[:at], octets[at:])


def body_hash(body: bytes) -> bytes:
    """The digest that a message signature of ours has."""
    hashes = BodyHashes()
    wanted = hashes.want("relaxed")
    hashes.feed(body)
    hashes.finish()
    return wanted.digest


def validate(mail: Mail, keys: Keys | None = None, now: float = NOW) -> Arc:
    """What the chain of a mail is worth.

    :param keys: those of ``SEALERS`` without it.
    """
    hashes = BodyHashes()
    validator = ArcValidator(mail.header, hashes, now=now)
    hashes.feed(mail.body)
    hashes.finish()
    return dkim.now(validator.finish(keys or known()))


@cache
def _rsa() -> RSAPrivateKey:
    return generate_private_key(65537, 2048)


@cache
def key(domain: str, algorithm: str = "rsa") -> SigningKey:
    """A key of a domain; selector ``rsa`` or ``ed``."""
    if algorithm == "ed":
        return SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))), domain, "ed")
    return SigningKey(_rsa(), domain, "rsa")


@cache
def records() -> dict[str, list[bytes]]:
    """The key records of ``SEALERS``."""
    return dkim.published(*(key(domain, algorithm) for domain in SEALERS for algorithm in ("rsa", "ed")))


def known() -> Keys:
    """The public keys of ``SEALERS``."""
    return dkim.keys_of(records())


def told(sealer: str, *methods: str, header_from: str = "author.example") -> AuthenticationResults:
    """What a sealer says of a mail: ``told("a.example", "spf=pass", "dmarc=pass")``."""
    results = []
    for method, _, result in (text.partition("=") for text in methods):
        properties = (Property("header", "from", header_from),) if method == "dmarc" else ()
        results.append(MethodResult(method, result, properties))
    return AuthenticationResults(sealer, tuple(results))


def added(mail: Mail, arc: Arc, domain: str, dmarc: str = "pass", algorithm: str = "rsa") -> bytes:
    """The set with which a domain seals."""
    return seal(
        mail.header,
        arc=arc,
        results=told(domain, f"dmarc={dmarc}"),
        body_hash=body_hash(mail.body),
        key=key(domain, algorithm),
        now=NOW,
    )


def hop(mail: Mail, domain: str, dmarc: str = "pass", algorithm: str = "rsa") -> Mail:
    """What leaves a host that validates, adds its Received, and seals."""
    arc = validate(mail)
    mail = Mail(b"Received: by " + domain.encode() + b"\r\n" + mail.header, mail.body)
    return Mail(added(mail, arc, domain, dmarc, algorithm) + mail.header, mail.body)


def as_list(mail: Mail, arc: Arc | None = None) -> Mail:
    """What leaves a mailing list: a tag in Subject, a footer, its seal."""
    arc = arc or validate(mail)
    header = mail.header.replace(b"Subject: ", b"Subject: [list] ")
    mail = Mail(b"List-Id: <list.example>\r\n" + header, mail.body + b"-- \r\nThe list\r\n")
    return Mail(added(mail, arc, "list.example", "fail") + mail.header, mail.body)


def forged(mail: Mail, old: bytes, new: bytes) -> Mail:
    """A mail with something else in its header, which must be there."""
    assert old in mail.header, old
    return Mail(mail.header.replace(old, new), mail.body)
