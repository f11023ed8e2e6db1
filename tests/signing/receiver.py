"""A name server that takes updates (RFC 2136) signed with TSIG, built with dnspython's own messages, around a zone."""

from __future__ import annotations

import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.tsig
import dns.update
from twisted.internet.defer import Deferred, fail, succeed

from tests.dns.zones import Zone
from twisted_mail_node.dns.transport import Accept, Server, T, TransportError

SECRET = "c2VjcmV0IG9mIHRoZSB1cGRhdGVzLCAzMiBvY3RldHM="
KEY_FILE = f'key "update." {{\n\talgorithm hmac-sha256;\n\tsecret "{SECRET}";\n}};\n'
NAME = dns.name.from_text("update.")


class Receiver(Zone):
    """A zone that may be changed.

    :ivar zone_name: the only zone there is.
    :ivar refuse: what every update is answered with; NOERROR: they are made.
    :ivar signs: its answers are signed.
    :ivar tsig_error: what it says of every signature (RFC 8945 section 3), with NOTAUTH.
    :ivar updates: how many were made.
    """

    zone_name = "example.org"
    refuse = dns.rcode.NOERROR
    signs = True
    tsig_error = dns.rcode.NOERROR
    updates = 0

    def __init__(self, names: dict[str, dict[str, list[str]]], secret: str = SECRET) -> None:
        super().__init__(names)
        self.table = names
        self.keyring = {NAME: dns.tsig.Key(NAME, secret, "hmac-sha256")}

    def respond(self, octets: bytes, udp: bool) -> bytes:
        if dns.opcode.from_flags(int.from_bytes(octets[2:4], "big")) != dns.opcode.UPDATE:
            return super().respond(octets, udp)
        try:
            update = dns.message.from_wire(octets, keyring=self.keyring)
        except (dns.tsig.BadSignature, dns.message.UnknownTSIGKey):
            reply = dns.message.make_response(dns.message.from_wire(octets, keyring=False))
            reply.set_rcode(dns.rcode.NOTAUTH)
            return reply.to_wire()
        assert isinstance(update, dns.update.UpdateMessage)
        reply = dns.message.make_response(update, tsig_error=self.tsig_error)
        if self.tsig_error:
            reply.set_rcode(dns.rcode.NOTAUTH)
            return reply.to_wire()
        if not self.signs:
            reply.tsig = None
        (zone,) = update.zone
        rcode = self.refuse
        if rcode == dns.rcode.NOERROR and (not update.had_tsig or zone.name != dns.name.from_text(self.zone_name)):
            rcode = dns.rcode.NOTAUTH
        reply.set_rcode(rcode)
        if rcode == dns.rcode.NOERROR:
            self.updates += 1
            self._apply(update)
        return reply.to_wire()

    def _apply(self, update: dns.update.UpdateMessage) -> None:
        for rrset in update.update:
            node = self.table.setdefault(rrset.name.to_text(omit_final_dot=True), {})
            records = node.setdefault(dns.rdatatype.to_text(rrset.rdtype), [])
            if rrset.deleting == dns.rdataclass.ANY:
                records.clear()
            elif rrset.deleting == dns.rdataclass.NONE:
                records[:] = [one for one in records if one not in [rdata.to_text() for rdata in rrset]]
            else:
                records += [rdata.to_text() for rdata in rrset]
        for name in [name for name, node in self.table.items() if not any(node.values())]:
            del self.table[name]


class MemoryTransport:
    """Carries octets to a receiver at once.

    :ivar error: instead of every answer.
    :ivar silent: nobody answers.
    """

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.asked: list[Server] = []
        self.error: Exception | None = None
        self.silent = False

    def udp(self, server: Server, octets: bytes, accept: Accept[T]) -> Deferred[T]:
        raise AssertionError("updates go by TCP")

    def tcp(self, server: Server, octets: bytes, accept: Accept[T], timeout: float) -> Deferred[T]:
        self.asked.append(server)
        if self.silent:
            return Deferred()
        if self.error is not None:
            return fail(self.error)
        try:
            found = accept(self.receiver.respond(octets, udp=False))
        except Exception as error:
            return fail(error)
        return fail(TransportError("sent a reply to another question")) if found is None else succeed(found)
