"""Tests of twisted_mail_node.smtp.sasl_scram."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from scramp import ScramClient  # type: ignore[import-untyped]
from twisted.trial.unittest import SynchronousTestCase

from tests.inbound.secured import BINDING, MemorySession
from tests.smtp.exchanges import Outcome, lead, malformed
from tests.smtp.scram_client import ScramUser
from twisted_mail_node.smtp.sasl import Challenge, MalformedError, ScramKeys, ScramLogin
from twisted_mail_node.smtp.sasl_scram import MESSAGE_MAX, make_nonce, scram
from twisted_mail_node.smtp.scram import keys_of, server_signature

#: The conversations of RFC 5802 section 5 and RFC 7677 section 3: salt, what each side says, and the server's nonce.
CONVERSATIONS = {
    "SHA-1": (
        b"QSXCR+Q6sek8bf92",
        b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
        b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        b"3rfcNHYJY1ZVvWVs7j",
    ),
    "SHA-256": (
        b"W22ZaJ0SNY7soEsUEjb6gQ==",
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
    ),
}
SALT = b"salt and pepper"
ITERATIONS = 4096
NONCE = b"fixed"


def checked(password: str, salt: bytes, iterations: int, login: ScramLogin) -> str | None:
    """What a directory does with a login."""
    keys = keys_of(password, salt, iterations, login.hash_name)
    signature = server_signature(*keys, login.message, login.proof, login.hash_name)
    if signature is None:
        return None
    login.signed.append(signature)
    return login.name


def exchange(initial: bytes | None, *, tls: Any = None, plus: bool = False, plus_offered: bool = False) -> Any:
    """An exchange with our half of the nonce known."""
    return scram(initial, tls, "SHA-256", plus=plus, plus_offered=plus_offered, nonce=lambda: NONCE)


def talk(
    user: ScramUser | Scramp,
    mechanism: str = "SCRAM-SHA-256",
    *,
    tls: Any = None,
    offered: bool = True,
    password: str = "secret",
) -> Outcome:
    """A conversation with us; the user must believe the server in the end."""
    plus = mechanism.endswith("-PLUS")
    hash_name = mechanism.removeprefix("SCRAM-").removesuffix("-PLUS")
    logins: list[Any] = []
    challenges: list[bytes] = []
    steps = scram(user.first, tls, hash_name, plus=plus, plus_offered=offered)
    answer: Any = None
    try:
        while True:
            wanted = steps.send(answer)
            if isinstance(wanted, ScramKeys):
                answer = SALT, ITERATIONS
            elif isinstance(wanted, ScramLogin):
                logins.append(wanted)
                answer = checked(password, SALT, ITERATIONS, wanted)
            else:
                assert isinstance(wanted, Challenge)
                challenges.append(wanted.octets)
                if len(challenges) == 1:
                    answer = user.final(wanted.octets)
                else:
                    assert user.believes(wanted.octets)
                    answer = b""
    except StopIteration as stop:
        return Outcome(stop.value, challenges, logins)


class Scramp:
    """The client of scramp, as a user."""

    def __init__(self, mechanism: str, name: str, password: str) -> None:
        self._client = ScramClient([mechanism], name, password)

    @property
    def first(self) -> bytes:
        """The first message."""
        octets: bytes = self._client.get_client_first().encode()
        return octets

    def final(self, server_first: bytes) -> bytes:
        """The answer to the server's first message."""
        self._client.set_server_first(server_first.decode())
        octets: bytes = self._client.get_client_final().encode()
        return octets

    def believes(self, server_final: bytes) -> bool:
        """It raises when it does not."""
        self._client.set_server_final(server_final.decode())
        return True


