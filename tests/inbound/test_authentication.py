"""Tests of twisted_mail_node.inbound.authentication: signing in, where it may be, and what is malformed."""

from __future__ import annotations

from base64 import b64decode

from twisted.trial.unittest import SynchronousTestCase

from tests.inbound.receiving import STRANGER, TestReceiver
from tests.inbound.secured import BINDING
from tests.inbound.signing import AuthCase, base64, plain
from tests.smtp.scram_client import ScramUser
from twisted_mail_node.events import (
    CommandRefused,
    MailAccepted,
    SessionClosed,
    SessionOpened,
    SignedIn,
)
from twisted_mail_node.reasons import Reason


class SuccessTests(AuthCase):
    """Signing in."""

    def test_plain(self) -> None:
        """235 at once; the session keeps its EHLO, and its mails say who sent them."""
        peer = self.session()
        self.assertEqual(peer.say(plain()), "235 2.7.0 You have signed in\r\n")
        session = self.receiver.of(SessionOpened)[0].session
        self.assertEqual(self.receiver.of(SignedIn), [SignedIn(session, STRANGER, "joe@example.org", "PLAIN")])
        self.assertEqual(self.guessing.counted, [("succeeded", STRANGER, "joe@example.org")])
        peer.say("MAIL FROM:<joe@example.org>", "RCPT TO:<far@elsewhere.example>", "DATA")
        self.assertEqual(peer.say("From: joe@example.org", "Subject: x", "", "text", ".")[:3], "250")
        (event,) = self.receiver.of(MailAccepted)
        self.assertEqual(event.protocol, "ESMTPSA")

    def test_every_mechanism(self) -> None:
        """Each leads to the same."""
        bearer = "n,a=joe@example.org,\x01auth=Bearer dG9rZW4.good-1\x01\x01"
        for lines in (
            [plain()],
            ["AUTH PLAIN", plain()[11:]],
            ["auth login", base64("joe@example.org"), base64("secret")],
            [f"AUTH LOGIN {base64('joe@example.org')}", base64("secret")],
            ["AUTH EXTERNAL ="],
            ["AUTH EXTERNAL", ""],
            [f"AUTH EXTERNAL {base64('joe@example.org')}"],
            [f"AUTH OAUTHBEARER {base64(bearer)}"],
            [f"AUTH XOAUTH2 {base64('user=joe@example.org' + bearer[20:])}"],
        ):
            peer = self.session()
            for line in lines[:-1]:
                self.assertEqual(peer.say(line)[:4], "334 ", line)
            self.assertEqual(peer.say(lines[-1])[:9], "235 2.7.0", lines)
        self.assertEqual({event.account for event in self.receiver.of(SignedIn)}, {"joe@example.org"})

    def test_scram(self) -> None:
        """The server's signature is a challenge; only the client's answer to it makes 235 (RFC 4954 section 4)."""
        for hash_name in ("SHA-256", "SHA-1"):
            for binding in (None, BINDING):
                peer = self.session()
                user = ScramUser("ann@example.org", "pässwörd, =", hash_name, binding=binding)
                mechanism = f"SCRAM-{hash_name}{'-PLUS' if binding else ''}"
                first = b64decode(peer.say(f"AUTH {mechanism} {base64(user.first)}")[4:])
                last = b64decode(peer.say(base64(user.final(first)))[4:])
                self.assertTrue(user.believes(last))
                self.assertEqual(self.receiver.of(SignedIn), [])
                self.assertEqual(peer.say("")[:3], "235")
                self.assertEqual(self.receiver.of(SignedIn).pop().mechanism, mechanism)
                self.receiver.events.clear()

    def test_scram_given_up(self) -> None:
        """A client that does not believe the server says so, and has not signed in."""
        peer = self.session()
        user = ScramUser("joe@example.org", "secret")
        first = b64decode(peer.say(f"AUTH SCRAM-SHA-256 {base64(user.first)}")[4:])
        peer.say(base64(user.final(first)))
        self.assertEqual(peer.say("*")[:9], "501 5.7.0")
        self.assertEqual(self.receiver.of(SignedIn), [])
        self.assertEqual(peer.say("MAIL FROM:<joe@example.org>")[:3], "530")
        self.assertEqual(self.guessing.counted, [])

    def test_once(self) -> None:
        """Then never again in the session (RFC 4954 section 4), also after EHLO."""
        peer = self.session()
        peer.say(plain())
        self.assertEqual(peer.say(plain())[:9], "503 5.5.1")
        peer.say("EHLO c")
        self.assertEqual(peer.say(plain("ann@example.org"))[:9], "503 5.5.1")
        self.assertEqual(len(self.authentication.logins), 1)

    def test_errors_are_forgiven(self) -> None:
        """Who has signed in may err anew."""
        peer = self.session()
        limit = self.receiver.limits.errors
        for _ in range(limit - 1):
            peer.say("FOO")
        peer.say(plain())
        for _ in range(limit - 1):
            self.assertEqual(peer.say("FOO")[:3], "500")

    def test_pipelined(self) -> None:
        """What follows AUTH with its initial response is answered in order."""
        peer = self.session()
        peer.say(plain(), "MAIL FROM:<joe@example.org>", "NOOP")
        self.assertEqual(len(self.authentication.logins), 1)
        peer = self.session()
        self.assertEqual(
            [int(line[:3]) for line in peer.say(plain(), "MAIL FROM:<joe@example.org>", "NOOP").splitlines()],
            [235, 250, 250],
        )


