"""An HTTPS server on loopback for tests, and a resolver that leads to it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from OpenSSL import SSL, crypto
from twisted.internet import reactor as _reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from zope.interface import implementer

from tests.net.authority import Authority, Issued
from twisted_mail_node.dns.answer import Answer
from twisted_mail_node.interfaces import IResolver
from twisted_mail_node.net.https import Https
from twisted_mail_node.net.tls_client import TlsClient

reactor: Any = _reactor


@cache
def authority() -> Authority:
    """Signs the certificates of all these tests."""
    return Authority()


@cache
def issued(name: str, expired: bool = False, self_signed: bool = False) -> Issued:
    """A certificate for a name."""
    ends = datetime.now(UTC) - timedelta(days=1) if expired else None
    return authority().issue(name, expires=ends, self_signed=self_signed)


def options(certificate: Issued) -> CertificateOptions:
    """What Twisted's TLS server wants."""
    return CertificateOptions(
        privateKey=crypto.PKey.from_cryptography_key(certificate.key),
        certificate=crypto.X509.from_cryptography(certificate.certificate),
        method=SSL.TLS_SERVER_METHOD,
    )


@implementer(IResolver)
class Loopback:
    """Every host is this machine, but for what the test says otherwise.

    :ivar records: by name and type.
    """

    def __init__(self, records: dict[tuple[str, str], tuple[Any, ...]] | None = None) -> None:
        self.records = records or {}
        self.asked: list[tuple[str, str]] = []

    async def query(self, name: str, rdtype: str) -> Answer:
        self.asked.append((name, rdtype))
        records = self.records.get((name, rdtype), ("127.0.0.1",) if rdtype == "A" else ())
        return Answer(records, True, False, name, 300)


class Page(Resource):
    """Answers every request by what the test says.

    :ivar requests: method, path, content and header fields of each.
    """

    isLeaf = True

    def __init__(self, answer: Callable[[Any], bytes | int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._answer = answer
        self.requests: list[tuple[bytes, bytes, bytes, dict[bytes, bytes]]] = []

    def render(self, request: Any) -> bytes | int:
        self.requests.append((request.method, request.path, request.content.read(), request.getAllHeaders()))
        return self._answer(request)


class _Raw(Protocol):
    """Sends octets as soon as somebody has asked, again and again, as fast as they are taken."""

    def __init__(self, first: bytes, again: bytes) -> None:
        self._first, self._again = first, again

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        first, self._first = self._first, b""
        if first:
            transport.write(first)
            if self._again:
                transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        self.transport.write(self._again)  # type: ignore[union-attr]

    def stopProducing(self) -> None:
        """They have gone."""


class Server:
    """An HTTPS server. ``close`` it in the end.

    :param answer: what is said to a request: a function for ``Page``, or octets and what follows them for ever.
    """

    def __init__(self, answer: Callable[[Any], bytes | int] | tuple[bytes, bytes], certificate: Issued) -> None:
        factory: Any
        if callable(answer):
            self.page = Page(answer)
            factory = Site(self.page)
        else:
            first, again = answer
            factory = Factory()
            factory.buildProtocol = lambda _: _Raw(first, again)
        self.connections = 0
        made: Any = TLSMemoryBIOFactory(options(certificate), False, factory)
        self._tls = made
        build = self._tls.buildProtocol

        def build_protocol(address: Any) -> Any:
            self.connections += 1
            return build(address)

        self._tls.buildProtocol = build_protocol
        self._port = reactor.listenTCP(0, self._tls, 5, "127.0.0.1")
        self.port: int = self._port.getHost().port

    async def close(self) -> None:
        """Listen no longer; every connection ends, for the client has cut it."""
        await self._port.stopListening()
        for _ in range(100):
            if not self._tls.protocols:
                return
            await deferLater(reactor, 0.01)
        raise AssertionError("the client has left a connection open")


def https(directory: Path, resolver: Any, allow_local: bool = True) -> Https:
    """A client that trusts our authority."""
    trusted = authority().put(directory / "trusted.pem")
    return Https(tls=TlsClient(trusted), resolver=resolver, reactor=reactor, allow_local=allow_local)


def never_ends(request: Any) -> int:
    """Begins an answer and says no more."""
    request.setHeader(b"Content-Type", b"text/plain")
    request.write(b"version: STSv1\r\n")
    return NOT_DONE_YET
