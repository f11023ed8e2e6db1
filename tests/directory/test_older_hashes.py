"""Tests of comparing passwords with what older systems kept."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.directory.hashes import LONG, SESAME, SHA_CRYPT
from twisted_mail_node.directory.older_hashes import fits
from twisted_mail_node.settings_spelling import password_hash


class OlderHashTests(SynchronousTestCase):
    """bcrypt, SHA crypt, salted SHA."""

    def test_fits(self) -> None:
        """Every kind is taken by the settings, fits its password and no other."""
        for password, kept in (*(("sesame", kept) for kept in SESAME), *SHA_CRYPT):
            self.assertEqual(password_hash(kept), kept)
            self.assertTrue(fits(kept, password.encode()), kept)
            self.assertFalse(fits(kept, b"open " + password.encode()), kept)
            self.assertFalse(fits(kept, b""), kept)

    def test_long(self) -> None:
        """bcrypt looks at 72 octets, whatever follows; NUL ends none of its passwords."""
        self.assertTrue(fits(LONG, b"x" * 72))
        self.assertTrue(fits(LONG, b"x" * 1000))
        self.assertFalse(fits(LONG, b"x" * 71))
        self.assertFalse(fits(LONG, b"x" * 72 + b"\0"))

    def test_too_long_for_crypt(self) -> None:
        """SHA crypt is not computed of a password that would make each round long."""
        self.assertFalse(fits(SHA_CRYPT[0][1], b"x" * 513))

    def test_unknown(self) -> None:
        """Another kind is an error."""
        for kept in ("{CRYPT}x", "plain", "{SSHA}!", ""):
            self.assertRaises(ValueError, fits, kept, b"x")
