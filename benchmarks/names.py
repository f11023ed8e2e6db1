"""A name server on this machine's loopback, in a process of its own: it knows the zone it is given, and nothing else.

``python benchmarks/names.py ZONE.json`` prints its port and serves until who started it is gone, or its time is up.
Answers are encoded before they are asked for, so it costs some 10 µs a question. UDP only; what it does not know does
not exist (NXDOMAIN, with a SOA, so that resolvers keep that, too).
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.signing import Zone

#: Seconds it lives at most, whatever becomes of who started it.
LIFETIME = 3600.0
#: Seconds an answer may be kept.
TTL = 3600
_TYPES = {"A": 1, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28}
_SOA, _OPT = 6, 41
_NOERROR, _NXDOMAIN = 0, 3
#: The root's SOA: MNAME and RNAME ".", and five numbers.
_NEGATIVE = b"\0" + struct.pack(">HHIH", _SOA, 1, TTL, 22) + b"\0\0" + struct.pack(">5I", 1, TTL, TTL, TTL, TTL)
_EDNS = b"\0" + struct.pack(">HHIH", _OPT, 4096, 0, 0)

#: What follows the question: code, count of answers, count of authorities, records.
Prepared = tuple[int, int, int, bytes]


def wire_name(name: str) -> bytes:
    """RFC 1035 section 3.1, without compression."""
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def rdata(rdtype: str, text: str) -> bytes:
    """RFC 1035 section 3.3; RFC 3596."""
    if rdtype in ("A", "AAAA"):
        return ipaddress.ip_address(text).packed
    if rdtype == "PTR":
        return wire_name(text)
    if rdtype == "MX":
        preference, host = text.split()
        return struct.pack(">H", int(preference)) + wire_name(host)
    octets = text.encode()
    strings = [octets[at : at + 255] for at in range(0, len(octets), 255)]
    return b"".join(bytes([len(one)]) + one for one in strings)


def prepared(zone: Zone) -> dict[tuple[bytes, int], Prepared]:
    """Answers by the question's name in its octets and the type."""
    found: dict[tuple[bytes, int], Prepared] = {}
    for name, node in zone.items():
        for rdtype, texts in node.items():
            records = b""
            for text in texts:
                octets = rdata(rdtype, text)
                records += b"\xc0\x0c" + struct.pack(">HHIH", _TYPES[rdtype], 1, TTL, len(octets)) + octets
            found[wire_name(name.lower()), _TYPES[rdtype]] = (_NOERROR, len(texts), 0, records)
    return found


def existing(zone: Zone) -> set[bytes]:
    """Names that exist: those with records, and all above them (RFC 8020)."""
    found = {b"\0"}
    for name in zone:
        labels = name.lower().split(".")
        found.update(wire_name(".".join(labels[at:])) for at in range(len(labels)))
    return found


class NameServer:
    """The socket and what it answers.

    :ivar asked: questions so far.
    """

    def __init__(self, zone: Zone) -> None:
        self._answers = prepared(zone)
        self._names = existing(zone)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(1.0)
        self.asked = 0

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._socket.getsockname()[1])

    def run(self, seconds: float) -> None:
        """Serve until the time is up or the parent is gone."""
        parent, end = os.getppid(), time.monotonic() + seconds
        while os.getppid() == parent and time.monotonic() < end:
            try:
                for _ in range(10_000):
                    query, client = self._socket.recvfrom(4096)
                    answer = self.answer(query)
                    if answer:
                        self._socket.sendto(answer, client)
            except OSError:
                continue

    def answer(self, query: bytes) -> bytes:
        """The reply to a query of one question; nothing to what is none."""
        end = query.find(b"\0", 12) + 5
        if len(query) < 17 or end < 17 or len(query) < end:
            return b""
        self.asked += 1
        name, rdtype = query[12 : end - 4].lower(), int.from_bytes(query[end - 4 : end - 2], "big")
        found = self._answers.get((name, rdtype))
        if found is None:
            found = (_NOERROR if name in self._names else _NXDOMAIN, 0, 1, _NEGATIVE)
        code, answers, authorities, records = found
        edns = query[10:12] != b"\0\0"
        head = struct.pack(">HHHHH", 0x8580 | code, 1, answers, authorities, edns)
        return query[:2] + head + query[12:end] + records + (_EDNS if edns else b"")


class NameProcess:
    """The name server in its own process, so that its CPU time is nobody else's."""

    def __init__(self, zone: Zone, workdir: Path) -> None:
        path = workdir / "zone.json"
        path.write_text(json.dumps(zone))
        self._process = subprocess.Popen([sys.executable, __file__, str(path)], stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(10)


def main() -> None:
    """Read the command line and serve."""
    options = argparse.ArgumentParser(description="Serves a zone on this machine's loopback.")
    options.add_argument("zone", type=Path, help='JSON: {"name": {"TXT": ["text"], "MX": ["10 host"]}}')
    options.add_argument("--seconds", type=float, default=LIFETIME, help="how long at most (%(default)s)")
    chosen = options.parse_args()
    server = NameServer(json.loads(chosen.zone.read_text()))
    print(server.port, flush=True)
    try:
        server.run(chosen.seconds)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