class MalformedTests(AuthCase):
    """What ends an exchange before anybody is asked who this is; each ends it, and nothing else."""

    def refused(self, *lines: str) -> str:
        """The reply to the last line; the session goes on, and AUTH can be tried again."""
        peer = self.session()
        for line in lines[:-1]:
            self.assertEqual(peer.say(line)[:4], "334 ")
        said = peer.say(lines[-1])
        self.assertEqual(self.authentication.logins, [])
        self.assertEqual(peer.say("NOOP", plain()).splitlines()[1][:3], "235")
        (event,) = self.receiver.of(CommandRefused)
        self.assertEqual((event.command, f"{event.reply}\r\n"), ("AUTH", said))
        self.receiver.events.clear()
        self.authentication.logins.clear()
        return said

    def test_responses(self) -> None:
        """Cancelled, no base64, too long, malformed for its mechanism."""
        for lines, reply in (
            (["AUTH PLAIN", "*"], "501 5.7.0 AUTH is cancelled"),
            (["AUTH LOGIN", "*"], "501 5.7.0"),
            (["AUTH LOGIN", base64("joe"), "*"], "501 5.7.0"),
            (["AUTH PLAIN", "!"], "501 5.5.2 This is not base64"),
            (["AUTH PLAIN", "AAA"], "501 5.5.2"),
            (["AUTH PLAIN", "=AAA"], "501 5.5.2"),
            (["AUTH PLAIN", "AAA=BBB="], "501 5.5.2"),
            (["AUTH PLAIN", "AAAA AAAA"], "501 5.5.2"),
            (["AUTH PLAIN", "ÄÄÄÄ"], "501 5.5.2"),
            (["AUTH PLAIN", "="], "501 5.5.2"),
            (["AUTH PLAIN", "**"], "501 5.5.2"),
            (["AUTH PLAIN !"], "501 5.5.2"),
            (["AUTH PLAIN =AAA"], "501 5.5.2"),
            (["AUTH PLAIN ="], "501 5.5.2 PLAIN takes an identity"),
            (["AUTH PLAIN", ""], "501 5.5.2 PLAIN takes an identity"),
            ([f"AUTH PLAIN {base64('ann' + chr(0) + 'joe' + chr(0) + 'x')}"], "501 5.5.2 Nobody signs in for another"),
            (["AUTH LOGIN", ""], "501 5.5.2 The name is empty"),
            (["AUTH LOGIN", base64("joe"), ""], "501 5.5.2 The password is empty"),
            (["AUTH PLAIN", "A" * 12289], "500 5.5.6"),
            (["AUTH"], "501 5.5.4"),
            (["AUTH PLAIN AAAA AAAA"], "501 5.5.4"),
        ):
            self.assertTrue(self.refused(*lines).startswith(reply), (lines, reply))

    def test_long_command(self) -> None:
        """AUTH itself may be as long as a response, and no longer."""
        peer = self.session()
        self.assertEqual(peer.say("AUTH PLAIN " + "A" * 12276)[:9], "501 5.5.2")
        self.assertEqual(peer.say("AUTH PLAIN " + "A" * 12280)[:9], "500 5.5.2")
        self.assertEqual(peer.say(plain())[:3], "235")

    def test_unknown_mechanism(self) -> None:
        """504 names those that are offered, whatever we know besides."""
        self.authentication.offered = ("SCRAM-SHA-256", "PLAIN")
        for mechanism in ("CRAM-MD5", "LOGIN", "GSSAPI", "A" * 20):
            self.assertEqual(
                self.refused(f"AUTH {mechanism} ="),
                "504 5.5.4 Not a mechanism here; offered are SCRAM-SHA-256 PLAIN\r\n",
            )
        self.assertEqual(self.refused("AUTH PLAIN!")[:9], "501 5.5.4")

    def test_without_end(self) -> None:
        """A response without an end: 421, and the session is over."""
        peer = self.session()
        peer.say("AUTH PLAIN")
        peer.send(b"A" * 200_000)
        self.assertEqual(peer.said()[:3], "421")
        self.assertTrue(peer.closed)

    def test_no_response(self) -> None:
        """No response comes: the command's time-out holds, and the session ends."""
        peer = self.session()
        peer.say("AUTH PLAIN")
        self.receiver.wait(self.receiver.limits.command_time + 2)
        self.assertEqual(peer.said()[:9], "421 4.4.2")
        self.assertEqual(self.receiver.of(SessionClosed)[0].reason, Reason.TIMEOUT)

    def test_vanishes(self) -> None:
        """The client goes instead of responding."""
        peer = self.session()
        peer.say("AUTH LOGIN")
        peer.vanish()
        self.assertEqual(self.receiver.connections, 0)


