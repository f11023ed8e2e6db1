"""Asks other hosts by HTTPS, as carefully as a mail node must: for MTA-STS policies, and to post reports about TLS.

One request, one connection, which is cut off when the answer is there or the deadline has passed. No redirects, no
proxies, no cookies, no compression. The names are looked up by our own resolver; addresses that are not public are not
connected to, so that nobody makes us talk to what stands beside us. The certificate must be good for the host, by the
same trust as every other TLS connection of ours. What the host may say is bounded before it is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from OpenSSL import SSL
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory
from zope.interface import implementer

from twisted_mail_node.dns.exchangers import NoExchanger, host_addresses
from twisted_mail_node.dns.wire import name_key
from twisted_mail_node.interfaces import IResolver
from twisted_mail_node.net.tls import TlsConnection
from twisted_mail_node.net.tls_client import TlsClient
from twisted_mail_node.net.tls_names import UNREADABLE
from twisted_mail_node.net.tls_trust import name_problem
from twisted_mail_node.smtp.reply import printable
from twisted_mail_node.waiting import DeadlineError, within

#: Seconds for one request in all: names, connection, handshake, answer (RFC 8461 section 3.3 suggests a minute).
REQUEST_TIME = 60.0
#: Seconds until the next address of a host is tried.
CONNECT_TIME = 15.0
#: Octets of status line, header and framing that a host may send beside the content we want.
FRAME_MAX = 32 << 10
#: Characters of what a host said or an error says.
WORDS_MAX = 200
AGENT = "mailnode"

_NAT64 = ip_network("64:ff9b::/96")
_GLOBAL_UNICAST = ip_network("2000::/3")
_HOST = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)+\Z")


class HttpsError(Exception):
    """No usable answer.

    :ivar words: a sentence for a person.
    :ivar certificate: the host's certificate is the reason.
    """

    def __init__(self, words: str, certificate: bool = False) -> None:
        super().__init__(words)
        self.words = words
        self.certificate = certificate


class Page(NamedTuple):
    """An answer with its content.

    :ivar kind: the media type without its parameters, in lower case.
    """

    status: int
    kind: str
    octets: bytes


class Https:
    """Makes requests.

    :param tls: whose trusted certificates count.
    :param allow_local: connect to addresses that are not public, too (tests, sites that try things on one machine).
    """

    def __init__(self, *, tls: TlsClient, resolver: IResolver, reactor: Any, allow_local: bool = False) -> None:
        self._tls = tls
        self._resolver = resolver
        self._reactor = reactor
        self._allow_local = allow_local

    async def get(self, url: str, most: int) -> Page:
        """What is at ``url``; of any answer but 200 the status alone.

        :param most: octets it may have.
        :raises HttpsError: there is no usable answer.
        """
        page: Page = await self._request("GET", url, most, None, {"Accept": "text/plain"})
        return page

    async def post(self, url: str, octets: bytes, kind: str) -> int:
        """Send content of a media type; gives the status of the answer.

        :raises HttpsError: there is none.
        """
        page: Page = await self._request("POST", url, 0, octets, {"Content-Type": kind})
        return page.status

    async def _request(self, method: str, url: str, most: int, body: bytes | None, fields: dict[str, str]) -> Page:
        place = _Place(host_of(url), self, most + FRAME_MAX)
        client = HTTPClient(_Plain(Agent.usingEndpointFactory(self._reactor, place)))
        ends = self._reactor.seconds() + REQUEST_TIME
        try:
            return await within(
                self._reactor, REQUEST_TIME, Deferred.fromCoroutine(_answer(client, method, url, most, body, fields))
            )
        except (HttpsError, CancelledError):
            raise
        except Exception as error:
            # twisted.web wraps what went wrong below it, even our own cancelling: the place knows the first cause.
            if isinstance(error, DeadlineError) or self._reactor.seconds() >= ends:
                raise HttpsError(place.problem or f"it did not answer within {REQUEST_TIME:g} s") from None
            if any(reason.check(CancelledError) for reason in getattr(error, "reasons", ())):
                raise CancelledError from None
            raise HttpsError(place.problem or _words(error), place.certificate) from None
        finally:
            place.cut()

    async def addresses(self, host: str) -> list[str]:
        """Where a host may be asked.

        :raises HttpsError: nowhere.
        """
        try:
            found = await host_addresses(self._resolver, host)
        except NoExchanger as error:
            raise HttpsError(error.words) from None
        usable = [each.ip for each in found if self._allow_local or is_public(each.ip)]
        if not usable:
            raise HttpsError(f"{host} has no public address: {', '.join(each.ip for each in found)}")
        return usable

    def secured(self, host: str, most: int, failed: Callable[[str], None]) -> Checked:
        """OpenSSL's connection for a host; see ``Checked``."""
        connection = self._tls.connection(host, Checked)
        connection.host, connection.left, connection.failed = host, most, failed
        return connection

    def endpoint(self, ip: str, port: int) -> Any:
        """How to connect to an address."""
        kind = TCP6ClientEndpoint if ":" in ip else TCP4ClientEndpoint
        return kind(self._reactor, ip, port, timeout=CONNECT_TIME)


