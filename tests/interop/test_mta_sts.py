"""MTA-STS with real policies: fetched over HTTPS from a server on loopback, found by TXT records of a real resolver."""

from __future__ import annotations

from pathlib import Path

from tests.interop.between import Between, strip_starttls
from tests.interop.mails import letter
from tests.interop.node import Node, NodeTest
from tests.interop.policy_server import PolicyServer
from tests.interop.unbound import Names, Unbound
from tests.interop.wire import send
from tests.net.authority import Authority, Issued

AUTHORITY = Authority("Everybody knows it")
#: Where policies are served: not where others of these tests listen.
WEB = "127.0.0.8"


def zone(policy_id: str = "1") -> dict[str, Names]:
    """``sts.test``, with a policy."""
    return {
        "sts.test": {
            "sts.test": {"MX": ["10 mx.sts.test."]},
            "mx.sts.test": {"A": ["127.0.0.1"]},
            "_mta-sts.sts.test": {"TXT": [f'"v=STSv1; id={policy_id};"']},
            "mta-sts.sts.test": {"A": [WEB]},
        }
    }


def policy(mode: str = "enforce", exchanger: str = "mx.sts.test") -> str:
    """The text of a policy."""
    return f"version: STSv1\r\nmode: {mode}\r\nmx: {exchanger}\r\nmax_age: 86400\r\n"


