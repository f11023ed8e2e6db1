"""T37: web servers that want more than to give an MTA-STS policy. The policy that is known stays in force each time."""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase
from twisted.web.server import NOT_DONE_YET

from tests.net.authority import Issued
from tests.net.web import Loopback, Server, https, issued, never_ends, reactor
from tests.outbound.remote import Notes
from tests.outbound.test_mtasts import GOOD
from twisted_mail_node.events import Event
from twisted_mail_node.events_outbound import PolicyFetched, PolicyNotFetched
from twisted_mail_node.net import https as https_module
from twisted_mail_node.outbound.mtasts import StsPolicy
from twisted_mail_node.outbound.mtasts_fetch import PolicyFetch
from twisted_mail_node.outbound.mtasts_policies import TABLE, StsPolicies
from twisted_mail_node.state.database import StateDatabase

HOST = "mta-sts.example.com"
#: Seconds for a request in these tests; sixty in the node.
DEADLINE = 1.0
#: Octets an attacker may have sent by then: what we take, and what the kernel's buffers hold beside it.
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"

Answer = Callable[[Any], bytes | int] | tuple[bytes, bytes]


def page(octets: bytes, **fields: str) -> Callable[[Any], bytes]:
    """An answer of 200 with this content."""

    def answer(request: Any) -> bytes:
        request.setHeader("Content-Type", "text/plain")
        for name, value in fields.items():
            request.setHeader(name.replace("_", "-"), value)
        return octets

    return answer


def status(code: int, **fields: str) -> Callable[[Any], bytes]:
    """A perfectly good policy with another status."""

    def answer(request: Any) -> bytes:
        request.setResponseCode(code)
        return page(GOOD, **fields)(request)

    return answer


class Attack(TestCase):
    """A domain whose policy "old" is known announces another."""

    timeout = 30

    def setUp(self) -> None:
        self.patch(https_module, "REQUEST_TIME", DEADLINE)
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.state = StateDatabase(self.directory / "state.sqlite", reactor)
        self.addCleanup(self.state.close)
        self.state.tables(TABLE)
        self.state.read(
            "INSERT INTO mta_sts VALUES('example.com', 'old', 'enforce', '[\"mx.example.com\"]', 86400, ?, ?)",
            (time.time(), time.time()),
        )
        self.events: list[Event] = []
        self.notes = Notes()
        self.words = ""
        self.resolver = Loopback({("_mta-sts.example.com", "TXT"): (b"v=STSv1; id=new;",)})

    async def find(
        self, answer: Answer, certificate: Issued | None = None, allow_local: bool = True
    ) -> StsPolicy | None:
        """What is in force after the domain's server has answered."""
        self.server = server = Server(answer, certificate or issued(HOST))
        policies = StsPolicies(
            resolver=self.resolver,
            fetch=PolicyFetch(https(self.directory, self.resolver, allow_local), server.port),
            state=self.state,
            clock=reactor,
            publish=self.events.append,
            notes=self.notes,
        )
        try:
            policy = await policies.find("example.com")
        finally:
            policies.stop()
            await server.close()
        return policy

    async def kept(self, answer: Answer, words: str, certificate: Issued | None = None, **further: Any) -> str:
        """The attack fails, in time, and the old policy stays; gives what reports call it."""
        began = time.monotonic()
        policy = await self.find(answer, certificate, **further)
        self.assertLess(time.monotonic() - began, DEADLINE + 1.0)
        assert policy is not None
        self.assertEqual((policy.id, policy.exchangers), ("old", ("mx.example.com",)))
        problem = self.notes.pop()
        self.words = problem.words
        self.assertTrue(self.words)
        self.assertIn(words, self.words)
        self.assertEqual((problem.domain, problem.exchangers), ("example.com", ("mx.example.com",)))
        self.assertEqual(self.events.pop(), PolicyNotFetched("example.com", self.words))
        return problem.result


