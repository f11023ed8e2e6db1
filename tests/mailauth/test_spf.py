"""check_host(): identities, what decides, and which questions are asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.dns.fake import FakeResolver
from tests.mailauth.vectors_spf import finished
from twisted_mail_node.dns.answer import MX, DNSError
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.mailauth.spf import Spf, check_helo, check_host, check_mail

V4, V6 = "192.0.2.1", "2001:db8::1"


class SpfCase(SynchronousTestCase):
    """Asks about zones."""

    def check(
        self, zone: Mapping[str, Any], sender: str = "joe@here.example", ip: str = V4, helo: str = "helo.example"
    ) -> Spf:
        """Check the "MAIL FROM" identity; what was asked is in ``self.asked``."""
        resolver = FakeResolver(zone)
        found = finished(check_mail(resolver, ip=ip, helo=helo, reverse_path=sender, receiver="us.example", now=7.9))
        self.asked = resolver.asked
        return found

    def record(self, record: str, ip: str = V4, **node: Any) -> Spf:
        """Check a sender whose domain has this record, and other records by type."""
        return self.check({"here.example": {"TXT": [record.encode()], **node}}, ip=ip)


class IdentityTest(SpfCase):
    """RFC 7208 sections 2.3, 2.4 and 4.3."""

    def test_mail(self) -> None:
        """The domain of the reverse-path is checked, in lower case and without a dot behind it."""
        found = self.check({"here.example": {"TXT": [b"v=spf1 -all"]}}, "Joe@HERE.Example.")
        self.assertEqual(found, Spf(Result.FAIL, "here.example", "mfrom", "Joe@HERE.Example.", "-all"))

    def test_null(self) -> None:
        """The null reverse-path stands for postmaster at the HELO domain."""
        zone = {"helo.example": {"TXT": [b"v=spf1 exists:%{l}.%{o}.%{s}.x -all"]},
                "postmaster.helo.example.postmaster@helo.example.x": {"A": ["127.0.0.2"]}}  # fmt: skip
        found = self.check(zone, "")
        self.assertEqual(found.result, Result.PASS)
        self.assertEqual(
            (found.domain, found.scope, found.sender), ("helo.example", "mfrom", "postmaster@helo.example")
        )

    def test_helo(self) -> None:
        """The name of HELO is an identity of its own."""
        resolver = FakeResolver({"helo.example": {"TXT": [b"v=spf1 ip4:192.0.2.0/24 -all"]}})
        found = finished(check_helo(resolver, ip=V4, helo="Helo.example", receiver="us", now=0.0))
        self.assertEqual(found, Spf(Result.PASS, "helo.example", "helo", "Helo.example", "ip4:192.0.2.0/24"))

    def test_host(self) -> None:
        """The function itself takes a domain that is not the sender's; without a local-part it is postmaster's."""
        zone: dict[str, Any] = {"there.example": {"TXT": [b"v=spf1 exists:%{l}.%{o}.%{d}.x"]},
                "postmaster.here.example.there.example.x": {"A": ["127.0.0.2"]}}  # fmt: skip
        for sender in ("here.example", "@here.example"):
            found = finished(
                check_host(
                    FakeResolver(zone), ip=V4, domain="there.example", sender=sender, helo="h", receiver="", now=0
                )
            )
            self.assertEqual((found.result, found.domain, found.sender), (Result.PASS, "there.example", sender))

    def test_waits(self) -> None:
        """A check waits for its resolver, and ends with its error where it is no error of ours."""
        waiting: Deferred[Any] = Deferred()

        class Resolver:
            def query(self, name: str, rdtype: str) -> Deferred[Any]:
                return waiting

        work = check_mail(Resolver(), ip=V4, helo="h", reverse_path="a@here.example", receiver="", now=0.0)
        result = Deferred.fromCoroutine(work)
        self.assertNoResult(result)
        waiting.errback(DNSError("ns.example answered SERVFAIL"))
        found = self.successResultOf(result)
        self.assertEqual((found.result, found.problem), (Result.TEMPERROR, "ns.example answered SERVFAIL"))

    def test_not_a_domain(self) -> None:
        """What is no domain of two labels has no record, and nothing is asked."""
        for helo, problem in (
            ("[192.0.2.1]", "an address literal has no SPF record"),
            ("mail", "'mail' is not a domain name of two labels or more"),
            ("192.0.2.1", "'192.0.2.1' is not a domain name of two labels or more"),
            ("", "there is no domain"),
        ):
            found = self.check({}, "", helo=helo)
            self.assertEqual((found.result, found.domain, found.problem), (Result.NONE, "", problem))
            self.assertEqual(self.asked, [])

    def test_nothing_there(self) -> None:
        """A domain without a record, and a name that is not there, have the result none."""
        zones: list[dict[str, Any]] = [{}, {"here.example": {"TXT": [b"hello", b"v=spf10"]}}, {"here.example": {}}]
        for zone in zones:
            found = self.check(zone)
            self.assertEqual((found.result, found.problem), (Result.NONE, "here.example has no SPF record"))

    def test_idn(self) -> None:
        """Domains with U-labels are checked, and seen by macros, in A-labels (RFC 8616 section 4)."""
        zone = {
            "xn--bcher-kva.example": {"TXT": [b"v=spf1 exists:%{o}.%{d1}.x exists:%{h} -all exp=why.example"]},
            "xn--grn-ioa.example": {"A": ["127.0.0.2"]},
        }
        found = self.check(zone, "joe@bücher.example", helo="grün.example")
        self.assertEqual((found.result, found.domain), (Result.PASS, "xn--bcher-kva.example"))
        self.assertIn(("xn--bcher-kva.example.example.x", "A"), self.asked)

    def test_local_part_not_ascii(self) -> None:
        """Terms with such a local-part in them match nothing (RFC 8616 section 4); others do what they do."""
        record = b"v=spf1 exists:%{l}.x include:%{s}.x a:%{S}.x ip4:192.0.2.1 -all"
        found = self.check({"here.example": {"TXT": [record]}}, "jö@here.example")
        self.assertEqual((found.result, found.mechanism), (Result.PASS, "ip4:192.0.2.1"))
        self.assertEqual(len(self.asked), 1)
        found = self.check({"here.example": {"TXT": [b"v=spf1 redirect=%{l}.x.example"]}}, "jö@here.example")
        self.assertEqual(found.result, Result.PERMERROR)

    def test_mapped(self) -> None:
        """A client with an IPv4-mapped IPv6 address has an IPv4 address (RFC 7208 section 5)."""
        for ip in ("::ffff:192.0.2.1", "::FFFF:C000:0201", "0:0:0:0:0:ffff:192.0.2.1"):
            self.assertEqual(self.record("v=spf1 -ip6:::/0 ip4:192.0.2.1", ip).result, Result.PASS)
            self.assertEqual(self.record("v=spf1 exists:%{i}.%{v}.x -all", ip).result, Result.FAIL)
            self.assertEqual(self.asked[-1], ("192.0.2.1.in-addr.x", "A"))
        self.assertEqual(self.record("v=spf1 -ip4:0.0.0.0/0 ip6:::192.0.2.1", "::192.0.2.1").result, Result.PASS)
        self.assertEqual(self.record("v=spf1 ip6:fe80::/64", "fe80::1%eth0").result, Result.PASS)


class QuestionTest(SpfCase):
    """Nothing is asked that the result does not need."""

    def test_until_it_matches(self) -> None:
        """What stands behind the term that matches is not asked for, nor are networks or ``all`` asked for at all."""
        found = self.record("v=spf1 ip4:192.0.2.1 a mx include:there.example redirect=there.example exp=why.example")
        self.assertEqual((found.result, found.mechanism), (Result.PASS, "ip4:192.0.2.1"))
        self.assertEqual(self.asked, [("here.example", "TXT")])

    def test_family(self) -> None:
        """Addresses of the client's kind are asked for; ``exists`` wants A of either (RFC 7208 section 5.7)."""
        for ip, rdtype in ((V4, "A"), (V6, "AAAA")):
            self.record("v=spf1 a ~all", ip, A=["192.0.2.9"], AAAA=["2001:db8::9"])
            self.assertEqual(self.asked[1:], [("here.example", rdtype)])
            self.record("v=spf1 exists:x.y ~all", ip)
            self.assertEqual(self.asked[1:], [("x.y", "A")])

    def test_exchangers(self) -> None:
        """The first exchanger that matches is the last one asked for, and each is asked for once."""
        zone = {
            "here.example": {"TXT": [b"v=spf1 mx"], "MX": [MX(1, host) for host in ("", "a.x", "a.x", "b.x", "c.x")]},
            "a.x": {"A": ["192.0.2.7"]}, "b.x": {"A": ["192.0.2.8", V4]}, "c.x": {"A": [V4]}}  # fmt: skip
        self.assertEqual(self.check(zone).result, Result.PASS)
        self.assertEqual([name for name, _ in self.asked], ["here.example", "here.example", "a.x", "b.x"])

    def test_names_of_the_client(self) -> None:
        """Only names that can match are looked at, and the first that does is the last (RFC 7208 section 5.5)."""
        names = ["a.elsewhere.example", "badhere.example", "b.here.example", "here.example", "c.here.example"]
        zone = {
            "here.example": {"TXT": [b"v=spf1 ptr -all"], "A": [V4]},
            "1.2.0.192.in-addr.arpa": {"PTR": names},
            "b.here.example": {"A": ["192.0.2.2"]},
        }
        self.assertEqual(self.check(zone).result, Result.PASS)
        self.assertEqual([name for name, rdtype in self.asked if rdtype == "A"], ["b.here.example", "here.example"])

    def test_explanation(self) -> None:
        """Only a fail is explained: by the domain, or whom it redirects to, never by one that it includes."""
        zone = {
            "here.example": {"TXT": [b"v=spf1 include:there.example redirect=other.example exp=no.example"]},
            "there.example": {"TXT": [b"v=spf1 -all exp=no.example"]},
            "other.example": {"TXT": [b"v=spf1 -ip4:192.0.2.1 exp=why.%{d}"]},
            "why.other.example": {"TXT": [b"%{i} is not %{d}'s, says %{o} to %{r} at %{t}"]},
        }
        found = self.check(zone)
        self.assertEqual((found.result, found.mechanism), (Result.FAIL, "-ip4:192.0.2.1"))
        self.assertEqual(found.explanation, "192.0.2.1 is not other.example's, says here.example to us.example at 7")
        found = self.check(zone, ip="192.0.2.2")
        self.assertEqual((found.result, found.explanation), (Result.NEUTRAL, ""))
        self.assertEqual(self.asked[-1], ("other.example", "TXT"))