class MtaStsTest(NodeTest):
    """One node relays to another whose domain has a policy."""

    timeout = 180

    def there(self, issued: Issued) -> Node:
        """The exchanger, with this certificate."""
        there = self.node(domain="sts.test")
        issued.put(there.state / "tls" / "mx.pem")
        return there.start()

    def here(self, resolver: Unbound, port: int, more: str = "") -> Node:
        """The node that relays."""
        node = self.node()
        root = AUTHORITY.put(node.place / "root.pem")
        node.write(top='relay_from = ["127.0.0.0/8"]', tables=self.settings(resolver, port, root) + more)
        return node.start()

    def settings(self, resolver: Unbound, port: int, root: Path) -> str:
        """What it needs to know."""
        return (
            f'[resolver]\nservers = ["127.0.0.1:{resolver.port}"]\ntimeout = 1\nattempts = 1\n'
            f'[queue]\nloopback_exchangers = true\nretry = ["1h"]\n[tls]\ntrusted = "{root}"\n'
            f'[[route]]\ndomain = "sts.test"\nnext_hop = "sts.test:{port}"\n'
        )

    def serving(self, text: str, issued: Issued | None = None) -> PolicyServer:
        """The domain's web server."""
        return PolicyServer(text, issued or AUTHORITY.issue("mta-sts.sts.test"), Path(self.mktemp()), WEB)

    def test_enforce(self) -> None:
        """The host and its certificate fit the policy: the mail goes, verified; the policy was fetched once."""
        there = self.there(AUTHORITY.issue("mx.sts.test"))
        with Unbound(zone()) as resolver, self.serving(policy()) as web:
            here = self.here(resolver, there.port)
            for number in range(3):
                queue_id = send(here.port, letter(f"{number}"), ["demo@sts.test"], sender="joe@here.test")
                relayed = here.wait_event("recipient-relayed", queue_id=queue_id)
                self.assertIn("MTA-STS", relayed["tls"])
            fetched = here.wait_event("policy-fetched")
            self.assertEqual((fetched["domain"], fetched["mode"]), ("sts.test", "enforce"))
            self.assertEqual(web.asked, ["mta-sts.sts.test/.well-known/mta-sts.txt"])

    def test_wrong_certificate(self) -> None:
        """Enforced, and nobody signed the certificate: nothing of the mail leaves."""
        there = self.there(AUTHORITY.issue("mx.sts.test", self_signed=True))
        with Unbound(zone()) as resolver, self.serving(policy()):
            here = self.here(resolver, there.port)
            queue_id = send(here.port, letter("wrong"), ["demo@sts.test"], sender="joe@here.test")
            delayed = here.wait_event("recipient-delayed", queue_id=queue_id)
        self.assertEqual(delayed["reason"], "mta-sts-failed")
        self.assertEqual(there.events("mail-accepted"), [])

    def test_other_exchanger(self) -> None:
        """Enforced, and the policy does not name the host: it is not even connected to."""
        there = self.there(AUTHORITY.issue("mx.sts.test"))
        with Unbound(zone()) as resolver, self.serving(policy(exchanger="other.sts.test")):
            here = self.here(resolver, there.port)
            sessions = len(there.events("session-opened"))
            queue_id = send(here.port, letter("other"), ["demo@sts.test"], sender="joe@here.test")
            delayed = here.wait_event("recipient-delayed", queue_id=queue_id)
        self.assertEqual(delayed["reason"], "mta-sts-failed")
        self.assertEqual(len(there.events("session-opened")), sessions)

    def test_stripped(self) -> None:
        """Somebody takes STARTTLS away: enforced, nothing goes in the clear (attack T10)."""
        there = self.there(AUTHORITY.issue("mx.sts.test"))
        between = Between(there.port, strip_starttls)
        self.addCleanup(between.close)
        with Unbound(zone()) as resolver, self.serving(policy()):
            here = self.here(resolver, between.port)
            queue_id = send(here.port, letter("stripped"), ["demo@sts.test"], sender="joe@here.test")
            self.assertEqual(here.wait_event("recipient-delayed", queue_id=queue_id)["reason"], "mta-sts-failed")
        self.assertNotIn(b"MAIL", between.said)

    def test_testing(self) -> None:
        """Mode testing: the same failure delays nothing, and is counted for the report."""
        there = self.there(AUTHORITY.issue("mx.sts.test", self_signed=True))
        with Unbound(zone()) as resolver, self.serving(policy("testing")):
            here = self.here(resolver, there.port)
            queue_id = send(here.port, letter("testing"), ["demo@sts.test"], sender="joe@here.test")
            here.wait_event("recipient-relayed", queue_id=queue_id)
            shown = here.command("tls-report", "show", "--json")
        self.assertIn("sts.test", shown)
        self.assertIn("certificate-not-trusted", shown)

    def test_kept(self) -> None:
        """A policy that is known stays in force over a restart, without DNS and without web server."""
        there = self.there(AUTHORITY.issue("mx.sts.test", self_signed=True))
        with Unbound(zone()) as resolver:
            with self.serving(policy()):
                here = self.here(resolver, there.port)
                first = send(here.port, letter("first"), ["demo@sts.test"], sender="joe@here.test")
                here.wait_event("recipient-delayed", queue_id=first, reason="mta-sts-failed")
            self.assertEqual(here.stop(), 0)
        names = zone()["sts.test"]
        lost = {name: names[name] for name in ("sts.test", "mx.sts.test")}
        with Unbound({"sts.test": lost}) as resolver:
            root = here.place / "root.pem"
            here.write(top='relay_from = ["127.0.0.0/8"]', tables=self.settings(resolver, there.port, root))
            here.start()
            second = send(here.port, letter("second"), ["demo@sts.test"], sender="joe@here.test")
            here.wait_event("recipient-delayed", queue_id=second, reason="mta-sts-failed")
        self.assertEqual(there.events("mail-accepted"), [])

    def test_no_policy(self) -> None:
        """The record is there, the web server is not, and no policy is known: mail goes as ever, and the log tells."""
        there = self.there(AUTHORITY.issue("mx.sts.test"))
        with Unbound(zone()) as resolver:
            here = self.here(resolver, there.port)
            queue_id = send(here.port, letter("none"), ["demo@sts.test"], sender="joe@here.test")
            here.wait_event("recipient-relayed", queue_id=queue_id)
            self.assertEqual(here.wait_event("policy-not-fetched")["domain"], "sts.test")
