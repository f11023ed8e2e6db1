"""Tests of where keys lie: durable, private, and never elsewhere."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from twisted_mail_node.signing import files
from twisted_mail_node.signing.files import KeyFileError, KeyFiles
from twisted_mail_node.signing.life import Key, KeyState, activated, retired
from twisted_mail_node.signing.making import Wish, made

DOMAIN = "example.org"


def new(selector: str, replaces: tuple[str, ...] = ()) -> tuple[Key, bytes]:
    """A key and its private key."""
    return made(DOMAIN, Wish("ed25519", selector, replaces=replaces), 1000.0)


class Case(SynchronousTestCase):
    """A state directory."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.state = Path(place.name) / "state"
        self.files = KeyFiles(self.state)
        self.place = self.state / "dkim" / DOMAIN


class FilesTest(Case):
    """Keys on the disk."""

    def test_kept(self) -> None:
        """What was added is read again, by another object too; other domains have nothing."""
        one, other = new("a"), new("b")
        self.assertEqual(self.files.add(DOMAIN, [one, other]), (one[0], other[0]))
        again = KeyFiles(self.state)
        self.assertEqual(again.read(DOMAIN), (one[0], other[0]))
        self.assertEqual(again.private_key(DOMAIN, "a"), one[1])
        self.assertEqual(again.read("example.net"), ())
        self.assertIsNone(again.stamp("example.net"))

    def test_modes(self) -> None:
        """Nobody else reads anything, whatever the umask."""
        umask = os.umask(0)
        try:
            self.files.add(DOMAIN, [new("a")])
        finally:
            os.umask(umask)
        for path in (self.state, self.state / "dkim", self.place):
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o700, path)
        for name in os.listdir(self.place):
            self.assertEqual(stat.S_IMODE((self.place / name).stat().st_mode), 0o600, name)

    def test_retired(self) -> None:
        """The private key of a retired key is deleted; one that is retiring keeps it."""
        self.files.add(DOMAIN, [new("a"), new("b")])
        self.files.change(DOMAIN, lambda keys: activated(keys, "a", 1.0))
        self.files.change(DOMAIN, lambda keys: retired(retired(keys, "a", 2.0), "b", 2.0))
        self.assertEqual(sorted(os.listdir(self.place)), ["a.pem", "keys.json"])
        self.files.change(DOMAIN, lambda keys: retired(keys, "a", 3.0, at_once=True))
        self.assertEqual(os.listdir(self.place), ["keys.json"])
        self.assertEqual([key.state for key in self.files.read(DOMAIN)], [KeyState.RETIRED] * 2)

    def test_stamp(self) -> None:
        """Every change is seen by its stamp; looking is none."""
        self.files.add(DOMAIN, [new("a")])
        stamp = self.files.stamp(DOMAIN)
        self.files.read(DOMAIN)
        self.files.change(DOMAIN, lambda keys: keys)
        self.assertEqual(self.files.stamp(DOMAIN), stamp)
        self.files.change(DOMAIN, lambda keys: activated(keys, "a", 1.0))
        self.assertNotEqual(self.files.stamp(DOMAIN), stamp)

    def test_refused(self) -> None:
        """A selector is taken once, and the sentence of a refusal names the domain; nothing changes then."""
        one = new("a")
        self.files.add(DOMAIN, [one])
        with self.assertRaisesRegex(KeyFileError, "example.org: there is a key a already"):
            self.files.add(DOMAIN, [new("b"), new("a")])
        self.assertEqual(self.files.read(DOMAIN), (one[0],))
        self.assertEqual(self.files.private_key(DOMAIN, "a"), one[1])

    def test_somebody_elses(self) -> None:
        """A private key that nobody names is neither overwritten nor deleted."""
        self.files.add(DOMAIN, [new("a")])
        (self.place / "mine.pem").write_bytes(b"precious")
        with self.assertRaisesRegex(KeyFileError, "is there already"):
            self.files.add(DOMAIN, [new("mine")])
        self.files.change(DOMAIN, lambda keys: retired(keys, "a", 1.0))
        self.assertEqual((self.place / "mine.pem").read_bytes(), b"precious")
        self.assertEqual(self.files.taken(DOMAIN), {"a", "mine"})
        self.assertEqual(self.files.taken("example.net"), frozenset())

    def test_damaged(self) -> None:
        """A file that cannot be understood is a sentence, and is not written over."""
        self.files.add(DOMAIN, [new("a")])
        path = self.place / "keys.json"
        for octets in (b"", b"{", b"x" * (files.FILE_MAX + 1)):
            path.write_bytes(octets)
            self.assertRaises(KeyFileError, self.files.read, DOMAIN)
            self.assertRaises(KeyFileError, self.files.add, DOMAIN, [new("b")])
            self.assertEqual(path.read_bytes(), octets)
        path.unlink()
        path.mkdir()
        self.assertRaises(KeyFileError, self.files.read, DOMAIN)

    def test_not_written(self) -> None:
        """A disk that is full is a sentence; what was there stays."""
        before = self.files.add(DOMAIN, [new("a")])
        full = OSError(28, "No space left on device")
        with (
            mock.patch.object(os, "fsync", side_effect=full),
            self.assertRaisesRegex(KeyFileError, "cannot be written: No space"),
        ):
            self.files.change(DOMAIN, lambda keys: activated(keys, "a", 1.0))
        self.assertEqual(self.files.read(DOMAIN), before)

    def test_owner(self) -> None:
        """What root makes is for the node's user: that of the state directory."""
        self.state.mkdir()
        there = os.stat(self.state)
        owner = os.stat_result((*there[:4], 1234, 567, *there[6:]))
        real, changed = os.stat, []
        with (
            mock.patch.object(os, "geteuid", return_value=0),
            mock.patch.object(os, "fchown", side_effect=lambda fd, *ids: changed.append(ids)),
            mock.patch.object(os, "stat", lambda path, **more: owner if path == self.state else real(path, **more)),
        ):
            self.files.add(DOMAIN, [new("a")])
        self.assertEqual(set(changed), {(1234, 567)})
        self.assertEqual(len(changed), 5)  # two directories, the lock, the private key, what is known


