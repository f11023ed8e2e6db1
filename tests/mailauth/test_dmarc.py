"""DMARC (RFC 9989): policies and Organizational Domains by the Tree Walk, alignment, what is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.dns.fake import FakeResolver
from tests.mailauth import vectors_dmarc
from tests.mailauth.vectors_dmarc import ran
from twisted_mail_node.dns.answer import DNSError
from twisted_mail_node.mailauth.dmarc import NAMES_MAX, Dmarc, Identifiers, check
from twisted_mail_node.mailauth.results import Result

BROKEN = "broken"


def resolver(records: Mapping[str, str], *names: str) -> FakeResolver:
    """The DNS with these records below ``_dmarc.``; ``BROKEN`` does not answer. ``names`` exist, too."""
    zone: dict[str, Any] = {name: {"A": ["192.0.2.1"]} for name in names}
    for domain, text in records.items():
        broken = text == BROKEN
        zone[f"_dmarc.{domain}"] = DNSError("time-out") if broken else {"TXT": [text.encode()]}
    return FakeResolver(zone)


def passed(*domains: str) -> Identifiers:
    """Identifiers that passed."""
    return [(Result.PASS, domain) for domain in domains]


class Checking(SynchronousTestCase):
    """A test with a DNS."""

    def check(
        self,
        records: Mapping[str, str],
        domain: str,
        *,
        spf: Identifiers = (),
        dkim: Identifiers = (),
        sample: float = 0.0,
        names: tuple[str, ...] = (),
    ) -> Dmarc:
        """The outcome; ``self.asked`` are the names that were asked about, without ``_dmarc.``."""
        fake = resolver(records, *names)
        found = ran(check(fake, domain, spf=spf, dkim=dkim, sample=sample))
        self.asked = [name.removeprefix("_dmarc.") for name, _ in fake.asked]
        return found


class PolicyTest(Checking):
    """Which record applies (RFC 9989 section 4.10.1)."""

    def test_own(self) -> None:
        """The author domain's own record applies, and then one question is enough."""
        found = self.check({"example.org": "v=DMARC1; p=reject; sp=none"}, "Example.ORG.")
        self.assertEqual((found.result, found.policy, found.asked), (Result.FAIL, "reject", "reject"))
        self.assertEqual((found.domain, found.policy_domain), ("example.org", "example.org"))
        self.assertEqual(self.asked, ["example.org"])

    def test_none(self) -> None:
        """Without a record up to the root, nothing applies."""
        found = self.check({}, "a.example.org", dkim=passed("a.example.org"))
        self.assertEqual((found.result, found.policy, found.asked), (Result.NONE, "", ""))
        self.assertEqual(self.asked, ["a.example.org", "example.org", "org"])
        self.assertTrue(found.problem)

    def test_subdomain(self) -> None:
        """A subdomain without a record gets sp of its Organizational Domain, or p. Records between do not count."""
        for text, wanted in (("p=reject; sp=quarantine", "quarantine"), ("p=reject", "reject")):
            records = {"example.org": f"v=DMARC1; {text}", "b.example.org": "v=DMARC1; p=none"}
            found = self.check(records, "a.b.example.org")
            self.assertEqual((found.policy, found.policy_domain, found.organizational), (wanted, *["example.org"] * 2))
            self.assertEqual(self.asked, ["a.b.example.org", "b.example.org", "example.org", "org"])

    def test_organization_between(self) -> None:
        """psd=n ends the walk: that is the Organizational Domain."""
        records = {"example.org": "v=DMARC1; p=none", "b.example.org": "v=DMARC1; p=reject; psd=n"}
        found = self.check(records, "a.b.example.org")
        self.assertEqual((found.policy, found.organizational), ("reject", "b.example.org"))
        self.assertEqual(self.asked, ["a.b.example.org", "b.example.org"])

    def test_public_suffix(self) -> None:
        """psd=y ends the walk; the Organizational Domain lies one label below. Its record applies, or the suffix's."""
        records = {"bank.example": "v=DMARC1; p=reject; sp=quarantine; psd=y"}
        found = self.check(records, "mail.giant.bank.example")
        self.assertEqual(
            (found.policy, found.policy_domain, found.organizational),
            ("quarantine", "bank.example", "giant.bank.example"),
        )
        records["giant.bank.example"] = "v=DMARC1; p=none"
        found = self.check(records, "mail.giant.bank.example")
        self.assertEqual((found.policy, found.policy_domain), ("none", "giant.bank.example"))

    def test_public_suffix_itself(self) -> None:
        """Mail of a public suffix gets its own p, and it is its own Organizational Domain: those below are others."""
        records = {"bank.example": "v=DMARC1; p=reject; psd=y"}
        found = self.check(records, "bank.example", dkim=passed("giant.bank.example"))
        self.assertEqual((found.result, found.organizational, found.policy), (Result.FAIL, "bank.example", "reject"))

    def test_many_labels(self) -> None:
        """Of nine labels and more the last seven are next; eight questions at most (RFC 9989 section 4.10)."""
        for domain, second in (
            ("a.b.c.d.e.f.g.h.i.j.mail.example.com", "g.h.i.j.mail.example.com"),
            ("mail.a.b.c.d.e.f.g.example.com", "c.d.e.f.g.example.com"),
            ("a.b.c.d.e.f.example.com", "b.c.d.e.f.example.com"),
        ):
            self.check({}, domain)
            self.assertEqual((self.asked[:2], len(self.asked), self.asked[-1]), ([domain, second], 8, "com"))

    def test_public_suffix_below_many_labels(self) -> None:
        """The Organizational Domain may be a name that nobody asked about; the suffix's record applies then."""
        found = self.check({"b.c.d.e.f.g.h": "v=DMARC1; p=reject; psd=y"}, "x.y.z.a.b.c.d.e.f.g.h")
        self.assertEqual((found.organizational, found.policy_domain), ("a.b.c.d.e.f.g.h", "b.c.d.e.f.g.h"))

    def test_two_records(self) -> None:
        """Two records are none, and the walk goes on."""
        zone = {"_dmarc.a.example.org": {"TXT": [b"v=DMARC1; p=reject", b"v=DMARC1; p=none"]},
                "_dmarc.example.org": {"TXT": [b"v=DMARC1; p=quarantine"]}}  # fmt: skip
        found = ran(check(FakeResolver(zone), "a.example.org", spf=(), dkim=()))
        self.assertEqual((found.result, found.policy), (Result.FAIL, "quarantine"))

    def test_not_existing(self) -> None:
        """np applies to a subdomain that does not exist, sp to one that does; asked only where it matters."""
        record = {"example.org": "v=DMARC1; p=quarantine; sp=none; np=reject"}
        found = self.check(record, "a.example.org")
        self.assertEqual((found.policy, self.asked[-1]), ("reject", "a.example.org"))
        found = self.check(record, "a.example.org", names=("a.example.org",))
        self.assertEqual(found.policy, "none")
        self.check(record, "a.example.org", dkim=passed("a.example.org"))
        self.assertEqual(self.asked, ["a.example.org", "example.org", "org"])
        self.check({"example.org": "v=DMARC1; p=reject; np=reject"}, "a.example.org")
        self.assertEqual(self.asked, ["a.example.org", "example.org", "org"])
        found = self.check({"example.org": "v=DMARC1; p=quarantine; np=reject"}, "example.org")
        self.assertEqual((found.policy, self.asked), ("quarantine", ["example.org"]))

    def test_testing(self) -> None:
        """t=y asks for one less than the policy says (RFC 9989 section 4.7)."""
        for policy, wanted in (("reject", "quarantine"), ("quarantine", "none"), ("none", "none")):
            found = self.check({"example.org": f"v=DMARC1; p={policy}; t=y"}, "example.org")
            self.assertEqual((found.policy, found.asked, found.testing), (policy, wanted, True))

    def test_sampling(self) -> None:
        """pct is nothing, but 0 is as t=y; with a sample, mails beyond it get one less (RFC 7489 section 6.6.4)."""
        for pct, sample, wanted in (
            (0, 0.0, "quarantine"),
            (0, 0.99, "quarantine"),
            (1, 0.0, "reject"),
            (30, 0.0, "reject"),
            (30, 0.29, "reject"),
            (30, 0.31, "quarantine"),
            (100, 0.999, "reject"),
        ):
            found = self.check({"example.org": f"v=DMARC1; p=reject; pct={pct}"}, "example.org", sample=sample)
            self.assertEqual((found.asked, found.policy), (wanted, "reject"), (pct, sample))

    def test_malformed(self) -> None:
        """A record without a policy that is understood asks for nothing, and nothing passes by it."""
        for text, result in (("p=rejected", Result.PERMERROR), ("adkim=s", Result.NONE)):
            found = self.check({"example.org": f"v=DMARC1; {text}"}, "example.org", dkim=passed("example.org"))
            self.assertEqual((found.result, found.asked, found.policy), (result, "", ""))
            self.assertTrue(found.problem)

    def test_no_domain(self) -> None:
        """Without an author domain nothing is asked, and nothing passes."""
        for domain in ("", ".", "b\u00fc..cher"):
            self.assertEqual(self.check({}, domain, dkim=passed("")).result, Result.NONE)
            self.assertEqual(self.asked, [])

    def test_reported(self) -> None:
        """What reports need stands in the outcome."""
        text = (
            "v=DMARC1; p=reject; sp=none; np=quarantine; adkim=s; t=y; rua=mailto:a@c.example; ruf=mailto:b@c.example"
        )
        found = self.check({"example.org": text}, "example.org", dkim=passed("example.org"))
        self.assertEqual(
            (found.adkim, found.aspf, found.p, found.sp, found.np), ("s", "r", "reject", "none", "quarantine")
        )
        self.assertEqual((found.rua, found.ruf), (("mailto:a@c.example",), ("mailto:b@c.example",)))
        assert found.published is not None
        self.assertEqual((found.record, found.published.text, found.testing), (text, text, True))


