"""Tests of ``twisted_mail_node.dns.wire``."""

from __future__ import annotations

import struct
import time

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.dns.zones import Zone
from twisted_mail_node.dns.answer import MX, SRV, TLSA, Answer
from twisted_mail_node.dns.wire import (
    MAX_ALIASES,
    MAX_RECORDS,
    MalformedError,
    Question,
    Reply,
    name_key,
    question_octets,
    read_reply,
)

NAMES = {
    "example.org": {
        "MX": ["20 MX2.example.org.", "10 mx1.Example.org."],
        "TXT": ['"v=spf1 " "-all"', '"other"'],
        "A": ["192.0.2.1", "192.0.2.2"],
        "AAAA": ["2001:db8::1"],
        "NS": ["ns1.Example.org.", "ns.example.net."],
    },
    "null.example": {"MX": ["0 ."]},
    "alias.example": {"CNAME": ["second.example."]},
    "second.example": {"CNAME": ["example.org."]},
    "_25._tcp.mx1.example.org": {"TLSA": ["3 1 1 " + "ab" * 32]},
    "_imaps._tcp.example.org": {"SRV": ["0 1 993 Mx1.example.org."]},
    "_imap._tcp.example.org": {"SRV": ["0 0 0 ."]},
    "1.2.0.192.in-addr.arpa": {"PTR": ["Odd\\.name\\007.example.org."]},
}


def reply_to(name: str, rdtype: str, zone: Zone | None = None) -> bytes:
    octets = question_octets(Question(name, rdtype), 7)
    return (zone or Zone(NAMES)).respond(octets, udp=False)


def answer_of(name: str, rdtype: str, zone: Zone | None = None) -> Answer:
    reply = read_reply(reply_to(name, rdtype, zone), 7, Question(name, rdtype))
    assert reply is not None and reply.answer is not None
    return reply.answer


class QuestionTests(SynchronousTestCase):
    def test_query(self) -> None:
        """A query asks for recursion, understands AD, and takes 1232 octets by EDNS0 (read by dnspython)."""
        query = dns.message.from_wire(question_octets(Question("example.org", "MX"), 4711))
        self.assertEqual(query.id, 4711)
        self.assertEqual(query.flags, dns.flags.RD | dns.flags.AD)
        self.assertEqual((query.edns, query.payload, query.ednsflags), (0, 1232, 0))
        self.assertEqual(query.question[0].to_text(), "example.org. IN MX")

    def test_query_without_edns(self) -> None:
        """A query for an old server has no OPT record."""
        query = dns.message.from_wire(question_octets(Question("a.example", "AAAA"), 1, edns=False))
        self.assertEqual(query.edns, -1)

    def test_names(self) -> None:
        """Names are folded to A-labels in lower case; what cannot be a name in the DNS has no key."""
        self.assertEqual(name_key("Example.ORG."), "example.org")
        self.assertEqual(name_key("bücher.example"), "xn--bcher-kva.example")
        self.assertEqual(name_key("_dmarc.a-b.example"), "_dmarc.a-b.example")
        label = "a" * 63
        self.assertEqual(name_key(f"{label}.example"), f"{label}.example")
        for wrong in (
            "", ".", "a..b", ".a", "a" * 64, f"{label}.{label}.{label}.{label}.", "a b", "a\\.b", "a\0b", "[192.0.2.1]",
            "ü" * 80, "a" * 100000, "\udc80.example",
        ):  # fmt: skip
            self.assertIdentical(name_key(wrong), None, wrong[:40])


