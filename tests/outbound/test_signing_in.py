"""Tests of twisted_mail_node.outbound.signing_in and sign_ins: who gets the password, how, and what is told of it."""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.outbound.remote import Host, Node, Resolver, takes
from tests.threads import ThreadsAtOnce
from twisted_mail_node.dns.exchangers import NoExchanger
from twisted_mail_node.message.status import Action, DeliveryStatus
from twisted_mail_node.outbound.sign_ins import SignIns, read_password
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import RouteRule, TlsLevel
from twisted_mail_node.smtp.mechanisms import exchange
from twisted_mail_node.smtp.sasl import Challenge, ScramKeys, ScramLogin
from twisted_mail_node.smtp.scram import keys_of, server_signature

PASSWORD = "hunter2 Geheim"
HOP = "[smart.example.net]:587"
PLAIN = b64encode(b"\0joe\0" + PASSWORD.encode()).decode()
NAMES = Resolver({("smart.example.net", "A"): ("192.0.2.9",)})


class SignInTest(SynchronousTestCase):
    """A route with a name and a password."""

    def setUp(self) -> None:
        self.state_dir = Path(self.mktemp())
        self.state_dir.mkdir()
        self.file = self.state_dir / "password"
        self.write(PASSWORD + "\n")
        self.logged: list[Any] = []
        observer = cast("Any", self.logged.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def write(self, text: str, mode: int = 0o600) -> None:
        self.file.write_text(text)
        self.file.chmod(mode)

    def rule(self, tls: TlsLevel = "opportunistic", hop: str = HOP, **more: Any) -> RouteRule:
        return RouteRule(next_hop=hop, tls=tls, username="joe", password_file="password", **more)

    def start(self, tls: TlsLevel = "opportunistic", hop: str = HOP, **more: Any) -> Node:
        """A node with such a route, and a mail on its way there."""
        sign_ins = SignIns([self.rule(tls, hop)], self.state_dir, ThreadsAtOnce())
        node = Node(NAMES, {"sign_ins": sign_ins}, **more)
        self.sent = node.send(next_hop=hop, level=tls, way={"credentials": "route[1]"})
        self.node = node
        return node

    def status(self) -> DeliveryStatus:
        """What the mail came to; the password is nowhere to be seen."""
        (status,) = self.successResultOf(self.sent)
        self.assert_secret(self.node)
        return status

    def assert_secret(self, node: Node) -> None:
        """T40."""
        shown = [*map(repr, node.events), repr(self.sent), repr(node.relay.status()), *map(repr, self.logged)]
        shown += [repr(vars(pool)) for pool in node.relay._pools.values()]
        for text in shown:
            for secret in (PASSWORD, b64encode(PASSWORD.encode()).decode().rstrip("="), PLAIN.rstrip("=")):
                self.assertNotIn(secret, text)

    def refused(self, words: str, status: str = "4.7.0") -> None:
        """The mail waits, the operator reads why, and no word of the mail was said."""
        found = self.status()
        self.assertEqual(found[:3], (Action.DELAYED, status, Reason.SIGN_IN_REFUSED))
        self.assertIn(words, found.words)
        for host in self.node.hosts:
            self.assertNotIn(b"MAIL FROM", host.transport.all_written)


class PasswordTests(SignInTest):
    """Who gets the password itself."""

    def test_verified(self) -> None:
        """PLAIN over TLS with a good certificate, then the mail."""
        host = self.start().hosts[0]
        self.assertEqual((host.ip, host.port), ("192.0.2.9", 587))
        self.assertEqual(host.secures("AUTH PLAIN LOGIN", "PIPELINING"), f"AUTH PLAIN {PLAIN}\r\n".encode())
        self.assertIn(b"MAIL FROM:<ann@example.org>", host.says("235 2.7.0 welcome"))
        takes(host)
        self.assertIs(self.status().action, Action.RELAYED)

    def test_once_a_connection(self) -> None:
        """The next mail on the connection needs no sign-in."""
        node = self.start()
        host = node.hosts[0]
        host.secures("AUTH PLAIN", "PIPELINING")
        host.says("235 ok")
        takes(host)
        host.heard()
        node.send(next_hop=HOP, way={"credentials": "route[1]"})
        self.assertTrue(host.heard().startswith(b"MAIL"))

    def test_own_connections(self) -> None:
        """Mail without credentials does not use the connection of who signed in."""
        node = self.start()
        node.hosts[0].secures("AUTH PLAIN", "PIPELINING")
        node.hosts[0].says("235 ok")
        takes(node.hosts[0])
        node.send(next_hop=HOP)
        self.assertEqual(len(node.hosts), 2)

    def test_login(self) -> None:
        """LOGIN, also with servers that ask in clear words."""
        for questions in (("VXNlcm5hbWU6", "UGFzc3dvcmQ6"), ("Username:", "Password:")):
            host = self.start().hosts[0]
            self.assertEqual(host.secures("AUTH LOGIN"), b"AUTH LOGIN\r\n")
            self.assertEqual(host.says(f"334 {questions[0]}"), b64encode(b"joe") + b"\r\n")
            self.assertEqual(host.says(f"334 {questions[1]}"), b64encode(PASSWORD.encode()) + b"\r\n")
            self.assertIn(b"MAIL", host.says("235 ok"))

    def test_not_verified(self) -> None:
        """A host whose certificate is not good does not get it; the words say what an operator may do."""
        host = self.start().hosts[0]
        self.assertEqual(host.secures("AUTH PLAIN LOGIN", why="it is self-signed"), b"QUIT\r\n")
        host.says("221 bye")
        self.refused(
            'is not good: it is self-signed; if it is to have it all the same, let route[1] say tls = "required"'
        )

    def test_required(self) -> None:
        """... but where the route says tls = "required" it does."""
        host = self.start("required").hosts[0]
        self.assertEqual(host.secures("AUTH PLAIN", why="it is self-signed")[:10], b"AUTH PLAIN")

    def test_no_tls(self) -> None:
        """A host without STARTTLS gets nothing, whatever it offers, and nothing is tried in the clear."""
        node = self.start()
        self.assertEqual(node.hosts[0].greets("AUTH PLAIN"), b"QUIT\r\n")
        node.hosts[0].says("221 bye")
        status = self.status()
        self.assertEqual((status.action, status.reason), (Action.DELAYED, Reason.TLS_FAILED))
        self.assertIn("route[1] signs in at smart.example.net, and a password goes over TLS only", status.words)
        self.assertEqual(len(node.hosts), 1)

    def test_broken_tls(self) -> None:
        """A handshake that breaks is no reason to go on in the clear, now or within the next minutes."""
        node = self.start()
        node.hosts[0].offers_tls()
        node.hosts[0].closes()
        self.assertIs(self.status().reason, Reason.TLS_FAILED)
        node.send(next_hop=HOP, way={"credentials": "route[1]"})
        self.assertEqual(node.hosts[1].greets("STARTTLS", "AUTH PLAIN"), b"STARTTLS\r\n")

    def test_none(self) -> None:
        """A route with tls = "none" says no password to another machine."""
        host = self.start("none").hosts[0]
        self.assertEqual(host.greets("STARTTLS", "AUTH PLAIN"), b"QUIT\r\n")
        host.says("221 bye")
        self.refused('let the rule say tls = "verified"')

    def test_this_machine(self) -> None:
        """To a loopback address it goes in the clear."""
        host = self.start(hop="[127.0.0.1]:587").hosts[0]
        self.assertIn(b"AUTH PLAIN", host.greets("AUTH PLAIN"))


class ScramTests(SignInTest):
    """SCRAM on the wire."""

    def talk(self, host: Host, first: bytes, kept: str = PASSWORD) -> bytes:
        """Our server's side answers; gives what the client writes after the server's last words."""
        verb, mechanism, initial = first.split()
        self.assertEqual(verb, b"AUTH")
        steps = exchange(mechanism.decode(), b64decode(initial), None, ())
        reply: Any = None
        said = b""
        try:
            while True:
                wanted = steps.send(reply)
                if isinstance(wanted, Challenge):
                    said = host.says(f"334 {b64encode(wanted.octets).decode()}")
                    if said.startswith(b"QUIT") or not said:
                        return said
                    reply = b64decode(said)
                elif isinstance(wanted, ScramKeys):
                    reply = (b"salt", 4096)
                else:
                    assert isinstance(wanted, ScramLogin)
                    keys = keys_of(kept, b"salt", 4096, wanted.hash_name)
                    signature = server_signature(*keys, wanted.message, wanted.proof, wanted.hash_name)
                    wanted.signed.append(signature or b"x" * 32)
                    reply = wanted.name
        except StopIteration:
            return host.says("235 2.7.0 welcome")

    def test_not_verified(self) -> None:
        """SCRAM needs no good certificate, for it does not say the password; it is taken before PLAIN."""
        host = self.start().hosts[0]
        first = host.secures("AUTH PLAIN SCRAM-SHA-256", why="it is self-signed")
        self.assertTrue(first.startswith(b"AUTH SCRAM-SHA-256 "))
        self.assertIn(b"MAIL", self.talk(host, first))
        self.assertNotIn(PASSWORD.encode(), host.transport.all_written)

    def test_does_not_know_the_password(self) -> None:
        """A host that cannot show that it knows the password gets no mail, though it says yes."""
        host = self.start().hosts[0]
        first = host.secures("AUTH SCRAM-SHA-256")
        self.assertEqual(self.talk(host, first, kept="another"), b"")
        self.assertTrue(host.transport.aborted)
        self.refused("could not prove that it knows the password")

    def test_yes_too_soon(self) -> None:
        """... nor does one that says yes before it has shown anything."""
        host = self.start().hosts[0]
        host.secures("AUTH SCRAM-SHA-256")
        host.says("235 2.7.0 welcome")
        self.refused("said yes before it had shown that it knows the password")


class RefusalTests(SignInTest):
    """Hosts that do not sign us in."""

    def test_wrong_password(self) -> None:
        """535 is a delay with words for the operator, not a bounce, and no other mechanism is tried; a host that
        repeats the password does not get it into our log."""
        node = self.start()
        host = node.hosts[0]
        host.secures("AUTH PLAIN LOGIN")
        self.assertEqual(host.says(f"535 5.7.8 no such user, or {PASSWORD} ({PLAIN}) is wrong"), b"QUIT\r\n")
        host.says("221 bye")
        self.refused(
            "refused to sign joe in (PLAIN): 535 5.7.8 no such user, or *** (***) is wrong; see route[1]", "4.7.8"
        )
        self.assertEqual([event.reason for event in node.failed], ["sign-in-refused"])

    def test_echo(self) -> None:
        """A host that repeats the password as it closes the connection, or with what is no reply, does not get it into
        our log either."""
        for said, words in (
            (f"421 4.7.0 too often: {PLAIN}", "421 4.7.0 too often: ***"),
            (PLAIN, "what the host said to AUTH is no reply"),
            (f"334-{PLAIN}\r\n235 {PLAIN}", "what the host said to AUTH is no reply"),
        ):
            host = self.start().hosts[0]
            host.secures("AUTH PLAIN")
            host.says(said)
            self.assertIn(words, self.status().words)

    def test_not_now(self) -> None:
        """454 is a delay, too."""
        host = self.start().hosts[0]
        host.secures("AUTH PLAIN LOGIN")
        host.says("454 4.7.0 the directory is down")
        host.says("221 bye")
        self.refused("the directory is down")

    def test_other_mechanism(self) -> None:
        """A mechanism that is offered and refused for another reason is followed by the next."""
        host = self.start().hosts[0]
        host.secures("AUTH PLAIN LOGIN")
        self.assertEqual(host.says("504 5.5.4 not implemented"), b"AUTH LOGIN\r\n")
        host.says("504 5.5.4 not implemented")
        host.says("221 bye")
        self.refused("(LOGIN): 504", "4.5.4")

    def test_no_auth(self) -> None:
        """A host that does not offer AUTH is told of as such; so is one with nothing that we know."""
        for offer, words in (
            ((), "does not offer AUTH, and route[1] has a name"),
            (("AUTH",), "does not offer AUTH"),
            (("AUTH CRAM-MD5 GSSAPI",), "no mechanism that we know: CRAM-MD5 GSSAPI"),
        ):
            host = self.start().hosts[0]
            self.assertEqual(host.secures(*offer), b"QUIT\r\n")
            host.says("221 bye")
            self.refused(words)

    def test_odd_hosts(self) -> None:
        """A host that asks on and on, says nonsense, or nothing (T21): a delay."""
        for lines, words in (
            (("334 ", "334 "), "asks for more than PLAIN says"),
            (("334 !",), "its challenge is not base64"),
            (("354 go on",), "it answered with 354"),
        ):
            host = self.start().hosts[0]
            host.secures("AUTH PLAIN")
            for line in lines:
                host.says(line)
                if host.transport.aborted:
                    break
            self.refused(words)
        node = self.start()
        node.hosts[0].secures("AUTH PLAIN")
        node.reactor.advance(120.0)
        self.assertIs(self.status().reason, Reason.REMOTE_TIMEOUT)

    def test_long_name(self) -> None:
        """An initial response that makes the command too long goes by itself (RFC 4954 section 4)."""
        self.write("x" * 600)
        host = self.start().hosts[0]
        self.assertEqual(host.secures("AUTH PLAIN"), b"AUTH PLAIN\r\n")
        said = host.says("334 ")
        self.assertEqual(b64decode(said), b"\0joe\0" + b"x" * 600)
        self.assertIn(b"MAIL", host.says("235 ok"))


class FileTests(SignInTest):
    """The password's file."""

    def find(self, sign_ins: SignIns, rule: str = "route[1]", hop: str = HOP) -> Deferred[Any]:
        return Deferred.fromCoroutine(sign_ins.find(rule, hop))

    def test_read(self) -> None:
        """The one line of the file, below the state directory; the line's end is not part of it, spaces are."""
        for text in (PASSWORD, PASSWORD + "\n", PASSWORD + "\r\n"):
            self.write(text)
            self.assertEqual(read_password(self.file)[0], PASSWORD)
        self.write(" spaces \n")
        self.assertEqual(read_password(self.file)[0], " spaces ")

    def test_refused(self) -> None:
        """A file that others can read, that is not there, or holds no line is refused at the start, and not shown."""
        for text, mode, words in (
            (PASSWORD, 0o604, "others can read"),
            (PASSWORD, 0o602, "others can read"),
            ("", 0o600, "does not hold one line"),
            ("\n", 0o600, "does not hold one line"),
            (f"{PASSWORD}\nsecond\n", 0o600, "does not hold one line"),
            ("x" * 2000, 0o600, "does not hold one line"),
            ("a\0b", 0o600, "does not hold one line"),
        ):
            self.write(text, mode)
            with self.assertRaisesRegex(ValueError, words) as caught:
                SignIns([RouteRule(), self.rule()], self.state_dir, ThreadsAtOnce())
            self.assertIn("route[2]: ", str(caught.exception))
            self.assertNotIn(PASSWORD, str(caught.exception))
        self.file.unlink()
        with self.assertRaisesRegex(ValueError, "cannot be read"):
            SignIns([self.rule()], self.state_dir, ThreadsAtOnce())
        self.file.write_bytes(b"\xff\n")
        self.file.chmod(0o600)
        with self.assertRaisesRegex(ValueError, "can be a password"):
            SignIns([self.rule()], self.state_dir, ThreadsAtOnce())

    def test_changed(self) -> None:
        """A file that has changed is read again; one that has become unreadable meanwhile is a delay."""
        sign_ins = SignIns([self.rule()], self.state_dir, ThreadsAtOnce())
        self.assertEqual(self.successResultOf(self.find(sign_ins)).password, PASSWORD)
        self.write("another")
        os.utime(self.file, ns=(1, 1))
        self.assertEqual(self.successResultOf(self.find(sign_ins)).password, "another")
        self.file.chmod(0o644)
        error = self.failureResultOf(self.find(sign_ins), NoExchanger).value
        self.assertEqual((error.reason, error.permanent), (Reason.SIGN_IN_REFUSED, False))
        self.assertIn("others can read", error.words)
        self.file.unlink()
        self.assertIn("cannot be read", self.failureResultOf(self.find(sign_ins), NoExchanger).value.words)

    def test_other_next_hop(self) -> None:
        """After a reload the rule of that number may be another's: its password goes to its own next hop only."""
        sign_ins = SignIns([self.rule()], self.state_dir, ThreadsAtOnce())
        sign_ins.reload(SignIns([self.rule(hop="[evil.example]:587")], self.state_dir, ThreadsAtOnce()))
        self.assertIn("any more", self.failureResultOf(self.find(sign_ins), NoExchanger).value.words)
        self.assertIn("any more", self.failureResultOf(self.find(sign_ins, "route[7]"), NoExchanger).value.words)

    def test_delay(self) -> None:
        """Without the password the mail waits, and nobody is connected to."""
        node = self.start()
        node.hosts[0].closes()
        self.file.chmod(0o644)
        self.sent = node.send(next_hop=HOP, way={"credentials": "route[1]"})
        self.refused("route[1]: others can read")
        self.assertEqual(len(node.hosts), 1)

    def test_renewed(self) -> None:
        """When the settings have changed, connections that are signed in end."""
        node = self.start()
        host = node.hosts[0]
        host.secures("AUTH PLAIN", "PIPELINING")
        host.says("235 ok")
        takes(host)
        host.heard()
        node.relay.renew()
        self.assertEqual(host.heard(), b"QUIT\r\n")
