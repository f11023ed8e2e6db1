"""Checks the DKIM signatures of a mail (RFC 6376 section 6), while its body arrives::

hashes = BodyHashes()
verifier = Verifier(header, hashes, now=now)
for piece in body:
    hashes.feed(piece)
hashes.finish()
results = await verifier.finish(keys)
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import NamedTuple

from twisted_mail_node.mailauth.body import BodyHash, BodyHashes
from twisted_mail_node.mailauth.canonical import HeaderFields
from twisted_mail_node.mailauth.keys import KeyProblem, Keys, PublicKey
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.mailauth.signature import Signature, beginning_of, read_signature, untimely
from twisted_mail_node.mailauth.tags import TagError, domain_of, read, selector_of
from twisted_mail_node.message.header import has

#: Signatures that are looked at (RFC 6376 section 4.2 allows a limit). Mail through several lists has five or six.
SIGNATURES_MAX = 10
#: Lines of a header section. Each costs some microseconds before the first hash, and some hundred octets until the body
#: is there, in thousands of sessions at once; mails have 50 to 200 lines, and through fifty sealers a thousand.
LINES_MAX = 10_000

_NAME = b"dkim-signature"


class Signed(NamedTuple):
    """What came of one DKIM-Signature.

    :ivar domain: d=, in look-up spelling; ``""`` when it cannot be read.
    :ivar identity: i=, decoded.
    :ivar algorithm: a=; ``""`` when it is none of ours.
    :ivar signature: the beginning of b=, for ``header.b``.
    :ivar problem: why it does not pass: a sentence for postmasters.
    :ivar testing: the domain is testing DKIM (t=y of its key).
    :ivar bits: of the key; 0 when none was found.
    """

    result: Result
    domain: str
    selector: str
    identity: str
    algorithm: str
    signature: str
    problem: str = ""
    testing: bool = False
    bits: int = 0


class _Waiting(NamedTuple):
    """A signature that is good so far, where its field stands, and the hash it needs."""

    place: int
    signature: Signature
    body: BodyHash


class Verifier:
    """The signatures of one mail.

    :param header: the header section.
    :param hashes: told here what is wanted, before the body's first octet.
    :param now: seconds since the epoch: when the mail was received.
    :param most: signatures that are looked at, from the top down: the last hop's come first.
    """

    def __init__(self, header: bytes, hashes: BodyHashes, *, now: float, most: int = SIGNATURES_MAX) -> None:
        self._looked_at: list[_Waiting | Signed] = []
        self._found: dict[tuple[str, str], tuple[PublicKey, ...] | KeyProblem] = {}
        self._fields: HeaderFields | None = None
        if not has(header, _NAME):
            return
        if len(header) > 3 * LINES_MAX and header.count(b"\r\n") > LINES_MAX:  # the shortest lines have three octets
            self._looked_at.append(_nothing(f"the header has more than {LINES_MAX} lines", Result.POLICY))
            return
        self._fields = HeaderFields(header)
        places = self._fields.places(_NAME)
        for place in places[:most]:
            found = _read(self._fields.value(place), now)
            if isinstance(found, Signature):
                body = hashes.want(found.body_canonicalization, found.hash_name, found.length)
                self._looked_at.append(_Waiting(place, found, body))
            else:
                self._looked_at.append(found)
        if len(places) > most:
            self._looked_at.append(_nothing(f"{len(places) - most} more signatures were not looked at", Result.NEUTRAL))

    def begin(self, keys: Keys) -> Sequence[Awaitable[None]]:
        """Look-ups of the keys that are not remembered, one for each, to be awaited beside the body's arrival and
        before ``finish``. What they find is kept here; they raise nothing."""
        wanted = set()
        for one in self._looked_at:
            if isinstance(one, _Waiting):
                name = one.signature.selector, one.signature.domain
                found = keys.known(*name)
                if found:
                    self._found[name] = found
                else:
                    wanted.add(name)
        return [self._look_up(keys, *name) for name in sorted(wanted)]

    async def finish(self, keys: Keys) -> tuple[Signed, ...]:
        """What came of each signature, from the top down; empty when there is none.

        The body's hashes are finished before. Keys that ``begin`` has not found are looked up.
        """
        results = []
        for one in self._looked_at:
            if isinstance(one, Signed):
                results.append(one)
                continue
            name = one.signature.selector, one.signature.domain
            if name not in self._found:
                await self._look_up(keys, *name)
            results.append(self._checked(one, self._found[name]))
        return tuple(results)

    def give_up(self, why: str) -> None:
        """Keys that are not found by now are not waited for: ``finish`` tells of their signatures alone that they could
        not be checked, and asks for nothing more."""
        for one in self._looked_at:
            if isinstance(one, _Waiting):
                name = one.signature.selector, one.signature.domain
                self._found.setdefault(name, KeyProblem(why, Result.TEMPERROR))

    async def _look_up(self, keys: Keys, selector: str, domain: str) -> None:
        try:
            self._found[selector, domain] = await keys.all(selector, domain)
        except KeyProblem as problem:
            self._found[selector, domain] = problem

    def _checked(self, one: _Waiting, keys: tuple[PublicKey, ...] | KeyProblem) -> Signed:
        signature = one.signature
        if isinstance(keys, KeyProblem):
            return _signed(signature, keys.result, str(keys))
        fit = [key for key in keys if not _unfit(signature, key)]
        if not fit:
            return _signed(signature, Result.PERMERROR, _unfit(signature, keys[0]), keys[0])
        result, problem = _body(one)
        if result is not Result.FAIL and result is not Result.PERMERROR:
            assert self._fields is not None
            octets = self._fields.signed_octets(signature.names, one.place, signature.header_canonicalization)
            for key in fit:
                if key.verify(signature.signature, signature.hash_name, octets):
                    return _signed(signature, result, problem, key)
            result = Result.FAIL
            problem = "the header was changed after signing, or the signature was made with another key"
        return _signed(signature, result, problem, fit[0])


def _read(value: bytes, now: float) -> Signature | Signed:
    """A signature that may be good, or what is wrong with it (RFC 6376 section 6.1.1)."""
    tags: dict[str, str] = {}
    try:
        tags = read(value)
        signature = read_signature(tags)
    except TagError as error:
        return _void(tags, f"the signature does not count: {error}")
    problem = untimely(signature, now)
    return _signed(signature, Result.PERMERROR, problem) if problem else signature


def _unfit(signature: Signature, key: PublicKey) -> str:
    if key.strict and signature.identity_domain != signature.domain:
        return f"the key is for {signature.domain} alone, not for {signature.identity_domain}"
    return key.unfit(signature.kind, signature.hash_name)


def _body(one: _Waiting) -> tuple[Result, str]:
    """What the body says (RFC 6376 section 6.1.3, step 3). A body of which a part is not signed may have anything
    appended: section 8.2. Whoever signs so is not believed."""
    wanted = one.body
    if wanted.unsigned < 0:
        return Result.PERMERROR, f"the signature covers {wanted.limit} octets (l=), the body has {wanted.length}"
    if wanted.digest != one.signature.body_hash:
        return Result.FAIL, "the body was changed after signing"
    if wanted.unsigned:
        return Result.POLICY, f"{wanted.unsigned} octets at the end of the body are not signed (l=)"
    return Result.PASS, ""


def _signed(signature: Signature, result: Result, problem: str, key: PublicKey | None = None) -> Signed:
    return Signed(
        result,
        signature.domain,
        signature.selector,
        signature.identity,
        signature.algorithm,
        signature.beginning,
        problem,
        key is not None and key.testing,
        0 if key is None else key.bits,
    )


def _void(tags: dict[str, str], problem: str) -> Signed:
    """A signature that does not count. Whose it says it is, is told where that is a name."""
    try:
        domain, selector = domain_of(tags.get("d", "")), selector_of(tags.get("s", ""))
    except TagError:
        domain = selector = ""
    return Signed(Result.PERMERROR, domain, selector, "", "", beginning_of(tags), problem)


def _nothing(problem: str, result: Result) -> Signed:
    return Signed(result, "", "", "", "", "", problem)
