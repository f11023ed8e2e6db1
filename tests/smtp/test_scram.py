"""Tests of twisted_mail_node.smtp.scram."""

from __future__ import annotations

from base64 import b64decode

import scramp.core  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.smtp.scram import HASH_SIZES, client_proof, keys_of, prepared, salted, server_signature

#: RFC 5802 section 5 and RFC 7677 section 3: salt, AuthMessage, ClientProof, ServerSignature; the password is pencil.
VECTORS = {
    "SHA-1": (
        "QSXCR+Q6sek8bf92",
        b"n=user,r=fyko+d2lbbFgONRv9qkxdawL,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096,"
        b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j",
        "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        "rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    ),
    "SHA-256": (
        "W22ZaJ0SNY7soEsUEjb6gQ==",
        b"n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    ),
}


class VectorTests(SynchronousTestCase):
    """The examples of RFC 5802 and RFC 7677."""

    def test_server(self) -> None:
        """The proof is right, and the signature is the one the client looks for."""
        for name, (salt, message, proof, signature) in VECTORS.items():
            stored, server = keys_of("pencil", b64decode(salt), 4096, name)
            self.assertEqual((len(stored), len(server)), (HASH_SIZES[name],) * 2)
            self.assertEqual(server_signature(stored, server, message, b64decode(proof), name), b64decode(signature))

    def test_client(self) -> None:
        """The client makes that proof, and looks for that signature."""
        for name, (salt, message, proof, signature) in VECTORS.items():
            secret = salted("pencil", b64decode(salt), 4096, name)
            self.assertEqual(client_proof(secret, message, name), (b64decode(proof), b64decode(signature)))

    def test_wrong(self) -> None:
        """Another password, another message, another length, one flipped bit: no signature."""
        for name, (salt, message, text, _) in VECTORS.items():
            proof = b64decode(text)
            keys = keys_of("pencil", b64decode(salt), 4096, name)
            self.assertIsNone(server_signature(*keys_of("pen", b64decode(salt), 4096, name), message, proof, name))
            self.assertIsNone(server_signature(*keys, message + b" ", proof, name))
            for other in (b"", proof[:-1], proof + b"\0", bytes(len(proof)), bytes([proof[0] ^ 1]) + proof[1:]):
                self.assertIsNone(server_signature(*keys, message, other, name))


class PreparedTests(SynchronousTestCase):
    """SASLprep (RFC 4013)."""

    def test_examples(self) -> None:
        """Those of section 3."""
        for text, expected in {
            "I\u00adX": "IX",
            "user": "user",
            "USER": "USER",
            "\u00aa": "a",
            "\u2168": "IX",
        }.items():
            self.assertEqual(prepared(text), expected)
        for text in ("\u0007", "\u0627\u0031"):
            self.assertRaises(ValueError, prepared, text)

    def test_two_keyboards(self) -> None:
        """A letter and its accent typed apart, and a no-break space, are the same as typed the other way."""
        self.assertEqual(prepared("pa\u0308ss\u00a0word"), prepared("p\u00e4ss word"))

    def test_refused(self) -> None:
        """Controls, private use, what is no character, and mixed directions; the sentence does not hold them."""
        for text in ("a\x00", "a\x7f", "\x85", "a\u200e", "\ue000", "\ufffe", "\ud800", "\u05d0a", "\u05d01"):
            with self.assertRaises(ValueError) as caught:
                prepared(text)
            self.assertNotIn(text, str(caught.exception))

    def test_later_than_unicode_3_2(self) -> None:
        """A password may hold an emoji."""
        self.assertEqual(prepared("\U0001f600 \u1e9e"), "\U0001f600 \u1e9e")

    def test_nothing_left(self) -> None:
        """What is mapped to nothing is nothing."""
        self.assertEqual(prepared("\u00ad\u200b"), "")

    @settings(deadline=None)
    @given(st.text(max_size=20))
    def test_twice(self, text: str) -> None:
        """What is prepared already stays as it is, so either side of an interface may prepare."""
        try:
            once = prepared(text)
        except ValueError:
            return
        self.assertEqual(prepared(once), once)

    @settings(deadline=None)
    @given(st.text(max_size=20))
    def test_oracle(self, text: str) -> None:
        """Another implementation says the same of what Unicode 3.2 knew; it refuses what came later."""
        try:
            expected = scramp.core.saslprep(text)
        except scramp.core.ScramException:
            return
        if expected or not text:
            self.assertEqual(prepared(text), expected)
