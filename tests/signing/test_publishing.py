"""Tests of publishing records by dynamic update."""

from __future__ import annotations

import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import dns.rcode
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.signing.receiver import KEY_FILE, SECRET, MemoryTransport, Receiver
from twisted_mail_node.dns.transport import Server, TransportError
from twisted_mail_node.settings_signing import DkimSettings
from twisted_mail_node.signing.making import Wish, made
from twisted_mail_node.signing.publishing import (
    UPDATE_TIME,
    NotPublishedError,
    Updates,
    read_update_key,
    update_key_of,
    updates_of,
)

RSA = made("example.org", Wish("rsa", "r"), 0.0)[0].record
NAME = "r._domainkey.example.org"


class KeyFileTest(SynchronousTestCase):
    """The file with the key of updates."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.path = Path(place.name) / "update.key"

    def write(self, text: str, mode: int = 0o600) -> Path:
        self.path.write_text(text)
        self.path.chmod(mode)
        return self.path

    def test_read(self) -> None:
        """What tsig-keygen writes, or the secret alone with the name from the settings."""
        key = read_update_key(self.write(KEY_FILE), None)
        self.assertEqual((key.name, key.algorithm, len(key.secret)), ("update.", "hmac-sha256", 32))
        self.assertEqual(read_update_key(self.write(KEY_FILE), "other").name, "other")
        self.assertEqual(read_update_key(self.write(f"{SECRET}\n"), "update."), key)
        sha512 = read_update_key(self.write(KEY_FILE.replace("sha256", "SHA512")), None)
        self.assertEqual(sha512.algorithm, "hmac-sha512")

    def test_refused(self) -> None:
        """Wide modes (attack T40), a file without a key, an unknown algorithm, no file: a sentence each, without the
        secret in it."""
        for text, mode, name, words in (
            (KEY_FILE, 0o640, None, "others may read"),
            (KEY_FILE, 0o604, None, "others may read"),
            (f"{SECRET}\n", 0o600, None, "update_key_name"),
            ("", 0o600, "update.", "holds no key"),
            ("not base64!", 0o600, "update.", "holds no key"),
            (KEY_FILE, 0o600, "a..b", "holds no key"),
            (KEY_FILE.replace("sha256", "md5"), 0o600, None, "must be for one of"),
        ):
            with self.subTest(words=words, text=text):
                with self.assertRaisesRegex(ValueError, words) as caught:
                    read_update_key(self.write(text, mode), name)
                self.assertNotIn(SECRET, str(caught.exception))
        self.path.unlink()
        self.assertRaises(ValueError, read_update_key, self.path, None)

    def test_not_shown(self) -> None:
        """The secret is in no repr (attack T40)."""
        key = read_update_key(self.write(KEY_FILE), None)
        self.assertNotIn("secret", repr(key))
        self.assertNotIn("secret", str(key))

    @given(st.binary(max_size=80))
    def test_any(self, octets: bytes) -> None:
        """Any file is a key or a ValueError."""
        self.path.write_bytes(octets)
        self.path.chmod(0o600)
        try:
            read_update_key(self.path, "update.")
        except ValueError:
            pass

    def test_settings(self) -> None:
        """Without a server in the settings nobody publishes."""
        self.write(KEY_FILE)
        nobody: Any = None
        self.assertIsNone(updates_of(DkimSettings(), self.path.parent, nobody, nobody))
        settings = DkimSettings(update_server=("192.0.2.53", 53), update_key_file="update.key")
        updates = updates_of(settings, self.path.parent, nobody, nobody)
        self.assertEqual(getattr(updates, "server", None), Server("192.0.2.53", 53))
        self.assertEqual(getattr(update_key_of(settings, self.path.parent), "name", ""), "update.")


class UpdatesTest(SynchronousTestCase):
    """Updates, with a server in memory that checks them."""

    def setUp(self) -> None:
        self.zone: dict[str, dict[str, list[str]]] = {"example.org": {"NS": ["ns.example.org."]}}
        self.receiver = Receiver(self.zone)
        self.transport = MemoryTransport(self.receiver)
        self.clock = Clock()
        self.updates = self.by(KEY_FILE)

    def by(self, text: str) -> Updates:
        """Who publishes with this key."""
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(text)
            file.flush()
            key = read_update_key(Path(file.name), None)
        return Updates(Server("192.0.2.53", 53), key, self.transport, self.clock)

    def done(self, work: Coroutine[Any, Any, None]) -> None:
        self.successResultOf(Deferred.fromCoroutine(work))

    def refused(self, words: str, updates: Updates | None = None) -> None:
        work = (updates or self.updates).publish("example.org", "r", "example.org", RSA)
        failure = self.failureResultOf(Deferred.fromCoroutine(work), NotPublishedError)
        self.assertRegex(str(failure.value), words)
        self.assertNotIn(SECRET, str(failure.value))

    def test_published(self) -> None:
        """The record is put there, in the place of what was there; doing it again changes nothing."""
        self.zone[NAME] = {"TXT": ['"old"']}
        for _ in range(2):
            self.done(self.updates.publish("example.org", "r", "example.org", RSA))
            (record,) = self.zone[NAME]["TXT"]
            self.assertEqual("".join(record.split('"')[1::2]), RSA)
        self.assertEqual(self.receiver.updates, 2)
        self.assertEqual(self.transport.asked, [Server("192.0.2.53", 53)] * 2)

    def test_withdrawn(self) -> None:
        """Our record is taken out, and no other; doing it again is no error."""
        self.done(self.updates.publish("example.org", "r", "example.org", RSA))
        self.zone[NAME]["TXT"].append('"another"')
        for _ in range(2):
            self.done(self.updates.withdraw("example.org", "r", "example.org", RSA))
            self.assertEqual(self.zone[NAME], {"TXT": ['"another"']})

    def test_refused(self) -> None:
        """What the server refuses is told, with its code."""
        self.receiver.refuse = dns.rcode.REFUSED
        self.refused("192.0.2.53:53 refused the update: REFUSED")
        self.receiver.refuse = dns.rcode.NOERROR
        work = self.updates.publish("example.net", "r", "example.net", RSA)
        failure = self.failureResultOf(Deferred.fromCoroutine(work), NotPublishedError)
        self.assertIn("NOTAUTH", str(failure.value))

    def test_wrong_key(self) -> None:
        """A server with another key does nothing, and one that does not sign its answer is not believed."""
        self.refused("NOTAUTH", self.by(KEY_FILE.replace("c2Vj", "AAAA")))
        self.assertNotIn(NAME, self.zone)
        self.receiver.signs = False
        self.refused("not as it must: .*TSIG")

    def test_words(self) -> None:
        """What the server says of our signature is told in words that say where to look."""
        for error, words in (
            (dns.rcode.BADKEY, "takes no updates with a key called update, .*NOTAUTH, BADKEY.*update_server"),
            (dns.rcode.BADSIG, "another secret for the key update .*update_key_file"),
            (dns.rcode.BADTIME, "another time than this machine .*clocks"),
            (dns.rcode.BADTRUNC, "does not take our signature"),
        ):
            self.receiver.tsig_error = error
            with self.subTest(words=words):
                self.refused(words)

    def test_forged(self) -> None:
        """An answer that somebody else signed, that is cut, or that is noise, is no success."""
        respond = self.receiver.respond
        for change in (
            lambda octets: octets[:-1],
            lambda octets: octets[:12],
            lambda octets: octets[:-20] + b"\0" * 20,
            lambda octets: octets[:2] + b"\xff" * 60,
        ):
            self.patch(self.receiver, "respond", lambda octets, udp, change=change: change(respond(octets, udp)))
            self.refused("192.0.2.53:53")
        self.patch(self.receiver, "respond", lambda octets, udp: bytes([octets[0] ^ 1]) + respond(octets, udp)[1:])
        self.refused("another question")

    def test_not_reached(self) -> None:
        """No connection, or no answer in time."""
        self.transport.error = TransportError("cannot be reached by TCP: refused")
        self.refused("192.0.2.53:53 cannot be reached")
        self.transport.error = None
        self.transport.silent = True
        waiting = Deferred.fromCoroutine(self.updates.publish("example.org", "r", "example.org", RSA))
        self.clock.advance(UPDATE_TIME)
        self.assertIn("30 s", str(self.failureResultOf(waiting, NotPublishedError).value))
