"""The TXT record and the policy file of MTA-STS (RFC 8461 section 3), read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.outbound.mtasts import (
    EXCHANGERS_MAX,
    MAX_AGE,
    POLICY_MAX,
    PolicyError,
    StsPolicy,
    id_of,
    read_policy,
)

GOOD = b"version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmax_age: 604800\r\n"


class IdTest(SynchronousTestCase):
    """id_of."""

    def test_example(self) -> None:
        """The RFC's example, with and without the last semicolon, with spaces around it, in any order."""
        for record in (
            b"v=STSv1; id=20160831085700Z;",
            b"v=STSv1; id=20160831085700Z",
            b"v=STSv1;id=20160831085700Z",
            b"v=STSv1 ;\tid=20160831085700Z ; ",
            b"v=STSv1; a.b-c_1=x/y; id=20160831085700Z; id=other",
        ):
            self.assertEqual(id_of([record]), "20160831085700Z", record)

    def test_one_record(self) -> None:
        """Records that do not begin with the version are passed over; of those that do there must be one."""
        mine = b"v=STSv1; id=1;"
        self.assertEqual(id_of([b"v=spf1 -all", mine, b"v=STSv12; id=2;", "text", b"id=3; v=STSv1;"]), "1")
        self.assertIsNone(id_of([mine, mine]))
        self.assertIsNone(id_of([mine, b"v=STSv1;"]))
        self.assertIsNone(id_of([]))

    def test_wrong(self) -> None:
        """A record that is not right as a whole is no record."""
        for record in (
            b"v=STSv1", b"v=STSv1;", b"v=STSv1; id=;", b"v=STSv1; id=a-b;", b"v=STSv1; id=" + b"a" * 33,
            b"v=STSv1; ID=1;", b"V=STSv1; id=1;", b" v=STSv1; id=1;", b"v=STSv1; id=1; x;", b"v=STSv1; id=1;; x=1",
            b"v=STSv1; id=1; x=a b", b"v=STSv1; id=1; x=a=b", b"v=STSv1; id=\xc3\xa4", b"v=STSv1; id=1\n",
            b"v=STSv1; id=1; -x=1", b"v=STSv1; id=1; x=\x7f",
        ):  # fmt: skip
            self.assertIsNone(id_of([record]), record)

    @given(st.lists(st.binary(max_size=80) | st.binary(max_size=80).map(b"v=STSv1;".__add__), max_size=3))
    def test_anything(self, records: list[bytes]) -> None:
        """Whatever stands there: an id of 1 to 32 letters and digits, or none."""
        found = id_of(records)
        self.assertTrue(found is None or (found.isascii() and found.isalnum() and len(found) <= 32))


