"""Tests of ``twisted_mail_node.dns.resolver``."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from tests.dns.zones import TextZone, Zone, ZoneServer
from twisted_mail_node.dns.answer import MX, Answer, DNSError
from twisted_mail_node.dns.cache import FAILURE_TTL
from twisted_mail_node.dns.resolver import MAX_QUESTIONS, StubResolver
from twisted_mail_node.dns.transport import Accept, FalseRepliesError, Server, TransportError
from twisted_mail_node.dns.wire import MAX_ALIASES
from twisted_mail_node.interfaces import IResolver

T = TypeVar("T")

ONE, TWO, THREE = ("192.0.2.53", 53), ("192.0.2.54", 53), ("2001:db8::53", 53)
SILENCE = "silence"


class Asked:
    """A question that reached the transport."""

    def __init__(self, way: str, server: Server, octets: bytes, accept: Accept[Any]) -> None:
        self.way = way
        self.server = server
        self.octets = octets
        self.accept = accept
        self.cancelled = False
        self.done: Deferred[Any] = Deferred(self.cancel)

    def cancel(self, done: Deferred[Any]) -> None:
        self.cancelled = True

    def reply(self, octets: bytes) -> None:
        """A datagram came; as in the real transport, it is passed over when it is no reply to the question."""
        if self.done.called:
            return
        try:
            found = self.accept(octets)
        except Exception as error:
            self.done.errback(error)
        else:
            if found is not None:
                self.done.callback(found)


class FakeTransport:
    """Keeps what is asked; ``behave`` answers at once, with octets, an exception, or silence."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.behave: Callable[[Asked], bytes | Exception | str] = lambda _: SILENCE

    def udp(self, server: Server, octets: bytes, accept: Accept[T]) -> Deferred[T]:
        return self._ask("udp", server, octets, accept)

    def tcp(self, server: Server, octets: bytes, accept: Accept[T], timeout: float) -> Deferred[T]:
        return self._ask("tcp", server, octets, accept)

    def _ask(self, way: str, server: Server, octets: bytes, accept: Accept[T]) -> Deferred[T]:
        asked = Asked(way, server, octets, accept)
        self.asked.append(asked)
        behaviour = self.behave(asked)
        if isinstance(behaviour, bytes):
            asked.reply(behaviour)
        elif isinstance(behaviour, Exception):
            asked.done.errback(behaviour)
        return asked.done

    def ways(self) -> list[tuple[str, str]]:
        return [(asked.way, asked.server.host) for asked in self.asked]


def code(number: int) -> Callable[[Asked], bytes]:
    """A server that answers every question with this code."""

    def respond(asked: Asked) -> bytes:
        return asked.octets[:2] + bytes((0x81, 0x80 | number, 0, 1, 0, 0, 0, 0, 0, 0)) + asked.octets[12:]

    return respond


def zone(names: TextZone, **options: Any) -> Callable[[Asked], bytes]:
    """A server that knows these names."""
    made = Zone(names, **options)
    return lambda asked: made.respond(asked.octets, asked.way == "udp")


class ResolverTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.transport = FakeTransport()
        self.resolver = self.make(ONE, TWO)

    def make(self, *servers: tuple[str, int], **options: Any) -> StubResolver:
        return StubResolver(
            servers=servers, reactor=self.clock, transport=self.transport, **{"hosts": "/nowhere/hosts", **options}
        )

    def ask(self, name: str, rdtype: str = "A") -> Deferred[Answer]:
        asking: Coroutine[Any, Any, Answer] = self.resolver.query(name, rdtype)
        return Deferred.fromCoroutine(asking)

    def answer(self, name: str, rdtype: str = "A") -> Answer:
        found: Answer = self.successResultOf(self.ask(name, rdtype))
        return found

    def trouble(self, asked: Deferred[Answer]) -> str:
        return str(self.failureResultOf(asked, DNSError).value)

    def test_interface(self) -> None:
        """It is an IResolver."""
        self.assertTrue(verifyObject(IResolver, self.resolver))

    def test_answer(self) -> None:
        """A question goes to the first server and gives its typed answer."""
        self.transport.behave = zone({"example.org": {"MX": ["10 mx.example.org."]}}, authentic=True)
        self.assertEqual(
            self.answer("Example.ORG.", "MX"), Answer((MX(10, "mx.example.org"),), True, False, "example.org", 300)
        )
        self.assertEqual(self.transport.ways(), [("udp", "192.0.2.53")])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_authentic(self) -> None:
        """AD is believed of trusted servers only, from the cache as well."""
        self.transport.behave = zone({"example.org": {"A": ["192.0.2.1"]}}, authentic=True)
        for trusted in (False, True):
            self.resolver = self.make(ONE, trusted=trusted)
            self.assertEqual([self.answer("example.org").authentic for _ in range(2)], [trusted] * 2)
        self.transport.behave = zone({"example.net": {"A": ["192.0.2.1"]}})
        self.assertFalse(self.answer("example.net").authentic)

    def test_cached(self) -> None:
        """An answer is asked once in its TTL; so is a missing name."""
        self.transport.behave = zone({"example.org": {"A": ["192.0.2.1"]}})
        self.answer("example.org")
        self.clock.advance(299)
        self.assertEqual(self.answer("EXAMPLE.org").ttl, 1)
        self.assertFalse(self.answer("none.example").exists)
        self.assertFalse(self.answer("none.example").exists)
        self.assertEqual(len(self.transport.asked), 2)
        self.clock.advance(61)
        self.answer("example.org")
        self.answer("none.example")
        self.assertEqual(len(self.transport.asked), 4)

    def test_impossible_names(self) -> None:
        """What cannot be a name does not exist, and nobody is asked."""
        for name in ("", "a..b", "x" * 64 + ".example", "[192.0.2.1]", "a b.example"):
            self.assertEqual(self.answer(name)[:2], ((), False), name)
        self.assertEqual(self.transport.asked, [])

    def test_unknown_type(self) -> None:
        """A type outside the interface is a mistake of the caller."""
        self.failureResultOf(self.ask("example.org", "NAPTR"), ValueError)

    def test_ids_are_random(self) -> None:
        """Ids do not repeat and do not count."""
        self.transport.behave = code(3)
        for number in range(64):
            self.answer(f"n{number}.example")
        self.assertGreater(len({asked.octets[:2] for asked in self.transport.asked}), 56)

    def test_truncated(self) -> None:
        """A reply with TC is asked again by TCP, with another id."""
        names = {"example.org": {"TXT": ['"' + "x" * 250 + '"' + f' "{i}"' for i in range(20)]}}
        self.transport.behave = zone(names)
        self.assertEqual(len(self.answer("example.org", "TXT").records), 20)
        self.assertEqual(self.transport.ways(), [("udp", "192.0.2.53"), ("tcp", "192.0.2.53")])

    def test_guessing(self) -> None:
        """When false replies rain, the question goes on by TCP."""
        known = zone({"example.org": {"A": ["192.0.2.1"]}})
        self.transport.behave = lambda asked: FalseRepliesError("rain") if asked.way == "udp" else known(asked)
        self.assertEqual(self.answer("example.org").records, ("192.0.2.1",))

    def test_forged(self) -> None:
        """Replies with another id or question do not end the question; the right one does."""
        asking = self.ask("example.org")
        (asked,) = self.transport.asked
        good = zone({"example.org": {"A": ["192.0.2.1"]}})(asked)
        asked.reply(bytes((good[0] ^ 1,)) + good[1:])
        asked.reply(good.replace(b"example", b"exbmple"))
        asked.reply(b"")
        asked.reply(good[:8])
        self.assertNoResult(asking)
        asked.reply(good)
        self.assertEqual(self.successResultOf(asking).records, ("192.0.2.1",))

    def test_garbage(self) -> None:
        """A malformed reply sends the question to the next server."""
        known = zone({"example.org": {"A": ["192.0.2.1"]}})
        self.transport.behave = lambda asked: known(asked)[:-14] if asked.server.host == ONE[0] else known(asked)
        self.assertEqual(self.answer("example.org").records, ("192.0.2.1",))
        self.assertEqual(self.transport.ways(), [("udp", ONE[0]), ("udp", TWO[0])])

    def test_silence(self) -> None:
        """Silent servers take turns until the attempts are used up; the sentence names them and the question."""
        asking = self.ask("example.org", "MX")
        self.clock.advance(5)
        self.clock.advance(5)
        self.assertNoResult(asking)
        self.clock.advance(5)
        self.assertEqual(
            self.trouble(asking),
            "192.0.2.53:53 did not answer within 5 s, 192.0.2.54:53 did not answer within 5 s"
            " when asked for MX of example.org",
        )
        self.assertEqual([asked.server.host for asked in self.transport.asked], [ONE[0], TWO[0], ONE[0]])
        self.assertTrue(all(asked.cancelled for asked in self.transport.asked))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_good_server_first(self) -> None:
        """The server that answered last is asked first."""
        known = zone({})
        self.transport.behave = lambda asked: SILENCE if asked.server.host == ONE[0] else known(asked)
        asking = self.ask("a.example")
        self.clock.advance(5)
        self.successResultOf(asking)
        self.answer("b.example")
        self.assertEqual([asked.server.host for asked in self.transport.asked], [ONE[0], TWO[0], TWO[0]])

    def test_servfail(self) -> None:
        """A server that cannot tell is not asked again; when none can, the code is in the sentence."""
        self.transport.behave = lambda asked: code(2 if asked.server.host == ONE[0] else 5)(asked)
        self.assertEqual(
            self.trouble(self.ask("example.org")),
            "192.0.2.53:53 answered SERVFAIL, 192.0.2.54:53 answered REFUSED when asked for A of example.org",
        )
        self.assertEqual(len(self.transport.asked), 2)

    def test_refused(self) -> None:
        """A server that is not there sends the question to the next at once."""
        known = zone({"example.org": {"A": ["192.0.2.1"]}})
        self.transport.behave = lambda asked: TransportError("refused") if asked.server.host == ONE[0] else known(asked)
        self.assertEqual(self.answer("example.org").records, ("192.0.2.1",))

    def test_failure_is_kept_a_moment(self) -> None:
        """A failure answers the same question for a few seconds, then the DNS is asked again."""
        self.transport.behave = code(2)
        self.trouble(self.ask("example.org"))
        self.trouble(self.ask("example.org"))
        self.assertEqual(len(self.transport.asked), 2)
        self.transport.behave = zone({"example.org": {"A": ["192.0.2.1"]}})
        self.clock.advance(FAILURE_TTL)
        self.assertEqual(self.answer("example.org").records, ("192.0.2.1",))

    def test_old_server(self) -> None:
        """A server from before EDNS0 is asked without it (RFC 6891 section 7)."""
        known = zone({"example.org": {"A": ["192.0.2.1"]}})
        self.transport.behave = lambda asked: code(1)(asked) if asked.octets[11] else known(asked)
        self.assertEqual(self.answer("example.org").records, ("192.0.2.1",))
        self.assertEqual(len(self.transport.asked), 2)

    def test_equal_questions(self) -> None:
        """Equal questions on their way are one question, and all get the answer."""
        asking = [self.ask("example.org") for _ in range(5)]
        (asked,) = self.transport.asked
        asked.reply(zone({"example.org": {"A": ["192.0.2.1"]}})(asked))
        self.assertEqual({self.successResultOf(one).records for one in asking}, {("192.0.2.1",)})

    def test_cancelled(self) -> None:
        """One who stops waiting disturbs nobody; when the last one has, the question is dropped and not cached."""
        first, second = self.ask("example.org"), self.ask("example.org")
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertFalse(self.transport.asked[0].cancelled)
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.assertTrue(self.transport.asked[0].cancelled)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        third = self.ask("example.org")
        self.assertEqual(len(self.transport.asked), 2)
        self.transport.asked[1].reply(zone({})(self.transport.asked[1]))
        self.assertFalse(self.successResultOf(third).exists)

    def test_stop(self) -> None:
        """When the resolver stops, who waits gets a DNSError, and nothing is left behind."""
        asking = [self.ask("a.example"), self.ask("b.example")]
        self.resolver.stop()
        for one in asking:
            self.assertIn("ended early", self.trouble(one))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_mistake(self) -> None:
        """A mistake of ours is logged and becomes a DNSError: nothing is lost."""
        self.transport.behave = lambda _: KeyError("oops")
        self.assertIn("oops", self.trouble(self.ask("example.org")))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_many_questions(self) -> None:
        """No more than ``MAX_QUESTIONS`` are on their way at once; those that wait have a deadline too."""
        asking = [self.ask(f"n{number}.example") for number in range(MAX_QUESTIONS + 1)]
        self.assertEqual(len(self.transport.asked), MAX_QUESTIONS)
        self.transport.asked[0].reply(zone({})(self.transport.asked[0]))
        self.assertEqual(len(self.transport.asked), MAX_QUESTIONS + 1)
        for _ in range(4):
            self.clock.advance(5)
        for one in asking[1:]:
            self.trouble(one)

    def test_half_chain(self) -> None:
        """A chain that a forwarder leaves unfinished is followed; it is authentic only when every reply is."""
        half = zone({"a.example": {"CNAME": ["b.example."]}, "b.example": {"A": ["192.0.2.1"]}}, authentic=True)
        signed: tuple[bool, bool]  # the alias, and what it leads to

        def behave(asked: Asked) -> bytes:
            reply = half(asked)
            first = b"\x01a\x07example" in asked.octets
            if not signed[0 if first else 1]:
                reply = reply[:3] + bytes((reply[3] & ~0x20,)) + reply[4:]
            return reply[:6] + b"\0\1" + reply[8:] if first else reply  # the CNAME alone

        self.transport.behave = behave
        for signed in ((True, False), (False, True), (False, False), (True, True)):
            self.resolver = self.make(ONE, trusted=True)
            wanted = Answer(("192.0.2.1",), True, all(signed), "b.example", 300)
            self.assertEqual(self.answer("a.example"), wanted)

    def test_endless_half_chain(self) -> None:
        """A chain over many replies ends after ``MAX_ALIASES`` links."""

        def behave(asked: Asked) -> bytes:
            number = int(asked.octets[13 : 13 + asked.octets[12]])
            target = str(number + 1).encode()
            rdata = bytes((len(target),)) + target + b"\x07example\0"
            record = b"\xc0\x0c\0\5\0\1\0\0\1\0" + len(rdata).to_bytes(2, "big") + rdata
            head = asked.octets[:2] + b"\x81\x80\0\1\0\1\0\0\0\0"
            return head + asked.octets[12:-11] + record

        self.transport.behave = behave
        self.assertIn("CNAMEs", self.trouble(self.ask("1.example")))
        self.assertEqual(len(self.transport.asked), MAX_ALIASES + 1)

    def test_cname_to_nowhere(self) -> None:
        """A CNAME to what is no name is a DNSError."""
        full = zone({"a.example": {"CNAME": ["b\\.c.example."]}, "b\\.c.example": {"A": ["192.0.2.1"]}})

        def behave(asked: Asked) -> bytes:
            reply = full(asked)
            return reply[:6] + b"\0\1" + reply[8:]

        self.transport.behave = behave
        self.assertIn("leads to no name", self.trouble(self.ask("a.example")))

    def test_server_must_be_an_address(self) -> None:
        """A server by name is refused when the resolver is made."""
        self.assertRaises(ValueError, self.make, ("ns.example.org", 53))

    def test_files(self) -> None:
        """Without servers, resolv.conf is read, and again when it changes; hosts come from their file."""
        path, hosts = self.mktemp(), self.mktemp()
        with open(hosts, "w") as file:
            file.write("192.0.2.7 mail.lan\n")
        with open(path, "w") as file:
            file.write("nameserver 192.0.2.1\n")
        self.resolver = self.make(resolv_conf=path, hosts=hosts)
        self.transport.behave = code(3)
        self.answer("a.example")
        with open(path + ".new", "w") as file:
            file.write("nameserver 2001:db8::1\n")
        os.replace(path + ".new", path)
        self.clock.advance(5)
        self.answer("b.example")
        self.assertEqual(self.transport.ways(), [("udp", "192.0.2.1"), ("udp", "2001:db8::1")])
        self.assertEqual(self.answer("mail.lan").records, ("192.0.2.7",))
        self.assertEqual(len(self.transport.asked), 2)


