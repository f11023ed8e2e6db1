"""Records of every kind, good and bad, in zones made at random: check_host() and pyspf come to the same result.

Where pyspf differs from RFC 7208 the zones do not go, or the difference is allowed for below:

* It counts the questions that find no records, not the terms (section 4.6.4: "limit the number of "terms" for which DNS
  queries return either a positive answer (RCODE 0) with an answer count of 0, or a "Name Error" (RCODE 3) answer"): the
  limit is off on both sides here, and has tests of its own.
* It counts a ``redirect`` that is never followed (section 4.6.4: "the total number of those terms to 10 during SPF
  evaluation"): ``test_same`` allows for it.
* A record that includes its own domain is an error to it even if that term is never reached (section 4.6.2: "If it
  matches, processing ends").
* A modifier it does not know is an error when it stands there twice (section 6: "MUST be ignored no matter where, or
  how often"), or with the macros c, r and t (section 12 has them among the macro-letters).
* ``%{d0}`` is the whole value (section 7.3: "the value MUST be nonzero").
* Modifiers in upper case are not known to it (section 4.6.1: "mechanism and modifier names are case-insensitive").
* A client's name that does not answer ends it (section 5.5: "that domain name is skipped and the search continues").
* All exchangers of an ``mx`` are asked though the first matches, so that one of no answer ends it.
* A name of more than 253 characters loses one label only (section 7.3: "removing successive domain labels").
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.dns.fake import FakeResolver
from tests.mailauth import oracle_spf
from tests.mailauth.vectors_spf import finished
from twisted_mail_node.dns.answer import MX, DNSError
from twisted_mail_node.mailauth import spf_evaluation
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.mailauth.spf import check_mail

DOMAINS = ("one.example", "two.example", "three.example", "four.two.example")
HOSTS = ("mx.one.example", "mail.two.example", "none.example")
LATE = "late.example"
IPV4 = ("192.0.2.1", "192.0.2.77", "198.51.100.9", "203.0.113.200")
IPV6 = ("2001:db8::1", "2001:db8:1::ffff", "2001:db8:2::3")
NETWORKS4 = ("192.0.2.0", "192.0.2.1", "198.51.100.9", "203.0.113.255", "0.0.0.0")
NETWORKS6 = ("2001:db8::", "2001:db8::1", "2001:DB8:1::", "::", "2001:db8:2:0:0:0:0:3", "::192.0.2.1")

qualifiers = st.sampled_from(["", "", "+", "-", "~", "?"])
lengths4 = st.sampled_from(["", "", "/0", "/8", "/24", "/25", "/31", "/32"])
lengths6 = st.sampled_from(["", "", "//0", "//32", "//48", "//127", "//128"])
macros = st.builds(
    "%{{{}{}{}{}}}".format,
    st.sampled_from("slodihvSLODIHV"),
    st.sampled_from(["", "", "1", "2", "3", "127"]),
    st.sampled_from(["", "r", "R"]),
    st.sampled_from(["", "", "-", ".-", "+", "=_"]),
)
#: A domain-spec that may lead anywhere.
specs = st.one_of(
    st.sampled_from(DOMAINS + HOSTS + (LATE, "TWO.example.")),
    st.builds("{}.{}".format, macros, st.sampled_from(DOMAINS)),
    st.sampled_from(
        ["%{d}", "%{d2}", "mx.%{d}", "%{o}", "%{h}", "%{d2}.", "%{ir}.%{v}.one.example", "x%%y.%-%_.example"]
    ),
)
broken = st.sampled_from(
    [
        "",
        "example",
        "a..b",
        "one.example.123",
        "%{x}.example",
        "%",
        "one.example/24",
        "-",
        "%{d",
        "%{d}x",
        "a.b-",
        "[1]",
    ]
)
mechanisms = st.one_of(
    st.builds("{}ip4:{}{}".format, qualifiers, st.sampled_from(NETWORKS4), lengths4),
    st.builds("{}ip6:{}{}".format, qualifiers, st.sampled_from(NETWORKS6), lengths6.map(lambda text: text[1:])),
    st.builds("{}{}{}{}".format, qualifiers, st.sampled_from(["a", "mx", "A", "Mx"]), lengths4, lengths6),
    st.builds("{}{}:{}{}{}".format, qualifiers, st.sampled_from(["a", "mx"]), specs, lengths4, lengths6),
    st.builds("{}exists:{}".format, qualifiers, specs),
    st.builds("{}ptr".format, qualifiers),
    st.builds("{}ptr:{}".format, qualifiers, st.sampled_from((*DOMAINS, "%{d2}"))),
    st.builds("{}all".format, qualifiers),
)
malformed = st.one_of(
    st.builds("{}:{}".format, st.sampled_from(["a", "mx", "exists", "include", "ptr", "ip4", "ip6", "all"]), broken),
    st.sampled_from(["ip4:192.0.2.0/33", "ip4:192.0.2", "ip4:192.0.02.1", "ip4:192.0.2.1/024", "ip4:1.2.3.4//24",
                     "ip6:2001:db8::/129", "ip6:1:2:3:4:5:6:7", "ip6:::1/", "ip6:1::2::3", "a/33", "mx//129", "a/",
                     "a//", "a/24/64", "ptr/24", "all/8", "foo", "-foo:bar", "=x", "1x=y", "include", "exists",
                     "redirect=", "redirect=x", "-redirect=one.example", "exp=", "exp=%{c}.example", "x=%{z}", "+",
                     "a:192.0.2.1", "a,", "--all", "é"]),
)  # fmt: skip
harmless = st.sampled_from(["x-y.z_1=%{d}:/", "moo=", "v=spf1"])


@st.composite
def zones(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    """A zone in which everything leads everywhere."""
    zone: dict[str, dict[str, Any]] = {}
    for name in DOMAINS:
        terms = draw(st.lists(mechanisms, max_size=4))
        others = [other for other in DOMAINS if other != name]
        if draw(st.integers(0, 2)):
            target = st.sampled_from([*others, *others, LATE, "none.example"])
            for term in draw(st.lists(st.builds("{}include:{}".format, qualifiers, target), max_size=2)):
                terms.insert(draw(st.integers(0, len(terms))), term)
        if not draw(st.integers(0, 2)):
            terms.append(f"redirect={draw(st.sampled_from(others))}")
        if not draw(st.integers(0, 2)):
            terms.append("exp=" + draw(st.sampled_from(["why.example", "why.example", "none.example", LATE])))
        if not draw(st.integers(0, 5)):
            terms.insert(draw(st.integers(0, len(terms))), draw(harmless))
        if not draw(st.integers(0, 7)):
            terms.insert(draw(st.integers(0, len(terms))), draw(malformed))
        record = " ".join([draw(st.sampled_from(["v=spf1", "V=SPF1"])), *terms]) + draw(st.sampled_from(["", " "]))
        texts = [record.encode(), b"another"]
        if not draw(st.integers(0, 15)):
            texts = draw(st.sampled_from([[], [b"v=spf1 -all"] * 2, [b"v=spf10 -all"], [b"v=spf1"]]))
        zone[name] = {
            "TXT": texts,
            "MX": draw(st.sampled_from([[], [MX(5, "mx.one.example"), MX(5, "mail.two.example")]])),
        }
        zone[name] |= draw(addresses)
    for name in HOSTS[:2]:
        zone[name] = draw(addresses)
    why = [b"no %{i} %{c} %{L} at %{d}, %{r}", b"%{s} %{h2r.-} %%%_%-%{O} %{dr} %{lr-+}", b"%", b"\xff"]
    zone["why.example"] = {"TXT": [draw(st.sampled_from(why))]}
    zone[LATE] = {rdtype: DNSError("late") for rdtype in ("TXT", "A", "AAAA", "MX")}
    names = draw(st.lists(st.sampled_from(DOMAINS + HOSTS), max_size=3))
    for ip in IPV4:
        zone[".".join(reversed(ip.split("."))) + ".in-addr.arpa"] = {"PTR": names}
    return zone


addresses = st.builds(
    lambda four, six: {"A": four, "AAAA": six},
    st.lists(st.sampled_from(IPV4), max_size=2),
    st.lists(st.sampled_from(IPV6), max_size=2),
)
senders = st.builds("{}@{}".format, st.sampled_from(["joe", "a-b.c+d", "x=y_z", "J"]), st.sampled_from(DOMAINS))


class OracleTest(SynchronousTestCase):
    """Two implementations of one RFC."""

    def setUp(self) -> None:
        self.patch(spf_evaluation, "VOIDS_MAX", 10**6)

    @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        zones(), st.sampled_from(IPV4 + IPV6 + ("::ffff:192.0.2.1",)), st.sampled_from((*DOMAINS, "[x]", "h")), senders
    )
    def test_same(self, zone: dict[str, dict[str, Any]], ip: str, helo: str, sender: str) -> None:
        """Result and explanation are the same."""
        ours = finished(
            check_mail(FakeResolver(zone), ip=ip, helo=helo, reverse_path=sender, receiver="us.example", now=0.0)
        )
        result, explanation, problem = oracle_spf.check(zone, ip, helo, sender, "us.example", voids=10**6)
        if oracle_spf.TOO_MANY in problem and ours.result is not Result.PERMERROR:
            records = [text for name in DOMAINS for text in zone[name]["TXT"]]
            self.assertTrue(any(b"redirect=" in record for record in records), problem)
            return
        self.assertEqual((str(ours.result), ours.explanation), (result, explanation), (ours, problem))