class PlaceTests(SynchronousTestCase):
    """Where AUTH is offered."""

    def test_before_tls(self) -> None:
        """538 on submission, and not announced; the password of who says it all the same is not looked at."""
        receiver = TestReceiver(kind="submission", tls_mode="starttls")
        peer = receiver.connect()
        self.assertNotIn("AUTH", peer.say("EHLO c"))
        self.assertEqual(peer.say(plain())[:10], "538 5.7.11")
        self.assertEqual(receiver.authentication.logins, [])

    def test_mx(self) -> None:
        """502 on mx, with TLS and without."""
        receiver = TestReceiver(tls_mode="starttls")
        self.assertEqual(receiver.session().say(plain())[:9], "502 5.5.1")
        peer = receiver.secured()
        self.assertEqual(peer.say(plain())[:9], "502 5.5.1")

    def test_without_tls_at_all(self) -> None:
        """502 where no TLS can be had."""
        receiver = TestReceiver(kind="submission")
        self.assertEqual(receiver.session().say(plain())[:9], "502 5.5.1")

    def test_announced(self) -> None:
        """Under TLS, in the directory's order."""
        receiver = TestReceiver(kind="submission", tls_mode="implicit")
        peer = receiver.connect()
        peer.secure()
        receiver.authentication.offered = ("PLAIN", "LOGIN")
        self.assertIn("250-AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 ", peer.say("EHLO c"))

    def test_in_a_transaction(self) -> None:
        """503 (RFC 4954 section 4); the transaction goes on."""
        receiver = TestReceiver(kind="submission", tls_mode="implicit", relay_from=[f"{STRANGER}/32"])
        peer = receiver.secured("MAIL FROM:<joe@example.org>")
        peer.said()
        self.assertEqual(peer.say(plain())[:9], "503 5.5.1")
