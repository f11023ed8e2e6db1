"""Tests of twisted_mail_node.smtp.sasl_client: against our own server's side, and against wrong servers."""

from __future__ import annotations

import logging
from base64 import b64encode
from functools import partial
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.inbound.secured import BINDING, MemorySession
from tests.smtp.test_sasl_scram import CONVERSATIONS
from twisted_mail_node.smtp.mechanisms import exchange
from twisted_mail_node.smtp.sasl import Challenge, MalformedError, PasswordLogin, ScramKeys, ScramLogin
from twisted_mail_node.smtp.sasl_client import (
    ITERATIONS_MAX,
    ITERATIONS_MIN,
    Exchange,
    Response,
    Salting,
    SignIn,
    WrongServer,
    begin,
    usable,
)
from twisted_mail_node.smtp.scram import keys_of, prepared, salted, server_signature

ALL = ("LOGIN", "PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "CRAM-MD5", "X")
SALT = b"salt and pepper"
NONCE = b"ours"


def answer(steps: Exchange, challenge: bytes | None, password: str) -> Response | None:
    """Our next response; ``None`` when there is none."""
    try:
        wanted = next(steps) if challenge is None else steps.send(challenge)
        while isinstance(wanted, Salting):
            wanted = steps.send(salted(password, *wanted))
    except StopIteration:
        return None
    return wanted


def talk(sign_in: SignIn, mechanism: str, *, kept: str, tls: Any = None, offered: tuple[str, ...] = ()) -> bool:
    """Both sides to the end, the server knowing the password ``kept``; whether it says 235, and may."""
    binding = None if tls is None else tls.channel_binding()
    client = begin(mechanism, sign_in, binding=binding, offered=offered)
    said = answer(client, None, sign_in.password)
    assert said is not None
    server = exchange(mechanism, said.octets, tls, offered)
    reply: Any = None
    try:
        while True:
            wanted = server.send(reply)
            if isinstance(wanted, Challenge):
                said = answer(client, wanted.octets, sign_in.password)
                assert said is not None, "the server asks for more than we say"
                reply = said.octets
            elif isinstance(wanted, ScramKeys):
                reply = (SALT, ITERATIONS_MIN)
            elif isinstance(wanted, PasswordLogin):
                reply = wanted.name if wanted.password == kept else None
            else:
                assert isinstance(wanted, ScramLogin)
                keys = keys_of(kept, SALT, ITERATIONS_MIN, wanted.hash_name)
                signature = server_signature(*keys, wanted.message, wanted.proof, wanted.hash_name)
                wanted.signed.extend([] if signature is None else [signature])
                reply = None if signature is None else wanted.name
    except StopIteration as stop:
        return said is not None and said.last and bool(stop.value == sign_in.username)


class MechanismTests(SynchronousTestCase):
    """What is said with each."""

    def test_vectors(self) -> None:
        """The conversations of RFC 5802 section 5 and RFC 7677 section 3, word for word."""
        for hash_name, (_, first, server_first, final, server_final, _) in CONVERSATIONS.items():
            nonce = first.rpartition(b"r=")[2]
            steps = begin(f"SCRAM-{hash_name}", SignIn("user", "pencil"), nonce=partial(bytes, nonce))
            self.assertEqual(answer(steps, None, "pencil"), Response(first))
            self.assertEqual(answer(steps, server_first, "pencil"), Response(final))
            self.assertEqual(answer(steps, server_final, "pencil"), Response(b"", True))
            self.assertIsNone(answer(steps, b"", "pencil"))

    def test_both_sides(self) -> None:
        """Our client signs in at our server with every mechanism, with the right password and with no other."""
        tls = MemorySession()
        for mechanism in usable(ALL, binding=True, say_password=True):
            for password, wanted in (("pass, =word", True), ("wrong", False)):
                with self.subTest(mechanism=mechanism, password=password):
                    sign_in = SignIn("us,=er@example.org", password)
                    self.assertIs(talk(sign_in, mechanism, kept="pass, =word", tls=tls, offered=ALL), wanted)

    @settings(max_examples=20)
    @given(st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=20))
    def test_any_password(self, password: str) -> None:
        """Any password that may be one at all, in PLAIN and in SCRAM."""
        for mechanism in ("PLAIN", "LOGIN", "SCRAM-SHA-256"):
            sign_in = SignIn("joe", password)
            try:
                begin(mechanism, sign_in)
            except ValueError as error:
                self.assertNotIn(password, str(error)) if len(password) > 3 else None
                continue
            self.assertTrue(talk(sign_in, mechanism, kept=prepared(password)))

    def test_plain(self) -> None:
        """PLAIN says an empty authorization identity, name and password, at once."""
        self.assertEqual(list(begin("PLAIN", SignIn("joe", "secret"))), [Response(b"\0joe\0secret", True)])

    def test_binding_flag(self) -> None:
        """y where we could bind and were not offered it, n where we cannot or where it came to nothing before."""
        for binding, offered, wanted in (
            (BINDING, (), b"y,,"),
            (BINDING, ("SCRAM-SHA-256-PLUS",), b"n,,"),
            (None, (), b"n,,"),
        ):
            said = next(begin("SCRAM-SHA-256", SignIn("joe", "x"), binding=binding, offered=offered))
            assert isinstance(said, Response) and said.octets is not None
            self.assertTrue(said.octets.startswith(wanted), said.octets)

    def test_offer_taken_away(self) -> None:
        """Somebody in between takes -PLUS out of the offer: the server notices by our y."""
        tls = MemorySession()
        with self.assertRaisesRegex(MalformedError, "somebody may stand in between"):
            client = begin("SCRAM-SHA-256", SignIn("joe", "x"), binding=BINDING, offered=("SCRAM-SHA-256",))
            said = next(client)
            assert isinstance(said, Response)
            next(exchange("SCRAM-SHA-256", said.octets, tls, ALL))

    def test_not_to_be_said(self) -> None:
        """A name or password with a control character or nothing in it is refused before anything is said (T15)."""
        for name, password in (("joe\0", "x"), ("joe", "x\r\nQUIT"), ("", "x"), ("joe", "")):
            for mechanism in ("PLAIN", "LOGIN", "SCRAM-SHA-256")[: 2 if not (name and password) else 3]:
                with self.assertRaises(ValueError, msg=mechanism) as caught:
                    begin(mechanism, SignIn(name, password))
                self.assertNotIn("QUIT", str(caught.exception))

    def test_secret(self) -> None:
        """No value shows the password, however it is printed (T40)."""
        sign_in = SignIn("joe", "hunter2", "route[1]")
        said = next(begin("PLAIN", sign_in))
        for shown in (repr(sign_in), str(sign_in), f"{sign_in}", repr(said), repr((sign_in, said))):
            self.assertNotIn("hunter2", shown)
        self.assertNotIn(
            "hunter2", logging.Formatter().format(logging.makeLogRecord({"msg": "%s", "args": (sign_in,)}))
        )


