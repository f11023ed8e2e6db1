"""Tests of twisted_mail_node.inbound.authentication: wrong passwords, guessing, and what stays secret."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

from tests.inbound.receiving import STRANGER, TestReceiver
from tests.inbound.signing import AuthCase, Logged, base64, plain
from tests.smtp.scram_client import ScramUser
from twisted_mail_node.events import (
    CommandRefused,
    SessionClosed,
    SessionOpened,
    SignInFailed,
)
from twisted_mail_node.inbound.authentication import GUESSES, LOGIN_TIME
from twisted_mail_node.inbound.connection import AHEAD_MAX
from twisted_mail_node.inbound.resting import rest
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.sasl import LoginRefused, PasswordLogin

SENTINEL = "sentinel-3f9a"


class FailureTests(AuthCase):
    """Not signing in."""

    def test_wrong_password(self) -> None:
        """535 after a second, for a wrong password and for a name nobody has alike; AUTH may be tried again."""
        peer = self.session()
        for name in ("joe@example.org", "nobody@example.org"):
            self.assertEqual(
                self.answered(peer, plain(name, "wrong")),
                "535 5.7.8 User name or password is wrong; the user name is the whole mail address\r\n",
            )
        session = self.receiver.of(SessionOpened)[0].session
        self.assertEqual(
            self.receiver.of(SignInFailed),
            [
                SignInFailed(session, STRANGER, name, "PLAIN", Reason.WRONG_PASSWORD, 1.0)
                for name in ("joe@example.org", "nobody@example.org")
            ],
        )
        self.assertEqual(self.guessing.counted[0], ("failed", STRANGER, "joe@example.org"))
        self.assertEqual(len(self.guessing.counted), 2)
        self.assertEqual(peer.say(plain())[:3], "235")

    def test_disabled(self) -> None:
        """525, at the same moment."""
        peer = self.session()
        self.assertEqual(self.answered(peer, plain("gone@example.org"))[:10], "525 5.7.13")
        self.assertEqual(self.receiver.of(SignInFailed)[0].reason, Reason.ACCOUNT_DISABLED)

    def test_same_moment(self) -> None:
        """However long the check took; when it took longer than that, at the next whole multiple."""
        self.receiver.factory.answer_time = 2.0
        for took, moment in ((0.0, 2.0), (0.7, 2.0), (1.9, 2.0), (2.5, 4.0), (5.0, 6.0)):
            self.authentication.waiting = []
            peer = self.session()
            peer.say(plain(password="wrong"))
            self.receiver.wait(took)
            self.authentication.waiting.pop().callback(None)
            self.receiver.wait(moment - took - 0.01)
            self.assertEqual(peer.said(), "", took)
            self.receiver.wait(0.02)
            self.assertEqual(peer.said()[:3], "535", took)

    def test_token(self) -> None:
        """The mechanism's own words come at that moment, and 535 once the client has answered them."""
        peer = self.session()
        bearer = base64("n,,\x01auth=Bearer bad\x01\x01")
        for answer in ("AQ==", "", "*"):
            self.assertEqual(
                b64decode(self.answered(peer, f"AUTH OAUTHBEARER {bearer}")[4:]), b'{"status":"invalid_token"}'
            )
            self.assertEqual(peer.say(answer)[:9], "535 5.7.8")
        self.assertEqual(len(self.receiver.of(SignInFailed)), 3)
        self.assertEqual(self.receiver.of(CommandRefused), [])

    def test_scram(self) -> None:
        """A wrong proof: 535, and no signature."""
        peer = self.session()
        user = ScramUser("joe@example.org", "wrong")
        first = b64decode(peer.say(f"AUTH SCRAM-SHA-256 {base64(user.first)}")[4:])
        self.assertEqual(self.answered(peer, base64(user.final(first)))[:9], "535 5.7.8")

    def test_broken(self) -> None:
        """454 and a traceback in the log; nothing is counted against the client."""
        self.authentication.error = OSError("no disk")
        peer = self.session()
        with Logged() as logged:
            self.assertEqual(
                self.answered(peer, plain()), "454 4.7.0 Passwords cannot be checked now; try again later\r\n"
            )
        self.assertIn("OSError: no disk", logged.text)
        self.assertIn("in login", logged.text)
        self.assertEqual(self.guessing.counted, [])
        self.assertEqual(self.receiver.of(SignInFailed)[0].reason, Reason.SIGN_IN_FAILED)
        self.authentication.error = None
        self.assertEqual(peer.say(plain())[:3], "235")

    def test_cannot_be_checked(self) -> None:
        """The directory may say so itself."""
        self.authentication.error = LoginRefused(Reason.SIGN_IN_FAILED)
        self.assertEqual(self.answered(self.session(), plain())[:9], "454 4.7.0")
        self.assertEqual(self.guessing.counted, [])

    def test_too_slow(self) -> None:
        """A check that takes for ever is given up."""
        self.authentication.waiting = []
        peer = self.session()
        peer.say(plain())
        with Logged() as logged:
            self.receiver.wait(LOGIN_TIME + 1)
        self.assertEqual(peer.said()[:9], "454 4.7.0")
        self.assertIn("DeadlineError", logged.text)

    def test_five_wrong_passwords(self) -> None:
        """The fifth is the last of the session, whatever stands between them."""
        peer = self.session()
        for _ in range(GUESSES - 1):
            self.assertEqual(self.answered(peer, plain(password="wrong"))[:3], "535")
            peer.say("EHLO c")
        said = self.answered(peer, plain(password="wrong"))
        self.assertEqual([line[:3] for line in said.splitlines()], ["535", "421"])
        self.assertTrue(peer.closed)
        self.assertEqual(self.receiver.of(SessionClosed)[0].reason, Reason.TOO_MANY_GUESSES)

    def test_errors_count(self) -> None:
        """Each is an error of the session."""
        self.receiver = TestReceiver(kind="submission", tls_mode="implicit", errors=3)
        peer = self.session()
        self.assertEqual(peer.say("AUTH PLAIN !")[:3], "501")
        self.assertEqual(self.answered(peer, plain(password="wrong"))[:3], "535")
        self.assertIn("421 4.7.0", self.answered(peer, plain(password="wrong")))

    def test_long_name(self) -> None:
        """An event keeps a name short."""
        peer = self.session()
        self.answered(peer, plain("j" * 500, "wrong"))
        name = self.receiver.of(SignInFailed)[0].name
        self.assertEqual(name, "j" * 320)


