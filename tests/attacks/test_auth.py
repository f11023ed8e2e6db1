"""Attacks on AUTH (T22, T33): who may say it, what it may hold, and what guessing brings."""

from __future__ import annotations

from base64 import b64decode, b64encode

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.attacks.wire import Sender, cuts_of, in_any_packets
from tests.inbound.receiving import Peer, TestReceiver
from tests.inbound.secured import BINDING
from tests.smtp.scram_client import ScramUser
from twisted_mail_node.events import MailAccepted, SessionClosed, SignedIn, SignInFailed
from twisted_mail_node.policy.guessing import Guessing
from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.mechanisms import MECHANISMS

SECRET = b"\0joe@example.org\0secret"


def auth(response: bytes = SECRET, mechanism: bytes = b"PLAIN") -> bytes:
    """AUTH with an initial response."""
    return b"AUTH %b %b\r\n" % (mechanism, b64encode(response) or b"=")


class AuthCase(SynchronousTestCase):
    """A submission listener with implicit TLS."""

    def receiver(self, **settings: object) -> TestReceiver:
        """The listener."""
        return TestReceiver(kind="submission", tls_mode="implicit", **settings)  # type: ignore[arg-type]

    def session(self, receiver: TestReceiver, sender: Sender) -> Peer:
        """A session that has said EHLO under TLS."""
        peer = receiver.connect()
        peer.secure()
        sender.send(peer, b"EHLO client.example.net\r\n")
        return peer

    def nobody(self, receiver: TestReceiver, peer: Peer, sender: Sender) -> None:
        """Nobody has signed in, and no password was looked at."""
        self.assertEqual((receiver.of(SignedIn), receiver.authentication.logins), ([], []))
        self.assertEqual(sender.send(peer, b"MAIL FROM:<joe@example.org>\r\n"), [530])


class IdentityTests(AuthCase):
    """T22: who somebody says to be."""

    @in_any_packets
    def test_another_identity(self, sender: Sender) -> None:
        """With a right password nobody acts for another, by any mechanism that has the words for it."""
        receiver = self.receiver()
        for octets in (
            auth(b"ann@example.org\0joe@example.org\0secret"),
            auth(b"JOE@example.org\0joe@example.org\0secret"),
            auth(b"*\0joe@example.org\0secret"),
            auth(b" \0joe@example.org\0secret"),
            auth(b"n,a=ann@example.org,n=joe@example.org,r=abc", b"SCRAM-SHA-256"),
            auth(b"p=tls-exporter,a=ann@example.org,n=joe@example.org,r=abc", b"SCRAM-SHA-256-PLUS"),
        ):
            peer = self.session(receiver, sender)
            self.assertEqual(sender.send(peer, octets), [501], octets)
            self.nobody(receiver, peer, sender)

    @in_any_packets
    def test_other_token(self, sender: Sender) -> None:
        """A good token under another's name."""
        receiver = self.receiver()
        peer = self.session(receiver, sender)
        self.assertEqual(
            sender.send(peer, auth(b"n,a=ann@example.org,\x01auth=Bearer dG9rZW4.good-1\x01\x01", b"OAUTHBEARER")), []
        )
        receiver.wait(1)
        self.assertEqual(peer.codes(), [334])
        self.assertEqual(sender.send(peer, b"AQ==\r\n"), [535])
        self.assertEqual(receiver.of(SignedIn), [])

    @in_any_packets
    def test_empty(self, sender: Sender) -> None:
        """An empty name or password, also one that is only empty once it is prepared."""
        receiver = self.receiver()
        nothing = "\u00ad\u200b".encode()
        for octets in (
            auth(b"\0\0"), auth(b"\0joe@example.org\0"), auth(b"\0\0secret"), auth(b""), auth(b"joe@example.org\0\0"),
            auth(b"\0joe@example.org\0" + nothing), auth(b"\0" + nothing + b"\0secret"), auth(b"", b"LOGIN"),
            auth(b"n,,n=,r=abc", b"SCRAM-SHA-256"), auth(b"n,,n=" + nothing + b",r=abc", b"SCRAM-SHA-256"),
            auth(b"user=\x01auth=Bearer x\x01\x01", b"XOAUTH2"),
        ):  # fmt: skip
            peer = self.session(receiver, sender)
            self.assertEqual(sender.send(peer, octets), [501], octets)
            self.nobody(receiver, peer, sender)
        peer = self.session(receiver, sender)
        self.assertEqual(
            sender.send(peer, b"AUTH LOGIN\r\n" + b64encode(b"joe@example.org") + b"\r\n\r\n"), [334, 334, 501]
        )
        self.nobody(receiver, peer, sender)

    @in_any_packets
    def test_downgrade(self, sender: Sender) -> None:
        """Who stands in between and hides -PLUS is found out; a proof for another TLS session proves nothing."""
        receiver = self.receiver()
        peer = self.session(receiver, sender)
        self.assertEqual(sender.send(peer, auth(b"y,,n=joe@example.org,r=abc", b"SCRAM-SHA-256")), [501])
        user = ScramUser("joe@example.org", "secret", binding=bytes(reversed(BINDING)))
        peer.send(auth(user.first, b"SCRAM-SHA-256-PLUS"))
        first = peer.said()
        self.assertEqual(sender.send(peer, b64encode(user.final(decoded(first))) + b"\r\n"), [501])
        self.nobody(receiver, peer, sender)

    @in_any_packets
    def test_replay(self, sender: Sender) -> None:
        """What one exchange proved does not prove anything in the next, nor in the same."""
        receiver = self.receiver()
        peer = self.session(receiver, sender)
        user = ScramUser("joe@example.org", "secret")
        peer.send(auth(user.first, b"SCRAM-SHA-256"))
        final = b64encode(user.final(decoded(peer.said()))) + b"\r\n"
        self.assertEqual(sender.send(peer, b"*\r\n" + auth(user.first, b"SCRAM-SHA-256") + final), [501, 334, 501])
        self.nobody(receiver, peer, sender)