class ReplyTests(SynchronousTestCase):
    def test_records(self) -> None:
        """Each record type becomes its value, names in lower case."""
        self.assertEqual(
            set(answer_of("example.org", "MX").records), {MX(20, "mx2.example.org"), MX(10, "mx1.example.org")}
        )
        self.assertEqual(set(answer_of("example.org", "A").records), {"192.0.2.1", "192.0.2.2"})
        self.assertEqual(answer_of("example.org", "AAAA").records, ("2001:db8::1",))
        self.assertEqual(set(answer_of("example.org", "TXT").records), {b"v=spf1 -all", b"other"})
        self.assertEqual(answer_of("null.example", "MX").records, (MX(0, ""),))
        self.assertEqual(answer_of("second.example", "CNAME").records, ("example.org",))
        self.assertEqual(
            answer_of("_25._tcp.mx1.example.org", "TLSA").records, (TLSA(3, 1, 1, bytes.fromhex("ab" * 32)),)
        )
        self.assertEqual(set(answer_of("example.org", "NS").records), {"ns1.example.org", "ns.example.net"})
        self.assertEqual(answer_of("_imaps._tcp.example.org", "SRV").records, (SRV(0, 1, 993, "mx1.example.org"),))
        self.assertEqual(answer_of("_imap._tcp.example.org", "SRV").records, (SRV(0, 0, 0, ""),))

    def test_odd_pointer_name(self) -> None:
        """Odd octets in a PTR name come as escapes, never as control characters or false dots."""
        self.assertEqual(answer_of("1.2.0.192.in-addr.arpa", "PTR").records, ("odd\\.name\\007.example.org",))

    def test_cname_chain(self) -> None:
        """CNAMEs are followed; the canonical name is the end of the chain."""
        self.assertEqual(answer_of("alias.example", "AAAA"), Answer(("2001:db8::1",), True, False, "example.org", 300))

    def test_negative(self) -> None:
        """A missing type and a missing name are answers, kept as long as the SOA's minimum says (RFC 2308)."""
        self.assertEqual(answer_of("null.example", "A"), Answer((), True, False, "null.example", 60))
        self.assertEqual(answer_of("none.example", "A"), Answer((), False, False, "none.example", 60))

    def test_authentic(self) -> None:
        """AD in the reply makes the answer authentic."""
        self.assertTrue(answer_of("example.org", "A", Zone(NAMES, authentic=True)).authentic)
        self.assertFalse(answer_of("example.org", "A").authentic)

    def test_ttl(self) -> None:
        """The TTL is the smallest on the way; one with the top bit set counts as 0 (RFC 2181 section 8)."""
        octets = bytearray(reply_to("example.org", "AAAA"))
        at = octets.index(struct.pack("!IH", 300, 16))
        octets[at : at + 4] = b"\xff\xff\xff\xff"
        reply = read_reply(bytes(octets), 7, Question("example.org", "AAAA"))
        assert reply is not None and reply.answer is not None
        self.assertEqual(reply.answer.ttl, 0)

    def test_not_ours(self) -> None:
        """Another id, another question, a query, or a stump is no reply to the question."""
        octets = reply_to("example.org", "A")
        question = Question("example.org", "A")
        self.assertNotEqual(read_reply(octets, 7, question), None)
        self.assertIdentical(read_reply(octets, 8, question), None)
        self.assertIdentical(read_reply(octets, 7, Question("example.org", "MX")), None)
        self.assertIdentical(read_reply(octets, 7, Question("example.net", "A")), None)
        self.assertIdentical(read_reply(question_octets(question, 7), 7, question), None)
        self.assertIdentical(read_reply(octets[:11], 7, question), None)
        self.assertIdentical(read_reply(b"", 7, question), None)

    def test_question_in_capitals(self) -> None:
        """The question may come back in other letters (RFC 1035 section 2.3.3)."""
        octets = reply_to("example.org", "A").replace(b"example", b"eXAMPLE", 1)
        reply = read_reply(octets, 7, Question("example.org", "A"))
        assert reply is not None and reply.answer is not None
        self.assertEqual(len(reply.answer.records), 2)

    def test_codes(self) -> None:
        """SERVFAIL has no answer, with or without the question; NOERROR without it is no reply."""
        question = Question("example.org", "A")
        query = dns.message.from_wire(question_octets(question, 7))
        refused = dns.message.make_response(query)
        refused.set_rcode(dns.rcode.SERVFAIL)
        self.assertEqual(read_reply(refused.to_wire(), 7, question), Reply(2))
        self.assertEqual(read_reply(struct.pack("!HHHHHH", 7, 0x8182, 0, 0, 0, 0), 7, question), Reply(2))
        self.assertIdentical(read_reply(struct.pack("!HHHHHH", 7, 0x8180, 0, 0, 0, 0), 7, question), None)

    def test_truncated(self) -> None:
        """TC is told before anything else is read."""
        octets = bytearray(reply_to("example.org", "A")[:40])
        octets[2] |= 2
        reply = read_reply(bytes(octets), 7, Question("example.org", "A"))
        self.assertEqual(reply, Reply(0, truncated=True))

    def test_unfinished(self) -> None:
        """A chain that ends in a name of which the reply says nothing has to be asked on."""
        query = dns.message.from_wire(question_octets(Question("a.example", "A"), 7))
        message = dns.message.make_response(query)
        message.answer.append(dns.rrset.from_text("a.example.", 60, "IN", "CNAME", "B.example."))
        reply = read_reply(message.to_wire(), 7, Question("a.example", "A"))
        self.assertEqual(reply, Reply(0, False, Answer((), True, False, "b.example", 60), 1, True))

    def test_other_records_are_ignored(self) -> None:
        """Records of another class, type or owner do not get into the answer."""
        query = dns.message.from_wire(question_octets(Question("a.example", "A"), 7))
        message = dns.message.make_response(query)
        message.answer.append(dns.rrset.from_text("a.example.", 60, "CH", "TXT", "no"))
        message.answer.append(dns.rrset.from_text("a.example.", 60, "IN", "TXT", "no"))
        message.answer.append(dns.rrset.from_text("evil.example.", 60, "IN", "A", "192.0.2.66"))
        message.answer.append(dns.rrset.from_text("a.example.", 60, "IN", "A", "192.0.2.1"))
        reply = read_reply(message.to_wire(), 7, Question("a.example", "A"))
        assert reply is not None and reply.answer is not None
        self.assertEqual(reply.answer.records, ("192.0.2.1",))


