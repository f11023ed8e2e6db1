"""Builds reports about TLS (RFC 8460): the JSON, and the mail that carries it, from values. The same values give the
same octets. Pure, and slow enough (compression) to be run in a thread.
"""

from __future__ import annotations

import binascii
import gzip
import json
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from twisted_mail_node.message import header as fields
from twisted_mail_node.message import trace
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.encoding import one_line

DAY = 86_400
#: Media type of a compressed report.
MEDIA_TYPE = "application/tlsrpt+gzip"
#: Characters of a text of ours or theirs in a report.
TEXT_MAX = 500
#: Octets of a line of base64 (RFC 2045 section 6.8: 76 characters).
_LINE_OCTETS = 57


class Sessions(Protocol):
    """A number of sessions that came out alike; ``result`` is ``""`` for success."""

    @property
    def policy_type(self) -> str: ...
    @property
    def policy(self) -> tuple[str, ...]: ...
    @property
    def exchangers(self) -> tuple[str, ...]: ...
    @property
    def result(self) -> str: ...
    @property
    def exchanger(self) -> str: ...
    @property
    def sending_ip(self) -> str: ...
    @property
    def receiving_ip(self) -> str: ...
    @property
    def words(self) -> str: ...
    @property
    def sessions(self) -> int: ...


class Reporter(NamedTuple):
    """Who reports.

    :ivar hostname: ours: the submitter.
    :ivar organization: what we are called.
    :ivar contact: whom they may ask.
    """

    hostname: str
    organization: str
    contact: Address


class Report(NamedTuple):
    """A report on one domain and day.

    :ivar report_id: the same for the same domain and day.
    :ivar name: of the file (RFC 8460 section 5.1).
    :ivar octets: the JSON, compressed.
    """

    domain: str
    report_id: str
    name: str
    octets: bytes
    successes: int
    failures: int


def build(reporter: Reporter, domain: str, day: int, counted: Iterable[Sessions]) -> Report:
    """The report on a domain.

    :param domain: in A-labels.
    :param day: days since the epoch, in UTC.
    """
    begin, end = day * DAY, day * DAY + DAY - 1
    policies, successes, failures = _policies(domain, counted)
    report_id = f"{time.strftime('%Y%m%d', time.gmtime(begin))}.{domain}@{reporter.hostname}"
    shape = {
        "organization-name": reporter.organization[:TEXT_MAX],
        "date-range": {"start-datetime": _moment(begin), "end-datetime": _moment(end)},
        "contact-info": str(reporter.contact),
        "report-id": report_id,
        "policies": policies,
    }
    octets = gzip.compress(json.dumps(shape, indent=1).encode("ascii"), mtime=begin)
    name = f"{reporter.hostname}!{domain}!{begin}!{end}!{time.strftime('%Y%m%d', time.gmtime(begin))}.json.gz"
    return Report(domain, report_id, name, octets, successes, failures)


def _policies(domain: str, counted: Iterable[Sessions]) -> tuple[list[dict[str, Any]], int, int]:
    """RFC 8460 section 4.4: each policy with its sums and what failed; and the sums of all."""
    groups: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[Sessions]] = {}
    for one in counted:
        groups.setdefault((one.policy_type, one.policy, one.exchangers), []).append(one)
    shapes = []
    totals = [0, 0]
    for (kind, lines, exchangers), all_of_it in groups.items():
        failed = [one for one in all_of_it if one.result]
        sums = sum(one.sessions for one in all_of_it if not one.result), sum(one.sessions for one in failed)
        policy: dict[str, Any] = {"policy-type": kind, "policy-domain": domain}
        if lines:
            policy["policy-string"] = list(lines)
        if exchangers:
            policy["mx-host"] = list(exchangers)
        shape: dict[str, Any] = {
            "policy": policy,
            "summary": {"total-successful-session-count": sums[0], "total-failure-session-count": sums[1]},
        }
        if failed:
            shape["failure-details"] = [_failure(one) for one in failed]
        shapes.append(shape)
        totals[0] += sums[0]
        totals[1] += sums[1]
    return shapes, totals[0], totals[1]


def _failure(one: Sessions) -> dict[str, Any]:
    given = {
        "result-type": one.result,
        "sending-mta-ip": one.sending_ip,
        "receiving-mx-hostname": one.exchanger,
        "receiving-ip": one.receiving_ip,
        "failure-reason-code": one_line(one.words)[:TEXT_MAX],
    }
    shape: dict[str, Any] = {name: value for name, value in given.items() if value}
    shape["failed-session-count"] = one.sessions
    return shape


def mail(reporter: Reporter, report: Report, to: Sequence[Address], when: float) -> bytes:
    """The content of the mail that carries a report (RFC 8460 section 5.3). All of it is 7-bit.

    :param to: addresses in ASCII.
    :param when: seconds since the epoch.
    """
    # "=_" stands in no base64, and the text below is ours
    boundary = f"=_{binascii.hexlify(report.report_id.encode()).decode()[:40]}"
    subject = f"Report Domain: {report.domain} Submitter: {reporter.hostname} Report-ID: <{report.report_id}>"
    head = (
        trace.date_field(when)
        + fields.field("From", f"<{reporter.contact}>")
        + fields.field("To", ", ".join(f"<{address}>" for address in to))
        + fields.field("Subject", subject)
        + f"Message-ID: <{report.report_id}>\r\n".encode("ascii")
        + fields.field("TLS-Report-Domain", report.domain)
        + fields.field("TLS-Report-Submitter", reporter.hostname)
        # RFC 8689 section 3: what is wrong with their TLS must not keep the report of it from them.
        + b"TLS-Required: No\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n"
        + f'Content-Type: multipart/report; report-type="tlsrpt";\r\n boundary="{boundary}"\r\n\r\n'.encode()
    )
    text = (
        f"This is a report on TLS with the mail exchangers of {report.domain},\r\n"
        f"as {reporter.hostname} met them.\r\n\r\n"
        f"Sessions with TLS as it should be: {report.successes}\r\n"
        f"Sessions that failed: {report.failures}\r\n\r\n"
        "What failed, and how often, stands in the attached file (RFC 8460).\r\n"
    )
    return b"".join(
        (
            head,
            f"--{boundary}\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n".encode(),
            text.encode("ascii"),
            f"\r\n--{boundary}\r\nContent-Type: {MEDIA_TYPE};\r\n".encode(),
            f' name="{report.name}"\r\n'.encode(),
            f'Content-Disposition: attachment;\r\n filename="{report.name}"\r\n'.encode(),
            b"Content-Transfer-Encoding: base64\r\n\r\n",
            _base64(report.octets),
            f"--{boundary}--\r\n".encode(),
        )
    )


def _base64(octets: bytes) -> bytes:
    lines = (octets[start : start + _LINE_OCTETS] for start in range(0, len(octets), _LINE_OCTETS))
    return b"".join(binascii.b2a_base64(line, newline=False) + b"\r\n" for line in lines)


def _moment(when: int) -> str:
    """RFC 3339, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))
