"""What follows of who sent a mail."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.mailauth.outcomes import FORGED, GOOD, SIGNED, forged
from twisted_mail_node.mailauth.arc import Arc
from twisted_mail_node.mailauth.author import Author
from twisted_mail_node.mailauth.iprev import Iprev
from twisted_mail_node.mailauth.outcome import Outcome
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.policy.checks import Checks, Decision
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings_verification import METHODS, RESULTS, CheckRule

HERE = {"here.test"}
ACTIONS = ("note", "quarantine", "refuse")


def rule(method: str, result: str, action: str, **more: Any) -> CheckRule:
    """A rule of the settings."""
    return CheckRule.model_validate({"method": method, "results": [result], "action": action, **more})


def decided(outcome: Outcome, *rules: CheckRule, domains: set[str] = HERE) -> Decision:
    """What these rules make of it."""
    return Checks(rules).decide(outcome, domains)


class UsualTests(SynchronousTestCase):
    """Without rules of one's own."""

    def test_good(self) -> None:
        """A mail that passes is noted, and so is one of a domain that asks for nothing."""
        self.assertEqual(decided(GOOD), Decision("note"))
        self.assertEqual(decided(forged(policy="none", asked="none")), Decision("note"))
        self.assertEqual(decided(forged(result=Result.NONE, policy="", asked="", record="")), Decision("note"))

    def test_reject(self) -> None:
        """A domain that asks to reject is obeyed, and the reply says what was found (RFC 7372 section 3.4)."""
        found = decided(FORGED)
        self.assertEqual(
            str(found.reply),
            "550 5.7.26 DMARC of example.org asks to reject: spf=fail (client 192.0.2.1), dkim=none",
        )
        self.assertIs(found.reason, Reason.DMARC_FAILED)
        other = SIGNED._replace(domain="other.example")
        aligned = FORGED._replace(spf=GOOD.spf._replace(domain="bounces.example"), dkim=(other,))
        self.assertIn(
            "spf=pass for bounces.example, not example.org, dkim=pass for other.example, not example.org",
            str(decided(aligned).reply),
        )

    def test_quarantine(self) -> None:
        """One that asks for quarantine is obeyed: the mail is taken, with words."""
        found = decided(forged(policy="quarantine", asked="quarantine"))
        self.assertEqual((found.action, found.method, found.reply), ("quarantine", "dmarc", None))
        self.assertIn("DMARC of example.org asks to quarantine", found.words)

    def test_sampled(self) -> None:
        """What is asked counts, not what the policy would be."""
        self.assertEqual(decided(forged(policy="reject", asked="quarantine")).action, "quarantine")
        self.assertEqual(decided(forged(policy="quarantine", asked="none")).action, "note")

    def test_author(self) -> None:
        """A mail in which From depends on who reads it is refused (T24); one whose From is only odd goes into
        quarantine."""
        found = decided(GOOD._replace(author=Author("", "There are two From fields.", True)))
        self.assertEqual(str(found.reply), "550 5.7.1 Nobody can be sure who wrote this: There are two From fields.")
        odd = GOOD._replace(author=Author("", "There is no From field."))
        self.assertEqual((decided(odd).action, decided(odd).method), ("quarantine", "from"))

    def test_temperror(self) -> None:
        """What cannot be looked up is asked for again, later."""
        found = decided(GOOD._replace(dmarc=GOOD.dmarc._replace(result=Result.TEMPERROR, problem="no answer")))
        self.assertEqual(str(found.reply), "451 4.4.3 DMARC of example.org: no answer; please try again later")
        self.assertIs(found.reason, Reason.CHECK_LATER)

    def test_vouched(self) -> None:
        """Where a trusted sealer vouches, DMARC refuses nothing; what overruled it is remembered."""
        found = decided(FORGED._replace(vouched="lists.example"))
        self.assertEqual(found, Decision("note", overridden=True))

    def test_single_line(self) -> None:
        """Words of strangers make no second line in a reply."""
        outcome = FORGED._replace(author=Author("", "bad\r\n250 2.0.0 fine"))
        reply = decided(outcome).reply
        assert reply is not None
        self.assertEqual(reply.octets().count(b"\r\n"), 1)