class AttackTests(SynchronousTestCase):
    def head(self, answers: int) -> bytes:
        query = question_octets(Question("a.example", "A"), 7, edns=False)
        return struct.pack("!HHHHHH", 7, 0x8180, 1, answers, 0, 0) + query[12:]

    def assert_malformed(self, octets: bytes, question: Question | None = None) -> None:
        self.assertRaises(MalformedError, read_reply, octets, 7, question or Question("a.example", "A"))

    def test_every_cut(self) -> None:
        """A reply cut anywhere is either none of ours or malformed, never an answer and never another exception."""
        for name, rdtype in (("example.org", "MX"), ("alias.example", "A"), ("none.example", "A")):
            octets = reply_to(name, rdtype)
            question = Question(name, rdtype)
            whole = len(octets) - 11  # what comes behind it is our OPT record, which nobody reads
            for end in range(whole):
                try:
                    self.assertIdentical(read_reply(octets[:end], 7, question), None)
                except MalformedError:
                    self.assertGreater(end, 12)

    def test_ten_thousand_records(self) -> None:
        """A reply with more records than we read is malformed, and known to be so at once."""
        self.assert_malformed(self.head(10000) + b"\xc0\x0c" * 20000)
        self.assert_malformed(self.head(MAX_RECORDS + 1))

    def test_most_records(self) -> None:
        """As many records as we read do not hold the node up."""
        record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4)
        octets = self.head(MAX_RECORDS) + b"".join([record + struct.pack("!I", i) for i in range(MAX_RECORDS)])
        start = time.process_time()
        reply = read_reply(octets, 7, Question("a.example", "A"))
        self.assertLess(time.process_time() - start, 0.5)
        assert reply is not None and reply.answer is not None
        self.assertEqual(len(reply.answer.records), MAX_RECORDS)

    def test_cname_loop(self) -> None:
        """CNAMEs in a circle, or to themselves, are malformed."""
        query = dns.message.from_wire(question_octets(Question("a.example", "A"), 7))
        circle = dns.message.make_response(query)
        circle.answer.append(dns.rrset.from_text("a.example.", 60, "IN", "CNAME", "b.example."))
        circle.answer.append(dns.rrset.from_text("b.example.", 60, "IN", "CNAME", "a.example."))
        self.assert_malformed(circle.to_wire())
        itself = dns.message.make_response(query)
        itself.answer.append(dns.rrset.from_text("a.example.", 60, "IN", "CNAME", "a.example."))
        self.assert_malformed(itself.to_wire())

    def test_long_cname_chain(self) -> None:
        """A chain may have ``MAX_ALIASES`` links and not one more."""

        def chain(links: int) -> bytes:
            names = {f"n{i}.example": {"CNAME": [f"n{i + 1}.example."]} for i in range(links)}
            return reply_to("n0.example", "A", Zone({**names, f"n{links}.example": {"A": ["192.0.2.9"]}}))

        question = Question("n0.example", "A")
        reply = read_reply(chain(MAX_ALIASES), 7, question)
        assert reply is not None and reply.answer is not None
        self.assertEqual(reply.answer.records, ("192.0.2.9",))
        self.assert_malformed(chain(MAX_ALIASES + 1), question)

    def test_pointer_loops(self) -> None:
        """Compression pointers at themselves, forward, or in a circle are malformed."""
        at = len(self.head(1))
        tail = struct.pack("!HHIH", 1, 1, 60, 4) + b"\x01\x02\x03\x04"
        for pointer in (at, at + 2, at + 100, 0x3FFF):
            self.assert_malformed(self.head(1) + struct.pack("!H", 0xC000 | pointer) + tail)
        self.assert_malformed(self.head(1) + b"\x01x" + struct.pack("!H", 0xC000 | at) + tail)

    def test_pointer_chain(self) -> None:
        """A thousand names that each hop along a long chain of pointers do not hold the node up."""
        base = self.head(MAX_RECORDS)
        hole = struct.pack("!HHHIH", 0xC00C, 99, 1, 0, 8000)
        start = len(base) + len(hole)
        chain = b"\xc0\x0c" + b"".join([struct.pack("!H", 0xC000 | (start + 2 * i)) for i in range(3999)])
        record = struct.pack("!H", 0xC000 | (start + 7998)) + struct.pack("!HHIH", 1, 1, 60, 4) + b"\x7f\0\0\1"
        octets = base + hole + chain + record * (MAX_RECORDS - 1)
        began = time.process_time()
        try:
            read_reply(octets, 7, Question("a.example", "A"))
        except MalformedError:
            pass
        self.assertLess(time.process_time() - began, 0.5)

    @given(st.binary(max_size=200), st.integers(0, 3), st.integers(0, 3))
    @settings(max_examples=300, deadline=None)
    def test_garbage(self, garbage: bytes, answers: int, authorities: int) -> None:
        """Whatever follows a good header and question is read, or malformed; nothing else is raised."""
        head = struct.pack("!HHHHHH", 7, 0x8180, 1, answers, authorities, 0) + self.head(0)[12:]
        try:
            reply = read_reply(head + garbage, 7, Question("a.example", "A"))
        except MalformedError:
            return
        self.assertIsInstance(reply, Reply)
