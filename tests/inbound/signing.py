"""What tests of AUTH share: how a client says it, and a listener where it may."""

from __future__ import annotations

from base64 import b64encode
from typing import cast

from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.inbound.receiving import Peer, TestReceiver
from tests.inbound.secured import ToldGuessing


def base64(text: str | bytes) -> str:
    """As a response carries it."""
    return b64encode(text.encode() if isinstance(text, str) else text).decode()


def plain(name: str = "joe@example.org", password: str = "secret") -> str:
    """AUTH PLAIN with its response."""
    return f"AUTH PLAIN {base64(f'{chr(0)}{name}{chr(0)}{password}')}"


class AuthCase(SynchronousTestCase):
    """A submission listener with STARTTLS."""

    def setUp(self) -> None:
        self.guessing = ToldGuessing()
        self.receiver = TestReceiver(kind="submission", tls_mode="starttls", guessing=self.guessing)
        self.authentication = self.receiver.authentication

    def session(self) -> Peer:
        """A session under TLS."""
        peer = self.receiver.secured()
        peer.said()
        return peer

    def answered(self, peer: Peer, *lines: str, seconds: float = 1.0) -> str:
        """What a failure is answered with: nothing before its moment."""
        self.assertEqual(peer.say(*lines), "")
        self.receiver.wait(seconds - 0.01)
        self.assertEqual(peer.said(), "")
        self.receiver.wait(0.01)
        peer.settle()
        return peer.said()


class Logged:
    """What is logged meanwhile, as text."""

    def __init__(self) -> None:
        self.text = ""
        self._observer = cast("ILogObserver", self._take)

    def __enter__(self) -> Logged:
        globalLogPublisher.addObserver(self._observer)
        return self

    def __exit__(self, *raised: object) -> None:
        globalLogPublisher.removeObserver(self._observer)

    def _take(self, event: LogEvent) -> None:
        self.text += f"{event}\n{formatEvent(event)}\n"
