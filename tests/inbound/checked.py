"""A receiver that checks who sent a mail, with a DNS in a dict and a key to sign with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.defer import Deferred

from tests.dns.fake import FakeResolver, Zone
from tests.inbound.receiving import EPOCH, STRANGER, Kept, Peer, TestReceiver
from twisted_mail_node.dns.answer import Answer
from twisted_mail_node.inbound.judging import Judge
from twisted_mail_node.inbound.verification import Verifier
from twisted_mail_node.mailauth.body import BodyHashes
from twisted_mail_node.mailauth.dkim_key import SigningKey
from twisted_mail_node.mailauth.dkim_sign import sign
from twisted_mail_node.mailauth.keys import Keys
from twisted_mail_node.mailauth.outcome import Outcome
from twisted_mail_node.message.authresults import AuthenticationResults, parse
from twisted_mail_node.message.header import border, fields
from twisted_mail_node.policy.checks import Checks, Decision
from twisted_mail_node.policy.putting_off import PuttingOff
from twisted_mail_node.settings_verification import CheckRule

#: A domain that protects itself, where ``STRANGER`` may send, and its signing key.
DOMAIN = "bank.example"
SELECTOR = "s1"
HOST = "192.0.2.50"
MAIL = (
    b"From: Ann <ann@bank.example>\r\nTo: joe@example.org\r\nSubject: Your account\r\n"
    b"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\nMessage-ID: <1@bank.example>\r\n\r\nHello\r\n"
)


@cache
def key_of(domain: str = DOMAIN, selector: str = SELECTOR) -> SigningKey:
    """The same key for the same name."""
    return SigningKey(Ed25519PrivateKey.generate(), domain, selector)


def signed(mail: bytes = MAIL, *keys: SigningKey) -> bytes:
    """The mail with DKIM signatures."""
    at = border(mail)
    hashes = BodyHashes()
    wanted = hashes.want("relaxed")
    hashes.feed(mail[at:])
    hashes.finish()
    return sign(mail[:at], wanted.digest, keys or (key_of(),), now=EPOCH) + mail


def zone(**more: Mapping[str, Any]) -> dict[str, Any]:
    """What the DNS says of ``DOMAIN`` and its host."""
    names: dict[str, Any] = {
        DOMAIN: {"TXT": [f"v=spf1 ip4:{HOST} -all".encode()], "MX": []},
        f"_dmarc.{DOMAIN}": {"TXT": [b"v=DMARC1; p=reject"]},
        f"{SELECTOR}._domainkey.{DOMAIN}": {"TXT": [key_of().public_record().encode()]},
        "50.2.0.192.in-addr.arpa": {"PTR": ["mx.bank.example"]},
        "mx.bank.example": {"A": [HOST]},
    }
    return names | more


JOE = ("joe@example.org",)


class SlowResolver(FakeResolver):
    """Answers when it is let."""

    def __init__(self, names: Zone) -> None:
        super().__init__(names)
        self.waiting: list[Deferred[None]] = []
        self.slow: Callable[[str], bool] = lambda name: False

    async def query(self, name: str, rdtype: str) -> Answer:
        if self.slow(name):
            waiting: Deferred[None] = Deferred()
            self.waiting.append(waiting)
            await waiting
        return await super().query(name, rdtype)

    def answer(self) -> None:
        """All that wait get their answers, and nobody waits any more."""
        self.slow = lambda name: False
        waiting, self.waiting = self.waiting, []
        for one in waiting:
            one.callback(None)


class CheckedReceiver(TestReceiver):
    """A receiver whose mails are checked.

    :ivar counted: outcomes, and what was done.
    """

    def __init__(
        self,
        rules: Sequence[CheckRule] = (),
        names: Zone | None = None,
        trusted: frozenset[str] = frozenset(),
        **more: Any,
    ) -> None:
        super().__init__(**more)
        self.resolver = SlowResolver(zone() if names is None else names)
        self.counted: list[tuple[Outcome, Decision]] = []
        verifier = Verifier(
            resolver=self.resolver,
            keys=Keys(self.resolver, self.clock.seconds),
            clock=self.clock,
            now=self.factory.now,
            receiver="mx.example.org",
            trusted=trusted,
        )
        self.factory.judge = Judge(
            verifier,
            Checks(rules),
            PuttingOff(self.clock.seconds, 3600.0),
            authserv_id="mx.example.org",
            publish=self.events.append,
            count=lambda outcome, decision: self.counted.append((outcome, decision)),
        )

    def bring(
        self,
        mail: bytes,
        *,
        client: str = STRANGER,
        path: str = "ann@bank.example",
        to: Sequence[str] = JOE,
    ) -> str:
        """A client brings a mail; gives the last reply."""
        peer = self.begin(mail, client=client, path=path, to=to)
        return peer.said()

    def begin(
        self,
        mail: bytes,
        *,
        client: str = STRANGER,
        path: str = "ann@bank.example",
        to: Sequence[str] = JOE,
    ) -> Peer:
        """The same; the last reply may not be there yet."""
        peer = self.session(client=client)
        peer.say(f"MAIL FROM:<{path}>", *(f"RCPT TO:<{one}>" for one in to))
        peer.say("DATA")
        peer.send(mail + b".\r\n")
        return peer


def results_of(mail: Kept) -> AuthenticationResults:
    """What the mail's first field tells."""
    first = fields(mail.header + mail.content)[0]
    assert first.name == b"Authentication-Results", first.name
    return parse(first.unfolded)


def told(mail: Kept) -> dict[str, str]:
    """The result of each method; of several the last."""
    return {one.method: one.result for one in results_of(mail).results}