class LaterTests(SynchronousTestCase):
    """Checks that cannot be made now."""

    RULES = (rule("spf", "temperror", "refuse"), rule("arc", "fail", "refuse"), rule("helo", "fail", "quarantine"))

    def test_for_good(self) -> None:
        """A mail that is refused for good is not put off for another check, whichever comes first: it would be taken
        when it comes again."""
        late = FORGED.spf._replace(result=Result.TEMPERROR)
        for outcome, method in (
            (FORGED._replace(spf=late), "dmarc"),
            (forged(result=Result.TEMPERROR, asked="")._replace(arc=Arc(Result.FAIL)), "arc"),
        ):
            found = decided(outcome, *self.RULES)
            self.assertEqual((found.method, found.reply and found.reply.code), (method, 550))

    def test_again(self) -> None:
        """A mail that is not put off again is what the other checks say."""
        late = GOOD._replace(spf=GOOD.spf._replace(result=Result.TEMPERROR))
        checks = Checks(self.RULES)
        self.assertEqual(str(checks.decide(late, HERE).reply)[:9], "451 4.4.3")
        found = checks.decide(late, HERE, later=False)
        self.assertEqual((found.action, found.method, found.reason), ("note", "spf", Reason.CHECK_LATER))
        found = checks.decide(late._replace(helo_spf=late.helo_spf._replace(result=Result.FAIL)), HERE, later=False)
        self.assertEqual((found.action, found.method), ("quarantine", "helo"))
        unsure = Author("", "There is no From field.")
        late = forged(result=Result.TEMPERROR, asked="")._replace(author=unsure)
        self.assertEqual(checks.decide(late, HERE, later=False).action, "quarantine")


class RuleTests(SynchronousTestCase):
    """Rules of the settings."""

    def test_spf(self) -> None:
        """SPF alone may refuse; the domain's explanation is passed on (RFC 7208 section 6.2)."""
        outcome = GOOD._replace(
            spf=GOOD.spf._replace(result=Result.FAIL, mechanism="-all", explanation="See http://example.org/why")
        )
        self.assertEqual(decided(outcome).action, "note")
        self.assertEqual(
            str(decided(outcome, rule("spf", "fail", "refuse")).reply),
            "550 5.7.23 SPF of example.org does not let 192.0.2.1 send for the reverse-path (-all); "
            "example.org says: See http://example.org/why",
        )

    def test_codes(self) -> None:
        """Each method has its code (RFC 7372 section 3)."""
        for method, result, code, outcome in (
            ("spf", "permerror", "5.7.24", GOOD._replace(spf=GOOD.spf._replace(result=Result.PERMERROR))),
            ("helo", "fail", "5.7.23", GOOD._replace(helo_spf=GOOD.helo_spf._replace(result=Result.FAIL))),
            ("dkim", "none", "5.7.20", GOOD._replace(dkim=())),
            ("iprev", "fail", "5.7.25", GOOD._replace(iprev=Iprev(Result.FAIL, "x.example"))),
            ("arc", "fail", "5.7.29", GOOD._replace(arc=Arc(Result.FAIL))),
            ("dmarc", "none", "5.7.26", GOOD._replace(dmarc=GOOD.dmarc._replace(result=Result.NONE))),
        ):
            reply = decided(outcome, rule(method, result, "refuse")).reply
            assert reply is not None, method
            self.assertEqual((reply.code, reply.enhanced), (550, code), method)

    def test_first_fits(self) -> None:
        """The first rule that fits counts, the usual ones last."""
        mild = rule("dmarc", "reject", "note", senders=[".org"])
        self.assertEqual(decided(FORGED, mild).action, "note")
        self.assertEqual(decided(FORGED, rule("dmarc", "reject", "note", senders=["example.com"])).action, "refuse")
        self.assertEqual(decided(FORGED, rule("dmarc", "reject", "quarantine"), mild).action, "quarantine")

    def test_recipients(self) -> None:
        """A rule may be for some of our domains; a mail to several is treated as the mildest says."""
        mild = rule("dmarc", "reject", "quarantine", recipients=["here.test"])
        self.assertEqual(decided(FORGED, mild).action, "quarantine")
        self.assertEqual(decided(FORGED, mild, domains={"there.test"}).action, "refuse")
        self.assertEqual(decided(FORGED, mild, domains={"there.test", "here.test"}).action, "quarantine")

    def test_strongest(self) -> None:
        """Of several methods the one with the strongest consequence decides."""
        found = decided(GOOD._replace(dkim=(), dmarc=forged(asked="quarantine").dmarc), rule("dkim", "none", "refuse"))
        self.assertEqual((found.action, found.method), ("refuse", "dkim"))

    def test_vouched_for_dmarc_only(self) -> None:
        """A sealer's word overrules DMARC, and nothing else."""
        outcome = FORGED._replace(vouched="lists.example")
        found = decided(outcome, rule("spf", "fail", "refuse"))
        self.assertEqual((found.action, found.method, found.overridden), ("refuse", "spf", True))

    @given(
        st.lists(
            st.builds(
                rule, st.sampled_from(METHODS), st.sampled_from(RESULTS), st.sampled_from(ACTIONS),
            ),
            max_size=5,
        ),
        st.sampled_from([GOOD, FORGED, forged(asked="quarantine"), GOOD._replace(author=Author("", "odd"))]),
    )  # fmt: skip
    def test_never_breaks(self, rules: list[CheckRule], outcome: Outcome) -> None:
        """Whatever the rules: a refusal has a reply, and nothing else has."""
        found = decided(outcome, *rules)
        self.assertEqual(found.reply is not None, found.action == "refuse")
