"""ARC test vectors of others: the suite of the drafts (validation, signing), and real mails."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import yaml

from tests.mailauth.arcs import Mail, body_hash, split, validate
from tests.mailauth.counts import Counts
from tests.mailauth.dkim import keys_of
from tests.smtp.vectors import vector
from twisted_mail_node.mailauth.arc_seal import seal
from twisted_mail_node.mailauth.dkim_key import SigningKey
from twisted_mail_node.mailauth.keys import Keys
from twisted_mail_node.mailauth.results import Result
from twisted_mail_node.mailauth.tags import listed, read
from twisted_mail_node.message.authresults import parse
from twisted_mail_node.message.header import first

#: Cases whose expectation is not followed, and the sentence that decides.
CONTESTED = {
    "cv_fail_i1_as_cv_fail": 'RFC 8617 section 5.2, step 2: "If the Chain Validation Status of the highest instance '
    'value ARC Set is "fail", then the Chain Validation Status is "fail"" (the draft told nothing at all)',
    "cv_fail_i2_as2_fail": "the same",
    "ams_fields_h_empty": "RFC 6376 section 6.1.1: \"If the 'h=' tag does not include the From header field, the "
    'Verifier MUST ignore the DKIM-Signature header field and return PERMFAIL"; RFC 8617 section 4.1.2 gives the AMS '
    "the same semantics",
    "ams_fields_h_mis_hdr": 'RFC 6376 section 6.1.1: "any inconsistency or unexpected values MUST cause the header '
    'field to be completely ignored"; section 3.5: in h= a name stands on both sides of a colon',
    "ams_fields_c_na": "RFC 6376 section 3.5, c=: \"OPTIONAL, default is 'simple/simple'\"; the case is signed relaxed",
}


class Case(NamedTuple):
    """One case of the suite.

    :ivar data: what stands in the file.
    :ivar suite: what stands there for all cases of its group: the key that signs, the TXT records.
    """

    name: str
    data: Mapping[str, Any]
    suite: Mapping[str, Any]

    @property
    def mail(self) -> Mail:
        """Its mail."""
        return split(self.data["message"].replace("\n", "\r\n").encode())

    @property
    def keys(self) -> Keys:
        """Its public keys."""
        return keys_of({name: [text.replace("\n", "").encode()] for name, text in self.suite["txt-records"].items()})


@cache
def cases(file: str) -> tuple[Case, ...]:
    """The cases of one file of the suite."""
    groups = yaml.safe_load_all(vector(f"arc/{file}").read_text("utf-8"))
    return tuple(Case(name, data, group) for group in groups for name, data in group["tests"].items())


def _counts(outcomes: Iterator[tuple[str, bool]]) -> Counts:
    told = dict(outcomes)
    contested = [name for name in told if name in CONTESTED]
    failed = tuple(name for name, good in told.items() if not good and name not in CONTESTED)
    return Counts(len(told) - len(contested) - len(failed), len(told), len(contested), failed)


def run_validation() -> Counts:
    """Chains are judged as the suite does."""

    def outcomes() -> Iterator[tuple[str, bool]]:
        for case in cases("arc-draft-validation-tests.yml"):
            wanted = (case.data["cv"] or "tell nothing").lower()
            yield case.name, validate(case.mail, case.keys).result == wanted

    return _counts(outcomes())


def run_signing() -> Counts:
    """Sets that we add pass where they should, sign the same body, and the fields that the suite signs among others."""
    return _counts((case.name, _signs(case)) for case in cases("arc-draft-sign-tests.yml"))


def _signs(case: Case) -> bool:
    mail, keys = case.mail, case.keys
    key = SigningKey.load(case.suite["privatekey"].encode(), case.suite["domain"], case.suite["sel"])
    value = first(mail.header, b"Authentication-Results") or b""
    arc = validate(mail, keys)
    added = seal(
        mail.header, arc=arc, results=parse(value), body_hash=body_hash(mail.body), key=key, now=case.data["t"]
    )
    if not case.data["AS"]:
        return added == b""
    wanted_seal, wanted, ours_seal, ours = (
        read(text)
        for text in (
            case.data["AS"].encode().replace(b"\n", b" "),
            case.data["AMS"].encode().replace(b"\n", b" "),
            first(added, b"ARC-Seal") or b"",
            first(added, b"ARC-Message-Signature") or b"",
        )
    )
    same = all(ours[name] == wanted[name] for name in ("a", "bh", "c", "d", "i", "s", "t"))
    same = same and all(ours_seal[name] == wanted_seal[name] for name in ("a", "cv", "d", "i", "s", "t"))
    again = validate(Mail(added + mail.header, mail.body), keys)
    passes = again.result == (Result.FAIL if wanted_seal["cv"] == "fail" else Result.PASS)
    return same and passes and set(listed(wanted["h"])) <= {name.lower() for name in listed(ours["h"])}


def run_eml() -> Counts:
    """Real mails: those with their DNS, and those of one sealer with the key that the others have for it."""

    def outcomes() -> Iterator[tuple[str, bool]]:
        google: dict[str, list[bytes]] = {}
        for name in ("001.txt", "002.txt"):
            octets = vector(f"arc/eml/{name}").read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
            lines, _, octets = octets.partition(b"\r\n\r\n")
            records = dict(line.split(b" ", 1) for line in lines.split(b"\r\n"))
            known = {host.decode(): [text] for host, text in records.items()}
            google |= {host: text for host, text in known.items() if host.endswith(".google.com")}
            yield name, validate(split(octets), keys_of(known)).result is Result.PASS
        for path in sorted(vector("arc/eml").glob("*.eml")):
            octets = re.sub(rb"\r?\n", b"\r\n", path.read_bytes())
            wanted = Result.PASS if "pass" in path.name else Result.FAIL
            yield path.name, validate(split(octets), keys_of(google)).result is wanted

    return _counts(outcomes())


def run() -> Counts:
    """All."""
    parts = (run_validation(), run_signing(), run_eml())
    return Counts(
        sum(part.passed for part in parts),
        sum(part.total for part in parts),
        sum(part.contested for part in parts),
        tuple(name for part in parts for name in part.failed),
    )
