"""Tests of twisted_mail_node.smtp.mechanisms."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.inbound.secured import MemorySession
from tests.smtp.exchanges import Outcome, UnansweredError, lead, malformed
from twisted_mail_node.settings_security import MECHANISMS as NAMED
from twisted_mail_node.smtp.mechanisms import MECHANISMS, exchange
from twisted_mail_node.smtp.sasl import CertificateLogin, Login, MalformedError, PasswordLogin, ScramLogin, TokenLogin

#: Pieces from which something that looks like a response can be put together.
PIECES = [
    b"", b"\0", b"\x01", b"\x01\x01", b"n,,", b"y,,", b"n,a=", b"p=tls-exporter,,", b"n=", b"joe", b",", b"=", b"=2C",
    b"r=", b"abc", b"abcfixed", b"c=", b"biws", b"p=", b"AAAA", b"auth=Bearer ", b"auth=", b"user=", b"token", b"host=",
    b"m=", b"\xff", "\u00ad".encode(), "\u05d0".encode(), b"\r\n", b"a" * 5000,
]  # fmt: skip
RESPONSES = st.one_of(st.binary(max_size=40), st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join))


class TableTests(SynchronousTestCase):
    """The table of mechanisms."""

    def test_settings(self) -> None:
        """Those that settings may name are those we have."""
        self.assertEqual(set(MECHANISMS), set(NAMED))

    def test_unknown(self) -> None:
        """There is no other."""
        self.assertRaises(KeyError, exchange, "CRAM-MD5", None, None)

    def test_plus(self) -> None:
        """Whether -PLUS is offered is looked up for the very hash: y is a downgrade there and nowhere else."""
        first = b"y,,n=joe,r=abc"
        tls = MemorySession()
        for name in ("SCRAM-SHA-256", "SCRAM-SHA-1"):
            self.assertTrue(malformed(exchange(name, first, tls, (name, f"{name}-PLUS"))))
            for offered in ((name,), (), ("PLAIN",)):
                self.assertRaises(UnansweredError, lead, exchange(name, first, tls, offered))


class ExternalTests(SynchronousTestCase):
    """EXTERNAL (RFC 4422 appendix A)."""

    def test_names(self) -> None:
        """The certificate speaks; a name picks one of several."""
        tls = MemorySession()
        for initial, responses, name in (
            (b"", [], ""),
            (b"joe", [], "joe"),
            (None, [b""], ""),
            (None, [b"joe"], "joe"),
        ):
            outcome = lead(exchange("EXTERNAL", initial, tls), responses)
            asked = [] if initial is not None else [b""]
            self.assertEqual(outcome, Outcome("somebody", asked, [CertificateLogin(name, tls)]))

    def test_malformed(self) -> None:
        """A name that is none."""
        for octets in (b"\xff", b"a\0b", "\u00ad".encode(), b"a" * 600):
            self.assertTrue(malformed(exchange("EXTERNAL", octets, MemorySession())))


class AnyTests(SynchronousTestCase):
    """Whatever a client says."""

    @settings(max_examples=500, deadline=None)
    @given(
        st.sampled_from(sorted(MECHANISMS)),
        st.none() | RESPONSES,
        st.lists(RESPONSES, min_size=4, max_size=4),
        st.booleans(),
    )
    def test_any(self, name: str, initial: bytes | None, responses: list[bytes], good: bool) -> None:
        """It is malformed, or a login with a name and a secret; nothing else is ever raised, and four responses do."""

        def check(login: Login) -> Any:
            self.assertTrue(complete(login), login)
            if isinstance(login, ScramLogin) and good:
                login.signed.append(b"signature")
            return "somebody" if good else None

        try:
            outcome = lead(exchange(name, initial, MemorySession(), tuple(MECHANISMS)), responses, check=check)
        except MalformedError as error:
            self.assertTrue(str(error))
            return
        self.assertEqual(outcome.submitter is not None, good and bool(outcome.logins))


def complete(login: Login) -> bool:
    """Nothing that must be in it is empty."""
    match login:
        case PasswordLogin():
            return bool(login.name and login.password)
        case ScramLogin():
            return bool(login.name and login.message and login.proof)
        case TokenLogin():
            return bool(login.token)
        case _:
            return True