class UsableTests(SynchronousTestCase):
    """What is tried, in which order."""

    def test_order(self) -> None:
        """The best first; what binds only where that can be; what says the password only where that may be."""
        scram = ["SCRAM-SHA-256", "SCRAM-SHA-1"]
        bound = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-1"]
        self.assertEqual(usable(ALL, binding=True, say_password=True), [*bound, "PLAIN", "LOGIN"])
        self.assertEqual(usable(ALL, binding=True, say_password=False), bound)
        self.assertEqual(usable(ALL, binding=False, say_password=False), scram)
        self.assertEqual(usable(("LOGIN", "XOAUTH2"), binding=False, say_password=True), ["LOGIN"])
        self.assertEqual(usable((), binding=True, say_password=True), [])


class WrongServerTests(SynchronousTestCase):
    """Servers that say what they should not."""

    def begun(self) -> Exchange:
        """After our first message."""
        steps = begin("SCRAM-SHA-256", SignIn("joe", "secret"), nonce=lambda: NONCE)
        answer(steps, None, "secret")
        return steps

    def test_first(self) -> None:
        """A nonce that is not ours, no salt, too few or too many iterations, errors, mandatory extensions, nonsense."""
        for octets, words in (
            (b"r=theirs,s=c2FsdA==,i=4096", "does not continue ours"),
            (b"r=ours,s=c2FsdA==,i=4096", "does not continue ours"),
            (b"r=ourstheirs,s=c2FsdA,i=4096", "salt is not base64"),
            (b"r=ourstheirs,s=c2FsdA==,i=1", "1 iterations"),
            (b"r=ourstheirs,s=c2FsdA==,i=%d" % (ITERATIONS_MAX + 1), "iterations"),
            (b"r=ourstheirs,s=c2FsdA==,i=99999999999", "cannot be understood"),
            (b"m=x,r=ourstheirs,s=c2FsdA==,i=4096", "cannot be understood"),
            (b"e=unknown-user", "it says unknown-user"),
            (b"r=ours" + b"x" * 5000 + b",s=c2FsdA==,i=4096", "cannot be understood"),
            (b"", "cannot be understood"),
        ):
            with self.assertRaisesRegex(WrongServer, words):
                answer(self.begun(), octets, "secret")

    def test_final(self) -> None:
        """A server that cannot show that it knows the password is not believed."""
        for octets, words in (
            (b"v=" + b64encode(b"x" * 32), "could not prove"),
            (b"v=AAA", "could not prove"),
            (b"e=other-error", "it says other-error"),
            (b"", "cannot be understood"),
        ):
            steps = self.begun()
            said = answer(steps, b"r=ourstheirs,s=c2FsdA==,i=4096", "secret")
            self.assertFalse(said is None or said.last)
            with self.assertRaisesRegex(WrongServer, words):
                answer(steps, octets, "secret")

    @given(st.binary(max_size=100), st.binary(max_size=100))
    def test_anything(self, first: bytes, final: bytes) -> None:
        """Whatever a server says, it is a response of ours or a sentence about the server, without the password."""
        steps = self.begun()
        try:
            for octets in (first, final):
                answer(steps, octets, "secret")
        except WrongServer as error:
            self.assertNotIn("secret", str(error))
