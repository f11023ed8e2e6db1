"""Test vectors of others for DKIM: chasquid's, Stalwart's, MimeKit's and dkimpy's. One case is one signature.

Contested, and the sentence that decides:

* chasquid/09: a signature with l=17 of a longer body passes there. Here it is ``policy``: RFC 6376 section 6.1.3,
  "can choose to treat the signature as if it were invalid (e.g., by returning PERMFAIL (unsigned content))".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.mailauth.counts import Counts
from tests.mailauth.dkim import signed, verified
from tests.smtp.vectors import vector
from twisted_mail_node.dns.answer import DNSError
from twisted_mail_node.mailauth.dkim_key import SigningKey
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.mailauth.tags import base64_of

Records = Mapping[str, Sequence[bytes] | DNSError]

#: Case and what we say of it.
CONTESTED = {"chasquid/09-limited_body.msg #1": Result.POLICY}

TEST_DOMAIN = "example.com"


class Case(NamedTuple):
    """A signature, and what is expected of it: ``pass``, ``temperror`` or ``fail`` for every other failure."""

    name: str
    expected: str
    found: Result


def octets(name: str) -> bytes:
    """A file with lines as they are on the wire."""
    return re.sub(rb"\r?\n", b"\r\n", vector(f"dkim/{name}").read_bytes())


def cases(name: str, mail: bytes, records: Records, expected: Sequence[str], most: int = 10) -> Iterator[Case]:
    """A case for each signature that is expected. Checked when the last signature was made."""
    made = [float(time) for time in re.findall(rb"[;\s]t=(\d+)", mail)]
    found = verified(mail, records, max(made, default=1.6e9), most)
    for place, want in enumerate(expected):
        yield Case(f"{name} #{place + 1}", want, found[place].result if place < len(found) else Result.NONE)
    for place in range(len(expected), min(len(found), most)):
        yield Case(f"{name} #{place + 1}", "none", found[place].result)


def chasquid() -> Iterator[Case]:
    """``.msg``, ``.dns`` and ``.result``, which holds the state of each signature."""
    states = {"SUCCESS": "pass", "PERMFAIL": "fail", "TEMPFAIL": "temperror"}
    folder = vector("dkim/chasquid")
    for file in sorted(folder.glob("*.msg")):
        records: dict[str, list[bytes] | DNSError] = {}
        zone = file.with_suffix(".dns")
        text = zone.read_text("utf-8").replace("\\\n", "") if zone.exists() else ""
        for name, record in re.findall(r"^(\S+): *(.*)$", text, re.M):
            if record == "TEMPERROR":
                records[name] = DNSError("for this test")
            elif record != "PERMERROR":
                there = records.setdefault(name, [])
                assert isinstance(there, list)
                there.append(record.strip().encode())
        result = file.with_suffix(".result")
        told = json.loads(result.read_text("utf-8"))["Results"] if result.exists() else []
        expected = [states[one["State"]] for one in told]
        most = 5 if file.name.startswith("02") else 10
        name = f"chasquid/{file.name}"
        if expected:
            yield from cases(name, octets(name), records, expected, most)
        else:  # no mail at all: nothing passes
            found = verified(octets(name), records)
            yield Case(name, "none", found[0].result if found else Result.NONE)


def stalwart() -> Iterator[Case]:
    """The records, an empty line, the mail. Every signature is good."""
    for file in sorted(vector("dkim/stalwart").glob("*.txt")):
        name = f"stalwart/{file.name}"
        zone, _, mail = octets(name).partition(b"\r\n\r\n")
        records = {}
        for line in zone.split(b"\r\n"):
            where, _, record = line.partition(b" ")
            records[where.decode()] = [record]
        yield from cases(name, mail, records, ["pass"] * len(re.findall(rb"^DKIM-Signature:", mail, re.M)))


def pem_record(name: str) -> bytes:
    """A public key in PEM as a record."""
    lines = octets(name).split(b"\r\n")
    return b"v=DKIM1; p=" + b"".join(line for line in lines if line[:1] != b"-")


def mimekit() -> Iterator[Case]:
    """Mails that Gmail signed, the RFC's example, and a key for signing."""
    gmail = {"20120113._domainkey.gmail.com": [pem_record("mimekit/gmail.pub")]}
    for name in ("gmail", "related", "multipart-no-end-boundary"):
        yield from cases(f"mimekit/{name}.msg", octets(f"mimekit/{name}.msg"), gmail, ["pass"])
    name = "mimekit/rfc8463-example.msg"
    yield from cases(name, octets(name), football(), ["pass", "pass"])
    zone = octets("mimekit/example.bind9").decode()
    record = "".join(re.findall(r'"([^"]*)"', zone)).encode()
    key = SigningKey.load(octets("mimekit/example.pem"), TEST_DOMAIN, "1433868189.example")
    mail = signed(octets("dkimpy/rfc6376.msg"), key)
    yield from cases("mimekit/example.pem", mail, {key.name: [record]}, ["pass"])
    tiny = octets("mimekit/example.tinydns").decode()
    yield from cases("mimekit/example.tinydns", mail, {key.name: [tiny.split(":")[1].encode()]}, ["pass"])
    yield from cases("mimekit/example.pub", mail, {key.name: [pem_record("mimekit/example.pub")]}, ["pass"])


