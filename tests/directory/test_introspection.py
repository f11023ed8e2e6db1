"""Tests of asking the issuer of a token, which answers from memory."""

from __future__ import annotations

import json
import tempfile
from base64 import b64decode
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone, ResponseFailed

from twisted_mail_node.directory.claims import TokenError
from twisted_mail_node.directory.introspection import (
    ANSWER_MAX,
    ASK_TIME,
    ASKING_MAX,
    REMEMBERED_MAX,
    Introspection,
    IntrospectionError,
)
from twisted_mail_node.settings import OAuthSettings, Settings, TlsSettings

URL = "https://login.example.org/introspect"
ACTIVE = {"active": True, "email": "joe@example.org"}


class Written:
    """Takes the body of a question."""

    def __init__(self) -> None:
        self.octets = b""

    def write(self, octets: bytes) -> None:
        self.octets += octets


class Issuer:
    """An ``IAgent`` whose answers the test gives."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bytes, Any, bytes]] = []
        self.waiting: list[Deferred[Any]] = []
        self.aborted = 0
        self.body: Any = None

    def request(self, method: bytes, url: bytes, headers: Any, producer: Any) -> Deferred[Any]:
        written = Written()
        producer.startProducing(written)
        assert producer.length == len(written.octets)
        self.asked.append((method, url, headers, written.octets))
        waiting: Deferred[Any] = Deferred()
        self.waiting.append(waiting)
        return waiting

    def answer(self, status: int, *pieces: bytes, end: bool = True, reason: Exception | None = None) -> None:
        """Answer the oldest question."""
        response = self
        response.code = status  # type: ignore[attr-defined]
        self.waiting.pop(0).callback(response)
        self.body.makeConnection(self)
        for piece in pieces:
            self.body.dataReceived(piece)
        if end:
            self.body.connectionLost(Failure(reason or ResponseDone()))

    def deliverBody(self, body: Any) -> None:
        self.body = body

    def abortConnection(self) -> None:
        self.aborted += 1
        self.body.connectionLost(Failure(ResponseFailed([])))

    loseConnection = abortConnection


class IntrospectionTests(SynchronousTestCase):
    """One URL."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.issuer = Issuer()
        self.introspection = Introspection(URL, self.issuer, self.clock, "Basic x")

    def ask(self, token: str = "a-token") -> Deferred[Any]:
        return Deferred.fromCoroutine(self.introspection.claims(token))

    def waits(self, token: str = "a-token") -> None:
        """The issuer is asked; whatever comes of it."""
        asked = self.ask(token)
        self.assertNoResult(asked)
        asked.addErrback(lambda _: None)

    def test_question(self) -> None:
        """A POST of the token, once, with our name and secret; the answer is the claims."""
        asked = self.ask("a+b/c=&token=x")
        self.issuer.answer(200, json.dumps(ACTIVE).encode())
        self.assertEqual(self.successResultOf(asked), ACTIVE)
        ((method, url, headers, body),) = self.issuer.asked
        self.assertEqual((method, url), (b"POST", URL.encode()))
        self.assertEqual(headers.getRawHeaders("Authorization"), ["Basic x"])
        self.assertEqual(parse_qs(body.decode()), {"token": ["a+b/c=&token=x"], "token_type_hint": ["access_token"]})

    def test_not_active(self) -> None:
        """A token that is not active, or of which nothing is said, is not good; nothing is remembered."""
        for claims in ({"active": False}, {}, {"active": "true"}, {"active": 1}):
            asked = self.ask()
            self.issuer.answer(200, json.dumps(claims).encode())
            self.failureResultOf(asked, TokenError)
        self.assertEqual(len(self.issuer.asked), 4)

    def test_remembered(self) -> None:
        """A good answer holds for a minute, and not longer than its token."""
        for more, holds in (({}, 60.0), ({"exp": 2000 + 10.0}, 10.0), ({"exp": 10**9}, 60.0)):
            self.clock.rightNow = 2000.0
            self.introspection._known.clear()
            self.issuer.asked.clear()
            asked = self.ask()
            self.issuer.answer(200, json.dumps(ACTIVE | more).encode())
            self.successResultOf(asked)
            self.clock.advance(holds - 0.1)
            self.assertEqual(self.successResultOf(self.ask()), ACTIVE | more)
            self.assertEqual(len(self.issuer.asked), 1)
            self.waits("another")
            self.clock.advance(0.1)
            self.waits()
            self.issuer.waiting.clear()
        self.assertNotIn(b"a-token", repr(self.introspection._known).encode())

    def test_bounded(self) -> None:
        """No more answers are remembered than there is room for, and no more asked at a time."""
        for n in range(REMEMBERED_MAX + 5):
            asked = self.ask(f"t{n}")
            self.issuer.answer(200, json.dumps(ACTIVE).encode())
            self.successResultOf(asked)
        self.assertLessEqual(len(self.introspection._known), REMEMBERED_MAX)
        many = [self.ask(f"m{n}") for n in range(ASKING_MAX)]
        self.failureResultOf(self.ask("more"), IntrospectionError)
        self.issuer.answer(200, json.dumps(ACTIVE).encode())
        self.successResultOf(many[0])
        self.waits("more")

    def test_no_answer(self) -> None:
        """Other statuses (a redirect too), no JSON, a cut or endless answer: it cannot be found out. None of the words
        holds the token."""
        answers: list[tuple[Any, ...]] = [
            (302, b""), (401, b"{}"), (500, b""), (200, b""), (200, b"[]"), (200, b"\xff"), (200, b"[" * 60_000),
        ]  # fmt: skip
        for status, *pieces in answers:
            asked = self.ask("sentinel")
            self.issuer.answer(status, *pieces)
            self.assertNotIn("sentinel", str(self.failureResultOf(asked, IntrospectionError).value))
        asked = self.ask()
        self.issuer.answer(200, b'{"active": true', reason=ResponseFailed([]))
        self.failureResultOf(asked, IntrospectionError)
        asked = self.ask()
        self.issuer.answer(200, b" " * ANSWER_MAX, b" ", end=False)
        self.assertEqual(self.issuer.aborted, 1)
        self.failureResultOf(asked, IntrospectionError)
        asked = self.ask()
        self.issuer.waiting.pop().errback(Failure(ConnectionRefusedError()))
        self.failureResultOf(asked, IntrospectionError)

    def test_deadline(self) -> None:
        """Whoever does not answer within five seconds, header or body, has not answered."""
        asked = self.ask()
        self.clock.advance(ASK_TIME)
        self.failureResultOf(asked, IntrospectionError)
        self.issuer.waiting.clear()
        asked = self.ask()
        self.issuer.answer(200, b"{", end=False)
        self.clock.advance(ASK_TIME - 0.1)
        self.assertNoResult(asked)
        self.clock.advance(0.1)
        self.failureResultOf(asked, IntrospectionError)
        self.assertEqual(self.issuer.aborted, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class SettingsTests(SynchronousTestCase):
    """Made from settings."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.state = Path(place.name)

    def made(self, **tls: Any) -> Introspection:
        oauth = OAuthSettings(introspection=URL, client_id="mail node", client_secret_file="secret")
        settings = Settings(hostname="mx.example.org", state_dir=self.state, oauth=oauth, tls=TlsSettings(**tls))
        return Introspection.of(settings, URL, MemoryReactorClock())

    def secret(self, text: str, mode: int = 0o600) -> None:
        path = self.state / "secret"
        path.write_text(text)
        path.chmod(mode)

    def test_secret(self) -> None:
        """Name and secret go into one header field, each written as RFC 6749 has it."""
        self.secret("s:e/cret\n")
        (field,) = self.made()._fields.getRawHeaders("Authorization") or ()
        self.assertEqual(b64decode(field.removeprefix("Basic ")), b"mail%20node:s%3Ae%2Fcret")

    def test_wrong(self) -> None:
        """A secret that others can read, or is none, and certificates that are none: a sentence without the secret."""
        for text, mode, words in (
            ("sentinel", 0o604, "others"),
            ("sentinel\nsentinel", 0o600, "one line"),
            ("", 0o600, "one line"),
        ):
            self.secret(text, mode)
            with self.assertRaises(ValueError) as caught:
                self.made()
            self.assertIn(words, str(caught.exception))
            self.assertNotIn("sentinel", str(caught.exception))
        (self.state / "secret").unlink()
        self.assertRaises(ValueError, self.made)
        self.secret("x")
        (self.state / "ca.pem").write_text("none")
        for name in ("ca.pem", "missing.pem"):
            with self.assertRaises(ValueError) as caught:
                self.made(trusted=name)
            self.assertIn("tls.trusted", str(caught.exception))
