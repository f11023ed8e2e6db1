"""ARC as a way for strangers (RFC 8617 section 9): chains that are forged, altered, replayed, and too long."""

from __future__ import annotations

import time

from twisted.trial.unittest import SynchronousTestCase

from tests.dns.fake import FakeResolver
from tests.mailauth import dkim
from tests.mailauth.arcs import BASIC, NOW, Mail, added, as_list, body_hash, forged, hop, key, records, told, validate
from twisted_mail_node.mailauth.arc import Arc, ArcValidator, vouched
from twisted_mail_node.mailauth.arc_seal import seal
from twisted_mail_node.mailauth.body import BodyHashes
from twisted_mail_node.mailauth.keys import Keys
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.message.header import fields

ARC = (b"arc-seal", b"arc-message-signature", b"arc-authentication-results")
TRUSTED = {"a.example", "b.example", "list.example"}


def arc_fields(mail: Mail) -> list[bytes]:
    """The ARC fields of a mail, each with its CRLF."""
    return [field.raw + b"\r\n" for field in fields(mail.header) if field.name.lower() in ARC]


def others(mail: Mail) -> bytes:
    """The rest of its header."""
    return b"".join(field.raw + b"\r\n" for field in fields(mail.header) if field.name.lower() not in ARC) + b"\r\n"


