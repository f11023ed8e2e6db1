"""Public keys in the DNS (RFC 6376 section 3.6): how a record is read, and which keys a selector has.

``Keys`` asks and remembers; a ``PublicKey`` says what it is fit for, and checks signatures.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from twisted_mail_node.mailauth.resolving import NoAnswerError, Resolver
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.mailauth.tags import DOMAIN_MAX, TagError, base64_of, listed, read, shown

#: RFC 8301 section 3.2: signatures with less are not valid.
RSA_BITS_MIN = 1024
#: RFC 8301 section 3.2 wants 4096 at least. A check of 8192 bits takes ten times one of 2048; more is a burden.
RSA_BITS_MAX = 8192
#: Everybody has 65537. A check with an exponent as long as the key takes a hundred times as long.
EXPONENT_MAX = 1 << 32
#: Octets of a record: an RSA key of 8192 bits has some 1400.
RECORD_MAX = 8192
#: Keys of one name that are tried. RFC 6376 section 3.6.2.2 wants one; two stand there while somebody errs.
KEYS_MAX = 4
#: Seconds that an answer is remembered at most, whatever its TTL: a key that is revoked is to be known that day.
REMEMBERED_MAX = 3600.0

_PADDING = PKCS1v15()
_SHA256 = SHA256()
_ED25519_OCTETS = 32
_MAIL = ("*", "email")


class KeyProblem(Exception):
    """There is no key to check with; the sentence says why.

    :ivar result: ``TEMPERROR`` when the DNS had no answer, else ``PERMERROR``.
    """

    def __init__(self, sentence: str, result: Result = Result.PERMERROR) -> None:
        super().__init__(sentence)
        self.result = result


class PublicKey:
    """A key record (RFC 6376 section 3.6.1).

    :ivar kind: ``rsa`` or ``ed25519`` (k=).
    :ivar bits: of the modulus; 256 for Ed25519.
    :ivar hashes: the hash algorithms it may be used with (h=); empty for all.
    :ivar services: those it is for (s=).
    :ivar flags: of t=.
    """

    __slots__ = ("_ed25519", "_rsa", "bits", "flags", "hashes", "kind", "services")

    def __init__(
        self,
        key: RSAPublicKey | Ed25519PublicKey,
        *,
        hashes: frozenset[str] = frozenset(),
        services: frozenset[str] = frozenset("*"),
        flags: frozenset[str] = frozenset(),
    ) -> None:
        self._rsa = key if isinstance(key, RSAPublicKey) else None
        self._ed25519 = None if isinstance(key, RSAPublicKey) else key
        self.kind = "rsa" if self._rsa is not None else "ed25519"
        self.bits = self._rsa.key_size if self._rsa is not None else 256
        self.hashes = hashes
        self.services = services
        self.flags = flags

    @property
    def testing(self) -> bool:
        """The domain is testing DKIM (t=y)."""
        return "y" in self.flags

    @property
    def strict(self) -> bool:
        """i= may name no subdomain of d= (t=s)."""
        return "s" in self.flags

    def unfit(self, kind: str, hash_name: str) -> str:
        """Why a signature by these algorithms cannot be checked with this key: a sentence, or ``""``.

        RFC 6376 section 6.1.2, steps 6 and 8, section 3.6.1 (s=), and RFC 8301 section 3.2.
        """
        if kind != self.kind:
            return f"the signature is made with {kind}, the key is for {self.kind}"
        if self.hashes and hash_name not in self.hashes:
            return f"the key is not for {hash_name}"
        if self.services.isdisjoint(_MAIL):
            return "the key is not for mail"
        if kind == "rsa" and not RSA_BITS_MIN <= self.bits <= RSA_BITS_MAX:
            return f"the key has {self.bits} bits, not {RSA_BITS_MIN} to {RSA_BITS_MAX}"
        return ""

    def verify(self, signature: bytes, hash_name: str, octets: bytes) -> bool:
        """Whether the signature is one of these octets: RFC 6376 section 3.3.2, or RFC 8463 section 3.

        :param hash_name: ``sha256``; no other signature is good (RFC 8301 section 3.1).
        """
        if hash_name != "sha256":
            return False
        try:
            if self._rsa is not None:
                self._rsa.verify(signature, octets, _PADDING, _SHA256)
            elif self._ed25519 is not None:
                self._ed25519.verify(signature, hashlib.sha256(octets).digest())
        except (InvalidSignature, ValueError):
            return False
        return True


@lru_cache(maxsize=1024)
def read_key(record: bytes) -> PublicKey:
    """The key in a record, its strings joined.

    :raises TagError: it is no key record, or has no key that can be used.
    """
    if len(record) > RECORD_MAX:
        raise TagError(f"it has more than {RECORD_MAX} octets")
    tags = read(record)
    if "v" in tags and (next(iter(tags)) != "v" or tags["v"] != "DKIM1"):
        raise TagError("its version is not DKIM1, or does not stand first")
    if "p" not in tags:
        raise TagError("it has no p=")
    kind = tags.get("k", "rsa").lower()
    if kind not in ("rsa", "ed25519"):
        raise TagError(f"it is for an unknown kind of key: {shown(kind)}")
    if not tags["p"]:
        raise TagError("it says that the key was revoked")
    try:
        octets = base64_of(tags["p"])
    except TagError as error:
        raise TagError(f"of its p=: {error}") from None
    return PublicKey(
        _rsa(octets) if kind == "rsa" else _ed25519(octets),
        hashes=frozenset(part.lower() for part in listed(tags["h"])) if "h" in tags else frozenset(),
        services=frozenset(part.lower() for part in listed(tags.get("s", "*"))),
        flags=frozenset(part.lower() for part in listed(tags.get("t", ""))),
    )


def _rsa(octets: bytes) -> RSAPublicKey:
    """RFC 6376 section 3.6.1 wants an RSAPublicKey; its examples and everybody have it in a SubjectPublicKeyInfo."""
    try:
        key = load_der_public_key(octets)
    except (ValueError, UnsupportedAlgorithm):
        raise TagError("its p= holds no RSA key") from None
    if not isinstance(key, RSAPublicKey):
        raise TagError("its p= holds no RSA key")
    if key.public_numbers().e > EXPONENT_MAX:
        raise TagError("the exponent of its key is too large")
    return key


def _ed25519(octets: bytes) -> Ed25519PublicKey:
    """RFC 8463 section 4.2: the key itself."""
    if len(octets) != _ED25519_OCTETS:
        raise TagError(f"its p= holds no Ed25519 key: that has {_ED25519_OCTETS} octets, not {len(octets)}")
    return Ed25519PublicKey.from_public_bytes(octets)


class _Found:
    """What an answer of the DNS came to, and until when it holds."""

    __slots__ = ("keys", "problem", "until")

    def __init__(self, keys: tuple[PublicKey, ...], problem: str, until: float) -> None:
        self.keys = keys
        self.problem = problem
        self.until = until


class Keys:
    """The public keys of others.

    :param seconds: tells the time, for TTLs.
    :param size: names that are remembered.
    """

    def __init__(self, resolver: Resolver, seconds: Callable[[], float], size: int = 4096) -> None:
        self._resolver = resolver
        self._seconds = seconds
        self._size = size
        self._found: OrderedDict[str, _Found] = OrderedDict()

    async def get(self, selector: str, domain: str) -> PublicKey:
        """The key of a selector; of several the first.

        :raises KeyProblem: there is none.
        """
        return (await self.all(selector, domain))[0]

    def through(self, resolver: Resolver) -> Keys:
        """The same keys, remembered together, asked for by another resolver."""
        other = object.__new__(Keys)
        other._resolver, other._seconds, other._size, other._found = resolver, self._seconds, self._size, self._found
        return other

    def known(self, selector: str, domain: str) -> tuple[PublicKey, ...]:
        """What ``all`` gives, where it is remembered; else nothing."""
        found = self._found.get(f"{selector}._domainkey.{domain}")
        return () if found is None or found.until <= self._seconds() else found.keys

    async def all(self, selector: str, domain: str) -> tuple[PublicKey, ...]:
        """All keys of a selector: one at least, and at most ``KEYS_MAX``. Records that are wrong do not count beside
        one that is right (RFC 6376 section 6.1.2, step 4).

        :param selector: in look-up spelling, and so the domain (``tags.selector_of``, ``tags.domain_of``).
        :raises KeyProblem: there is none.
        """
        name = f"{selector}._domainkey.{domain}"  # RFC 6376 section 3.6.2.1
        now = self._seconds()
        found = self._found.get(name)
        if found is None or found.until <= now:
            found = await self._ask(name)
            if found.until > now:
                self._keep(name, found)
        else:
            self._found.move_to_end(name)
        if found.problem:
            raise KeyProblem(found.problem)
        return found.keys

    def _keep(self, name: str, found: _Found) -> None:
        self._found[name] = found
        self._found.move_to_end(name)
        while len(self._found) > self._size:
            self._found.popitem(last=False)

    async def _ask(self, name: str) -> _Found:
        if len(name) > DOMAIN_MAX:
            raise KeyProblem(f"no key can be published at {shown(name)}: the name is too long")
        try:
            answer = await self._resolver.query(name, "TXT")
        except NoAnswerError as error:
            raise KeyProblem(f"the DNS had no answer for {name}: {error}", Result.TEMPERROR) from error
        until = self._seconds() + min(answer.ttl, REMEMBERED_MAX)
        records = [record for record in answer.records if isinstance(record, bytes)]
        if not records:
            return _Found((), f"no key is published at {name}", until)
        keys: list[PublicKey] = []
        problem = ""
        for record in records[:KEYS_MAX]:
            try:
                keys.append(read_key(record))
            except TagError as error:
                problem = problem or f"the key record at {name} cannot be used: {error}"
        return _Found(tuple(keys), "" if keys else problem, until)
