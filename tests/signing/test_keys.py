"""Tests of what operators order about keys, and of which keys sign for whom."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.settings import Domain, Settings
from twisted_mail_node.settings_signing import DkimSettings
from twisted_mail_node.signing import making
from twisted_mail_node.signing.custody import Custody
from twisted_mail_node.signing.files import KeyFileError, KeyFiles
from twisted_mail_node.signing.keys import SigningKeys
from twisted_mail_node.signing.life import KeyState
from twisted_mail_node.signing.making import Wish, made, selectors

#: 28 November 2026.
NOW = 1_795_870_000.0


class Case(SynchronousTestCase):
    """A node without a network: settings, key files, a time."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.state = Path(place.name) / "state"
        self.files = KeyFiles(self.state)
        self.now = NOW

    def settings(self, *domains: str, hostname: str = "mx.example.org", **dkim: Any) -> Settings:
        """Settings with these local domains."""
        names = domains or ("example.org", "shop.example.org", "bücher.example")
        return Settings(
            hostname=hostname,
            state_dir=self.state,
            domains=tuple(Domain(name=name) for name in names),
            dkim=DkimSettings(**dkim),
        )

    def custody(self, settings: Settings | None = None) -> Custody:
        """Who carries out orders."""
        return Custody(settings or self.settings(), self.files, lambda: self.now)

    def states(self, domain: str = "example.org") -> dict[str, str]:
        """The state of each key."""
        return {key.selector: str(key.state) for key in self.files.read(domain)}


