"""Questions and replies of the DNS as octets (RFC 1035 section 4); dnspython reads the names and the record data.

Only what a stub resolver needs is read: the header, the question, the answers, and the SOA of a negative reply. A
reply whose header promises more records than ``MAX_RECORDS`` is not read at all, so that no reply holds the node up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from struct import Struct
from struct import error as StructError
from typing import Any, NamedTuple

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
from dns.rdatatype import RdataType

from twisted_mail_node.dns.answer import MX, SRV, TLSA, Answer, Record
from twisted_mail_node.message.address import domain_key

#: Records read from one reply: the largest honest answers we know hold some dozens, and the most wicked reply of
#: so many (each name a chain of pointers) is read in 40 ms.
MAX_RECORDS = 500
#: CNAMEs followed for one question, in one reply or over several. BIND follows 16, unbound 11.
MAX_ALIASES = 16
#: Octets of a UDP reply we ask for: fits any path unfragmented (DNS flag day 2020).
UDP_SIZE = 1232
#: Octets of a name as text (RFC 1035 section 2.3.4: 255 with the lengths).
MAX_NAME = 253
#: No TTL of ours is longer: a day (also what RFC 2181 section 8 advises against absurd values).
MAX_TTL = 86400

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
RCODES = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")

_HEADER = Struct("!HHHHHH")
_QUESTION_END = Struct("!HH")
_RECORD = Struct("!HHIH")
_QR, _OPCODE, _TC, _RD, _AD = 0x8000, 0x7800, 0x0200, 0x0100, 0x0020
_IN = 1
#: EDNS0, no options, no DO (RFC 6891 section 6.1.2).
_OPT = b"\0" + _RECORD.pack(41, UDP_SIZE, 0, 0)
#: Replies with these codes may come without the question: the server did not understand it, or would not look at it.
_BARE_RCODES = frozenset((FORMERR, SERVFAIL, NOTIMP, REFUSED))
#: Printable labels of 1 to 63 octets without dot and backslash; what else the DNS allows names no host of ours.
_NAME = re.compile(r"(?:[!-\-/-\[\]-~]{1,63}\.)*[!-\-/-\[\]-~]{1,63}\Z")
_PLAIN = re.compile(rb"[A-Za-z0-9_.-]*\Z")

TYPES: dict[str, RdataType] = {
    "A": RdataType.A,
    "AAAA": RdataType.AAAA,
    "CNAME": RdataType.CNAME,
    "MX": RdataType.MX,
    "NS": RdataType.NS,
    "PTR": RdataType.PTR,
    "SRV": RdataType.SRV,
    "TLSA": RdataType.TLSA,
    "TXT": RdataType.TXT,
}


class MalformedError(Exception):
    """The reply cannot be read; the sentence says why."""


class Question(NamedTuple):
    """A name as ``name_key`` gives it, and one of ``TYPES``."""

    name: str
    rdtype: str

    def __str__(self) -> str:
        return f"{self.rdtype} of {self.name}"


class Reply(NamedTuple):
    """What a server said.

    :ivar rcode: 0 to 15 (RFC 1035 section 4.1.1).
    :ivar truncated: TC is set: ask again by TCP.
    :ivar answer: ``None`` when the reply is truncated or its code is neither NOERROR nor NXDOMAIN.
    :ivar aliases: CNAMEs followed.
    :ivar unfinished: the CNAME chain ends in a name of which the reply says nothing: ask for ``answer.canonical``.
        Forwarders do this for names they know themselves (dnsmasq's ``cname=``).
    """

    rcode: int
    truncated: bool = False
    answer: Answer | None = None
    aliases: int = 0
    unfinished: bool = False


@lru_cache(maxsize=8192)
def name_key(name: str) -> str | None:
    """The spelling in which a name is asked for and cached; ``None`` when it cannot be a name in the DNS."""
    if len(name) > MAX_NAME + 1 or name.startswith("["):
        return None
    try:
        key = domain_key(name)
    except ValueError:
        return None
    return key if len(key) <= MAX_NAME and _NAME.match(key) else None


def question_octets(question: Question, identity: int, edns: bool = True) -> bytes:
    """The query message: recursion desired, AD understood (RFC 6840 section 5.7), EDNS0 unless told otherwise."""
    header = _HEADER.pack(identity, _RD | _AD, 1, 0, 0, 1 if edns else 0)
    return header + _question_section(question) + (_OPT if edns else b"")


def _question_section(question: Question) -> bytes:
    labels = question.name.encode("ascii").split(b".")
    name = b"".join([len(label).to_bytes(1, "big") + label for label in labels])
    return name + b"\0" + _QUESTION_END.pack(TYPES[question.rdtype], _IN)


def read_reply(octets: bytes, identity: int, question: Question) -> Reply | None:
    """The reply in ``octets``, or ``None`` when it does not belong to this question (wrong id, another question).

    :raises MalformedError: it belongs to the question and cannot be read.
    """
    if len(octets) < _HEADER.size:
        return None
    found, flags, questions, answers, authorities, _ = _HEADER.unpack_from(octets)
    if found != identity or not flags & _QR or flags & _OPCODE:
        return None
    rcode = flags & 15
    section = _question_section(question)
    start = _HEADER.size + len(section)
    if questions == 1:
        # Lower case changes letters only: lengths, types and classes of ours are all below "A".
        if octets[_HEADER.size : start].lower() != section:
            return None
    elif questions or rcode not in _BARE_RCODES:
        return None
    if flags & _TC:
        return Reply(rcode, truncated=True)
    if rcode not in (NOERROR, NXDOMAIN):
        return Reply(rcode)
    if answers + authorities > MAX_RECORDS:
        raise MalformedError(f"sent {answers + authorities} records, we read at most {MAX_RECORDS}")
    try:
        return _read_sections(octets, start, answers, authorities, question, rcode, bool(flags & _AD))
    except (dns.exception.DNSException, StructError, IndexError, ValueError) as error:
        raise MalformedError(f"sent a malformed reply ({type(error).__name__})") from error


def _read_sections(
    octets: bytes, start: int, answers: int, authorities: int, question: Question, rcode: int, authentic: bool
) -> Reply:
    wanted = TYPES[question.rdtype]
    read = _READ[wanted]
    records: dict[str, list[Record]] = {}
    aliases: dict[str, str] = {}
    ttls: dict[str, int] = {}
    end = start
    for owner, rdtype, ttl, at, length in _walk(octets, start, answers, question.name):
        end = at + length
        if rdtype == wanted:
            rdata = dns.rdata.from_wire(dns.rdataclass.IN, wanted, octets, at, length)
            records.setdefault(owner, []).append(read(rdata))
        elif rdtype == RdataType.CNAME:
            aliases[owner] = _text(dns.name.from_wire(octets, at)[0])
        else:
            continue
        ttls[owner] = min(ttl, ttls.get(owner, MAX_TTL))

    name = question.name
    ttl = ttls.get(name, MAX_TTL)
    followed = 0
    while name not in records and name in aliases:
        name = aliases[name]
        ttl = min(ttl, ttls.get(name, MAX_TTL))
        followed += 1
        if followed > MAX_ALIASES:
            raise MalformedError(f"sent a chain of more than {MAX_ALIASES} CNAMEs")
    found = tuple(dict.fromkeys(records.get(name, ())))
    if found:
        return Reply(rcode, answer=Answer(found, True, authentic, name, ttl), aliases=followed)
    negative = _negative_ttl(octets, end, authorities, question.name)
    unfinished = followed > 0 and rcode == NOERROR and negative is None
    if not unfinished:
        ttl = min(ttl, negative or 0)
    return Reply(
        rcode,
        answer=Answer((), rcode == NOERROR, authentic, name, ttl),
        aliases=followed,
        unfinished=unfinished,
    )


def _walk(octets: bytes, at: int, count: int, asked: str) -> Iterator[tuple[str, int, int, int, int]]:
    """Owner, type, TTL, offset and length of each record of class IN."""
    for _ in range(count):
        if octets[at] == 0xC0 and octets[at + 1] == _HEADER.size:  # a pointer to the question: nearly every record
            owner = asked
            at += 2
        else:
            name, used = dns.name.from_wire(octets, at)
            owner = _text(name)
            at += used
        rdtype, rdclass, ttl, length = _RECORD.unpack_from(octets, at)
        at += _RECORD.size
        if at + length > len(octets):
            raise ValueError("a record is cut off")
        if rdclass == _IN:
            yield owner, rdtype, ttl if ttl < 0x80000000 else 0, at, length  # RFC 2181 section 8
        at += length


def _negative_ttl(octets: bytes, at: int, count: int, asked: str) -> int | None:
    """How long "there is nothing" may be kept (RFC 2308 section 5); ``None`` without an SOA record."""
    for _, rdtype, ttl, start, length in _walk(octets, at, count, asked):
        if rdtype == RdataType.SOA and length >= 4:
            return min(ttl, int.from_bytes(octets[start + length - 4 : start + length], "big"))
    return None


def _text(name: dns.name.Name) -> str:
    """Lower case, no trailing dot; odd octets are escaped as in a zone file."""
    labels = name.labels[:-1]
    joined = b".".join(labels)
    if joined.count(b".") < max(len(labels), 1) and _PLAIN.match(joined):
        return joined.decode("ascii").lower()
    return name.to_text(omit_final_dot=True).lower()


def _name_record(rdata: Any) -> Record:
    return _text(rdata.target)


def _mx_record(rdata: Any) -> Record:
    return MX(rdata.preference, _text(rdata.exchange))


def _address_record(rdata: Any) -> Record:
    return str(rdata.address)


def _txt_record(rdata: Any) -> Record:
    return b"".join(rdata.strings)


def _tlsa_record(rdata: Any) -> Record:
    return TLSA(rdata.usage, rdata.selector, rdata.mtype, bytes(rdata.cert))


def _srv_record(rdata: Any) -> Record:
    return SRV(rdata.priority, rdata.weight, rdata.port, _text(rdata.target))


_READ: dict[RdataType, Callable[[Any], Record]] = {
    RdataType.A: _address_record,
    RdataType.AAAA: _address_record,
    RdataType.CNAME: _name_record,
    RdataType.MX: _mx_record,
    RdataType.NS: _name_record,
    RdataType.PTR: _name_record,
    RdataType.SRV: _srv_record,
    RdataType.TLSA: _tlsa_record,
    RdataType.TXT: _txt_record,
}
