"""Tests of ``mailauth.arc`` and ``mailauth.arc_sets``: chains are validated."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.dns.fake import FakeResolver
from tests.mailauth import dkim
from tests.mailauth.arcs import BASIC, NOW, Mail, as_list, forged, hop, key, known, records, told, validate
from twisted_mail_node.dns.answer import DNSError
from twisted_mail_node.mailauth import arc_seal
from twisted_mail_node.mailauth.arc import Arc, ArcValidator, vouched
from twisted_mail_node.mailauth.arc_sets import Chain, collect
from twisted_mail_node.mailauth.body import BodyHashes
from twisted_mail_node.mailauth.canonical import HeaderFields
from twisted_mail_node.mailauth.keys import Keys
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.message.authresults import AuthenticationResults, MethodResult, Property

SET = (
    b"ARC-Seal: i=%d; cv=%b; a=rsa-sha256; d=a.example; s=s; b=AA==\r\n"
    b"ARC-Message-Signature: i=%d; a=rsa-sha256; d=a.example; s=s; h=from; bh=AA==; b=AA==\r\n"
    b"ARC-Authentication-Results: i=%d; a.example; none\r\n"
)


def sets(count: int) -> bytes:
    """So many sets, newest first."""
    return b"".join(SET % (at, b"pass" if at > 1 else b"none", at, at) for at in range(count, 0, -1))


def chain(header: bytes) -> Chain:
    """The chain of a header."""
    return collect(HeaderFields(header + b"\r\n"))


class SetsTest(SynchronousTestCase):
    """Structure (RFC 8617 section 5.2, steps 1 to 3)."""

    def test_none(self) -> None:
        """A mail without ARC has no chain, and no problem."""
        self.assertEqual(chain(b"From: a@example.org\r\n"), Chain())

    def test_order(self) -> None:
        """Sets are told by their instances, wherever their fields stand."""
        lines = sets(3).splitlines(keepends=True)
        for at in range(len(lines)):
            found = chain(b"".join(lines[at:] + lines[:at]))
            self.assertEqual(found.problem, "")
            self.assertEqual([each.instance for each in found.sets], [1, 2, 3])
            self.assertEqual([part.name for part in found.sets[1]][2], "ARC-Seal")

    def test_missing(self) -> None:
        """A set without one of its three fields is none."""
        lines = sets(2).splitlines(keepends=True)
        for at, name in enumerate(("ARC-Seal", "ARC-Message-Signature", "ARC-Authentication-Results")):
            found = chain(b"".join(lines[:at] + lines[at + 1 :]))
            self.assertEqual((found.sets, found.problem), ((), f"instance 2 has no {name}"))

    def test_twice(self) -> None:
        """A field that stands there twice breaks the chain."""
        lines = sets(2).splitlines(keepends=True)
        for line in lines:
            self.assertIn("has more than one ARC-", chain(b"".join([*lines, line])).problem)

    def test_gap(self) -> None:
        """Instances without gaps."""
        header = SET % (3, b"pass", 3, 3) + SET % (1, b"none", 1, 1)
        self.assertEqual(chain(header).problem, "instance 2 has no ARC-Authentication-Results")

    def test_status(self) -> None:
        """cv= is "none" in the first seal and "pass" in all others; "fail" in the newest is told apart, and ends it."""
        for first, second, said in (
            (b"pass", b"pass", "the seal of instance 1 (a.example) must say cv=none, and does not"),
            (b"none", b"none", "the seal of instance 2 (a.example) must say cv=pass, and does not"),
            (b"fail", b"pass", "the seal of instance 1 (a.example) must say cv=none, and does not"),
            (b"none", b"fail", "the seal of instance 2 (a.example) says that the chain was broken already"),
        ):
            found = chain(SET % (2, second, 2, 2) + SET % (1, first, 1, 1))
            self.assertEqual(found.problem, said)
            self.assertEqual(found.ended, second == b"fail")

    def test_fifty(self) -> None:
        """Fifty sets are a chain that goes on no further; fifty-one are none."""
        found = chain(sets(50))
        self.assertEqual((found.problem, found.highest, found.ended, len(found.sets)), ("", 50, True, 50))
        found = chain(sets(51))
        self.assertEqual((found.sets, found.ended), ((), True))
        self.assertEqual(found.problem, "there are more ARC fields than 50 sets have")
        self.assertFalse(chain(sets(49)).ended)

    def test_instances(self) -> None:
        """An instance is one or two digits from 1 on, alone."""
        for bad in (b"0", b"00", b"+1", b"-1", b"1e3", b"1.0", b"100", b"1" * 9999, b"", b" ", b"1 2", b"\xd9\xa1"):
            for name in (b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results"):
                header = sets(1).replace(name + b": i=1;", name + b": i=" + bad + b";")
                with self.subTest(bad=bad, name=name):
                    found = chain(header)
                    self.assertEqual((found.sets, found.highest), ((), 1))
                    self.assertTrue(found.problem.startswith(f"an {name.decode()} field cannot be read: "))
        self.assertEqual(
            chain(sets(1).replace(b"i=1", b"i=51")).problem, "instance 51 is above the 50 that are allowed"
        )

    def test_two_digits(self) -> None:
        """``01`` is 1 (section 3.9: position is 1*2DIGIT), and so stands there twice beside it."""
        self.assertEqual(chain(sets(1).replace(b"i=1", b"i=01")).problem, "")
        self.assertIn("more than one", chain(sets(1) + sets(1).replace(b"i=1", b"i=01")).problem)

    def test_comments(self) -> None:
        """Comments and folds stand where the grammar has CFWS: around i, = and its number, before cv='s value."""
        header = (
            sets(2).replace(b": i=2;", b": (i=1 \\( (;)) i\r\n (x)=\t(=) 2 (y);").replace(b"cv=pass", b"cv=(no) pass")
        )
        found = chain(header)
        self.assertEqual((found.problem, len(found.sets)), ("", 2))
        self.assertIn("cannot be read", chain(sets(2).replace(b": i=2;", b": (i=2;")).problem)

    def test_any_place(self) -> None:
        """i= of a seal and a message signature stands anywhere among their tags; not so that of the results."""
        header = sets(1).replace(b"Seal: i=1; cv=none;", b"Seal: cv=none; i = 1;")
        self.assertEqual(chain(header.replace(b"Signature: i=1; ", b"Signature: ") + b"").problem[:12], "an ARC-Messa")
        self.assertEqual(chain(header).problem, "")
        results = header.replace(b"Results: i=1; a.example; none", b"Results: a.example; none; i=1")
        self.assertIn("an ARC-Authentication-Results field cannot be read", chain(results).problem)

    def test_tags_twice(self) -> None:
        """A tag that stands there twice makes the field void, i= before all."""
        for more in (b"i=1; ", b"i=2; ", b"d=b.example; ", b"cv=none; "):
            header = sets(1).replace(b"Seal: i=1; cv=none;", b"Seal: i=1; cv=none; d=x.example; " + more)
            self.assertIn("an ARC-Seal field cannot be read", chain(header).problem)

    def test_case(self) -> None:
        """Names of fields and the words of cv= are of any case, names of tags are not."""
        header = sets(2).replace(b"ARC-", b"arc-").replace(b"cv=pass", b"cv=Pass")
        self.assertEqual(chain(header).problem, "")
        self.assertIn("cannot be read", chain(sets(1).replace(b": i=1", b": I=1")).problem)

    @settings(deadline=None, max_examples=300)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from((b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results", b"arc-seal ")),
                st.sampled_from(
                    (b"i=1;", b" i = 2;", b"i=50;", b"cv=none; i=1", b"i=1; cv=none", b"i=3; cv=fail;", b"(")
                )
                | st.binary(max_size=12).map(lambda octets: octets.replace(b"\r", b"").replace(b"\n", b"")),
                st.sampled_from((b"", b" cv=pass; d=x.example", b"\r\n\tcv=fail", b";", b" i=1")),
            ),
            max_size=8,
        )
    )
    def test_any(self, parts: list[tuple[bytes, bytes, bytes]]) -> None:
        """Whatever stands there: a chain without gaps, or one printable sentence; never both, and nothing is raised."""
        header = b"".join(name + b":" + value + rest + b"\r\n" for name, value, rest in parts)
        found = chain(header)
        self.assertTrue(found.problem.isprintable())
        if found.problem:
            self.assertEqual(found.sets, ())
        self.assertEqual([each.instance for each in found.sets], list(range(1, len(found.sets) + 1)))
        arc = validate(Mail(header + b"\r\n", b""))
        self.assertIs(arc.result, Result.FAIL if parts else Result.NONE)


