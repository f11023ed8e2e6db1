"""SPF records made to hurt (T30): who publishes them, or owns a client's address, gets few questions and little time.

What is measured is processor time; the DNS answers at once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.dns.fake import FakeResolver
from tests.mailauth.vectors_spf import finished
from twisted_mail_node.dns.answer import MX, DNSError
from twisted_mail_node.mailauth import spf_record
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.mailauth.spf import PROBLEM_MAX, Spf, check_mail
from twisted_mail_node.mailauth.spf_evaluation import QUESTIONS_MAX
from twisted_mail_node.mailauth.spf_macros import EXPLANATION_MAX, NAME_MAX
from twisted_mail_node.mailauth.spf_record import RECORD_MAX, RECORD_TERMS_MAX, TERM_MAX

#: Seconds of processor time one check may take when all its questions are answered at once, in one turn of the reactor.
TURN = 0.05
#: A measurement above TURN is repeated so often before it counts: other programs disturb it.
AGAIN = 3

CLIENT = "192.0.2.1"
REVERSE = "1.2.0.192.in-addr.arpa"


class AttackTest(SynchronousTestCase):
    """Every check ends soon, with few questions and short words."""

    def check(
        self,
        zone: Mapping[str, Mapping[str, Any] | DNSError],
        sender: str = "joe@evil.example",
        helo: str = "helo.example",
        ip: str = CLIENT,
    ) -> Spf:
        """Check, with nothing remembered of earlier checks; what holds for every one is asserted."""
        for attempt in range(AGAIN):
            spf_record._read_short.cache_clear()
            spf_record._read_long.cache_clear()
            resolver = FakeResolver(zone)
            begun = time.process_time()
            found = finished(check_mail(resolver, ip=ip, helo=helo, reverse_path=sender, receiver="us", now=0.0))
            taken = time.process_time() - begun
            if taken < TURN:
                break
            self.assertLess(attempt, AGAIN - 1, f"{taken} s")
        self.asked = resolver.asked
        self.assertLessEqual(len(self.asked), QUESTIONS_MAX + 12)  # those of the explanation are apart
        self.assertLessEqual(max([len(name) for name, _ in self.asked], default=0), NAME_MAX)
        self.assertLessEqual(len(found.problem), PROBLEM_MAX)
        self.assertLessEqual(len(found.mechanism), TERM_MAX)
        self.assertLessEqual(len(found.explanation), EXPLANATION_MAX)
        for words in (found.problem, found.mechanism, found.explanation):
            self.assertTrue(words.isascii() and words.isprintable(), words)
        return found

    def txt(self, record: str | bytes, **others: Any) -> dict[str, dict[str, Any]]:
        """A zone with the record of the sender's domain; ``others`` are records of ``<name>.example``."""
        octets = record.encode() if isinstance(record, str) else record
        zone = {f"{name}.example": {"TXT": [text.encode()]} for name, text in others.items()}
        return {"evil.example": {"TXT": [octets]}, **zone}

    def test_includes_itself(self) -> None:
        """A record that includes itself is found out by its name, with no further question."""
        found = self.check(self.txt("v=spf1 include:EVIL.example. -all"))
        self.assertEqual(found.result, Result.PERMERROR)
        self.assertEqual(found.problem, "the record of evil.example includes itself")
        self.assertEqual(found.mechanism, "include:EVIL.example.")
        self.assertEqual(len(self.asked), 1)

    def test_circle(self) -> None:
        """So is one that leads back to itself by others, by include, redirect and macro."""
        found = self.check(
            self.txt("v=spf1 include:b.example", b="v=spf1 redirect=c.example", c="v=spf1 ?include:%{o}")
        )
        self.assertEqual(found.result, Result.PERMERROR)
        self.assertEqual(found.problem, "the record of c.example includes evil.example, whose record leads to it")
        self.assertEqual(len(self.asked), 3)
        found = self.check(self.txt("v=spf1 redirect=evil.example"))
        self.assertEqual(found.problem, "the record of evil.example redirects to itself")

    def test_tree(self) -> None:
        """A tree of includes, each of two others, ends with the eleventh, not the thousandth."""
        zone = {"evil.example": {"TXT": [b"v=spf1 include:x.example"]}}
        for depth in range(1, 12):
            name = "x." * depth + "example"
            zone[name] = {"TXT": [b"v=spf1 include:x.%{d} include:y.%{d} -all"]}
            zone["y." + name] = {"TXT": [b"v=spf1 include:x.%{d} -all"]}
        found = self.check(zone)
        self.assertEqual(found.result, Result.PERMERROR)
        self.assertIn("more than 10 DNS look-ups", found.problem)
        self.assertEqual(len(self.asked), 11)

    def test_same_again(self) -> None:
        """Including one record ten times is allowed; eleven times is not, whatever it says."""
        for times, result in ((10, Result.FAIL), (11, Result.PERMERROR)):
            found = self.check(self.txt("v=spf1" + " include:b.example" * times + " -all", b="v=spf1 -all"))
            self.assertEqual(found.result, result)

    def test_voids(self) -> None:
        """Names without records: the third ends it, be they missing or empty; the victim's server hears of three."""
        record = "v=spf1 a:a.victim.example mx:b.victim.example exists:c.victim.example a:d.victim.example +all"
        found = self.check({**self.txt(record), "b.victim.example": {}})
        self.assertEqual(found.result, Result.PERMERROR)
        self.assertEqual(found.problem, "more than 2 DNS look-ups found no records")
        self.assertEqual(found.mechanism, "exists:c.victim.example")
        self.assertEqual(len(self.asked), 4)

    def test_exchangers_without_addresses(self) -> None:
        """An mx whose exchangers all have no address counts once (RFC 7208 section 4.6.4 counts terms)."""
        hosts = [MX(at, f"{at}.victim.example") for at in range(10)]
        found = self.check({"evil.example": {"TXT": [b"v=spf1 mx mx -all"], "MX": hosts}})
        self.assertEqual(found.result, Result.FAIL)
        found = self.check({"evil.example": {"TXT": [b"v=spf1 mx mx mx -all"], "MX": hosts}})
        self.assertEqual(found.result, Result.PERMERROR)

    def test_exchangers(self) -> None:
        """Eleven exchangers are too many, and none is asked about; a hundred thousand are no work."""
        for number in (11, 100_000):
            hosts = [MX(at, f"{at}.victim.example") for at in range(number)]
            found = self.check({"evil.example": {"TXT": [b"v=spf1 mx -all"], "MX": hosts}})
            self.assertEqual(found.result, Result.PERMERROR)
            self.assertEqual(found.problem, "evil.example has more than 10 mail exchangers, too many for mx")
            self.assertEqual(len(self.asked), 2)

    def test_ten_times_ten(self) -> None:
        """Ten mx of ten exchangers each are within the limits of the RFC, and beyond ours for the whole."""
        zone: dict[str, dict[str, Any]] = self.txt("v=spf1 " + " ".join(f"mx:m{at}.example" for at in range(10)))
        for at in range(10):
            zone[f"m{at}.example"] = {"MX": [MX(each, f"{at}-{each}.victim.example") for each in range(10)]}
            zone |= {f"{at}-{each}.victim.example": {"A": ["198.51.100.1"]} for each in range(10)}
        found = self.check(zone)
        self.assertEqual((found.result, found.problem), (Result.PERMERROR, "more than 64 questions to the DNS"))
        self.assertEqual(len(self.asked), QUESTIONS_MAX)

    def test_addresses(self) -> None:
        """Ten thousand addresses of a name are looked through."""
        addresses = [f"198.51.{at >> 8}.{at & 255}" for at in range(10_000)]
        for term in ("a", "a/31", "exists:evil.example"):
            found = self.check({"evil.example": {"TXT": [f"v=spf1 {term} -all".encode()], "A": addresses}})
            self.assertEqual(found.result, Result.PASS if term[0] == "e" else Result.FAIL)

    def test_client_names(self) -> None:
        """A client with a thousand names: ten are looked at, whichever record asks; strange ones are not asked for."""
        odd = ["", "..", "a" * 300 + ".example", "x", "a b.example", "\r\n.example", "é.example"]
        names = odd + [f"{at}.evil.example" for at in range(1000)]
        zone = {**self.txt("v=spf1 ptr ptr:%{d1} exists:%{p}.%{d} -all exp=why.%{d}"), REVERSE: {"PTR": names}}
        zone["why.evil.example"] = {"TXT": [b"%{p} %{P} %{p}"]}
        zone["unknown.evil.example"] = {}
        found = self.check(zone)
        self.assertEqual((found.result, found.explanation), (Result.FAIL, "unknown unknown unknown"))
        self.assertEqual([name for name, rdtype in self.asked if rdtype == "PTR"], [REVERSE])
        hosts = [name for name, rdtype in self.asked if rdtype == "A" and not name.startswith("unknown")]
        self.assertEqual(hosts, ["0.evil.example", "1.evil.example", "2.evil.example"])

    def test_client_owner(self) -> None:
        """The owner of an address cannot turn a fail into an error: by names that do not answer, or are none."""
        for node in (DNSError("late"), {"PTR": ["late.evil.example"]}, {"PTR": ["gone.evil.example"] * 10}, {}):
            zone = {**self.txt("v=spf1 a a ptr ptr:%{p}.example ptr:%{d} ptr -all"), REVERSE: node}
            zone["late.evil.example"] = DNSError("late")
            self.assertEqual(self.check(zone).result, Result.FAIL, str(node))

    def test_macro_bomb(self) -> None:
        """A domain-spec of as many macros as fit grows to no more than a name's length."""
        for macro in ("%{s}", "%{S1r.-+,/_=}", "%{l127r-}", "%{i}", "%{h1}"):
            for times in (127, 128, RECORD_MAX // len(macro) - 10):
                record = "v=spf1" + f" exists:{macro * (times if times > 128 else 127)}.x" * (1 if times > 128 else 10)
                found = self.check(self.txt(record[:RECORD_MAX]), f"{'a-.' * 300}@evil.example", "x." * 5000)
                self.assertIn(found.result, (Result.PERMERROR, Result.NEUTRAL))

    def test_nothing_left(self) -> None:
        """Macros that leave nothing of their value cost no more."""
        record = "v=spf1" + f" exists:{'%{h1}' * 120}.x.y" * 10 + " -all"
        self.assertEqual(self.check(self.txt(record), helo="." * 100_000).result, Result.FAIL)

    def test_digits(self) -> None:
        """A number of a thousand digits is only a number."""
        record = "v=spf1 exists:%{d" + "9" * 5000 + "r}.x -all"
        self.assertEqual(self.check(self.txt(record)).result, Result.FAIL)
        for length in ("/" + "9" * 5000, "//" + "1" * 5000, "/" + "0" * 5000):
            for term in ("a", "mx", "ip4:192.0.2.0", "ip6:2001:db8::"):
                self.assertEqual(self.check(self.txt(f"v=spf1 {term}{length} -all")).result, Result.PERMERROR)

    def test_long_records(self) -> None:
        """64 kB of anything are a permerror; what is as long as we read is read in no time."""
        for part in (" a", " a/1", " ip4:192.0.2.1", " x=", " x=%%", " a:%{d}", " include:b.c", " -", "a:", "%{", "/1",
                     "1-", "x", " ip6:::", " 0", "-a", ".", " a:a-.b"):  # fmt: skip
            for octets in (RECORD_MAX, 65_535):
                found = self.check(self.txt(("v=spf1 " + part * octets)[:octets]))
                self.assertIn(found.result, (Result.PERMERROR, Result.NEUTRAL), part)
                if octets > RECORD_MAX:
                    self.assertIn(f"it is longer than {RECORD_MAX} octets", found.problem)

    def test_many_long_records(self) -> None:
        """Ten includes of records with as many terms as we read, all answered at once, are one turn."""
        zone = self.txt("v=spf1 " + " ".join(f"include:{at}.example" for at in range(10)) + " -all")
        for form in (
            "a:%{{d}}.x{}",
            "ip4:198.51.100.{}",
            "ip6:2001:{}::",
            "x{}=%{{d}}",
            "a/{}//{}",
            "mx:{}.%{{d1r.}}.x",
        ):
            for at in range(10):
                terms = [
                    form.format(each % 255 % (33 if "//" in form else 999), 1) for each in range(RECORD_TERMS_MAX - 2)
                ]
                text = f"v=spf1 -all x={at} " + " ".join(terms)
                zone[f"{at}.example"] = {"TXT": [text[: text.rindex(" ", 0, RECORD_MAX)].encode()]}
            self.assertEqual((self.check(zone).result, form), (Result.FAIL, form))

    def test_many_records(self) -> None:
        """Ten thousand TXT records are looked through; two that are SPF records are one too many."""
        texts = [b"v=spf1x%d" % at for at in range(10_000)]
        self.assertEqual(self.check({"evil.example": {"TXT": texts}}).result, Result.NONE)
        found = self.check({"evil.example": {"TXT": [*texts, b"v=spf1 +all", b"V=SPF1"]}})
        self.assertEqual(found.result, Result.PERMERROR)
        self.assertEqual(found.problem, "evil.example has 2 SPF records, and only one is allowed")

    def test_explanations(self) -> None:
        """An explanation is one line of printable ASCII that is not too long, whatever it and the mail hold."""
        sender, helo = "a\r\nb\x00\x7f\x1b[31m\u2028@evil.example", "h\r\n250 ok\tx"
        for text, shown in (
            (b"%{s} %{h}", "a??b???[31m?@evil.example h??250 ok?x"),
            (b"%{L} %{H}", "a%0D%0Ab%00%7F%1B%5B31m%E2%80%A8 h%0D%0A250%20ok%09x"),
            (b"no\r\nway", ""),
            (b"no\x00way", ""),
            (b"no w\xc3\xa4y", ""),
            (b"\tno", ""),
            (b"x" * 1000, "x" * EXPLANATION_MAX),
            (b"%{s}" * 127, None),
            (b"%{s}" * 500, ""),
            (b"x" * 65_000, ""),
            (b"%{s", ""),
            (b"", ""),
        ):
            found = self.check(
                {**self.txt("v=spf1 -all exp=why.example"), "why.example": {"TXT": [text]}}, sender, helo
            )
            self.assertEqual(found.result, Result.FAIL)
            if shown is not None:
                self.assertEqual(found.explanation, shown)

    def test_explanation_is_no_way_out(self) -> None:
        """Nothing that is wrong with an explanation changes a result, nor is it fetched where nobody wants it."""
        for node in ({}, DNSError("late"), {"TXT": [b"a", b"b"]}):
            found = self.check({**self.txt("v=spf1 -all exp=why.example"), "why.example": node})
            self.assertEqual((found.result, found.explanation), (Result.FAIL, ""))
        zone = self.txt("v=spf1 -all exp=why.example", why="no")
        resolver = FakeResolver(zone)
        finished(
            check_mail(
                resolver, ip=CLIENT, helo="h", reverse_path="a@evil.example", receiver="", now=0.0, explain=False
            )
        )
        self.assertEqual(resolver.asked, [("evil.example", "TXT")])

    def test_strange_identities(self) -> None:
        """Any identity has a result; what is no domain is asked for nowhere."""
        zone = self.txt("v=spf1 exists:%{s}.%{h}.%{l}.%{o}.x -all")
        for odd in ("", "@", "@@", "a@", "x" * 70_000, "a@" + "é" * 70_000, "a@[192.0.2.1]", "[IPv6:::1]", "a@evil",
                    "a@.example", "a@a..example", "a@evil.example..", "a@192.0.2.1", "a@" + "x" * 64 + ".example",
                    "a@ex ample.org", "a@\udcff.example", "a@\x00.example", "a@xn--.example.\u0660",
                    "a@" + "a." * 200):  # fmt: skip
            found = self.check(zone, odd, odd)
            self.assertEqual((found.result, self.asked), (Result.NONE, []), odd[:50])
            self.assertTrue(found.problem)
            self.check(zone, odd + "@evil.example", odd)
        for ip in ("", "x", "192.0.2", "192.0.2.01", "1.2.3.4.5", "1.2.3.4%eth0", "\x00", ":" * 70_000, "/run/socket"):
            self.assertEqual(self.check(zone, ip=ip).result, Result.NONE)