class LoopbackTests(TestCase):
    """Against a real server on 127.0.0.1, with real sockets."""

    timeout = 20

    async def test_udp_and_tcp(self) -> None:
        """A short answer comes by UDP, a long one by TCP, a missing server is told at once, no socket is left."""
        names = {
            "example.org": {"MX": ["10 mx.example.org."], "TXT": [f'"{i} {"x" * 200}"' for i in range(30)]},
            "www.example.org": {"CNAME": ["example.org."]},
        }
        server = ZoneServer(Zone(names), reactor)
        server.start()
        try:
            resolver = StubResolver(servers=[("127.0.0.1", server.port)], reactor=reactor, timeout=5.0)
            answer = await resolver.query("www.example.org", "MX")
            self.assertEqual(answer, Answer((MX(10, "mx.example.org"),), True, False, "example.org", 300))
            self.assertEqual(len((await resolver.query("example.org", "TXT")).records), 30)
            self.assertFalse((await resolver.query("none.example", "A")).exists)
            self.assertEqual(len(server.zone.asked), 4)
        finally:
            await server.stop()
        gone = StubResolver(servers=[("127.0.0.1", server.port)], reactor=reactor, timeout=5.0)
        await self.assertFailure(Deferred.fromCoroutine(gone.query("example.org", "A")), DNSError)