class ConversationTests(SynchronousTestCase):
    """Whole conversations."""

    def test_examples(self) -> None:
        """Those of the RFCs, octet by octet, with an initial response and without one."""
        for name, (salt, first, server_first, final, server_final, nonce) in CONVERSATIONS.items():

            def check(login: Any, salt: bytes = salt) -> str | None:
                return checked("pencil", b64decode(salt), 4096, login)

            def made(nonce: bytes = nonce) -> bytes:
                return nonce

            for initial, responses in ((first, [final, b""]), (None, [first, final, b""])):
                steps = scram(initial, None, name, plus=False, plus_offered=False, nonce=made)
                outcome = lead(steps, responses, keys=(b64decode(salt), 4096), check=check)
                asked = [] if initial else [b""]
                self.assertEqual(outcome.challenges, [*asked, server_first, server_final])
                self.assertEqual(outcome.submitter, "user")

    def test_oracle(self) -> None:
        """Another implementation's client signs in, with names and passwords of any script."""
        for mechanism in ("SCRAM-SHA-1", "SCRAM-SHA-256"):
            for name, password in (
                ("joe@example.org", "secret"),
                ("a,b=c@\u00fc", "p\u00e4ss, =w\u00f6rd"),
                ("=2C", "="),
            ):
                outcome = talk(Scramp(mechanism, name, password), mechanism, offered=False, password=password)
                self.assertEqual(outcome.submitter, name)
                self.assertEqual(len(outcome.challenges), 2)

    def test_bound(self) -> None:
        """With a binding, too."""
        for mechanism in ("SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"):
            user = ScramUser("joe, =", "secret", mechanism[6:-5], binding=BINDING)
            self.assertEqual(talk(user, mechanism, tls=MemorySession()).submitter, "joe, =")

    def test_wrong_password(self) -> None:
        """The proof is wrong: nobody, and the client hears no signature."""
        outcome = talk(Scramp("SCRAM-SHA-256", "joe", "wrong"), offered=False)
        self.assertEqual((outcome.submitter, len(outcome.challenges), len(outcome.logins)), (None, 1, 1))

    def test_nonce(self) -> None:
        """Ours is new each time, long enough, and fits into the grammar."""
        nonces = {make_nonce() for _ in range(100)}
        self.assertEqual(len(nonces), 100)
        for nonce in nonces:
            self.assertGreaterEqual(len(nonce), 24)
            self.assertNotIn(b",", nonce)
            self.assertTrue(nonce.isascii())


class BindingTests(SynchronousTestCase):
    """Channel binding (RFC 5802 section 6, RFC 9266)."""

    def test_other_session(self) -> None:
        """A proof bound to another TLS session is refused before anybody looks at it."""
        user = ScramUser("joe", "secret", binding=BINDING)
        with self.assertRaisesRegex(MalformedError, "not that of this TLS session"):
            talk(user, "SCRAM-SHA-256-PLUS", tls=MemorySession(bytes(32)))

    def test_none(self) -> None:
        """A TLS session without a binding, and no TLS at all."""
        for tls in (MemorySession(None), None):
            with self.assertRaisesRegex(MalformedError, "no channel binding"):
                talk(ScramUser("joe", "secret", binding=BINDING), "SCRAM-SHA-256-PLUS", tls=tls)

    def test_downgrade(self) -> None:
        """``y`` where -PLUS is offered: the client was shown another list. Where it is not, ``y`` is the truth."""
        self.assertIn("somebody may stand in between", malformed(exchange(b"y,,n=joe,r=abc", plus_offered=True)))
        user = ScramUser("joe", "secret", flag="y")
        self.assertEqual(talk(user, tls=MemorySession(), offered=False).submitter, "joe")

    def test_flag_and_mechanism(self) -> None:
        """p goes with -PLUS and nothing else does; the only type is tls-exporter."""
        tls = MemorySession()
        for initial, plus in (
            (b"p=tls-exporter,,n=joe,r=abc", False),
            (b"n,,n=joe,r=abc", True),
            (b"y,,n=joe,r=abc", True),
            (b"p=tls-unique,,n=joe,r=abc", True),
            (b"p=,,n=joe,r=abc", True),
        ):
            self.assertTrue(malformed(exchange(initial, tls=tls, plus=plus, plus_offered=plus)))

    def test_header_is_bound(self) -> None:
        """The final message repeats the first one's header; n cannot become y, nor an identity appear."""
        for header in (b"y,,", b"n,a=joe,", b"", b"n,,x"):
            final = b"c=%b,r=abcfixed,p=%b" % (b64encode(header), b64encode(bytes(32)))
            self.assertTrue(malformed(exchange(b"n,,n=joe,r=abc"), [final]), header)


