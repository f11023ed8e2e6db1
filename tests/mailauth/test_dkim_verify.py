"""Checking DKIM signatures (RFC 6376 section 6)."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Coroutine
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.dns.fake import FakeResolver
from tests.mailauth.bodies import canonical_body
from tests.mailauth.dkim import DOMAIN, NOW, ed25519_key, keys_of, now, published, rsa_key, signed, verified
from twisted_mail_node.dns.answer import DNSError
from twisted_mail_node.mailauth.body import BodyHashes
from twisted_mail_node.mailauth.canonical import HeaderFields
from twisted_mail_node.mailauth.dkim_key import SigningKey
from twisted_mail_node.mailauth.dkim_verify import LINES_MAX, Signed, Verifier
from twisted_mail_node.mailauth.keys import Keys
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.message.header import border, fields

KEY = rsa_key(1024)
ODD_TAGS = st.sampled_from(
    b"v=1|a=rsa-sha256|a=x|b=YQ==|bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=|c=simple|d=a.b|h=from|h=from:|i=@a.b"
    b"|i==00@a.b|l=1|l=x|q=dns/txt|s=s|t=1|x=2|\xff=|| |\r\n ".split(b"|")
)
ZONE = published(KEY, ed25519_key())
HEADER = (
    b"Received: from a\r\n\tby b\r\nFrom: Joe <joe@example.org>\r\nTo : suzie@example.net\r\n"
    b"Subject: Is \t dinner\r\n   ready \xe4?\r\n"
)
BODY = b"Hi.  There\t\r\n\r\nJoe \r\n\r\n\r\n"
MAIL = HEADER + b"\r\n" + BODY


def made(
    tags: str = "",
    *,
    key: SigningKey = KEY,
    mail: bytes = MAIL,
    drop: str = "",
    c: str = "relaxed/relaxed",
    **changed: str,
) -> bytes:
    """A mail with a signature that is right for its tags, whatever these are.

    :param tags: more tags, each with a semicolon behind it.
    :param drop: a tag that is missing.
    :param changed: values of tags.
    """
    place = border(mail)
    body_kind = c.partition("/")[2] or "simple"
    body = canonical_body(mail[place:], body_kind if body_kind in ("simple", "relaxed") else "simple")
    length = changed.get("l")
    covered = body[: int(length)] if length and length.isdigit() else body
    values = {
        "v": "1",
        "a": key.algorithm,
        "c": c,
        "d": key.domain,
        "s": key.selector,
        "h": "From:To:Subject",
        "bh": b64encode(hashlib.sha256(covered).digest()).decode(),
        **changed,
    }
    values.pop(drop, None)
    text = "".join(f"{name}={value};\r\n\t" for name, value in values.items()) + tags
    field = f"DKIM-Signature: {text} b= ".encode()
    names = [name.strip().lower().encode() for name in values.get("h", "from").split(":")]
    fields_ = HeaderFields(field + b"\r\n" + mail[:place])
    octets = fields_.signed_octets(names, 0, "relaxed" if c.startswith("relaxed") else "simple")
    return field + b64encode(key.sign(octets)) + b"\r\n" + mail


class PassTest(SynchronousTestCase):
    """What passes."""

    def one(self, mail: bytes, **more: Any) -> Signed:
        """What comes of the only signature."""
        (found,) = verified(mail, more.pop("records", ZONE), **more)
        return found

    def test_canonicalizations(self) -> None:
        """All four, both algorithms; ``relaxed`` alone and nothing mean ``simple`` for the body (section 3.5, c=)."""
        for key in (KEY, ed25519_key()):
            for c in ("simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed", "relaxed", "simple"):
                with self.subTest(key=key.algorithm, c=c):
                    self.assertEqual(self.one(made(c=c, key=key)).result, Result.PASS)
        self.assertEqual(self.one(made(c="simple", drop="c")).result, Result.PASS)
        self.assertEqual(self.one(made(c="Relaxed/RELAXED", a="RSA-SHA256")).result, Result.FAIL)  # signed as simple
        self.assertEqual(self.one(made(c="relaxed/RELAXED", a="RSA-SHA256", bh=made_bh("relaxed"))).result, Result.PASS)

    def test_told(self) -> None:
        """Whose signature it is, and how it was made."""
        found = self.one(made("i=joe=20smith@Sub.Example.ORG;", key=ed25519_key()))
        self.assertEqual(found[:5], (Result.PASS, DOMAIN, "ed", "joe smith@sub.example.org", "ed25519-sha256"))
        self.assertEqual((found.problem, found.testing, found.bits), ("", False, 256))
        self.assertEqual(len(found.signature), 8)
        self.assertEqual(self.one(made()).identity, f"@{DOMAIN}")

    def test_changes_that_are_borne(self) -> None:
        """What relaxed bears: case of names, folds, white space, empty lines at the end, fields that are not signed."""
        mail = made()
        changed = (
            mail.replace(b"To : ", b"TO:\r\n\t")
            .replace(b"Hi.  There\t", b"Hi.\tThere")
            .replace(b"Joe \r\n", b"Joe\r\n")
        )
        changed = changed.replace(b"Received:", b"X-New: 1\r\nReceived:").removesuffix(b"\r\n")
        self.assertNotEqual(mail, changed)
        self.assertEqual(self.one(changed).result, Result.PASS)

    def test_order_of_tags(self) -> None:
        """b= may stand first, v= last, and tags that nobody knows anywhere."""
        self.assertEqual(self.one(made("z=From:x|To:y; new=1;")).result, Result.PASS)
        mail = made()
        field = fields(mail)[0]
        value, _, signature = field.value.rpartition(b"b= ")
        signature = signature.strip()
        first = b"DKIM-Signature: b=;" + value.rstrip().removesuffix(b";")
        octets = HeaderFields(first + b"\r\n" + MAIL[: border(MAIL)]).signed_octets(
            (b"from", b"to", b"subject"), 0, "relaxed"
        )
        signature = b64encode(KEY.sign(octets))
        self.assertEqual(
            self.one(first.replace(b"b=;", b"b=" + signature + b";", 1) + b"\r\n" + MAIL).result, Result.PASS
        )

    @given(st.integers(1, 60))
    def test_any_cuts(self, cut: int) -> None:
        """However the body is cut."""
        self.assertEqual(self.one(made(), cut=cut).result, Result.PASS)

    def test_testing(self) -> None:
        """A domain that tests DKIM is told (t=y), pass or fail."""
        zone = {KEY.name: [KEY.public_record().encode() + b"; t=y"]}
        self.assertTrue(self.one(made(), records=zone).testing)
        failed = self.one(made() + b"x", records=zone)
        self.assertEqual((failed.result, failed.testing), (Result.FAIL, True))

    def test_several_keys(self) -> None:
        """Of several keys of a selector the right one is found, whatever kind the others are."""
        other = rsa_key(1024, "other")
        records = [key.public_record().encode() for key in (ed25519_key(), other, KEY)]
        self.assertEqual(self.one(made(), records={KEY.name: [b"v=spf1", *records]}).result, Result.PASS)
        self.assertEqual(self.one(made(), records={KEY.name: records[:2]}).result, Result.FAIL)

    def test_unsigned(self) -> None:
        """A mail without a signature has none, and nothing is hashed or asked."""
        hashes = BodyHashes()
        verifier = Verifier(HEADER, hashes, now=NOW)
        self.assertEqual(verifier.begin(keys_of({})), [])
        self.assertEqual((hashes._simple, hashes._relaxed), (None, None))
        self.assertEqual(now(verifier.finish(keys_of({}))), ())


def made_bh(kind: str) -> str:
    """The bh= of the mail."""
    return b64encode(hashlib.sha256(canonical_body(BODY, kind)).digest()).decode()


class RefusedTest(SynchronousTestCase):
    """What does not pass, and what a postmaster is told."""

    def check(self, mail: bytes, result: Result, words: str, **more: Any) -> Signed:
        """The only signature comes to this."""
        (found,) = verified(mail, more.pop("records", ZONE), **more)
        self.assertEqual((found.result, words in found.problem), (result, True), found)
        self.assertTrue(found.problem.isascii() and found.problem.isprintable())
        return found

    def test_changed(self) -> None:
        """A changed body, a changed header, another key."""
        self.check(made().replace(b"Joe \r", b"Jim \r"), Result.FAIL, "the body was changed after signing")
        self.check(made(c="relaxed/simple") + b"x", Result.FAIL, "the body was changed")
        self.check(made().replace(b"Subject: Is", b"Subject: Was"), Result.FAIL, "the header was changed after signing")
        self.check(made().replace(b"v=1", b"v= 1", 1), Result.FAIL, "the header was changed")
        other = {KEY.name: [rsa_key(1024, "other").public_record().encode()]}
        self.check(made(), Result.FAIL, "made with another key", records=other)

    def test_simple_bears_nothing(self) -> None:
        """Under simple/simple one space is too many."""
        mail = made(c="simple/simple")
        for old, new in ((b"To :", b"To:"), (b"\t\r\n", b"\r\n"), (b"dinner\r\n ", b"dinner\r\n\t")):
            self.assertIn(old, mail)
            self.assertIs(verified(mail.replace(old, new), ZONE)[0].result, Result.FAIL)

    def test_syntax(self) -> None:
        """Whatever is wrong with a tag makes the signature void (section 6.1.1), though it would verify."""
        for words, mail in (
            ("it has no v=", made(drop="v")),
            ("version is unknown", made(v="2")),
            ("version is unknown", made(v="1.0")),
            ("version is unknown", made(v="")),
            ("it has no a=", made(drop="a")),
            ("rsa-sha1, which counts no longer", made(a="rsa-sha1")),
            ("algorithm is unknown: a='rsa-sha512'", made(a="rsa-sha512")),
            ("algorithm is unknown", made(a="rsa")),
            ("canonicalization is unknown", made(c="relaxed/nofws")),
            ("canonicalization is unknown", made(c="relaxed/")),
            ("canonicalization is unknown", made(c="relaxed/simple/simple")),
            ("it has no d=", made(drop="d")),
            ("is no domain name", made(d="org")),
            ("is no domain name", made(d="")),
            ("it has no s=", made(drop="s")),
            ("is no selector", made(s="")),
            ("it has no h=", made(drop="h")),
            ("not a list of names", made(h="")),
            ("not a list of names", made(h="From::To")),
            ("not a list of names", made(h="From:To:")),
            ("not a list of names", made(h="From:To Subject")),
            ("does not sign From", made(h="To:Subject")),
            ("it has no bh=", made(drop="bh")),
            ("its bh= is empty", made(bh="")),
            ("of its bh=: it is not base64", made(bh="xyz")),
            ("its bh= has 2 octets", made(bh="YWI=")),
            ("no number", made("l=-1;")),
            ("no number", made("l=;")),
            ("no number", made("t=now;")),
            ("no number", made("x=1.5;")),
            ("its x= is not after its t=", made("t=20; x=20;")),
            ("its x= is not after its t=", made("t=20; x=19;")),
            ("its key is not in the DNS", made("q=http/well-known;")),
            ("its i= has no domain", made("i=joe;")),
            ("its i= is not within its d=", made("i=@example.net;")),
            ("its i= is not within its d=", made("i=@badexample.org;")),
            ("its i= is not within its d=", made(f"i=@{DOMAIN};", d=f"sub.{DOMAIN}")),
            ("is no domain name", made("i=x@;")),
            ("its i= has control characters", made(f"i=a=0D=0Ab@{DOMAIN};")),
            ("its i= has a = that begins no octet", made(f"i=a=2@{DOMAIN};")),
            ("its i= is not UTF-8", made(f"i=a=FF@{DOMAIN};")),
            ("the tag d= stands in it twice", made(f"d={DOMAIN};")),
            ("not of the form tag=value", made("x;")),
        ):
            with self.subTest(words=words):
                found = self.check(mail, Result.PERMERROR, words)
                self.assertTrue(found.problem.startswith("the signature does not count: "))
        self.check(made().replace(b"b= ", b"b= !"), Result.PERMERROR, "of its b=: it is not base64")

    def test_good_variants(self) -> None:
        """What is odd and right."""
        for mail in (
            made("q=x-other:dns/txt;"),
            made(f'i="a@b"@sub.{DOMAIN};'),
            made("t=1; x=99999999999999;"),
            made("l=" + str(len(canonical_body(BODY, "relaxed"))) + ";"),
            made(h="FROM :\r\n\t To : x-not-there: subject"),
        ):
            self.assertIs(verified(mail, ZONE)[0].result, Result.PASS, mail)

    def test_times(self) -> None:
        """x= past and t= to come do not count, but for some minutes (section 3.5)."""
        t = int(NOW)
        for tags, words in (
            (f"x={t - 301};", "the signature has expired"),
            (f"t={t - 9999}; x={t - 1000};", "the signature has expired"),
            (f"t={t + 301};", "made in the future"),
            ("t=99999999999999;", "made in the future"),
        ):
            found = self.check(made(tags), Result.PERMERROR, words)
            self.assertEqual(found.domain, DOMAIN)
        for tags in (f"x={t - 299};", f"t={t + 299};", f"t={t - 9}; x={t + 9};"):
            self.assertIs(verified(made(tags), ZONE)[0].result, Result.PASS)

    def test_length(self) -> None:
        """l= below the body's length is never a pass, though it verifies; beyond it, it is void (section 3.5)."""
        size = len(canonical_body(BODY, "relaxed"))
        self.check(made(l="5"), Result.POLICY, f"{size - 5} octets at the end of the body are not signed (l=)")
        self.check(made(l="0"), Result.POLICY, f"{size} octets")
        self.check(made(l="5") + b"more\r\n", Result.POLICY, f"{size + 5} octets")
        self.check(made(l="5").replace(b"Hi.", b"Ho."), Result.FAIL, "the body was changed")
        self.check(made(l="5").replace(b"Subject: Is", b"Subject: Was"), Result.FAIL, "the header was changed")
        self.check(made(l=str(size + 1)), Result.PERMERROR, f"covers {size + 1} octets (l=), the body has {size}")
        self.check(made(l="9" * 76), Result.PERMERROR, f"the body has {size}")

    def test_keys(self) -> None:
        """No key, one that is revoked or for something else, one that is too short or long: permerror. Without an
        answer of the DNS, and only then, temperror."""
        p = KEY.public_record().partition("p=")[2]
        for record, words in (
            ("v=DKIM1; p=", "the key was revoked"),
            (f"v=DKIM2; p={p}", "cannot be used"),
            (f"h=sha1; p={p}", "the key is not for sha256"),
            (f"s=other; p={p}", "the key is not for mail"),
            (ed25519_key().public_record(), "the signature is made with rsa, the key is for ed25519"),
            (f"p={p[:-4]}", "holds no RSA key"),
        ):
            self.check(made(), Result.PERMERROR, words, records={KEY.name: [record.encode()]})
        self.check(made(), Result.PERMERROR, f"no key is published at {KEY.name}", records={})
        trouble = {KEY.name: DNSError("SERVFAIL")}
        self.check(made(), Result.TEMPERROR, f"the DNS had no answer for {KEY.name}: SERVFAIL", records=trouble)

    def test_strict(self) -> None:
        """A key with t=s is not for subdomains in i= (section 3.10)."""
        strict = {KEY.name: [f"{KEY.public_record()}; t=s".encode()]}
        self.check(made(f"i=@sub.{DOMAIN};"), Result.PERMERROR, f"the key is for {DOMAIN} alone", records=strict)
        self.assertIs(verified(made(f"i=joe@{DOMAIN};"), strict)[0].result, Result.PASS)
        self.assertIs(verified(made(), strict)[0].result, Result.PASS)

    def test_named_once_more(self) -> None:
        """A field that h= names once more than it was there cannot be added: it takes the place of the null string."""
        mail = made(h="From:From:To:Subject:Subject:Reply-To")
        self.assertIs(verified(mail, ZONE)[0].result, Result.PASS)
        for more in (b"From: eve@example.net\r\n", b"Subject : new\r\n", b"reply-to: eve@example.net\r\n"):
            self.check(more + mail, Result.FAIL, "the header was changed")
            self.check(mail.replace(b"\r\n\r\n", b"\r\n" + more + b"\r\n", 1), Result.FAIL, "the header was changed")
        mail = made(h="From:Subject")
        self.check(mail.replace(b"\r\n\r\n", b"\r\nSubject: below\r\n\r\n", 1), Result.FAIL, "the header was changed")
        self.assertIs(verified(b"Subject: above\r\n" + mail, ZONE)[0].result, Result.PASS)  # by section 5.4.2

    def test_void_says_who(self) -> None:
        """A void signature tells whose it says it is, where that is a name, and nothing that is not."""
        found = self.check(made(v="2"), Result.PERMERROR, "version")
        self.assertEqual((found.domain, found.selector, found.identity), (DOMAIN, "rsa", ""))
        found = self.check(made(d="example.org(x)"), Result.PERMERROR, "no domain name")
        self.assertEqual((found.domain, found.selector), ("", ""))


