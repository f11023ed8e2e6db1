"""Tests of password hashes."""

from __future__ import annotations

from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests.directory.hashes import SESAME, SHA_CRYPT
from twisted_mail_node.directory import older_hashes, passwords
from twisted_mail_node.directory.passwords import PASSWORD_MAX, hash_password, needs_upgrade, verify
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
        for text in ("", "a\0b", "x" * (PASSWORD_MAX + 1), "tab\t", "\u00ad"):
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

    def test_older(self) -> None:
        """Hashes of older systems fit their passwords, and want an upgrade."""
        for password, kept in (*(("sesame", kept) for kept in SESAME), *SHA_CRYPT):
            self.assertTrue(verify(kept, password), kept)
            self.assertFalse(verify(kept, "x" + password), kept)
            self.assertTrue(needs_upgrade(kept))

    def test_needs_upgrade(self) -> None:
        """Of argon2id only what takes less work than ours; more is its owner's wish."""
        ours = hash_password("x")
        self.assertFalse(needs_upgrade(ours))
        self.assertTrue(needs_upgrade(ours.replace("m=19456,t=2", "m=19456,t=1")))
        self.assertTrue(needs_upgrade(ours.replace("m=19456,t=2", "m=1024,t=2")))
        self.assertFalse(needs_upgrade(ours.replace("m=19456,t=2,p=1", "m=65536,t=3,p=4")))

    def test_too_much_work(self) -> None:
        """A hash that would take seconds fits nothing, at once."""
        for kept in (
            SHA_CRYPT[1][1].replace("rounds=10000", "rounds=999999999"),
            SESAME[0].replace("$04$", "$31$"),
            hash_password("sesame").replace("m=19456", "m=1048576"),
        ):
            with (
                mock.patch.object(older_hashes, "fits") as fits,
                mock.patch.object(passwords, "_HASHER") as own,
            ):
                self.assertFalse(verify(kept, "sesame"))
            self.assertFalse(fits.called or own.verify.called)

    def test_keyboards(self) -> None:
        """The same word, composed or not, is the same password; an older hash of the uncomposed one fits it too."""
        kept = hash_password("p\u00e4ss")
        self.assertTrue(verify(kept, "pa\u0308ss"))
        older = passwords._HASHER.hash("pa\u0308ss".encode())
        self.assertTrue(verify(older, "pa\u0308ss"))
        self.assertFalse(verify(older, "pass"))