class Checked(TlsConnection):
    """A connection whose handshake fails unless the certificate is good, and that reads no more than it may.

    :ivar left: octets that may still come.
    :ivar failed: told why the certificate is not good, before the handshake fails.
    """

    host: str
    left: int
    failed: Callable[[str], None]

    def do_handshake(self) -> None:
        """Nothing of ours is sent before this has returned."""
        super().do_handshake()
        try:
            certificate = self.get_peer_certificate(as_cryptography=True)
        except UNREADABLE:
            problem = "it cannot be read"
        else:
            problem = "it showed none"
            if certificate is not None:
                problem = self.shown.problem(certificate) or name_problem(certificate, self.host)
        if problem:
            self.failed(f"the certificate of {self.host} is not good: {problem}")
            raise SSL.Error([("", "", "certificate verify failed")])

    def recv(self, bufsiz: int, flags: int | None = None) -> bytes:
        octets = super().recv(bufsiz, flags)
        self.left -= len(octets)
        if self.left < 0:
            raise SSL.Error([("", "", "it sends more than we take")])
        return octets

    read = recv


@implementer(IAgentEndpointFactory, IStreamClientEndpoint, IOpenSSLClientConnectionCreator)
class _Place:
    """Connects one request to its host, and cuts the connection in the end.

    :ivar problem: the first cause of what went wrong, if it is known.
    """

    def __init__(self, host: str, https: Https, most: int) -> None:
        self._host = host
        self._port = 443
        self._https = https
        self._most = most
        self._transport: Any = None
        self.problem = ""
        self.certificate = False

    def endpointForURI(self, uri: Any) -> Any:
        self._port = uri.port
        return self

    def connect(self, factory: Any) -> Deferred[Any]:
        connected: Deferred[Any] = Deferred.fromCoroutine(self._connect(factory))
        return connected

    async def _connect(self, factory: Any) -> Any:
        try:
            addresses: Sequence[str] = await self._https.addresses(self._host)
        except HttpsError as error:
            self.problem = error.words
            raise
        for ip in addresses:
            endpoint: Any = wrapClientTLS(self, self._https.endpoint(ip, self._port))
            try:
                protocol = await endpoint.connect(factory)
            except (CancelledError, ConnectingCancelledError):
                # it is over: who answered now would have a connection that nobody cuts
                raise CancelledError from None
            except Exception as error:
                self.problem = f"{self._host} [{ip}] cannot be reached: {_words(error)}"
            else:
                self.problem = ""
                self._transport = protocol.transport
                return protocol
        raise HttpsError(self.problem)

    def clientConnectionForTLS(self, tlsProtocol: Any) -> Checked:
        return self._https.secured(self._host, self._most, self._failed)

    def _failed(self, words: str) -> None:
        self.problem, self.certificate = words, True

    def cut(self) -> None:
        """End the connection, whatever the host thinks of it."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abortConnection()


@implementer(IAgent)
class _Plain:
    """Keeps compression out: a few octets of it may be a gigabyte of content (attack T36)."""

    def __init__(self, agent: Any) -> None:
        self._agent = agent

    def request(self, method: bytes, uri: bytes, headers: Any = None, bodyProducer: Any = None) -> Deferred[Any]:
        headers.removeHeader(b"Accept-Encoding")
        headers.setRawHeaders(b"User-Agent", [AGENT])
        answer: Deferred[Any] = self._agent.request(method, uri, headers, bodyProducer)
        return answer.addCallback(_uncompressed)


def _uncompressed(response: Any) -> Any:
    if response.headers.hasHeader(b"Content-Encoding"):
        raise HttpsError("its answer is compressed, which we did not ask for")
    return response


async def _answer(
    client: HTTPClient, method: str, url: str, most: int, body: bytes | None, fields: dict[str, str]
) -> Page:
    response: Any = await client.request(
        method,
        url,
        headers=Headers({name: [value] for name, value in fields.items()}),
        data=body,
        allow_redirects=False,
        unbuffered=True,
    )
    kind = (response.headers.getRawHeaders("Content-Type") or [""])[-1].partition(";")[0].strip(" \t").lower()
    if method == "POST" or response.code != 200:
        return Page(response.code, printable(kind[:WORDS_MAX]), b"")
    gathering = _Gathering(most)
    response.deliverBody(gathering)
    return Page(response.code, printable(kind[:WORDS_MAX]), await gathering.done)


class _Gathering(Protocol):
    """The content of an answer; an answer that is longer, or is cut off, is none."""

    def __init__(self, most: int) -> None:
        self.done: Deferred[bytes] = Deferred()
        self._most = most
        self._octets = bytearray()

    def dataReceived(self, data: bytes) -> None:
        """More of it."""
        self._octets += data
        if len(self._octets) > self._most and not self.done.called:
            self.done.errback(HttpsError(f"its content is larger than {self._most >> 10} KiB"))
            self._octets.clear()
            self._most = -1

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Its end, or the connection's end."""
        if self.done.called:
            return
        if reason.check(ResponseDone):
            self.done.callback(bytes(self._octets))
        else:
            self.done.errback(HttpsError("its answer is cut off, or much too long"))