class GuessingTests(AuthCase):
    """Who guesses waits."""

    def test_delay(self) -> None:
        """The password is not looked at before; other sessions go on meanwhile, and a right one is taken then."""
        self.guessing.delays = 7.0
        peer, other = self.session(), self.session()
        self.assertEqual(peer.say(plain()), "")
        self.receiver.wait(6.9)
        self.assertEqual((peer.said(), self.authentication.logins), ("", []))
        self.assertEqual(other.say("NOOP")[:3], "250")
        self.receiver.wait(0.2)
        self.assertEqual(peer.said()[:3], "235")

    def test_delay_counts(self) -> None:
        """A wrong one is answered its time after the delay, and the event tells how long it took in all."""
        self.guessing.delays = 7.0
        self.assertEqual(self.answered(self.session(), plain(password="wrong"), seconds=8.0)[:3], "535")
        self.assertEqual(self.receiver.of(SignInFailed)[0].seconds, 8.0)

    def test_refused(self) -> None:
        """454 at once: nothing was looked at."""
        self.guessing.refused = 29.5
        self.assertEqual(
            self.session().say(plain()),
            "454 4.7.0 Too many wrong passwords from your address; wait 30 seconds and try again\r\n",
        )
        self.assertEqual(self.authentication.logins, [])
        self.assertEqual(self.receiver.of(SignInFailed)[0].reason, Reason.TOO_MANY_GUESSES)

    def test_vanishes_in_delay(self) -> None:
        """The connection goes: nothing is left waiting, and the password is not looked at."""
        self.guessing.delays = 7.0
        peer = self.session()
        peer.say(plain())
        peer.vanish()
        self.assertEqual(self.receiver.connections, 0)
        self.receiver.wait(20)
        self.assertEqual((self.authentication.logins, self.guessing.counted), ([], []))
        self.assertEqual(self.receiver.clock.getDelayedCalls(), [])

    def test_vanishes_in_check(self) -> None:
        """The connection goes while the password is compared: a wrong one counts all the same."""
        self.authentication.waiting = []
        peer = self.session()
        peer.say(plain(password="wrong"))
        peer.vanish()
        self.authentication.waiting.pop().callback(None)
        self.assertEqual(self.guessing.counted, [("failed", STRANGER, "joe@example.org")])
        self.assertEqual(len(self.receiver.of(SignInFailed)), 1)
        self.receiver.wait(5)
        self.assertEqual((self.receiver.connections, self.receiver.clock.getDelayedCalls()), (0, []))

    def test_vanishes_before_answer(self) -> None:
        """The connection goes before the answer: it had counted already."""
        peer = self.session()
        peer.say(plain(password="wrong"))
        peer.vanish()
        self.receiver.wait(5)
        self.assertEqual(len(self.guessing.counted), 1)
        self.assertEqual(self.receiver.clock.getDelayedCalls(), [])

    def test_talks_meanwhile(self) -> None:
        """What the client says while it waits does not shorten the wait, and is kept within a bound."""
        peer = self.session()
        peer.say(plain(password="wrong"))
        for _ in range(10):
            peer.send(b"NOOP\r\n")
        peer.send(b"NOOP".ljust(AHEAD_MAX) + b"\r\n")
        self.assertEqual(peer.wire.producerState, "paused")
        self.assertEqual(peer.said(), "")
        self.receiver.wait(1)
        self.assertEqual(peer.codes()[:11], [535] + [250] * 10)
        self.assertEqual(peer.wire.producerState, "producing")

    def test_node_stops(self) -> None:
        """Who waits is sent away at once when the node stops."""
        self.guessing.delays = 7.0
        peer = self.session()
        peer.say(plain())
        done = self.receiver.factory.stop(10)
        self.assertEqual(peer.said()[:3], "421")
        peer.settle()
        self.successResultOf(done)

    def test_rest_after_the_end(self) -> None:
        """A session that is over does not begin to rest: nobody would wake it."""
        peer = self.session()
        peer.vanish()
        connection: Any = peer.protocol
        with self.assertRaises(Exception) as caught:
            rest(connection, 5.0).send(None)
        self.assertEqual(str(caught.exception), "connection-lost")