class ValidateTest(SynchronousTestCase):
    """Signatures and seals (section 5.2, steps 4 to 7)."""

    def test_none(self) -> None:
        """Without ARC nothing is asked of anybody."""
        hashes = BodyHashes()
        validator = ArcValidator(BASIC.header, hashes, now=NOW)
        self.assertEqual(list(validator.begin(known())), [])
        self.assertEqual(dkim.now(validator.finish(known())), Arc(Result.NONE))

    def test_hops(self) -> None:
        """A chain of several hops passes, with who sealed in their order, and what they said."""
        mail = hop(hop(hop(BASIC, "a.example"), "b.example", "fail"), "d.example", algorithm="ed")
        arc = validate(mail)
        self.assertEqual(
            arc,
            Arc(
                Result.PASS,
                3,
                ("a.example", "b.example", "d.example"),
                "",
                (told("a.example", "dmarc=pass"), told("b.example", "dmarc=fail"), told("d.example", "dmarc=pass")),
                0,
                ("rsa", "rsa", "ed"),
                "ed25519-sha256",
            ),
        )
        self.assertEqual(arc.selector, "ed")

    def test_list(self) -> None:
        """A list that changes the mail and seals breaks earlier message signatures, and no chain: the oldest one that
        is good is its own, and stays so."""
        mail = as_list(hop(hop(BASIC, "a.example"), "b.example"))
        self.assertEqual((*validate(mail)[:2], validate(mail).oldest_pass), (Result.PASS, 3, 3))
        mail = hop(hop(mail, "d.example"), "b.example")
        self.assertEqual((*validate(mail)[:2], validate(mail).oldest_pass), (Result.PASS, 5, 3))

    def test_changed(self) -> None:
        """Whoever changes the mail after the last seal breaks the chain; the sentence says what and whose."""
        mail = hop(hop(BASIC, "a.example"), "b.example")
        arc = validate(mail._replace(body=mail.body + b"more\r\n"))
        self.assertEqual(
            arc.problem, "the message signature of instance 2 (b.example) does not verify: the body was changed"
        )
        self.assertEqual((arc.result, arc.instance, arc.sealers, arc.results), (Result.FAIL, 2, (), ()))
        arc = validate(forged(mail, b"Subject: ", b"Subject: Re: "))
        self.assertEqual(
            arc.problem,
            "the message signature of instance 2 (b.example) does not verify: a field of the header was changed, or "
            "the signature was made with another key",
        )
        for added in (b"From: x@evil.example\r\n", b"Reply-To: x@evil.example\r\n", b"Content-Type: text/html\r\n"):
            self.assertIs(validate(Mail(added + mail.header, mail.body)).result, Result.FAIL)

    def test_received(self) -> None:
        """What hosts add on the way breaks nothing."""
        mail = hop(BASIC, "a.example")
        mail = Mail(b"Received: by x.example\r\nAuthentication-Results: x.example; none\r\n" + mail.header, mail.body)
        self.assertIs(validate(mail).result, Result.PASS)

    def test_older_results(self) -> None:
        """Results that an earlier sealer wrote cannot be changed: its seal covers them, and so do all later ones."""
        mail = hop(hop(BASIC, "a.example", "fail"), "b.example")
        arc = validate(forged(mail, b"dmarc=fail", b"dmarc=pass"))
        self.assertEqual(
            arc.problem,
            "the seal of instance 2 (b.example) does not verify: an ARC field was changed, or the signature was made "
            "with another key",
        )

    def test_key_gone(self) -> None:
        """A key that is gone is told with the sealer's domain, and the chain fails for good."""
        mail = hop(hop(BASIC, "a.example"), "b.example")
        there = {name: found for name, found in records().items() if "a.example" not in name}
        arc = validate(mail, dkim.keys_of(there))
        self.assertEqual((arc.result, arc.temporary), (Result.FAIL, False))
        self.assertEqual(
            arc.problem,
            "the seal of instance 1 (a.example) does not verify: no key is published at rsa._domainkey.a.example",
        )

    def test_no_dns(self) -> None:
        """A DNS that gives no answer makes a chain fail (section 5.2.1); it is told apart."""
        mail = hop(BASIC, "a.example")
        arc = validate(mail, dkim.keys_of({"rsa._domainkey.a.example": DNSError("time-out")}))
        self.assertEqual((arc.result, arc.temporary), (Result.FAIL, True))
        self.assertIn("the DNS had no answer for rsa._domainkey.a.example", arc.problem)

    def test_unfit_key(self) -> None:
        """A key of another kind, or one that is not for mail, makes nothing good."""
        mail = hop(BASIC, "a.example")
        record = key("a.example").public_record().encode()
        for other, said in (
            (key("a.example", "ed").public_record().encode(), "the signature is made with rsa, the key is for ed25519"),
            (record.replace(b"k=rsa", b"k=rsa; s=tlsrpt"), "the key is not for mail"),
        ):
            arc = validate(mail, dkim.keys_of({"rsa._domainkey.a.example": [other]}))
            self.assertTrue(arc.problem.endswith(said), arc.problem)
        arc = validate(mail, dkim.keys_of({"rsa._domainkey.a.example": [other, record]}))
        self.assertIs(arc.result, Result.PASS)

    def test_seal_tags(self) -> None:
        """A seal with h= fails (section 4.1.3), and so does one without what it needs, before any key is asked for."""
        mail = hop(BASIC, "a.example")
        for old, new, said in (
            (b"cv=none;", b"cv=none; h=from;", "a seal must not have h="),
            (b"cv=none; d=a.example;", b"cv=none;", "it has no d="),
            (b"a=rsa-sha256; cv=none;", b"a=rsa-sha1; cv=none;", "it is made with rsa-sha1, which counts no longer"),
            (b"cv=none; d=a.example", b"cv=none; d=a)b", "'a)b' is no domain name"),
            (b"t=1790000000;\r\n\tb=", b"t=x;\r\n\tb=", "'x' is no number"),
        ):
            arc = validate(forged(mail, old, new), dkim.keys_of({}))
            self.assertIn(f": {said}", arc.problem)
            self.assertTrue(arc.problem.startswith("the seal of instance 1 ("))

    def test_message_tags(self) -> None:
        """The newest message signature is what a DKIM-Signature is: it signs From, all of the body, and has not
        expired; its v= means nothing."""
        mail = hop(BASIC, "a.example")
        for old, new, said in (
            (b"h=from:from:", b"h=sender:", "it does not sign From"),
            (b"c=relaxed/relaxed;", b"c=relaxed/relaxed; l=1;", "is one of 1 octets of a body of 16 (l=)"),
            (b"c=relaxed/relaxed;", b"c=relaxed/relaxed; x=1790000001;", "another key"),
            (b"c=relaxed/relaxed;", b"c=relaxed/relaxed; v=2;", "another key"),
            (b"c=relaxed/relaxed;", b"c=relaxed/nofws;", "its canonicalization is unknown: c='relaxed/nofws'"),
        ):
            arc = validate(forged(mail, old, new))
            self.assertTrue(arc.problem.endswith(said), arc.problem)
        arc = validate(forged(mail, b"c=relaxed/relaxed;", b"c=relaxed/relaxed; x=1790000001;"), now=NOW + 9999)
        self.assertEqual(arc.problem[-25:], "the signature has expired")

    def test_unreadable_results(self) -> None:
        """Results that nobody can read do not harm the chain (section 3.4)."""
        for payload in (b"((", b"a.example", b"\xff; none", b""):
            self.patch(arc_seal, "field", lambda *_, **__: b"ARC-Authentication-Results: i=1;" + payload + b"\r\n")  # noqa: B023
            arc = validate(hop(BASIC, "a.example"))
            self.assertEqual((arc.result, arc.results), (Result.PASS, (AuthenticationResults(""),)))

    def test_begin(self) -> None:
        """The keys of the newest sets can be looked up early, each once; then nothing more is asked."""
        mail = BASIC
        for domain in ("a.example", "b.example", "d.example", "b.example", "d.example"):
            mail = hop(mail, domain)
        resolver = FakeResolver({name: {"TXT": found} for name, found in records().items()})
        keys = Keys(resolver, lambda: 0.0)
        hashes = BodyHashes()
        validator = ArcValidator(mail.header, hashes, now=NOW)
        for waiting in validator.begin(keys):
            dkim.now(waiting)  # type: ignore[arg-type]
        self.assertEqual(resolver.asked, [("rsa._domainkey.b.example", "TXT"), ("rsa._domainkey.d.example", "TXT")])
        hashes.feed(mail.body)
        hashes.finish()
        self.assertIs(dkim.now(validator.finish(keys)).result, Result.PASS)
        self.assertEqual(len(resolver.asked), 3)

    def test_begin_without_answer(self) -> None:
        """A look-up that fails early raises nothing: the chain fails at its end."""
        hashes = BodyHashes()
        validator = ArcValidator(hop(BASIC, "a.example").header, hashes, now=NOW)
        keys = dkim.keys_of({"rsa._domainkey.a.example": DNSError("time-out")})
        for waiting in validator.begin(keys):
            dkim.now(waiting)  # type: ignore[arg-type]
        hashes.feed(BASIC.body)
        hashes.finish()
        self.assertTrue(dkim.now(validator.finish(keys)).temporary)