class AnswerTest(Attack):
    """What the server answers."""

    async def test_good(self) -> None:
        """The attacks below fail for their own sake: a good answer is taken, once, without cookies or compression."""
        policy = await self.find(page(GOOD))
        assert policy is not None
        self.assertEqual((policy.id, policy.mode), ("new", "enforce"))
        self.assertIsInstance(self.events[0], PolicyFetched)
        ((method, path, _, fields),) = self.server.page.requests
        self.assertEqual((method, path), (b"GET", b"/.well-known/mta-sts.txt"))
        self.assertEqual(fields[b"host"].partition(b":")[0], HOST.encode())
        self.assertNotIn(b"accept-encoding", fields)
        self.assertNotIn(b"cookie", fields)

    async def test_redirect(self) -> None:
        """No redirect is followed, whatever its kind and wherever it leads."""
        for code in (301, 302, 303, 307, 308):
            result = await self.kept(status(code, Location=f"https://{HOST}/.well-known/mta-sts.txt"), str(code))
            self.assertEqual(result, "sts-policy-fetch-error")
            self.assertEqual(len(self.server.page.requests), 1)

    async def test_not_found(self) -> None:
        """No status but 200 counts."""
        for code in (201, 204, 206, 404, 500):
            await self.kept(status(code), f"answers {code}")

    async def test_kind(self) -> None:
        """Pages that users may have put there count for nothing."""
        await self.kept(page(GOOD, Content_Type="text/html"), "but text/html")
        await self.kept(page(GOOD, Content_Type="text/html\x01; x=text/plain"), "no text/plain")
        self.assertEqual((await self.find(page(GOOD, Content_Type="Text/Plain; charset=utf-8"))).id, "new")  # type: ignore[union-attr]

    async def test_endless(self) -> None:
        """A body without end is read to its 64th kilobyte, however it is framed."""
        block = b"x" * 32768
        for answer in (
            (HEAD + b"\r\n", block),
            (HEAD + b"Content-Length: 999999999\r\n\r\n", block),
            (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"8000\r\n" + block + b"\r\n"),
        ):
            await self.kept(answer, "larger than 64 KiB")

    async def test_endless_header(self) -> None:
        """A header without end, early answers without end, a status line without end: all are cut off."""
        for answer in (
            (HEAD, b"X-Field: " + b"x" * 1000 + b"\r\n"),
            (HEAD, b" folded" * 100 + b"\r\n"),
            (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" * 50),
            (b"HTTP/1.1 200 ", b"O" * 1000),
            (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"y" * 100 + b"\r\nx\r\n"),
        ):
            self.assertEqual(await self.kept(answer, ""), "sts-policy-fetch-error")
            self.assertNotIn("did not answer within", self.words)

    async def test_no_http(self) -> None:
        """What is no HTTP is no policy."""
        for octets in (b"220 mx ESMTP\r\n", b"\0\xff" * 100, b"\r\n\r\n", b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"):
            await self.kept((octets, octets), "")
        self.flushLoggedErrors()

    async def test_slow(self) -> None:
        """A server that stops in its answer, or never begins one, has the deadline and is cut off."""
        await self.kept(never_ends, "did not answer within")
        await self.kept((HEAD, b""), "did not answer within")

    async def test_compressed(self) -> None:
        """A compressed answer is refused before an octet of it is opened: 64 KiB may be a gigabyte (T36)."""
        bomb = gzip.compress(b"\0" * 10_000_000)
        await self.kept(page(bomb, Content_Encoding="gzip"), "compressed")
        await self.kept(page(bomb, Content_Encoding="identity, gzip"), "compressed")

    async def test_content(self) -> None:
        """A huge line, CR, NUL, 10 000 mx lines, half a policy: none of them is a policy."""
        for octets, words in (
            (b"version: STSv1\nmode: enforce\nmx: " + b"a" * 60_000 + b"\nmax_age: 1\n", "names no host"),
            (GOOD + b"x: \r y\r\n", "not of the form"),
            (GOOD + b"x: \0\r\n", "not of the form"),
            (b"version: STSv1\nmode: enforce\nmax_age: 1\n" + b"mx:a\n" * 10_000, "more than 500 mx"),
            (GOOD.replace(b"max_age", b"min_age"), "max_age"),
            (b"", "version"),
        ):
            self.assertEqual(await self.kept(page(octets), words), "sts-policy-invalid")

    async def test_cut_off(self) -> None:
        """An answer that ends before it should is none."""

        def answer(request: Any) -> int:
            request.setHeader("Content-Type", "text/plain")
            request.setHeader("Content-Length", "1000")
            request.write(GOOD)
            reactor.callLater(0.05, request.transport.abortConnection)
            return NOT_DONE_YET

        await self.kept(answer, "cut off")


class CertificateTest(Attack):
    """Who the server is."""

    async def test_bad(self) -> None:
        """A certificate for another name, an expired one, a self-signed one: nothing is asked of such a server."""
        for certificate, words in (
            (issued("example.com"), f"it is for example.com, not {HOST}"),
            (issued("*.sts.example.com"), f"not {HOST}"),
            (issued(HOST, expired=True), "it expired on"),
            (issued(HOST, self_signed=True), "self-signed"),
            (issued("127.0.0.1"), f"not {HOST}"),
        ):
            result = await self.kept(page(GOOD), words, certificate)
            self.assertEqual(result, "sts-webpki-invalid")
            self.assertEqual(self.server.page.requests, [])

    async def test_wildcard(self) -> None:
        """A wildcard for the leftmost label will do (RFC 8461 section 3.3)."""
        self.assertEqual((await self.find(page(GOOD), issued("*.example.com"))).id, "new")  # type: ignore[union-attr]


class PlaceTest(Attack):
    """Where the server is."""

    async def test_address(self) -> None:
        """Addresses beside us are not connected to; that takes the setting for trying things out."""
        for address in ("127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"):
            self.resolver.records[HOST, "A"] = (address,)
            await self.kept(page(GOOD), "no public address", allow_local=False)
            self.assertEqual(self.server.connections, 0)

    async def test_nowhere(self) -> None:
        """A host without an address, or where nobody listens, is a sentence."""
        self.resolver.records[HOST, "A"] = ()
        await self.kept(page(GOOD), "has no address")
        self.resolver.records[HOST, "A"] = ("127.0.0.2",)
        await self.kept(page(GOOD), "cannot be reached")

    async def test_proxy(self) -> None:
        """A proxy that the environment names is not asked."""
        for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "http_proxy"):
            os.environ[name] = "http://127.0.0.1:1"
            self.addCleanup(os.environ.pop, name, None)
        self.assertEqual((await self.find(page(GOOD))).id, "new")  # type: ignore[union-attr]

    async def test_next_address(self) -> None:
        """When the first address does not answer the next one is asked."""
        self.resolver.records[HOST, "A"] = ("127.0.0.2", "127.0.0.1")
        self.assertEqual((await self.find(page(GOOD))).id, "new")  # type: ignore[union-attr]
