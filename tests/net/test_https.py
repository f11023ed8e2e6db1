"""Requests to other hosts by HTTPS: whom they go to, and what is sent. Attacks are in tests/attacks/test_mtasts.py."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.net.web import Loopback, Server, https, issued, never_ends, reactor
from twisted_mail_node.net import https as https_module
from twisted_mail_node.net.https import Https, HttpsError, Page, host_of, is_public

HOST = "reports.example.com"


class RequestTest(TestCase):
    """Against a real server."""

    timeout = 30

    def setUp(self) -> None:
        self.patch(https_module, "REQUEST_TIME", 1.0)
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def client(self) -> Https:
        """Ours."""
        return https(self.directory, Loopback())

    async def test_post(self) -> None:
        """A POST brings its octets with their media type, and gives the status, whatever the answer's length."""

        def answer(request: Any) -> bytes:
            request.setResponseCode(202)
            return b"x" * 10_000_000

        server = Server(answer, issued(HOST))
        try:
            url = f"https://{HOST}:{server.port}/tls?a=b"
            octets = bytes(range(256)) * 100
            self.assertEqual(await self.client().post(url, octets, "application/tlsrpt+gzip"), 202)
        finally:
            await server.close()
        ((method, path, content, fields),) = server.page.requests
        self.assertEqual((method, path, content), (b"POST", b"/tls", octets))
        self.assertEqual(fields[b"content-type"], b"application/tlsrpt+gzip")
        self.assertEqual(fields[b"content-length"], b"25600")
        self.assertEqual(fields[b"host"], f"{HOST}:{server.port}".encode())

    async def test_post_redirect(self) -> None:
        """A report is not carried on to where a redirect leads."""

        def answer(request: Any) -> bytes:
            request.redirect(b"https://elsewhere.example/")
            return b""

        server = Server(answer, issued(HOST))
        try:
            self.assertEqual(await self.client().post(f"https://{HOST}:{server.port}/", b"x", "text/plain"), 302)
        finally:
            await server.close()
        self.assertEqual(len(server.page.requests), 1)

    async def test_wrong_name(self) -> None:
        """Nothing is sent to a server whose certificate is for another name."""
        server = Server(lambda request: b"", issued("other.example.com"))
        try:
            with self.assertRaises(HttpsError) as raised:
                await self.client().post(f"https://{HOST}:{server.port}/", b"secret", "text/plain")
        finally:
            await server.close()
        self.assertTrue(raised.exception.certificate)
        self.assertEqual(server.page.requests, [])

    async def test_handshake_stalls(self) -> None:
        """A server that takes the connection and says nothing is cut off at the deadline (T11)."""
        gone: Deferred[None] = Deferred()

        class Silent(Protocol):
            def connectionLost(self, reason: object = None) -> None:
                gone.callback(None)

        port = reactor.listenTCP(0, Factory.forProtocol(Silent), interface="127.0.0.1")
        began = time.monotonic()
        with self.assertRaises(HttpsError) as raised:
            await self.client().get(f"https://{HOST}:{port.getHost().port}/", 10)
        await gone
        await port.stopListening()
        self.assertLess(time.monotonic() - began, 3.0)
        self.assertIn("did not answer within", raised.exception.words)

    async def test_cancelled(self) -> None:
        """Who gives up waiting gets a cancellation, and the connection is cut."""
        server = Server(never_ends, issued(HOST))
        asking = Deferred.fromCoroutine(self.client().get(f"https://{HOST}:{server.port}/", 100))
        reactor.callLater(0.3, asking.cancel)
        with self.assertRaises(CancelledError):
            await asking
        await server.close()

    async def test_reload(self) -> None:
        """Certificates that are trusted from now on count for the next request."""
        server = Server(lambda request: b"hello", issued(HOST))
        client = self.client()
        url = f"https://{HOST}:{server.port}/"
        try:
            client._tls.reload(None)
            with self.assertRaises(HttpsError):
                await client.get(url, 10)
            client._tls.reload(self.directory / "trusted.pem")
            self.assertEqual(await client.get(url, 10), Page(200, "text/html", b"hello"))
        finally:
            await server.close()


class DeadlineTest(SynchronousTestCase):
    """Hosts whose addresses answer nothing."""

    def tried(self, give_up: Callable[[Clock, Deferred[Page]], object]) -> tuple[list[str], Deferred[Page]]:
        """The addresses that were tried when it is over."""
        clock, tried = Clock(), list[str]()
        records = {(HOST, "A"): tuple(f"192.0.2.{number}" for number in range(1, 9))}
        client = https(Path(self.mktemp()), Loopback(records))
        client._reactor = clock

        class Nowhere:
            def __init__(self, ip: str) -> None:
                self.ip = ip

            def connect(self, factory: object) -> Deferred[Any]:
                tried.append(self.ip)
                nobody: Any = None
                return Deferred(lambda waiting: waiting.errback(ConnectingCancelledError(nobody)))

        def endpoint(ip: str, port: int) -> Any:
            return Nowhere(ip)

        self.patch(client, "endpoint", endpoint)
        asking = Deferred.fromCoroutine(client.get(f"https://{HOST}/", 10))
        give_up(clock, asking)
        return tried, asking

    def test_deadline(self) -> None:
        """When the time is over no further address is tried: whoever answered then would have a connection for ever."""
        tried, asking = self.tried(lambda clock, asking: clock.advance(https_module.REQUEST_TIME))
        self.assertEqual(tried, ["192.0.2.1"])
        self.failureResultOf(asking, HttpsError)

    def test_cancelled(self) -> None:
        """... nor when nobody waits any more."""
        tried, asking = self.tried(lambda clock, asking: asking.cancel())
        self.assertEqual(tried, ["192.0.2.1"])
        self.failureResultOf(asking, CancelledError)


class PlaceTest(SynchronousTestCase):
    """host_of and is_public."""

    def test_host_of(self) -> None:
        """The host of an https URL, in its look-up spelling."""
        for url, host in (
            ("https://Example.COM/x", "example.com"),
            ("https://example.com:8443", "example.com"),
            ("https://b\u00fccher.example/", "xn--bcher-kva.example"),
            ("HTTPS://a_b.example.", "a_b.example"),
        ):
            self.assertEqual(host_of(url), host)

    def test_no_host(self) -> None:
        """Other schemes, literals, local names and hidden names are refused."""
        for url in (
            "http://example.com/", "https:example.com", "https:///x", "https://127.0.0.1/", "https://[::1]/",
            "https://2130706433/", "https://localhost/", "https://a@example.com/",
            "https://example.com:0/", "https://example.com:99999/", "https://[/", "", "https://exa mple.com/",
            "https://127.1/",
        ):  # fmt: skip
            self.assertRaises(HttpsError, host_of, url)

    def test_public(self) -> None:
        """Public addresses, and none that is or leads to one beside us."""
        for ip in ("9.9.9.9", "2620:fe::fe", "64:ff9b::909:909"):
            self.assertTrue(is_public(ip), ip)
        for ip in (
            "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
            "224.0.0.1", "255.255.255.255", "240.0.0.1", "::1", "::", "fe80::1", "fc00::1", "ff02::1",
            "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::1",
            "fec0::1", "::7f00:1", "::a01:203", "4000::1",
        ):  # fmt: skip
            self.assertFalse(is_public(ip), ip)

    def test_import(self) -> None:
        """The command line does without the HTTP client: importing that takes longer than most commands."""
        program = "import sys, twisted_mail_node.admin.cli; print([one for one in sys.modules if 'treq' in one])"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.stdout.strip(), "[]", done.stderr)
