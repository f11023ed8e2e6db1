"""A tiny DNS server: answers messages out of a zone, in memory or on loopback, built with dnspython's own messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol

#: Records as in a zone file, by name and then by type: ``{"example.org": {"MX": ["10 mx.example.org."]}}``.
TextZone = Mapping[str, Mapping[str, Sequence[str]]]

_SOA = "ns.example. postmaster.example. 1 7200 900 1209600 {minimum}"


class Zone:
    """Answers queries as a recursive server does, CNAMEs followed.

    :ivar asked: every question that came, as ``(name, type)``.
    """

    def __init__(self, names: TextZone, *, ttl: int = 300, minimum: int = 60, authentic: bool = False) -> None:
        self.names = names
        self.ttl = ttl
        self.minimum = minimum
        self.authentic = authentic
        self.asked: list[tuple[str, str]] = []

    def respond(self, octets: bytes, udp: bool) -> bytes:
        """The reply to a query; by UDP with TC when it is longer than the client takes."""
        query = dns.message.from_wire(octets)
        question = query.question[0]
        rdtype = dns.rdatatype.to_text(question.rdtype)
        name = question.name.to_text(omit_final_dot=True).lower()
        self.asked.append((name, rdtype))
        reply = dns.message.make_response(query, recursion_available=True)
        if self.authentic:
            reply.flags |= dns.flags.AD
        while name in self.names and rdtype not in self.names[name] and "CNAME" in self.names[name]:
            target = self.names[name]["CNAME"][0]
            reply.answer.append(dns.rrset.from_text(name + ".", self.ttl, "IN", "CNAME", target))
            name = target.rstrip(".").lower()
        if name not in self.names:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        records = self.names.get(name, {}).get(rdtype, ())
        if records:
            reply.answer.append(dns.rrset.from_text(name + ".", self.ttl, "IN", rdtype, *records))
        else:
            soa = _SOA.format(minimum=self.minimum)
            reply.authority.append(dns.rrset.from_text("example.", 3600, "IN", "SOA", soa))
        wire = reply.to_wire(max_size=65535)
        if udp and len(wire) > max(512, query.payload):
            reply.answer.clear()
            reply.flags |= dns.flags.TC
            wire = reply.to_wire()
        return wire


class ZoneServer:
    """A zone on 127.0.0.1, by UDP and TCP at one port.

    :ivar port: the port; 0 until ``start``.
    """

    def __init__(self, zone: Zone, reactor: Any) -> None:
        self.zone = zone
        self.port = 0
        self._reactor = reactor
        self._ports: list[Any] = []

    def start(self) -> None:
        """Listen."""
        factory = Factory.forProtocol(_ZoneStream)
        factory.noisy = False
        factory.zone = self.zone  # type: ignore[attr-defined]
        tcp = self._reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.port = tcp.getHost().port
        datagrams = _ZoneDatagrams(self.zone)
        self._ports = [tcp, self._reactor.listenUDP(self.port, datagrams, interface="127.0.0.1")]

    async def stop(self) -> None:
        """Listen no longer."""
        for port in self._ports:
            await port.stopListening()


class _ZoneDatagrams(DatagramProtocol):
    noisy = False

    def __init__(self, zone: Zone) -> None:
        self._zone = zone

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        assert self.transport is not None
        self.transport.write(self._zone.respond(datagram, udp=True), addr)


class _ZoneStream(Protocol):
    _received = b""

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        end = 2 + int.from_bytes(self._received[:2], "big")
        if len(self._received) >= max(3, end):
            reply = self.factory.zone.respond(self._received[2:end], udp=False)
            assert self.transport is not None
            self.transport.write(len(reply).to_bytes(2, "big") + reply)