RELAXED = {"example.org": "v=DMARC1; p=reject"}


class AlignmentTest(Checking):
    """RFC 9989 section 4.10.2."""

    def test_identical(self) -> None:
        """The same domain is aligned, in any case and in U-labels, and one question is enough for everything."""
        found = self.check(RELAXED, "example.org", spf=passed("EXAMPLE.org"), dkim=passed("example.org."))
        self.assertEqual((found.result, found.spf_aligned, found.dkim_aligned), (Result.PASS, True, True))
        self.assertEqual((self.asked, found.asked), (["example.org"], ""))
        records = {"xn--bcher-kva.example": "v=DMARC1; p=reject; adkim=s"}
        found = self.check(records, "xn--bcher-kva.example", dkim=passed("b\u00fccher.example"))
        self.assertEqual(found.result, Result.PASS)

    def test_relaxed(self) -> None:
        """Domains of one Organizational Domain are aligned; questions are asked once."""
        found = self.check(RELAXED, "news.example.org", spf=passed("a.bounce.example.org"), dkim=passed("example.org"))
        self.assertEqual((found.result, found.spf_aligned, found.dkim_aligned), (Result.PASS, True, True))
        self.assertEqual(sorted(self.asked), sorted(set(self.asked)))
        self.assertEqual(len(self.asked), 5)

    def test_strict(self) -> None:
        """Strict alignment wants the same domain, for each mechanism by itself."""
        for tags, spf, dkim in (("adkim=s", True, False), ("aspf=s", False, True), ("aspf=s; adkim=s", False, False)):
            found = self.check(
                {"example.org": f"v=DMARC1; p=reject; {tags}"},
                "example.org",
                spf=passed("a.example.org"),
                dkim=passed("b.example.org"),
            )
            self.assertEqual((found.spf_aligned, found.dkim_aligned), (spf, dkim))
            self.assertEqual(found.result, Result.PASS if spf or dkim else Result.FAIL)

    def test_others(self) -> None:
        """Others are not aligned, whatever they look like, and nobody asks about them."""
        others = ("attacker.test", "notexample.org", "example.org.attacker.test", "org", "example", "rg", "", "xorg")
        found = self.check(RELAXED, "example.org", spf=passed(*others), dkim=passed(*others))
        self.assertEqual((found.result, found.spf_aligned, found.dkim_aligned), (Result.FAIL, False, False))
        self.assertEqual(self.asked, ["example.org", "org"])

    def test_public_suffix(self) -> None:
        """Two customers of a public suffix that says so are not aligned; nor is the suffix with them."""
        records = {"bank.example": "v=DMARC1; p=reject; psd=y"}
        for other in ("mega.bank.example", "bank.example", "example"):
            found = self.check(records, "giant.bank.example", dkim=passed(other))
            self.assertEqual(found.result, Result.FAIL, other)
        found = self.check(records, "giant.bank.example", dkim=passed("mail.giant.bank.example"))
        self.assertEqual(found.result, Result.PASS)

    def test_part_of_its_own(self) -> None:
        """A part of an organization that says psd=n is none of it, either way."""
        records = {**RELAXED, "own.example.org": "v=DMARC1; p=reject; psd=n"}
        for domain, other in (("example.org", "own.example.org"), ("own.example.org", "example.org")):
            self.assertEqual(self.check(records, domain, dkim=passed(other, f"a.{other}")).result, Result.FAIL)
        self.assertEqual(self.check(records, "a.own.example.org", dkim=passed("b.own.example.org")).result, Result.PASS)

    def test_only_pass(self) -> None:
        """Only what passed is an Authenticated Identifier."""
        for result in Result:
            for identifiers in ({"spf": [(result, "example.org")]}, {"dkim": [(result, "example.org")]}):
                found = self.check(RELAXED, "example.org", **identifiers)  # type: ignore[arg-type]
                wanted = {Result.PASS: Result.PASS, Result.TEMPERROR: Result.TEMPERROR}.get(result, Result.FAIL)
                self.assertEqual(found.result, wanted)

    def test_any_of_many(self) -> None:
        """One aligned signature among many is enough."""
        dkim = [(Result.FAIL, "example.org"), *passed("attacker.test", "a.example.org")]
        self.assertEqual(self.check(RELAXED, "example.org", dkim=dkim).result, Result.PASS)


