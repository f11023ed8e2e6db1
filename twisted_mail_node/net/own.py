"""Which addresses are ours: mail for an exchanger at one of them would come back to us."""

from __future__ import annotations

import fcntl
import socket
import struct
from pathlib import Path

_SIOCGIFADDR = 0x8915


def own_addresses() -> frozenset[str]:
    """The IPv4 and IPv6 addresses of this machine's interfaces, without loopback; empty where they cannot be read."""
    found: set[str] = set()
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            for _, name in socket.if_nameindex():
                try:
                    answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                except OSError:
                    continue  # an interface without an IPv4 address
                found.add(socket.inet_ntoa(answer[20:24]))
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            found.add(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(line.split()[0])))
    except OSError:
        pass
    return frozenset(address for address in found if not address.startswith("127.") and address != "::1")
