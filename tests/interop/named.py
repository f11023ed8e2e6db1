"""Authoritative name servers: Debian's BIND on addresses of loopback, a primary that takes updates and a secondary.

    with Named({"here.test": {...}}) as names:
        names.primary, names.secondary       # addresses; port 53, for a zone's name servers have no other
        names.transfer()                     # only now the secondary gets what the primary has

The secondary is told nothing by the primary: the test is its network, and says when the zone arrives.
Zones are those of ``unbound.Names``; their name servers are added. BIND listens on addresses of interfaces alone, and
of loopback that is 127.0.0.1: each server has a high port there, and a ``Door`` on an address of its own.
"""

from __future__ import annotations

import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.query
import dns.rcode
from twisted.trial.unittest import SkipTest

from tests.interop.between import Between
from tests.interop.node import Process, free_port, wait_for
from tests.interop.unbound import Names

NAMED = shutil.which("named") or shutil.which("named", path="/usr/sbin")
TSIG_KEYGEN = shutil.which("tsig-keygen") or shutil.which("tsig-keygen", path="/usr/sbin")
#: What the key of updates is called.
KEY = "mailnode"
#: Seconds that "there is no such record" is remembered (the last number of SOA): a key that signs too early fails for
#: longer than any test here takes.
NEGATIVE_TTL = 900

_OPTIONS = """\
options {{
  directory "{place}"; pid-file none; session-keyfile none; managed-keys-directory "{place}";
  listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
  recursion no; allow-query {{ any; }}; dnssec-validation no; notify no; max-udp-size 1232;
}};
controls {{ }};
"""