def decoded(challenge: str) -> bytes:
    """What a challenge holds."""
    return b64decode(challenge.removeprefix("334 "))


class PlaceTests(AuthCase):
    """T22: when AUTH may be said."""

    @in_any_packets
    def test_second(self, sender: Sender) -> None:
        """A second AUTH is 503, in the same packet too: the first account stays."""
        receiver = self.receiver()
        peer = self.session(receiver, sender)
        other = auth("\0ann@example.org\0pässwörd, =".encode())
        self.assertEqual(sender.send(peer, auth() + other + b"EHLO c\r\n" + other), [235, 503, 250, 503])
        self.assertEqual([event.account for event in receiver.of(SignedIn)], ["joe@example.org"])

    @in_any_packets
    def test_in_a_transaction(self, sender: Sender) -> None:
        """In a transaction it is 503: no mail changes its sender on the way."""
        receiver = self.receiver()
        peer = self.session(receiver, sender)
        other = auth("\0ann@example.org\0pässwörd, =".encode())
        octets = (
            auth() + b"MAIL FROM:<joe@example.org>\r\n" + other + b"RCPT TO:<ann@example.org>\r\n" + other + b"DATA\r\n"
        )
        self.assertEqual(sender.send(peer, octets), [235, 250, 503, 250, 503, 354])
        self.assertEqual(sender.send(peer, b"From: joe@example.org\r\n\r\n" + other + b".\r\n"), [250])
        self.assertEqual([event.account for event in receiver.of(MailAccepted)], ["joe@example.org"])
        self.assertEqual(len(receiver.authentication.logins), 1)

    @in_any_packets
    def test_before_tls(self, sender: Sender) -> None:
        """Before TLS it is 538, and what the client sends of its password all the same is no command."""
        receiver = TestReceiver(kind="submission", tls_mode="starttls")
        peer = sender.session(receiver)
        octets = b"AUTH LOGIN\r\n" + b64encode(b"joe@example.org") + b"\r\n" + b64encode(b"secret") + b"\r\n"
        self.assertEqual(sender.send(peer, octets + auth()), [538, 500, 500, 538])
        self.assertEqual(receiver.authentication.logins, [])

    @in_any_packets
    def test_disabled(self, sender: Sender) -> None:
        """A disabled account does not sign in by any of them."""
        receiver = self.receiver()
        peer = self.session(receiver, sender)
        self.assertEqual(sender.send(peer, auth(b"\0gone@example.org\0secret")), [])
        receiver.wait(1)
        self.assertEqual(peer.codes(), [525])
        user = ScramUser("gone@example.org", "secret")
        peer.send(auth(user.first, b"SCRAM-SHA-256"))
        peer.send(b64encode(user.final(decoded(peer.said()))) + b"\r\n")
        receiver.wait(1)
        self.assertEqual(peer.codes(), [525])
        self.assertEqual(receiver.of(SignedIn), [])


