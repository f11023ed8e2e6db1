"""The rows about DKIM: mails of 10 KiB, 100 KiB and 10 MiB are signed and verified, by us and by dkimpy.

Both have the mail in memory, each as it wants it: dkimpy in one piece, we in the pieces that a connection brings. Our
keys are loaded once and keys of the DNS are kept, as in the node; dkimpy takes a key's text with each call. A row of
its own shows what the kept keys are worth.
"""

from __future__ import annotations

import importlib
import itertools
import time
from collections.abc import Awaitable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

from benchmarks.mailauth import Row
from benchmarks.mails import mail_of
from benchmarks.signing import Domain, Zone, signature
from twisted_mail_node.dns.answer import MX
from twisted_mail_node.mailauth.body import BodyHashes
from twisted_mail_node.mailauth.dkim_sign import SigningKey, sign
from twisted_mail_node.mailauth.dkim_verify import Verifier
from twisted_mail_node.mailauth.keys import Keys
from twisted_mail_node.message.header import border

SIZES = {"10 KiB": 10_240, "100 KiB": 102_400, "10 MiB": 10 << 20}
#: Octets of a piece of the body.
PIECE = 65_536
#: Different mails that take turns; large ones are one.
MAILS = 20


class Records(NamedTuple):
    """What ``mailauth.resolving`` calls an answer."""

    records: tuple[Any, ...]
    exists: bool
    authentic: bool = False
    canonical: str = ""
    ttl: int = 3600


class Names:
    """A resolver that knows the zone, for us; and a function, for dkimpy.

    :param zone: see ``signing``.
    """

    def __init__(self, zone: Zone) -> None:
        self._nothing, self._empty = Records((), False), Records((), True)
        self._answers: dict[tuple[str, str], Records] = {}
        for name, node in zone.items():
            for rdtype, texts in node.items():
                found: tuple[Any, ...] = tuple(texts)
                if rdtype == "TXT":
                    found = tuple(text.encode() for text in texts)
                elif rdtype == "MX":
                    found = tuple(MX(int(text.split()[0]), text.split()[1]) for text in texts)
                self._answers[name.lower(), rdtype] = Records(found, True, False, name.lower())
        self._names = {name.lower() for name in zone}

    async def query(self, name: str, rdtype: str) -> Records:
        """See ``mailauth.resolving``."""
        name = name.lower()
        return self._answers.get((name, rdtype)) or (self._empty if name in self._names else self._nothing)

    def text(self, name: bytes, timeout: float = 5) -> bytes | None:
        """As dkimpy asks."""
        found = self._answers.get((name.decode().rstrip(".").lower(), "TXT"))
        return found.records[0] if found else None


def at_once(story: Awaitable[Any]) -> Any:
    """The result of a coroutine that never waits."""
    steps = story.__await__()
    try:
        next(steps)
    except StopIteration as done:
        return done.value
    raise RuntimeError("it waits for something")


class Sent(NamedTuple):
    """A mail for both: whole, and in pieces."""

    whole: bytes
    header: bytes
    pieces: tuple[bytes, ...]


def sent(mail: bytes) -> Sent:
    """Cut it. The header section has the empty line, as ``header.border`` means it."""
    at = border(mail)
    body = mail[at:]
    return Sent(mail, mail[:at], tuple(body[at : at + PIECE] for at in range(0, len(body), PIECE)))


def dkimpy() -> ModuleType:
    """:raises SystemExit: it is not there."""
    try:
        return importlib.import_module("dkim")
    except ImportError:
        raise SystemExit("dkimpy is not installed; the extra test has it") from None