class Named:
    """Both servers.

    :ivar key_text: the key of updates, as ``tsig-keygen`` prints it.
    :raises SkipTest: BIND is not installed, or may not listen on port 53.
    """

    def __init__(self, zones: Mapping[str, Names]) -> None:
        if NAMED is None or TSIG_KEYGEN is None:
            raise SkipTest("named (bind9) is not installed")
        self.zones = tuple(zones)
        self._ports = free_port(), free_port()
        with ExitStack() as stack:
            self.primary, self.secondary = (stack.enter_context(Door(port)).address for port in self._ports)
            self._stack = stack.pop_all()
        self.key_text = subprocess.run(
            [TSIG_KEYGEN, KEY], capture_output=True, text=True, timeout=20, check=True
        ).stdout  # fmt: skip
        self.place = Path(tempfile.mkdtemp(prefix="named-"))
        self._stack.callback(shutil.rmtree, self.place, ignore_errors=True)
        first, second = self.place / "primary", self.place / "secondary"
        first.mkdir()
        second.mkdir()
        for origin, names in zones.items():
            (first / f"{origin}.zone").write_text(self._zone_file(origin, names), "ascii")
        self._write_primary("_domainkey")
        self._write(second, self._ports[1], *(
            f'zone "{one}" {{ type secondary; file "{one}.zone"; primaries port {self._ports[0]} {{ 127.0.0.1; }};\n'
            "  allow-notify { 127.0.0.1; }; };\n"
            for one in zones
        ))  # fmt: skip

    def _write_primary(self, below: str) -> None:
        """As docs/dkim.rst has it: the key may change what is below ``_domainkey``, and nothing else."""
        self._write(self.place / "primary", self._ports[0], self.key_text, *(
            f'zone "{one}" {{ type primary; file "{one}.zone"; allow-transfer {{ 127.0.0.1; }};\n'
            f"  update-policy {{ grant {KEY} subdomain {below}.{one}. TXT; }}; }};\n"
            for one in self.zones
        ))  # fmt: skip

    def _zone_file(self, origin: str, names: Names) -> str:
        lines = [
            f"{origin}. 60 IN SOA ns1.{origin}. postmaster.{origin}. 1 86400 86400 1209600 {NEGATIVE_TTL}",
            f"{origin}. 60 IN NS ns1.{origin}.\n{origin}. 60 IN NS ns2.{origin}.",
            f"ns1.{origin}. 60 IN A {self.primary}\nns2.{origin}. 60 IN A {self.secondary}",
        ]
        for name, records in names.items():
            for rdtype, texts in records.items():
                lines += [f"{name}. 60 IN {rdtype} {text}" for text in texts]
        return "\n".join(lines) + "\n"

    def _write(self, place: Path, port: int, *parts: str) -> None:
        (place / "named.conf").write_text(_OPTIONS.format(place=place, port=port) + "".join(parts), "ascii")

    def __enter__(self) -> Self:
        try:
            self._primary = self._start(self.place / "primary", self.primary)
            self._start(self.place / "secondary", self.secondary)
        except BaseException:
            self._stack.close()
            raise
        return self

    def _start(self, place: Path, address: str) -> Process:
        process = Process([str(NAMED), "-g", "-n", "1", "-c", place / "named.conf"], place, "named")
        self._stack.callback(process.kill)

        def there() -> bool:
            if process.code is not None:
                raise AssertionError(f"named ended with {process.code}\n{process.err}")
            return all(self.serial(address, one) for one in self.zones)

        wait_for(there, f"the zones of {place.name}")
        return process

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ask(self, address: str, name: str, rdtype: str) -> list[str]:
        """The records that a server shows; none where it does not answer."""
        try:
            query = dns.message.make_query(name, rdtype)
            reply = dns.query.tcp(query, address, timeout=2)
        except (OSError, EOFError, dns.exception.DNSException):
            return []
        return [record.to_text() for one in reply.answer for record in one]

    def serial(self, address: str, origin: str) -> int:
        """The serial number of a zone at a server; 0: it does not have it."""
        return next((int(text.split()[2]) for text in self.ask(address, origin, "SOA")), 0)

    def grant(self, below: str) -> None:
        """Let the key of updates change what is below this label of the zones, from now on."""
        self._write_primary(below)
        seen = self._primary.err.count("reloading configuration succeeded")
        self._primary.signal(signal.SIGHUP)
        wait_for(lambda: self._primary.err.count("reloading configuration succeeded") > seen, "a reload of named")

    def transfer(self) -> None:
        """Let the secondary get every zone as the primary has it now (NOTIFY, RFC 1996)."""
        for origin in self.zones:
            query = dns.message.make_query(origin, "SOA")
            query.set_opcode(dns.opcode.NOTIFY)
            query.flags = (query.flags & ~dns.flags.RD) | dns.flags.AA
            reply = dns.query.udp(query, self.secondary, timeout=5)
            if reply.rcode() != dns.rcode.NOERROR:
                raise AssertionError(f"the secondary does not take NOTIFY: {dns.rcode.to_text(reply.rcode())}")
            wait_for(
                lambda one=origin: self.serial(self.secondary, one) == self.serial(self.primary, one),  # type: ignore[misc]
                f"the transfer of {origin}",
            )


class Door:
    """An address of loopback of which port 53 leads to another port of 127.0.0.1, over UDP and TCP.

    :raises SkipTest: we may not listen there.
    """

    def __init__(self, port: int) -> None:
        if not sys.platform.startswith("linux"):
            raise SkipTest("only Linux answers on all of 127.0.0.0/8")
        self.address = ""
        self._to = ("127.0.0.1", port)
        for _ in range(50):
            address = ".".join(["127", *(str(random.randrange(1, 255)) for _ in range(3))])
            self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                self._udp.bind((address, 53))
                self._tcp = Between(port, own_port=53, address=address)
            except PermissionError:
                self._udp.close()
                raise SkipTest("the name servers of a zone listen on port 53, which only root may do") from None
            except OSError:
                self._udp.close()
                continue
            self.address = address
            break
        if not self.address:
            raise SkipTest("no address of loopback with a free port 53")
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tcp.close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", (self.address, 53))
        self._thread.join(10)
        self._udp.close()

    def _serve(self) -> None:
        while True:
            octets, client = self._udp.recvfrom(65536)
            if not octets:
                return
            threading.Thread(target=self._pass_on, args=(octets, client), daemon=True).start()

    def _pass_on(self, octets: bytes, client: tuple[str, int]) -> None:
        """One question; one that nobody answers stays without an answer."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as upstream, suppress(OSError):
            upstream.settimeout(3)
            upstream.connect(self._to)
            upstream.send(octets)
            self._udp.sendto(upstream.recv(65536), client)
