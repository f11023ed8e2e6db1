"""The rows about DMARC, ARC and Authentication-Results. Only ARC's validation has somebody beside it: dkimpy."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from benchmarks.mailauth import Row
from benchmarks.mailauth_dkim import Names, Sent, at_once, dkimpy, sent
from benchmarks.mails import mail_of
from benchmarks.signing import Domain, signature
from twisted_mail_node.mailauth.arc import ArcValidator
from twisted_mail_node.mailauth.arc_seal import seal
from twisted_mail_node.mailauth.body import BodyHashes
from twisted_mail_node.mailauth.dkim_sign import SigningKey
from twisted_mail_node.mailauth.dmarc import check
from twisted_mail_node.mailauth.keys import Keys
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.message.authresults import (
    AuthenticationResults,
    MethodResult,
    Property,
    field,
    parse,
    without_ours,
)

SIZE = 10_240


def rows() -> Iterator[Row]:
    """The part of ``mailauth.py``."""
    domain = Domain("d1.example")
    names = Names(domain.zone())
    yield from dmarc_rows(names)
    yield from results_rows()
    yield from arc_rows(domain, names)


def dmarc_rows(names: Names) -> Iterator[Row]:
    """The record at the author domain itself, and two labels above."""

    def row(what: str, author: str, spf: str, dkim: str, expected: Result) -> Row:
        def ours() -> None:
            found = at_once(check(names, author, spf=[(Result.PASS, spf)], dkim=[(Result.PASS, dkim)]))
            if found.result != expected:
                raise SystemExit(f"{what}: {found}")

        return Row(what, ours)

    yield row("DMARC record at the author domain", "d1.example", "d1.example", "d1.example", Result.PASS)
    yield row("DMARC record two labels above", "a.b.d1.example", "d1.example", "a.b.d1.example", Result.PASS)
    yield row("DMARC fail", "d1.example", "other.example", "other.example", Result.FAIL)


def results_rows() -> Iterator[Row]:
    """The field of a usual mail: SPF, two signatures, DMARC."""
    results = AuthenticationResults(
        "mx.local.test",
        (
            MethodResult("spf", "pass", (Property("smtp", "mailfrom", "bounces@d1.example"),)),
            *(
                MethodResult(
                    "dkim",
                    "pass",
                    (
                        Property("header", "d", "d1.example"),
                        Property("header", "s", selector),
                        Property("header", "a", algorithm),
                        Property("header", "b", "swwWqF8u"),
                    ),
                )
                for selector, algorithm in (("r", "rsa-sha256"), ("e", "ed25519-sha256"))
            ),
            MethodResult("dmarc", "pass", (Property("header", "from", "d1.example"),)),
        ),
    )
    made = field(results)
    value = made.partition(b":")[2]
    header = sent(mail_of(SIZE, "d1.example")).header
    theirs = made.replace(b"mx.local.test", b"mx.other.test") + header
    yield Row("A-R write", lambda: field(results))
    yield Row("A-R parse", lambda: parse(value))
    yield Row("A-R take out ours, none there", lambda: without_ours(header, "mx.local.test"))
    yield Row("A-R take out ours, another's there", lambda: without_ours(theirs, "mx.local.test"))


def arc_rows(domain: Domain, names: Names) -> Iterator[Row]:
    """Chains of one, three and ten sets, and making one more."""
    other = dkimpy()
    key = SigningKey.load(domain.rsa_pem, domain.name, "r")
    keys = Keys(names, time.monotonic)
    results = AuthenticationResults("mx.local.test", (MethodResult("dkim", "pass"), MethodResult("spf", "pass")))

    def validated(mail: Sent) -> tuple[Any, bytes]:
        hashes = BodyHashes()
        body = hashes.want("relaxed")
        validator = ArcValidator(mail.header, hashes, now=time.time())
        for piece in mail.pieces:
            hashes.feed(piece)
        hashes.finish()
        return at_once(validator.finish(keys)), body.digest

    def row(mail: Sent, sets: int) -> Row:
        def ours() -> None:
            found, _ = validated(mail)
            if found.result != Result.PASS:
                raise SystemExit(f"ARC validate, {sets}: ours says {found}")

        def beside() -> None:
            found = other.arc_verify(mail.whole, dnsfunc=names.text)
            if found[0] != b"pass":
                raise SystemExit(f"ARC validate, {sets}: dkimpy says {found}")

        return Row(f"ARC validate 10 KiB, sets: {sets}", ours, beside)

    def sealed(mail: Sent) -> bytes:
        arc, digest = validated(mail)
        return seal(mail.header, arc=arc, results=results, body_hash=digest, key=key, now=time.time())

    def sealing(mail: Sent, sets: int) -> Row:
        arc, digest = validated(mail)
        now = time.time()
        return Row(
            f"ARC seal 10 KiB, sets before: {sets}",
            lambda: seal(mail.header, arc=arc, results=results, body_hash=digest, key=key, now=now),
        )

    unsigned = mail_of(SIZE, domain.name)
    mail = sent(signature(unsigned, domain) + unsigned)
    yield sealing(mail, 0)
    for sets in range(1, 11):
        mail = sent(sealed(mail) + mail.whole)
        if sets in (1, 3, 10):
            yield row(mail, sets)
    yield sealing(mail, 10)
