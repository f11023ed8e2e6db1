"""Hostile relayhosts and message stores: odd replies (T21), names and passwords that hold commands (T15), and the
password, which nobody may see (T40)."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.outbound.remote import Node, Resolver, joes
from tests.threads import ThreadsAtOnce
from twisted_mail_node.message.status import Action
from twisted_mail_node.outbound.sign_ins import SignIns
from twisted_mail_node.settings import RouteRule

PASSWORD = "sentinel-4711"
HOP = "[smart.example.net]:587"
NAMES = Resolver({("smart.example.net", "A"): ("192.0.2.9",)})
#: What a relayhost may say instead of what it should.
LINES = st.one_of(
    st.sampled_from(
        (
            "235 2.7.0 welcome", "235", "334 ", "334 =", "334 VXNlcm5hbWU6", "334 !", "334-a\r\n334 b", "354 go",
            "250 ok", "250-\r\n250 ok", "220 ready", "421 4.3.2 bye", "454 4.7.0 later", "500", "504 5.5.4 no",
            "530 5.7.0 first", "534 5.7.9 weak", "535 5.7.8 wrong", f"535 5.7.8 wrong: {PASSWORD}", "538 5.7.11 no",
            "5.7.8", "x", "999 y", f"334 {b64encode(b'r=x,s=c2FsdA==,i=4096').decode()}",
            f"334 {b64encode(b'v=AAAA').decode()}", "334 " + "A" * 600,
        )
    ),
    st.binary(max_size=30).map(lambda octets: f"334 {b64encode(octets).decode()}"),
    st.text(max_size=30),
)  # fmt: skip
OFFERS = (
    "AUTH SCRAM-SHA-256",
    "AUTH SCRAM-SHA-1 SCRAM-SHA-256",
    "AUTH PLAIN",
    "AUTH LOGIN",
    "AUTH PLAIN LOGIN SCRAM-SHA-1",
)


class RelayhostTests(SynchronousTestCase):
    """Hosts where a route signs in."""

    def setUp(self) -> None:
        self.place = Path(self.mktemp())
        self.place.mkdir()
        (self.place / "password").write_text(PASSWORD)
        (self.place / "password").chmod(0o600)
        self.logged: list[Any] = []
        observer: Any = self.logged.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def node(self) -> Node:
        rule = RouteRule(next_hop=HOP, username="joe", password_file="password")
        return Node(NAMES, {"sign_ins": SignIns([rule], self.place, ThreadsAtOnce())})

    def seen(self, node: Node, *more: Any) -> str:
        """All that anybody could see."""
        pools = [repr(vars(pool)) for pool in node.relay._pools.values()]
        return repr((node.events, node.relay.status(), self.logged, pools, more))

    @settings(max_examples=300, deadline=None)
    @given(st.sampled_from(OFFERS), st.booleans(), st.lists(LINES, min_size=1, max_size=6))
    def test_whatever_it_says(self, offer: str, verified: bool, lines: list[str]) -> None:
        """Without the password a host that is not verified gets neither it nor a mail; no host's words end in a bounce
        before it has signed us in, in a traceback, or in anybody's seeing the password."""
        node = self.node()
        sent = node.send(next_hop=HOP, way={"credentials": "route[1]"})
        host = node.hosts[0]
        host.secures(offer, "PIPELINING", why="" if verified else "it is self-signed")
        for line in lines:
            if host.is_closed:
                break
            host.says(line)
        if not host.is_closed:
            host.closes()
        written = host.transport.all_written
        says_password = PASSWORD.encode() in written or any(
            b64encode(octets) in written for octets in (PASSWORD.encode(), b"\0joe\0" + PASSWORD.encode())
        )
        # a verified host that refuses SCRAM and offers PLAIN is given the password
        if not verified or ("SCRAM" in offer and "PLAIN" not in offer):
            self.assertNotIn(b"MAIL FROM", written)
            self.assertFalse(says_password and not verified)
        if b"MAIL FROM" not in written:
            (status,) = self.successResultOf(sent)
            self.assertIs(status.action, Action.DELAYED)
            self.assertNotIn(PASSWORD, self.seen(node, status))
        self.assertNotIn(PASSWORD, self.seen(node))
        self.assertEqual([event for event in self.logged if event["log_level"] >= LogLevel.error], [])

    def test_commands_in_names(self) -> None:
        """A name or password with a line end in it is refused before there is a connection (T15)."""
        for text in ("x\r\nMAIL FROM:<a@b.test>", "x\0y", "x\ry", "x\x7f"):
            (self.place / "password").write_text(text)
            with self.assertRaises(ValueError) as caught:
                self.node()
            self.assertNotIn("MAIL", str(caught.exception))
        (self.place / "password").write_text(PASSWORD)
        with self.assertRaises(ValueError):
            rule = RouteRule.model_construct(
                next_hop=HOP, username="joe\r\nQUIT", password_file="password", tls="required"
            )
            SignIns([rule], self.place, ThreadsAtOnce())


class StoreTests(SynchronousTestCase):
    """Message stores."""

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.sampled_from((
        "250 ok", "250-a\r\n250 b", "251 x", "354 go", "354", "220 x", "421 4.3.2 bye", "450 no", "452 4.2.2 full",
        "503 5.5.1 no", "550 5.1.1 nobody", "554", "x", "250-endless", "",
    )), max_size=16), st.sampled_from(((), ("PIPELINING",), ("PIPELINING", "CHUNKING"))))  # fmt: skip
    def test_whatever_it_says(self, lines: list[str], extensions: tuple[str, ...]) -> None:
        """Each recipient has one status in the end, whatever a store answers, and is delivered to only by a yes of its
        own: never more of them than there were positive replies."""
        node = Node(Resolver({}))
        sent = node.send(*joes(3), next_hop="unix:/run/lmtp", way={"transport": "lmtp"})
        host = node.hosts[0]
        host.says("220 hi")
        host.offers(*extensions)
        for line in lines:
            if host.is_closed:
                break
            host.says(line)
        if not host.is_closed:
            host.closes()
        while not sent.called:
            node.hosts[-1].closes()
        statuses = self.successResultOf(sent)
        self.assertEqual(len(statuses), 3)
        delivered = sum(status.action is Action.DELIVERED for status in statuses)
        self.assertLessEqual(delivered, sum(line[:1] == "2" for line in lines))
        self.assertNotIn(Action.RELAYED, {status.action for status in statuses})
