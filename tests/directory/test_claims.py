"""Tests of what a token says and whom it is for."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.directory.claims import TokenError, expiry, name_in
from twisted_mail_node.settings import OAuthSettings

NOW = 1_000_000.0
GOOD: dict[str, object] = {
    "exp": NOW + 60, "nbf": NOW - 60, "iss": "https://login.example.org", "aud": ["mail", "other"],
    "scope": "openid mail.send", "email": "joe@example.org",
}  # fmt: skip
STRICT: dict[str, Any] = {"issuer": "https://login.example.org", "audience": "mail", "scope": "mail.send"}


class ClaimsTests(SynchronousTestCase):
    """``name_in``."""

    def name(self, claims: dict[str, object], must_expire: bool = True, **settings: Any) -> str:
        return name_in(claims, OAuthSettings(**settings), NOW, must_expire=must_expire)

    def test_good(self) -> None:
        """The name is in the claim that the settings say; lists and texts are read alike."""
        for more in ({}, {"aud": "mail"}, {"scope": ["mail.send"]}, {"email_verified": True}, {"nbf": NOW + 59}):
            self.assertEqual(self.name(GOOD | more, **STRICT), "joe@example.org")
        self.assertEqual(self.name(GOOD | {"sub": "joe"}, name_claim="sub"), "joe")
        without = {key: value for key, value in GOOD.items() if key != "exp"}
        self.assertEqual(self.name(without, must_expire=False), "joe@example.org")
        scp = {key: value for key, value in GOOD.items() if key != "scope"} | {"scp": "mail.send"}
        self.assertEqual(self.name(scp, **STRICT), "joe@example.org")

    def test_bad(self) -> None:
        """Too late, too early, another issuer, another service, no scope, no name, not verified: not good."""
        for claim, value in (
            ("exp", NOW), ("exp", None), ("exp", "tomorrow"), ("exp", True), ("exp", -1), ("exp", float("inf")),
            ("nbf", NOW + 61), ("nbf", "x"), ("iss", None), ("iss", "https://login.example.org/"), ("aud", None),
            ("aud", "mail2"), ("aud", ["x"]), ("aud", {"mail": 1}), ("scope", None), ("scope", "mail.sendall"),
            ("scope", 5), ("email", None), ("email", ""), ("email", 5), ("email", ["joe@example.org"]),
            ("email_verified", False), ("email_verified", "false"), ("email_verified", None),
        ):  # fmt: skip
            with self.assertRaises(TokenError, msg=f"{claim} {value}") as caught:
                self.name(GOOD | {claim: value}, **STRICT)
            self.assertNotIn("joe@", str(caught.exception))

    def test_expiry(self) -> None:
        """When a token ends."""
        self.assertEqual((expiry(GOOD), expiry({})), (NOW + 60, None))
