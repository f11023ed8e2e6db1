"""Which reverse-paths are rewritten, and where mail to rewritten ones goes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.directory.directory import Directory
from twisted_mail_node.directory.resolution import Resolution
from twisted_mail_node.directory.srs_keys import make_keys, read_keys, srs_keys
from twisted_mail_node.message.address import Address
from twisted_mail_node.message.envelope import Envelope, Recipient
from twisted_mail_node.message.srs import DAY, Srs
from twisted_mail_node.reasons import Reason
from twisted_mail_node.settings import Account, Alias, Domain, Settings, SrsSettings

T = TypeVar("T")

NOW = 1_709_633_472.0
KEY = b"0123456789abcdef"
SALES = Address("sales", "example.org")
JOE = Address("joe", "example.org")
FAR = Address("far", "elsewhere.example")
SENDER = Address("ann", "example.net")


class ForwardingCase(SynchronousTestCase):
    """A directory with an alias that leads elsewhere."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.state = Path(place.name)
        self.now = NOW
        self.directory = Directory(self.settings(), (KEY,), lambda: self.now)

    def settings(self, **srs: Any) -> Settings:
        """Two local domains; SRS is at the first unless it is said."""
        return Settings(
            hostname="mx.example.org",
            state_dir=self.state,
            domains=(Domain(name="example.org", catch_all=JOE), Domain(name="example.com")),
            accounts=(Account(address=JOE),),
            aliases=(Alias(address=SALES, to=(FAR, JOE)),),
            srs=SrsSettings(**srs),
        )

    def resolved(self, address: Address) -> Resolution:
        """What the directory says."""
        story: Coroutine[Any, Any, Resolution] = self.directory.resolve(address)
        return self.successResultOf(Deferred.fromCoroutine(story))

    def rewritten(
        self, reverse_path: Address | None = SENDER, address: Address = FAR, original: Address = SALES
    ) -> Address | None:
        """What the next hop is told."""
        return self.directory.forwarding.reverse_path(Envelope(reverse_path), Recipient(address, original))


class RewriteTests(ForwardingCase):
    """``Forwarding.reverse_path``."""

    def test_forwarded(self) -> None:
        """What an alias leads elsewhere leaves with an address of ours, and a bounce to it finds the sender."""
        found = self.rewritten()
        assert found is not None
        self.assertEqual(found.domain, "example.org")
        self.assertEqual(self.resolved(found), Resolution(True, (SENDER,), True, returns=True))

    def test_not_rewritten(self) -> None:
        """Not: what stays here, what was addressed there, bounces, and mail of our own people."""
        self.assertIsNone(self.rewritten(address=JOE))
        self.assertIsNone(self.rewritten(original=FAR))
        self.assertIsNone(self.rewritten(original=Address("x", "relayed.example")))
        self.assertIsNone(self.rewritten(None))
        self.assertIsNone(self.rewritten(JOE))
        self.assertIsNone(self.rewritten(Address("nobody", "EXAMPLE.com")))

    def test_too_long(self) -> None:
        """What would be too long goes with its own reverse-path; a setting allows more."""
        long = Address("a" * 60, "example.net")
        self.assertIsNone(self.rewritten(long))
        self.directory.reload(self.settings(longest=250), (KEY,))
        self.assertIsNotNone(self.rewritten(long))

    def test_switched_off(self) -> None:
        """Switched off, or without keys, nothing is rewritten and such addresses are like all others."""
        found = self.rewritten()
        assert found is not None
        for settings, keys in ((self.settings(enabled=False), (KEY,)), (self.settings(), ())):
            self.directory.reload(settings, keys)
            self.assertIsNone(self.rewritten())
            self.assertEqual(self.resolved(found), Resolution(True, (JOE,), True))  # the catch-all

    def test_domain(self) -> None:
        """The settings may name another local domain; one that is not local is refused, and the old one stays."""
        self.directory.reload(self.settings(domain="EXAMPLE.com"), (KEY,))
        found = self.rewritten()
        assert found is not None
        self.assertEqual(found.domain, "example.com")
        with self.assertRaises(ValueError):
            self.directory.reload(self.settings(domain="example.net"), (KEY,))
        self.assertEqual(self.rewritten(), found)