class SecretTests(AuthCase):
    """T40: a password is nowhere but where it is compared."""

    def test_sentinel(self) -> None:
        """Not in an event, a reply or the log, however the exchange ends."""
        secret = base64(SENTINEL)
        dialogues = (
            [plain(password=SENTINEL)],
            [plain("gone@example.org", SENTINEL)],
            ["AUTH LOGIN", base64("joe@example.org"), secret],
            ["AUTH LOGIN", base64("joe@example.org"), secret[:-1]],
            [f"AUTH PLAIN {base64(SENTINEL)}"],
            [f"AUTH {secret}"],
            [f"AUTH CRAM-MD5 {secret}", secret],
            ["AUTH CRAM-MD5", secret, SENTINEL],
            [f"AUTH XOAUTH2 {base64(f'user=joe{chr(1)}auth=Bearer {SENTINEL}{chr(1)}{chr(1)}')}", ""],
            [f"AUTH XOAUTH2 {base64(f'user=joe{chr(1)}auth=Bearer {SENTINEL}')}"],
        )
        for error in (None, RuntimeError(f"{SENTINEL}!"), LoginRefused(Reason.ACCOUNT_DISABLED, "gone@example.org")):
            self.authentication.error = error
            for lines in dialogues:
                with Logged() as logged:
                    peer = self.session()
                    for line in lines:
                        peer.say(line)
                        self.receiver.wait(1)
                        self.clean(peer.said())
                    peer.vanish()
                self.clean(logged.text)
                self.clean(repr(self.receiver.events))
        looked_at = [login.password for login in self.authentication.logins if isinstance(login, PasswordLogin)]
        self.assertIn(SENTINEL, looked_at)

    def test_before_tls(self) -> None:
        """A client that goes on with its password where AUTH was refused: the unknown command is not named."""
        peer = self.receiver.connect()
        peer.say("EHLO c")
        peer.say("AUTH LOGIN", base64("joe"), base64(SENTINEL))
        self.clean(repr(self.receiver.events))
        self.assertEqual([event.command for event in self.receiver.of(CommandRefused)], ["AUTH", "", ""])

    def test_exception_is_shown(self) -> None:
        """What an exception says is in the log, unless it holds the secret."""
        for words, shown in (("no route to host", True), (f"'{SENTINEL}' is bad", False)):
            self.authentication.error = RuntimeError(words)
            with Logged() as logged:
                self.answered(self.session(), plain(password=SENTINEL))
            self.assertEqual(words in logged.text, shown)
            self.assertIn("RuntimeError", logged.text)

    def clean(self, text: str) -> None:
        """Nothing of the password is in a text."""
        for piece in (SENTINEL, base64(SENTINEL)[:12], base64(f"\0{SENTINEL}")[4:12], base64(f"\0\0{SENTINEL}")[4:12]):
            self.assertNotIn(piece.lower(), text.lower())
