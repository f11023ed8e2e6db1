"""Tests of the local domains and their Maildirs."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.directory.domains import Domains
from twisted_mail_node.message.address import Address
from twisted_mail_node.settings import Domain

STATE = Path("/state")


def domains(*names: str, hostname: str = "mx.example.org", **options: str) -> Domains:
    """Local domains."""
    return Domains([Domain(name=name, **options) for name in names], hostname, STATE)  # type: ignore[arg-type]


class DomainsTests(SynchronousTestCase):
    """Which domains are ours."""

    def test_spellings(self) -> None:
        """A domain is found in any spelling."""
        ours = domains("example.org", "bücher.example")
        for name in ("example.org", "EXAMPLE.Org", "example.org.", "bücher.example", "xn--BCHER-kva.example"):
            self.assertIsNotNone(ours.find(name), name)

    def test_others(self) -> None:
        """Subdomains, parents, literals and nonsense are not ours."""
        ours = domains("example.org")
        for name in ("a.example.org", "org", "[192.0.2.1]", "ü" * 300, ".", "example.org\0"):
            self.assertIsNone(ours.find(name), name)

    def test_literal(self) -> None:
        """An address literal is ours when it is listed."""
        self.assertIsNotNone(domains("[IPv6:2001:db8::1]").find("[IPv6:2001:db8::1]"))

    def test_main(self) -> None:
        """The bare postmaster is that of the domain named like the host, else of the first."""
        self.assertEqual(domains("a.example", "b.example", hostname="b.example").main.key, "b.example")
        self.assertEqual(domains("a.example", "b.example").main.key, "a.example")
        self.assertEqual(domains("a.example").find(""), domains("a.example").main)

    def test_without_any(self) -> None:
        """Without a local domain the host name is one."""
        self.assertEqual(domains().main.key, "mx.example.org")

    def test_twice(self) -> None:
        """A domain is there once."""
        with self.assertRaises(ValueError):
            domains("example.org", "EXAMPLE.org")


class MaildirPathTests(SynchronousTestCase):
    """Where mailboxes lie."""

    def test_default(self) -> None:
        """Below the state directory, by domain."""
        path = domains("bücher.example").maildir_path(Address("joe", "Bücher.example"))
        self.assertEqual(path, STATE / "mail/xn--bcher-kva.example/joe")

    def test_absolute(self) -> None:
        """An absolute template is taken as it is."""
        ours = domains("example.org", maildir="/srv/{local_part}/Maildir")
        self.assertEqual(ours.maildir_path(Address("joe", "example.org")), Path("/srv/joe/Maildir"))

    def test_not_local(self) -> None:
        """Other domains have no Maildirs here."""
        with self.assertRaises(ValueError):
            domains("example.org").maildir_path(Address("joe", "example.com"))

    @given(
        st.text(max_size=300) | st.sampled_from(["../../x", "/etc/passwd", "..", "\0", "." * 300, "{domain}", "new"])
    )
    def test_inside(self, local_part: str) -> None:
        """T19: whatever the local-part, the Maildir is a direct child of the domain's directory."""
        path = domains("example.org").maildir_path(Address(local_part, "example.org"))
        self.assertEqual(path.parent, STATE / "mail" / "example.org")
        self.assertNotIn(path.name, ("", ".", ".."))
        self.assertLessEqual(len(path.name.encode()), 255)