class ErrorTest(Checking):
    """The DNS does not answer (RFC 9989 section 5.3.6)."""

    def test_policy(self) -> None:
        """Where the policy cannot be told, the mail neither passes nor fails, whatever passed."""
        for records in ({"a.example.org": BROKEN}, {"example.org": BROKEN}, {**RELAXED, "org": BROKEN}):
            found = self.check(records, "a.example.org", dkim=passed("a.example.org"))
            self.assertEqual((found.result, found.asked), (Result.TEMPERROR, ""))
            self.assertIn("time-out", found.problem)

    def test_not_needed(self) -> None:
        """An answer that is not needed is not missed."""
        records = {**RELAXED, "org": BROKEN, "a.example.org": BROKEN, "attacker.test": BROKEN}
        found = self.check(records, "example.org", spf=passed("a.example.org"), dkim=passed("example.org"))
        self.assertEqual((found.result, found.spf_aligned, found.problem), (Result.PASS, False, ""))
        self.assertEqual(self.check(records, "example.org", dkim=passed("attacker.test")).result, Result.FAIL)

    def test_alignment(self) -> None:
        """Where alignment cannot be told, it is a temporary error, unless another passes."""
        records = {**RELAXED, "a.example.org": BROKEN}
        self.assertEqual(self.check(records, "example.org", dkim=passed("a.example.org")).result, Result.TEMPERROR)
        found = self.check(records, "example.org", dkim=passed("a.example.org", "b.example.org"))
        self.assertEqual((found.result, found.problem), (Result.PASS, ""))

    def test_undecided(self) -> None:
        """A check that is undecided counts where it could be aligned, and only there."""
        for domain, wanted in (("a.example.org", Result.TEMPERROR), ("attacker.test", Result.FAIL)):
            found = self.check(RELAXED, "example.org", dkim=[(Result.TEMPERROR, domain)])
            self.assertEqual(found.result, wanted)

    def test_strangers(self) -> None:
        """T24: nobody turns a failure into a temporary error with names of his own that do not answer."""
        records = {"bank.example": "v=DMARC1; p=reject", "attacker.example": BROKEN, "x.attacker.test": BROKEN}
        strangers = [(result, domain) for result in (Result.PASS, Result.TEMPERROR)
                     for domain in ("attacker.example", "x.attacker.test")]  # fmt: skip
        found = self.check(records, "bank.example", spf=strangers, dkim=strangers)
        self.assertEqual((found.result, found.asked), (Result.FAIL, "reject"))

    def test_existence(self) -> None:
        """Where np or sp cannot be told apart, it is a temporary error."""
        fake = resolver({"example.org": "v=DMARC1; p=reject; sp=none; np=reject"})
        fake.zone = {**fake.zone, "a.example.org": DNSError("time-out")}
        self.assertEqual(ran(check(fake, "a.example.org", spf=(), dkim=())).result, Result.TEMPERROR)


