"""iprev: the client's name leads back to its address, or it does not."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.dns.fake import FakeResolver
from twisted_mail_node.dns.answer import DNSError
from twisted_mail_node.mailauth import iprev
from twisted_mail_node.mailauth.iprev import Iprev
from twisted_mail_node.mailauth.results import Result

ZONE: dict[str, Any] = {
    "1.2.0.192.in-addr.arpa": {"PTR": ["other.example", "mx.example.org"]},
    "mx.example.org": {"A": ["192.0.2.7", "192.0.2.1"], "AAAA": ["2001:db8::1"]},
    "other.example": {"A": ["192.0.2.99"]},
    "2.2.0.192.in-addr.arpa": {"PTR": ["other.example", "gone.example"]},
    "3.2.0.192.in-addr.arpa": {"PTR": ["slow.example", "other.example"]},
    "slow.example": DNSError("no answer"),
    "4.2.0.192.in-addr.arpa": DNSError("no answer"),
    "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa": {"PTR": ["mx.example.org"]},
    "5.2.0.192.in-addr.arpa": {"PTR": [f"n{number}.example" for number in range(50)]},
}


class IprevTests(SynchronousTestCase):
    def check(self, ip: str) -> Iprev:
        """What comes of an address."""
        self.resolver = FakeResolver(ZONE)
        return self.successResultOf(Deferred.fromCoroutine(iprev.check(self.resolver, ip)))

    def test_pass(self) -> None:
        """One of the names that leads back is enough; an IPv4 address in IPv6's clothes is one of IPv4."""
        for ip in ("192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"):
            self.assertEqual(self.check(ip), Iprev(Result.PASS, "mx.example.org"), ip)

    def test_fail(self) -> None:
        """Names that lead elsewhere, or nowhere."""
        found = self.check("192.0.2.2")
        self.assertEqual((found.result, found.name), (Result.FAIL, "other.example"))
        self.assertIn("does not lead back", found.problem)

    def test_no_name(self) -> None:
        """Without a name it is a permerror (RFC 8601 section 2.7.3)."""
        found = self.check("192.0.2.200")
        self.assertEqual(found, Iprev(Result.PERMERROR, problem="192.0.2.200 has no name in the DNS"))

    def test_trouble(self) -> None:
        """A DNS that does not answer is a temperror, unless another name leads back."""
        for ip in ("192.0.2.3", "192.0.2.4"):
            self.assertIs(self.check(ip).result, Result.TEMPERROR, ip)

    def test_many_names(self) -> None:
        """Of an address with very many names only the first are looked at."""
        self.assertIs(self.check("192.0.2.5").result, Result.FAIL)
        self.assertEqual(len(self.resolver.asked), 1 + iprev.NAMES_MAX)