def host_of(url: str) -> str:
    """The host of an https URL, in the spelling look-ups use.

    :raises HttpsError: it is no https URL, or its host has no name.
    """
    try:
        parts = urlsplit(url)
        host = name_key(parts.hostname or "")
        port = parts.port
    except ValueError:
        parts, host, port = None, None, None
    if parts is None or parts.scheme != "https" or host is None or "@" in parts.netloc or port == 0:
        raise HttpsError("that is no https URL of a host")
    if not _HOST.match(host) or host.replace(".", "").isdigit():
        raise HttpsError(f"{host} is no name of a public host")
    return host


def is_public(ip: str) -> bool:
    """Whether anyone on the Internet may have this address (RFC 6890): not loopback, private, link-local, multicast,
    and none that leads to such a one by mapping or tunnel."""
    address: IPv4Address | IPv6Address = ip_address(ip)
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if address.teredo is not None:
            return False
        if inner is not None:
            address = inner
        elif address not in _GLOBAL_UNICAST:
            return False  # site-local, IPv4 in the last octets, and what nobody was given
    return address.is_global and not address.is_multicast


def _words(error: Exception) -> str:
    """One cause, in a sentence; twisted.web keeps a list of them."""
    reasons = getattr(error, "reasons", None)
    if reasons:
        error = reasons[-1].value
    if isinstance(error, HttpsError):
        return error.words
    text = str(error)
    if isinstance(error, SSL.Error):
        told = [one[-1] for one in error.args[0]] if error.args and isinstance(error.args[0], list) else []
        text = f"TLS broke: {', '.join(told) or 'the connection ended'}"
    return printable(f"{text or type(error).__name__}")[:WORDS_MAX]
