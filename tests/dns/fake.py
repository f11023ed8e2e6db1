"""A resolver that answers out of a dictionary: for every test that needs names, without a network."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from zope.interface import implementer

from twisted_mail_node.dns.answer import Answer, DNSError, Record
from twisted_mail_node.interfaces import IResolver

#: Records by name, then by type. A ``DNSError`` in place of the records, or of the whole name, is raised.
Zone = Mapping[str, Mapping[str, Sequence[Record] | DNSError] | DNSError]


@implementer(IResolver)
class FakeResolver:
    """``FakeResolver({"example.org": {"MX": [MX(10, "mx.example.org")]}, "mx.example.org": {"A": ["192.0.2.1"]}})``.

    A name that is not in the zone does not exist; a type that is not in a name has no records. CNAMEs are followed.

    :param signed: names whose records are signed; an answer is authentic when every name on its way is.
    :ivar asked: every question, in order.
    """

    def __init__(self, zone: Zone, signed: Collection[str] = ()) -> None:
        self.zone = zone
        self.signed = signed
        self.asked: list[tuple[str, str]] = []

    async def query(self, name: str, rdtype: str) -> Answer:
        """See ``IResolver``."""
        name = name.rstrip(".").lower()
        self.asked.append((name, rdtype))
        signed = True
        for _ in range(17):
            node = self.zone.get(name)
            signed = signed and name in self.signed
            if node is None:
                return Answer((), False, signed, name, 300)
            if isinstance(node, DNSError):
                raise node
            records = node.get(rdtype)
            if records is None and "CNAME" in node:
                target = node["CNAME"]
                assert not isinstance(target, DNSError)
                name = str(target[0])
                continue
            if isinstance(records, DNSError):
                raise records
            return Answer(tuple(records or ()), True, signed, name, 300)
        raise DNSError(f"a CNAME loop behind {name}")