def rows() -> Iterator[Row]:
    """The part of ``mailauth.py``."""
    domain = Domain("d1.example")
    names = Names(domain.zone())
    for label, size in SIZES.items():
        yield verify_row(f"DKIM verify rsa-sha256 relaxed/relaxed {label}", domain, names, size, wanted=8)
    for label, size in SIZES.items():
        yield sign_row(f"DKIM sign rsa-sha256 relaxed/relaxed {label}", domain, size, wanted=15)
    small, large = SIZES["10 KiB"], SIZES["10 MiB"]
    yield verify_row("DKIM verify rsa-sha256 relaxed/relaxed 10 KiB, key read anew", domain, names, small, kept=False)
    for label, size in (("10 KiB", small), ("10 MiB", large)):
        yield verify_row(f"DKIM verify rsa-sha256 simple/simple {label}", domain, names, size, how="simple/simple")
    yield verify_row("DKIM verify rsa-sha256 relaxed/relaxed 10 KiB plain", domain, names, small, kind="plain")
    for kind in ("prose", "plain", "base64"):
        yield verify_row(f"DKIM verify rsa-sha256 relaxed/relaxed 10 MiB {kind}", domain, names, large, kind=kind)
    yield verify_row("DKIM verify ed25519-sha256 relaxed/relaxed 10 KiB", domain, names, small, "ed25519-sha256")
    yield sign_row("DKIM sign ed25519-sha256 relaxed/relaxed 10 KiB", domain, small, "ed25519-sha256")


def mails(domain: Domain, size: int, kind: str) -> list[bytes]:
    """Unsigned, all different."""
    count = MAILS if size < 1 << 20 else 1
    return [mail_of(size, domain.name, number, kind=kind) for number in range(count)]


def verify_row(
    what: str,
    domain: Domain,
    names: Names,
    size: int,
    algorithm: str = "rsa-sha256",
    *,
    how: str = "relaxed/relaxed",
    kind: str = "usual",
    kept: bool = True,
    wanted: float = 0.0,
) -> Row:
    """:param kept: our keys of the DNS are kept from mail to mail."""
    other = dkimpy()
    signed = [sent(signature(mail, domain, algorithm, how) + mail) for mail in mails(domain, size, kind)]
    mine, theirs = itertools.cycle(signed), itertools.cycle(signed)
    keys = Keys(names, time.monotonic)

    def ours() -> None:
        mail = next(mine)
        hashes = BodyHashes()
        verifier = Verifier(mail.header, hashes, now=time.time())
        for piece in mail.pieces:
            hashes.feed(piece)
        hashes.finish()
        found = at_once(verifier.finish(keys if kept else Keys(names, time.monotonic)))
        if [str(one.result) for one in found] != ["pass"]:
            raise SystemExit(f"{what}: ours says {found}")

    def beside() -> None:
        if not other.verify(next(theirs).whole, dnsfunc=names.text):
            raise SystemExit(f"{what}: dkimpy does not verify it")

    return Row(what, ours, beside, wanted)


def sign_row(what: str, domain: Domain, size: int, algorithm: str = "rsa-sha256", *, wanted: float = 0.0) -> Row:
    """Both sign with the same key; dkimpy verifies what we made, before anything is measured."""
    other = dkimpy()
    unsigned = [sent(mail) for mail in mails(domain, size, "usual")]
    mine, theirs = itertools.cycle(unsigned), itertools.cycle(unsigned)
    rsa = algorithm == "rsa-sha256"
    key = SigningKey.load(domain.rsa_pem if rsa else domain.ed25519_pem, domain.name, "r" if rsa else "e")
    secret = domain.rsa_pem if rsa else domain.ed25519_seed
    selector = b"r" if rsa else b"e"

    def ours() -> bytes:
        mail = next(mine)
        hashes = BodyHashes()
        wanted_hash = hashes.want("relaxed")
        for piece in mail.pieces:
            hashes.feed(piece)
        hashes.finish()
        return sign(mail.header, wanted_hash.digest, [key], now=time.time()) + mail.header

    def beside() -> None:
        other.sign(
            next(theirs).whole,
            selector,
            domain.name.encode(),
            secret,
            canonicalize=(b"relaxed", b"relaxed"),
            signature_algorithm=algorithm.encode(),
        )

    made = ours() + b"".join(unsigned[0].pieces)
    if not other.verify(made, dnsfunc=Names(domain.zone()).text):
        raise SystemExit(f"{what}: dkimpy does not verify what we signed")
    return Row(what, ours, beside, wanted)
