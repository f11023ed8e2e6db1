"""Our private keys (RFC 6376 section 3.3, RFC 8301 section 3.2, RFC 8463)."""

from __future__ import annotations

from unittest.mock import patch

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from twisted.trial.unittest import SynchronousTestCase

from tests.mailauth.dkim import DOMAIN, ed25519_key, rsa_key
from twisted_mail_node.mailauth.dkim_key import THREAD_FROM_BITS, SigningKey
from twisted_mail_node.mailauth.keys import read_key


class SigningKeyTest(SynchronousTestCase):
    """``SigningKey``."""

    def test_load(self) -> None:
        """PEM in PKCS#8 and PKCS#1; what is no such key, or has a password, is refused with a sentence."""
        rsa, ed25519 = generate_private_key(65537, 1024), Ed25519PrivateKey.generate()
        for key, form, algorithm in (
            (rsa, PrivateFormat.PKCS8, "rsa-sha256"),
            (rsa, PrivateFormat.TraditionalOpenSSL, "rsa-sha256"),
            (ed25519, PrivateFormat.PKCS8, "ed25519-sha256"),
        ):
            pem = key.private_bytes(Encoding.PEM, form, NoEncryption())
            ours = SigningKey.load(pem, "Example.ORG", "S1")
            self.assertEqual((ours.domain, ours.selector, ours.algorithm), (DOMAIN, "s1", algorithm))
        curve = ec.generate_private_key(ec.SECP256R1())
        for pem in (
            b"",
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            rsa.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")),
            curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        ):
            self.assertRaises(ValueError, SigningKey.load, pem, DOMAIN, "s")

    def test_names(self) -> None:
        """Domain and selector must be such; U-labels become A-labels."""
        key = Ed25519PrivateKey.generate()
        self.assertEqual(SigningKey(key, "bücher.example", "s").domain, "xn--bcher-kva.example")
        self.assertEqual(SigningKey(key, DOMAIN, "a.b").name, f"a.b._domainkey.{DOMAIN}")
        for domain, selector in (
            ("org", "s"),
            ("", "s"),
            (DOMAIN, ""),
            (DOMAIN, "a b"),
            ("a.b;x", "s"),
            (DOMAIN, "s\r\n"),
        ):
            self.assertRaises(ValueError, SigningKey, key, domain, selector)

    def test_length(self) -> None:
        """RSA under 1024 bits is not signed with (RFC 8301 section 3.2)."""
        with patch("twisted_mail_node.mailauth.dkim_key.RSA_BITS_MIN", 1025):
            self.assertRaises(ValueError, SigningKey, generate_private_key(65537, 1024), DOMAIN, "s")

    def test_record(self) -> None:
        """The record is one that our reader takes, and its key checks what was signed."""
        for key in (rsa_key(1024), ed25519_key()):
            public = read_key(key.public_record().encode())
            self.assertEqual((f"{public.kind}-sha256", public.bits), (key.algorithm, key.bits))
            self.assertTrue(public.verify(key.sign(b"octets"), "sha256", b"octets"))

    def test_slow(self) -> None:
        """RSA as long as everybody has it belongs in a thread; Ed25519 does not."""
        self.assertTrue(rsa_key(THREAD_FROM_BITS).slow)
        self.assertFalse(rsa_key(1024).slow)
        self.assertFalse(ed25519_key().slow)