class BoundsTest(Checking):
    """T30 for DMARC: questions are bounded."""

    def test_long_names(self) -> None:
        """Names that cannot exist are not asked about, and are aligned with nobody."""
        long = "x" * 64 + ".example.org"
        self.assertEqual(self.check(RELAXED, long).policy, "reject")
        self.assertEqual(self.asked, ["example.org", "org"])
        self.check({}, ".".join(["a"] * 200))
        self.assertLessEqual(len(self.asked), 8)
        self.check({}, "a." * 5000 + "example.org")
        self.assertLessEqual(len(self.asked), 8)
        self.check({}, "a..example.org", dkim=passed("..", ".org", "x..org"))

    def test_many_signatures(self) -> None:
        """Many signatures of names that are somebody's own do not ask for more than a bounded number of names."""
        records = {**RELAXED, **{f"{n}.example.org": "v=DMARC1; p=none; psd=n" for n in range(100)}}
        many = passed(*(f"{'a.' * 9}{n}.example.org" for n in range(100)))
        found = self.check(records, "example.org", spf=many, dkim=many)
        self.assertEqual(found.result, Result.FAIL)
        self.assertLessEqual(len(self.asked), NAMES_MAX)

    @given(
        st.dictionaries(
            st.sampled_from(["a.b.c", "b.c", "c", "x.b.c", "y.x.b.c"]),
            st.sampled_from(["p=none", "p=reject; psd=n", "p=reject; psd=y", "p=reject; adkim=s", "p=x", BROKEN]),
        ),
        st.sampled_from(["a.b.c", "b.c", "x.b.c", "y.x.b.c", "c"]),
        st.lists(
            st.tuples(st.sampled_from(Result), st.sampled_from(["a.b.c", "b.c", "x.b.c", "c", "z.c", "z"])), max_size=4
        ),
    )
    def test_any(self, records: dict[str, str], domain: str, dkim: list[tuple[Result, str]]) -> None:
        """Each name is asked about once; who shares no name with the author passes nothing; only failures ask."""
        records = {name: text if text == BROKEN else f"v=DMARC1; {text}" for name, text in records.items()}
        found = self.check(records, domain, dkim=dkim)
        self.assertEqual(len(self.asked), len(set(self.asked)))
        self.assertEqual(found.result is Result.PASS, found.dkim_aligned)
        self.assertEqual(found.asked != "", found.result is Result.FAIL)
        if found.dkim_aligned:
            organization = found.organizational or domain
            good = [name for result, name in dkim if result is Result.PASS]
            self.assertTrue(any(f".{name}".endswith(f".{organization}") for name in good))


class VectorTest(SynchronousTestCase):
    """Test vectors of others."""

    def test_mailauth(self) -> None:
        """All cases go as they say, but for nine that are listed with their reason."""
        counts = vectors_dmarc.run()
        self.assertEqual(counts.failed, ())
        self.assertEqual((counts.passed, counts.contested, counts.total), (79, 9, 88))