class ResultTest(SpfCase):
    """RFC 7208 sections 4.4 to 6.2, where the suite of vectors leaves something open."""

    def test_default(self) -> None:
        """Where nothing matches the result is neutral, and no mechanism is named."""
        self.assertEqual(
            self.record("v=spf1 ip4:192.0.2.2"), Spf(Result.NEUTRAL, "here.example", "mfrom", "joe@here.example")
        )

    def test_qualifiers(self) -> None:
        """Each qualifier has its result."""
        for qualifier, result in (("", "pass"), ("+", "pass"), ("-", "fail"), ("~", "softfail"), ("?", "neutral")):
            found = self.record(f"v=spf1 {qualifier}ALL")
            self.assertEqual((str(found.result), found.mechanism), (result, f"{qualifier}ALL"))

    def test_include_has_its_qualifier(self) -> None:
        """An include that passes has the result of its own qualifier; what decides is the include."""
        zone = {
            "here.example": {"TXT": [b"v=spf1 ?include:there.example -all"]},
            "there.example": {"TXT": [b"v=spf1 ip4:192.0.2.0/31 -all"]},
        }
        self.assertEqual(
            (self.check(zone).result, self.check(zone).mechanism), (Result.NEUTRAL, "?include:there.example")
        )
        self.assertEqual(self.check(zone, ip="192.0.2.2").result, Result.FAIL)

    def test_errors_of_includes(self) -> None:
        """An error in a record that is included is told with its domain, and with the term that led there."""
        for texts, result, problem in (
            (
                [b"v=spf1 foo"],
                Result.PERMERROR,
                "the SPF record of there.example is malformed: foo is neither a mechanism",
            ),
            ([], Result.PERMERROR, "the record of here.example leads to there.example, which has no SPF record"),
            (DNSError("too late"), Result.TEMPERROR, "too late"),
        ):
            zone = {"here.example": {"TXT": [b"v=spf1 a include:there.example -all"], "A": ["192.0.2.9"]},
                    "there.example": {"TXT": texts}}  # fmt: skip
            found = self.check(zone)
            self.assertEqual((found.result, found.mechanism), (result, "include:there.example"))
            self.assertTrue(found.problem.startswith(problem), found.problem)

    def test_no_domain_to_go_to(self) -> None:
        """An include or a redirect to what is no domain is a permerror (RFC 7208 sections 5.2 and 6.1)."""
        for term in ("include:%{h}", "redirect=%{h}", "include:a..example", "redirect=%{l}." + "x" * 64 + ".example"):
            found = self.check({"here.example": {"TXT": [f"v=spf1 {term}".encode()]}}, helo="[192.0.2.1]")
            self.assertEqual(
                (found.result, found.mechanism), (Result.PERMERROR, term[:117] + "..." if len(term) > 120 else term)
            )
            self.assertIn("leads to what is not a domain", found.problem)

    def test_names_that_cannot_be(self) -> None:
        """A name that no question can be made of does not match, and is no look-up in vain (RFC 7208 section 4.8)."""
        terms = ["a:a..x", "mx:%{h}.x", "exists:" + "x" * 64 + ".x", "ptr:..x", "a:%{h}", "a:.x"]
        found = self.check({"here.example": {"TXT": [f"v=spf1 {' '.join(terms)} -all".encode()]}}, helo="a..")
        self.assertEqual((found.result, len(self.asked)), (Result.FAIL, 1))

    def test_networks(self) -> None:
        """Prefix lengths count for the client's family only, and compare so many bits."""
        for term, ip, matches in (
            ("a/24", "192.0.2.200", True), ("a/25", "192.0.2.200", False), ("a//8", "192.0.2.1", False),
            ("a//8", "192.0.2.9", True), ("a/0", "203.0.113.1", True), ("a//64", "2001:db8::ffff", True),
            ("a//65", "2001:db8:0:0:8000::", False), ("a/1", "2001:db8::8", False), ("a/1", "2001:db8::9", True),
            ("mx/24//64", "2001:db8::7", True), ("mx/30", "192.0.2.11", True), ("mx/30", "192.0.2.12", False),
            ("ip4:192.0.2.255/24", "192.0.2.1", True), ("ip6:2001:DB8:FFFF::/32", "2001:db8::1", True),
            ("ip6:2001:db8::1.2.3.4", "2001:db8::102:304", True), ("ip6:2001:db8::/128", "2001:db8::1", False),
        ):  # fmt: skip
            node = {"A": ["192.0.2.9"], "AAAA": ["2001:db8::9"], "MX": [MX(5, "here.example")]}
            found = self.record(f"v=spf1 {term} -all", ip, **node)
            self.assertEqual(found.result is Result.PASS, matches, (term, ip))