def football() -> dict[str, list[bytes]]:
    """The keys of RFC 8463 appendix A.2; that of RSA is dkimpy's ``test``, too."""
    return {
        "brisbane._domainkey.football.example.com": [
            b"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
        ],
        "test._domainkey.football.example.com": [octets("dkimpy/test.txt").strip()],
    }


def dkimpy() -> Iterator[Case]:
    """Signed mails, and mails to be signed with one key and checked with another record."""
    for name, expected in (
        ("rfc6376.signed.msg", ["pass", "pass"]),
        ("rfc6376.signed.rsa.msg", ["pass"]),
        ("rfc6376.signed.no_t.msg", ["fail"]),  # t= was taken out after signing
    ):
        yield from cases(f"dkimpy/{name}", octets(f"dkimpy/{name}"), football(), expected)
    bad = {"test._domainkey.legitimate.com(.attacker.com": [octets("dkimpy/test.txt").strip()]}
    yield from cases("dkimpy/test.message.baddomain", octets("dkimpy/test.message.baddomain"), bad, ["fail"])
    gmail = {"20120113._domainkey.gmail.com": [pem_record("mimekit/gmail.pub")]}
    yield from cases("dkimpy/test2.message", octets("dkimpy/test2.message"), gmail, ["pass"])
    exim = {"sed._domainkey.test.ex": [octets("dkimpy/eximtest.dns").strip()]}
    yield from cases("dkimpy/ed25519test2.msg", octets("dkimpy/ed25519test2.msg"), exim, ["pass"])
    yield from dkimpy_signed()


def dkimpy_signed() -> Iterator[Case]:
    """Its keys and records, with signatures of ours."""
    for pem, record, expected in (
        ("test.private", "test.txt", "pass"),
        ("test2.private", "test2.txt", "pass"),
        ("test.private", "test_bad.txt", "fail"),
        ("test.private", "badversion.txt", "fail"),
        ("test.private", "badk.txt", "fail"),
        ("test.private", "test_tlsrpt.txt", "fail"),
        ("1024_testkey.key", "1024_testkey_wo_markers.pub.txt", "pass"),
        ("1024_testkey.key", "1024_testkey_wo_markers.pub.rsa.txt", "pass"),
        ("2048_testkey.key", "2048_testkey_wo_markers.pub.txt", "pass"),
        ("2048_testkey.key", "2048_testkey_wo_markers.pub.rsa.txt", "pass"),
        ("2048_testkey_PKCS8.key", "2048_testkey_PKCS8.key.pub.txt", "pass"),
        ("2048_testkey.key", "2048_testkey_PKCS8.key.pub.txt", "fail"),
    ):
        key = SigningKey.load(octets(f"dkimpy/{pem}"), TEST_DOMAIN, "test")
        records = {key.name: [octets(f"dkimpy/{record}").strip()]}
        for name in ("test.message", "test_extra.message", "rfc6376.w1258.msg"):
            yield from cases(
                f"dkimpy/{name} {pem} {record}", signed(octets(f"dkimpy/{name}"), key), records, [expected]
            )
    for seed, there in (
        ("ed25519test.key", octets("dkimpy/ed25519test.dns").strip()),
        ("rfc8032_7_1.key", football()["brisbane._domainkey.football.example.com"][0]),
    ):
        private = Ed25519PrivateKey.from_private_bytes(base64_of(octets(f"dkimpy/{seed}").decode().strip()))
        key = SigningKey(private, TEST_DOMAIN, "ed")
        mail = signed(octets("dkimpy/ed25519test.msg"), key)
        yield from cases(f"dkimpy/ed25519test.msg {seed}", mail, {key.name: [there]}, ["pass"])
    key = SigningKey.load(octets("dkimpy/test.private"), TEST_DOMAIN, "test")
    try:
        signed(octets("dkimpy/test_nofrom.message"), key)
        refused = False
    except ValueError:
        refused = True
    yield Case("dkimpy/test_nofrom.message", "fail", Result.FAIL if refused else Result.PASS)


def as_expected(case: Case) -> bool:
    """Every failure but that of the DNS is one to these vectors."""
    if case.expected in ("pass", "temperror", "none"):
        return case.found == case.expected
    return case.found not in (Result.PASS, Result.TEMPERROR, Result.NONE)


def run() -> Counts:
    """All of them."""
    passed = total = contested = 0
    failed: list[str] = []
    for source in (chasquid, stalwart, mimekit, dkimpy):
        for case in source():
            total += 1
            if case.name in CONTESTED:
                contested += 1
                if case.found is not CONTESTED[case.name]:
                    failed.append(f"{case.name}: {case.found}")
            elif as_expected(case):
                passed += 1
            else:
                failed.append(f"{case.name}: {case.found}, not {case.expected}")
    return Counts(passed, total, contested, tuple(failed))