class CustodyTest(Case):
    """Orders."""

    def test_create(self) -> None:
        """Both kinds are made, called by the day, and wait."""
        changed = self.custody().create("Example.ORG.")
        self.assertEqual(changed.domain, "example.org")
        self.assertEqual([key.selector for key in changed.made], ["20261128r", "20261128e"])
        self.assertEqual([key.algorithm for key in changed.made], ["rsa-sha256", "ed25519-sha256"])
        self.assertEqual([key.bits for key in changed.made], [2048, 256])
        self.assertEqual(set(self.states().values()), {"new"})

    def test_second(self) -> None:
        """The second set of a day has selectors of its own, and so after a crash that left a private key."""
        self.custody().create("example.org", ["ed25519"])
        self.assertEqual([one.selector for one in self.custody().create("example.org", ["rsa"]).made], ["20261128-2r"])
        (self.state / "dkim" / "example.org" / "20261128-3e.pem").write_bytes(b"")
        made = self.custody().create("example.org", ["ed25519"]).made
        self.assertEqual([one.selector for one in made], ["20261128-4e"])

    def test_selector(self) -> None:
        """The operator's own selector is taken once; of two kinds each gets its letter."""
        custody = self.custody()
        custody.create("example.org", ["ed25519"], selector="mail")
        with self.assertRaisesRegex(ValueError, "there is a key mail already"):
            custody.create("example.org", ["ed25519"], selector="mail")
        self.assertEqual(
            [one.selector for one in custody.create("example.org", ["ed25519", "rsa"], selector="k").made], ["ke", "kr"]
        )
        with self.assertRaisesRegex(ValueError, "there is a key mail already"):
            custody.create("example.org", ["ed25519"], selector="MAIL")
        for wrong in ("../mail", "a/b", "a b", "-", "x" * 64):
            with self.assertRaisesRegex(ValueError, "can be no selector"):
                custody.create("example.org", ["ed25519"], selector=wrong)

    def test_bits(self) -> None:
        """Nobody signs with fewer bits than RFC 8301 wants, nor with more than verifiers must take."""
        for bits in (1, 1024, 2047, 4097, 1 << 19):
            with self.assertRaisesRegex(ValueError, "2048 to 4096 bits"):
                self.custody().create("example.org", ["rsa"], bits=bits)
        self.assertEqual(self.states(), {})

    def test_whose(self) -> None:
        """Local domains and the host name have keys, in any spelling; nobody else, and a slip of the pen is named."""
        custody = self.custody()
        for name, key in (
            ("mx.example.org", "mx.example.org"),
            ("BÜCHER.example", "xn--bcher-kva.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ):
            self.assertEqual(custody.create(name, ["ed25519"]).domain, key)
        with self.assertRaisesRegex(ValueError, "no local domain; did you mean 'example.org'"):
            custody.create("exampel.org")
        for name in ("", ".", "..", "../x", "example.net", "a/b", "[192.0.2.1]", "x" * 300, "\0", "a\nb", "ex ample"):
            with self.assertRaisesRegex(ValueError, "is no local domain"):
                custody.create(name)
        literal = self.custody(self.settings("example.org", hostname="[192.0.2.1]"))
        with self.assertRaisesRegex(ValueError, "is no local domain"):
            literal.create("[192.0.2.1]")
        with self.assertRaisesRegex(ValueError, "no domain that can have keys"):
            self.custody(self.settings("localhost")).create("localhost")

    def test_rotate(self) -> None:
        """New keys of the kinds that are active replace these once they are active, each its own."""
        custody = self.custody()
        custody.create("example.org", at_once=True)
        self.now += 86400
        changed = custody.rotate("example.org")
        self.assertEqual(
            [(key.selector, key.replaces) for key in changed.made],
            [("20261129r", ("20261128r",)), ("20261129e", ("20261128e",))],
        )
        self.assertEqual(list(self.states().values()), ["active", "active", "new", "new"])
        custody.activate("example.org", "20261129e")
        self.assertEqual(list(self.states().values()), ["active", "retiring", "new", "active"])

    def test_rotate_at_once(self) -> None:
        """With --now the new ones sign, and the old ones do not."""
        custody = self.custody()
        custody.create("example.org", ["ed25519"], selector="a", at_once=True)
        custody.rotate("example.org", at_once=True)
        self.assertEqual(self.states(), {"a": "retiring", "20261128e": "active"})

    def test_rotate_bits(self) -> None:
        """A key is not replaced by a weaker one."""
        custody = self.custody()
        custody.create("example.org", ["rsa"], bits=3072, at_once=True)
        self.assertEqual([key.bits for key in custody.rotate("example.org").made], [3072])

    def test_not_rotated(self) -> None:
        """Nothing is replaced that is not active, nor twice at a time; the sentence says what to do."""
        custody = self.custody()
        custody.create("example.org", ["ed25519"], selector="a")
        with self.assertRaisesRegex(ValueError, "mailnode dkim create example.org"):
            custody.rotate("example.org")
        custody.activate("example.org", "a")
        (new,) = custody.rotate("example.org").made
        with self.assertRaisesRegex(ValueError, f"mailnode dkim retire example.org {new.selector}"):
            custody.rotate("example.org")
        custody.retire("example.org", new.selector)
        custody.rotate("example.org")

    def test_no_longer_local(self) -> None:
        """A domain that is not local any more can be looked at and have its keys retired, but gets no new ones."""
        self.custody().create("example.org", ["ed25519"], selector="a", at_once=True)
        custody = self.custody(self.settings("example.net", hostname="mx.example.net"))
        self.assertEqual([key.selector for _, key in custody.keys("example.org")], ["a"])
        self.assertEqual(custody.keys(), [])
        self.assertEqual(custody.retire("example.org", "a").after[0].state, KeyState.RETIRING)
        self.assertRaises(ValueError, custody.create, "example.org")

    def test_selectors(self) -> None:
        """The time is that of UTC, whatever the machine's zone."""
        zone = os.environ.get("TZ")
        os.environ["TZ"] = "Pacific/Kiritimati"
        time.tzset()
        try:
            self.assertEqual(selectors(["rsa"], (), NOW), ["20261128r"])
        finally:
            os.environ.pop("TZ") if zone is None else os.environ.update(TZ=zone)
            time.tzset()


class SigningKeysTest(Case):
    """Which keys sign."""

    def setUp(self) -> None:
        super().setUp()
        self.custody().create("example.org", selector="main", at_once=True)

    def names(self, keys: SigningKeys, domain: str) -> list[str]:
        """Domain and selector of what signs."""
        return [f"{key.selector}@{key.domain}" for key in keys.of(domain)]

    def test_own(self) -> None:
        """A domain signs with its active keys, RSA first; new and retiring ones do not sign."""
        custody = self.custody()
        custody.create("example.org", ["ed25519"], selector="new")
        custody.create("example.org", ["ed25519"], selector="old", at_once=True)
        custody.retire("example.org", "old")
        keys = SigningKeys.loaded(self.settings())
        self.assertTrue(keys)
        self.assertEqual(self.names(keys, "example.org"), ["mainr@example.org", "maine@example.org"])
        self.assertEqual(self.names(keys, "EXAMPLE.org."), ["mainr@example.org", "maine@example.org"])

    def test_nearest(self) -> None:
        """A local domain without keys, and the host name, sign with those of the nearest local domain above."""
        custody = self.custody(self.settings("example.org", "a.example.org", "b.a.example.org", "sub.example.net"))
        custody.create("a.example.org", ["ed25519"], selector="a", at_once=True)
        settings = self.settings("example.org", "a.example.org", "b.a.example.org", "sub.example.net")
        keys = SigningKeys.loaded(settings)
        self.assertEqual(self.names(keys, "b.a.example.org"), ["a@a.example.org"])
        self.assertEqual(self.names(keys, "mx.example.org"), ["mainr@example.org", "maine@example.org"])
        self.assertEqual(self.names(keys, "sub.example.net"), [])

    def test_strangers(self) -> None:
        """What is not ours is not signed: not below a local domain, not above, not what is no domain."""
        keys = SigningKeys.loaded(self.settings())
        for name in ("x.example.org", "org", "", "example.net", "[192.0.2.1]", "a\0b", "..", "\udcff", "x" * 300):
            self.assertEqual(keys.of(name), (), name)

    def test_not_local(self) -> None:
        """Keys of a domain that is not local any more do not sign."""
        keys = SigningKeys.loaded(self.settings("shop.example.org", hostname="mx.example.net"))
        self.assertFalse(keys)
        self.assertEqual(keys.of("example.org") + keys.of("shop.example.org"), ())

    def test_disabled(self) -> None:
        """With enabled = false nothing is signed, and seals can be made."""
        keys = SigningKeys.loaded(self.settings(enabled=False))
        self.assertFalse(keys)
        self.assertEqual(keys.of("example.org"), ())
        self.assertIsNotNone(keys.sealing("example.org"))

    def test_sealing(self) -> None:
        """A seal is made with an RSA key, of the domain or above."""
        custody = self.custody()
        custody.create("bücher.example", ["ed25519"], at_once=True)
        keys = SigningKeys.loaded(self.settings())
        for name in ("example.org", "mx.example.org"):
            self.assertEqual(getattr(keys.sealing(name), "selector", ""), "mainr")
        self.assertIsNone(keys.sealing("xn--bcher-kva.example"))
        self.assertIsNone(keys.sealing("example.net"))

    def test_taken_up(self) -> None:
        """A change on the disk is seen, and a key that stays is not loaded again."""
        keys = SigningKeys.loaded(self.settings())
        self.assertFalse(keys.stale())
        before = keys.of("example.org")
        self.custody().create("example.org", ["ed25519"], selector="more", at_once=True)
        self.assertTrue(keys.stale())
        self.assertEqual(keys.of("example.org"), before)
        keys.use(keys.load(keys.domains))
        self.assertFalse(keys.stale())
        self.assertEqual(self.names(keys, "example.org")[-1], "more@example.org")
        self.assertIs(keys.of("example.org")[0], before[0])

    def test_unusable(self) -> None:
        """A key that cannot be used is a sentence with its file, and nothing changes."""
        keys = SigningKeys.loaded(self.settings())
        path = self.state / "dkim" / "example.org" / "maine.pem"
        octets = path.read_bytes()
        other = made("example.org", Wish("ed25519", "x"), 0.0)[1]
        for wrong, words in ((b"", "no private key"), (octets[:-40], "no private key"), (other, "whose record was")):
            path.write_bytes(wrong)
            with self.assertRaisesRegex(KeyFileError, f"maine.pem.*{words}"):
                SigningKeys.loaded(self.settings())
        path.unlink()
        with self.assertRaisesRegex(KeyFileError, "maine.pem cannot be read"):
            SigningKeys.loaded(self.settings())
        self.assertEqual(len(keys.of("example.org")), 2)

    def test_same_selector(self) -> None:
        """A selector that is used again after the first key was forgotten is another key."""
        keys = SigningKeys.loaded(self.settings())
        self.custody().retire("example.org", "maine", at_once=True)
        self.files.change("example.org", lambda there: there[:1])
        self.custody().create("example.org", ["ed25519"], selector="maine", at_once=True)
        before = keys.of("example.org")[1]
        keys.use(keys.load(keys.domains))
        self.assertNotEqual(keys.of("example.org")[1].public_record(), before.public_record())

    def test_constants(self) -> None:
        """We sign with keys that every verifier must take (RFC 8301 section 3.2)."""
        self.assertEqual((making.BITS_MIN, making.BITS_MAX), (2048, 4096))