class ResponseTests(AuthCase):
    """T22: responses that are none."""

    @in_any_packets
    def test_bad_base64(self, sender: Sender) -> None:
        """Each ends its exchange and nothing else; the octets behind it are commands again."""
        receiver = self.receiver(errors=1000)
        peer = self.session(receiver, sender)
        for line in (
            b"=",
            b"A",
            b"AAA",
            b"=AAA",
            b"AAA=BBB=",
            b"AAAA====",
            b"AA AA",
            b"AA\tAA",
            b"\x80",
            b"AA-_",
            b"QUIT!",
            b"*A",
        ):
            self.assertEqual(sender.send(peer, b"AUTH PLAIN\r\n" + line + b"\r\nNOOP\r\n"), [334, 501, 250], line)
        for line in (b"AA\nAA", b"AA\rAA"):
            self.assertEqual(sender.send(peer, b"AUTH PLAIN\r\n" + line + b"\r\nNOOP\r\n"), [334, 501, 250], line)
        self.nobody(receiver, peer, sender)

    @in_any_packets
    def test_commands_as_responses(self, sender: Sender) -> None:
        """In an exchange no line is a command, not even QUIT."""
        receiver = self.receiver()
        peer = self.session(receiver, sender)
        self.assertEqual(sender.send(peer, b"AUTH PLAIN\r\nQUIT\r\nNOOP\r\n"), [334, 501, 250])
        self.assertEqual(sender.send(peer, b"AUTH PLAIN\r\nSTARTTLS\r\nNOOP\r\n"), [334, 501, 250])
        self.assertFalse(peer.closed)

    @settings(max_examples=150, deadline=None)
    @given(
        st.sampled_from([name.encode() for name in MECHANISMS]),
        st.lists(st.binary(max_size=30).map(b64encode) | st.binary(max_size=30), max_size=5),
        st.lists(st.integers(0, 2**16), max_size=6),
    )
    def test_any(self, mechanism: bytes, lines: list[bytes], cuts: list[int]) -> None:
        """Whatever a client says, it gets replies of AUTH or of SMTP, and nothing breaks."""
        receiver = self.receiver(errors=1000)
        peer = receiver.secured()
        peer.said()
        octets = b"AUTH " + mechanism + b"\r\n" + b"".join(line + b"\r\n" for line in lines)
        peer.send(octets, cuts_of(cuts, octets))
        receiver.wait(10)
        self.assertLessEqual(set(peer.codes()), {214, 221, 235, 250, 252, 334, 421, 500, 501, 502, 503, 535})
        self.assertEqual([event.reason for event in receiver.of(SessionClosed) if event.reason == Reason.INTERNAL], [])


class GuessTests(AuthCase):
    """T22: guessing."""

    def test_same_answer(self) -> None:
        """A name nobody has is answered as a wrong password is: the same words at the same time."""
        receiver = self.receiver()
        heard = []
        for name in (b"joe@example.org", b"nobody@example.org", b"x" * 300):
            peer = receiver.secured()
            peer.said()
            peer.send(auth(b"\0" + name + b"\0wrong"))
            times = []
            for eighth in range(16):
                if said := peer.said():
                    times.append((eighth, said))
                receiver.clock.advance(0.125)
            heard.append(times)
        self.assertEqual(len({repr(times) for times in heard}), 1)
        self.assertEqual(len(heard[0]), 1)

    def test_guesses_are_slowed(self) -> None:
        """From one address a thousand seconds bring few guesses, over ten sessions at once."""
        receiver = self.receiver()
        receiver.factory.guessing = Guessing(clock=receiver.clock, publish=receiver.events.append)
        receiver.peers = peers = [receiver.secured() for _ in range(10)]
        for _ in range(1000):
            for number, peer in enumerate(peers):
                peer.send(auth(b"\0joe@example.org\0wrong"))
                if peer.closed:
                    peers[number] = receiver.secured()
                    peers.pop()
            receiver.wait(1)
        self.assertLess(len(receiver.authentication.logins), 100)
        self.assertIn(Reason.TOO_MANY_GUESSES, {event.reason for event in receiver.of(SignInFailed)})

    def test_waiting_holds_nothing_up(self) -> None:
        """While some hundred attempts wait, another client signs in at once; all end with their connections."""
        receiver = self.receiver(connections=500, connections_per_address=500)
        told = receiver.factory.guessing
        peers = [receiver.secured(client="198.51.100.7") for _ in range(100)]
        told.delays = 25.0  # type: ignore[attr-defined]
        for peer in peers:
            peer.send(auth(b"\0joe@example.org\0wrong"))
        told.delays = 0.0  # type: ignore[attr-defined]
        good = receiver.secured()
        good.said()
        good.send(auth())
        self.assertEqual(good.codes(), [235])
        for peer in peers:
            peer.vanish()
        self.assertEqual(receiver.connections, 1)
        good.vanish()
        receiver.wait(2)
        self.assertEqual(receiver.clock.getDelayedCalls(), [])


class SlowTests(AuthCase):
    """T33: one octet now and then."""

    def test_drip(self) -> None:
        """A response of one octet each 30 s ends with the session's own deadline."""
        receiver = self.receiver(session_time=1800.0)
        peer = receiver.secured()
        peer.say("AUTH PLAIN")
        for _ in range(100):
            peer.send(b"A")
            receiver.wait(30)
        self.assertTrue(peer.closed)
        self.assertEqual(peer.said()[:3], "421")
        (event,) = receiver.of(SessionClosed)
        self.assertEqual(event.reason, Reason.SESSION_DEADLINE)
        self.assertLess(event.seconds, 1810)

    def test_silence(self) -> None:
        """No response at all ends with the time for a command."""
        receiver = self.receiver(command_time=60.0)
        peer = receiver.secured()
        peer.say("AUTH LOGIN")
        receiver.wait(62)
        self.assertEqual(peer.said()[:3], "421")

    def test_endless_response(self) -> None:
        """A response without an end: bounded memory, 421, and the end."""
        receiver = self.receiver()
        peer = receiver.secured()
        peer.say("AUTH PLAIN")
        sent = 0
        while not peer.closed:
            peer.send(b"A" * 4096)
            sent += 4096
            self.assertLess(sent, 200_000)
        self.assertEqual(peer.said()[:3], "421")
