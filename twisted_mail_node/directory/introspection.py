"""Asks the issuer of a token whether it is good: token introspection (RFC 7662), over HTTP with TLS.

One POST a token. The answer must come within seconds, be small, and come from where we asked: no redirects. Good
answers hold for a minute at most, and never longer than the token.
"""

from __future__ import annotations

import json
import os
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet import ssl
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from twisted_mail_node.directory.claims import TokenError, expiry
from twisted_mail_node.settings import Settings
from twisted_mail_node.waiting import within

#: Seconds for the whole of one question.
ASK_TIME = 5.0
#: Octets of an answer.
ANSWER_MAX = 64 << 10
#: Seconds that a good answer holds, and how many are remembered.
HOLDS = 60.0
REMEMBERED_MAX = 1000
#: Questions at a time.
ASKING_MAX = 50


class IntrospectionError(Exception):
    """The issuer gave no answer that can be used: it cannot be found out now whether the token is good."""


class Introspection:
    """Asks at one URL.

    :param agent: ``twisted.web.iweb.IAgent``.
    :param authorization: the value of the header field, or ``""``.
    """

    def __init__(self, url: str, agent: Any, clock: Any, authorization: str = "") -> None:
        self._url = url.encode("ascii")
        self._agent = agent
        self._clock = clock
        fields = {
            "Content-Type": ["application/x-www-form-urlencoded"], "Accept": ["application/json"],
            "User-Agent": ["mailnode"],
        }  # fmt: skip
        if authorization:
            fields["Authorization"] = [authorization]
        self._fields = Headers(fields)
        self._known: dict[bytes, tuple[float, dict[str, object]]] = {}
        self._asking = 0

    @classmethod
    def of(cls, settings: Settings, url: str, reactor: Any) -> Introspection:
        """From the settings. :raises ValueError: a file they name cannot be used; a sentence."""
        trusted = settings.tls.trusted
        roots = _roots(settings.state_dir / trusted) if trusted is not None else None
        policy = BrowserLikePolicyForHTTPS(roots) if roots is not None else BrowserLikePolicyForHTTPS()
        oauth = settings.oauth
        authorization = ""
        if oauth.client_secret_file is not None:
            secret = _secret(settings.state_dir / oauth.client_secret_file)
            # RFC 6749 section 2.3.1.
            both = f"{quote(oauth.client_id or '', safe='')}:{quote(secret, safe='')}"
            authorization = "Basic " + b64encode(both.encode("ascii")).decode("ascii")
        return cls(url, Agent(reactor, policy, connectTimeout=ASK_TIME), reactor, authorization)

    async def claims(self, token: str) -> dict[str, object]:
        """What the issuer says of a token that is active.

        :raises TokenError: the token is not active.
        :raises IntrospectionError: no usable answer.
        """
        name = sha256(token.encode("utf-8", "surrogatepass")).digest()
        now = self._clock.seconds()
        until, claims = self._known.get(name, (0.0, {}))
        if now < until:
            return claims
        if self._asking >= ASKING_MAX:
            raise IntrospectionError(f"{self._asking} tokens are being asked about already")
        self._asking += 1
        try:
            claims = await self._ask(token)
        finally:
            self._asking -= 1
        if claims.get("active") is not True:
            raise TokenError("the token is not active")
        ends = expiry(claims)
        if len(self._known) >= REMEMBERED_MAX:
            self._known.clear()
        self._known[name] = (min(now + HOLDS, now + HOLDS if ends is None else ends), claims)
        return claims

    async def _ask(self, token: str) -> dict[str, object]:
        try:
            status, octets = await within(self._clock, ASK_TIME, Deferred.fromCoroutine(self._answer(token)))
        except Exception as error:
            # The kind of the error, not its words: whatever it quotes is not for the log.
            raise IntrospectionError(f"the issuer cannot be asked: {type(error).__name__}") from None
        if status != 200:
            raise IntrospectionError(f"the issuer answers {status}")
        try:
            claims = json.loads(octets)
        except (ValueError, RecursionError):
            claims = None
        if not isinstance(claims, dict):
            raise IntrospectionError("the issuer's answer is no JSON object")
        return claims

    async def _answer(self, token: str) -> tuple[int, bytes]:
        body = urlencode({"token": token, "token_type_hint": "access_token"}).encode("ascii")
        response = await self._agent.request(b"POST", self._url, self._fields, _Body(body))
        gathering = _Gathering()
        response.deliverBody(gathering)
        return response.code, await gathering.done


@implementer(IBodyProducer)
class _Body:
    """The few octets of a question, written at once."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self.length = len(octets)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        """Write it."""
        consumer.write(self._octets)
        return succeed(None)

    def pauseProducing(self) -> None:
        """It is written already."""

    resumeProducing = stopProducing = pauseProducing


class _Gathering(Protocol):
    """The body of an answer, no more than ``ANSWER_MAX`` octets of it."""

    def __init__(self) -> None:
        self.done: Deferred[bytes] = Deferred(lambda _: self._cut())
        self._octets = b""

    def dataReceived(self, data: bytes) -> None:
        """More of it."""
        self._octets += data
        if len(self._octets) > ANSWER_MAX:
            self._cut()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """The end, or the connection's end."""
        if not self.done.called:
            if reason is not None and reason.check(ResponseDone) and len(self._octets) <= ANSWER_MAX:
                self.done.callback(self._octets)
            else:
                self.done.errback(IntrospectionError("the answer is cut off, or too long"))

    def _cut(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            getattr(transport, "abortConnection", transport.loseConnection)()


def _secret(path: Path) -> str:
    """A line of text that others cannot read."""
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(4096).decode("utf-8").strip()
    except OSError as error:
        raise ValueError(f"oauth.client_secret_file: {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"oauth.client_secret_file: {path} is no text") from None
    if mode & 0o007:
        raise ValueError(f"oauth.client_secret_file: others can read {path}; chmod o= it")
    if not text.isprintable() or not text:
        raise ValueError(f"oauth.client_secret_file: {path} does not hold one line of text")
    return text


def _roots(path: Path) -> Any:
    try:
        certificates = x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise ValueError(f"tls.trusted: {path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise ValueError(f"tls.trusted: {path} holds no certificates in PEM") from None
    loaded = [ssl.Certificate.loadPEM(one.public_bytes(Encoding.PEM)) for one in certificates]
    return ssl.trustRootFromCertificates(loaded)
