"""Tests of twisted_mail_node.smtp.sasl."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.reasons import Reason
from twisted_mail_node.smtp.occurrence import Auth, AuthResponse
from twisted_mail_node.smtp.sasl import (
    NAME_MAX,
    LoginRefused,
    MalformedError,
    PasswordLogin,
    ScramLogin,
    TokenLogin,
    check_identity,
    unescaped,
    words_of,
)

SENTINEL = "sentinel-3f9a"


class SecretTests(SynchronousTestCase):
    """T40: what is printed shows no secret."""

    def test_printed(self) -> None:
        """Nor does an event of the wire."""
        octets = SENTINEL.encode()
        for value in (
            PasswordLogin("joe", SENTINEL),
            TokenLogin("joe", SENTINEL),
            ScramLogin("joe", "SHA-256", octets, octets, [octets]),
            Auth("PLAIN", octets),
            AuthResponse(octets),
        ):
            for text in (repr(value), str(value), f"{value}", f"{[value]}", f"{value!r}"):
                self.assertNotIn(SENTINEL, text)
                self.assertIn(type(value).__name__, text)

    def test_named(self) -> None:
        """Who it is about is shown."""
        self.assertEqual(repr(PasswordLogin("joe", SENTINEL)), "PasswordLogin('joe')")
        self.assertEqual(repr(TokenLogin("joe", SENTINEL)), "TokenLogin('joe')")
        self.assertEqual(repr(ScramLogin("joe", "SHA-1", b"", b"", [])), "ScramLogin('joe', 'SHA-1')")

    def test_refused(self) -> None:
        """A refusal says its reason, and keeps the name apart."""
        refused = LoginRefused(Reason.ACCOUNT_DISABLED, "joe")
        self.assertEqual((str(refused), refused.name), ("account-disabled", "joe"))


class WordsTests(SynchronousTestCase):
    """Names and passwords as they come."""

    def test_prepared(self) -> None:
        """They are UTF-8, and prepared (RFC 4013)."""
        self.assertEqual(words_of("\u2168".encode(), "name"), "IX")

    def test_malformed(self) -> None:
        """Empty, empty once prepared, not UTF-8, too long, a control character: a sentence without the words."""
        for octets, sentence in {
            b"": "The name is empty",
            "\u00ad".encode(): "The name is empty",
            b"\xff": "The name is not UTF-8",
            b"a" * (NAME_MAX + 1): f"The name is longer than {NAME_MAX} octets",
            b"joe\n": "A name or a password holds no control characters",
        }.items():
            with self.assertRaises(MalformedError) as caught:
                words_of(octets, "name")
            self.assertEqual(str(caught.exception), sentence)
        self.assertEqual(words_of(b"a" * NAME_MAX, "name"), "a" * NAME_MAX)

    def test_identity(self) -> None:
        """T22: nobody acts for another. The same name spelled otherwise is the same."""
        check_identity(b"", "joe")
        check_identity("joe\u00ad".encode(), "joe")
        for other in (b"ann", b"JOE", b"\xff", "\u00ad".encode()):
            self.assertRaises(MalformedError, check_identity, other, "joe")

    def test_saslname(self) -> None:
        """Commas and = are escaped (RFC 5801 section 4), and any other escape is wrong."""
        self.assertEqual(unescaped(b"a=2Cb=3Dc=3D2C"), b"a,b=c=2C")
        for octets in (b"a=b", b"=", b"=2c", b"=2", b"=20"):
            self.assertRaises(MalformedError, unescaped, octets)
