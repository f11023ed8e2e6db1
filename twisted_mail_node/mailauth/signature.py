"""A DKIM-Signature field, read (RFC 6376 section 3.5). ``read_common`` serves ARC-Message-Signature, too.

Whatever is not as the RFC has it makes the whole field void (section 6.1.1): being liberal here is how signatures are
forged.
"""

from __future__ import annotations

import re
from functools import lru_cache
from math import inf
from typing import NamedTuple

from twisted_mail_node.mailauth.tags import (
    TagError,
    base64_of,
    domain_of,
    listed,
    number_of,
    read,
    selector_of,
    shown,
    time_of,
    without_white,
)

#: Names in h=. Each may be a field to be looked for, canonicalized and hashed; mails have some 20.
NAMES_MAX = 1000
#: Seconds that clocks may differ by (RFC 6376 section 3.5, x=, speaks of a fudge factor).
CLOCKS_DIFFER = 300.0
#: Characters of b= that tell one signature from another.
BEGINNING = 8

_DIGEST = 32
#: Characters of an h= that is remembered: a sender has the same in each mail.
_REMEMBERED = 1000
# RFC 5322 section 2.2: field-name.
_NAMES = re.compile(r"[!-9;-~]++(?: *+: *+[!-9;-~]++)*+\Z")
# RFC 6376 section 2.11: hex-octet.
_HEX_OCTET = re.compile(r"=(?:([0-9A-F]{2})|)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Signature(NamedTuple):
    """What a signature says.

    :ivar kind: ``rsa`` or ``ed25519`` (a=).
    :ivar hash_name: ``sha256``.
    :ivar signature: the octets of b=.
    :ivar body_hash: those of bh=.
    :ivar header_canonicalization: ``simple`` or ``relaxed`` (c=).
    :ivar domain: d=, in look-up spelling.
    :ivar selector: s=, in look-up spelling.
    :ivar names: h=, in lower case.
    :ivar length: l=; ``None`` without.
    :ivar created: t=, seconds since the epoch; ``None`` without.
    :ivar expires: x=, likewise.
    :ivar beginning: that of b=, as it stands there.
    :ivar identity: i=, decoded; ``@`` and d= without it.
    :ivar identity_domain: what stands behind the last ``@`` of it, in look-up spelling.
    """

    kind: str
    hash_name: str
    signature: bytes
    body_hash: bytes
    header_canonicalization: str
    body_canonicalization: str
    domain: str
    selector: str
    names: tuple[bytes, ...]
    length: int | None
    created: float | None
    expires: float | None
    beginning: str
    identity: str
    identity_domain: str

    @property
    def algorithm(self) -> str:
        """As a= has it."""
        return f"{self.kind}-{self.hash_name}"


def read_signature(tags: dict[str, str]) -> Signature:
    """The DKIM-Signature of these tags.

    :raises TagError: it is none that counts.
    """
    if required(tags, "v") != "1":
        raise TagError(f"its version is unknown: v={shown(tags['v'])}")
    signature = read_common(tags)
    if "i" not in tags:
        return signature
    identity = _decoded(tags["i"])
    local_part, at, domain = identity.rpartition("@")
    if not at:
        raise TagError(f"its i= has no domain: {shown(identity)}")
    name = domain_of(domain)
    if name != signature.domain and not name.endswith("." + signature.domain):
        raise TagError(f"its i= is not within its d=: {name}, {signature.domain}")
    return signature._replace(identity=f"{local_part}@{name}", identity_domain=name)


def read_common(tags: dict[str, str]) -> Signature:
    """What DKIM-Signature and ARC-Message-Signature (RFC 8617 section 4.1.2) share: all but v= and i=.

    :raises TagError: a tag is missing, or has a value that it must not have.
    """
    kind, hash_name = algorithm_of(required(tags, "a"))
    names = required(tags, "h")
    body_hash = octets_of(tags, "bh")
    if len(body_hash) != _DIGEST:
        raise TagError(f"its bh= has {len(body_hash)} octets, not {_DIGEST}")
    header, body = _canonicalization(tags.get("c", "simple/simple"))
    if "q" in tags and "dns/txt" not in listed(tags["q"].lower()):
        raise TagError(f"its key is not in the DNS: q={shown(tags['q'])}")
    domain = domain_of(required(tags, "d"))
    created = time_of(tags["t"]) if "t" in tags else None
    expires = time_of(tags["x"]) if "x" in tags else None
    if created is not None and expires is not None and not expires > created and expires != inf:
        raise TagError("it expires before it is made: its x= is not after its t=")
    return Signature(
        kind,
        hash_name,
        octets_of(tags, "b"),
        body_hash,
        header,
        body,
        domain,
        selector_of(required(tags, "s")),
        _names(names) if len(names) <= _REMEMBERED else _names.__wrapped__(names),
        number_of(tags["l"]) if "l" in tags else None,
        created,
        expires,
        beginning_of(tags),
        f"@{domain}",
        domain,
    )


def required(tags: dict[str, str], name: str) -> str:
    """The value of a tag that must be there.

    :raises TagError: it is not.
    """
    value = tags.get(name)
    if value is None:
        raise TagError(f"it has no {name}=")
    return value


def octets_of(tags: dict[str, str], name: str) -> bytes:
    """The octets of a tag in base64, which must be there and not empty.

    :raises TagError: otherwise.
    """
    try:
        octets = base64_of(required(tags, name))
    except TagError as error:
        raise TagError(f"of its {name}=: {error}" if name in tags else str(error)) from None
    if not octets:
        raise TagError(f"its {name}= is empty")
    return octets


def beginning_of(tags: dict[str, str]) -> str:
    """The beginning of b=, or ``""``: enough to tell signatures apart, for Authentication-Results."""
    return without_white(tags.get("b", "")[: 2 * BEGINNING])[:BEGINNING]


@lru_cache(maxsize=64)
def algorithm_of(text: str) -> tuple[str, str]:
    """The kind of key and the hash algorithm of an a=.

    :raises TagError: there is none that is used. RFC 8301 section 3.1 has rsa-sha1 fail for good.
    """
    algorithm = text.lower()
    if algorithm == "rsa-sha1":
        raise TagError("it is made with rsa-sha1, which counts no longer")
    kind, _, hash_name = algorithm.partition("-")
    if kind not in ("rsa", "ed25519") or hash_name != "sha256":
        raise TagError(f"its algorithm is unknown: a={shown(text)}")
    return kind, hash_name


def untimely(signature: Signature, now: float) -> str:
    """Why a signature does not count now: a sentence, or ``""`` (RFC 6376 section 3.5, t= and x=)."""
    if signature.expires is not None and signature.expires + CLOCKS_DIFFER < now:
        return "the signature has expired"
    if signature.created is not None and signature.created - CLOCKS_DIFFER > now:
        return "the signature was made in the future"
    return ""


@lru_cache(maxsize=64)
def _canonicalization(text: str) -> tuple[str, str]:
    header, _, body = text.lower().partition("/")
    if header not in ("simple", "relaxed") or body not in ("simple", "relaxed", "") or text.endswith("/"):
        raise TagError(f"its canonicalization is unknown: c={shown(text)}")
    return header, body or "simple"


@lru_cache(maxsize=256)
def _names(text: str) -> tuple[bytes, ...]:
    if text.count(":") >= NAMES_MAX:
        raise TagError(f"its h= names more than {NAMES_MAX} header fields")
    if not _NAMES.match(text):
        raise TagError(f"its h= is not a list of names of header fields: {shown(text)}")
    names = tuple(text.replace(" ", "").lower().encode("ascii").split(b":"))
    if b"from" not in names:
        raise TagError("it does not sign From")
    return names


def _decoded(text: str) -> str:
    """dkim-quoted-printable (RFC 6376 section 2.11). What becomes a control character is refused."""

    def octet(found: re.Match[str]) -> str:
        if found[1] is None:
            raise TagError("its i= has a = that begins no octet")
        return chr(int(found[1], 16))

    text = without_white(text)
    if "=" in text:
        octets = _HEX_OCTET.sub(octet, text.encode("utf-8").decode("latin-1"))
        try:
            text = octets.encode("latin-1").decode("utf-8")
        except UnicodeDecodeError:
            raise TagError("its i= is not UTF-8") from None
    if _CONTROL.search(text):
        raise TagError("its i= has control characters")
    return text


def read_field(value: bytes) -> Signature:
    """The DKIM-Signature in a field's value.

    :raises TagError: it is none that counts.
    """
    return read_signature(read(value))