class PolicyTest(SynchronousTestCase):
    """read_policy."""

    def refused(self, octets: bytes) -> str:
        """Why it is no policy."""
        return str(self.assertRaises(PolicyError, read_policy, octets, "1", 0.0))

    def test_example(self) -> None:
        """The RFC's example, with either line end, without the last one, with what real files have beside it."""
        wanted = StsPolicy("7", "enforce", ("mail.example.com", "*.example.net"), 604800, 5.0)
        for octets in (
            GOOD,
            GOOD.replace(b"\r\n", b"\n"),
            GOOD.removesuffix(b"\r\n"),
            GOOD.replace(b": ", b":"),
            GOOD.replace(b"\r\n", b" \t\r\n"),
            GOOD + b"\r\n\r\n",
            b"comment: gr\xc3\xbc\xc3\x9fe, x: y\n" + GOOD,
            GOOD + b"mode: none\r\nmax_age: 1\r\nversion: STSv2\r\nmx: MAIL.example.com\r\n",
        ):
            self.assertEqual(read_policy(octets, "7", 5.0), wanted, octets)
        self.assertEqual(wanted.expires, 604805.0)
        self.assertEqual(
            wanted.lines,
            ("version: STSv1", "mode: enforce", "mx: mail.example.com", "mx: *.example.net", "max_age: 604800"),
        )

    def test_none(self) -> None:
        """Mode none needs no mail exchanger."""
        policy = read_policy(b"version: STSv1\nmode: none\nmax_age: 0\n", "1", 0.0)
        self.assertEqual((policy.mode, policy.exchangers, policy.max_age), ("none", (), 0))

    def test_max_age(self) -> None:
        """It is bounded by a year and a day; what is no number of ten digits is refused."""
        self.assertEqual(read_policy(GOOD.replace(b"604800", b"9999999999"), "1", 0.0).max_age, MAX_AGE)
        for wrong in (b"-1", b"1.5", b"", b"99999999999", b"1e3", b"\xd9\xa1"):
            self.assertIn("max_age", self.refused(GOOD.replace(b"604800", wrong)))

    def test_wrong(self) -> None:
        """What is missing or malformed is told."""
        for octets, words in (
            (b"", "version"),
            (b"<html>\n", "not of the form"),
            (GOOD.replace(b"STSv1", b"STSv2"), "version"),
            (GOOD.replace(b"enforce", b"Enforce"), "mode"),
            (GOOD.replace(b"mode: enforce\r\n", b""), "mode"),
            (b"version: STSv1\nmode: testing\nmax_age: 5\n", "names no mail exchanger"),
            (GOOD.replace(b"mail.example", b"mail..example"), "names no host"),
            (GOOD.replace(b"*.example", b"*.*.example"), "names no host"),
            (GOOD.replace(b"*.example", b"*example"), "names no host"),
            (GOOD.replace(b"mail.example", b"m\xc3\xa4il.example"), "names no host"),
            (GOOD.replace(b"mail.example.com", b"192.0.2.1 x"), "names no host"),
            (GOOD.replace(b"mail.example.com", b".".join([b"a" * 60] * 5)), "names no host"),
            (GOOD + b"\xff", "UTF-8"),
            (GOOD + b"x" * POLICY_MAX, "64 KiB"),
            (GOOD + b"a\0b: c\n", "not of the form"),
            (GOOD + b"a: b\0c\n", "not of the form"),
            (GOOD.replace(b"\r\n", b"\r"), "not of the form"),
            (GOOD.replace(b"mx: m", b"mx: \rm"), "not of the form"),
            (GOOD + b"mx: a\n" * EXCHANGERS_MAX, f"more than {EXCHANGERS_MAX} mx"),
        ):
            self.assertIn(words, self.refused(octets), octets[:80])

    @given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: GOOD + text.encode()))
    def test_anything(self, octets: bytes) -> None:
        """Whatever the file holds: a policy within its bounds, or a sentence on one line."""
        try:
            policy = read_policy(octets, "1", 0.0)
        except PolicyError as error:
            self.assertTrue(str(error).isprintable() and str(error).isascii())
        else:
            self.assertLessEqual(policy.max_age, MAX_AGE)
            self.assertTrue(all(pattern.isascii() for pattern in policy.exchangers))


class AllowsTest(SynchronousTestCase):
    """StsPolicy.allows."""

    def test_names(self) -> None:
        """A wildcard stands for one whole label; case, a trailing dot and the spelling of IDNs make no difference."""
        policy = StsPolicy("1", "enforce", ("mail.example.com", "*.example.net", "xn--mil-qla.example"), 1, 0.0)
        for host in ("mail.example.com", "MAIL.Example.COM.", "a.example.net", "m\u00e4il.example"):
            self.assertTrue(policy.allows(host), host)
        for host in (
            "example.net", "a.b.example.net", "mail.example.com.evil.test", "xmail.example.com", "*.example.net.x",
            "com", "", ".example.net", "[192.0.2.1]", "a" * 300,
        ):  # fmt: skip
            self.assertFalse(policy.allows(host), host)
