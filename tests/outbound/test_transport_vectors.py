"""Test vectors of others: MTA-STS records, policies and patterns, TLSRPT records and reports, OpenSSL's DANE cases."""

from __future__ import annotations

import gzip
import json
import re
from datetime import UTC, datetime
from typing import Any, NamedTuple

from cryptography.x509 import Certificate, load_pem_x509_certificate
from twisted.trial.unittest import SynchronousTestCase

from tests.smtp.vectors import vector
from twisted_mail_node.dns.answer import TLSA
from twisted_mail_node.message import tls_report
from twisted_mail_node.message.address import Address
from twisted_mail_node.outbound.dane import Tlsa, match, usable
from twisted_mail_node.outbound.mtasts import PolicyError, StsPolicy, id_of, read_policy
from twisted_mail_node.report.tls_record import places_of
from twisted_mail_node.state.tls_results import Counted

NOW = datetime(2026, 11, 28, tzinfo=UTC)


class StsTest(SynchronousTestCase):
    """RFC 8461."""

    def cases(self, kind: str) -> list[dict[str, str]]:
        """The cases of one function."""
        found: dict[str, Any] = json.loads(vector("transport/transport_mtasts_mox.json").read_text("utf-8"))
        cases = [case for cases in found["vectors"].values() for case in cases if case["func"] == kind]
        self.assertGreater(len(cases), 5)
        return cases

    def test_records(self) -> None:
        """TXT records: each is one, or none."""
        for case in self.cases("TestRecord"):
            with self.subTest(case=case):
                self.assertEqual(id_of([case["input"].encode()]) is not None, case["kind"] == "good")

    def test_policies(self) -> None:
        """Policy files: each is one, or none."""
        for case in self.cases("TestParsePolicy"):
            with self.subTest(case=case):
                try:
                    read_policy(case["input"].encode(), "1", 0.0)
                    good = True
                except PolicyError:
                    good = False
                self.assertEqual(good, case["kind"] == "good")

    def test_patterns(self) -> None:
        """Which hosts a pattern allows. What is no pattern stands in no policy, and allows nothing: nor does one
        with U-labels, which others bear with."""
        cases = json.loads(vector("transport/chasquid_mx_match.json").read_text("utf-8"))["vectors"]
        self.assertGreater(len(cases), 15)
        for case in cases:
            with self.subTest(case=case):
                wanted = case["match"] and case["pattern"].isascii()
                self.assertEqual(allowed(case["pattern"], case["host"]), wanted)


def allowed(pattern: str, host: str) -> bool:
    """Whether a policy with this pattern allows a host."""
    text = f"version: STSv1\nmode: enforce\nmx: {pattern}\nmax_age: 86400\n"
    try:
        policy: StsPolicy = read_policy(text.encode(), "1", 0.0)
    except PolicyError:
        return False
    return policy.allows(host)


#: What the RFC's example has, and we leave out.
OPTIONAL = {"additional-information"}


def report() -> bytes:
    """The JSON of a report of ours with everything in it."""
    policy = ("version: STSv1", "mode: testing", "mx: *.there.test", "max_age: 86400")
    where = "mx.there.test", "192.0.2.1", "192.0.2.2"
    counted = [
        Counted("there.test", "sts", policy, ("*.there.test",), "", "", "", "", "", 5),
        Counted("there.test", "sts", policy, ("*.there.test",), "certificate-expired", *where, "it expired", 2),
    ]
    reporter = tls_report.Reporter("mx.here.test", "Here", Address("postmaster", "here.test"))
    return gzip.decompress(tls_report.build(reporter, "there.test", 20000, counted).octets)


def shape_of(value: Any, path: str = "") -> set[str]:
    """Every field with the type of its value. What stands in a list is as good as alone: ``mx-host`` is a text in the
    example and a list in the corrected text (erratum 6241) and in everybody's reports."""
    if isinstance(value, dict):
        return {one for key, inner in value.items() for one in shape_of(inner, f"{path}.{key}")}
    if isinstance(value, list):
        return {one for inner in value for one in shape_of(inner, path)}
    return {f"{path}:{type(value).__name__}"}


class ReportTest(SynchronousTestCase):
    """RFC 8460."""

    def test_records(self) -> None:
        """TXT records: each names places, or is none."""
        found = json.loads(vector("transport/transport_tlsrpt_mox.json").read_text("utf-8"))
        cases = [case for cases in found["vectors"].values() for case in cases]
        self.assertGreater(len(cases), 5)
        for case in cases:
            with self.subTest(case=case):
                self.assertEqual(bool(places_of([case["input"].encode()])), case["kind"] == "good")

    def test_fields(self) -> None:
        """Our reports have the fields of the RFC's example, of the same types, and no others."""
        example = json.loads(vector("transport/tlsrpt/rfc8460.json").read_text("utf-8"))
        ours = json.loads(report())
        self.assertEqual(shape_of(ours) - shape_of(example), set())
        left_out = {path.rpartition(".")[2].partition(":")[0] for path in shape_of(example) - shape_of(ours)}
        self.assertEqual(left_out - OPTIONAL, set())


class Block(NamedTuple):
    """A case of OpenSSL's."""

    number: int
    records: tuple[TLSA, ...]
    chain: tuple[Certificate, ...]
    names_count: bool
    good: bool


def blocks() -> list[Block]:
    """OpenSSL's cases, as the file describes them."""
    text = vector("transport/danetest.in").read_text("ascii")
    found = []
    for number, head, body in re.findall(r"^# (\d+)\n(\d+ \d+ \d+ \d+ -?\d+)\n(.*?)(?=^# \d+\n|\Z)", text, re.M | re.S):
        count, _, without_names, result, _ = map(int, head.split())
        lines = body.splitlines()
        records = []
        for line in lines[:count]:
            usage, selector, kind, octets = line.split()
            records.append(TLSA(int(usage), int(selector), int(kind), bytes.fromhex(octets)))
        pems = re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", body, re.S)
        chain = tuple(load_pem_x509_certificate(pem.encode()) for pem in pems)
        found.append(Block(int(number), tuple(records), chain, not without_names, result == 0))
    return found


class DaneTest(SynchronousTestCase):
    """RFC 7672, by OpenSSL's cases for example.com."""

    def test_cases(self) -> None:
        """Each chain fits its records, or not, as OpenSSL finds. Usages 0 and 1 mean nothing in SMTP."""
        counted = 0
        for block in blocks():
            records = usable(block.records)
            with self.subTest(case=block.number):
                if all(record.usage in (0, 1) for record in block.records):
                    self.assertEqual(records, ())
                    continue
                if not records:
                    continue  # OpenSSL asks the authorities then; we do not (section 2.2)
                found = match(Tlsa("example.com", "", records, ("example.com",)), block.chain, NOW)
                self.assertEqual(not found.result, block.good, found)
                counted += 1
        self.assertGreater(counted, 10)
