"""DMARC Policy Records (RFC 9989 section 4.7)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.mailauth.dmarc_record import ADDRESSES_MAX, POLICIES, Record, find, parse
from twisted_mail_node.mailauth.results import Result


def read(text: str) -> Record:
    """A record that is one."""
    record = parse(text.encode())
    assert record is not None, text
    return record


class ParseTest(SynchronousTestCase):
    """``parse``."""

    def test_version(self) -> None:
        """A record begins with v=DMARC1, in this case, and nothing before it."""
        for text in ("v=DMARC1", "v=DMARC1;", "V=DMARC1; p=none", "v = DMARC1 ;p=none", "v\t=\tDMARC1\t;"):
            self.assertIsNotNone(parse(text.encode()), text)
        for text in (
            "",
            "v=DMARC1x; p=none",
            "v=DMARC2; p=none",
            "v=dmarc1; p=none",
            " v=DMARC1; p=none",
            ";v=DMARC1; p=none",
            "p=none; v=DMARC1",
            "v=DMARC1 p=none",
            "v=spf1 -all",
            "v=DMARC",
            "vv=DMARC1",
        ):
            self.assertIsNone(parse(text.encode()), text)

    def test_all(self) -> None:
        """Every tag is read, in any order and case; names of values too, but not addresses."""
        record = read(
            "v=DMARC1; RUA=mailto:A@Example.org,https://example.net/x!10m ; ruf=mailto:b@example.org!5; fo=1:d:s;"
            " p=Reject; sp=QUARANTINE; np=none; adkim=S; aspf=s; psd=N; t=Y; pct=50; ri=3600; rf=afrf; x=y"
        )
        self.assertEqual(
            record[1:],
            (
                "reject",
                "quarantine",
                "none",
                "s",
                "s",
                "n",
                True,
                50,
                ("mailto:A@Example.org", "https://example.net/x"),
                ("mailto:b@example.org",),
                "1:d:s",
                3600,
                "afrf",
                "",
                Result.NONE,
            ),
        )

    def test_defaults(self) -> None:
        """What is not there, or malformed, has its default; the rest of the record counts."""
        wanted = read("v=DMARC1; p=reject")[1:]
        for text in (
            "adkim=x; aspf=; psd=yes; t=1; pct=101; pct=; ri=-1; fo=9; rua=nobody; ruf=:x",
            "adkim; =s; ;; ;a b=c; 1=2; t\u00e9=y; t=y\u00e9; t=y\x00; pct=\u0665; ad-kim=s",
            "t=y; t=y; adkim=s; adkim=s; pct=0; PCT=0",
            "rua=; rua=mailto:a@example.org",
            "rua=mailto:a b@example.org, mailto:, ftp",
        ):
            self.assertEqual(read(f"v=DMARC1; p=reject; {text}")[1:], wanted, text)

    def test_white_space(self) -> None:
        """Spaces and tabs may stand around names and values."""
        self.assertEqual(read("v=DMARC1 \t;\t p\t= \treject\t ; t = y")[1:], read("v=DMARC1;p=reject;t=y")[1:])

    def test_no_policy(self) -> None:
        """Without p, or with p, sp or np malformed or twice, a record means p=none when it asks for reports. Else
        nothing is done by it: a permanent error when something was malformed (RFC 9989 sections 4.10.1, 9.2)."""
        for text, result in (
            ("", Result.NONE),
            ("sp=reject", Result.NONE),
            ("p=", Result.PERMERROR),
            ("p=rejected", Result.PERMERROR),
            ("p=none; p=reject", Result.PERMERROR),
            ("p=reject; sp=no", Result.PERMERROR),
            ("p=reject; np=no", Result.PERMERROR),
            ("sp=no", Result.PERMERROR),
        ):
            record = read(f"v=DMARC1; {text}; rua=nobody")
            self.assertEqual((record.p, record.sp, record.np, record.result), ("", "", "", result), text)
            self.assertTrue(record.wrong)
            record = read(f"v=DMARC1; {text}; t=y; rua=nobody, mailto:a@example.org")
            self.assertEqual((record.p, record.sp, record.np, record.wrong), ("none", "", "", ""), text)
            self.assertTrue(record.testing)

    def test_find(self) -> None:
        """Other TXT records do not count; two records are none."""
        one = b"v=DMARC1; p=reject"
        self.assertEqual(find([b"v=spf1 -all", one, b"v=DMARC2"]), parse(one))
        for records in ([], [b"x"], [one, one], [one, b"v=DMARC1"]):
            self.assertIsNone(find(records))

    def test_large(self) -> None:
        """A record as large as TXT allows is read in bounded time, and keeps some addresses only."""
        record = read("v=DMARC1; p=reject; rua=" + ",".join(["mailto:a@example.org"] * 3000))
        self.assertEqual(len(record.rua), ADDRESSES_MAX)
        self.assertEqual(read("v=DMARC1; p=reject" + ";" * 65000).p, "reject")

    @given(st.one_of(st.binary(), st.text(alphabet='vDMARC1=; \tpsntrejquanoi:@,!%"\\u').map(str.encode)))
    def test_anything(self, text: bytes) -> None:
        """Whatever stands in the DNS is a record or none, and a record is in bounds."""
        for octets in (text, b"v=DMARC1;" + text, b"v=DMARC1; p=reject;" + text):
            record = parse(octets)
            if record is None:
                continue
            self.assertIn(record.p, ("", *POLICIES))
            self.assertEqual(record.p == "", record.wrong != "")
            self.assertTrue(0 <= record.pct <= 100)
