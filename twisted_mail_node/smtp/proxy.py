"""The PROXY protocol, versions 1 and 2 (haproxy's doc/proxy-protocol.txt): what a load balancer says before the client.

``parse`` takes what came so far and gives the header once it is whole; the octets behind it are the client's own.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

#: Section 2.1: the longest line of version 1, with its CRLF.
LINE_MAX = 107
#: Octets behind the first 16 of version 2. Addresses take 36; the rest are TLVs, of which balancers send a few dozen.
BLOCK_MAX = 4096

_LINE = b"PROXY "
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED = 16
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]{2,45}")
_PRINTABLE = re.compile(rb"[ -~]{1,100}")

_LOCAL, _PROXY = 0x20, 0x21  # version 2, and the command
_UNSPEC, _TCP4, _TCP6 = 0x00, 0x11, 0x21  # family and protocol
_TLS, _TLS_VERSION, _TLS_CIPHER = 0x20, 0x21, 0x23  # PP2_TYPE_SSL and two of its parts
_OVER_TLS = 0x01  # PP2_CLIENT_SSL


class ProxyError(ValueError):
    """The octets are no PROXY header, or one that is of no use to us. A sentence for a person."""


class Header(NamedTuple):
    """A whole header.

    :ivar size: its octets; what follows is the client's.
    :ivar client: address of the client, an IPv4-mapped one as IPv4; ``""``: the balancer speaks for itself (LOCAL), or
        does not know (UNKNOWN).
    :ivar port: the client's port.
    :ivar server: the address that the client connected to.
    :ivar server_port: and its port.
    :ivar tls: the balancer's own TLS with the client (``TLSv1.3 with TLS_AES_256_GCM_SHA384``), ``""``: none was told.
    """

    size: int
    client: str = ""
    port: int = 0
    server: str = ""
    server_port: int = 0
    tls: str = ""


def parse(octets: bytes) -> Header | None:
    """The header that ``octets`` begin with; ``None``: more of it must come.

    :raises ProxyError: they begin otherwise, or the header is malformed, too long, or for something else than TCP.
    """
    if octets.startswith(_LINE):
        return _line(octets)
    if octets.startswith(_SIGNATURE):
        return _block(octets)
    if _LINE.startswith(octets) or _SIGNATURE.startswith(octets):
        return None
    raise ProxyError("the connection does not begin with a PROXY header")


def _line(octets: bytes) -> Header | None:
    """Version 1: a line of text (section 2.1)."""
    end = octets.find(b"\r\n", 0, LINE_MAX)
    line = octets[:LINE_MAX].removesuffix(b"\r") if end < 0 else octets[:end]
    if b"\r" in line or b"\n" in line:
        raise ProxyError("a line of the PROXY protocol ends in CR LF")
    if end < 0:
        if len(octets) >= LINE_MAX:
            raise ProxyError(f"a line of the PROXY protocol has at most {LINE_MAX} octets")
        return None
    size = end + 2
    try:
        words = line.decode("ascii").split(" ")
    except UnicodeDecodeError:
        raise ProxyError("a line of the PROXY protocol is ASCII") from None
    if words[1] == "UNKNOWN":
        return Header(size)
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise ProxyError("write PROXY TCP4 or TCP6, two addresses and two ports")
    kind = IPv4Address if words[1] == "TCP4" else IPv6Address
    client, server = _address(kind, words[2]), _address(kind, words[3])
    return Header(size, client, _port(words[4]), server, _port(words[5]))


def _address(kind: type[IPv4Address | IPv6Address], text: str) -> str:
    try:
        if _ADDRESS.fullmatch(text):
            return _text(kind(text))
    except ValueError:
        pass
    raise ProxyError(f"the PROXY header holds no {kind.__name__[:4]} address where one should be")


def _port(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise ProxyError("the PROXY header holds no port where one should be")
    return int(text)


def _block(octets: bytes) -> Header | None:
    """Version 2: a block of octets (section 2.2)."""
    if len(octets) > 12 and octets[12] not in (_LOCAL, _PROXY):
        raise ProxyError("the PROXY header is of an unknown version, or holds an unknown command")
    if len(octets) < _FIXED:
        return None
    length = int.from_bytes(octets[14:_FIXED], "big")
    if length > BLOCK_MAX:
        raise ProxyError(f"the PROXY header has more than {BLOCK_MAX} octets")
    size = _FIXED + length
    if len(octets) < size:
        return None
    family = octets[13]
    if octets[12] == _LOCAL or family == _UNSPEC:
        return Header(size)
    kind: type[IPv4Address | IPv6Address]
    if family == _TCP4:
        kind, width = IPv4Address, 4
    elif family == _TCP6:
        kind, width = IPv6Address, 16
    else:
        raise ProxyError("the PROXY header is for something else than TCP: a unix socket, or datagrams")
    ports = _FIXED + 2 * width
    if size < ports + 4:
        raise ProxyError("the PROXY header is too short for its addresses")
    return Header(
        size,
        _text(kind(octets[_FIXED : _FIXED + width])),
        int.from_bytes(octets[ports : ports + 2], "big"),
        _text(kind(octets[_FIXED + width : ports])),
        int.from_bytes(octets[ports + 2 : ports + 4], "big"),
        _tls(_values(octets[ports + 4 : size])),
    )


def _text(address: IPv4Address | IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _values(octets: bytes) -> dict[int, bytes]:
    """TLVs; of several with one type the last."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(octets):
        begin = at + 3
        end = begin + int.from_bytes(octets[at + 1 : begin], "big")
        if begin > len(octets) or end > len(octets):
            raise ProxyError("a value in the PROXY header is longer than the header")
        found[octets[at]] = octets[begin:end]
        at = end
    return found


def _tls(values: dict[int, bytes]) -> str:
    """Section 2.2.6: a byte of flags, four octets that tell whether the client's certificate is good, and TLVs."""
    told = values.get(_TLS, b"")
    if len(told) < 5 or not told[0] & _OVER_TLS:
        return ""
    parts = _values(told[5:])
    words = [parts.get(kind, b"") for kind in (_TLS_VERSION, _TLS_CIPHER)]
    return " with ".join(word.decode("ascii") for word in words if _PRINTABLE.fullmatch(word))
