"""Tests of twisted_mail_node.smtp.sasl_tokens."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from tests.smtp.exchanges import Outcome, lead, malformed
from twisted_mail_node.smtp.sasl import TokenLogin
from twisted_mail_node.smtp.sasl_tokens import INVALID_TOKEN, UNAUTHORIZED, oauthbearer, xoauth2

#: RFC 7628 section 4.1.
EXAMPLE = (
    b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEu"
    b"Y29tCg==\x01\x01"
)
LOGIN = TokenLogin("user@example.com", "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==")


class OAuthBearerTests(SynchronousTestCase):
    """OAUTHBEARER (RFC 7628)."""

    def test_example(self) -> None:
        """That of section 4.1, with an initial response and without one."""
        self.assertEqual(lead(oauthbearer(EXAMPLE)), Outcome("somebody", [], [LOGIN]))
        self.assertEqual(lead(oauthbearer(None), [EXAMPLE]), Outcome("somebody", [b""], [LOGIN]))

    def test_forms(self) -> None:
        """The scheme's case does not count; the name may be left to the token, and may hold commas."""
        for octets, name in (
            (b"n,,\x01auth=bearer t0.k-e_n~+/\x01\x01", ""),
            (b"y,a=a=2Cb=3D,\x01auth=BEARER t0.k-e_n~+/\x01\x01", "a,b="),
        ):
            self.assertEqual(lead(oauthbearer(octets)).logins, [TokenLogin(name, "t0.k-e_n~+/")])

    def test_refused(self) -> None:
        """The client hears why as JSON (section 3.2.2), and whatever it answers, nobody signed in."""
        for answer in (b"\x01", b"", b"anything"):
            outcome = lead(oauthbearer(EXAMPLE), [answer], check=lambda login: None)
            self.assertEqual((outcome.submitter, outcome.challenges), (None, [INVALID_TOKEN]))
        self.assertEqual(json.loads(INVALID_TOKEN)["status"], "invalid_token")

    def test_discovery(self) -> None:
        """A client without a token (section 4.3) hears the same; nobody is asked about it."""
        for octets in (b"n,,\x01\x01", b"n,a=user@example.com,\x01auth=\x01\x01"):
            self.assertEqual(lead(oauthbearer(octets), [b"\x01"]), Outcome(None, [INVALID_TOKEN], []))

    def test_malformed(self) -> None:
        """Another header, channel binding, pairs without an end, a key twice, no token."""
        for octets in (
            b"", b"\x01", b"n", b"n,,", b"n,,\x01", b"n,,auth=Bearer x\x01\x01",
            b"p=tls-exporter,,\x01auth=Bearer x\x01\x01",
            b"n,,\x01auth=Bearer x\x01", b"n,,\x01auth=Bearer x", b"n,,\x01auth=Bearer\x01\x01",
            b"n,,\x01auth=Bearer \x01\x01", b"n,,\x01auth=Basic x\x01\x01", b"n,,\x01auth=Bearer x y\x01\x01",
            b"n,,\x01auth=Bearer x\x01auth=Bearer y\x01\x01", b"n,,\x01auth\x01\x01", b"n,,\x01=x\x01\x01",
            b"n,,\x01\x01auth=Bearer x\x01\x01", b"n,,\x01auth=Bearer x\x01\x01\x01",
            b"n,,\x01auth=Bearer \xff\x01\x01",
            b"n,a=\xff,\x01auth=Bearer x\x01\x01", b"n,a=j=oe,\x01auth=Bearer x\x01\x01",
            b"n,a=a\nb,\x01auth=Bearer x\x01\x01",
            b"n,,\x01auth=Bearer x\n\x01\x01",
        ):  # fmt: skip
            self.assertTrue(malformed(oauthbearer(octets)), octets)


class XOAuth2Tests(SynchronousTestCase):
    """XOAUTH2."""

    def test_taken(self) -> None:
        """Name and token."""
        octets = b"user=joe@example.org\x01auth=Bearer ya29.x\x01\x01"
        expected = [TokenLogin("joe@example.org", "ya29.x")]
        self.assertEqual(lead(xoauth2(octets)), Outcome("somebody", [], expected))
        self.assertEqual(lead(xoauth2(None), [octets]), Outcome("somebody", [b""], expected))

    def test_refused(self) -> None:
        """The client hears why as JSON, and answers with nothing."""
        outcome = lead(xoauth2(b"user=joe\x01auth=Bearer x\x01\x01"), [b""], check=lambda login: None)
        self.assertEqual((outcome.submitter, outcome.challenges), (None, [UNAUTHORIZED]))
        self.assertEqual(json.loads(UNAUTHORIZED)["status"], "401")

    def test_malformed(self) -> None:
        """No name, no end, no pairs."""
        for octets in (
            b"", b"user=joe", b"user=\x01auth=Bearer x\x01\x01", b"joe\x01auth=Bearer x\x01\x01",
            b"user=joe\x01auth=x\x01\x01",
            b"user=joe\x01auth=Bearer x\x01", b"n,a=joe,\x01auth=Bearer x\x01\x01",
            b"user=\xff\x01auth=Bearer x\x01\x01",
        ):  # fmt: skip
            self.assertTrue(malformed(xoauth2(octets)), octets)