class ManyTest(SynchronousTestCase):
    """Several signatures."""

    def test_each(self) -> None:
        """Each has its result, from the top down."""
        mail = signed(MAIL, KEY, ed25519_key()) + b"x\r\n"
        mail = signed(mail, ed25519_key())
        self.assertEqual([one.result for one in verified(mail, ZONE)], [Result.PASS, Result.FAIL, Result.FAIL])
        self.assertEqual([one.selector for one in verified(mail, ZONE)], ["ed", "rsa", "ed"])

    def test_limit(self) -> None:
        """Beyond the limit one result says that the rest was not looked at."""
        mail = MAIL
        for _ in range(4):
            mail = signed(mail, ed25519_key())
        found = verified(mail, ZONE, most=3)
        self.assertEqual([one.result for one in found], [Result.PASS] * 3 + [Result.NEUTRAL])
        self.assertEqual(found[-1].problem, "1 more signatures were not looked at")

    def test_lines(self) -> None:
        """A header with too many lines is not looked at."""
        mail = signed(MAIL, KEY)
        (found,) = verified(b"X: y\r\n" * LINES_MAX + mail, ZONE)
        self.assertEqual((found.result, found.problem), (Result.POLICY, f"the header has more than {LINES_MAX} lines"))

    def test_begin(self) -> None:
        """Keys can be looked up while the body arrives: one look-up a key, not asked for again, not even after trouble
        with the DNS."""
        mail = signed(MAIL, KEY, ed25519_key())
        mail = signed(mail, KEY)
        resolver = FakeResolver({KEY.name: {"TXT": ZONE[KEY.name]}, ed25519_key().name: DNSError("SERVFAIL")})
        keys = Keys(resolver, lambda: 0.0)
        hashes = BodyHashes()
        place = border(mail)
        verifier = Verifier(mail[:place], hashes, now=NOW)
        waiting = verifier.begin(keys)
        self.assertEqual(len(waiting), 2)
        for one in waiting:
            assert isinstance(one, Coroutine)
            now(one)
        hashes.feed(mail[place:])
        hashes.finish()
        results = [one.result for one in now(verifier.finish(keys))]
        self.assertEqual(results, [Result.PASS, Result.PASS, Result.TEMPERROR])
        self.assertEqual(len(resolver.asked), 2)

    @given(st.lists(ODD_TAGS, max_size=14))
    def test_anything(self, parts: list[bytes]) -> None:
        """Any value of a DKIM-Signature has one result, with a sentence in printable ASCII."""
        mail = b"DKIM-Signature:" + b";".join(parts) + b"\r\nFrom: x\r\n\r\nbody\r\n"
        (found,) = verified(mail, {})
        self.assertIs(found.result, Result.PERMERROR)  # no key is published anywhere
        self.assertTrue(found.problem.isascii() and found.problem.isprintable() and found.problem)
