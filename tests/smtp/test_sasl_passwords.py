"""Tests of twisted_mail_node.smtp.sasl_passwords."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.smtp.exchanges import Outcome, UnansweredError, lead, malformed
from twisted_mail_node.smtp.sasl import PASSWORD_MAX, PasswordLogin
from twisted_mail_node.smtp.sasl_passwords import login, plain


class PlainTests(SynchronousTestCase):
    """PLAIN (RFC 4616)."""

    def test_examples(self) -> None:
        """Those of section 4."""
        expected = [PasswordLogin("tim", "tanstaaftanstaaf")]
        self.assertEqual(lead(plain(b"\0tim\0tanstaaftanstaaf")), Outcome("somebody", [], expected))
        self.assertIn("for another", malformed(plain(b"Ursel\0Kurt\0xipj3plmq")))

    def test_without_initial_response(self) -> None:
        """It is asked for with an empty challenge (RFC 4954 section 4)."""
        outcome = lead(plain(None), [b"\0joe\0secret"])
        self.assertEqual((outcome.challenges, outcome.logins), ([b""], [PasswordLogin("joe", "secret")]))

    def test_identity(self) -> None:
        """It may be the name itself."""
        self.assertEqual(lead(plain(b"joe\0joe\0secret")).logins, [PasswordLogin("joe", "secret")])

    def test_prepared(self) -> None:
        """Name and password are prepared (section 2), whatever keyboard they were typed on."""
        self.assertEqual(
            lead(plain("\0j\u00adoe\0pa\u0308ss\u00a0word".encode())).logins, [PasswordLogin("joe", "p\u00e4ss word")]
        )

    def test_malformed(self) -> None:
        """Too few or too many NULs, nothing in them, no UTF-8, too long: nobody is asked."""
        for octets in (
            b"", b"joe", b"joe\0secret", b"\0\0", b"\0joe\0", b"\0\0secret", b"\0joe\0secret\0", b"a\0joe\0secret",
            b"\0\xff\0secret", b"\0joe\0\xff", b"\0joe\0" + b"a" * (PASSWORD_MAX + 1), b"\0joe\0a\nb",
            "\0joe\0\u00ad".encode(), "\u00ad\0joe\0secret".encode(),
        ):  # fmt: skip
            self.assertTrue(malformed(plain(octets)))

    def test_refused(self) -> None:
        """Nobody comes of it."""
        self.assertIsNone(lead(plain(b"\0joe\0wrong"), check=lambda login: None).submitter)


class LoginTests(SynchronousTestCase):
    """LOGIN."""

    def test_questions(self) -> None:
        """Name and password are asked for by the words every client knows."""
        outcome = lead(login(None), [b"joe", b"secret"])
        self.assertEqual(outcome.challenges, [b"Username:", b"Password:"])
        self.assertEqual((outcome.submitter, outcome.logins), ("somebody", [PasswordLogin("joe", "secret")]))

    def test_initial_response(self) -> None:
        """It is the name."""
        outcome = lead(login(b"joe"), [b"secret"])
        self.assertEqual((outcome.challenges, outcome.logins), ([b"Password:"], [PasswordLogin("joe", "secret")]))

    def test_malformed(self) -> None:
        """An empty name is not asked for its password; neither may hold NUL."""
        for responses in (
            [b""],
            [b"joe", b""],
            [b"\xff"],
            [b"joe", b"\xff"],
            [b"ann\0joe", b"secret"],
            [b"joe", b"\0"],
        ):
            self.assertTrue(malformed(login(None), responses))
        self.assertTrue(malformed(login(b""), []))
        self.assertRaises(UnansweredError, lead, login(b"joe"))