class VouchedTest(SynchronousTestCase):
    """Whose word counts (section 7.2.1)."""

    def arc(self, *said: tuple[str, str, str]) -> Arc:
        """A chain that passes: sealer, result of DMARC, domain, from the first on."""
        results = tuple(told(sealer, f"dmarc={dmarc}", header_from=domain) for sealer, dmarc, domain in said)
        return Arc(Result.PASS, len(said), tuple(sealer for sealer, _, _ in said), results=results)

    def test_list(self) -> None:
        """Host and list are trusted, the list saw the mail before it changed it: the one who saw DMARC pass."""
        arc = self.arc(("mx.example", "pass", "author.example"), ("list.example", "fail", "author.example"))
        self.assertEqual(vouched(arc, {"mx.example", "list.example"}, "author.example"), "mx.example")
        self.assertEqual(vouched(arc, ["MX.example.", "list.example"], "Author.example"), "mx.example")

    def test_newest_first(self) -> None:
        """The newest who saw it pass is enough: who sealed before is not asked for."""
        arc = self.arc(("evil.example", "pass", "author.example"), ("list.example", "pass", "author.example"))
        self.assertEqual(vouched(arc, {"list.example"}, "author.example"), "list.example")

    def test_untrusted_between(self) -> None:
        """One who is not trusted, after the one who saw it pass, breaks it, first, last or between."""
        arc = self.arc(
            ("mx.example", "pass", "author.example"),
            ("evil.example", "fail", "author.example"),
            ("list.example", "fail", "author.example"),
        )
        everybody = {"mx.example", "evil.example", "list.example"}
        self.assertEqual(vouched(arc, everybody, "author.example"), "mx.example")
        for domain in everybody:
            self.assertEqual(vouched(arc, everybody - {domain}, "author.example"), "")
        self.assertEqual(vouched(arc, (), "author.example"), "")

    def test_subdomain(self) -> None:
        """Trust in a domain is none in its subdomains, nor in what it is below."""
        arc = self.arc(("x.mx.example", "pass", "author.example"))
        self.assertEqual(vouched(arc, {"mx.example", "example", "y.x.mx.example"}, "author.example"), "")

    def test_other_author(self) -> None:
        """DMARC that passed for another domain than the author's vouches for nothing."""
        arc = self.arc(("mx.example", "pass", "evil.example"))
        for author in ("author.example", "sub.evil.example", "example", ""):
            self.assertEqual(vouched(arc, {"mx.example"}, author), "")

    def test_results(self) -> None:
        """One result of DMARC, which passes, for one domain."""
        good = Property("header", "from", "author.example")
        for results in (
            (),
            (MethodResult("dmarc", "pass"),),
            (MethodResult("dmarc", "fail", (good,)),),
            (MethodResult("dmarc", "bestguesspass", (good,)),),
            (MethodResult("spf", "pass", (good,)), MethodResult("dkim", "pass", (good,))),
            (MethodResult("dmarc", "pass", (good,)), MethodResult("dmarc", "fail", (good,))),
            (MethodResult("dmarc", "pass", (good, Property("header", "from", "evil.example"))),),
            (MethodResult("dmarc", "pass", (Property("policy", "from", "author.example"),)),),
        ):
            arc = Arc(Result.PASS, 1, ("mx.example",), results=(AuthenticationResults("mx.example", results),))
            self.assertEqual(vouched(arc, {"mx.example"}, "author.example"), "")

    def test_other_result(self) -> None:
        """A chain that does not pass vouches for nothing, whatever stands in it."""
        arc = self.arc(("mx.example", "pass", "author.example"))
        for result in set(Result) - {Result.PASS}:
            self.assertEqual(vouched(arc._replace(result=result), {"mx.example"}, "author.example"), "")

    def test_no_domains(self) -> None:
        """What is no domain name is nobody's: neither "" nor an odd one."""
        arc = self.arc(("mx.example", "pass", "x\u2024\u0378.example"))
        self.assertEqual(vouched(arc, {"mx.example", "", "x\u0378"}, "x\u2024\u0378.example"), "")

    def test_chain(self) -> None:
        """All in one: a mail that a list changed, validated and vouched for."""
        arc = validate(as_list(hop(BASIC, "a.example")))
        self.assertEqual(vouched(arc, {"a.example", "list.example"}, "author.example"), "a.example")
        self.assertEqual(vouched(arc, {"a.example"}, "author.example"), "")
        self.assertEqual(vouched(arc, {"list.example"}, "author.example"), "")
