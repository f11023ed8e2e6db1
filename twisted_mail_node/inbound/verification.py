"""Finds out who really sent a mail while it comes in: SPF from MAIL on, keys from the header on, the body as it comes.

A ``Verifier`` belongs to all listeners; each mail of an ``mx`` listener that is not from a host of ours gets a
``Verification``. The DNS is asked while content is still on its way, so that at its end most answers are there.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, NamedTuple, cast

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_mail_node.inbound.remembering import Remembered
from twisted_mail_node.inbound.shares import Shares
from twisted_mail_node.mailauth import iprev, spf
from twisted_mail_node.mailauth.arc import Arc, ArcValidator, vouched
from twisted_mail_node.mailauth.arc_seal import seal
from twisted_mail_node.mailauth.arc_sets import there
from twisted_mail_node.mailauth.author import Author, author
from twisted_mail_node.mailauth.body import BodyHash, BodyHashes
from twisted_mail_node.mailauth.dkim_key import SigningKey
from twisted_mail_node.mailauth.dkim_verify import Signed
from twisted_mail_node.mailauth.dkim_verify import Verifier as Signatures
from twisted_mail_node.mailauth.dmarc import Dmarc
from twisted_mail_node.mailauth.dmarc import check as check_dmarc
from twisted_mail_node.mailauth.iprev import Iprev
from twisted_mail_node.mailauth.keys import Keys
from twisted_mail_node.mailauth.outcome import Outcome, authentication_results
from twisted_mail_node.mailauth.resolving import Resolver
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.mailauth.spf import Spf
from twisted_mail_node.net.limits import is_in
from twisted_mail_node.policy.verdict import Asked
from twisted_mail_node.waiting import DeadlineError, Started, go_on, within

_log = Logger()

#: Where the notes of a session are kept (``Asked.notes``).
NOTES = "verification"
#: The part of the time that is kept for DMARC: whoever makes all other look-ups slow does not keep us from asking what
#: the author's domain wants.
DMARC_PART = 1 / 3
#: What a domain asks for when DMARC fails.
_WORSE = {"quarantine": 1, "reject": 2}
_SLOW = "the DNS took too long to answer"
_NO_ARC = Arc(Result.NONE)
#: A result, and the domain it is about.
Passed = tuple[Result, str]


class Verifier:
    """Makes verifications.

    :param resolver: asks the DNS.
    :param keys: public keys, kept for as long as the DNS says.
    :param clock: for deadlines.
    :param now: seconds since the epoch.
    :param receiver: our name, for SPF's macros.
    :param signatures: DKIM signatures of a mail that are looked at.
    :param exempt: networks whose mail is not checked.
    :param trusted: sealers that are believed (ARC), in look-up spelling.
    """

    def __init__(
        self,
        *,
        resolver: Resolver,
        keys: Keys,
        clock: IReactorTime,
        now: Callable[[], float],
        receiver: str,
        signatures: int = 10,
        exempt: tuple[IPv4Network | IPv6Network, ...] = (),
        trusted: frozenset[str] = frozenset(),
        sample: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.resolver = resolver
        self.shares = Shares(resolver)
        self.keys = keys
        self.clock = clock
        self.now = now
        self.receiver = receiver
        self.signatures = signatures
        self.trusted = trusted
        self.sample = sample
        self.remembered = Remembered(clock.seconds)
        self._exempt = exempt

    def begin(self, asked: Asked) -> Verification | None:
        """A mail transaction begins; ``None``: its mail is not checked."""
        if asked.listener != "mx" or asked.may_relay or asked.submitter is not None:
            return None
        if is_in(asked.client, self._exempt) or not _is_address(asked.client):
            return None
        return Verification(self, asked)


@lru_cache(maxsize=1024)
def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


class _Client(NamedTuple):
    """What is found out about a client once, not for each of its mails."""

    helo: str
    client: str
    resolver: Resolver
    keys: Keys
    iprev: Started[Iprev]
    spf: Started[Spf]

    def fits(self, asked: Asked) -> bool:
        """It is still the same client by the same name, and nothing broke."""
        return self.helo == asked.helo and self.client == asked.client and not (self.iprev.failed or self.spf.failed)


class Verification:
    """The checks of one mail. ``header``, ``feed`` and ``finish`` are called in this order; ``cancel`` at any time."""

    __slots__ = (
        "_arc",
        "_asked",
        "_author",
        "_client",
        "_hashes",
        "_keys",
        "_remembered",
        "_sealed",
        "_signatures",
        "_spf",
        "_verifier",
    )  # fmt: skip

    def __init__(self, verifier: Verifier, asked: Asked) -> None:
        self._verifier = verifier
        self._asked = asked
        self._client = self._known_client()
        path = self._reverse_path
        self._remembered = verifier.remembered.find(asked.client, path) if path else None
        self._spf: Started[Spf] | None = None
        if self._remembered is None:
            self._spf = Started(
                spf.check_mail(
                    self._client.resolver, ip=asked.client, helo=asked.helo, reverse_path=path,
                    receiver=verifier.receiver, now=verifier.now(),
                )
            )  # fmt: skip
        self._hashes = BodyHashes()
        self._keys: list[Started[Any]] = []
        self._signatures: Signatures | None = None
        self._arc: ArcValidator | None = None
        self._author = Author("", "there is no header")
        self._sealed: BodyHash | None = None

    @property
    def _reverse_path(self) -> str:
        return "" if self._asked.reverse_path is None else str(self._asked.reverse_path)

    def _known_client(self) -> _Client:
        asked, verifier = self._asked, self._verifier
        known = asked.notes.get(NOTES)
        if isinstance(known, _Client) and known.fits(asked):
            return known
        resolver = verifier.shares.of(asked.client)
        helo = spf.check_helo(
            resolver, ip=asked.client, helo=asked.helo, receiver=verifier.receiver, now=verifier.now()
        )
        name = iprev.check(resolver, asked.client)
        keys = verifier.keys.through(resolver)
        found = _Client(asked.helo, asked.client, resolver, keys, Started(name), Started(helo))
        asked.notes[NOTES] = found
        return found

    def header(self, header: bytes, sealed: bool = False) -> None:
        """The header section is here, as the client sent it.

        :param sealed: a seal of ours will be wanted.
        """
        verifier, now = self._verifier, self._verifier.now()
        self._author = author(header)
        self._signatures = Signatures(header, self._hashes, now=now, most=verifier.signatures)
        keys = self._client.keys
        wanted = self._signatures.begin(keys)
        if there(header):
            self._arc = ArcValidator(header, self._hashes, now=now)
            wanted = (*wanted, *self._arc.begin(keys))
        if sealed:
            self._sealed = self._hashes.want("relaxed")
        if wanted:
            self._keys = [Started(_waited(one)) for one in wanted]

    def feed(self, body: bytes) -> None:
        """A piece of the body."""
        self._hashes.feed(body)

    async def finish(self, seconds: float) -> Outcome:
        """All that can be found out within ``seconds``. Never raises, unless it is cancelled."""
        verifier, asked = self._verifier, self._asked
        self._hashes.finish()
        end = verifier.clock.seconds() + seconds
        until = end - seconds * DMARC_PART
        client = self._client
        name = client.iprev.known or await self._or(client.iprev.value(), until, _iprev_failed)
        helo = client.spf.known or await self._or(
            client.spf.value(), until, lambda words: _spf_failed("helo", asked.helo, words)
        )
        sender = self._remembered or await self._checked_sender(until)
        signed, arc = (), _NO_ARC
        if self._signatures is not None:
            signed = await self._or(self._signed(self._signatures, until), end, _dkim_failed)
        if self._arc is not None:
            arc = await self._or(self._arc.finish(client.keys), until, _arc_failed)
        dmarc = await self._dmarc(sender, helo, signed, end)
        trusted = verifier.trusted
        sealer = vouched(arc, trusted, self._author.domain) if trusted and self._author.domain else ""
        return Outcome(
            asked.client, asked.helo, self._reverse_path, name, helo, sender, signed, self._author, dmarc, arc, sealer
        )

    async def _checked_sender(self, until: float) -> Spf:
        assert self._spf is not None
        found: Spf = self._spf.known or await self._or(
            self._spf.value(), until, lambda words: _spf_failed("mfrom", self._domain, words)
        )
        if self._asked.reverse_path is not None:
            self._verifier.remembered.keep(self._asked.client, self._reverse_path, found)
        return found

    @property
    def _domain(self) -> str:
        path = self._asked.reverse_path
        return self._asked.helo if path is None else path.domain

    async def _signed(self, signatures: Signatures, until: float) -> tuple[Signed, ...]:
        """The signatures; of those whose keys are not here by ``until``, that they could not be checked."""
        clock, keys = self._verifier.clock, self._client.keys
        try:
            return await within(clock, max(until - clock.seconds(), 0.0), signatures.finish(keys))
        except DeadlineError:
            signatures.give_up(_SLOW)
            return await signatures.finish(keys)

    async def _dmarc(self, sender: Spf, helo: Spf, signed: tuple[Signed, ...], end: float) -> Dmarc:
        """DMARC of the author's domain. A mail without a sure author never passes; the strictest wish of the domains
        that some reader may see is obeyed (as RFC 7489 section 6.6.1 has it for several); all are asked at once, for
        one of them may be made to be slow."""
        identity = sender if self._asked.reverse_path is not None else helo
        author = self._author.domain
        # Where our own check broke, nobody knows whose signatures there are: the author's might be among them.
        dkim = [(one.result, one.domain or (author if one.result is Result.TEMPERROR else "")) for one in signed]
        passed = [(identity.result, identity.domain)], dkim
        if author:
            return cast("Dmarc", await self._or(self._policy(author, *passed), end, self._dmarc_failed))
        worst = Dmarc(Result.PERMERROR, "", problem=self._author.problem)
        for policy in [Started(self._policy(domain, *passed)) for domain in self._author.mentioned]:
            found = await self._or(policy.value(), end, self._dmarc_failed)
            if _WORSE.get(found.asked, 0) > _WORSE.get(worst.asked, 0):
                worst = found
        return worst

    async def _policy(self, domain: str, spf: Sequence[Passed], dkim: Sequence[Passed]) -> Dmarc:
        verifier = self._verifier  # not the client's share: that is full of what it wants to be slow
        return await check_dmarc(verifier.resolver, domain, spf=spf, dkim=dkim, sample=verifier.sample())

    def _dmarc_failed(self, words: str) -> Dmarc:
        return Dmarc(Result.TEMPERROR, self._author.domain, problem=words)

    async def _or(self, check: Coroutine[Any, Any, Any], until: float, failed: Callable[[str], Any]) -> Any:
        """What a check comes to; a defect of ours, or no answer in time, is a temperror (house rule 7)."""
        clock = self._verifier.clock
        try:
            waiting = check.send(None)
            return await within(clock, max(until - clock.seconds(), 0.0), _waited(go_on(check, waiting)))
        except StopIteration as stop:  # it did not wait, as nearly always: what it needs is remembered
            return stop.value
        except DeadlineError:
            return failed(_SLOW)
        except CancelledError:
            raise
        except Exception:
            _log.failure("a check of {session} broke", session=self._asked.session)
            return failed("the check broke here")

    def seal(self, header: bytes, outcome: Outcome, authserv_id: str, key: SigningKey, now: float) -> bytes:
        """Our ARC set, to stand before ``header``; empty where none may be added, or it cannot be made: the mail goes
        on without."""
        if self._sealed is None:
            return b""
        try:
            return seal(
                header, arc=outcome.arc, results=authentication_results(authserv_id, outcome),
                body_hash=self._sealed.digest, key=key, now=now,
            )  # fmt: skip
        except Exception:
            _log.failure("a mail of {session} could not be sealed", session=self._asked.session)
            return b""

    def cancel(self) -> None:
        """The mail does not come."""
        if self._spf is not None:
            self._spf.cancel()
        for key in self._keys:
            key.cancel()


async def _waited(awaitable: Any) -> Any:
    return await awaitable


def _iprev_failed(words: str) -> Iprev:
    return Iprev(Result.TEMPERROR, problem=words)


def _spf_failed(scope: str, domain: str, words: str) -> Spf:
    return Spf(Result.TEMPERROR, domain, scope, problem=words)


def _dkim_failed(words: str) -> tuple[Signed, ...]:
    return (Signed(Result.TEMPERROR, "", "", "", "", "", words),)


def _arc_failed(words: str) -> Arc:
    return Arc(Result.TEMPERROR, problem=words)
