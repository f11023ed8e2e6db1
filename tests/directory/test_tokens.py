"""Tests of signing in with bearer tokens."""

from __future__ import annotations

import json
from typing import Any

import jwt
from twisted.internet import reactor

from tests.directory.signing_in import ANN, JOE, SigningInCase, Tls
from tests.directory.test_jwks import EC, EC_JWK
from twisted_mail_node.directory.introspection import Introspection, IntrospectionError
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import Account, OAuthSettings
from twisted_mail_node.smtp.sasl import TokenLogin

WRONG = str(Reason.WRONG_PASSWORD)
FAR = 4_000_000_000
CLAIMS: dict[str, Any] = {"email": "joe@example.org", "exp": FAR, "aud": "mail"}


def token(**claims: Any) -> str:
    """A token with these claims beside the good ones."""
    return jwt.encode(CLAIMS | claims, EC, "ES256")


class TokenTests(SigningInCase):
    """OAUTHBEARER and XOAUTH2."""

    def setUp(self) -> None:
        super().setUp()
        (self.state / "jwks.json").write_text(json.dumps({"keys": [EC_JWK]}))
        self.file.add(JOE)
        self.file.add(ANN)
        self.file.set(ANN, disabled=True)

    def oauth(self, **more: Any) -> dict[str, Any]:
        return {"oauth": OAuthSettings(**({"jwks": "jwks.json", "audience": "mail"} | more))}

    async def token(self, text: str, name: str = "") -> str:
        found = await self.login(TokenLogin(name, text))
        return str(found) if isinstance(found, Reason) else str(found.account)

    async def test_signed(self) -> None:
        """A good token signs in to the account it names, if nobody else was named."""
        self.start(**self.oauth())
        for name in ("", "joe", "JOE@example.org"):
            self.assertEqual(await self.token(token(), name), "joe@example.org")
        for name in ("ann", "nobody", "joe@example.com"):
            self.assertEqual(await self.token(token(), name), WRONG)
        for claims in ({"exp": 1}, {"aud": "x"}, {"email": "x@example.org"}, {"email": "joe@example.net"}):
            self.assertEqual(await self.token(token(**claims)), WRONG)
        self.assertEqual(await self.token(token(email="ann@example.org")), str(Reason.ACCOUNT_DISABLED))
        for text in ("", "x", "é", "a b", "x" * 20_000, token() + "x"):
            self.assertEqual(await self.token(text), WRONG)

    async def test_asked(self) -> None:
        """With both ways a signed token is checked by its signature, and the issuer is asked about any other."""
        asked: list[str] = []

        async def claims(introspection: Introspection, text: str) -> dict[str, object]:
            asked.append(text)
            if text == "broken":
                raise IntrospectionError("no answer")
            return {"active": True, "email": "joe@example.org", "aud": "mail"}

        self.patch(Introspection, "claims", claims)
        self.start(**self.oauth(introspection="https://login.example.org/"))
        self.assertEqual(await self.token(token()), "joe@example.org")
        self.assertEqual(asked, [])
        self.assertEqual(await self.token("opaque"), "joe@example.org")
        self.assertEqual(await self.token("a.b.c"), WRONG)
        with self.assertRaises(IntrospectionError):
            await self.token("broken")
        self.assertEqual(asked, ["opaque", "broken"])

    def test_offered(self) -> None:
        """The mechanisms are offered with [oauth] and not without."""
        self.start(Account(address=ANN), **self.oauth())
        offered = self.authentication.mechanisms(Tls())
        self.assertEqual([one for one in offered if "OAUTH" in one], ["OAUTHBEARER", "XOAUTH2"])
        self.reload()
        self.assertNotIn("XOAUTH2", self.authentication.mechanisms(Tls()))

    def test_wrong_settings(self) -> None:
        """Keys without an audience, or without a file: the node does not start."""
        for more in ({"audience": None}, {"jwks": "missing.json"}):
            with self.assertRaises(ValueError) as caught:
                self.start(**self.oauth(**more))
            self.assertIn("oauth.", str(caught.exception))
        self.assertIsNotNone(reactor)
