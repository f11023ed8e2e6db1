"""Tests of application passwords."""

from __future__ import annotations

import math

from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.directory import app_passwords
from twisted_mail_node.directory.app_passwords import (
    fits,
    hash_app_password,
    is_kept_form,
    may_be_app_password,
    new_app_password,
)


class AppPasswordTests(SynchronousTestCase):
    """Made, kept, compared."""

    def test_new(self) -> None:
        """Each is another, of more than 100 bits, in groups that can be read, without characters that look alike."""
        made = {new_app_password() for _ in range(100)}
        self.assertEqual(len(made), 100)
        for one in made:
            self.assertRegex(one, r"\A[a-z2-9]{5}(-[a-z2-9]{5}){4}\Z")
            self.assertFalse(set(one) & set("01ilo"))
            self.assertTrue(may_be_app_password(one))
        self.assertGreater(25 * math.log2(len(app_passwords._ALPHABET)), 100)

    def test_kept(self) -> None:
        """What is kept is salted, fits the password and no other."""
        one, other = new_app_password(), new_app_password()
        kept = hash_app_password(one)
        self.assertNotEqual(kept, hash_app_password(one))
        self.assertTrue(is_kept_form(kept))
        self.assertTrue(fits(kept, one))
        self.assertFalse(fits(kept, other))

    def test_form(self) -> None:
        """Other texts are no application passwords."""
        for text in ("", "sesame", new_app_password()[:-1], new_app_password().upper(), new_app_password() + "\n"):
            self.assertFalse(may_be_app_password(text))
        for text in ("", "x" * 60, "sesame", hash_app_password("x")[:-1]):
            self.assertFalse(is_kept_form(text))
