"""Attacks on what signs: the files it lies in (T19, T40). Whose mail is signed (T24) is in tests/signing/test_queue."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.settings import Domain, Settings
from twisted_mail_node.signing.custody import Custody
from twisted_mail_node.signing.files import KeyFileError, KeyFiles
from twisted_mail_node.signing.keys import SigningKeys
from twisted_mail_node.signing.life import understood


class Case(SynchronousTestCase):
    """A domain with a key."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.state = Path(place.name) / "state"
        self.files = KeyFiles(self.state)
        self.settings = Settings(hostname="mx.example.org", state_dir=self.state, domains=(Domain(name="example.org"),))
        self.custody = Custody(self.settings, self.files, lambda: 1e9)
        self.custody.create("example.org", ["ed25519"], selector="k", at_once=True)
        self.place = self.state / "dkim" / "example.org"


class PathTest(Case):
    """T19: nothing is read or written elsewhere."""

    def test_links(self) -> None:
        """A directory or a file that is a link to elsewhere is refused, for reading and for writing."""
        elsewhere = self.state / "elsewhere"
        for path in (self.state / "dkim", self.place):
            path.rename(elsewhere)
            path.symlink_to(elsewhere)
            for work in (
                lambda: self.files.read("example.org"),
                lambda: self.files.private_key("example.org", "k"),
                lambda: self.custody.create("example.org", ["ed25519"], selector="more"),
                lambda: SigningKeys.loaded(self.settings),
            ):
                self.assertRaises(ValueError, work)
            self.assertNotIn("more.pem", os.listdir(elsewhere))
            path.unlink()
            elsewhere.rename(path)
        for name in ("k.pem", "keys.json"):
            path = self.place / name
            path.rename(elsewhere)
            path.symlink_to(elsewhere)
            self.assertRaises(KeyFileError, SigningKeys.loaded, self.settings)
            path.unlink()
            elsewhere.rename(path)
        self.assertEqual(len(SigningKeys.loaded(self.settings).of("example.org")), 1)

    def test_no_file(self) -> None:
        """A FIFO in the place of a file is refused, and nobody waits at it."""
        for name in ("k.pem", "keys.json"):
            octets = (self.place / name).read_bytes()
            (self.place / name).unlink()
            os.mkfifo(self.place / name, 0o600)
            self.assertRaises(KeyFileError, SigningKeys.loaded, self.settings)
            (self.place / name).unlink()
            (self.place / name).write_bytes(octets)
            (self.place / name).chmod(0o600)

    @given(st.text(alphabet=st.sampled_from("./\\a-_\0\n~*ä%"), max_size=12))
    def test_any_name(self, name: str) -> None:
        """Whatever stands for a domain or a selector, no path but one below the directory comes of it."""
        for domain, selector in ((name, "k2"), ("example.org", name)):
            before = sorted(os.listdir(self.state))
            try:
                self.custody.create(domain, ["ed25519"], selector=selector or "/")
            except ValueError:
                pass
            try:
                self.assertEqual(self.files.place(name).parent, self.state / "dkim")
            except KeyFileError:
                pass
            self.assertEqual(sorted(os.listdir(self.state)), before)
            self.assertEqual(set(os.listdir(self.state / "dkim")), {"example.org", "lock"})

    def test_written_selector(self) -> None:
        """A selector that somebody wrote into keys.json leads nowhere."""
        path = self.place / "keys.json"
        octets = path.read_bytes()
        for selector in ("../k", "/etc/passwd", "k/../k", ".", "..", "k\\u0000"):
            path.write_bytes(octets.replace(b'"selector": "k"', f'"selector": "{selector}"'.encode()))
            self.assertRaises(ValueError, understood, path.read_bytes())
            self.assertRaises(KeyFileError, SigningKeys.loaded, self.settings)


class SecretTest(Case):
    """T40: private keys are private."""

    def test_modes(self) -> None:
        """Files and directories that others may use are refused, each mode bit of them."""
        for bit in (0o040, 0o020, 0o010, 0o004, 0o002, 0o001):
            for path in (self.state / "dkim", self.place, self.place / "k.pem"):
                mode = path.stat().st_mode & 0o777
                path.chmod(mode | bit)
                with self.assertRaisesRegex(KeyFileError, f"mode {mode | bit:04o}"):
                    SigningKeys.loaded(self.settings)
                path.chmod(mode)
        SigningKeys.loaded(self.settings)

    def test_not_shown(self) -> None:
        """No error and no repr shows a private key."""
        pem = (self.place / "k.pem").read_bytes()
        secret = pem.splitlines()[1].decode()
        keys = SigningKeys.loaded(self.settings)
        shown = [
            repr(keys),
            repr(keys.of("example.org")),
            repr(self.custody.keys()),
            (self.place / "keys.json").read_text(),
        ]
        for wrong in (pem[:-10], pem.replace(b"PRIVATE", b"PUBLIC"), pem + pem[:60], pem[30:]):
            (self.place / "k.pem").write_bytes(wrong)
            try:
                SigningKeys.loaded(self.settings)
            except KeyFileError as error:
                shown.append(str(error))
        self.assertGreater(len(shown), 5)
        for text in shown:
            self.assertNotIn(secret, text)
