"""Tests of SHA-256 and SHA-512 crypt, against libcrypt."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.directory.hashes import SHA_CRYPT
from twisted_mail_node.directory.sha_crypt import sha_crypt


class ShaCryptTests(SynchronousTestCase):
    """``$5$`` and ``$6$``."""

    def test_vectors(self) -> None:
        """What libcrypt made of a password, we make too; of another one we do not."""
        for password, kept in SHA_CRYPT:
            self.assertEqual(sha_crypt(password.encode(), kept), kept)
            self.assertNotEqual(sha_crypt(password.encode() + b"x", kept), kept)

    def test_few_rounds(self) -> None:
        """Fewer than 1000 rounds are taken for 1000, and are then another hash."""
        kept = SHA_CRYPT[0][1].replace("$5$", "$5$rounds=10$")
        self.assertTrue(sha_crypt(b"Hello world!", kept).startswith("$5$rounds=1000$saltstring$"))

    def test_none(self) -> None:
        """What is no such hash is an error."""
        for text in ("", "$1$salt$abc", "$6$salt", "$6$rounds=x$salt$abc", "$6$rounds=1$"):
            self.assertRaises(ValueError, sha_crypt, b"x", text)
