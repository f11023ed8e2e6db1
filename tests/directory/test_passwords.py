"""Tests of password hashes."""

from __future__ import annotations

from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.directory import passwords
from twisted_mail_node.directory.passwords import PASSWORD_MAX, hash_password, verify
from twisted_mail_node.settings_spelling import password_hash


class PasswordTests(SynchronousTestCase):
    """argon2id."""

    def test_hash(self) -> None:
        """A hash is of OWASP's profile, salted, and what the settings take."""
        one, other = hash_password("pässword"), hash_password("pässword")
        self.assertTrue(one.startswith("$argon2id$v=19$m=19456,t=2,p=1$"))
        self.assertNotEqual(one, other)
        self.assertEqual(password_hash(one), one)
        self.assertTrue(verify(one, "pässword"))
        self.assertFalse(verify(one, "password"))

    def test_no_password(self) -> None:
        """The empty password, NUL and a novel are no passwords."""
        for text in ("", "a\0b", "x" * (PASSWORD_MAX + 1)):
            self.assertRaises(ValueError, hash_password, text)

    def test_never(self) -> None:
        """Nobody, no password and no hash never match; nothing is raised."""
        kept = hash_password("x")
        for hashed, text in ((None, "x"), (kept, ""), (kept, "x" * (1 << 20)), ("plain", "plain"), (kept, "\ud800")):
            self.assertFalse(verify(hashed, text))

    def test_same_work(self) -> None:
        """T22: for an unknown user, and for no password, one hash of the same cost is computed."""
        kept = hash_password("x")
        for hashed, text in ((kept, "y"), (None, "y"), (kept, "")):
            with mock.patch.object(passwords, "_HASHER") as hasher:
                verify(hashed, text)
            (call,) = hasher.verify.call_args_list
            self.assertEqual(call.args[0].split("$")[1:4], kept.split("$")[1:4])