class ForgedTest(SynchronousTestCase):
    """A chain that passes was made by those who are named in it."""

    def setUp(self) -> None:
        """A mail that went through three sealers."""
        self.mail = hop(as_list(hop(BASIC, "a.example")), "b.example")
        self.assertIs(validate(self.mail).result, Result.PASS)

    def fails(self, mail: Mail) -> str:
        """Why a mail's chain fails; nothing is told of its sealers then, and nobody vouches."""
        arc = validate(mail)
        self.assertIs(arc.result, Result.FAIL)
        self.assertEqual((arc.sealers, arc.results), ((), ()))
        self.assertEqual(vouched(arc, {*TRUSTED, "d.example", "evil.example"}, "author.example"), "")
        self.assertTrue(arc.problem.isprintable() and arc.problem)
        return arc.problem

    def test_each_field(self) -> None:
        """Nothing can be changed in any field of the chain: each octet of each counts, but for white space."""
        for place, field in enumerate(arc_fields(self.mail)):
            name, _, value = field.partition(b":")
            with self.subTest(field=name, place=place):
                for old, new in (
                    (b"a.example", b"d.example"),
                    (b"list.example", b"d.example"),
                    (b"dmarc=", b"dmarc=x"),
                ):
                    if old in value:
                        changed = self.mail.header.replace(field, field.replace(old, new, 1))
                        self.fails(Mail(changed, self.mail.body))
                more = name + b":" + value[:-2] + b";x=y\r\n"
                self.fails(Mail(self.mail.header.replace(field, more), self.mail.body))

    def test_status(self) -> None:
        """cv= cannot be altered, whatever it was."""
        for old, new in ((b"cv=none", b"cv=pass"), (b"cv=pass", b"cv=none"), (b"cv=pass", b"cv=fail")):
            self.fails(forged(self.mail, old, new))
        broken = forged(self.mail, b"Subject: ", b"Subject: buy ")
        ended = Mail(added(broken, validate(broken), "b.example") + broken.header, broken.body)
        self.fails(ended)
        self.fails(forged(ended, b"cv=fail", b"cv=pass"))

    def test_removed(self) -> None:
        """A set that is taken out is missed, renumbered or not. But for the newest: without it, the mail is what it was
        before it came there, and whoever sealed there is not named."""
        found = arc_fields(self.mail)
        for kept in (found[:6], found[:3] + found[6:], found[3:6]):
            self.fails(Mail(b"".join(kept) + others(self.mail), self.mail.body))
        renumbered = b"".join(found[:3]).replace(b"i=3", b"i=2") + b"".join(found[6:])
        self.fails(Mail(renumbered + others(self.mail), self.mail.body))
        arc = validate(Mail(b"".join(found[3:]) + others(self.mail), self.mail.body))
        self.assertEqual((arc.result, arc.sealers), (Result.PASS, ("a.example", "list.example")))

    def test_order(self) -> None:
        """Fields may stand in another order, sets may not change places."""
        found = arc_fields(self.mail)
        self.assertIs(validate(Mail(b"".join(reversed(found)) + others(self.mail), self.mail.body)).result, Result.PASS)
        swapped = b"".join(found).replace(b"i=3", b"i=9").replace(b"i=2", b"i=3").replace(b"i=9", b"i=2")
        self.fails(Mail(swapped + others(self.mail), self.mail.body))

    def test_inserted(self) -> None:
        """A set of results that nobody sealed: as a fourth, as a second third, before the first."""
        for instance in (b"4", b"3", b"1", b"03", b"0", b"+3", b"1e1", b"50", b"51", b"999999999999999999999999"):
            forged_set = (
                b"ARC-Authentication-Results: i=%b; a.example; dmarc=pass header.from=author.example\r\n" % instance
            )
            self.fails(Mail(forged_set + self.mail.header, self.mail.body))
        found = b"".join(arc_fields(self.mail)[:3])
        self.fails(Mail(found.replace(b"i=3", b"i=4") + self.mail.header, self.mail.body))

    def test_replayed(self) -> None:
        """The chain of a good mail proves nothing on another mail, whole or in part."""
        spam = Mail(
            b"From: Ann <ann@author.example>\r\nTo: victim@here.example\r\nSubject: buy\r\n"
            b"Date: Sat, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@author.example>\r\n\r\n",
            b"buy\r\n",
        )
        chain = b"".join(arc_fields(self.mail))
        self.fails(Mail(chain + spam.header, spam.body))
        self.fails(Mail(chain + spam.header, self.mail.body))
        self.fails(Mail(chain + others(self.mail), spam.body))

    def test_continued(self) -> None:
        """Whoever takes a good chain to another mail, and seals it, is named in it: it is theirs to be trusted."""
        spam = BASIC._replace(body=b"buy\r\n")
        header = b"".join(arc_fields(self.mail)) + others(self.mail)
        evil = Mail(added(Mail(header, spam.body), Arc(Result.PASS, 3), "evil.example", "fail") + header, spam.body)
        arc = validate(evil)
        self.assertEqual((arc.result, arc.sealers[-1], arc.oldest_pass), (Result.PASS, "evil.example", 4))
        self.assertEqual(vouched(arc, TRUSTED, "author.example"), "")
        # Nor does it help to be followed by one who is trusted.
        arc = validate(hop(evil, "list.example", "fail"))
        self.assertEqual((arc.result, vouched(arc, TRUSTED, "author.example")), (Result.PASS, ""))

    def test_own_word(self) -> None:
        """A stranger's seal that says that DMARC passed vouches for nothing; nor does a trusted name in its results."""
        mail = Mail(forged(BASIC, b"list.example", b"x.example").header, b"buy\r\n")
        set_ = seal(
            mail.header,
            arc=Arc(Result.NONE),
            results=told("a.example", "dmarc=pass"),
            body_hash=body_hash(mail.body),
            key=key("evil.example"),
            now=NOW,
        )
        arc = validate(Mail(set_ + mail.header, mail.body))
        self.assertEqual((arc.result, arc.sealers), (Result.PASS, ("evil.example",)))
        self.assertEqual(vouched(arc, TRUSTED, "author.example"), "")

    def test_other_from(self) -> None:
        """From cannot become another's: it is signed, and a second one is, too."""
        self.fails(forged(self.mail, b"From: Ann <ann@author.example>", b"From: Ann <ann@bank.example>"))
        self.fails(Mail(b"From: Ann <ann@bank.example>\r\n" + self.mail.header, self.mail.body))
        self.fails(Mail(b"from : Ann <ann@bank.example>\r\n" + self.mail.header, self.mail.body))

    def test_seal_signs_names(self) -> None:
        """h= in a seal (section 4.1.3: "MUST result in a cv status of fail"), and tags that stand there twice."""
        for more in (
            b" h=arc-seal;",
            b" d=d.example;",
            b" s=other;",
            b" b=AAAA;",
            b" cv=pass;",
            b" i=3;",
            b" cv=none;",
        ):
            problem = self.fails(forged(self.mail, b"ARC-Seal: i=3;", b"ARC-Seal: i=3;" + more))
            if b"h=" in more:
                self.assertIn("a seal must not have h=", problem)


