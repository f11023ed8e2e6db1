"""How results are told in Authentication-Results."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.mailauth.outcomes import FORGED, GOOD, SIGNED
from twisted_mail_node.mailauth.arc import Arc
from twisted_mail_node.mailauth.author import Author
from twisted_mail_node.mailauth.outcome import Outcome, authentication_results, signed_in
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.message.authresults import field, parse


def told(outcome: Outcome) -> str:
    """The value of the field, on one line."""
    octets = field(authentication_results("mx.here.test", outcome))
    return octets.decode().replace("\r\n", "").removeprefix("Authentication-Results: ")


class OutcomeTests(SynchronousTestCase):
    def test_good(self) -> None:
        """Every method is told with what it looked at (RFC 8601 section 2.7)."""
        found = parse(told(GOOD))
        self.assertEqual(found.authserv_id, "mx.here.test")
        lines = [
            (one.method, one.result, {f"{part.ptype}.{part.name}": part.value for part in one.properties})
            for one in found.results
        ]
        self.assertEqual(
            lines,
            [
                ("iprev", "pass", {"policy.iprev": "192.0.2.1"}),
                ("spf", "none", {"smtp.helo": "mx.example.org"}),
                ("spf", "pass", {"smtp.mailfrom": "ann@example.org"}),
                (
                    "dkim",
                    "pass",
                    {"header.d": "example.org", "header.s": "s1", "header.a": "rsa-sha256", "header.b": "AbCdEfGh"},
                ),
                ("dmarc", "pass", {"header.from": "example.org", "policy.dmarc": "reject"}),
            ],
        )

    def test_forged(self) -> None:
        """A mail without signatures says so."""
        results = {(one.method, one.result) for one in parse(told(FORGED)).results}
        self.assertLessEqual({("spf", "fail"), ("dkim", "none"), ("dmarc", "fail")}, results)

    def test_null_reverse_path(self) -> None:
        """A bounce has no reverse-path to tell of: the name in EHLO stands for it."""
        found = parse(told(GOOD._replace(reverse_path="")))
        spf = [one for one in found.results if one.method == "spf"]
        self.assertEqual([[part.name for part in one.properties] for one in spf], [["helo"]])

    def test_together(self) -> None:
        """The best signature counts, and one that could not be checked before one that is bad."""
        for results, best in {
            (): Result.NONE,
            (Result.FAIL, Result.PASS): Result.PASS,
            (Result.PERMERROR, Result.TEMPERROR, Result.FAIL): Result.TEMPERROR,
            (Result.PERMERROR, Result.FAIL): Result.FAIL,
        }.items():
            dkim = tuple(SIGNED._replace(result=one) for one in results)
            self.assertIs(GOOD._replace(dkim=dkim).dkim_result, best)

    def test_arc(self) -> None:
        """A chain of seals is told of only where there is one."""
        arc = Arc(Result.PASS, 2, ("a.example", "b.example"))
        self.assertNotIn("; arc=", told(GOOD))
        self.assertIn("; arc=pass (i=2 a.example b.example)", told(GOOD._replace(arc=arc)))

    def test_hostile(self) -> None:
        """Whatever a sender wrote, the field holds no result that we did not find (T25)."""
        evil = 'x; dmarc=pass (y) "z\r\n spf=pass'
        outcome = GOOD._replace(
            reverse_path=f"{evil}@example.org",
            helo=evil,
            dkim=(SIGNED._replace(result=Result.FAIL, domain=evil, selector=evil, identity=evil, signature=evil),),
            author=Author("", evil),
            dmarc=GOOD.dmarc._replace(result=Result.PERMERROR, domain=evil, problem=evil),
            iprev=GOOD.iprev._replace(name=evil),
        )
        octets = field(authentication_results("mx.here.test", outcome))
        self.assertEqual(octets.count(b"\r\n"), octets.count(b"\r\n ") + octets.count(b"\r\n\t") + 1)
        found = parse(told(outcome))
        self.assertEqual([one.method for one in found.results], ["iprev", "spf", "spf", "dkim", "dmarc"])
        self.assertEqual([one.result for one in found.results], ["pass", "none", "pass", "fail", "permerror"])

    def test_signed_in(self) -> None:
        """auth=pass names the account."""
        octets = field(signed_in("mx.here.test", "joe@here.test"))
        self.assertEqual(octets, b"Authentication-Results: mx.here.test;\r\n auth=pass smtp.auth=joe@here.test\r\n")
