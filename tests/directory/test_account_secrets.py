"""Tests of what is kept of an account's passwords."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from tests.directory.hashes import OLD
from twisted_mail_node.directory.account_keys import as_json, from_json, parse_scram, spell_scram
from twisted_mail_node.directory.account_secrets import AppPassword, Secrets, digest_of, of_settings
from twisted_mail_node.directory.app_passwords import hash_app_password, new_app_password
from twisted_mail_node.message.address import Address
from twisted_mail_node.settings import Account
from twisted_mail_node.smtp.scram import keys_of

JOE = Address("joe", "example.org")
SALT = bytes(range(16))
KEYS = {"SHA-256": keys_of("sesame", SALT, 1000, "SHA-256")}


class SecretsTests(SynchronousTestCase):
    """One account."""

    def test_fits(self) -> None:
        """The main password fits, and each application password, which is told."""
        text = new_app_password()
        phone = AppPassword("phone", hash_app_password(text))
        secrets = Secrets(OLD, app_passwords=(AppPassword("desk", hash_app_password(new_app_password())), phone))
        self.assertIs(secrets.fits("sesame"), True)
        self.assertIs(secrets.fits(text), phone)
        self.assertIs(secrets.fits("wrong"), False)
        self.assertIs(secrets.fits(new_app_password()), False)
        self.assertIs(Secrets().fits("sesame"), False)

    def test_lacks(self) -> None:
        """Keys lack where any of the passwords has none for the hash."""
        app = AppPassword("phone", "x")
        self.assertFalse(Secrets().lacks("SHA-256"))
        self.assertTrue(Secrets(OLD).lacks("SHA-256"))
        self.assertFalse(Secrets(OLD, SALT, 1000, KEYS).lacks("SHA-256"))
        self.assertTrue(Secrets(OLD, SALT, 1000, KEYS).lacks("SHA-1"))
        self.assertTrue(Secrets(OLD, SALT, 1000, KEYS, (app,)).lacks("SHA-256"))
        self.assertFalse(Secrets(None, SALT, 1000, {}, (replace(app, keys=KEYS),)).lacks("SHA-256"))

    def test_shared_salt(self) -> None:
        """All keys of an account are under its one salt: those of every password are found for a proof."""
        secrets = Secrets().with_salt()
        self.assertEqual((len(secrets.salt), secrets.iterations), (16, 100_000))
        self.assertIs(secrets.with_salt(), secrets)
        other = secrets.derive("other", ["SHA-256"])
        secrets = replace(secrets, keys=KEYS, app_passwords=(AppPassword("phone", "x", 0, other),))
        self.assertEqual(secrets.all_keys("SHA-256"), [KEYS["SHA-256"], other["SHA-256"]])
        self.assertEqual(other["SHA-256"], keys_of("other", secrets.salt, 100_000, "SHA-256"))

    def test_repr(self) -> None:
        """T40: neither hash nor salt nor keys show in a repr."""
        secrets = Secrets(OLD, b"sentinel", 1000, KEYS, (AppPassword("phone", "sentinel", 0, KEYS),), "sentinel")
        self.assertNotIn("sentinel", repr(secrets))
        self.assertNotIn("$2a$", repr(secrets))
        self.assertNotIn(repr(KEYS["SHA-256"][0]), repr(secrets))


class OfSettingsTests(SynchronousTestCase):
    """Accounts of the settings file, with what was derived from them."""

    def test_nothing_derived(self) -> None:
        """Without anything kept the settings count."""
        account = Account(address=JOE, password=OLD, scram=spell_scram(SALT, 1000, KEYS))
        self.assertEqual(of_settings(account, None), Secrets(OLD, SALT, 1000, KEYS, (), digest_of(account)))
        self.assertEqual(of_settings(Account(address=JOE), None).can_sign_in(), False)

    def test_derived(self) -> None:
        """What was derived from the settings counts while they say the same, and is void when they change."""
        account = Account(address=JOE, password=OLD)
        kept = Secrets("$argon2id$new", SALT, 1000, KEYS, (AppPassword("phone", "x", 0, KEYS),), digest_of(account))
        self.assertEqual(of_settings(account, kept), kept)
        changed = Account(address=JOE, password="{SSHA}1DPJSjMRGeHpU+xSD8JqxR9UWgtzYWx0c2FsdA==")
        found = of_settings(changed, kept)
        self.assertEqual((found.password, found.keys, found.digest), (changed.password, {}, digest_of(changed)))
        self.assertEqual((found.salt, found.app_passwords), (SALT, kept.app_passwords))
        gone = of_settings(Account(address=JOE), replace(kept, digest=digest_of(Account(address=JOE))))
        self.assertIsNone(gone.password)

    def test_other_salt(self) -> None:
        """Keys under another salt than that of the settings are of no use: application passwords lose theirs."""
        other = bytes(16)
        account = Account(address=JOE, password=OLD, scram=spell_scram(other, 4096, KEYS))
        kept = Secrets(None, SALT, 1000, {"SHA-1": (b"x", b"y")}, (AppPassword("phone", "x", 0, KEYS),),
                       digest_of(account))  # fmt: skip
        found = of_settings(account, kept)
        self.assertEqual((found.salt, found.iterations, found.keys), (other, 4096, KEYS))
        self.assertEqual(found.app_passwords, (AppPassword("phone", "x"),))


class KeysTests(SynchronousTestCase):
    """How keys are written."""

    def test_settings(self) -> None:
        """The text of the settings is read and written, with padding or without."""
        text = spell_scram(SALT, 1000, KEYS)
        self.assertEqual(Account(address=JOE, scram=text).scram, text)
        self.assertEqual(parse_scram(text), (SALT, 1000, KEYS))
        self.assertEqual(parse_scram(text.replace("==$", "$")), (SALT, 1000, KEYS))

    def test_json(self) -> None:
        """The table of the account file is read as it was written, and nothing else is."""
        self.assertEqual(from_json(as_json(KEYS)), KEYS)
        tables: tuple[object, ...] = (
            [], {"SHA-256": "x"}, {"SHA-512": as_json(KEYS)["SHA-256"]}, {"SHA-256": 5}, {"SHA-256": "::"},
        )  # fmt: skip
        for wrong in tables:
            self.assertRaises(ValueError, from_json, wrong)