class ReturnTests(ForwardingCase):
    """Resolving."""

    def test_forged(self) -> None:
        """A forged address is nobody's, and does not reach the catch-all; at another domain of ours it is any other."""
        found = self.rewritten()
        assert found is not None
        forged = found._replace(local_part=found.local_part.replace("ann", "bob"))
        self.assertEqual(self.resolved(forged), Resolution(True, (), False, Reason.SRS_FORGED))
        self.assertEqual(self.resolved(found._replace(domain="example.com")).problem, Reason.UNKNOWN_RECIPIENT)

    def test_expired(self) -> None:
        """After the lifetime it is nobody's, whatever was asked before."""
        found = self.rewritten()
        assert found is not None
        self.now = NOW + 21 * DAY
        self.assertEqual(self.resolved(found).targets, (SENDER,))
        self.now = NOW + 22 * DAY
        self.assertEqual(self.resolved(found), Resolution(True, (), False, Reason.SRS_EXPIRED))

    def test_became_local(self) -> None:
        """When the sender's domain has become ours meanwhile his address is resolved like any of ours."""
        srs = Srs((KEY,), "example.org", 21)
        for address, targets in ((SALES, (FAR, JOE)), (Address("nobody", "example.com"), ())):
            found = srs.write(address, NOW)
            assert found is not None
            answer = self.resolved(found)
            self.assertEqual((answer.targets, answer.returns), (targets, True))

    def test_not_an_address(self) -> None:
        """What was signed, but is none that RCPT could name, leads nowhere."""
        for address in (Address("a\r\nb", "example.net"), Address("a", "b c"), Address("a" * 300, "example.net")):
            found = Srs((KEY,), "example.org", 21, 1000).write(address, NOW)
            assert found is not None
            self.assertEqual(self.resolved(found).problem, Reason.SRS_FORGED)


class KeyTests(ForwardingCase):
    """The key file."""

    def test_made(self) -> None:
        """It is made when it is missing, for its owner alone, with a key that differs each time; then it stays."""
        keys = srs_keys(self.settings())
        path = self.state / "srs.key"
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        self.assertEqual((len(keys), len(keys[0])), (1, 64))
        self.assertEqual(srs_keys(self.settings()), keys)
        path.unlink()
        self.assertNotEqual(srs_keys(self.settings()), keys)
        self.assertEqual(os.listdir(self.state), ["srs.key"])

    def test_not_made(self) -> None:
        """Where SRS is switched off there is none, and none is made."""
        self.assertEqual(srs_keys(self.settings(enabled=False)), ())
        self.assertEqual(os.listdir(self.state), [])

    def test_left_behind(self) -> None:
        """What a crash left of the making does no harm."""
        (self.state / "srs.key.new").write_bytes(b"half")
        self.assertEqual(len(srs_keys(self.settings())), 1)

    def test_on_the_disk(self) -> None:
        """The file and its name are on the disk before anything is signed: a crash must not bring another key."""
        synced: list[str] = []
        with mock.patch.object(
            os, "fsync", lambda fd: synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        ):
            make_keys(self.state / "k")
        self.assertEqual(synced, ["k.new", self.state.name])

    def test_modes(self) -> None:
        """A file that others may read or write is refused (T40)."""
        path = self.state / "k"
        make_keys(path)
        for mode in (0o640, 0o604, 0o620, 0o666):
            path.chmod(mode)
            with self.assertRaisesRegex(ValueError, "chmod 600"):
                read_keys(path)
        path.chmod(0o400)
        self.assertEqual(len(read_keys(path)), 1)

    def test_content(self) -> None:
        """Several keys, comments and empty lines are read; nothing, short keys and huge files are refused."""
        path = self.state / "k"
        path.touch(0o600)
        path.write_bytes(b"# new\n" + KEY + b"\n\n  fedcba9876543210 \r\n")
        self.assertEqual(read_keys(path), (KEY, b"fedcba9876543210"))
        for content in (b"", b"# only words\n", b"short\n", KEY + b"\nshort\n", b"x" * 100_000):
            path.write_bytes(content)
            with self.assertRaises(ValueError):
                read_keys(path)