class MalformedTests(SynchronousTestCase):
    """What does not follow the grammar (RFC 5802 section 7)."""

    def test_first(self) -> None:
        """First messages."""
        for initial in (
            b"", b"n", b"n,,", b"n,,n=joe", b"n,,r=abc", b"n,,r=abc,n=joe", b"n,,n=,r=abc", b"n,,n=joe,r=",
            b"x,,n=joe,r=abc",
            b"n,,n=j=oe,r=abc", b"n,,n=joe=2c,r=abc", b"n,,n=\xff,r=abc", b"n,,n=joe,r=a b", b"n,,n=joe,r=abc,x",
            b"n,joe,n=joe,r=abc", b"n,a=,n=joe,r=abc", b"n,a=ann,n=joe,r=abc", b"n,a=j=oe,n=joe,r=abc",
            b"n,,n=joe,r=abc\0", b"n,,n=j\0oe,r=abc", b"n,,m=ext,n=joe,r=abc", b"n,,n=joe,r=" + b"a" * 257,
            b"n,,n=joe,r=abc,x=" + b"a" * MESSAGE_MAX, b"n,,n=joe,r=abc\n", b"N,,n=joe,r=abc",
        ):  # fmt: skip
            self.assertTrue(malformed(exchange(initial)), initial)

    def test_final(self) -> None:
        """Final messages; the nonce is that of this exchange."""
        proof = b64encode(bytes(32))
        good = b"c=biws,r=abcfixed,p=" + proof
        self.assertEqual(len(lead(exchange(b"n,,n=joe,r=abc"), [good], check=lambda login: None).logins), 1)
        for final in (
            b"", b"c=biws", b"c=biws,r=abcfixed", b"c=biws,p=" + proof, b"r=abcfixed,c=biws,p=" + proof,
            b"c=biws,r=abc,p=" + proof, b"c=biws,r=fixed,p=" + proof, b"c=biws,r=abcfixedx,p=" + proof, good + b",x=y",
            b"c=biws,r=abcfixed,p=" + b64encode(bytes(20)), b"c=biws,r=abcfixed,p=" + b64encode(bytes(33)),
            b"c=biws,r=abcfixed,p=a", b"c=b=iws,r=abcfixed,p=" + proof, b"c=,r=abcfixed,p=" + proof, good + b"\n",
            b"c=biws,r=abcfixed,x=" + b"a" * MESSAGE_MAX + b",p=" + proof,
        ):  # fmt: skip
            self.assertTrue(malformed(exchange(b"n,,n=joe,r=abc"), [final]), final)

    def test_extensions(self) -> None:
        """Optional ones that nobody knows are no hindrance, and are part of what is proved."""
        final = b"c=biws,r=abcfixed,y=z,p=" + b64encode(bytes(32))
        (login,) = lead(exchange(b"n,,n=joe,r=abc,x=1"), [final], check=lambda login: None).logins
        assert isinstance(login, ScramLogin)
        self.assertEqual(login.message, b"n=joe,r=abc,x=1,r=abcfixed,s=c2FsdA==,i=1,c=biws,r=abcfixed,y=z")

    def test_last_response(self) -> None:
        """After the signature the client says nothing; something is malformed, and nobody has signed in."""

        def check(login: ScramLogin) -> str:
            login.signed.append(b"signature")
            return "somebody"

        final = b"c=biws,r=abcfixed,p=" + b64encode(bytes(32))
        steps = exchange(b"n,,n=joe,r=abc")
        self.assertRaises(MalformedError, lead, steps, [final, b"thanks"], check=check)
        self.assertEqual(lead(exchange(b"n,,n=joe,r=abc"), [final, b""], check=check).submitter, "somebody")

    @settings(max_examples=200, deadline=None)
    @given(st.data())
    def test_changed(self, data: st.DataObject) -> None:
        """A conversation with octets changed anywhere is malformed or refused, but for what is no part of the proof."""
        _, first, _, final, _, nonce = CONVERSATIONS["SHA-256"]
        messages = [first, final]
        which = data.draw(st.integers(0, 1))
        at = data.draw(st.integers(0, len(messages[which]) - 1))
        octet = data.draw(st.integers(0, 255))
        if messages[which][at] == octet:
            return
        messages[which] = messages[which][:at] + bytes([octet]) + messages[which][at + 1 :]
        steps = scram(messages[0], None, "SHA-256", plus=False, plus_offered=False, nonce=lambda: nonce)
        salt = b64decode(CONVERSATIONS["SHA-256"][0])
        try:
            outcome = lead(
                steps, [messages[1], b""], keys=(salt, 4096), check=lambda login: checked("pencil", salt, 4096, login)
            )
        except MalformedError:
            return
        self.assertIsNone(outcome.submitter)
