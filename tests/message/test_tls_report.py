"""Reports about TLS as octets (RFC 8460 sections 4.4, 5.1 and 5.3)."""

from __future__ import annotations

import email
import gzip
import json
from email import policy

from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.message.address import Address
from twisted_mail_node.message.tls_report import Reporter, build, mail
from twisted_mail_node.state.tls_results import Counted

REPORTER = Reporter("mx.here.example", "Here & Söhne", Address("postmaster", "here.example"))
STS = ("sts", ("version: STSv1", "mode: testing", "mx: *.there.example", "max_age: 86400"), ("*.there.example",))
COUNTED = (
    Counted("there.example", *STS, "", "", "", "", "", 5326),
    Counted("there.example", *STS, "certificate-expired", "mx1.there.example", "192.0.2.1", "2001:db8::9", "it expired",
            100),
    Counted("there.example", *STS, "starttls-not-supported", "mx2.there.example", "192.0.2.1", "192.0.2.9", "", 200),
    Counted("there.example", "no-policy-found", (), (), "", "", "", "", "", 7),
)  # fmt: skip
#: 2026-01-31.
DAY = 20_484


class ReportTest(SynchronousTestCase):
    """build."""

    def test_shape(self) -> None:
        """The JSON has every field of the RFC's schema, with its sums; what is not known is left out."""
        report = build(REPORTER, "there.example", DAY, COUNTED)
        shape = json.loads(gzip.decompress(report.octets))
        self.assertEqual(
            {name: value for name, value in shape.items() if name != "policies"},
            {
                "organization-name": "Here & Söhne",
                "date-range": {"start-datetime": "2026-01-31T00:00:00Z", "end-datetime": "2026-01-31T23:59:59Z"},
                "contact-info": "postmaster@here.example",
                "report-id": "20260131.there.example@mx.here.example",
            },
        )
        sts, none = shape["policies"]
        self.assertEqual(
            sts["policy"],
            {"policy-type": "sts", "policy-domain": "there.example", "policy-string": list(STS[1]),
             "mx-host": ["*.there.example"]},
        )  # fmt: skip
        self.assertEqual(sts["summary"], {"total-successful-session-count": 5326, "total-failure-session-count": 300})
        self.assertEqual(
            sts["failure-details"],
            [
                {"result-type": "certificate-expired", "sending-mta-ip": "192.0.2.1",
                 "receiving-mx-hostname": "mx1.there.example", "receiving-ip": "2001:db8::9",
                 "failure-reason-code": "it expired", "failed-session-count": 100},
                {"result-type": "starttls-not-supported", "sending-mta-ip": "192.0.2.1",
                 "receiving-mx-hostname": "mx2.there.example", "receiving-ip": "192.0.2.9",
                 "failed-session-count": 200},
            ],
        )  # fmt: skip
        self.assertEqual(
            none,
            {"policy": {"policy-type": "no-policy-found", "policy-domain": "there.example"},
             "summary": {"total-successful-session-count": 7, "total-failure-session-count": 0}},
        )  # fmt: skip
        self.assertEqual((report.successes, report.failures), (5333, 300))

    def test_name(self) -> None:
        """submitter!domain!begin!end!id.json.gz"""
        report = build(REPORTER, "there.example", DAY, COUNTED)
        self.assertEqual(report.name, "mx.here.example!there.example!1769817600!1769903999!20260131.json.gz")

    def test_same(self) -> None:
        """The same values give the same octets, so that a report tried again is the same report."""
        self.assertEqual(build(REPORTER, "a.example", DAY, COUNTED), build(REPORTER, "a.example", DAY, COUNTED))


class MailTest(SynchronousTestCase):
    """mail."""

    def test_mail(self) -> None:
        """A program that knows MIME finds the fields of section 5.3, a text, and the file, octet for octet."""
        report = build(REPORTER, "there.example", DAY, COUNTED)
        octets = mail(REPORTER, report, (Address("tls", "there.example"),), DAY * 86400.0)
        self.assertTrue(octets.isascii())
        self.assertEqual(octets.count(b"\n"), octets.count(b"\r\n"))
        self.assertLess(max(map(len, octets.split(b"\r\n"))), 998)
        read = email.message_from_bytes(octets, policy=policy.SMTP)
        self.assertEqual(read.get_content_type(), "multipart/report")
        self.assertEqual(read.get_param("report-type"), "tlsrpt")
        for name, value in {
            "From": "postmaster@here.example",
            "To": "tls@there.example",
            "Subject": "Report Domain: there.example Submitter: mx.here.example "
            "Report-ID: <20260131.there.example@mx.here.example>",
            "Message-ID": "<20260131.there.example@mx.here.example>",
            "TLS-Report-Domain": "there.example",
            "TLS-Report-Submitter": "mx.here.example",
            "TLS-Required": "No",
            "Auto-Submitted": "auto-generated",
            "Date": "Sat, 31 Jan 2026 00:00:00 +0000",
        }.items():
            self.assertEqual(read.get_all(name), [value])
        text, file = read.iter_parts()
        self.assertEqual(text.get_content_type(), "text/plain")
        self.assertIn("Sessions that failed: 300", text.get_content())
        self.assertEqual(file.get_content_type(), "application/tlsrpt+gzip")
        self.assertEqual(file.get_filename(), report.name)
        self.assertEqual(file.get_content(), report.octets)
        self.assertEqual([part.defects for part in read.walk()], [[], [], []])

    def test_long(self) -> None:
        """The longest names a domain and a host may have break no line."""
        domain = ".".join(["d" * 60] * 4)
        reporter = Reporter(".".join(["h" * 60] * 4), "x" * 5000, Address("p", "h.example"))
        report = build(reporter, domain, DAY, COUNTED)
        octets = mail(reporter, report, (Address("t", "t.example"),), 0.0)
        self.assertLess(max(map(len, octets.split(b"\r\n"))), 998)
        read = email.message_from_bytes(octets, policy=policy.SMTP)
        self.assertEqual([part.get_filename() for part in read.walk()][-1], report.name)
