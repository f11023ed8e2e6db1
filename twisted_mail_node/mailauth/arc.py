"""The Authenticated Received Chain of a mail (RFC 8617), validated: who passed it on, and what each found on arrival.

``ArcValidator`` is made of the header section, tells ``BodyHashes`` what it wants before the body arrives, and judges
when all is there. The steps are those of section 5.2, but for the older message signatures, which come last: they
change no result, and a forged chain shall cost little.

Every error is final, that of the DNS too (section 5.2.1: "All errors, including DNS failures, become unrecoverable and
are considered permanent"): the result is none, pass or fail. ``Arc.temporary`` tells that a look-up failed, for whoever
would rather be sent the mail again later than go on with a broken chain.

A chain that passes proves who sealed, not that anybody may be believed (section 9.4): ``vouched`` asks for trust.
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Iterator, Sequence
from typing import NamedTuple

from twisted_mail_node.mailauth.arc_sets import INSTANCE_MAX, KINDS, Chain, Part, collect, there
from twisted_mail_node.mailauth.body import BodyHash, BodyHashes
from twisted_mail_node.mailauth.canonical import HeaderFields, emptied, relaxed
from twisted_mail_node.mailauth.dkim_verify import LINES_MAX
from twisted_mail_node.mailauth.keys import KeyProblem, Keys, PublicKey
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.mailauth.signature import Signature, algorithm_of, octets_of, read_common, required, untimely
from twisted_mail_node.mailauth.tags import TagError, domain_of, selector_of, time_of
from twisted_mail_node.message.address import domain_key
from twisted_mail_node.message.authresults import AuthenticationResults, parse

#: Octets that the older message signatures of a chain may cover together. They are looked at for ``oldest_pass`` only,
#: and fifty sets of a stranger could sign a large header fifty times.
OLDER_OCTETS_MAX = 1 << 20
#: Octets of results that are read, from the newest on. A chain of a stranger may have a mebibyte of them.
RESULTS_OCTETS_MAX = 128 << 10
#: Sets, from the newest, whose keys are looked up before anything is known to be good. Most chains have no more, and
#: nobody shall make us ask for a hundred names with one mail (RFC 8617 section 9.2).
EARLY_MAX = 3


class Arc(NamedTuple):
    """What a chain is worth (RFC 8617 section 4.4). Only one that passes says who sealed, and what they found:
    "fail" must be treated like no chain (section 5.2).

    :ivar result: none, pass or fail.
    :ivar instance: the highest instance that is there; 0 without ARC.
    :ivar sealers: d= of each seal, in order of instances, in look-up spelling.
    :ivar problem: why it fails, for a postmaster.
    :ivar results: what each sealer says of the mail as it came; only to be believed of those who are trusted. Without
        results where the field cannot be read: the chain stands nevertheless (section 3.4).
    :ivar oldest_pass: the lowest instance whose message signature is still good, with all later ones; 0 when all are
        (section 5.2, step 5). Whoever sealed it may have changed the mail before, and nobody did so since.
    :ivar selectors: s= of each seal.
    :ivar algorithm: a= of the last seal.
    :ivar temporary: it fails because the DNS had no answer.
    """

    result: Result
    instance: int = 0
    sealers: tuple[str, ...] = ()
    problem: str = ""
    results: tuple[AuthenticationResults, ...] = ()
    oldest_pass: int = 0
    selectors: tuple[str, ...] = ()
    algorithm: str = ""
    temporary: bool = False

    @property
    def selector(self) -> str:
        """s= of the last seal."""
        return self.selectors[-1] if self.selectors else ""


class _Broken(Exception):
    """The chain fails; the sentence says why."""

    def __init__(self, sentence: str, temporary: bool = False) -> None:
        super().__init__(sentence)
        self.temporary = temporary


class _Seal(NamedTuple):
    """What a seal says; and of a message signature what it has in common with a seal."""

    part: Part
    kind: str
    domain: str
    selector: str
    octets: bytes

    @property
    def name(self) -> str:
        """What it is, for people."""
        what = "seal" if self.part.kind == 2 else "message signature"
        return f"the {what} of instance {self.part.instance} ({self.domain})"


class _Message(NamedTuple):
    """A message signature."""

    seal: _Seal
    signature: Signature
    body: BodyHash


class ArcValidator:
    """Validates the chain of one mail.

    :param header: the header section.
    :param hashes: is told what is wanted; nothing when the chain cannot pass.
    :param now: seconds since the epoch.
    """

    def __init__(self, header: bytes, hashes: BodyHashes, *, now: float) -> None:
        self._now = now
        self._fields = HeaderFields(b"")
        self._chain = Chain()
        if there(header):
            if header.count(b"\r\n") > LINES_MAX:
                self._chain = Chain((), INSTANCE_MAX, f"the header has more than {LINES_MAX} lines", True)
            else:
                self._fields = HeaderFields(header)
                self._chain = collect(self._fields)
        self._problem = self._chain.problem
        self._seals: list[_Seal] = []
        self._messages: list[_Message | None] = []
        self._found: dict[tuple[str, str], tuple[PublicKey, ...] | KeyProblem] = {}
        try:
            self._read(self._chain, hashes)
        except _Broken as broken:
            self._problem = str(broken)

    def _read(self, chain: Chain, hashes: BodyHashes) -> None:
        """:raises _Broken: a signature that counts cannot be good, whatever key and body."""
        for each in reversed(chain.sets):
            try:
                self._seals.insert(0, _seal(each.seal))
            except TagError as error:
                raise _Broken(f"the seal of instance {each.instance} ({each.seal.domain}): {error}") from error
        for each in chain.sets:
            try:
                self._messages.append(_message(each.message, hashes))
            except TagError as error:
                if each is chain.sets[-1]:
                    said = f"the message signature of instance {each.instance} ({each.message.domain}): {error}"
                    raise _Broken(said) from error
                self._messages.append(None)

    def begin(self, keys: Keys) -> Sequence[Awaitable[None]]:
        """Look-ups of the newest sets' keys, one for each, to be awaited beside the body's arrival and before
        ``finish``. What they find is kept here; they raise nothing."""
        if self._problem:
            return []
        newest = [message.seal for message in self._messages[-EARLY_MAX:] if message is not None]
        newest += self._seals[-EARLY_MAX:]
        return [self._look_up(keys, *name) for name in sorted({(seal.selector, seal.domain) for seal in newest})]

    async def _look_up(self, keys: Keys, selector: str, domain: str) -> None:
        try:
            self._found[selector, domain] = await keys.all(selector, domain)
        except KeyProblem as problem:
            self._found[selector, domain] = problem

    async def finish(self, keys: Keys) -> Arc:
        """The body is there and ``hashes.finish()`` was called: what the chain is worth."""
        instance = self._chain.highest
        if not instance and not self._problem:
            return Arc(Result.NONE)
        try:
            if self._problem:
                raise _Broken(self._problem)
            newest = self._messages[-1]
            assert newest is not None
            await self._check_message(newest, keys)
            await self._check_seals(keys)
        except _Broken as broken:
            return Arc(Result.FAIL, instance, problem=str(broken), temporary=broken.temporary)
        return Arc(
            Result.PASS,
            instance,
            tuple(seal.domain for seal in self._seals),
            results=_results(self._chain),
            oldest_pass=await self._oldest_pass(keys),
            selectors=tuple(seal.selector for seal in self._seals),
            algorithm=self._seals[-1].part.tags["a"].lower(),
        )

    async def _check_message(self, message: _Message, keys: Keys) -> None:
        """:raises _Broken: it does not verify."""
        signature, name = message.signature, message.seal.name
        late = untimely(signature, self._now)
        if late:
            raise _Broken(f"{name} does not count: {late}")
        if signature.length is not None and signature.length != message.body.length:
            raise _Broken(f"{name} is one of {signature.length} octets of a body of {message.body.length} (l=)")
        if signature.body_hash != message.body.digest:
            raise _Broken(f"{name} does not verify: the body was changed")
        place = message.seal.part.place
        octets = self._fields.signed_octets(signature.names, place, signature.header_canonicalization)
        await self._verify(message.seal, octets, keys)

    async def _check_seals(self, keys: Keys) -> None:
        """All, from the newest: each signs the sets up to its own (RFC 8617 section 5.1.1).

        :raises _Broken: one does not verify.
        """
        lines = [self._fields.canonical(part.place) for each in self._chain.sets for part in each]
        for seal in reversed(self._seals):
            lines[-1] = relaxed(emptied(seal.part.field))
            await self._verify(seal, b"\r\n".join(lines), keys)
            del lines[-len(KINDS) :]

    async def _oldest_pass(self, keys: Keys) -> int:
        """RFC 8617 section 5.2, step 5. What is no longer looked at does not count as good."""
        left = OLDER_OCTETS_MAX
        for instance in range(len(self._messages) - 1, 0, -1):
            message = self._messages[instance - 1]
            if message is None:
                return instance + 1
            left -= sum(len(field.raw) for field in self._fields.choose(message.signature.names))
            if left < 0:
                return instance + 1
            try:
                await self._check_message(message, keys)
            except _Broken:
                return instance + 1
        return 0

    async def _verify(self, seal: _Seal, octets: bytes, keys: Keys) -> None:
        """:raises _Broken: no key of its selector makes it good."""
        if (seal.selector, seal.domain) not in self._found:
            await self._look_up(keys, seal.selector, seal.domain)
        found = self._found[seal.selector, seal.domain]
        if isinstance(found, KeyProblem):
            raise _Broken(f"{seal.name} does not verify: {found}", found.result is Result.TEMPERROR)
        unfit = [key.unfit(seal.kind, "sha256") for key in found]
        for key, why in zip(found, unfit, strict=True):
            if not why and key.verify(seal.octets, "sha256", octets):
                return
        what = "an ARC field" if seal.part.kind == 2 else "a field of the header"
        changed = f"{what} was changed, or the signature was made with another key"
        raise _Broken(f"{seal.name} does not verify: {unfit[0] if all(unfit) else changed}")


def _seal(part: Part) -> _Seal:
    """RFC 8617 section 4.1.3.

    :raises TagError: it cannot be good.
    """
    tags = part.tags
    if "h" in tags:
        raise TagError("a seal must not have h=")
    kind, _ = algorithm_of(required(tags, "a"))
    if "t" in tags:
        time_of(tags["t"])
    octets = octets_of(tags, "b")
    return _Seal(part, kind, domain_of(required(tags, "d")), selector_of(required(tags, "s")), octets)


def _message(part: Part, hashes: BodyHashes) -> _Message:
    """RFC 8617 section 4.1.2: a DKIM-Signature without v=, whose i= is another.

    A signature of a part of the body (l=) is as good as none. So l= asks for no hash of its own.

    :raises TagError: it cannot be good.
    """
    signature = read_common(part.tags)
    seal = _Seal(part, signature.kind, signature.domain, signature.selector, signature.signature)
    return _Message(seal, signature, hashes.want(signature.body_canonicalization))


def _results(chain: Chain) -> tuple[AuthenticationResults, ...]:
    """What the sealers say, in order of instances."""
    left = RESULTS_OCTETS_MAX
    found: list[AuthenticationResults] = []
    for each in reversed(chain.sets):
        left -= len(each.results.payload)
        try:
            found.append(parse(each.results.payload) if left >= 0 else AuthenticationResults(""))
        except ValueError:
            found.append(AuthenticationResults(""))
    return tuple(reversed(found))


def vouched(arc: Arc, trusted: Collection[str], author_domain: str) -> str:
    """The domain of the sealer whose word lets a mail count as one that passed DMARC (RFC 8617 section 7.2.1), or "".

    The chain passes. From the newest seal back to the first (newest) instance whose results say ``dmarc=pass`` for the
    author's domain, that one included, every sealer is trusted. Whoever sealed before that one was already there when
    it looked, and what they did is in its result; whoever sealed after it may have changed the mail as they liked,
    From and all, and nothing but their good name says that they did not. One who is not trusted among those breaks it.

    Results count as ``dmarc=pass`` when they have one result of DMARC, which is "pass" and names the author's domain
    and no other (header.from): not "pass" beside "fail", not for another domain, not without a domain.

    :param trusted: domains of sealers (d=), not of their subdomains.
    :param author_domain: that of the one From which the mail has now; "" when it has no sure one.
    """
    author = _key(author_domain)
    if arc.result is not Result.PASS or not author:
        return ""
    believed = {_key(domain) for domain in trusted} - {""}
    for sealer, results in zip(reversed(arc.sealers), reversed(arc.results), strict=True):
        if sealer not in believed:
            return ""
        if list(_authors(results)) == [author]:
            return sealer
    return ""


def _authors(results: AuthenticationResults) -> Iterator[str]:
    """For each result of DMARC, and each domain that it names, the domain; "" where it is not "pass" or names none."""
    for found in results.results:
        if found.method == "dmarc":
            domains = [value for ptype, name, value in found.properties if (ptype, name) == ("header", "from")]
            yield from (_key(domain) if found.result == "pass" else "" for domain in domains or [""])


def _key(domain: str) -> str:
    try:
        return domain_key(domain)
    except ValueError:
        return ""