class CrashTest(Case):
    """The crash story: after every step that can be the last one, another start finds what it may find."""

    def _crash_at(self, number: int, *, adding: bool) -> tuple[int, tuple[Key, ...]]:
        """Do it, and die at the ``number``th step that changes the disk; gives how many steps there were."""
        steps = 0

        class Crash(BaseException):
            pass

        def stepping(function: object) -> object:
            def step(*arguments: object, **more: object) -> object:
                nonlocal steps
                steps += 1
                if steps == number:
                    raise Crash
                return function(*arguments, **more)  # type: ignore[operator]

            return step

        names = ("replace", "unlink", "fsync", "mkdir")
        patches = [mock.patch.object(os, name, stepping(getattr(os, name))) for name in names]
        for patch in patches:
            patch.start()
        try:
            if adding:
                self.files.add(DOMAIN, [new("b", replaces=("a",))])
            else:
                self.files.change(DOMAIN, lambda keys: retired(activated(keys, "b", 5.0), "a", 5.0, at_once=True))
        except Crash:
            pass
        finally:
            for patch in patches:
                patch.stop()
        return steps, KeyFiles(self.state).read(DOMAIN)

    def test_adding(self) -> None:
        """A key that is known has its private key, at every instant; and what was known before still is."""
        number, steps = 0, 1
        while number <= steps:  # until nothing is left to die at
            number += 1
            self.setUp()
            self.files.add(DOMAIN, [new("a")])
            steps, keys = self._crash_at(number, adding=True)
            self.assertIn([key.selector for key in keys], (["a"], ["a", "b"]))
            for key in keys:
                self.assertIn(b"PRIVATE KEY", self.files.private_key(DOMAIN, key.selector))
            self.files.add(DOMAIN, [new("c")])  # and it goes on
        self.assertGreater(steps, 5)

    def test_changing(self) -> None:
        """A change is made whole or not at all, and every key that is not retired has its private key."""
        number, steps = 0, 1
        seen = set()
        while number <= steps:
            number += 1
            self.setUp()
            self.files.add(DOMAIN, [new("a"), new("b")])
            self.files.change(DOMAIN, lambda keys: activated(keys, "a", 1.0))
            steps, keys = self._crash_at(number, adding=False)
            states = tuple(str(key.state) for key in keys)
            seen.add(states)
            for key in keys:
                if key.state is not KeyState.RETIRED:
                    self.files.private_key(DOMAIN, key.selector)
            self.files.change(DOMAIN, lambda keys: keys)
            left = {name for name in os.listdir(self.place) if name.endswith(".pem")}
            self.assertEqual(left, {f"{key.selector}.pem" for key in keys if key.state is not KeyState.RETIRED})
        self.assertEqual(seen, {("active", "new"), ("retired", "active")})