class ResourcesTest(SynchronousTestCase):
    """What a stranger's chain costs is bounded."""

    def asked(self, mail: Mail, there: dict[str, list[bytes]]) -> tuple[Arc, list[tuple[str, str]]]:
        """What comes of a mail, and what was asked of the DNS."""
        resolver = FakeResolver({name: {"TXT": found} for name, found in there.items()})
        hashes = BodyHashes()
        validator = ArcValidator(mail.header, hashes, now=NOW)
        hashes.feed(mail.body)
        hashes.finish()
        return dkim.now(validator.finish(Keys(resolver, lambda: 0.0))), resolver.asked

    def test_many_fields(self) -> None:
        """A thousand and a hundred thousand ARC fields, and sets beyond fifty, are one look and no question."""
        set_ = b"".join(
            b"ARC-Seal: i=%d; cv=pass; a=rsa-sha256; d=v.example; s=s; b=AA==\r\n"
            b"ARC-Message-Signature: i=%d; a=rsa-sha256; d=v.example; s=s; h=from; bh=AA==; b=AA==\r\n"
            b"ARC-Authentication-Results: i=%d; v.example; none\r\n" % (at, at, at)
            for at in range(1, 52)
        )
        for header in (set_, b"ARC-Seal: i=1; cv=none\r\n" * 1000, b"ARC-Seal:\r\n" * 100_000, set_ * 100):
            begun = time.thread_time()
            arc, asked = self.asked(Mail(header + BASIC.header, BASIC.body), {})
            self.assertLess(time.thread_time() - begun, 0.5)
            self.assertEqual((arc.result, asked), (Result.FAIL, []))
            self.assertEqual(added(Mail(header + BASIC.header, BASIC.body), arc, "a.example"), b"")

    def test_victims(self) -> None:
        """Fifty sets with the domains of victims: the newest message signature is looked at first, and its key is the
        only one that is asked for (section 9.2). One whose body hash is wrong asks for none."""
        mail = BASIC
        for instance in range(50):
            arc = Arc(Result.PASS if instance else Result.NONE, instance)
            mail = Mail(added(mail, arc, "a.example", algorithm="ed") + mail.header, mail.body)
        for instance in range(1, 51):
            old = b"ARC-Seal: i=%d; a=ed25519-sha256; cv=" % instance
            mail = forged(mail, old, old.replace(b"a=ed", b"x=%d; a=ed" % instance))
        header = mail.header
        for instance in range(1, 51):
            header = header.replace(b"d=a.example", b"d=v%d.example" % instance, 1)
        arc, asked = self.asked(Mail(header, mail.body), {})
        self.assertEqual((arc.result, len(asked)), (Result.FAIL, 1))
        arc, asked = self.asked(Mail(header, b"x"), {})
        self.assertEqual((arc.result, len(asked)), (Result.FAIL, 0))

    def test_no_hash(self) -> None:
        """The body of a mail whose chain cannot pass is not hashed for it."""
        mail = forged(hop(BASIC, "a.example"), b"cv=none", b"cv=pass")
        hashes = BodyHashes()
        ArcValidator(mail.header, hashes, now=NOW)
        hashes.feed(b"x")
        self.assertIsNone(hashes._relaxed)
        self.assertIsNone(hashes._simple)

    def test_large(self) -> None:
        """Fifty sets in a header of half a mebibyte, all good, each signing all of it: the older message signatures are
        looked at within a bound only, and no more than that counts as good."""
        mail = Mail(
            BASIC.header.replace(b"Subject: hello", b"Subject: " + (b"a  b" * 200 + b"\r\n ") * 600), BASIC.body
        )
        for instance in range(50):
            arc = Arc(Result.PASS if instance else Result.NONE, instance)
            mail = Mail(added(mail, arc, "a.example", algorithm="ed") + mail.header, mail.body)
        begun = time.thread_time()
        arc, asked = self.asked(mail, records())
        self.assertLess(time.thread_time() - begun, 2.0)
        self.assertEqual((arc.result, arc.oldest_pass), (Result.PASS, 48))
        self.assertEqual(len(asked), 1)

    def test_large_results(self) -> None:
        """Sealers who tell a mebibyte of results: the newest are read, within a bound."""
        many = told("a.example", *["dkim=pass"] * 199, "dmarc=pass")
        many = many._replace(results=tuple(result._replace(comment="x" * 100) for result in many.results))
        mail = BASIC
        for instance in range(20):
            arc = Arc(Result.PASS if instance else Result.NONE, instance)
            digest = body_hash(mail.body)
            set_ = seal(mail.header, arc=arc, results=many, body_hash=digest, key=key("a.example", "ed"), now=NOW)
            mail = Mail(set_ + mail.header, mail.body)
        arc = validate(mail)
        read = [bool(results.results) for results in arc.results]
        self.assertEqual((arc.result, read), (Result.PASS, [False] * 15 + [True] * 5))

    def test_deep_comments(self) -> None:
        """Comments within comments, hundreds of thousands of them, open or closed."""
        for value in (
            b"(" * 400_000,
            b"(" * 200_000 + b")" * 200_000,
            b"(\\" * 200_000,
            b"() " * 130_000,
            b"i" * 400_000,
        ):
            for name in (b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results"):
                begun = time.thread_time()
                arc = validate(Mail(name + b": " + value + b"i=1; x\r\n" + BASIC.header, BASIC.body))
                self.assertLess(time.thread_time() - begun, 1.0)
                self.assertIs(arc.result, Result.FAIL)
