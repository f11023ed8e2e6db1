"""Tests of signed tokens: which signatures are believed, and when the file of the keys is read."""

from __future__ import annotations

import base64
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.directory.claims import TokenError
from twisted_mail_node.directory.jwks import FILE_MAX, KEYS_MAX, KeySet

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
OTHER = ec.generate_private_key(ec.SECP256R1())
CLAIMS = {"email": "joe@example.org", "exp": 5, "aud": "mail"}


def public(key: Any, kind: Any, **more: Any) -> dict[str, Any]:
    """A key of a JWKS file."""
    jwk: dict[str, Any] = json.loads(kind.to_jwk(key.public_key()))
    return jwk | more


RSA_JWK = public(RSA, jwt.algorithms.RSAAlgorithm, kid="r", use="sig")
EC_JWK = public(EC, jwt.algorithms.ECAlgorithm, kid="e")
ED_JWK = public(ED, jwt.algorithms.OKPAlgorithm, kid="d")

PRIVATE = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(ED))


def part(value: object) -> str:
    """A part of a token made by hand."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


class KeySetTests(SynchronousTestCase):
    """The keys in a file."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.path = Path(place.name) / "jwks.json"
        self.put(RSA_JWK, EC_JWK, ED_JWK)

    def put(self, *keys: object) -> None:
        self.path.write_text(json.dumps({"keys": keys}))

    def claims(self, token: str) -> Any:
        return KeySet(self.path).claims(token)

    def test_good(self) -> None:
        """RS256, ES256 and EdDSA, with the key's name or without. Claims are given as they are: not yet judged."""
        for key, algorithm, name in ((RSA, "RS256", "r"), (EC, "ES256", "e"), (ED, "EdDSA", "d")):
            for headers in ({"kid": name}, {}, {"kid": name, "typ": "at+jwt"}):
                token = jwt.encode(CLAIMS, key, algorithm, headers)
                self.assertEqual(self.claims(token), CLAIMS)

    def test_bad(self) -> None:
        """No signature, a symmetric one (also with our public key as the secret), another key, another algorithm, a
        changed octet, a header that wants more: not good."""
        good = jwt.encode(CLAIMS, EC, "ES256", {"kid": "e"})
        head, body, signature = good.split(".")
        pem = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        bad = [
            jwt.encode(CLAIMS, "", "none"),
            f"{part({'alg': 'none', 'kid': 'e'})}.{body}.",
            f"{part({'alg': 'None'})}.{body}.{signature}",
            jwt.encode(CLAIMS, "x" * 32, "HS256", {"kid": "e"}),
            _hmac(CLAIMS, pem, "r"),
            jwt.encode(CLAIMS, OTHER, "ES256", {"kid": "e"}),
            jwt.encode(CLAIMS, OTHER, "ES256", {"kid": "e", "jwk": public(OTHER, jwt.algorithms.ECAlgorithm)}),
            jwt.encode(CLAIMS, EC, "ES256", {"kid": "r"}),
            jwt.encode(CLAIMS, RSA, "RS512", {"kid": "r"}),
            jwt.encode(CLAIMS, RSA, "PS256", {"kid": "r"}),
            jwt.encode(CLAIMS, EC, "ES256", {"kid": "e", "crit": ["x"]}),
            jwt.encode(CLAIMS, EC, "ES256", {"kid": "e", "typ": "logout+jwt"}),
            f"{head}.{part(CLAIMS | {'email': 'ann@example.org'})}.{signature}",
            f"{head}.{body}.", f"{head}.{body}", "", "a.b.c", "..", ".".join(["x" * 4000] * 3),
            f"{base64.urlsafe_b64encode(b'[' * 6000).decode()}.{body}.{signature}",
            f"{part({'alg': 'ES256', 'kid': ['e']})}.{body}.{signature}",
            f"{part({'alg': ['ES256']})}.{body}.{signature}",
            f"{part([])}.{body}.{signature}",
        ]  # fmt: skip
        keys = KeySet(self.path)
        for token in bad:
            with self.assertRaises(TokenError, msg=token[:200]):
                keys.claims(token)
        self.assertEqual(keys.claims(good), CLAIMS)

    def test_unusable_keys(self) -> None:
        """Symmetric, private, short and foreign keys, and those for encryption, sign nothing."""
        short = rsa.generate_private_key(65537, 1024)
        self.put(
            EC_JWK, {"kty": "oct", "k": base64.b64encode(b"secret-" * 6).decode(), "kid": "o"},
            public(short, jwt.algorithms.RSAAlgorithm, kid="s"), RSA_JWK | {"use": "enc"}, PRIVATE,
            {"kty": "EC", "crv": "P-256", "x": "!"}, {"kty": "EC", "crv": ["P-256"]}, {"kty": ["EC"]}, 5, {},
            RSA_JWK | {"alg": "RS512"},
        )  # fmt: skip
        self.assertEqual(self.claims(jwt.encode(CLAIMS, EC, "ES256")), CLAIMS)
        for key, algorithm in ((RSA, "RS256"), (ED, "EdDSA"), (short, "RS256")):
            with self.assertRaises(TokenError):
                self.claims(jwt.encode(CLAIMS, key, algorithm))
        with self.assertRaises(TokenError):
            self.claims(jwt.encode(CLAIMS, "secret-" * 6, "HS256", {"kid": "o"}))

    def test_changed(self) -> None:
        """A changed file counts for the next token; while it is damaged nothing can be said."""
        keys = KeySet(self.path)
        token = jwt.encode(CLAIMS, OTHER, "ES256", {"kid": "n"})
        with self.assertRaises(TokenError):
            keys.claims(token)
        self.put(EC_JWK, public(OTHER, jwt.algorithms.ECAlgorithm, kid="n"))
        os.utime(self.path, (1, 1))
        self.assertEqual(keys.claims(token), CLAIMS)
        self.path.write_text("{")
        with self.assertRaises(ValueError):
            keys.claims(token)
        self.path.unlink()
        with self.assertRaises(ValueError):
            keys.claims(token)

    def test_no_file(self) -> None:
        """A file that holds no key we can use is a sentence, which quotes nothing of it."""
        for text in ("", "{", "[]", "{}", '{"keys": {}}', '{"keys": []}', '{"keys": [{"kty": "oct", "k": "sentinel"}]}',
                     json.dumps({"keys": [EC_JWK] * (KEYS_MAX + 1)}), "[" * 100_000, " " * (FILE_MAX + 1)):  # fmt: skip
            self.path.write_text(text)
            with self.assertRaises(ValueError) as caught:
                KeySet(self.path)
            self.assertIn("oauth.jwks", str(caught.exception))
            self.assertNotIn("sentinel", str(caught.exception))


def _hmac(claims: dict[str, Any], secret: bytes, name: str) -> str:
    """HS256 with a public key as the secret, which libraries do not make."""
    import hashlib
    import hmac

    signed = f"{part({'alg': 'HS256', 'kid': name, 'typ': 'JWT'})}.{part(claims)}"
    digest = hmac.digest(secret, signed.encode(), hashlib.sha256)
    return f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"
