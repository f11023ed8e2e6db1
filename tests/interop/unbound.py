"""A validating resolver: Debian's unbound on a free port of loopback, with zones that are signed, unsigned or bogus.

    with Unbound({"signed.test": {...}}, unsigned={"plain.test": {...}}) as resolver:
        ...                              # 127.0.0.1:resolver.port sets AD for what is below signed.test

dnspython signs the zones; unbound reads them as a secondary would, and checks every signature against the zone's key.
Zones are ``{"mx.signed.test": {"A": ["127.0.0.1"]}}``, names absolute without the last dot.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import dns.dnssec
import dns.exception
import dns.message
import dns.query
import dns.zone
from cryptography.hazmat.primitives.asymmetric import ec
from dns.dnssectypes import Algorithm
from twisted.trial.unittest import SkipTest

from tests.interop.node import Process, free_port, wait_for

#: Records by name and type, as zone files write them.
Names = Mapping[str, Mapping[str, Sequence[str]]]

UNBOUND = shutil.which("unbound") or shutil.which("unbound", path="/usr/sbin")
_TTL = 60


class Unbound:
    """The resolver.

    :param signed: zones with their names: signed, and valid.
    :param unsigned: zones without signatures.
    :param bogus: zones whose signatures have ended: every answer is SERVFAIL.
    :param elsewhere: the addresses of the name servers of further zones; what they say is remembered, as ever.
    :raises SkipTest: unbound is not installed.
    """

    def __init__(
        self,
        signed: Mapping[str, Names],
        *,
        unsigned: Mapping[str, Names] | None = None,
        bogus: Mapping[str, Names] | None = None,
        elsewhere: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        if UNBOUND is None:
            raise SkipTest("unbound is not installed")
        self.place = Path(tempfile.mkdtemp(prefix="ub-"))
        self.port = free_port()
        self.process: Process | None = None
        anchors: list[str] = []
        zones: list[str] = []
        for kind, group in (("signed", signed), ("unsigned", unsigned or {}), ("bogus", bogus or {})):
            for origin, names in group.items():
                text, anchor = _zone_file(origin, names, kind)
                (self.place / f"{origin}.zone").write_text(text, "ascii")
                anchors += [anchor] if anchor else []
                zones.append(
                    f'auth-zone:\n  name: "{origin}."\n  zonefile: "{self.place}/{origin}.zone"\n'
                    "  for-downstream: no\n  for-upstream: yes\n  fallback-enabled: no\n"
                )
        for origin, addresses in (elsewhere or {}).items():
            zones.append(f'stub-zone:\n  name: "{origin}."\n' + "".join(f"  stub-addr: {one}\n" for one in addresses))
        (self.place / "anchors").write_text("".join(f"{anchor}\n" for anchor in anchors), "ascii")
        (self.place / "unbound.conf").write_text(
            "server:\n"
            f'  directory: "{self.place}"\n  chroot: ""\n  username: ""\n  pidfile: ""\n  use-syslog: no\n'
            f'  logfile: ""\n  verbosity: 1\n  interface: 127.0.0.1@{self.port}\n  do-daemonize: no\n'
            "  do-ip6: no\n  access-control: 127.0.0.0/8 allow\n"
            f'  trust-anchor-file: "{self.place}/anchors"\n  module-config: "validator iterator"\n'
            # names below .test are otherwise answered as not existing (RFC 6761)
            '  local-zone: "test." nodefault\n  do-not-query-localhost: no\n  num-threads: 1\n'
            "remote-control:\n  control-enable: no\n" + "".join(zones),
            "ascii",
        )

    def __enter__(self) -> Self:
        checked = subprocess.run(
            [str(UNBOUND).replace("unbound", "unbound-checkconf"), str(self.place / "unbound.conf")],
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
        if checked.returncode:
            raise AssertionError(checked.stdout + checked.stderr)
        self.process = Process([str(UNBOUND), "-d", "-c", self.place / "unbound.conf"], self.place, "unbound")
        wait_for(self._answers, "an answer of unbound")
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.kill()
        shutil.rmtree(self.place, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            self.ask("version.test", "A")
        except (OSError, dns.exception.DNSException):
            return False
        return True

    def ask(self, name: str, rdtype: str) -> dns.message.Message:
        """What it says, for a test's own eyes."""
        query = dns.message.make_query(name, rdtype, want_dnssec=True)
        return dns.query.udp(query, "127.0.0.1", timeout=2, port=self.port)


def _zone_file(origin: str, names: Names, kind: str) -> tuple[str, str]:
    """The zone as a file, and the trust anchor for it (``""`` for an unsigned one)."""
    lines = [
        f"{origin}. {_TTL} IN SOA ns.{origin}. postmaster.{origin}. 1 7200 900 1209600 {_TTL}",
        f"{origin}. {_TTL} IN NS ns.{origin}.",
        f"ns.{origin}. {_TTL} IN A 127.0.0.1",
    ]
    for name, records in names.items():
        for rdtype, texts in records.items():
            lines += [f"{name}. {_TTL} IN {rdtype} {text}" for text in texts]
    zone = dns.zone.from_text("\n".join(lines) + "\n", origin=f"{origin}.", relativize=False)
    if kind == "unsigned":
        return zone.to_text(relativize=False), ""
    key = ec.generate_private_key(ec.SECP256R1())
    public = dns.dnssec.make_dnskey(key.public_key(), Algorithm.ECDSAP256SHA256, flags=257)
    now = datetime.now(UTC)
    begins, ends = (now - timedelta(days=9), now - timedelta(days=2)) if kind == "bogus" else (
        now - timedelta(hours=1), now + timedelta(days=7)
    )  # fmt: skip
    with zone.writer() as writing:
        dns.dnssec.sign_zone(
            zone, txn=writing, keys=[(key, public)], inception=begins, expiration=ends, dnskey_ttl=_TTL
        )
    # dnspython writes the names of NSEC's next fields absolute, as they must be here
    return zone.to_text(relativize=False), f"{origin}. IN DNSKEY {public.to_text()}"


def tlsa(certificate_or_key: bytes, usage: int, selector: int, matching: int) -> str:
    """A TLSA record's text. :param certificate_or_key: DER, of what the selector says."""
    der = certificate_or_key
    octets = {0: der, 1: hashlib.sha256(der).digest(), 2: hashlib.sha512(der).digest()}[matching]
    return f"{usage} {selector} {matching} {octets.hex()}"
